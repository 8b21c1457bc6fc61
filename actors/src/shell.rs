//! What all shells share: the clock, and sending without waiting.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use bytes::Bytes;
use penstock_rules::ids::Micros;
use penstock_wire::trace::TraceParent;
use penstock_wire::{Bus, BusError, Subscription};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tracing::warn;

/// The time that machines are told: µs since the Unix epoch.
///
/// It is the wall clock, since the slot timetable of all machines of a devnet hangs on it.
#[must_use]
pub fn now() -> Micros {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or(Duration::ZERO);
    Micros(u64::try_from(since.as_micros()).unwrap_or(u64::MAX))
}

/// How long from now until `at`; nothing where it has passed.
#[must_use]
pub fn until(at: Micros) -> Duration {
    Duration::from_micros(at.saturating_sub(now()).0)
}

/// A message that was not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotTaken {
    /// The mailbox is full: the caller is told "busy".
    #[error("mailbox is full")]
    Full,
    /// The actor is gone, which only happens while the process ends.
    #[error("actor is gone")]
    Gone,
}

/// Puts a message in an actor's mailbox if there is room. Shells use this alone: `do_send` ignores the capacity.
///
/// # Errors
/// Where there is no room, or no actor.
pub fn offer<A, M>(to: &Addr<A>, message: M) -> Result<(), NotTaken>
where
    A: Actor + Handler<M>,
    A::Context: ToEnvelope<A, M>,
    M: Message + Send + 'static,
    M::Result: Send,
{
    to.try_send(message).map_err(|e| match e {
        actix::prelude::SendError::Full(_) => NotTaken::Full,
        actix::prelude::SendError::Closed(_) => NotTaken::Gone,
    })
}

/// Pause before a subscription is tried again.
const LISTEN_RETRY: Duration = Duration::from_millis(250);

/// Subscribes to `what`, however long the bus is away: a machine that is cut off takes over what it no longer hears, and
/// gives it back when it is there again.
///
/// # Panics
/// Where no repetition would help: the pattern is malformed or forbidden, or the bus closed.
pub async fn listen<F>(what: &str, mut subscribe: impl FnMut() -> F) -> Subscription
where
    F: Future<Output = Result<Subscription, BusError>>,
{
    loop {
        match subscribe().await {
            Ok(inbox) => return inbox,
            Err(error) if error.is_transient() => {
                warn!(what, %error, "can't subscribe yet");
                tokio::time::sleep(LISTEN_RETRY).await;
            }
            Err(error) => panic!("can't subscribe to {what}: {error}"),
        }
    }
}

/// Publishes with the trace context of the transactions that the message serves. What is not sent is said again by its
/// machine.
pub(crate) async fn send(
    bus: Arc<dyn Bus>,
    subject: String,
    payload: Bytes,
    traces: Vec<TraceParent>,
) {
    if let Err(error) = bus.publish_traced(&subject, payload, &traces).await {
        warn!(subject, %error, "message was not sent");
    }
}

/// Asks an actor to end. It takes no more messages; what it has under way is finished or left, as its kind allows.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub struct Stop;

/// Stops an actor and waits until it has ended.
pub async fn stop<A>(actor: &Addr<A>)
where
    A: Actor<Context = Context<A>> + Handler<Stop>,
{
    // Gone already is as good.
    let _ = actor.send(Stop).await;
    while actor.connected() {
        tokio::time::sleep(STOP_POLL).await;
    }
}

/// Pause between two looks whether an actor has ended.
const STOP_POLL: Duration = Duration::from_millis(2);

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_wire::memory;

    /// A node that was cut off for longer than a subscription waits ended, and so did its standby after it.
    #[tokio::test]
    async fn a_bus_that_is_away_is_waited_for() {
        let bus = memory::volatile().await.expect("a transport").bus;
        let mut tries = 0;
        let mut inbox = listen("news", || {
            tries += 1;
            let (bus, away) = (bus.clone(), tries < 3);
            async move {
                match away {
                    true => Err(BusError::Io("no server".into())),
                    false => bus.subscribe("news", 1).await,
                }
            }
        })
        .await;
        bus.publish("news", "hello".into()).await.expect("sent");
        let heard = inbox.next().await.expect("a message");
        assert_eq!(&heard.payload[..], b"hello");
    }

    #[tokio::test]
    #[should_panic(expected = "permission denied: news")]
    async fn what_is_forbidden_is_not_tried_again() {
        listen("news", || async { Err(BusError::Denied("news".into())) }).await;
    }
}
