//! What happens to the pool, and what it wants done.

use crate::ids::{Height, TxHash};
use crate::tx::{DropReason, PoolTx, Refusal, StatusUpdate};
use alloy_primitives::{Address, B256, U256};

/// Names a submitter that waits for an answer; the shell gives it out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What the pool needs to know of an account.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct AccountView {
    /// Nonce that its next transaction must have.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
}

/// What happens to the pool.
#[derive(Clone, Debug)]
pub enum Event {
    /// Someone wants a transaction taken.
    Submit {
        /// The transaction, its sender recovered.
        tx: PoolTx,
        /// Hash of what it does (to, value, input, access list), without fees: equal for a mere price bump.
        content: B256,
        /// Its sender, at the head that the last [`Event::Block`] told of.
        account: AccountView,
        /// Who waits for the answer.
        ticket: Ticket,
    },
    /// The durable stream has it.
    Persisted {
        /// Which.
        hash: TxHash,
    },
    /// The durable stream could not be written.
    PersistFailed {
        /// Which.
        hash: TxHash,
    },
    /// Found in the durable stream at start.
    Replayed {
        /// The transaction.
        tx: PoolTx,
        /// As in [`Event::Submit`].
        content: B256,
        /// Its sender, at the head.
        account: AccountView,
    },
    /// The head moved, by one block or more.
    Block {
        /// The new head.
        height: Height,
        /// Wei per gas, of the block that will be built on it.
        base_fee: u128,
        /// Every account of a lane that changed (others are ignored).
        accounts: Vec<(Address, AccountView)>,
        /// Transactions in blocks since the last head.
        included: Vec<(TxHash, Height)>,
    },
    /// It must go: a user asked, or the extractor found that it can't be served.
    Drop {
        /// Which.
        hash: TxHash,
        /// Why.
        reason: DropReason,
    },
    /// Compute was dispatched for it, so replacing it by something else costs more.
    Dispatched {
        /// Which.
        hash: TxHash,
    },
    /// Time passed.
    Tick,
}

/// How a transaction left the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Departure {
    /// It is in the block of this height.
    Included(Height),
    /// It is in no block.
    Dropped(DropReason),
}

/// What the pool wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Append it to the durable stream, then say [`Event::Persisted`] or [`Event::PersistFailed`].
    Persist(PoolTx),
    /// Answer: taken.
    Accept {
        /// Whom.
        ticket: Ticket,
        /// The transaction.
        hash: TxHash,
    },
    /// Answer: not taken.
    Refuse {
        /// Whom.
        ticket: Ticket,
        /// Why.
        refusal: Refusal,
    },
    /// To the extractor: it can be executed once its sender's earlier ones are. Comes in nonce order. Takes the place
    /// of a pending one with its sender and nonce.
    Pending {
        /// The transaction.
        tx: PoolTx,
        /// Order of arrival.
        arrival: u64,
    },
    /// To the extractor: it was pending, and is not now (an earlier nonce went away, or its sender's money).
    Parked {
        /// Which.
        hash: TxHash,
    },
    /// To the extractor: it left the pool.
    Gone {
        /// Which.
        hash: TxHash,
        /// How.
        how: Departure,
    },
    /// To the extractor: all that this head changed in the pool has been told.
    Advanced {
        /// The head.
        height: Height,
    },
    /// Remove it from the durable stream.
    Forget {
        /// Which.
        hash: TxHash,
    },
    /// Publish.
    Status(StatusUpdate),
}
