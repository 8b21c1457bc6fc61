//! The store against a model that keeps every state whole.

use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use penstock_rules::state::{
    Account, AccountChange, CodeChange, Receipt, SlotChange, StateDiff, StateRead,
};
use penstock_store::{Durability, NewBlock, StateItem, Store, StoreConfig, StoreError};
use proptest::prelude::*;
use std::collections::BTreeMap;

/// A whole state.
#[derive(Clone, Debug, Default, PartialEq)]
struct World {
    accounts: BTreeMap<Address, Account>,
    slots: BTreeMap<(Address, U256), U256>,
    codes: BTreeMap<B256, Bytes>,
}

impl World {
    fn apply(&mut self, diff: &StateDiff) {
        for change in &diff.accounts {
            match change.now.first() {
                Some(account) => self.accounts.insert(change.address, *account),
                None => self.accounts.remove(&change.address),
            };
            if change.wiped {
                self.slots.retain(|(owner, _), _| *owner != change.address);
            }
        }
        for change in &diff.slots {
            let key = (change.address, change.slot);
            match change.now.is_zero() {
                true => self.slots.remove(&key),
                false => self.slots.insert(key, change.now),
            };
        }
        for code in &diff.codes {
            self.codes.insert(code.hash, code.code.clone());
        }
    }
}

/// Few addresses and slots, so that changes meet.
const ADDRESSES: u8 = 4;
const SLOTS: u8 = 4;

fn address(byte: u8) -> Address {
    Address::repeat_byte(byte + 1)
}

#[derive(Clone, Debug)]
enum Change {
    Set(u8, u64),
    Destroy(u8),
    Recreate(u8, u64),
    Store(u8, u8, u64),
    Code(u8),
}

fn change() -> impl Strategy<Value = Change> {
    prop_oneof![
        3 => (0..ADDRESSES, any::<u64>()).prop_map(|(a, n)| Change::Set(a, n)),
        1 => (0..ADDRESSES).prop_map(Change::Destroy),
        1 => (0..ADDRESSES, any::<u64>()).prop_map(|(a, n)| Change::Recreate(a, n)),
        6 => (0..ADDRESSES, 0..SLOTS, 0..3u64).prop_map(|(a, s, v)| Change::Store(a, s, v)),
        1 => any::<u8>().prop_map(Change::Code),
    ]
}

/// A block's difference: each account and slot once, ascending, as `evm` makes it.
fn diff(changes: &[Change]) -> StateDiff {
    let mut accounts = BTreeMap::new();
    let mut slots = BTreeMap::new();
    let mut codes = BTreeMap::new();
    for change in changes {
        match *change {
            Change::Set(a, nonce) | Change::Recreate(a, nonce) => {
                let wiped = matches!(change, Change::Recreate(..));
                let account = Account {
                    nonce,
                    balance: U256::from(nonce),
                    ..Account::default()
                };
                accounts.insert(address(a), (vec![account], wiped));
            }
            Change::Destroy(a) => {
                accounts.insert(address(a), (vec![], true));
                slots.retain(|(owner, _), _| *owner != address(a));
            }
            Change::Store(a, s, v) => {
                slots.insert((address(a), U256::from(s)), U256::from(v));
            }
            Change::Code(byte) => {
                let code = Bytes::from(vec![byte; 3]);
                codes.insert(keccak256(&code), code);
            }
        }
    }
    StateDiff {
        accounts: accounts
            .into_iter()
            .map(|(address, (now, wiped))| AccountChange {
                address,
                now,
                wiped,
            })
            .collect(),
        slots: slots
            .into_iter()
            .map(|((address, slot), now)| SlotChange { address, slot, now })
            .collect(),
        codes: codes
            .into_iter()
            .map(|(hash, code)| CodeChange { hash, code })
            .collect(),
    }
}

fn hash_of(height: u64) -> B256 {
    keccak256(height.to_be_bytes())
}

fn block(height: u64) -> Block {
    Block {
        header: Bytes::from(height.to_be_bytes()),
        transactions: vec![Bytes::from_static(b"tx")],
        witness: vec![],
        signature: Bytes::new(),
    }
}

