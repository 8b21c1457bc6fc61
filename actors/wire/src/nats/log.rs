//! The block log as a JetStream stream.
//!
//! ```text
//!   append = publish with three guards, which the server checks together:
//!     Nats-Expected-Last-Sequence                   nobody wrote since the caller read: one winner per position
//!     Nats-Expected-Last-Subject-Sequence           the last take-over is still the caller's: the fence
//!       (-Subject: the epoch subject)
//!     Nats-Msg-Id                                   a repetition is taken once
//! ```
//!
//! Anything but an acknowledgement says nothing about the log: a timed-out append may be in it, a rejected one may be
//! the repetition of one that is, and a leader that lost its majority rejects by what it never committed. So the entry
//! at the position is read from the leader: ours, another's, or none, and then the same bytes are tried again.
//!
//! Followers read by sequence from the leader, woken by a message after each append and by a timer. An ordered consumer
//! reads faster, and takes two missed heartbeats to notice that the server that held it died; reading has no state that
//! can die.

use super::publish::NotAcked;
use super::streams::Names;
use super::{Link, NatsConfig};
use crate::codec::{decode, encode};
use crate::log::{
    AppendError, BlockLog, EpochRecord, LogError, LogRecord, LogSubscription, READ_AHEAD,
    TakeOverError,
};
use crate::memory::AbortOnDrop;
use crate::messages::EpochClaim;
use alloy_primitives::{Address, B256, keccak256};
use async_nats::jetstream::message::{PublishMessage, StreamMessage};
use async_nats::jetstream::stream::{Info, RawMessageErrorKind, Stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use penstock_rules::ids::{Epoch, Height, Seq};
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;

/// Not among async-nats's constants: names the subject that the expected last subject sequence is of.
const EXPECTED_SUBJECT_HEADER: &str = "Nats-Expected-Last-Subject-Sequence-Subject";

const MESSAGE_ID_HEADER: &str = "Nats-Msg-Id";

/// Height of a block, for who looks at the stream with other tools.
const HEIGHT_HEADER: &str = "Penstock-Height";

/// Headers of an append, in bytes: the four above with their values, generously.
const HEADER_BYTES: usize = 1_024;

/// First and longest wait between two attempts, in ms. Losers must back off: two writers without did 13,883 rejections
/// for 100 heights.
const RETRY_MS: (u64, u64) = (10, 500);

/// Entries that are asked for at the same time. Eight blocks of 2 MB in base64 are 22 MB, below the 64 MiB at which the
/// server closes a slow connection.
const READS_IN_FLIGHT: usize = 8;

/// A follower looks at the log this often without being woken, in ms: the wake-up of a producer that died after its
/// append is lost.
const LOOK_MS: u64 = 250;

/// Wake-ups that wait. One is enough: the reader reads to the end.
const WAKE_MESSAGES: usize = 16;

/// The block log as a stream.
pub(super) struct NatsLog {
    inner: Arc<Inner>,
}

struct Inner {
    link: Link,
    stream: Stream<Info>,
    block: String,
    epoch: String,
    all: String,
    appended: String,
    settle: Duration,
}

/// What stands after a position.
enum Successor {
    Nothing,
    Block { seq: Seq, id: Option<String> },
    Epoch,
}

fn unreachable(error: impl std::fmt::Display) -> LogError {
    LogError::Unreachable(error.to_string())
}

impl NatsLog {
    pub(super) fn new(link: Link, stream: Stream<Info>, names: Names, config: &NatsConfig) -> Self {
        Self {
            inner: Arc::new(Inner {
                link,
                stream,
                block: names.block(),
                epoch: names.epoch(),
                all: names.log(),
                appended: names.appended(),
                settle: config.settle,
            }),
        }
    }
}

/// Waits that grow from try to try.
struct Backoff {
    wait_ms: u64,
}

impl Backoff {
    const fn new() -> Self {
        Self {
            wait_ms: RETRY_MS.0,
        }
    }

    async fn wait(&mut self) {
        // Two losers must not meet again: half of the wait is drawn.
        let half = self.wait_ms / 2;
        let ms = half + RandomState::new().hash_one(()) % (half + 1);
        tokio::time::sleep(Duration::from_millis(ms)).await;
        self.wait_ms = (self.wait_ms * 2).min(RETRY_MS.1);
    }
}

/// Runs tries for `limit`; what came of them is unknown then, and `last` says what the last one met.
async fn within<T, E>(
    limit: Duration,
    unknown: impl FnOnce(String) -> E,
    tries: impl AsyncFnOnce(&mut String) -> Result<T, E>,
) -> Result<T, E> {
    let mut last = "no answer".to_owned();
    match tokio::time::timeout(limit, tries(&mut last)).await {
        Ok(result) => result,
        Err(_) => Err(unknown(format!("{last}, for {limit:?}"))),
    }
}

impl Inner {
    fn record(&self, message: StreamMessage) -> Result<(Seq, LogRecord), LogError> {
        let seq = Seq(message.sequence);
        let malformed = |why: String| LogError::Malformed { seq, why };
        let subject = message.subject.as_str();
        if subject == self.block {
            Ok((seq, LogRecord::Block(message.payload)))
        } else if subject == self.epoch {
            let claim: EpochClaim =
                decode(&message.payload).map_err(|e| malformed(e.to_string()))?;
            let record = EpochRecord {
                epoch: Epoch(seq.0),
                producer: claim.producer,
            };
            Ok((seq, LogRecord::Epoch(record)))
        } else {
            Err(malformed(format!("subject {subject} is none of the log's")))
        }
    }

    /// The first entry at `from` or later, from the leader.
    async fn next(&self, from: Seq) -> Result<Option<StreamMessage>, LogError> {
        let found = self.stream.raw_message_builder();
        match found
            .sequence(from.0.max(1))
            .next_by_subject(&self.all)
            .send()
            .await
        {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreachable(error)),
        }
    }

    /// The last entry of a subject, from the leader.
    async fn newest(&self, subject: &str) -> Result<Option<StreamMessage>, LogError> {
        match self.stream.get_last_raw_message_by_subject(subject).await {
            Ok(message) => Ok(Some(message)),
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => Ok(None),
            Err(error) => Err(unreachable(error)),
        }
    }

    async fn claim(&self) -> Result<Option<(EpochRecord, EpochClaim)>, LogError> {
        let Some(message) = self.newest(&self.epoch).await? else {
            return Ok(None);
        };
        let seq = Seq(message.sequence);
        let claim: EpochClaim = decode(&message.payload).map_err(|e| LogError::Malformed {
            seq,
            why: e.to_string(),
        })?;
        let record = EpochRecord {
            epoch: Epoch(seq.0),
            producer: claim.producer,
        };
        Ok(Some((record, claim)))
    }

    async fn successor(&self, expected: Seq) -> Result<Successor, LogError> {
        let Some(message) = self.next(Seq(expected.0.saturating_add(1))).await? else {
            return Ok(Successor::Nothing);
        };
        if message.subject.as_str() != self.block {
            return Ok(Successor::Epoch);
        }
        let id = message.headers.get(MESSAGE_ID_HEADER);
        Ok(Successor::Block {
            seq: Seq(message.sequence),
            id: id.map(|id| id.as_str().to_owned()),
        })
    }

    /// What became of an append that was not acknowledged, as far as the leader can say: its position, or why it is
    /// lost. `Ok(None)`: it is not there, and may be tried again.
    async fn settle(
        &self,
        epoch: Epoch,
        id: &str,
        expected: Seq,
    ) -> Result<Option<Result<Seq, AppendError>>, LogError> {
        // The epoch first: an entry that is found after it was read can only be newer.
        let current = self.claim().await?.map(|(record, _)| record);
        let successor = self.successor(expected).await?;
        if let Successor::Block {
            seq,
            id: Some(theirs),
        } = &successor
            && theirs == id
        {
            return Ok(Some(Ok(*seq)));
        }
        match (current, successor) {
            (Some(record), _) if record.epoch != epoch => {
                Ok(Some(Err(AppendError::Fenced(record))))
            }
            (None, _) => Ok(Some(Err(AppendError::Fenced(EpochRecord {
                epoch: Epoch(0),
                producer: Address::ZERO,
            })))),
            (_, Successor::Block { seq, .. }) => Ok(Some(Err(AppendError::Lost(seq)))),
            // A take-over that came between the two reads: the next look sees it in both.
            (_, Successor::Epoch | Successor::Nothing) => Ok(None),
        }
    }

    /// Wakes followers. That it is lost costs them the wait for their own look.
    async fn wake(&self, seq: u64) {
        let payload = Bytes::copy_from_slice(&seq.to_be_bytes());
        let sent = self.link.client.publish(self.appended.clone(), payload);
        if let Err(error) = sent.await {
            tracing::debug!(%error, "could not wake followers");
        }
    }

    /// Entries from `from` on, asked for at the same time.
    async fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, LogRecord)>, LogError> {
        let mut out = Vec::new();
        let mut next = from.max(Seq(1));
        while out.len() < limit {
            let count = (limit - out.len()).min(READS_IN_FLIGHT) as u64;
            let reads = (next.0..next.0.saturating_add(count)).map(|seq| async move {
                let found = self.stream.raw_message_builder().sequence(seq).send().await;
                (seq, found)
            });
            let mut reads = futures::stream::iter(reads).buffered(READS_IN_FLIGHT);
            let mut missing = false;
            while let Some((_, found)) = reads.next().await {
                match found {
                    Ok(message) => {
                        next = Seq(message.sequence + 1);
                        out.push(self.record(message)?);
                    }
                    Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => {
                        missing = true;
                        break;
                    }
                    Err(error) => return Err(unreachable(error)),
                }
            }
            if missing {
                // The end, or a position that was never used: only a search can tell.
                match self.next(next).await? {
                    None => break,
                    Some(message) if message.sequence == next.0 => {}
                    Some(message) => next = Seq(message.sequence),
                }
            }
        }
        Ok(out)
    }

    /// Whether the stream is still the one that this node opened, and its last position.
    async fn look(&self) -> Result<Seq, LogError> {
        let info = self.stream.get_info().await.map_err(unreachable)?;
        let ours = self.stream.cached_info();
        if info.created != ours.created {
            return Err(LogError::Replaced(format!(
                "it was made at {}, not at {}",
                info.created, ours.created
            )));
        }
        Ok(Seq(info.state.last_sequence))
    }
}

