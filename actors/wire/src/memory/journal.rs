//! A journal in memory, and journals behind one type.

use parking_lot::Mutex;
use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A journal in memory. Its clones are one journal, so a test can end what used it and open it again.
#[derive(Clone, Debug, Default)]
pub struct VecJournal {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug, Default)]
struct Inner {
    last: u64,
    items: BTreeMap<u64, Vec<u8>>,
    failing: bool,
}

/// Why a [`VecJournal`] failed: a test asked it to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal fails because a test asked it to")]
pub struct VecJournalError;

impl VecJournal {
    /// Lets every operation fail from now on, or not any more.
    pub fn set_failing(&self, failing: bool) {
        self.inner.lock().failing = failing;
    }

    fn with<R>(&self, f: impl FnOnce(&mut Inner) -> R) -> Result<R, VecJournalError> {
        let mut inner = self.inner.lock();
        if inner.failing {
            return Err(VecJournalError);
        }
        Ok(f(&mut inner))
    }
}

impl Journal for VecJournal {
    type Error = VecJournalError;

    fn waits(&self) -> bool {
        false
    }

    fn append(&self, items: &[&[u8]]) -> Result<Seq, VecJournalError> {
        self.with(|inner| {
            for item in items {
                inner.last += 1;
                inner.items.insert(inner.last, item.to_vec());
            }
            Seq(inner.last)
        })
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>, VecJournalError> {
        self.with(|inner| {
            let range = inner.items.range(from.0..).take(limit);
            range.map(|(seq, item)| (Seq(*seq), item.clone())).collect()
        })
    }

    fn last(&self) -> Result<Seq, VecJournalError> {
        self.with(|inner| Seq(inner.last))
    }

    fn remove(&self, items: &[Seq]) -> Result<(), VecJournalError> {
        self.with(|inner| {
            for seq in items {
                inner.items.remove(&seq.0);
            }
        })
    }
}

/// Why a journal of unknown type failed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("journal failed: {0}")]
pub(super) struct Failed(pub(super) String);

trait Erased: Send + Sync {
    fn waits(&self) -> bool;
    fn append(&self, items: &[&[u8]]) -> Result<Seq, Failed>;
    fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>, Failed>;
    fn last(&self) -> Result<Seq, Failed>;
    fn remove(&self, items: &[Seq]) -> Result<(), Failed>;
}

impl<J: Journal> Erased for J {
    fn waits(&self) -> bool {
        Journal::waits(self)
    }
    fn append(&self, items: &[&[u8]]) -> Result<Seq, Failed> {
        Journal::append(self, items).map_err(|e| Failed(e.to_string()))
    }
    fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>, Failed> {
        Journal::read(self, from, limit).map_err(|e| Failed(e.to_string()))
    }
    fn last(&self) -> Result<Seq, Failed> {
        Journal::last(self).map_err(|e| Failed(e.to_string()))
    }
    fn remove(&self, items: &[Seq]) -> Result<(), Failed> {
        Journal::remove(self, items).map_err(|e| Failed(e.to_string()))
    }
}

/// Bytes of items that are appended without a blocking thread where no disk is waited for: a copy of that much takes less
/// than a scheduler's time slice by far.
const INLINE_BYTES_MAX: usize = 64 << 10;

/// A journal of any type, called on blocking threads where it waits for a disk or has much to copy.
#[derive(Clone)]
pub(super) struct AsyncJournal(Arc<dyn Erased>);

impl AsyncJournal {
    pub(super) fn new<J: Journal + 'static>(journal: J) -> Self {
        Self(Arc::new(journal))
    }

    async fn run<R: Send + 'static>(
        &self,
        bytes: usize,
        f: impl FnOnce(&dyn Erased) -> Result<R, Failed> + Send + 'static,
    ) -> Result<R, Failed> {
        if !self.0.waits() && bytes <= INLINE_BYTES_MAX {
            return f(&*self.0);
        }
        let journal = self.0.clone();
        tokio::task::spawn_blocking(move || f(&*journal))
            .await
            .unwrap_or_else(|e| Err(Failed(e.to_string())))
    }

    /// Appends as [`Journal::append`].
    pub(super) async fn append(&self, items: Vec<bytes::Bytes>) -> Result<Seq, Failed> {
        let bytes = items.iter().map(bytes::Bytes::len).sum();
        self.run(bytes, move |journal| {
            let slices: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
            journal.append(&slices)
        })
        .await
    }

    /// Reads as [`Journal::read`].
    pub(super) async fn read(
        &self,
        from: Seq,
        limit: usize,
    ) -> Result<Vec<(Seq, Vec<u8>)>, Failed> {
        self.run(0, move |journal| journal.read(from, limit)).await
    }

    /// The item at exactly this position.
    pub(super) async fn get(&self, seq: Seq) -> Result<Option<Vec<u8>>, Failed> {
        let found = self.read(seq, 1).await?;
        Ok(found.into_iter().find(|(at, _)| *at == seq).map(|(_, b)| b))
    }

    /// As [`Journal::last`].
    pub(super) async fn last(&self) -> Result<Seq, Failed> {
        self.run(0, |journal| journal.last()).await
    }

    /// Removes as [`Journal::remove`].
    pub(super) async fn remove(&self, items: Vec<Seq>) -> Result<(), Failed> {
        self.run(0, move |journal| journal.remove(&items)).await
    }
}
