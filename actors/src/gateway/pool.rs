//! What the mempool took and no block has, as far as this gateway heard. For answers only: the mempool decides.

use super::Gateway;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::Decodable2718;
use alloy_primitives::{Address, B256, keccak256};
use parking_lot::RwLock;
use penstock_evm::recover;
use penstock_rpc::{ChainBlock, PendingTx};
use penstock_rules::ids::{Seq, TxHash};
use penstock_rules::state::StateRead;
use penstock_rules::tx::{PoolTx, Stage, StatusUpdate};
use penstock_wire::QueueError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::sync::broadcast;
use tracing::warn;

/// Transactions that are remembered at most: more than a mempool keeps, so that only lost messages reach it.
const TRANSACTIONS_MAX: usize = 200_000;
/// Transactions that a slow subscription may lag behind before it loses some.
const BUFFERED: usize = 16_384;
/// Accepted transactions that are read at once from the durable stream.
const READ_CHUNK: usize = 1_024;

#[derive(Default)]
struct Entries {
    by_hash: HashMap<TxHash, (u64, Arc<PendingTx>)>,
    lanes: BTreeMap<Address, BTreeMap<u64, TxHash>>,
    /// By arrival, for eviction.
    order: BTreeMap<u64, TxHash>,
    arrivals: u64,
    /// Submitted by this gateway, with no answer yet: these are no reason to read the stream.
    submitting: BTreeSet<TxHash>,
}

impl Entries {
    fn remove(&mut self, hash: TxHash) {
        let Some((arrival, pending)) = self.by_hash.remove(&hash) else {
            return;
        };
        self.order.remove(&arrival);
        let (sender, nonce) = (pending.tx.sender, pending.tx.nonce);
        if let Some(lane) = self.lanes.get_mut(&sender) {
            if lane.get(&nonce) == Some(&hash) {
                lane.remove(&nonce);
            }
            if lane.is_empty() {
                self.lanes.remove(&sender);
            }
        }
    }
}

/// See the module.
pub struct Pool {
    entries: RwLock<Entries>,
    new: broadcast::Sender<Arc<PendingTx>>,
    /// Last position of the durable stream that was read.
    read: AtomicU64,
    reading: AtomicBool,
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            entries: RwLock::default(),
            new: broadcast::channel(BUFFERED).0,
            read: AtomicU64::default(),
            reading: AtomicBool::default(),
        }
    }
}

impl Pool {
    /// A transaction is on its way to the mempool.
    pub fn submitting(&self, hash: TxHash) {
        self.entries.write().submitting.insert(hash);
    }

    /// The mempool answered.
    pub fn answered(&self, hash: TxHash) {
        self.entries.write().submitting.remove(&hash);
    }

    /// The mempool took it. A transaction with the same sender and nonce is replaced.
    pub fn insert(&self, tx: PoolTx) {
        let Some(pending) = decoded(tx) else { return };
        let (hash, sender, nonce) = (pending.tx.hash, pending.tx.sender, pending.tx.nonce);
        {
            let mut entries = self.entries.write();
            if entries.by_hash.contains_key(&hash) {
                return;
            }
            let lane = entries.lanes.entry(sender).or_default();
            if let Some(replaced) = lane.insert(nonce, hash) {
                entries.remove(replaced);
            }
            // A lane that held but the replaced one was removed with it.
            entries.lanes.entry(sender).or_default().insert(nonce, hash);
            entries.arrivals += 1;
            let arrival = entries.arrivals;
            entries.order.insert(arrival, hash);
            entries.by_hash.insert(hash, (arrival, pending.clone()));
            while entries.by_hash.len() > TRANSACTIONS_MAX {
                let Some((_, oldest)) = entries.order.pop_first() else {
                    break;
                };
                entries.remove(oldest);
            }
        }
        // Nobody listening is no error.
        let _ = self.new.send(pending);
    }

    /// The mempool took it, and a block with it was here before the answer: who watches the pool hears of it all the same.
    pub fn passed(&self, tx: PoolTx) {
        if let Some(pending) = decoded(tx) {
            let _ = self.new.send(pending);
        }
    }

    /// Whether it is in the pool.
    pub fn has(&self, hash: TxHash) -> bool {
        self.entries.read().by_hash.contains_key(&hash)
    }

    /// It left the pool.
    pub fn remove(&self, hash: TxHash) {
        self.entries.write().remove(hash);
    }

    /// Removes what a block includes, and what it made impossible.
    pub fn included(&self, block: &ChainBlock) {
        let mut entries = self.entries.write();
        if entries.by_hash.is_empty() {
            return;
        }
        for tx in &block.transactions {
            entries.remove(*tx.tx_hash());
        }
        for (sender, tx) in block.senders.iter().zip(&block.transactions) {
            let Some(lane) = entries.lanes.get(sender) else {
                continue;
            };
            let used: Vec<TxHash> = lane.range(..=tx.nonce()).map(|(_, hash)| *hash).collect();
            for hash in used {
                entries.remove(hash);
            }
        }
    }

