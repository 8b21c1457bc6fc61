//! What a shard's transport does not have: it reads no log and no queue, and its credentials would not let it.

use crate::log::{
    AppendError, BlockLog, EpochRecord, LogError, LogRecord, LogSubscription, TakeOverError,
};
use crate::queue::{Queue, QueueError, QueueItem};
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::{Epoch, Height, Seq};

/// A log or queue that is not there.
pub(super) struct Absent(pub(super) &'static str);

impl Absent {
    fn why(&self) -> String {
        format!("a shard has no {}", self.0)
    }

    fn log(&self) -> LogError {
        LogError::Unreachable(self.why())
    }

    fn queue(&self) -> QueueError {
        QueueError::Unreachable {
            queue: self.0.into(),
            why: self.why(),
        }
    }
}

#[async_trait]
impl BlockLog for Absent {
    async fn take_over(&self, _: Address, _: Epoch) -> Result<Epoch, TakeOverError> {
        Err(TakeOverError::Unknown(self.why()))
    }

    async fn append(
        &self,
        _: Epoch,
        _: Height,
        _: B256,
        _: Seq,
        _: Bytes,
    ) -> Result<Seq, AppendError> {
        Err(AppendError::Unknown(self.why()))
    }

    async fn head(&self) -> Result<Option<(Seq, Bytes)>, LogError> {
        Err(self.log())
    }

    async fn last(&self) -> Result<Seq, LogError> {
        Err(self.log())
    }

    async fn epoch(&self) -> Result<Option<EpochRecord>, LogError> {
        Err(self.log())
    }

    async fn read(&self, _: Seq, _: usize) -> Result<Vec<(Seq, LogRecord)>, LogError> {
        Err(self.log())
    }

    async fn subscribe(&self, _: Seq) -> Result<LogSubscription, LogError> {
        Err(self.log())
    }
}

#[async_trait]
impl Queue for Absent {
    async fn append(&self, _: Vec<(B256, Bytes)>) -> Result<Vec<Seq>, QueueError> {
        Err(self.queue())
    }

    async fn replay(&self, _: Seq, _: usize) -> Result<Vec<QueueItem>, QueueError> {
        Err(self.queue())
    }

    async fn others(&self, _: Seq, _: usize) -> Result<(Vec<QueueItem>, Seq), QueueError> {
        Err(self.queue())
    }

    async fn remove(&self, _: &[Seq]) -> Result<(), QueueError> {
        Err(self.queue())
    }
}
