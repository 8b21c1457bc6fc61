//! The bus: publish, subscribe, request.
//!
//! **Absent on purpose:** delivery guarantees. A message may be lost, doubled and late; machines repeat what matters.

use crate::trace::TraceParent;
use async_trait::async_trait;
use bytes::Bytes;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::mpsc;

/// Why the bus did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BusError {
    /// Nobody serves this subject now.
    #[error("no responder for {0}")]
    NoResponder(String),
    /// No reply came in time. Whether the request was handled is unknown.
    #[error("no reply from {subject} within {waited:?}")]
    Timeout {
        /// Where the request went.
        subject: String,
        /// How long the caller waited.
        waited: Duration,
    },
    /// Who serves this subject has no room: it did not see the request. Try again later.
    #[error("{0} is busy")]
    Full(String),
    /// The bus was closed.
    #[error("bus is closed")]
    Closed,
    /// This is no subject, or no pattern, or a pattern where a subject is needed.
    #[error("malformed subject {0:?}")]
    Subject(String),
    /// The message is larger than the bus carries.
    #[error("message of {size} bytes for {subject} is larger than the bus carries: {limit} bytes")]
    TooLarge {
        /// Where it was to go.
        subject: String,
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
    /// The server forbids it to this user.
    #[error("permission denied: {0}")]
    Denied(String),
    /// A delivery that is no request can't be replied to.
    #[error("{0} came without a reply address")]
    NotARequest(String),
    /// The connection failed.
    #[error("bus failed: {0}")]
    Io(String),
}

impl BusError {
    /// Whether the same call may succeed later without anybody changing anything.
    #[must_use]
    pub const fn is_transient(&self) -> bool {
        matches!(
            self,
            Self::NoResponder(_) | Self::Timeout { .. } | Self::Full(_) | Self::Io(_)
        )
    }
}

/// A message that came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Delivery {
    /// Where it was published to.
    pub subject: String,
    /// What was published.
    pub payload: Bytes,
    /// Where an answer goes, if one is waited for. Opaque: for [`Bus::reply`].
    pub reply: Option<String>,
    /// Whose transactions it serves, as its sender says.
    pub traces: Vec<TraceParent>,
}

/// A bounded inbox. Dropping it ends the subscription.
pub struct Subscription {
    receiver: mpsc::Receiver<Delivery>,
    dropped: Arc<AtomicU64>,
    _guard: Box<dyn std::any::Any + Send + Sync>,
}

impl std::fmt::Debug for Subscription {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Subscription")
            .field("waiting", &self.receiver.len())
            .field("dropped", &self.dropped())
            .finish()
    }
}

impl Subscription {
    /// The next message; `None` once the bus was closed, or the server took the subscription away.
    pub async fn next(&mut self) -> Option<Delivery> {
        self.receiver.recv().await
    }

    /// A message that waits already.
    pub fn try_next(&mut self) -> Option<Delivery> {
        self.receiver.try_recv().ok()
    }

    /// How many messages were lost because this inbox was full: always the newest. Also the counter
    /// `wire_bus_dropped_total`.
    #[must_use]
    pub fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

/// The sending end of a [`Subscription`], for backends.
#[derive(Clone)]
pub(crate) struct Inbox {
    sender: mpsc::Sender<Delivery>,
    dropped: Arc<AtomicU64>,
}

impl Inbox {
    /// An inbox of at least one place, and what its reader holds. `guard` lives as long as the subscription.
    pub(crate) fn new(
        capacity: usize,
        guard: impl FnOnce() -> Box<dyn std::any::Any + Send + Sync>,
    ) -> (Self, Subscription) {
        let (sender, receiver) = mpsc::channel(capacity.max(1));
        let dropped = Arc::new(AtomicU64::new(0));
        let inbox = Self {
            sender,
            dropped: dropped.clone(),
        };
        let subscription = Subscription {
            receiver,
            dropped,
            _guard: guard(),
        };
        (inbox, subscription)
    }

    /// Puts a message in where there is room. Never waits: a slow reader must not slow others.
    pub(crate) fn offer(&self, delivery: Delivery) -> Offered {
        match self.sender.try_send(delivery) {
            Ok(()) => Offered::Taken,
            Err(mpsc::error::TrySendError::Closed(_)) => Offered::Gone,
            Err(mpsc::error::TrySendError::Full(_)) => Offered::Full,
        }
    }

    /// Counts a message that is lost because there was no room.
    pub(crate) fn count_drop(&self, pattern: &str) {
        let before = self.dropped.fetch_add(1, Ordering::Relaxed);
        metrics::counter!("wire_bus_dropped_total", "subject" => pattern.to_owned()).increment(1);
        // The first, and then each time the number doubles: a flood must not flood the log too.
        if (before + 1).is_power_of_two() {
            tracing::warn!(
                subject = pattern,
                dropped = before + 1,
                "subscriber is slow, newest messages are lost"
            );
        }
    }
}

/// What became of an offered message.
pub(crate) enum Offered {
    Taken,
    Full,
    Gone,
}

/// Publish, subscribe, request.
///
/// A subscriber whose inbox is full loses the newest messages; that is counted, and never slows the publisher. A
/// request to a full server comes back as [`BusError::Full`].
#[async_trait]
pub trait Bus: Send + Sync + 'static {
    /// Sends to all subscriptions that match, and to one member of each queue group. Nobody there is no error.
    ///
    /// # Errors
    /// Where the message is too large, the subject malformed or forbidden, or the bus closed. That it was sent does
    /// not say that it arrives.
    async fn publish(&self, subject: &str, payload: Bytes) -> Result<(), BusError> {
        self.publish_traced(subject, payload, &[]).await
    }

    /// As [`Bus::publish`], with the trace context of the transactions that the message serves: the first
    /// [`TRACES_MAX`](crate::trace::TRACES_MAX) travel, fewer where a large message leaves no room for them.
    ///
    /// # Errors
    /// As [`Bus::publish`].
    async fn publish_traced(
        &self,
        subject: &str,
        payload: Bytes,
        traces: &[TraceParent],
    ) -> Result<(), BusError>;

    /// Subscribes to all subjects that match `pattern` (`*` one token, `>` the rest), with room for `capacity`
    /// messages.
    ///
    /// What is published after this returned is delivered: the subscription is live then, on the server that this
    /// process is connected to.
    ///
    /// # Errors
    /// Where the pattern is malformed or forbidden, or the bus closed.
    async fn subscribe(&self, pattern: &str, capacity: usize) -> Result<Subscription, BusError>;

    /// As [`Bus::subscribe`], as one of a queue group: each message goes to one member.
    ///
    /// # Errors
    /// As [`Bus::subscribe`].
    async fn serve(
        &self,
        subject: &str,
        group: &str,
        capacity: usize,
    ) -> Result<Subscription, BusError>;

    /// Sends and waits for the first reply.
    ///
    /// # Errors
    /// [`BusError::NoResponder`] at once where nobody serves; [`BusError::Full`] where nobody has room;
    /// [`BusError::Timeout`] where it is unknown whether the request was handled.
    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError>;

    /// Answers a request. That nobody waits any more is no error.
    ///
    /// # Errors
    /// Where the delivery was no request, the answer is too large, or the bus closed.
    async fn reply(&self, delivery: &Delivery, payload: Bytes) -> Result<(), BusError>;
}