fn receipt(height: u64) -> Receipt {
    Receipt {
        tx_hash: keccak256([height as u8, 1]),
        tx_type: 2,
        success: height.is_multiple_of(2),
        gas_used: 21_000,
        cumulative_gas_used: 21_000,
        inference_gas_used: 0,
        effective_gas_price: 1 << 70,
        from: address(1),
        logs: vec![alloy_primitives::Log::new_unchecked(
            address(2),
            vec![hash_of(height)],
            Bytes::from_static(b"data"),
        )],
        output: Bytes::from_static(b"out"),
        contract_address: height.is_multiple_of(3).then(|| address(3)),
    }
}

fn commit(store: &Store, height: u64, diff: &StateDiff) -> Result<(), StoreError> {
    store.commit(&NewBlock {
        height: Height(height),
        hash: hash_of(height),
        block: &block(height),
        receipts: &[receipt(height)],
        senders: &[address(1)],
        diff,
        log_seq: Seq(height * 2),
    })
}

fn check_world(store: &Store, height: u64, world: &World) {
    let at = store.at(Height(height)).expect("within the window");
    for a in 0..ADDRESSES {
        let address = address(a);
        let account = at.account(address).expect("readable");
        assert_eq!(account.as_ref(), world.accounts.get(&address), "{height}");
        for s in 0..SLOTS {
            let slot = U256::from(s);
            let expect = world.slots.get(&(address, slot)).copied();
            let value = at.slot(address, slot).expect("readable");
            assert_eq!(value, expect.unwrap_or_default(), "{height} {address} {s}");
        }
    }
    for (hash, code) in &world.codes {
        assert_eq!(&at.code(*hash).expect("known"), code);
    }
}

fn check_head(store: &Store, world: &World) {
    let mut loaded = World::default();
    let taken = store.load_state(|item| {
        match item {
            StateItem::Account(address, account) => {
                assert!(loaded.accounts.insert(address, account).is_none());
            }
            StateItem::Slot(address, slot, value) => {
                assert!(loaded.slots.insert((address, slot), value).is_none());
            }
            StateItem::Code(hash, code) => {
                assert!(loaded.codes.insert(hash, code).is_none());
            }
        }
        Ok::<(), StoreError>(())
    });
    taken.expect("readable");
    assert_eq!(&loaded, world);
}

/// Commits `blocks`, reopening at `reopen_at`, and compares every height in the window at the end with the model, and
/// every height outside with a clear error.
fn check(blocks: &[Vec<Change>], config: StoreConfig, later: StoreConfig, reopen_at: usize) {
    let dir = tempfile::tempdir().expect("a folder");
    let mut store = Store::open(dir.path(), config).expect("a new store");
    let mut worlds = vec![];
    let mut world = World::default();
    for (height, changes) in blocks.iter().enumerate() {
        if height == reopen_at {
            drop(store);
            store = Store::open(dir.path(), later).expect("our store");
        }
        let diff = diff(changes);
        world.apply(&diff);
        worlds.push(world.clone());
        commit(&store, height as u64, &diff).expect("follows");
        let oldest = store.horizon().0;
        check_world(&store, oldest, &worlds[oldest as usize]);
    }
    drop(store);
    let store = Store::open(dir.path(), later).expect("our store");
    let head = blocks.len() as u64 - 1;
    assert_eq!(store.head(), Some((Height(head), hash_of(head))));
    let oldest = store.horizon();
    if config.archive && later.archive {
        assert_eq!(oldest, Height(0));
    } else if reopen_at >= blocks.len() && !config.archive {
        assert_eq!(oldest.0, head.saturating_sub(config.history_blocks));
    }
    for (height, world) in worlds.iter().enumerate() {
        let height = height as u64;
        if Height(height) < oldest {
            let error = store.at(Height(height)).expect_err("pruned");
            assert!(matches!(error, StoreError::Pruned { oldest: o, .. } if o == oldest));
        } else {
            check_world(&store, height, world);
        }
        let record = store.block(Height(height)).expect("readable");
        let record = record.expect("blocks are kept for ever");
        assert_eq!(record.block, block(height));
        assert_eq!(
            (record.hash, record.log_seq),
            (hash_of(height), Seq(height * 2))
        );
        assert_eq!(
            store.receipts(Height(height)).expect("readable"),
            Some(vec![receipt(height)])
        );
        let place = store
            .tx_location(receipt(height).tx_hash)
            .expect("readable");
        assert_eq!(place.map(|p| (p.height.0, p.index)), Some((height, 0)));
    }
    let error = store.at(Height(head + 1)).expect_err("not there yet");
    assert!(matches!(error, StoreError::Future { .. }));
    check_head(&store, &world);
}

