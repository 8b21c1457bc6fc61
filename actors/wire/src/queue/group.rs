//! Group commit: many appends, one write.
//!
//! ```text
//!   append --\
//!   append ---+--> waiting --> [segment: up to 4,096 items] --one durable write--> each caller gets its positions
//!   append --/        ^                                        |
//!                     +---- what comes meanwhile waits <-------+
//! ```
//!
//! A durable write costs a sync of the disk, whatever its size: nats-server with `sync_interval: always` does about 600
//! a second, so one write per item would be the ceiling. One write is in flight at a time; what comes meanwhile is the
//! next one.
//!
//! An item's position is its segment's position and its index in it. A segment leaves the storage when all its items
//! were removed; which ones were is kept in memory alone, so after a restart an item of a segment that is not empty yet
//! comes again. Readers go by id, and a transaction that is in a block is known by its nonce.

use super::runs::Runs;
use super::{Queue, QueueError, QueueItem};
use crate::codec::{decode, encode};
use crate::memory::AbortOnDrop;
use crate::messages::QueueBatch;
use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use penstock_rules::ids::Seq;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;
use tokio::sync::{mpsc, oneshot};

/// Most items of a segment: the low bits of a position.
const SEGMENT_ITEMS_MAX: u64 = 4_096;

/// A segment is closed at this size, in bytes: half of nats-server's default `max_payload`, and large enough that the
/// sync of the disk, not the number of segments, is the limit.
const SEGMENT_BYTES_SOFT: usize = 512 << 10;

/// Bytes of a segment beside its items' own: header, count, and id and lengths for an item.
const OVERHEAD_BYTES: usize = 64;

/// Calls that wait for the writer at most. At 5,000 calls a second this is nearly a second of a stalled disk; beyond,
/// callers hear that the queue is busy instead of waiting longer than a client does.
const WAITING_MAX: usize = 4_096;

/// Segments read at a time. A segment can have 8 MB.
const READ_SEGMENTS: usize = 8;

const _: () = assert!(
    SEGMENT_BYTES_SOFT + OVERHEAD_BYTES < 1 << 20,
    "segments of small items fit nats-server's default max_payload"
);

/// A durable list of segments: what a backend brings.
#[async_trait]
pub(crate) trait Segments: Send + Sync + 'static {
    /// Largest segment, in bytes.
    fn bytes_max(&self) -> usize;
    /// Whether other processes append too.
    fn shared(&self) -> bool;
    /// Appends one, durably, and returns its position, from 1. On an error it may be there or not.
    async fn append(&self, segment: Bytes) -> Result<u64, String>;
    /// At most `limit` segments from a position on.
    async fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, String>;
    /// Removes segments. Unknown ones are ignored.
    async fn remove(&self, segments: Vec<u64>) -> Result<(), String>;
}

struct Call {
    items: Vec<(B256, Bytes)>,
    done: oneshot::Sender<Result<Vec<Seq>, QueueError>>,
}

/// A queue with group commit over a list of segments.
pub struct GroupQueue {
    name: Arc<str>,
    segments: Arc<dyn Segments>,
    calls: mpsc::Sender<Call>,
    /// Indices that are still wanted, of segments that this process has seen.
    wanted: Arc<Mutex<BTreeMap<u64, BTreeSet<u64>>>>,
    /// Segments that this process appended, where others do too.
    own: Arc<Mutex<Runs>>,
    _writer: AbortOnDrop,
}

impl std::fmt::Debug for GroupQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("GroupQueue")
            .field("name", &self.name)
            .finish()
    }
}

fn seq_of(segment: u64, index: u64) -> Seq {
    Seq(segment * SEGMENT_ITEMS_MAX + index)
}

fn split(seq: Seq) -> (u64, u64) {
    (seq.0 / SEGMENT_ITEMS_MAX, seq.0 % SEGMENT_ITEMS_MAX)
}

impl GroupQueue {
    /// Starts the writer over a backend's segments.
    pub(crate) fn start(name: &str, segments: impl Segments) -> Self {
        let (calls, receiver) = mpsc::channel(WAITING_MAX);
        let segments: Arc<dyn Segments> = Arc::new(segments);
        let name: Arc<str> = name.into();
        let (wanted, own) = (Arc::default(), Arc::default());
        let writer = Writer {
            name: name.clone(),
            segments: segments.clone(),
            wanted: Arc::clone(&wanted),
            own: Arc::clone(&own),
            calls: receiver,
            open: VecDeque::new(),
        };
        Self {
            name,
            segments,
            calls,
            wanted,
            own,
            _writer: AbortOnDrop(tokio::spawn(writer.run())),
        }
    }

