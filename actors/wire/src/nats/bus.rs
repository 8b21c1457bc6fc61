//! The bus over core NATS.

use super::Link;
use super::events::Denied;
use crate::bus::{Bus, BusError, Delivery, Inbox, Offered, Subscription};
use crate::subjects::{is_pattern, is_subject};
use crate::trace::{TRACE_HEADER, TRACES_MAX, TraceParent};
use async_nats::{HeaderMap, RequestErrorKind, Subscriber};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::time::Duration;

/// Header of the reply that says: no room, the request was not seen.
const FULL_HEADER: &str = "Penstock-Full";

/// What headers take beside themselves, in bytes: `NATS/1.0`, and the empty line behind them.
const HEADERS_BYTES: usize = 12;

/// What a trace takes as a header, in bytes: name, colon and blank, value, end of line.
const TRACE_BYTES: usize = TRACE_HEADER.len() + 2 + 55 + 2;

/// Wait for the proof that a subscription is live, in ms: a round trip to the server, which may be connecting again.
const BARRIER_MS_MAX: u64 = 5_000;

/// After the proof, a denial may still be on its way through async-nats's event task. In ms: many turns of a runtime.
const DENIAL_MS: u64 = 10;

/// The bus over core NATS.
pub(super) struct NatsBus {
    link: Link,
}

impl NatsBus {
    pub(super) fn new(link: Link) -> Self {
        Self { link }
    }

    fn check(&self, subject: &str, payload: &Bytes) -> Result<(), BusError> {
        if !is_subject(subject) {
            return Err(BusError::Subject(subject.into()));
        }
        self.check_size(subject, payload)?;
        self.link.check_denied(&Denied::Publish(subject.into()))
    }

    fn check_size(&self, subject: &str, payload: &Bytes) -> Result<(), BusError> {
        let limit = self.link.client.max_payload();
        if payload.len() > limit {
            return Err(BusError::TooLarge {
                subject: subject.into(),
                size: payload.len(),
                limit,
            });
        }
        Ok(())
    }

    async fn join(
        &self,
        pattern: &str,
        group: Option<&str>,
        capacity: usize,
    ) -> Result<Subscription, BusError> {
        if !is_pattern(pattern) {
            return Err(BusError::Subject(pattern.into()));
        }
        let denied = Denied::Subscribe(pattern.into());
        self.link.check_denied(&denied)?;
        let client = &self.link.client;
        let subscriber = match group {
            Some(group) => {
                client
                    .queue_subscribe(pattern.to_owned(), group.into())
                    .await
            }
            None => client.subscribe(pattern.to_owned()).await,
        };
        let subscriber = subscriber.map_err(io)?;
        self.link.barrier().await?;
        let events = self.link.events.clone();
        let wait = Duration::from_millis(DENIAL_MS);
        if tokio::time::timeout(wait, events.wait(&denied))
            .await
            .is_ok()
        {
            return Err(BusError::Denied(denied.to_string()));
        }
        let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
        let (inbox, subscription) = Inbox::new(capacity, || Box::new(stop));
        let pump = Pump {
            link: self.link.clone(),
            pattern: pattern.into(),
            serves: group.is_some(),
            inbox,
        };
        tokio::spawn(pump.run(subscriber, denied, stopped));
        Ok(subscription)
    }
}

fn io(error: impl std::fmt::Display) -> BusError {
    BusError::Io(error.to_string())
}

/// Moves messages from async-nats into a bounded inbox. It never waits for the reader, so async-nats's own buffer,
/// which loses messages without saying how many, stays empty.
struct Pump {
    link: Link,
    pattern: String,
    serves: bool,
    inbox: Inbox,
}

impl Pump {
    async fn run(
        self,
        mut subscriber: Subscriber,
        denied: Denied,
        mut stopped: tokio::sync::oneshot::Receiver<()>,
    ) {
        let events = self.link.events.clone();
        let taken_away = events.wait(&denied);
        tokio::pin!(taken_away);
        loop {
            let message = tokio::select! {
                message = subscriber.next() => message,
                // After a reconnect to a server that allows less.
                () = &mut taken_away => None,
                // The reader dropped its end.
                _ = &mut stopped => None,
            };
            let Some(message) = message else {
                return;
            };
            let reply = message.reply;
            let delivery = Delivery {
                subject: message.subject.to_string(),
                payload: message.payload,
                reply: reply.as_ref().map(ToString::to_string),
                traces: traces_of(message.headers.as_ref()),
            };
            match self.inbox.offer(delivery) {
                Offered::Taken => {}
                Offered::Gone => return,
                Offered::Full => match reply {
                    Some(reply) if self.serves => {
                        let mut headers = HeaderMap::new();
                        headers.insert(FULL_HEADER, "1");
                        let client = &self.link.client;
                        let sent = client.publish_with_headers(reply, headers, Bytes::new());
                        if let Err(error) = sent.await {
                            tracing::debug!(%error, "could not say that the inbox is full");
                        }
                    }
                    _ => self.inbox.count_drop(&self.pattern),
                },
            }
        }
    }
}

