//! Blobs over a journal: pieces, then an index item, in one atomic append.

use super::journal::{AsyncJournal, Failed};
use crate::blob::{BLOB_BYTES_MAX, BlobError, BlobStore};
use crate::codec::{decode, encode};
use crate::messages::BlobIndex;
use alloy_primitives::{B256, keccak256};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;
use std::collections::BTreeMap;
use tokio::sync::Mutex;

/// Bytes of a piece. Small enough for a page of the store, large enough that 1 GiB is few items.
const PIECE_BYTES: usize = 64 << 10;

/// A blob store over a journal that this process alone writes.
pub struct MemoryBlobs {
    journal: AsyncJournal,
    /// Where each blob's index item stands, and what it says. Held over a write, so that none is stored twice.
    index: Mutex<BTreeMap<B256, (Seq, BlobIndex)>>,
    names: Mutex<BTreeMap<String, B256>>,
}

impl std::fmt::Debug for MemoryBlobs {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBlobs")
    }
}

impl From<Failed> for BlobError {
    fn from(failed: Failed) -> Self {
        Self::Unreachable(failed.to_string())
    }
}

impl MemoryBlobs {
    /// Finds what the journal holds, from its end to its start by way of the index items alone.
    ///
    /// # Errors
    /// Where the journal can't be read, or holds something else.
    pub async fn open<J: Journal + 'static>(journal: J) -> Result<Self, BlobError> {
        let journal = AsyncJournal::new(journal);
        let mut index = BTreeMap::new();
        let mut at = journal.last().await?;
        while at > Seq(0) {
            let broken = |why: String| {
                BlobError::Unreachable(format!("journal item {at} is no blob index: {why}"))
            };
            let bytes = journal.get(at).await?;
            let bytes = bytes.ok_or_else(|| broken("it is missing".into()))?;
            let entry: BlobIndex = decode(&bytes).map_err(|e| broken(e.to_string()))?;
            index.insert(entry.hash, (at, entry));
            let before = at.0.checked_sub(entry.pieces + 1);
            at = Seq(before.ok_or_else(|| broken("it has too many pieces".into()))?);
        }
        Ok(Self {
            journal,
            index: Mutex::new(index),
            names: Mutex::default(),
        })
    }
}

#[async_trait]
impl BlobStore for MemoryBlobs {
    async fn put(&self, bytes: Bytes) -> Result<B256, BlobError> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge {
                size: bytes.len(),
                limit: BLOB_BYTES_MAX,
            });
        }
        let hash = keccak256(&bytes);
        let mut index = self.index.lock().await;
        if index.contains_key(&hash) {
            return Ok(hash);
        }
        let mut items: Vec<Bytes> = (0..bytes.len())
            .step_by(PIECE_BYTES)
            .map(|at| bytes.slice(at..bytes.len().min(at + PIECE_BYTES)))
            .collect();
        let entry = BlobIndex {
            hash,
            size: bytes.len() as u64,
            pieces: items.len() as u64,
        };
        items.push(encode(&entry));
        let seq = self.journal.append(items).await?;
        index.insert(hash, (seq, entry));
        Ok(hash)
    }

    async fn get(&self, hash: B256) -> Result<Option<Bytes>, BlobError> {
        let found = self.index.lock().await.get(&hash).copied();
        let Some((at, entry)) = found else {
            return Ok(None);
        };
        let first = Seq(at.0 - entry.pieces);
        let pieces = self.journal.read(first, entry.pieces as usize).await?;
        let mut bytes = Vec::with_capacity(pieces.len() * PIECE_BYTES);
        for (_, piece) in pieces {
            bytes.extend(piece);
        }
        let found = keccak256(&bytes);
        if found != hash {
            return Err(BlobError::Damaged {
                wanted: hash,
                found,
            });
        }
        Ok(Some(bytes.into()))
    }

    async fn list(&self) -> Result<Vec<B256>, BlobError> {
        Ok(self.index.lock().await.keys().copied().collect())
    }

    /// The journal keeps its pieces, and has it again when it is opened the next time: nothing in one process removes
    /// blobs, so there is no tombstone.
    async fn remove(&self, hash: B256) -> Result<(), BlobError> {
        self.index.lock().await.remove(&hash);
        Ok(())
    }

    async fn point(&self, name: &str, to: B256) -> Result<(), BlobError> {
        self.names.lock().await.insert(name.to_owned(), to);
        Ok(())
    }

    async fn pointed(&self, name: &str) -> Result<Option<B256>, BlobError> {
        Ok(self.names.lock().await.get(name).copied())
    }
}