    fn unreachable(&self, why: String) -> QueueError {
        QueueError::Unreachable {
            queue: self.name.to_string(),
            why,
        }
    }

    fn decode(&self, segment: u64, bytes: &[u8]) -> Result<QueueBatch, QueueError> {
        decode(bytes).map_err(|e| QueueError::Malformed {
            queue: self.name.to_string(),
            seq: seq_of(segment, 0),
            why: e.to_string(),
        })
    }

    /// At most `limit` items from a position on, and the position after them. `skip` gives the first segment from one on
    /// that is to be read.
    async fn items(
        &self,
        from: Seq,
        limit: usize,
        skip: impl Fn(u64) -> u64,
    ) -> Result<(Vec<QueueItem>, Seq), QueueError> {
        let mut next = from;
        let mut out = Vec::new();
        while out.len() < limit {
            let start = split(next).0.max(1);
            let segment = skip(start);
            if segment > start {
                next = seq_of(segment, 0);
            }
            let read = self.segments.read(segment, READ_SEGMENTS).await;
            let read = read.map_err(|why| self.unreachable(why))?;
            if read.is_empty() {
                break;
            }
            for (at, bytes) in read {
                if out.len() == limit || skip(at) > at {
                    break;
                }
                let batch = self.decode(at, &bytes)?;
                let count = batch.items.len() as u64;
                let wanted = {
                    let mut wanted = self.wanted.lock();
                    let wanted = wanted.entry(at).or_insert_with(|| (0..count).collect());
                    wanted.clone()
                };
                let (segment, index) = split(next);
                let first = if at == segment { index } else { 0 };
                next = seq_of(at + 1, 0);
                for (i, (id, bytes)) in (0..).zip(batch.items) {
                    if i < first || !wanted.contains(&i) {
                        continue;
                    }
                    let seq = seq_of(at, i);
                    if out.len() == limit {
                        next = seq;
                        break;
                    }
                    out.push(QueueItem {
                        seq,
                        id,
                        bytes: bytes.0,
                    });
                }
            }
        }
        Ok((out, next))
    }
}

/// A call whose items are not all written yet.
struct Open {
    items: VecDeque<(B256, Bytes)>,
    seqs: Vec<Seq>,
    done: oneshot::Sender<Result<Vec<Seq>, QueueError>>,
}

struct Writer {
    name: Arc<str>,
    segments: Arc<dyn Segments>,
    wanted: Arc<Mutex<BTreeMap<u64, BTreeSet<u64>>>>,
    own: Arc<Mutex<Runs>>,
    calls: mpsc::Receiver<Call>,
    open: VecDeque<Open>,
}

impl Writer {
    async fn run(mut self) {
        loop {
            if self.open.is_empty() {
                match self.calls.recv().await {
                    Some(call) => self.take(call),
                    None => return,
                }
            }
            while let Ok(call) = self.calls.try_recv() {
                self.take(call);
            }
            self.write().await;
        }
    }

    fn take(&mut self, call: Call) {
        self.open.push_back(Open {
            seqs: Vec::with_capacity(call.items.len()),
            items: call.items.into(),
            done: call.done,
        });
    }