#[async_trait]
impl BlockLog for NatsLog {
    async fn take_over(&self, producer: Address, seen: Epoch) -> Result<Epoch, TakeOverError> {
        let inner = &*self.inner;
        let claim = EpochClaim {
            producer,
            claim: keccak256(inner.link.client.new_inbox()),
        };
        let payload = encode(&claim);
        let id = claim.claim.to_string();
        within(inner.settle, TakeOverError::Unknown, async |last| {
            let mut backoff = Backoff::new();
            loop {
                let message = PublishMessage::build()
                    .payload(payload.clone())
                    .message_id(&id)
                    .expected_last_subject_sequence(seen.0);
                match inner.link.publish_acked(&inner.epoch, message).await {
                    Ok(seq) => {
                        inner.wake(seq).await;
                        return Ok(Epoch(seq));
                    }
                    Err(error @ NotAcked::Denied(_)) => {
                        return Err(TakeOverError::Unknown(error.to_string()));
                    }
                    Err(error) => *last = error.to_string(),
                }
                tracing::info!(why = %last, "take-over was not acknowledged, looking at the log");
                match inner.claim().await {
                    Ok(Some((record, theirs))) if theirs == claim => return Ok(record.epoch),
                    Ok(Some((record, _))) if record.epoch != seen => {
                        return Err(TakeOverError::Lost(record));
                    }
                    Ok(_) => {}
                    Err(error) => tracing::info!(%error, "the log can't be read now"),
                }
                backoff.wait().await;
            }
        })
        .await
    }

