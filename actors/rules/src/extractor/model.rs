//! What happens to the extractor, and what it wants done.

use crate::ids::{Height, Igas, Micros, RequestKey, TxHash};
use crate::mempool::Departure;
use crate::message::{Deferral, Gang, GangRequest, Withheld};
use crate::tx::{DropReason, PoolTx, ReadyTx, StatusUpdate};
use alloy_primitives::{Address, B256};

/// What one transaction of a lane came to in a discovery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// It ran to its end with results that are known.
    Ready {
        /// Requests that it used, in order of first use.
        keys: Vec<RequestKey>,
        /// What these cost.
        igas: Igas,
        /// Gas that it used.
        gas_used: u64,
    },
    /// It asked for results that are not known.
    Waits {
        /// These, certain ones first. Not empty.
        requests: Vec<GangRequest>,
        /// Cost of all its requests, the known ones included.
        igas: Igas,
    },
    /// Its gas limit or fee is too low for today's multiplier or base fee.
    FeeBelowMarket,
    /// Not looked at: what its predecessors leave could not be known within the limits.
    Behind,
    /// It asks for more than the limits allow, whatever is answered.
    TooMany,
    /// On this state it can't be executed at all (funds, nonce).
    Invalid,
}

/// What happens to the extractor.
#[derive(Clone, Debug)]
pub enum Event {
    /// From the mempool: see [`crate::mempool::Effect::Pending`].
    Pending {
        /// The transaction.
        tx: PoolTx,
        /// Order of arrival.
        arrival: u64,
    },
    /// From the mempool: not pending now.
    Parked {
        /// Which.
        hash: TxHash,
    },
    /// From the mempool: it left.
    Gone {
        /// Which.
        hash: TxHash,
        /// How.
        how: Departure,
    },
    /// The head moved, and the mempool has told what changed with it.
    Head {
        /// The new head.
        height: Height,
        /// Wei per gas, of the block that will be built on it.
        base_fee: u128,
        /// Gas per igas.
        multiplier: u64,
    },
    /// A block consumed these results. Comes before the [`Event::Gone`] of the transactions that it includes.
    Consumed {
        /// Keys of its witness.
        keys: Vec<RequestKey>,
    },
    /// A discovery ended.
    Discovered {
        /// Whose lane.
        lane: Address,
        /// The one of [`Effect::Discover`].
        generation: u64,
        /// Head that it ran on.
        at: Height,
        /// Time of a core that it took.
        took: Micros,
        /// What each transaction came to, in nonce order.
        findings: Vec<(TxHash, Finding)>,
    },
    /// Results that are now in the result book.
    Settled {
        /// Their keys.
        keys: Vec<RequestKey>,
    },
    /// From the scheduler: a gang is not computed now.
    Deferred(Deferral),
    /// From the producer: left out of a block that was built.
    Withheld(Withheld),
    /// Time passed.
    Tick,
}

/// What the extractor wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Run this lane on the head, then say [`Event::Discovered`] with the same lane and generation.
    Discover {
        /// Whose lane.
        lane: Address,
        /// Number of this discovery.
        generation: u64,
        /// In nonce order, without gap.
        txs: Vec<PoolTx>,
    },
    /// To the scheduler. Sent again until it is settled or withdrawn; the last one counts.
    Submit(Gang),
    /// To the scheduler: nobody waits for it.
    Withdraw {
        /// Id of the gang: the transaction's hash.
        id: B256,
    },
    /// To the mempool: compute was dispatched for it.
    Dispatched {
        /// Which.
        hash: TxHash,
    },
    /// To all: these settled results, from the result book. A producer did not have one of them.
    Share {
        /// Their keys.
        keys: Vec<RequestKey>,
    },
    /// To the producer: a candidate. Sent again until it is in a block.
    Ready(ReadyTx),
    /// To the producer: no candidate any more.
    Unready {
        /// Which.
        hash: TxHash,
    },
    /// To the mempool: it can't be served.
    Drop {
        /// Which.
        hash: TxHash,
        /// Why.
        reason: DropReason,
    },
    /// Publish.
    Status(StatusUpdate),
}
