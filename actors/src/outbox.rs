//! Messages to the bus from a shell that may not wait: sent in order by one task.

use bytes::Bytes;
use penstock_wire::{Bus, Message, encode};
use std::sync::Arc;
use tokio::sync::mpsc;
use tracing::{debug, warn};

/// Messages that wait for the bus at most, in number: two for each transaction of a full pool. Beyond that the bus
/// stands still, and what is lost is said again by its machine.
const CAPACITY: usize = 131_072;

/// Publishes in order. Cheap to clone. Ends when the last clone is dropped and all is sent.
#[derive(Clone, Debug)]
pub struct Outbox {
    sender: mpsc::Sender<(Arc<str>, Bytes)>,
}

impl Outbox {
    /// Starts the task. Must be called inside a tokio runtime.
    #[must_use]
    pub fn start(bus: Arc<dyn Bus>) -> Self {
        let (sender, mut receiver) = mpsc::channel::<(Arc<str>, Bytes)>(CAPACITY);
        tokio::spawn(async move {
            while let Some((subject, payload)) = receiver.recv().await {
                if let Err(error) = bus.publish(&subject, payload).await {
                    debug!(%subject, %error, "message was not sent");
                }
            }
        });
        Self { sender }
    }

    /// Sends a message when it is its turn; drops it where too many wait.
    pub fn publish<M: Message>(&self, subject: &Arc<str>, message: &M) {
        if self
            .sender
            .try_send((subject.clone(), encode(message)))
            .is_err()
        {
            metrics::counter!("outbox_dropped_total").increment(1);
            warn!(%subject, "bus stands still, message dropped");
        }
    }
}