    async fn append(
        &self,
        epoch: Epoch,
        height: Height,
        id: B256,
        expected: Seq,
        bytes: Bytes,
    ) -> Result<Seq, AppendError> {
        let inner = &*self.inner;
        let limit = inner.link.client.max_payload().saturating_sub(HEADER_BYTES);
        let size = bytes.len();
        if size > limit {
            return Err(AppendError::TooLarge { size, limit });
        }
        // With the epoch: another producer's equal block, as empty ones are, is not ours. The server drops repetitions by id
        // before it looks at the epoch.
        let id = format!("{id}:{epoch}");
        within(inner.settle, AppendError::Unknown, async |last| {
            let mut backoff = Backoff::new();
            loop {
                let message = PublishMessage::build()
                    .payload(bytes.clone())
                    .message_id(&id)
                    .header(HEIGHT_HEADER, height.to_string())
                    .expected_last_sequence(expected.0)
                    .expected_last_subject_sequence(epoch.0)
                    .header(EXPECTED_SUBJECT_HEADER, inner.epoch.as_str());
                match inner.link.publish_acked(&inner.block, message).await {
                    Ok(seq) => {
                        inner.wake(seq).await;
                        return Ok(Seq(seq));
                    }
                    Err(NotAcked::TooLarge) => return Err(AppendError::TooLarge { size, limit }),
                    Err(error @ NotAcked::Denied(_)) => {
                        return Err(AppendError::Unknown(error.to_string()));
                    }
                    Err(error) => *last = error.to_string(),
                }
                tracing::info!(%height, why = %last, "append was not acknowledged, looking at the log");
                match inner.settle(epoch, &id, expected).await {
                    Ok(Some(settled)) => return settled,
                    Ok(None) => {}
                    Err(error) => tracing::info!(%height, %error, "the log can't be read now"),
                }
                backoff.wait().await;
            }
        })
        .await
    }

