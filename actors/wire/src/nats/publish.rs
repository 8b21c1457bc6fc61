//! A publish to a stream, and what is known when it is not acknowledged.

use super::Link;
use super::events::Denied;
use async_nats::jetstream::context::{PublishError, PublishErrorKind};
use async_nats::jetstream::message::PublishMessage;

/// Why a message was not acknowledged.
#[derive(Debug, thiserror::Error)]
pub(super) enum NotAcked {
    /// It is larger than the server takes: it was not sent.
    #[error("message is larger than the server takes")]
    TooLarge,
    /// This user may not: it was not taken.
    #[error("permission denied: {0}")]
    Denied(Denied),
    /// The server refused it. By what, only the log can tell: see [`super::log`].
    #[error("server refused it: {0}")]
    Refused(String),
    /// No answer: it may be stored or not.
    #[error("no answer: {0}")]
    Unknown(String),
}

impl From<PublishError> for NotAcked {
    fn from(error: PublishError) -> Self {
        let text = || {
            let source = std::error::Error::source(&error);
            source.map_or_else(|| error.to_string(), ToString::to_string)
        };
        match error.kind() {
            PublishErrorKind::MaxPayloadExceeded => Self::TooLarge,
            PublishErrorKind::TimedOut
            | PublishErrorKind::BrokenPipe
            // No responders: an election, most of the time.
            | PublishErrorKind::StreamNotFound
            | PublishErrorKind::MaxAckPending => Self::Unknown(error.to_string()),
            PublishErrorKind::WrongLastSequence
            | PublishErrorKind::WrongLastMessageId
            | PublishErrorKind::Other => Self::Refused(text()),
        }
    }
}

impl Link {
    /// Publishes to a stream, waits for the acknowledgement, and returns the message's position.
    ///
    /// When the connection is made anew meanwhile, the wait is over: an answer would have come on the old one.
    pub(super) async fn publish_acked(
        &self,
        subject: &str,
        message: PublishMessage,
    ) -> Result<u64, NotAcked> {
        let denied = Denied::Publish(subject.into());
        let reconnected = self.events.reconnected();
        let acked = async {
            let ack = self.jetstream.send_publish(subject.to_owned(), message);
            Ok(ack.await?.await?.sequence)
        };
        tokio::select! {
            biased;
            acked = acked => acked,
            () = self.events.wait(&denied) => Err(NotAcked::Denied(denied)),
            () = reconnected => Err(NotAcked::Unknown("connection was lost".into())),
        }
    }
}
