//! Everything in one process: a bus of bounded inboxes; log, queues and blobs over a [`Journal`] each.
//!
//! The journals decide how durable it is: the store's (sled) survive `kill -9`, [`VecJournal`] nothing.

mod blobs;
mod bus;
mod journal;
mod log;
mod queue;

pub use blobs::MemoryBlobs;
pub use bus::MemoryBus;
pub use journal::{VecJournal, VecJournalError};
pub(crate) use log::AbortOnDrop;
pub use log::{MemoryLog, last_block};
pub use queue::MemoryQueue;

use crate::Transport;
use crate::blob::BlobError;
use crate::log::LogError;
use penstock_rules::journal::Journal;
use std::sync::Arc;

/// Where the durable parts keep what they have.
#[derive(Clone, Debug)]
pub struct Journals<J> {
    /// For the block log.
    pub log: J,
    /// For accepted transactions.
    pub accepted: J,
    /// For settled results.
    pub results: J,
    /// For blobs.
    pub blobs: J,
}

/// Why a transport could not be made from what the journals hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// The block log's journal.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The blobs' journal.
    #[error(transparent)]
    Blobs(#[from] BlobError),
}

/// A transport within this process. Must be called inside a tokio runtime, which then runs the queues' writers.
///
/// # Errors
/// Where a journal can't be read, or holds something else.
pub async fn transport<J: Journal + 'static>(
    journals: Journals<J>,
) -> Result<Transport, OpenError> {
    Ok(Transport {
        bus: Arc::new(MemoryBus::new()),
        log: Arc::new(MemoryLog::open(journals.log).await?),
        accepted: Arc::new(MemoryQueue::open("accepted", journals.accepted)),
        results: Arc::new(MemoryQueue::open("results", journals.results)),
        blobs: Arc::new(MemoryBlobs::open(journals.blobs).await?),
    })
}

/// A transport that forgets everything when it is dropped.
///
/// # Errors
/// None that an empty journal gives.
pub async fn volatile() -> Result<Transport, OpenError> {
    transport(Journals {
        log: VecJournal::default(),
        accepted: VecJournal::default(),
        results: VecJournal::default(),
        blobs: VecJournal::default(),
    })
    .await
}