    async fn head(&self) -> Result<Option<(Seq, Bytes)>, LogError> {
        let head = self.inner.newest(&self.inner.block).await?;
        Ok(head.map(|message| (Seq(message.sequence), message.payload)))
    }

    async fn last(&self) -> Result<Seq, LogError> {
        self.inner.look().await
    }

    async fn epoch(&self) -> Result<Option<EpochRecord>, LogError> {
        Ok(self.inner.claim().await?.map(|(record, _)| record))
    }

    async fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, LogRecord)>, LogError> {
        self.inner.read(from, limit).await
    }

    async fn subscribe(&self, from: Seq) -> Result<LogSubscription, LogError> {
        let inner = self.inner.clone();
        let (sender, receiver) = mpsc::channel(READ_AHEAD);
        let client = &inner.link.client;
        let wakes = client.subscribe(inner.appended.clone()).await;
        let mut wakes = wakes.map_err(unreachable)?.ready_chunks(WAKE_MESSAGES);
        let task = tokio::spawn(async move {
            let mut next = from.max(Seq(1));
            loop {
                let read = tokio::select! {
                    biased;
                    read = inner.read(next, READ_AHEAD) => read,
                    // An answer would have come on the old connection.
                    () = inner.link.events.reconnected() => continue,
                };
                match read {
                    Ok(records) if !records.is_empty() => {
                        for (seq, record) in records {
                            next = Seq(seq.0 + 1);
                            if sender.send(Ok((seq, record))).await.is_err() {
                                return;
                            }
                        }
                        continue;
                    }
                    Ok(_) => {}
                    Err(LogError::Unreachable(why)) => {
                        tracing::info!(why, "block log is not reachable, trying on");
                    }
                    Err(error) => {
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
                let look = Duration::from_millis(LOOK_MS);
                let woken = tokio::time::timeout(look, wakes.next()).await;
                if matches!(woken, Ok(None)) {
                    // The client is closed for good: nothing can be read any more.
                    return;
                }
                if woken.is_err() {
                    // Nobody woke us: see that the log is still the same, and no shorter than what was read.
                    let last = match inner.look().await {
                        Ok(last) => last,
                        Err(LogError::Unreachable(_)) => continue,
                        Err(error) => {
                            let _ = sender.send(Err(error)).await;
                            return;
                        }
                    };
                    if last.0 + 1 < next.0 {
                        let error = LogError::Replaced(format!(
                            "it ends at {last}, and {} was read before",
                            next.0 - 1
                        ));
                        let _ = sender.send(Err(error)).await;
                        return;
                    }
                }
                if sender.is_closed() {
                    return;
                }
            }
        });
        Ok(LogSubscription::new(receiver, Box::new(AbortOnDrop(task))))
    }
}