    /// Writes one segment from the front of what waits, and answers the calls that are complete with it.
    async fn write(&mut self) {
        let mut batch = QueueBatch::default();
        // How many items each of the first calls has in this segment.
        let mut shares = Vec::new();
        let mut size = 0;
        'fill: for open in &self.open {
            let mut share = 0;
            for (id, bytes) in &open.items {
                let more = bytes.len() + OVERHEAD_BYTES;
                let full = batch.items.len() as u64 == SEGMENT_ITEMS_MAX
                    || (!batch.items.is_empty() && size + more > SEGMENT_BYTES_SOFT);
                if full {
                    shares.push(share);
                    break 'fill;
                }
                size += more;
                batch.items.push((*id, bytes.clone().into()));
                share += 1;
            }
            shares.push(share);
        }
        let count = batch.items.len() as u64;
        let written = match count {
            // Calls without items have nothing to wait for.
            0 => Ok(0),
            _ => self.segments.append(encode(&batch)).await,
        };
        metrics::histogram!("wire_queue_group_items", "queue" => self.name.to_string())
            .record(count as f64);
        if let (Ok(segment), 1..) = (&written, count) {
            self.wanted.lock().insert(*segment, (0..count).collect());
            if self.segments.shared() {
                self.own.lock().push(*segment);
            }
        }
        let mut index = 0;
        let mut unfinished = Vec::new();
        for share in shares {
            let Some(mut open) = self.open.pop_front() else {
                break;
            };
            match &written {
                Ok(segment) => {
                    open.items.drain(..share);
                    for _ in 0..share {
                        open.seqs.push(seq_of(*segment, index));
                        index += 1;
                    }
                    if open.items.is_empty() {
                        // A caller that went away does not need the answer.
                        let _ = open.done.send(Ok(open.seqs));
                    } else {
                        unfinished.push(open);
                    }
                }
                Err(_) if share == 0 && open.seqs.is_empty() && !open.items.is_empty() => {
                    unfinished.push(open);
                }
                Err(why) => {
                    let _ = open.done.send(Err(QueueError::Unknown {
                        queue: self.name.to_string(),
                        why: why.clone(),
                    }));
                }
            }
        }
        for open in unfinished.into_iter().rev() {
            self.open.push_front(open);
        }
    }
}

#[async_trait]
impl Queue for GroupQueue {
    async fn append(&self, items: Vec<(B256, Bytes)>) -> Result<Vec<Seq>, QueueError> {
        let limit = self.segments.bytes_max() - OVERHEAD_BYTES;
        if let Some((_, bytes)) = items.iter().find(|(_, bytes)| bytes.len() > limit) {
            return Err(QueueError::TooLarge {
                queue: self.name.to_string(),
                size: bytes.len(),
                limit,
            });
        }
        let (done, answer) = oneshot::channel();
        self.calls
            .try_send(Call { items, done })
            .map_err(|_| QueueError::Full(self.name.to_string()))?;
        answer.await.unwrap_or_else(|_| {
            Err(QueueError::Unknown {
                queue: self.name.to_string(),
                why: "the queue was closed".into(),
            })
        })
    }

    async fn replay(&self, from: Seq, limit: usize) -> Result<Vec<QueueItem>, QueueError> {
        let (items, _) = self.items(from, limit, |from| from).await?;
        Ok(items)
    }

    async fn others(&self, from: Seq, limit: usize) -> Result<(Vec<QueueItem>, Seq), QueueError> {
        if !self.segments.shared() {
            return Ok((Vec::new(), from));
        }
        self.items(from, limit, |from| self.own.lock().skip(from))
            .await
    }

    async fn remove(&self, seqs: &[Seq]) -> Result<(), QueueError> {
        let mut by_segment: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
        for seq in seqs {
            let (segment, index) = split(*seq);
            by_segment.entry(segment).or_default().push(index);
        }
        let mut empty = Vec::new();
        for (segment, indices) in by_segment {
            let known = self.wanted.lock().contains_key(&segment);
            if !known {
                // Another process appended it: how many items it has stands in it.
                let read = self.segments.read(segment.max(1), 1).await;
                let read = read.map_err(|why| self.unreachable(why))?;
                let Some((_, bytes)) = read.into_iter().find(|(at, _)| *at == segment) else {
                    continue;
                };
                let count = self.decode(segment, &bytes)?.items.len() as u64;
                let mut wanted = self.wanted.lock();
                wanted
                    .entry(segment)
                    .or_insert_with(|| (0..count).collect());
            }
            let mut all = self.wanted.lock();
            if let Some(wanted) = all.get_mut(&segment) {
                for index in indices {
                    wanted.remove(&index);
                }
                if wanted.is_empty() {
                    empty.push(segment);
                }
            }
        }
        if empty.is_empty() {
            return Ok(());
        }
        let removed = self.segments.remove(empty.clone()).await;
        removed.map_err(|why| self.unreachable(why))?;
        let mut wanted = self.wanted.lock();
        for segment in empty {
            wanted.remove(&segment);
        }
        Ok(())
    }
}