    /// A transaction.
    pub fn get(&self, hash: TxHash) -> Option<Arc<PendingTx>> {
        let entries = self.entries.read();
        entries
            .by_hash
            .get(&hash)
            .map(|(_, pending)| pending.clone())
    }

    /// All, by sender and nonce.
    pub fn all(&self) -> Vec<Arc<PendingTx>> {
        let entries = self.entries.read();
        let hashes = entries.lanes.values().flat_map(BTreeMap::values);
        hashes
            .filter_map(|hash| entries.by_hash.get(hash))
            .map(|(_, pending)| pending.clone())
            .collect()
    }

    /// The first nonce from `nonce` on that no transaction of the sender has.
    pub fn next_nonce(&self, sender: Address, mut nonce: u64) -> u64 {
        let entries = self.entries.read();
        if let Some(lane) = entries.lanes.get(&sender) {
            while lane.contains_key(&nonce) {
                nonce += 1;
            }
        }
        nonce
    }

    /// Transactions from now on.
    pub fn watch(&self) -> broadcast::Receiver<Arc<PendingTx>> {
        self.new.subscribe()
    }

    fn unknown(&self, hash: TxHash) -> bool {
        let entries = self.entries.read();
        !entries.by_hash.contains_key(&hash) && !entries.submitting.contains(&hash)
    }
}

fn decoded(tx: PoolTx) -> Option<Arc<PendingTx>> {
    let Ok(envelope) = TxEnvelope::decode_2718(&mut &tx.raw[..]) else {
        warn!(hash = %tx.hash, "accepted transaction does not decode");
        return None;
    };
    Some(Arc::new(PendingTx { tx, envelope }))
}

/// The hash of an envelope.
pub fn hash_of(raw: &[u8]) -> B256 {
    keccak256(raw)
}

impl Gateway {
    /// What a status says of the pool. A transaction that came through another gateway is read from the durable
    /// stream.
    pub(super) fn pool_status(self: &Arc<Self>, update: &StatusUpdate) {
        match update.stage {
            Stage::Dropped { .. } => self.pool.remove(update.hash),
            Stage::Accepted if self.pool.unknown(update.hash) => self.read_more(),
            _ => {}
        }
    }

    /// Reads what is new in the durable stream, unless that is about to happen anyway.
    fn read_more(self: &Arc<Self>) {
        if self.pool.reading.swap(true, Ordering::AcqRel) {
            return;
        }
        let gateway = self.clone();
        tokio::spawn(async move {
            // What is accepted from here on asks for another read.
            gateway.pool.reading.store(false, Ordering::Release);
            if let Err(error) = gateway.read_accepted().await {
                warn!(%error, "accepted transactions can't be read");
            }
        });
    }

    /// Reads accepted transactions that this gateway has not seen.
    pub(super) async fn read_accepted(self: &Arc<Self>) -> Result<(), QueueError> {
        loop {
            let from = Seq(self.pool.read.load(Ordering::Acquire) + 1);
            let items = self.transport.accepted.replay(from, READ_CHUNK).await?;
            let Some(last) = items.last().map(|item| item.seq) else {
                return Ok(());
            };
            let gateway = self.clone();
            // Recovering senders takes some 40 us each.
            let work = tokio::task::spawn_blocking(move || {
                for item in &items {
                    gateway.accepted(&item.bytes);
                }
            });
            if work.await.is_err() {
                return Ok(());
            }
            self.pool.read.fetch_max(last.0, Ordering::AcqRel);
        }
    }

    /// Shows a transaction as pending, unless its nonce is used: it may have been included before this node heard of it. False
    /// then, and nobody was told of it.
    pub(super) fn pend(&self, tx: &PoolTx) -> bool {
        let (hash, sender, nonce) = (tx.hash, tx.sender, tx.nonce);
        let used = || {
            let account = self.head().chain.state.account(sender);
            account.ok().flatten().is_some_and(|a| a.nonce > nonce)
        };
        if used() {
            return false;
        }
        self.pool.insert(tx.clone());
        // A block that was shown in between did not find it here.
        if used() {
            self.pool.remove(hash);
        }
        true
    }

    /// Takes an item of the durable stream: a signed transaction, as it was submitted.
    fn accepted(&self, raw: &[u8]) {
        if !self.pool.unknown(hash_of(raw)) {
            return;
        }
        let head = self.head();
        match recover(raw, &head.chain.spec) {
            // Items stay in the stream a while after they were included.
            Ok(tx) => {
                self.pend(&tx);
            }
            Err(error) => warn!(%error, "accepted transaction is malformed"),
        }
    }
}
