//! The block producer: when to build, on what, from which transactions, and what the log's answer means.
//!
//! **Invariant:** the producer holds no handle to a shard and never waits for inference. It sees transactions whose
//! answers are all there, and seals on time with those that it has.
//!
//! ```text
//!  Ready/Unready --> pool ----+
//!  Head ----------> parent ---+--> Build --> (Built) --> Append --> (Appended) --> wait for Head
//!  Tick ----------> timetable-+                             |  Lost: wait for Head, Fenced: standby
//!  Order (development) -------+
//! ```

mod append;
mod event;
mod limits;
mod orders;
mod select;

use crate::Machine;
use crate::dev::{DevDone, DevOrder};
use crate::ids::{Epoch, Height, Micros, Seq, TxHash};
use crate::tx::ReadyTx;
use alloy_primitives::B256;
use orders::Orders;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use event::{AppendFailure, Attempt, Effect, Event, Parent, Start, Timetable};
pub use limits::{
    APPEND_RETRY, BUILD_LEAD_MAX, CANDIDATES_MAX, ORDERS_MAX, SEAL_LEAD_MAX, TAKE_OVER_RETRY,
};
pub use orders::OrderId;
pub use select::order;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Role {
    Standby { after: Micros },
    TakingOver { retry_at: Micros },
    Leading(Epoch),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Idle,
    Building {
        attempt: Attempt,
    },
    Appending {
        attempt: Attempt,
        hash: B256,
        /// The end of the log that the append named.
        expected: Seq,
        /// When it is to be appended (again); `None` while an append is under way.
        retry_at: Option<Micros>,
    },
    /// The place in the log is taken; the follower has not stored it yet.
    AwaitingHead {
        height: Height,
        /// The block of this producer that took it; `None` where another did.
        hash: Option<B256>,
    },
}

/// The producer.
#[derive(Debug)]
pub struct Producer {
    /// What it was started with; see [`Producer::timetable`].
    configured: Timetable,
    start: Start,
    role: Role,
    /// How often it was fenced without a block of its own in between.
    fenced: u32,
    phase: Phase,
    parent: Parent,
    last_head_at: Micros,
    /// The slot that the next block is for.
    next_slot: Micros,
    /// The slot that the last build was for.
    built_slot: Micros,
    next_attempt: Attempt,
    /// Candidates of one build at most: fewer after a block that was too large for the log.
    candidates_max: usize,
    /// Candidates of the last build.
    tried: Vec<TxHash>,
    pool: BTreeMap<TxHash, Arc<ReadyTx>>,
    orders: Orders,
}

impl Producer {
    /// A producer on this head. It acts on its first [`Event::Tick`].
    #[must_use]
    pub fn new(timetable: Timetable, start: Start, parent: Parent, now: Micros) -> Self {
        let role = match start {
            Start::Lead => Role::TakingOver { retry_at: now },
            Start::Standby(after) => Role::Standby { after },
        };
        let mut producer = Self {
            configured: timetable,
            start,
            role,
            fenced: 0,
            phase: Phase::Idle,
            parent,
            last_head_at: now,
            next_slot: Micros(0),
            built_slot: Micros(0),
            next_attempt: 1,
            candidates_max: CANDIDATES_MAX,
            tried: Vec::new(),
            pool: BTreeMap::new(),
            orders: Orders::default(),
        };
        producer.next_slot = producer.slot_after(now);
        producer
    }

    /// Candidates that wait.
    #[must_use]
    pub fn pool_len(&self) -> usize {
        self.pool.len()
    }

    /// The fencing token, where this producer leads.
    #[must_use]
    pub fn leading(&self) -> Option<Epoch> {
        match self.role {
            Role::Leading(epoch) => Some(epoch),
            _ => None,
        }
    }

    /// When blocks are made now.
    fn timetable(&self) -> Timetable {
        self.parent.mining.unwrap_or(self.configured)
    }

    /// The first slot after `now`.
    fn slot_after(&self, now: Micros) -> Micros {
        match self.timetable() {
            Timetable::AtOnce | Timetable::Manual => now,
            Timetable::Slots(slot) => {
                Micros((now.0 / slot.0).saturating_add(1).saturating_mul(slot.0))
            }
        }
    }