impl Link {
    pub(super) fn check_denied(&self, denied: &Denied) -> Result<(), BusError> {
        match self.events.has(denied) {
            true => Err(BusError::Denied(denied.to_string())),
            false => Ok(()),
        }
    }

    /// Returns once the server has processed all that was sent before on this connection. Flushing does not do that;
    /// a message to oneself does, and unlike a request that nobody answers it works under a watcher of all subjects.
    pub(super) async fn barrier(&self) -> Result<(), BusError> {
        let subject = format!(
            "{}.{}",
            self.subjects.barrier(),
            self.client.new_inbox_token()
        );
        let mut echo = self.client.subscribe(subject.clone()).await.map_err(io)?;
        let sent = self.client.publish(subject.clone(), Bytes::new());
        sent.await.map_err(io)?;
        let (publish, subscribe) = (
            Denied::Publish(subject.clone()),
            Denied::Subscribe(subject.clone()),
        );
        tokio::select! {
            came = tokio::time::timeout(Duration::from_millis(BARRIER_MS_MAX), echo.next()) => {
                match came {
                    Ok(Some(_)) => Ok(()),
                    Ok(None) => Err(BusError::Closed),
                    Err(_) => Err(BusError::Io(format!(
                        "the server did not answer within {BARRIER_MS_MAX} ms"
                    ))),
                }
            }
            () = self.events.wait(&publish) => Err(BusError::Denied(publish.to_string())),
            () = self.events.wait(&subscribe) => Err(BusError::Denied(subscribe.to_string())),
        }
    }
}

/// The part of a new inbox name that no other has.
trait InboxToken {
    fn new_inbox_token(&self) -> String;
}

impl InboxToken for async_nats::Client {
    fn new_inbox_token(&self) -> String {
        let inbox = self.new_inbox();
        inbox.rsplit('.').next().unwrap_or_default().to_owned()
    }
}

#[async_trait]
impl Bus for NatsBus {
    async fn publish_traced(
        &self,
        subject: &str,
        payload: Bytes,
        traces: &[TraceParent],
    ) -> Result<(), BusError> {
        self.check(subject, &payload)?;
        let client = &self.link.client;
        let subject = subject.to_owned();
        // Headers count as payload, and a server ends the connection of who sends too much: the message comes first.
        let room = client.max_payload().saturating_sub(payload.len());
        let most = room.saturating_sub(HEADERS_BYTES) / TRACE_BYTES;
        let sent = match &traces[..traces.len().min(TRACES_MAX).min(most)] {
            [] => client.publish(subject, payload).await,
            traces => {
                let mut headers = HeaderMap::new();
                for trace in traces {
                    headers.append(TRACE_HEADER, trace.to_string());
                }
                client.publish_with_headers(subject, headers, payload).await
            }
        };
        sent.map_err(io)
    }

    async fn subscribe(&self, pattern: &str, capacity: usize) -> Result<Subscription, BusError> {
        self.join(pattern, None, capacity).await
    }

    async fn serve(
        &self,
        subject: &str,
        group: &str,
        capacity: usize,
    ) -> Result<Subscription, BusError> {
        if !is_subject(group) {
            return Err(BusError::Subject(group.into()));
        }
        self.join(subject, Some(group), capacity).await
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        self.check(subject, &payload)?;
        let request = async_nats::Request::new()
            .payload(payload)
            .timeout(Some(timeout));
        let denied = Denied::Publish(subject.into());
        let reply = tokio::select! {
            reply = self.link.client.send_request(subject.to_owned(), request) => reply,
            () = self.link.events.wait(&denied) => {
                return Err(BusError::Denied(denied.to_string()));
            }
        };
        match reply {
            Ok(message) if has_header(&message.headers) => Err(BusError::Full(subject.into())),
            Ok(message) => Ok(message.payload),
            Err(error) => Err(match error.kind() {
                RequestErrorKind::NoResponders => BusError::NoResponder(subject.into()),
                RequestErrorKind::TimedOut => BusError::Timeout {
                    subject: subject.into(),
                    waited: timeout,
                },
                _ => io(error),
            }),
        }
    }

    async fn reply(&self, delivery: &Delivery, payload: Bytes) -> Result<(), BusError> {
        let Some(reply) = &delivery.reply else {
            return Err(BusError::NotARequest(delivery.subject.clone()));
        };
        self.check_size(&delivery.subject, &payload)?;
        self.link.check_denied(&Denied::Publish(reply.clone()))?;
        let sent = self.link.client.publish(reply.clone(), payload);
        sent.await.map_err(io)
    }
}

/// Trace context that a message carries. What is malformed is nobody's concern but its sender's.
fn traces_of(headers: Option<&HeaderMap>) -> Vec<TraceParent> {
    let values = headers.map(|headers| headers.get_all(TRACE_HEADER));
    let parsed = values.into_iter().flatten();
    parsed
        .filter_map(|value| value.as_str().parse().ok())
        .take(TRACES_MAX)
        .collect()
}

fn has_header(headers: &Option<HeaderMap>) -> bool {
    headers
        .as_ref()
        .is_some_and(|headers| headers.get(FULL_HEADER).is_some())
}
