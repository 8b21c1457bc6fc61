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

mod limits;
mod orders;
mod select;

use crate::Machine;
use crate::dev::{Clock, DevDone, DevOrder, DevRefusal};
use crate::ids::{Epoch, Height, Micros, Seq, TxHash};
use crate::message::Withheld;
use crate::tx::{ReadyTx, Reason};
use alloy_primitives::B256;
use orders::Orders;
use std::collections::BTreeMap;
use std::sync::Arc;

pub use limits::{
    APPEND_RETRY, BUILD_LEAD_MAX, CANDIDATES_MAX, ORDERS_MAX, SEAL_LEAD_MAX, TAKE_OVER_RETRY,
};
pub use orders::OrderId;
pub use select::order;

/// When blocks are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Timetable {
    /// As soon as a transaction is ready; no empty blocks.
    AtOnce,
    /// One block at every multiple of this span since the Unix epoch, empty or not.
    Slots(Micros),
    /// Only when it is ordered.
    Manual,
}

/// Whether this producer is to lead from the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// Take over at once.
    Lead,
    /// Watch, and take over when no block came for this long.
    Standby(Micros),
}

/// The block that the next one stands on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parent {
    /// Its height.
    pub height: Height,
    /// Its hash.
    pub hash: B256,
    /// Its timestamp, in seconds.
    pub timestamp_secs: u64,
    /// The last position of the log that the follower took in: this block's, or that of an entry after it that is no
    /// valid block.
    pub seq: Seq,
    /// Base fee of the block after it, in wei per gas.
    pub next_base_fee: u128,
    /// How the block after it gets its timestamp.
    pub clock: Clock,
    /// When blocks are made from now on, where a person has set it.
    pub mining: Option<Timetable>,
}

/// A number for each block that is built.
pub type Attempt = u64;

/// What happens to a producer.
#[derive(Clone, Debug)]
pub enum Event {
    /// A transaction is a candidate; sent again unharmed.
    Ready(Arc<ReadyTx>),
    /// It is none any more.
    Unready(TxHash),
    /// The follower of this process stored a block, or passed an entry that is none.
    Head {
        /// The block.
        parent: Parent,
        /// Its transactions.
        included: Vec<TxHash>,
    },
    /// The epoch subject was won.
    TookOver(Epoch),
    /// It was not.
    TakeOverFailed,
    /// A block was executed.
    Built {
        /// Which build.
        attempt: Attempt,
        /// Hash of the block.
        hash: B256,
        /// Transactions in it.
        included: Vec<TxHash>,
        /// Candidates that are not, with the reason.
        withheld: Vec<(TxHash, Reason)>,
    },
    /// The build could not be done (the head moved under it, say).
    BuildFailed {
        /// Which build.
        attempt: Attempt,
    },
    /// The log has the block.
    Appended {
        /// Which build.
        attempt: Attempt,
        /// Where.
        seq: Seq,
    },
    /// The log does not, or it is unknown.
    AppendFailed {
        /// Which build.
        attempt: Attempt,
        /// What is known.
        error: AppendFailure,
    },
    /// A person asks for a block. Answered by [`Effect::Ordered`].
    Order {
        /// Names the order.
        id: OrderId,
        /// What is asked.
        order: Arc<DevOrder>,
    },
    /// What is ordered can't be done on this parent.
    OrderRefused {
        /// The build that tried it.
        attempt: Attempt,
        /// Why.
        why: DevRefusal,
    },
    /// Time passes. Also asked for by [`Effect::WakeAt`].
    Tick,
}

/// What is known of a failed append.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AppendFailure {
    /// Another entry has the place.
    Lost,
    /// Another producer took over.
    Fenced,
    /// It is unknown whether the entry is in the log: the same bytes are to be tried again.
    Unknown,
    /// The log carries no block of this size.
    TooLarge,
}

