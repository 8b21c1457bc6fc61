//! Segments of a queue as messages of a stream.

use super::publish::NotAcked;
use super::streams;
use super::{Link, NatsConfig, NatsError};
use crate::queue::Segments;
use async_nats::jetstream::message::PublishMessage;
use async_nats::jetstream::stream::{Config, Info, RawMessageErrorKind, Stream};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use std::time::{Duration, Instant};

/// Room for headers in a message, in bytes: message id and its name take 80.
const HEADER_BYTES: usize = 512;

/// Deletions in flight. One is a round trip; more would crowd out appends.
const DELETES_MAX: usize = 32;

/// Waits between attempts, in ms.
const RETRY_MS: (u64, u64) = (20, 1_000);

/// A stream of segments.
pub(super) struct NatsSegments {
    link: Link,
    stream: Stream<Info>,
    subject: String,
    settle: Duration,
}

impl NatsSegments {
    pub(super) async fn open(
        link: &Link,
        config: &NatsConfig,
        wanted: Config,
    ) -> Result<Self, NatsError> {
        let subject = wanted.subjects.first().cloned().unwrap_or_default();
        Ok(Self {
            link: link.clone(),
            stream: streams::ensure(link, config, wanted).await?,
            subject,
            settle: config.settle,
        })
    }

    fn name(&self) -> &str {
        &self.stream.cached_info().config.name
    }
}

#[async_trait]
impl Segments for NatsSegments {
    fn bytes_max(&self) -> usize {
        self.link.client.max_payload().saturating_sub(HEADER_BYTES)
    }

    fn shared(&self) -> bool {
        true
    }

    async fn append(&self, segment: Bytes) -> Result<u64, String> {
        // The id is this attempt's own: with it a repetition is taken once, and an equal segment that comes later is
        // not taken for a repetition.
        let id = self.link.client.new_inbox();
        let deadline = Instant::now() + self.settle;
        let mut wait = RETRY_MS.0;
        loop {
            let message = PublishMessage::build()
                .payload(segment.clone())
                .message_id(&id);
            let error = match self.link.publish_acked(&self.subject, message).await {
                Ok(seq) => return Ok(seq),
                Err(error) => error,
            };
            let retry = matches!(error, NotAcked::Unknown(_));
            if !retry || Instant::now() > deadline {
                return Err(error.to_string());
            }
            tracing::info!(stream = self.name(), %error, "append is repeated");
            tokio::time::sleep(Duration::from_millis(wait)).await;
            wait = (wait * 2).min(RETRY_MS.1);
        }
    }

    async fn read(&self, from: u64, limit: usize) -> Result<Vec<(u64, Bytes)>, String> {
        let mut out = Vec::new();
        let mut next = from;
        while out.len() < limit {
            let found = self.stream.raw_message_builder();
            let found = found.sequence(next).next_by_subject(&self.subject);
            match found.send().await {
                Ok(message) => {
                    next = message.sequence + 1;
                    out.push((message.sequence, message.payload));
                }
                Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => break,
                Err(error) => return Err(error.to_string()),
            }
        }
        Ok(out)
    }

    async fn remove(&self, segments: Vec<u64>) -> Result<(), String> {
        let api = format!("STREAM.MSG.DELETE.{}", self.name());
        let deletes = futures::stream::iter(segments).map(|seq| {
            // Without overwriting its bytes: nothing in a queue is secret, and that is a seek and a sync.
            let request = serde_json::json!({ "seq": seq, "no_erase": true });
            let api = api.clone();
            async move {
                let jetstream = &self.link.jetstream;
                // An unknown position is an error of the API, and none of the queue's.
                let answer: Result<serde_json::Value, _> = jetstream.request(api, &request).await;
                answer.map(drop).map_err(|e| e.to_string())
            }
        });
        let mut deletes = deletes.buffer_unordered(DELETES_MAX);
        while let Some(deleted) = deletes.next().await {
            deleted?;
        }
        Ok(())
    }
}
