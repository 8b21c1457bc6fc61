//! The block log over a journal.

use super::journal::{AsyncJournal, Failed};
use crate::codec::{MESSAGE_BYTES_MAX, decode, encode};
use crate::log::{
    AppendError, BlockLog, EpochRecord, LogError, LogRecord, LogSubscription, READ_AHEAD,
    TakeOverError,
};
use crate::messages::LogEntry;
use alloy_primitives::{Address, B256};
use async_trait::async_trait;
use bytes::Bytes;
use penstock_rules::ids::{Epoch, Height, Seq};
use penstock_rules::journal::Journal;
use std::sync::Arc;
use tokio::sync::{Mutex, mpsc, watch};

/// A block log over a journal that this process alone writes.
pub struct MemoryLog {
    journal: AsyncJournal,
    /// `None` after a failed write: what is in the journal then is read again before the next.
    tip: Mutex<Option<Tip>>,
    /// Position of the last entry: wakes subscriptions.
    grown: Arc<watch::Sender<Seq>>,
}

/// What the last entry says.
#[derive(Clone, Copy, Debug)]
struct Tip {
    last: Seq,
    epoch: EpochRecord,
    head: Seq,
}

impl std::fmt::Debug for MemoryLog {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryLog")
    }
}

impl From<Failed> for LogError {
    fn from(failed: Failed) -> Self {
        Self::Unreachable(failed.to_string())
    }
}

fn entry(seq: Seq, bytes: &[u8]) -> Result<LogEntry, LogError> {
    let malformed = |why: String| LogError::Malformed { seq, why };
    let entry: LogEntry = decode(bytes).map_err(|e| malformed(e.to_string()))?;
    if entry.seq != seq {
        return Err(malformed(format!("it was written at {}", entry.seq)));
    }
    Ok(entry)
}

impl LogEntry {
    fn record(self) -> LogRecord {
        match self.block {
            Some((_, bytes)) => LogRecord::Block(bytes.0),
            None => LogRecord::Epoch(EpochRecord {
                epoch: self.epoch,
                producer: self.producer,
            }),
        }
    }
}

async fn read_tip(journal: &AsyncJournal) -> Result<Tip, LogError> {
    let last = journal.last().await?;
    if last == Seq(0) {
        return Ok(Tip {
            last,
            epoch: EpochRecord {
                epoch: Epoch(0),
                producer: Address::ZERO,
            },
            head: Seq(0),
        });
    }
    let bytes = journal.get(last).await?.ok_or(LogError::Malformed {
        seq: last,
        why: "it is missing".into(),
    })?;
    let entry = entry(last, &bytes)?;
    Ok(Tip {
        last,
        epoch: EpochRecord {
            epoch: entry.epoch,
            producer: entry.producer,
        },
        head: entry.head,
    })
}

/// Where the last block of the log in `journal` stands, 0 where there is none: for who looks at a log without opening it.
///
/// # Errors
/// Where the journal can't be read, or its last item is no entry of a log.
pub fn last_block<J: Journal>(journal: &J) -> Result<Seq, LogError> {
    let unreachable = |error: J::Error| LogError::Unreachable(error.to_string());
    let last = journal.last().map_err(unreachable)?;
    if last == Seq(0) {
        return Ok(last);
    }
    match journal.read(last, 1).map_err(unreachable)?.pop() {
        Some((seq, bytes)) => Ok(entry(seq, &bytes)?.head),
        None => Err(LogError::Malformed {
            seq: last,
            why: "it is missing".into(),
        }),
    }
}

async fn read_records(
    journal: &AsyncJournal,
    from: Seq,
    limit: usize,
) -> Result<Vec<(Seq, LogRecord)>, LogError> {
    let items = journal.read(from.max(Seq(1)), limit).await?;
    items
        .into_iter()
        .map(|(seq, bytes)| Ok((seq, entry(seq, &bytes)?.record())))
        .collect()
}

impl MemoryLog {
    /// Goes on where the journal ends.
    ///
    /// # Errors
    /// Where the journal can't be read, or its last item is no entry of a log.
    pub async fn open<J: Journal + 'static>(journal: J) -> Result<Self, LogError> {
        let journal = AsyncJournal::new(journal);
        let tip = read_tip(&journal).await?;
        Ok(Self {
            journal,
            tip: Mutex::new(Some(tip)),
            grown: Arc::new(watch::Sender::new(tip.last)),
        })
    }

    /// The tip, read again where the last write failed.
    async fn tip(&self, slot: &mut Option<Tip>) -> Result<Tip, LogError> {
        if let Some(tip) = *slot {
            return Ok(tip);
        }
        let tip = read_tip(&self.journal).await?;
        *slot = Some(tip);
        self.grown.send_replace(tip.last);
        Ok(tip)
    }

    /// Writes an entry after `tip` and moves the tip; on an error what was written is unknown.
    async fn write(&self, slot: &mut Option<Tip>, entry: &LogEntry) -> Result<(), String> {
        *slot = None;
        let written = self.journal.append(vec![encode(entry)]).await;
        let seq = written.map_err(|e| e.to_string())?;
        if seq != entry.seq {
            return Err(format!(
                "journal gave position {seq} instead of {}: another process writes it",
                entry.seq
            ));
        }
        *slot = Some(Tip {
            last: seq,
            epoch: EpochRecord {
                epoch: entry.epoch,
                producer: entry.producer,
            },
            head: entry.head,
        });
        self.grown.send_replace(seq);
        Ok(())
    }

    /// The entry directly after `expected`, where there is one.
    async fn successor(&self, expected: Seq) -> Result<Option<LogEntry>, LogError> {
        let next = Seq(expected.0.saturating_add(1));
        let bytes = self.journal.get(next).await?;
        bytes.map(|bytes| entry(next, &bytes)).transpose()
    }
}

