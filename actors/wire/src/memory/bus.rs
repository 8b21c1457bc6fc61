//! The bus within one process.

use crate::bus::{Bus, BusError, Delivery, Inbox, Offered, Subscription};
use crate::codec::MESSAGE_BYTES_MAX;
use crate::subjects::{is_pattern, is_subject, matches};
use crate::trace::{TRACES_MAX, TraceParent};
use async_trait::async_trait;
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Weak};
use std::time::Duration;
use tokio::sync::oneshot;

/// A bus within one process. Clones are one bus.
#[derive(Clone, Default)]
pub struct MemoryBus {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Default)]
struct Inner {
    next_id: u64,
    /// Subscriptions without a wildcard, by subject: nearly all, and found without a scan.
    literal: HashMap<String, BTreeMap<u64, Member>>,
    /// Subscriptions with a wildcard.
    wild: BTreeMap<u64, Member>,
    /// Who waits for a reply, by the number in its reply address.
    waiting: HashMap<u64, oneshot::Sender<Bytes>>,
    /// Turns of queue groups: grows with each message to one.
    turn: usize,
}

#[derive(Clone)]
struct Member {
    pattern: String,
    group: Option<String>,
    inbox: Inbox,
}

/// What became of a message.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Reach {
    Nobody,
    AllFull,
    Somebody,
}

const REPLY_PREFIX: &str = "_INBOX.";

impl std::fmt::Debug for MemoryBus {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MemoryBus")
    }
}

impl MemoryBus {
    /// A bus with nobody on it.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn join(
        &self,
        pattern: &str,
        group: Option<&str>,
        capacity: usize,
    ) -> Result<Subscription, BusError> {
        if !is_pattern(pattern) {
            return Err(BusError::Subject(pattern.into()));
        }
        let mut inner = self.inner.lock();
        inner.next_id += 1;
        let id = inner.next_id;
        let guard = Guard {
            inner: Arc::downgrade(&self.inner),
            pattern: pattern.into(),
            id,
        };
        let (inbox, subscription) = Inbox::new(capacity, || Box::new(guard));
        let member = Member {
            pattern: pattern.into(),
            group: group.map(Into::into),
            inbox,
        };
        let members = if is_subject(pattern) {
            inner.literal.entry(pattern.into()).or_default()
        } else {
            &mut inner.wild
        };
        members.insert(id, member);
        Ok(subscription)
    }
}

/// Ends a subscription when its reader drops it.
struct Guard {
    inner: Weak<Mutex<Inner>>,
    pattern: String,
    id: u64,
}

impl Drop for Guard {
    fn drop(&mut self) {
        let Some(inner) = self.inner.upgrade() else {
            return;
        };
        let mut inner = inner.lock();
        if let Some(members) = inner.literal.get_mut(&self.pattern) {
            members.remove(&self.id);
            if members.is_empty() {
                inner.literal.remove(&self.pattern);
            }
        }
        inner.wild.remove(&self.id);
    }
}

impl Inner {
    /// Offers to every lone subscription, and in each queue group to members in turn until one takes it.
    ///
    /// A message that nobody has room for is counted as lost, unless it is a request: its sender is told.
    fn deliver(&mut self, delivery: &Delivery) -> Reach {
        self.turn = self.turn.wrapping_add(1);
        let turn = self.turn;
        let mut reach = Reach::Nobody;
        let mut groups: BTreeMap<&str, Vec<&Member>> = BTreeMap::new();
        let lone = self.literal.get(&delivery.subject);
        let lone = lone.into_iter().flat_map(BTreeMap::values);
        let wild = self.wild.values();
        let wild = wild.filter(|member| matches(&member.pattern, &delivery.subject));
        let mut offer = |members: &[&Member]| {
            let count = members.len();
            let mut full = None;
            for i in 0..count {
                let member = members[(turn + i) % count];
                match member.inbox.offer(delivery.clone()) {
                    Offered::Taken => {
                        reach = Reach::Somebody;
                        return;
                    }
                    Offered::Full => full = full.or(Some(member)),
                    Offered::Gone => {}
                }
            }
            if let Some(member) = full {
                if reach == Reach::Nobody {
                    reach = Reach::AllFull;
                }
                if delivery.reply.is_none() {
                    member.inbox.count_drop(&member.pattern);
                }
            }
        };
        for member in lone.chain(wild) {
            match &member.group {
                Some(group) => groups.entry(group).or_default().push(member),
                None => offer(&[member]),
            }
        }
        for members in groups.values() {
            offer(members);
        }
        reach
    }
}

fn check(subject: &str, payload: &Bytes) -> Result<(), BusError> {
    if !is_subject(subject) {
        return Err(BusError::Subject(subject.into()));
    }
    if payload.len() > MESSAGE_BYTES_MAX {
        return Err(BusError::TooLarge {
            subject: subject.into(),
            size: payload.len(),
            limit: MESSAGE_BYTES_MAX,
        });
    }
    Ok(())
}

#[async_trait]
impl Bus for MemoryBus {
    async fn publish_traced(
        &self,
        subject: &str,
        payload: Bytes,
        traces: &[TraceParent],
    ) -> Result<(), BusError> {
        check(subject, &payload)?;
        self.inner.lock().deliver(&Delivery {
            subject: subject.into(),
            payload,
            reply: None,
            traces: traces.iter().copied().take(TRACES_MAX).collect(),
        });
        Ok(())
    }

    async fn subscribe(&self, pattern: &str, capacity: usize) -> Result<Subscription, BusError> {
        self.join(pattern, None, capacity)
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
        self.join(subject, Some(group), capacity)
    }

    async fn request(
        &self,
        subject: &str,
        payload: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, BusError> {
        check(subject, &payload)?;
        let (sender, receiver) = oneshot::channel();
        let waiter = {
            let mut inner = self.inner.lock();
            inner.next_id += 1;
            let id = inner.next_id;
            inner.waiting.insert(id, sender);
            let waiter = Waiter { bus: self, id };
            let reach = inner.deliver(&Delivery {
                subject: subject.into(),
                payload,
                reply: Some(format!("{REPLY_PREFIX}{id}")),
                traces: Vec::new(),
            });
            // The waiter locks when it is dropped, so not before the lock is given back.
            drop(inner);
            match reach {
                Reach::Nobody => return Err(BusError::NoResponder(subject.into())),
                Reach::AllFull => return Err(BusError::Full(subject.into())),
                Reach::Somebody => waiter,
            }
        };
        let reply = tokio::time::timeout(timeout, receiver).await;
        drop(waiter);
        match reply {
            Ok(Ok(payload)) => Ok(payload),
            Ok(Err(_)) => Err(BusError::Closed),
            Err(_) => Err(BusError::Timeout {
                subject: subject.into(),
                waited: timeout,
            }),
        }
    }

    async fn reply(&self, delivery: &Delivery, payload: Bytes) -> Result<(), BusError> {
        let address = delivery.reply.as_deref();
        let id = address.and_then(|a| a.strip_prefix(REPLY_PREFIX)?.parse().ok());
        let Some(id) = id else {
            return Err(BusError::NotARequest(delivery.subject.clone()));
        };
        check(&delivery.subject, &payload)?;
        let waiting = self.inner.lock().waiting.remove(&id);
        if let Some(waiting) = waiting {
            // Who asked may have stopped waiting: that is no error of who answers.
            let _ = waiting.send(payload);
        }
        Ok(())
    }
}

/// Forgets a request when its caller stops waiting, however it does.
struct Waiter<'a> {
    bus: &'a MemoryBus,
    id: u64,
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.bus.inner.lock().waiting.remove(&self.id);
    }
}
