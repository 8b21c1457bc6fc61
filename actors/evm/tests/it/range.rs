//! An account's storage in parts, as it is when a transaction begins.

use crate::devnet::*;
use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use penstock_evm::{
    BlockToTrace, ExecutedBlock, Patch, State, StorageRange, TraceError, storage_range,
};
use penstock_rules::dev::{AccountPatch, Privileged};
use std::collections::BTreeMap;

const KEEPER: Address = Address::repeat_byte(0x77);

/// Stores the second word of its input at the slot that the first names.
const CODE: [u8; 7] = [0x60, 0x20, 0x35, 0x5f, 0x35, 0x55, 0x00];

fn store(slot: u64, value: u64) -> Vec<u8> {
    [U256::from(slot), U256::from(value)]
        .iter()
        .flat_map(|word| word.to_be_bytes::<32>())
        .collect()
}

/// The keeper's slots before a transaction of a block, read in parts of `limit`.
fn slots(
    devnet: &Devnet,
    parent: &State,
    block: &ExecutedBlock,
    index: usize,
    limit: usize,
) -> Result<BTreeMap<u64, u64>, TraceError> {
    let transactions: Vec<TxEnvelope> = block
        .block
        .transactions
        .iter()
        .map(|raw| TxEnvelope::decode_2718(&mut &raw[..]).expect("a transaction"))
        .collect();
    let block = BlockToTrace {
        state: parent,
        spec: &devnet.spec,
        header: &block.header,
        hash: block.hash,
        transactions: &transactions,
        senders: &block.senders,
        witness: &block.block.witness,
    };
    let (mut found, mut start) = (BTreeMap::new(), B256::ZERO);
    loop {
        let StorageRange { slots, next } =
            storage_range(&block, parent, index, (KEEPER, start, limit))?;
        assert!(slots.len() <= limit);
        assert!(slots.is_sorted_by(|(a, ..), (b, ..)| a < b));
        for (hashed, slot, value) in slots {
            assert_eq!(hashed, keccak256(slot.to_be_bytes::<32>()));
            assert!(start <= hashed);
            found.insert(slot.to(), value.to());
        }
        match next {
            Some(next) => start = next,
            None => return Ok(found),
        }
    }
}

#[test]
fn storage_in_parts_is_what_a_transaction_of_the_block_begins_on() {
    let mut devnet = Devnet::new();
    let mut patch = Patch::new(devnet.state());
    patch.account(&AccountPatch {
        address: KEEPER,
        code: Some(Bytes::from_static(&CODE)),
        slots: vec![
            (U256::from(1), U256::from(10)),
            (U256::from(2), U256::from(20)),
        ],
        ..AccountPatch::default()
    });
    let entry = Privileged {
        timestamp_secs: devnet.head.header.timestamp,
        own: true,
        diff: patch.diff(),
    };
    let empty = devnet.state().clone();
    let state = empty.clone();
    let mut changed =
        penstock_evm::BlockBuilder::privileged(state, &devnet.spec, devnet.env(), &entry)
            .expect("this chain takes it")
            .seal();
    changed.block.signature = devnet.producer.sign(changed.hash);
    devnet.adopt(changed.clone());

    let parent = devnet.state().clone();
    let writes = [store(3, 30), store(1, 0), store(2, 21)];
    let txs = writes.map(|input| devnet.sign(Draft::call(0, KEEPER, input)));
    devnet.include(&txs);
    let head = devnet.head.clone();
    let expect = [
        vec![(1, 10), (2, 20)],
        vec![(1, 10), (2, 20), (3, 30)],
        vec![(2, 20), (3, 30)],
    ];
    for (index, expect) in expect.into_iter().enumerate() {
        for limit in [1, 2, 100] {
            let found = slots(&devnet, &parent, &head, index, limit);
            assert_eq!(found, Ok(expect.iter().copied().collect()), "{index}");
        }
    }
    let beyond = slots(&devnet, &parent, &head, 3, 1);
    assert!(matches!(beyond, Err(TraceError::Options(why)) if why.contains("index 3")));

    // A block without transactions: what one would begin on, what a person set included.
    let found = slots(&devnet, &empty, &changed, 0, 10);
    assert_eq!(found, Ok(BTreeMap::from([(1, 10), (2, 20)])));
}
