//! One sender's pending transactions, and what is known of each.

use super::credit::Kind;
use crate::ids::{Height, Igas, Micros, RequestKey};
use crate::message::Gang;
use crate::tx::{PoolTx, ReadyTx, Reason, Stage};
use std::collections::{BTreeMap, BTreeSet};

/// What is known of a transaction.
#[derive(Clone, Debug)]
pub(super) enum State {
    /// It was not looked at since it came, or since its input changed.
    Unknown,
    /// It waits for answers.
    Waiting(Box<Waiting>),
    /// All its answers are there.
    Ready(Box<ReadyTx>),
    /// It can't go on now.
    Held {
        /// Why.
        reason: Reason,
        /// Looks so far that came to this.
        looks: u32,
        /// No look before this time.
        look_at: Micros,
    },
    /// The mempool was asked to drop it.
    Dropped,
}

/// A gang that was submitted.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    /// What is not answered yet. Its requests may all be gone: then it waits for its predecessors.
    pub gang: Gang,
    /// Certain requests that are not answered yet.
    pub certain: BTreeSet<RequestKey>,
    /// When it is sent again, and how long after that once more.
    pub repeat_at: Micros,
    pub repeat: Micros,
}

/// A request that was dispatched for a transaction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Dispatched {
    pub igas: Igas,
    pub kind: Kind,
}

/// A pending transaction.
#[derive(Clone, Debug)]
pub(super) struct Tx {
    pub tx: PoolTx,
    pub arrival: u64,
    /// Head when it came.
    pub came: Height,
    pub state: State,
    pub round: u32,
    pub dispatched: BTreeMap<RequestKey, Dispatched>,
    /// When the producer was last told that it is ready.
    pub announced: Option<Micros>,
    /// Keys that it was ready with when a producer found one missing: all of them, if the producer never heard of it.
    pub stale: Vec<RequestKey>,
    /// The last stage that was published.
    pub told: Option<Stage>,
}

impl Tx {
    pub fn is_ready(&self) -> bool {
        matches!(self.state, State::Ready(_))
    }

    /// Whether it waits for the same requests already.
    pub fn waits_for(&self, gang: &Gang) -> bool {
        matches!(&self.state, State::Waiting(old) if old.gang.requests == gang.requests)
    }

    /// The same, however sure they are.
    pub fn waits_for_keys(&self, gang: &Gang) -> bool {
        let keys = |gang: &Gang| -> BTreeSet<RequestKey> {
            gang.requests.iter().map(|request| request.key).collect()
        };
        matches!(&self.state, State::Waiting(old) if keys(&old.gang) == keys(gang))
    }
}

/// A discovery that runs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Running {
    pub generation: u64,
    /// Number of the next answer when it began.
    pub answers_from: u64,
    /// Findings for nonces from here on are of no use: the lane changed there.
    pub stale_from: u64,
    /// A transaction of it got into a block meanwhile: who is said to wait for it waits no more.
    pub shortened: bool,
}

/// One sender's pending transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub txs: BTreeMap<u64, Tx>,
    pub running: Option<Running>,
    /// It is to be looked at.
    pub dirty: bool,
    /// It stands in the queue of lanes to be looked at.
    pub queued: bool,
    /// The span that `spent` is of, and what was spent in it.
    pub window: u64,
    pub spent: Micros,
}

impl Lane {
    /// Transactions from the first nonce on, without gap.
    pub fn run(&self, count_max: usize) -> Vec<PoolTx> {
        let start = self.txs.keys().next().copied().unwrap_or(0);
        (start..)
            .zip(&self.txs)
            .take_while(|(nonce, (have, _))| nonce == *have)
            .take(count_max)
            .map(|(_, (_, tx))| tx.tx.clone())
            .collect()
    }

    /// The lane changed at `nonce`: what a running discovery says from there on is of no use.
    pub fn changed_at(&mut self, nonce: u64) {
        self.dirty = true;
        if let Some(running) = &mut self.running {
            running.stale_from = running.stale_from.min(nonce);
        }
    }

    /// Whether the first transaction that is not ready waits for nothing that will wake it.
    pub fn is_stuck(&self) -> bool {
        let first = self.txs.values().find(|tx| !tx.is_ready());
        first.is_some_and(|tx| match &tx.state {
            State::Waiting(waiting) => waiting.certain.is_empty(),
            _ => true,
        })
    }

    /// Nothing here, and nothing on the way.
    pub fn is_idle(&self) -> bool {
        self.txs.is_empty() && self.running.is_none()
    }
}
