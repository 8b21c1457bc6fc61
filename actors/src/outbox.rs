//! Messages to the bus from a shell that may not wait: sent in order by one task.

use bytes::Bytes;
use penstock_wire::trace::TraceParent;
use penstock_wire::{Bus, Message, encode};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Messages that wait for the bus at most, in number: two for each transaction of a full pool. Beyond that the bus
/// stands still, and what is lost is said again by its machine.
const CAPACITY: usize = 131_072;

/// A message that waits.
type Letter = (Arc<str>, Bytes, Option<TraceParent>);

/// Publishes in order. Cheap to clone. Ends when the last clone is dropped and all is sent.
#[derive(Clone, Debug)]
pub struct Outbox {
    sender: mpsc::Sender<Letter>,
}

impl Outbox {
    /// Starts the task. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(bus: Arc<dyn Bus>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<Letter>(CAPACITY);
        tokio::spawn(async move {
            while let Some((subject, payload, trace)) = receiver.recv().await {
                let sent = bus
                    .publish_traced(&subject, payload, trace.as_slice())
                    .await;
                if let Err(error) = sent {
                    debug!(%subject, %error, "message was not sent");
                }
            }
        });
        Self { sender }
    }

    /// Sends a message when it is its turn; drops it where too many wait. `trace`: whose transaction it serves.
    pub fn publish<M: Message>(
        &self,
        subject: &Arc<str>,
        message: &M,
        trace: impl Into<Option<TraceParent>>,
    ) {
        if self
            .sender
            .try_send((subject.clone(), encode(message), trace.into()))
            .is_err()
        {
            metrics::counter!("outbox_dropped_total").increment(1);
            warn!(%subject, "bus stands still, message dropped");
        }
    }
}
