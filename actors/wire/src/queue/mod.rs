//! Durable queues: what is in one survives the `kill -9` of any process.

mod group;
mod runs;

pub use group::GroupQueue;
pub(crate) use group::Segments;

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::Seq;

/// An item of a queue.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QueueItem {
    /// Where it stands.
    pub seq: Seq,
    /// The id that it was appended under.
    pub id: B256,
    /// What was appended.
    pub bytes: Bytes,
}

/// Why a queue did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// It can't be told whether the items are in the queue.
    #[error("outcome of the append to queue {queue} is unknown: {why}")]
    Unknown {
        /// Which.
        queue: String,
        /// What happened.
        why: String,
    },
    /// The queue can't be reached now, and nothing was done.
    #[error("queue {queue} is not reachable: {why}")]
    Unreachable {
        /// Which.
        queue: String,
        /// What happened.
        why: String,
    },
    /// More waits to be written than the queue holds in memory. Try again.
    #[error("queue {0} is busy")]
    Full(String),
    /// An item is larger than the queue carries.
    #[error("item of {size} bytes is larger than queue {queue} carries: {limit} bytes")]
    TooLarge {
        /// Which.
        queue: String,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// What is there is not an item of ours.
    #[error("item {seq} of queue {queue} is malformed: {why}")]
    Malformed {
        /// Which.
        queue: String,
        /// Where.
        seq: Seq,
        /// What is wrong.
        why: String,
    },
}

/// A durable, ordered list of items, each of which leaves when somebody is done with it.
///
/// An item may come again in a later replay although it was removed, and may stand twice after an append whose outcome
/// was unknown: readers go by id.
#[async_trait]
pub trait Queue: Send + Sync + 'static {
    /// Appends items, in order, and returns their positions. Durable before it returns. Calls that come at the same
    /// time share one commit.
    ///
    /// # Errors
    /// See [`QueueError`]. On an error other than [`QueueError::Unknown`] nothing was appended.
    async fn append(&self, items: Vec<(B256, Bytes)>) -> Result<Vec<Seq>, QueueError>;

    /// At most `limit` items from position `from` on.
    ///
    /// # Errors
    /// See [`QueueError`].
    async fn replay(&self, from: Seq, limit: usize) -> Result<Vec<QueueItem>, QueueError>;

    /// At most `limit` items from position `from` on that other processes appended, and the position to go on from.
    /// What this process appended is not read, as far as it is remembered and its append was answered: readers go by id.
    /// A queue that one process alone writes has no such items.
    ///
    /// # Errors
    /// See [`QueueError`].
    async fn others(&self, from: Seq, limit: usize) -> Result<(Vec<QueueItem>, Seq), QueueError>;

    /// Removes items. Unknown positions are ignored.
    ///
    /// # Errors
    /// See [`QueueError`].
    async fn remove(&self, seqs: &[Seq]) -> Result<(), QueueError>;
}
