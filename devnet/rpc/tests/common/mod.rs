//! A chain of a few blocks in memory, behind a real server: for forms, codes and quirks. What the true chain answers is
//! tested where the true chain is.

#![allow(dead_code)] // Each test file uses its part.

mod control;
mod node;
mod reader;
pub mod ws;

pub use node::Node;

use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, LogData, address, b256};
use penstock_rpc::{ChainBlock, ChainReader, PendingTx, PoolEntry};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::DevOrder;
use penstock_rules::ids::{RequestKey, ShardId};
use penstock_rules::request::{Attestation, Outcome};
use penstock_rules::state::Receipt;
use penstock_rules::tx::StatusUpdate;
use std::sync::atomic::{AtomicBool, AtomicU32};
use std::sync::{Arc, RwLock};
use tokio::sync::broadcast;

/// The first account of the mnemonic.
pub const ALICE: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// The second.
pub const BOB: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
/// Calls to it revert with `Error("too poor")`.
pub const REVERTS: Address = address!("00000000000000000000000000000000000000e1");
/// Calls to it revert with a custom error.
pub const REVERTS_CUSTOM: Address = address!("00000000000000000000000000000000000000e2");
/// Calls to it wait for inference in vain.
pub const WAITS: Address = address!("00000000000000000000000000000000000000e3");
/// The address that logs in block 1, its code, and its only slot's value.
pub const LOGGER: Address = address!("00000000000000000000000000000000000000aa");
/// Input of a transaction that pays for inference.
pub const ASKS: &[u8] = b"ask";
/// Topic of the log.
pub const TOPIC: B256 = b256!("00000000000000000000000000000000000000000000000000000000000000bb");
/// The one request that was ever answered.
pub const KEY: RequestKey = RequestKey(B256::repeat_byte(7));

const GAS_LIMIT: u64 = 30_000_000;
const BASE_FEE: u64 = 1_000_000_000;

pub struct FakeChain {
    blocks: RwLock<Vec<Arc<ChainBlock>>>,
    pool: RwLock<Vec<PoolEntry>>,
    orders: RwLock<Vec<DevOrder>>,
    /// Nothing keeps the pool's transactions from the next block; else they wait for inference.
    pub plain: AtomicBool,
    /// How many producers its genesis names.
    pub producers: AtomicU32,
    heads: broadcast::Sender<Arc<ChainBlock>>,
    pending: broadcast::Sender<Arc<PendingTx>>,
    /// Steps of transactions, for who subscribes.
    pub statuses: broadcast::Sender<StatusUpdate>,
}

impl FakeChain {
    /// Genesis alone.
    pub fn new() -> Arc<Self> {
        let genesis = seal(0, B256::ZERO, vec![], vec![]);
        Arc::new(Self {
            blocks: RwLock::new(vec![Arc::new(genesis)]),
            pool: RwLock::default(),
            orders: RwLock::default(),
            plain: AtomicBool::new(false),
            producers: AtomicU32::new(1),
            heads: broadcast::channel(4).0,
            pending: broadcast::channel(16).0,
            statuses: broadcast::channel(16).0,
        })
    }

    /// How many wait for blocks now.
    pub fn watchers(&self) -> usize {
        self.heads.receiver_count()
    }

    /// Puts the pool's executable transactions into a block. A transaction to [`LOGGER`] logs its input.
    pub fn mine(&self) -> Arc<ChainBlock> {
        let mut pool = self.pool.write().expect("no panic");
        let (queued, ready): (Vec<_>, Vec<_>) = pool.drain(..).partition(|entry| entry.queued);
        *pool = queued;
        drop(pool);
        let transactions: Vec<TxEnvelope> = ready
            .iter()
            .map(|entry| entry.tx.envelope.clone())
            .collect();
        let senders: Vec<Address> = ready.iter().map(|entry| entry.tx.tx.sender).collect();
        let parent = self.head();
        let block = Arc::new(seal(
            parent.header.number + 1,
            parent.hash,
            transactions,
            senders,
        ));
        self.blocks.write().expect("no panic").push(block.clone());
        let _ = self.heads.send(block.clone());
        block
    }
}

fn seal(
    number: u64,
    parent_hash: B256,
    transactions: Vec<TxEnvelope>,
    senders: Vec<Address>,
) -> ChainBlock {
    let mut cumulative_gas_used = 0;
    let receipts: Vec<Receipt> = transactions
        .iter()
        .zip(&senders)
        .map(|(tx, from)| {
            cumulative_gas_used += 21_000;
            let logs = (tx.to() == Some(LOGGER)).then(|| Log {
                address: LOGGER,
                data: LogData::new_unchecked(vec![TOPIC], tx.input().clone()),
            });
            Receipt {
                tx_hash: *tx.tx_hash(),
                tx_type: tx.tx_type() as u8,
                success: true,
                gas_used: 21_000,
                cumulative_gas_used,
                inference_gas_used: if tx.input()[..] == *ASKS { 5_000 } else { 0 },
                effective_gas_price: tx.effective_gas_price(Some(BASE_FEE)),
                from: *from,
                logs: logs.into_iter().collect(),
                output: Bytes::new(),
                contract_address: tx.to().is_none().then(|| from.create(tx.nonce())),
            }
        })
        .collect();
    let logs_bloom: Bloom = receipts.iter().flat_map(|r| &r.logs).collect();
    let witness = (number == 1).then(|| WitnessEntry {
        key: KEY,
        outcome: Outcome::Output(Bytes::from_static(b"tensors")),
        attestations: vec![attestation()],
    });
    let header = Header {
        parent_hash,
        number,
        gas_limit: GAS_LIMIT,
        gas_used: cumulative_gas_used,
        timestamp: 1_700_000_000 + number,
        base_fee_per_gas: Some(BASE_FEE),
        withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH),
        extra_data: B256::repeat_byte(0x11).into(),
        logs_bloom,
        ..Header::default()
    };
    ChainBlock::new(
        header.hash_slow(),
        header,
        transactions,
        senders,
        receipts,
        witness.into_iter().collect(),
    )
}

fn attestation() -> Attestation {
    Attestation {
        shard: ShardId(BOB),
        signature: Bytes::from_static(&[1; 65]),
    }
}
