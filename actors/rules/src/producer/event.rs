//! What a producer is told, and what it asks its shell for.

use super::OrderId;
use crate::dev::{Clock, DevDone, DevOrder, DevRefusal};
use crate::ids::{Epoch, Height, Micros, Seq, TxHash};
use crate::message::Withheld;
use crate::tx::{ReadyTx, Reason};
use alloy_primitives::B256;
use std::sync::Arc;

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timetable {
    /// As soon as a transaction is ready; no empty blocks.
    AtOnce,
    /// One block at every multiple of this span since the Unix epoch, empty or not.
    Slots(Micros),
    /// Only when it is ordered.
    Manual,
}

/// Whether this producer is to lead from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Take over at once.
    Lead,
    /// Watch, and take over when no block came for this long.
    Standby(Micros),
}

/// The block that the next one stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, in seconds.
    pub timestamp_secs: u64,
    /// The last position of the log that the follower took in: this block's, or that of an entry after it that is no
    /// valid block.
    pub seq: Seq,
    /// Base fee of the block after it, in wei per gas.
    pub next_base_fee: u128,
    /// How the block after it gets its timestamp.
    pub clock: Clock,
    /// When blocks are made from now on, where a person has set it.
    pub mining: Option<Timetable>,
}

/// A number for each block that is built.
pub type Attempt = u64;

/// What happens to a producer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A transaction is a candidate; sent again unharmed.
    Ready(Arc<ReadyTx>),
    /// It is none any more.
    Unready(TxHash),
    /// The follower of this process stored a block, or passed an entry that is none.
    Head {
        /// The block.
        parent: Parent,
        /// Its transactions.
        included: Vec<TxHash>,
    },
    /// The epoch subject was won.
    TookOver(Epoch),
    /// It was not.
    TakeOverFailed,
    /// A block was executed.
    Built {
        /// Which build.
        attempt: Attempt,
        /// Hash of the block.
        hash: B256,
        /// Transactions in it.
        included: Vec<TxHash>,
        /// Candidates that are not, with the reason.
        withheld: Vec<(TxHash, Reason)>,
    },
    /// The build could not be done (the head moved under it, say).
    BuildFailed {
        /// Which build.
        attempt: Attempt,
    },
    /// The log has the block.
    Appended {
        /// Which build.
        attempt: Attempt,
        /// Where.
        seq: Seq,
    },
    /// The log does not, or it is unknown.
    AppendFailed {
        /// Which build.
        attempt: Attempt,
        /// What is known.
        error: AppendFailure,
    },
    /// A person asks for a block. Answered by [`Effect::Ordered`].
    Order {
        /// Names the order.
        id: OrderId,
        /// What is asked.
        order: Arc<DevOrder>,
    },
    /// What is ordered can't be done on this parent.
    OrderRefused {
        /// The build that tried it.
        attempt: Attempt,
        /// Why.
        why: DevRefusal,
    },
    /// Time passes. Also asked for by [`Effect::WakeAt`].
    Tick,
}

/// What is known of a failed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// Another entry has the place.
    Lost,
    /// Another producer took over.
    Fenced,
    /// It is unknown whether the entry is in the log: the same bytes are to be tried again.
    Unknown,
    /// The log carries no block of this size.
    TooLarge,
}

/// What a producer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Compare-and-set the epoch.
    TakeOver,
    /// Execute candidates in this order, on this parent, and seal.
    Build {
        /// Number of the build.
        attempt: Attempt,
        /// What to build on.
        parent: Parent,
        /// The block's timestamp, in seconds.
        timestamp_secs: u64,
        /// When the slot is, for the measure of lateness; `None` where there is no timetable.
        slot: Option<Micros>,
        /// Candidates, best first, a sender's by nonce.
        candidates: Vec<Arc<ReadyTx>>,
        /// What the block is made for, where it was ordered.
        order: Option<Arc<DevOrder>>,
    },
    /// Append the block of this build, after the entry at `expected`.
    Append {
        /// Number of the build.
        attempt: Attempt,
        /// Height of the block.
        height: Height,
        /// Fencing token.
        epoch: Epoch,
        /// Last position of the log, as far as the follower read.
        expected: Seq,
    },
    /// The block of this build is of no use.
    Discard {
        /// Number of the build.
        attempt: Attempt,
    },
    /// Tell the extractor.
    Withheld(Withheld),
    /// Tell who ordered.
    Ordered {
        /// Which order.
        id: OrderId,
        /// The block that is the head now, or why there is none.
        result: Result<DevDone, DevRefusal>,
    },
    /// Send [`Event::Tick`] at this time.
    WakeAt(Micros),
}
