//! The block log and the durable queues, as `penstock-wire` promises them.

use super::evm::Block;
use penstock_rules::ids::{Epoch, Seq};
use penstock_rules::producer::AppendFailure;
use std::collections::BTreeMap;
use std::sync::Arc;

/// An entry of the log.
#[derive(Clone, Debug)]
pub(super) enum Record {
    /// A take-over, by the producer with this number.
    Epoch(u8),
    /// A block.
    Block(Arc<Block>),
    /// Bytes that are no block.
    Garbage,
}

/// The log: ordered, fenced by epoch, one winner per position. It never fails itself; the way to it does.
#[derive(Clone, Debug, Default)]
pub(super) struct Log {
    records: Vec<Record>,
    epoch: Epoch,
}

impl Log {
    pub(super) fn last(&self) -> Seq {
        Seq(self.records.len() as u64)
    }

    pub(super) fn epoch(&self) -> Epoch {
        self.epoch
    }

    pub(super) fn get(&self, seq: Seq) -> Option<&Record> {
        self.records.get(seq.0.checked_sub(1)? as usize)
    }

    /// Compare-and-set of the epoch: the token, or nothing where another took over since `seen`.
    pub(super) fn take_over(&mut self, producer: u8, seen: Epoch) -> Option<Epoch> {
        if self.epoch != seen {
            return None;
        }
        self.records.push(Record::Epoch(producer));
        self.epoch = Epoch(self.records.len() as u64);
        Some(self.epoch)
    }

    /// Appends a block directly after `expected`; the same block at the same place again is taken for the first time.
    pub(super) fn append(
        &mut self,
        epoch: Epoch,
        expected: Seq,
        block: Arc<Block>,
    ) -> Result<Seq, AppendFailure> {
        let next = Seq(expected.0 + 1);
        if let Some(there) = self.get(next) {
            return match there {
                Record::Block(theirs) if theirs.hash == block.hash => Ok(next),
                _ if self.epoch != epoch => Err(AppendFailure::Fenced),
                _ => Err(AppendFailure::Lost),
            };
        }
        if self.epoch != epoch {
            return Err(AppendFailure::Fenced);
        }
        if self.last() != expected {
            return Err(AppendFailure::Unknown);
        }
        self.records.push(Record::Block(block));
        Ok(next)
    }

    /// What a faulty producer that leads puts there: the log takes whatever has the right token and place.
    pub(super) fn stray(&mut self, record: Record) {
        self.records.push(record);
    }
}

/// A durable queue: what is in it survives every process.
#[derive(Clone, Debug)]
pub(super) struct Queue<T> {
    items: BTreeMap<Seq, T>,
    last: u64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Self {
            items: BTreeMap::new(),
            last: 0,
        }
    }
}

impl<T: Clone> Queue<T> {
    pub(super) fn append(&mut self, item: T) -> Seq {
        self.last += 1;
        self.items.insert(Seq(self.last), item);
        Seq(self.last)
    }

    pub(super) fn remove(&mut self, seq: Seq) {
        self.items.remove(&seq);
    }

    /// All items, oldest first.
    pub(super) fn replay(&self) -> Vec<(Seq, T)> {
        let items = self.items.iter();
        items.map(|(seq, item)| (*seq, item.clone())).collect()
    }
}