/// What a producer wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Compare-and-set the epoch.
    TakeOver,
    /// Execute candidates in this order, on this parent, and seal.
    Build {
        /// Number of the build.
        attempt: Attempt,
        /// What to build on.
        parent: Parent,
        /// The block's timestamp, in seconds.
        timestamp_secs: u64,
        /// When the slot is, for the measure of lateness; `None` where there is no timetable.
        slot: Option<Micros>,
        /// Candidates, best first, a sender's by nonce.
        candidates: Vec<Arc<ReadyTx>>,
        /// What the block is made for, where it was ordered.
        order: Option<Arc<DevOrder>>,
    },
    /// Append the block of this build, after the entry at `expected`.
    Append {
        /// Number of the build.
        attempt: Attempt,
        /// Height of the block.
        height: Height,
        /// Fencing token.
        epoch: Epoch,
        /// Last position of the log, as far as the follower read.
        expected: Seq,
    },
    /// The block of this build is of no use.
    Discard {
        /// Number of the build.
        attempt: Attempt,
    },
    /// Tell the extractor.
    Withheld(Withheld),
    /// Tell who ordered.
    Ordered {
        /// Which order.
        id: OrderId,
        /// The block that is the head now, or why there is none.
        result: Result<DevDone, DevRefusal>,
    },
    /// Send [`Event::Tick`] at this time.
    WakeAt(Micros),
}

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

    fn append(&self, attempt: Attempt, epoch: Epoch) -> Effect {
        Effect::Append {
            attempt,
            height: self.parent.height.next(),
            epoch,
            expected: self.parent.seq,
        }
    }

    fn built(
        &mut self,
        now: Micros,
        attempt: Attempt,
        hash: B256,
        included: &[TxHash],
        withheld: Vec<(TxHash, Reason)>,
        effects: &mut Vec<Effect>,
    ) {
        if self.phase != (Phase::Building { attempt }) {
            effects.push(Effect::Discard { attempt });
            return;
        }
        for (hash, reason) in withheld {
            // What found no room stays a candidate for the next block; the rest goes back to the extractor.
            if reason != Reason::BlockFull {
                self.pool.remove(&hash);
            }
            effects.push(Effect::Withheld(Withheld {
                hash,
                reason,
                height: self.parent.height.next(),
            }));
        }
        let Role::Leading(epoch) = self.role else {
            self.phase = Phase::Idle;
            effects.push(Effect::Discard { attempt });
            return;
        };
        let ordered = self.orders.is_built_by(attempt);
        if included.is_empty() && !ordered && self.timetable() == Timetable::AtOnce {
            self.phase = Phase::Idle;
            effects.push(Effect::Discard { attempt });
            self.step(now, effects);
            return;
        }
        let at = match self.timetable() {
            Timetable::Slots(_) if !ordered => self.next_slot.saturating_sub(SEAL_LEAD_MAX),
            _ => now,
        };
        self.phase = Phase::Appending {
            attempt,
            hash,
            expected: self.parent.seq,
            retry_at: Some(at),
        };
        self.lead(now, epoch, effects);
    }

    fn appended(&mut self, now: Micros, attempt: Attempt, seq: Seq, effects: &mut Vec<Effect>) {
        let Phase::Appending {
            attempt: ours,
            hash,
            ..
        } = self.phase
        else {
            return;
        };
        if ours != attempt {
            return;
        }
        self.fenced = 0;
        self.candidates_max = CANDIDATES_MAX;
        if self.parent.seq >= seq {
            // The follower was faster than the log's answer, and did not take it for a block.
            self.phase = Phase::Idle;
            self.step(now, effects);
        } else {
            self.phase = Phase::AwaitingHead {
                height: self.parent.height.next(),
                hash: Some(hash),
            };
        }
    }

    fn append_failed(
        &mut self,
        now: Micros,
        attempt: Attempt,
        error: AppendFailure,
        effects: &mut Vec<Effect>,
    ) {
        let Phase::Appending {
            attempt: ours,
            hash,
            expected,
            ..
        } = self.phase
        else {
            return;
        };
        if ours != attempt {
            return;
        }
        match error {
            AppendFailure::Unknown => {
                let at = now.saturating_add(APPEND_RETRY);
                self.phase = Phase::Appending {
                    attempt,
                    hash,
                    expected,
                    retry_at: Some(at),
                };
                effects.push(Effect::WakeAt(at));
            }
            AppendFailure::Lost => {
                // Another entry has the place: the follower brings it, or finds it invalid and says where the log ends.
                effects.push(Effect::Discard { attempt });
                if self.parent.seq > expected {
                    // The follower has passed that entry already, and nothing more is to come.
                    self.phase = Phase::Idle;
                    self.step(now, effects);
                } else {
                    self.phase = Phase::AwaitingHead {
                        height: self.parent.height.next(),
                        hash: None,
                    };
                }
            }
            AppendFailure::TooLarge => {
                effects.push(Effect::Discard { attempt });
                self.phase = Phase::Idle;
                if self.tried.is_empty() {
                    self.orders
                        .finish(attempt, Err(DevRefusal::TooLarge), effects);
                }
                if let [alone] = self.tried[..] {
                    // It comes back when it is said again; others are not to wait for it.
                    self.pool.remove(&alone);
                }
                self.candidates_max = (self.tried.len() / 2).max(1);
                self.step(now, effects);
            }
            AppendFailure::Fenced => {
                effects.push(Effect::Discard { attempt });
                self.phase = Phase::Idle;
                self.fenced = self.fenced.saturating_add(1);
                self.role = Role::Standby {
                    after: self.standby_patience(),
                };
                self.last_head_at = now;
                self.step(now, effects);
            }
        }
    }

    /// How long a producer that lost the lead waits for blocks before it tries again. Two that are slower than their
    /// patience would take over from each other for ever: each time it doubles, until one of them gets a block in.
    fn standby_patience(&self) -> Micros {
        if let Start::Standby(after) = self.start {
            let doubled = after
                .0
                .saturating_mul(1 << self.fenced.min(limits::DOUBLINGS_MAX));
            return Micros(doubled.min(limits::STANDBY_PATIENCE_MIN.0.max(after.0)));
        }
        match self.timetable() {
            Timetable::AtOnce | Timetable::Manual => limits::STANDBY_PATIENCE_MIN,
            Timetable::Slots(slot) => Micros((slot.0 * 3).max(limits::STANDBY_PATIENCE_MIN.0)),
        }
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