const ARCHIVE: StoreConfig = StoreConfig {
    history_blocks: 0,
    archive: true,
    durability: Durability::All,
};

const fn window(history_blocks: u64) -> StoreConfig {
    StoreConfig {
        history_blocks,
        archive: false,
        durability: Durability::All,
    }
}

fn blocks() -> impl Strategy<Value = Vec<Vec<Change>>> {
    proptest::collection::vec(proptest::collection::vec(change(), 0..8), 1..24)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]

    #[test]
    fn every_height_in_the_window_reads_as_it_was(blocks in blocks(), history in 0..8u64, reopen_at in 0..24usize) {
        check(&blocks, window(history), window(history), reopen_at);
    }

    #[test]
    fn an_archive_reads_every_height_as_it_was(blocks in blocks(), reopen_at in 0..24usize) {
        check(&blocks, ARCHIVE, ARCHIVE, reopen_at);
    }

    #[test]
    fn an_archive_that_becomes_a_window_and_back_reads_right(blocks in blocks(), history in 0..4u64, reopen_at in 0..24usize) {
        check(&blocks, ARCHIVE, window(history), reopen_at);
        check(&blocks, window(history), ARCHIVE, reopen_at);
    }
}

/// An archive writes no notes for pruning: the deletion of a "gone" version must take all older ones with it, or the
/// oldest shows again.
#[test]
fn what_an_archive_left_does_not_come_back_when_its_deletion_is_pruned() {
    let blocks = [
        vec![Change::Set(0, 1), Change::Store(0, 0, 1)],
        vec![Change::Set(0, 2), Change::Store(0, 0, 2)],
        vec![Change::Destroy(0)],
        vec![],
        vec![],
    ];
    check(&blocks, ARCHIVE, window(0), 2);
}

#[test]
fn storage_of_a_recreated_account_starts_empty_and_keeps_what_is_written_at_once() {
    let blocks = [
        vec![Change::Store(0, 0, 1), Change::Store(0, 1, 1)],
        vec![Change::Recreate(0, 7), Change::Store(0, 1, 2)],
        vec![],
    ];
    for config in [ARCHIVE, window(0), window(1), window(2)] {
        check(&blocks, config, config, usize::MAX);
    }
}

#[test]
fn a_block_that_does_not_follow_the_head_is_refused_and_changes_nothing() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), window(4)).expect("a new store");
    assert!(matches!(store.at(Height(0)), Err(StoreError::Empty)));
    let empty = StateDiff::default();
    commit(&store, 7, &empty).expect("the first may have any height");
    assert!(matches!(
        store.at(Height(6)),
        Err(StoreError::Pruned {
            oldest: Height(7),
            ..
        })
    ));
    for height in [6, 7, 9] {
        let set = diff(&[Change::Set(0, 1)]);
        let error = commit(&store, height, &set).expect_err("does not follow");
        assert!(matches!(error, StoreError::OutOfOrder { .. }));
    }
    assert_eq!(store.head(), Some((Height(7), hash_of(7))));
    check_world(&store, 7, &World::default());
}

#[test]
fn hashes_lead_to_heights_and_code_of_nothing_is_empty() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = Store::open(dir.path(), StoreConfig::default()).expect("a new store");
    let empty = StateDiff::default();
    for height in 0..3 {
        commit(&store, height, &empty).expect("follows");
    }
    assert_eq!(
        store.height_of(hash_of(1)).expect("readable"),
        Some(Height(1))
    );
    let found = store.block_by_hash(hash_of(2)).expect("readable");
    assert_eq!(found.map(|b| b.height), Some(Height(2)));
    assert_eq!(store.block_by_hash(B256::ZERO).expect("readable"), None);
    let at = store.at(Height(1)).expect("in the window");
    assert_eq!(at.block_hash(Height(1)).expect("readable"), hash_of(1));
    assert_eq!(at.block_hash(Height(2)).expect("readable"), B256::ZERO);
    assert_eq!(at.code(keccak256([])).expect("empty"), Bytes::new());
    assert!(matches!(
        at.code(B256::ZERO),
        Err(StoreError::UnknownCode(_))
    ));
    assert_eq!(store.meta_get("genesis").expect("readable"), None);
    store.meta_put("genesis", b"{}").expect("writable");
    drop((store, at));
    let store = Store::open(dir.path(), StoreConfig::default()).expect("our store");
    assert_eq!(
        store.meta_get("genesis").expect("readable"),
        Some(b"{}".to_vec())
    );
}
