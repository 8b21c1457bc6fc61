//! The block log: orders entries, one winner per position, fenced by epoch.
//!
//! The log only orders. Whether an entry is valid is a function of what came before, and every follower computes it.
//!
//! ```text
//!   seq      1        2       3       4        5       6
//!          epoch    block   block   epoch    block   block
//!          by A      A       A      by B      B       B
//!                                     \_ from here on A's appends are refused: its token is 1, the log's is 4
//! ```
//!
//! The token of an epoch is the sequence of its record, so tokens grow and no clock is involved.

use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::{Epoch, Height, Seq};
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

/// Who produces from some point of the log on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EpochRecord {
    /// The fencing token: the sequence of this record.
    pub epoch: Epoch,
    /// The producer that took over.
    pub producer: Address,
}

/// An entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum LogRecord {
    /// A block's bytes, as they were appended.
    Block(Bytes),
    /// A take-over.
    Epoch(EpochRecord),
}

/// Why the log could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogError {
    /// The log can't be reached now.
    #[error("block log is not reachable: {0}")]
    Unreachable(String),
    /// What is there is not a log entry of ours.
    #[error("block log entry {seq} is malformed: {why}")]
    Malformed {
        /// Where.
        seq: Seq,
        /// What is wrong.
        why: String,
    },
    /// The log is not the one that was read from before: somebody deleted and made it anew, or restored an older copy.
    /// Halt and report; never follow silently.
    #[error("block log was replaced: {0}")]
    Replaced(String),
}

/// Why an append did not succeed, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AppendError {
    /// Another entry stands at this position. Read on from `expected`, and build on what is there.
    #[error("another entry won position {0} of the block log")]
    Lost(Seq),
    /// Another producer took over. This one must stop.
    #[error("producer {} took over with epoch {}", .0.producer, .0.epoch)]
    Fenced(EpochRecord),
    /// It can't be told whether the entry is in the log: call again with the same arguments, or read the log.
    #[error("outcome of the append is unknown: {0}")]
    Unknown(String),
    /// The entry is larger than the log carries.
    #[error("block of {size} bytes is larger than the log carries: {limit} bytes")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
}

/// Why a take-over did not succeed, or may not have.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TakeOverError {
    /// The epoch is not the one that the caller saw.
    #[error("epoch {} of producer {} is newer than the one seen", .0.epoch, .0.producer)]
    Lost(EpochRecord),
    /// It can't be told whether the record is in the log: read [`BlockLog::epoch`].
    #[error("outcome of the take-over is unknown: {0}")]
    Unknown(String),
}

/// Entries of the log, from some position on, as they come.
pub struct LogSubscription {
    receiver: mpsc::Receiver<Result<(Seq, LogRecord), LogError>>,
    _guard: Box<dyn std::any::Any + Send + Sync>,
}

impl std::fmt::Debug for LogSubscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("LogSubscription")
    }
}

/// Entries that a subscription reads ahead of its reader. Blocks may have 2 MB, so few; the log itself is the buffer.
pub(crate) const READ_AHEAD: usize = 8;

impl LogSubscription {
    pub(crate) fn new(
        receiver: mpsc::Receiver<Result<(Seq, LogRecord), LogError>>,
        guard: Box<dyn std::any::Any + Send + Sync>,
    ) -> Self {
        Self {
            receiver,
            _guard: guard,
        }
    }

    /// The next entry, waited for. Nothing is skipped and nothing comes twice. `None` once the log was closed; after
    /// an error the subscription is over, and the reader subscribes again from where it was.
    pub async fn next(&mut self) -> Option<Result<(Seq, LogRecord), LogError>> {
        self.receiver.recv().await
    }
}

/// An ordered list of blocks and take-overs that all agree on.
#[async_trait]
pub trait BlockLog: Send + Sync + 'static {
    /// Makes `producer` the one whose appends are taken, if the epoch is still the one that the caller saw last
    /// (`Epoch(0)`: none). Returns its fencing token.
    ///
    /// The caller must read the log up to the token before its first append: an entry of the former producer may
    /// stand before it.
    ///
    /// # Errors
    /// See [`TakeOverError`].
    async fn take_over(&self, producer: Address, seen: Epoch) -> Result<Epoch, TakeOverError>;

    /// Appends a block directly after `expected`, the last position that the caller read, of whatever entry. Returns
    /// the block's position. Appending the same block at the same place again, in the same epoch, returns the same position.
    ///
    /// `id` is the block's hash. `height` is for tracing alone.
    ///
    /// # Errors
    /// See [`AppendError`].
    async fn append(
        &self,
        epoch: Epoch,
        height: Height,
        id: B256,
        expected: Seq,
        bytes: Bytes,
    ) -> Result<Seq, AppendError>;

    /// The last block, from the leader.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn head(&self) -> Result<Option<(Seq, Bytes)>, LogError>;

    /// The position of the last entry of any kind, from the leader; 0 where there is none.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn last(&self) -> Result<Seq, LogError>;

    /// The last take-over, from the leader.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn epoch(&self) -> Result<Option<EpochRecord>, LogError>;

    /// At most `limit` entries from position `from` on.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, LogRecord)>, LogError>;

    /// All entries from position `from` on, then new ones as they come.
    ///
    /// # Errors
    /// See [`LogError`].
    async fn subscribe(&self, from: Seq) -> Result<LogSubscription, LogError>;
}
