//! Queues over a journal.

use super::journal::AsyncJournal;
use crate::codec::MESSAGE_BYTES_MAX;
use crate::queue::{GroupQueue, Segments};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;

/// A queue over a journal that this process alone writes.
pub type MemoryQueue = GroupQueue;

struct JournalSegments(AsyncJournal);

#[async_trait]
impl Segments for JournalSegments {
    fn bytes_max(&self) -> usize {
        MESSAGE_BYTES_MAX
    }

    fn shared(&self) -> bool {
        false
    }

    async fn append(&self, segment: Bytes) -> Result<u64, String> {
        let written = self.0.append(vec![segment]).await;
        written.map(|seq| seq.0).map_err(|e| e.to_string())
    }

    async fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, String> {
        let items = self.0.read(Seq(from), limit).await;
        let items = items.map_err(|e| e.to_string())?;
        Ok(items.into_iter().map(|(s, b)| (s.0, b.into())).collect())
    }

    async fn remove(&self, segments: Vec<u64>) -> Result<(), String> {
        let removed = self.0.remove(segments.into_iter().map(Seq).collect()).await;
        removed.map_err(|e| e.to_string())
    }
}

impl GroupQueue {
    /// A queue over `journal`. Must be called inside a tokio runtime, which runs its writer.
    pub fn open<J: Journal + 'static>(name: &str, journal: J) -> Self {
        Self::start(name, JournalSegments(AsyncJournal::new(journal)))
    }
}
