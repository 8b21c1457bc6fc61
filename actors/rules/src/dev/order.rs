//! What a gateway asks of the producer.

use crate::ids::{Height, Micros, TxHash};
use alloy_primitives::{Address, B256, Bytes, U256};
use serde::{Deserialize, Serialize};

/// Gateway to producer (request, answered by [`DevAnswer`]).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevAsk {
    /// Make a block.
    Block(DevOrder),
    /// Remember the state, once the head has this height.
    Snapshot {
        /// What the asker has seen.
        at: Height,
    },
    /// Forget transactions that the mempool dropped: what tells so otherwise may come after the next order.
    Forget {
        /// Their hashes.
        hashes: Vec<TxHash>,
    },
}

/// A block that is made because a person asked.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DevOrder {
    /// One of its own with these changes, all or none.
    Change(Vec<Change>),
    /// One of what is ready, empty or not.
    Mine {
        /// Transactions that the asker knows to be ready: they are waited for a moment, because the news of them takes
        /// another way.
        wanted: Vec<TxHash>,
        /// The block's timestamp.
        time: MineTime,
    },
}

/// The timestamp of a block that is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum MineTime {
    /// As for any block.
    Clock,
    /// This, in seconds; the chain's clock goes on from there.
    At(u64),
    /// This many seconds after the parent's; the chain's clock goes on from there.
    After(u64),
}

/// A change of state without a transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Of an account.
    Account(AccountPatch),
    /// Of a setting.
    Setting(Setting),
    /// Back to a snapshot; it and the later ones are used up.
    Restore {
        /// Its number.
        snapshot: u64,
    },
    /// Back to genesis; all snapshots and settings go.
    Reset,
}

/// What is new of an account. What is left out stays.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountPatch {
    /// Which.
    pub address: Address,
    /// Wei.
    pub balance: Option<U256>,
    /// Nonce.
    pub nonce: Option<u64>,
    /// Code; empty makes it a plain account.
    pub code: Option<Bytes>,
    /// Slots.
    pub slots: Vec<(U256, U256)>,
}

/// A setting for the blocks that follow.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Setting {
    /// The clock goes forward (or back), in seconds.
    ClockBy(i64),
    /// The clock shows this, in seconds.
    ClockTo(u64),
    /// The next block has this timestamp, and the clock goes on from there.
    NextTimestamp(u64),
    /// Seconds from block to block, or as the clock has it.
    TimestampInterval(Option<u64>),
    /// Base fee of the next block, wei per gas.
    NextBaseFee(u64),
    /// `prevrandao` of the next block.
    NextPrevrandao(B256),
    /// Where tips go.
    Coinbase(Address),
    /// Gas of a block.
    GasLimit(u64),
    /// Blocks as soon as a transaction is ready.
    MineAtOnce,
    /// Blocks only when they are asked for.
    MineByHand,
    /// A block at every multiple of this span.
    MineEvery(Micros),
}

/// Producer to gateway.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevAnswer {
    /// What came of it.
    pub result: Result<DevDone, DevRefusal>,
}

/// An order was carried out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DevDone {
    /// The block that was made; of a snapshot, the head that it is of.
    pub height: Height,
    /// Its hash.
    pub hash: B256,
    /// Number of the snapshot, where one was asked for.
    pub snapshot: u64,
}

/// Why an order was not carried out. Nothing of it was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum DevRefusal {
    /// It would break what several producers agree on.
    #[error(
        "development methods need a chain with one producer: the genesis of this one names {producers}"
    )]
    Producers {
        /// How many there are.
        producers: u32,
    },
    /// No producer leads now.
    #[error("no producer leads now")]
    NotLeading,
    /// Too many orders wait.
    #[error("too many development orders at the same time: limit {limit}")]
    Busy {
        /// How many may wait.
        limit: u32,
    },
    /// A block can't be before its parent.
    #[error("timestamp {asked} is before the last block's, which is {parent}")]
    Timestamp {
        /// Asked for, in seconds.
        asked: u64,
        /// The parent's, in seconds.
        parent: u64,
    },
    /// There is no such snapshot (any more).
    #[error(
        "no snapshot has the id {0:#x}: it was never taken, was used up, or the producer started again since"
    )]
    Snapshot(u64),
    /// The block would be larger than the log carries.
    #[error("the change is larger than a block of the log may be")]
    TooLarge,
    /// Something that must not happen.
    #[error("{0}")]
    Failed(String),
}