#[async_trait]
impl BlockLog for MemoryLog {
    async fn take_over(&self, producer: Address, seen: Epoch) -> Result<Epoch, TakeOverError> {
        let mut slot = self.tip.lock().await;
        let unknown = |e: LogError| TakeOverError::Unknown(e.to_string());
        let tip = self.tip(&mut slot).await.map_err(unknown)?;
        if tip.epoch.epoch != seen {
            return Err(TakeOverError::Lost(tip.epoch));
        }
        let seq = Seq(tip.last.0 + 1);
        let entry = LogEntry {
            seq,
            epoch: Epoch(seq.0),
            producer,
            head: tip.head,
            block: None,
        };
        let written = self.write(&mut slot, &entry).await;
        written.map_err(TakeOverError::Unknown)?;
        Ok(entry.epoch)
    }

    async fn append(
        &self,
        epoch: Epoch,
        _height: Height,
        id: B256,
        expected: Seq,
        bytes: Bytes,
    ) -> Result<Seq, AppendError> {
        if bytes.len() > MESSAGE_BYTES_MAX {
            return Err(AppendError::TooLarge {
                size: bytes.len(),
                limit: MESSAGE_BYTES_MAX,
            });
        }
        let mut slot = self.tip.lock().await;
        let unknown = |e: LogError| AppendError::Unknown(e.to_string());
        let tip = self.tip(&mut slot).await.map_err(unknown)?;
        if let Some(there) = self.successor(expected).await.map_err(unknown)? {
            return match there.block {
                Some((theirs, _)) if theirs == id && there.epoch == epoch => Ok(there.seq),
                _ if tip.epoch.epoch != epoch => Err(AppendError::Fenced(tip.epoch)),
                _ => Err(AppendError::Lost(there.seq)),
            };
        }
        if tip.epoch.epoch != epoch {
            return Err(AppendError::Fenced(tip.epoch));
        }
        if tip.last != expected {
            return Err(AppendError::Unknown(format!(
                "the log ends at {}, before {expected}",
                tip.last
            )));
        }
        let seq = Seq(tip.last.0 + 1);
        let entry = LogEntry {
            seq,
            epoch,
            producer: tip.epoch.producer,
            head: seq,
            block: Some((id, bytes.into())),
        };
        let written = self.write(&mut slot, &entry).await;
        written.map_err(AppendError::Unknown)?;
        Ok(seq)
    }

    async fn head(&self) -> Result<Option<(Seq, Bytes)>, LogError> {
        let head = self.tip(&mut *self.tip.lock().await).await?.head;
        if head == Seq(0) {
            return Ok(None);
        }
        match read_records(&self.journal, head, 1).await?.pop() {
            Some((seq, LogRecord::Block(bytes))) if seq == head => Ok(Some((seq, bytes))),
            _ => Err(LogError::Malformed {
                seq: head,
                why: "it is not the block that later entries say it is".into(),
            }),
        }
    }

    async fn last(&self) -> Result<Seq, LogError> {
        Ok(self.tip(&mut *self.tip.lock().await).await?.last)
    }

    async fn epoch(&self) -> Result<Option<EpochRecord>, LogError> {
        let epoch = self.tip(&mut *self.tip.lock().await).await?.epoch;
        Ok((epoch.epoch != Epoch(0)).then_some(epoch))
    }

    async fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, LogRecord)>, LogError> {
        read_records(&self.journal, from, limit).await
    }

    async fn subscribe(&self, from: Seq) -> Result<LogSubscription, LogError> {
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let mut grown = self.grown.subscribe();
        let journal = self.journal.clone();
        let mut next = from.max(Seq(1));
        let task = tokio::spawn(async move {
            loop {
                grown.mark_unchanged();
                let records = match read_records(&journal, next, READ_AHEAD).await {
                    Ok(records) => records,
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                };
                let caught_up = records.is_empty();
                for (seq, record) in records {
                    next = Seq(seq.0 + 1);
                    if sender.send(Ok((seq, record))).await.is_err() {
                        return;
                    }
                }
                // An error says that the log was dropped.
                if caught_up && grown.changed().await.is_err() {
                    return;
                }
            }
        });
        let guard = AbortOnDrop(task);
        Ok(LogSubscription::new(receiver, Box::new(guard)))
    }
}

/// Ends a task when its owner is dropped.
pub(crate) struct AbortOnDrop(pub(crate) tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