    /// How long before its slot a block is built: a fifth of the slot, at most [`BUILD_LEAD_MAX`].
    fn build_lead(&self) -> Micros {
        match self.timetable() {
            Timetable::AtOnce | Timetable::Manual => Micros(0),
            Timetable::Slots(slot) => Micros((slot.0 / 5).min(BUILD_LEAD_MAX.0)),
        }
    }

    fn step(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        self.orders.expire(now, effects);
        match self.role {
            Role::Standby { after } => {
                let due = self.last_head_at.saturating_add(after);
                if now >= due {
                    self.try_take_over(now, effects);
                } else {
                    effects.push(Effect::WakeAt(due));
                }
            }
            Role::TakingOver { retry_at } => {
                if now >= retry_at {
                    self.try_take_over(now, effects);
                } else {
                    effects.push(Effect::WakeAt(retry_at));
                }
            }
            Role::Leading(epoch) => self.lead(now, epoch, effects),
        }
    }

    fn try_take_over(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let retry_at = now.saturating_add(TAKE_OVER_RETRY);
        self.role = Role::TakingOver { retry_at };
        effects.push(Effect::TakeOver);
        effects.push(Effect::WakeAt(retry_at));
    }

    fn lead(&mut self, now: Micros, epoch: Epoch, effects: &mut Vec<Effect>) {
        match self.phase {
            Phase::Idle => self.build_if_due(now, epoch, effects),
            Phase::Appending {
                attempt,
                retry_at: Some(at),
                hash,
                ..
            } => {
                if now >= at {
                    self.phase = Phase::Appending {
                        attempt,
                        hash,
                        expected: self.parent.seq,
                        retry_at: None,
                    };
                    effects.push(self.append(attempt, epoch));
                } else {
                    effects.push(Effect::WakeAt(at));
                }
            }
            Phase::Building { .. } | Phase::Appending { .. } | Phase::AwaitingHead { .. } => {}
        }
    }

    fn build_if_due(&mut self, now: Micros, epoch: Epoch, effects: &mut Vec<Effect>) {
        // Entries of the former producer may stand before the epoch record: they are read first.
        if self.parent.seq < Seq(epoch.0) {
            return;
        }
        if self.build_ordered(now, effects) {
            return;
        }
        let slot = match self.timetable() {
            Timetable::Manual => return,
            Timetable::AtOnce if self.pool.is_empty() => return,
            Timetable::AtOnce => None,
            Timetable::Slots(_) => {
                let due = self.next_slot.saturating_sub(self.build_lead());
                if now < due {
                    effects.push(Effect::WakeAt(due));
                    return;
                }
                Some(self.next_slot)
            }
        };
        self.built_slot = self.next_slot;
        let candidates = self.candidates();
        self.build(slot.unwrap_or(now), slot, candidates, None, effects);
    }

    fn candidates(&self) -> Vec<Arc<ReadyTx>> {
        order(
            self.pool.values(),
            self.parent.next_base_fee,
            self.candidates_max,
        )
    }

    fn build(
        &mut self,
        at: Micros,
        slot: Option<Micros>,
        candidates: Vec<Arc<ReadyTx>>,
        order: Option<Arc<DevOrder>>,
        effects: &mut Vec<Effect>,
    ) -> Attempt {
        let attempt = self.next_attempt;
        self.next_attempt += 1;
        self.phase = Phase::Building { attempt };
        self.tried = candidates.iter().map(|tx| tx.tx.hash).collect();
        effects.push(Effect::Build {
            attempt,
            parent: self.parent,
            timestamp_secs: self.parent.clock.timestamp(at, self.parent.timestamp_secs),
            slot,
            candidates,
            order,
        });
        attempt
    }

