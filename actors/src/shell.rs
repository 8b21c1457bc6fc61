//! What all shells share: the clock, and sending without waiting.

use actix::dev::ToEnvelope;
use actix::{Actor, Addr, Context, Handler, Message};
use penstock_rules::ids::Micros;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
