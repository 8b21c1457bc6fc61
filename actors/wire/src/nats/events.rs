//! What the server forbade, and when the connection came back.
//!
//! async-nats hides it: a forbidden publish returns `Ok`, a forbidden request takes its whole timeout, and a forbidden
//! subscription stays silent for ever. The server does say so, in an event beside the calls; here these are kept, and
//! who waits looks here.

use async_nats::{Event, ServerError};
use std::collections::BTreeSet;
use std::sync::Arc;
use tokio::sync::watch;

/// What was denied.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Denied {
    Publish(String),
    Subscribe(String),
}

impl std::fmt::Display for Denied {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Publish(subject) => write!(f, "publish to {subject}"),
            Self::Subscribe(subject) => write!(f, "subscribe to {subject}"),
        }
    }
}

/// What one connection says beside the calls. Clones are one.
#[derive(Clone)]
pub(super) struct Events {
    denied: Arc<watch::Sender<BTreeSet<Denied>>>,
    /// How often it was made.
    connected: Arc<watch::Sender<u64>>,
}

impl Default for Events {
    fn default() -> Self {
        Self {
            denied: Arc::new(watch::Sender::new(BTreeSet::new())),
            connected: Arc::new(watch::Sender::new(0)),
        }
    }
}

/// Reads `Permissions Violation for Publish to "x"` and `... for Subscription to "x" using queue "q"`.
fn parse(text: &str) -> Option<Denied> {
    let lower = text.to_ascii_lowercase();
    if !lower.contains("permissions violation") {
        return None;
    }
    let subject = text.split('"').nth(1)?.to_owned();
    Some(match lower.contains("subscription") {
        true => Denied::Subscribe(subject),
        false => Denied::Publish(subject),
    })
}

impl Events {
    /// Takes an event of the connection.
    pub(super) fn see(&self, event: &Event) {
        if let Event::Connected = event {
            self.connected.send_modify(|count| *count += 1);
        }
        if let Event::ServerError(ServerError::Other(text)) = event
            && let Some(denied) = parse(text)
        {
            tracing::error!(%denied, "the server denies permission");
            metrics::counter!("wire_nats_denied_total").increment(1);
            self.denied.send_modify(|seen| {
                seen.insert(denied);
            });
        }
    }

    /// Returns once the connection was made anew after this call: what was sent before and is not answered never will
    /// be.
    pub(super) async fn reconnected(&self) {
        let mut connected = self.connected.subscribe();
        if connected.changed().await.is_err() {
            std::future::pending::<()>().await;
        }
    }

    /// Whether this was denied.
    pub(super) fn has(&self, denied: &Denied) -> bool {
        self.denied.borrow().contains(denied)
    }

    /// Returns once this is denied: for ever, where it is not.
    pub(super) async fn wait(&self, denied: &Denied) {
        let mut seen = self.denied.subscribe();
        if seen.wait_for(|seen| seen.contains(denied)).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words_are_understood() {
        for (text, expect) in [
            (
                "Permissions Violation for Publish to \"a.b\"",
                Some(Denied::Publish("a.b".into())),
            ),
            (
                "Permissions Violation for Subscription to \"a.>\"",
                Some(Denied::Subscribe("a.>".into())),
            ),
            (
                "Permissions Violation for Subscription to \"a\" using queue \"q\"",
                Some(Denied::Subscribe("a".into())),
            ),
            ("Stale Connection", None),
        ] {
            assert_eq!(parse(text), expect, "{text}");
        }
    }
}