    fn head(
        &mut self,
        now: Micros,
        parent: Parent,
        included: &[TxHash],
        effects: &mut Vec<Effect>,
    ) {
        for hash in included {
            self.pool.remove(hash);
            self.orders.seen(hash);
        }
        if parent.height < self.parent.height {
            return;
        }
        let moved = parent.height > self.parent.height;
        let ours = match self.phase {
            Phase::Appending { hash, .. } => hash == parent.hash,
            Phase::AwaitingHead { hash, .. } => hash == Some(parent.hash),
            Phase::Idle | Phase::Building { .. } => false,
        };
        let timetable = self.timetable();
        if ours {
            let done = DevDone {
                height: parent.height,
                hash: parent.hash,
                snapshot: 0,
            };
            self.orders.built(done, effects);
        }
        self.parent = parent;
        self.last_head_at = now;
        match self.phase {
            // A block that was built on the old head is of no use.
            Phase::Building { attempt } if moved => {
                self.phase = Phase::Idle;
                effects.push(Effect::Discard { attempt });
            }
            Phase::Appending { attempt, hash, .. } if moved => {
                // Ours, and its acknowledgement is still on the way; or another's.
                if hash != parent.hash {
                    effects.push(Effect::Discard { attempt });
                }
                self.phase = Phase::Idle;
            }
            Phase::AwaitingHead { height, .. } if parent.height >= height => {
                self.phase = Phase::Idle
            }
            // The log's end moved without a block (an entry was skipped): build anew after it.
            Phase::AwaitingHead { .. } if !moved => self.phase = Phase::Idle,
            _ => {}
        }
        if self.timetable() != timetable {
            self.next_slot = self.slot_after(now);
        } else if moved && let Timetable::Slots(_) = timetable {
            // A head may come before its slot. Of another's block the whole second is known, of one's own the slot.
            let secs = self.parent.timestamp_secs;
            let stamp = Micros(
                secs.saturating_sub_signed(self.parent.clock.offset_secs)
                    .saturating_mul(1_000_000),
            );
            let filled = if ours { self.built_slot } else { stamp };
            let open = self.next_slot.saturating_sub(Micros(1));
            self.next_slot = self.slot_after(filled.max(open).max(now));
        }
        self.step(now, effects);
    }
}

impl Machine for Producer {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Ready(tx) => {
                self.orders.seen(&tx.tx.hash);
                self.pool.insert(tx.tx.hash, tx);
                if self.timetable() == Timetable::AtOnce || !self.orders.is_empty() {
                    self.step(now, effects);
                }
            }
            Event::Unready(hash) => {
                self.pool.remove(&hash);
                self.orders.seen(&hash);
            }
            Event::Head { parent, included } => self.head(now, parent, &included, effects),
            Event::TookOver(epoch) => {
                self.role = Role::Leading(epoch);
                self.phase = Phase::Idle;
                self.next_slot = self.slot_after(now);
                self.step(now, effects);
            }
            Event::TakeOverFailed => {
                let Role::TakingOver { retry_at } = self.role else {
                    return;
                };
                match self.start {
                    Start::Lead => effects.push(Effect::WakeAt(retry_at)),
                    // Another won, or the log does not answer: only missing blocks say that it has to try again.
                    Start::Standby(_) => {
                        let after = self.standby_patience();
                        self.role = Role::Standby { after };
                        self.last_head_at = now;
                        self.step(now, effects);
                    }
                }
            }
            Event::Built {
                attempt,
                hash,
                included,
                withheld,
            } => self.built(now, attempt, hash, &included, withheld, effects),
            Event::BuildFailed { attempt } => {
                if self.phase == (Phase::Building { attempt }) {
                    self.phase = Phase::Idle;
                    effects.push(Effect::Discard { attempt });
                    effects.push(Effect::WakeAt(now.saturating_add(APPEND_RETRY)));
                }
            }
            Event::Appended { attempt, seq } => self.appended(now, attempt, seq, effects),
            Event::AppendFailed { attempt, error } => {
                self.append_failed(now, attempt, error, effects);
            }
            Event::Order { id, order } => {
                self.orders.take(now, id, order, &self.pool, effects);
                self.step(now, effects);
            }
            Event::OrderRefused { attempt, why } => {
                if self.phase == (Phase::Building { attempt }) {
                    self.phase = Phase::Idle;
                    effects.push(Effect::Discard { attempt });
                }
                self.orders.finish(attempt, Err(why), effects);
                self.step(now, effects);
            }
            Event::Tick => self.step(now, effects),
        }
    }
}

#[cfg(test)]
mod tests;
