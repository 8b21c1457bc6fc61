//! The extractor: which requests a pending transaction waits for.
//!
//! ```text
//!  Pending --> LANE --Discover--> (Discovered) --Waits--> gang --Submit--> scheduler
//!                ^                    |  |                   |
//!                |                    |  +--Ready--> producer (from the lane's start only)
//!                +---Settled, Head, Withheld: look again ----+
//! ```
//!
//! Problem, wanted properties and decisions are in `README.md`.
//!
//! **Invariant:** nothing that a placeholder run found is answered or committed; it only costs its sender's credit.

mod check;
pub mod credit;
mod findings;
mod lane;
mod limits;
mod model;
#[cfg(test)]
mod tests;

use crate::Machine;
use crate::ids::{Height, Micros, RequestKey, TxHash};
use crate::mempool::Departure;
use crate::message::{Deferral, Withheld};
use crate::tx::{PoolTx, Reason, Stage, StatusUpdate};
use alloy_primitives::Address;
use credit::Credit;
use lane::{Lane, Running, State, Tx, Waiting};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

pub use findings::{gas_of, worth};
pub use limits::{Limits, READY_REPEAT_IDLE};
pub use model::{Effect, Event, Finding};

/// The extractor.
#[derive(Clone, Debug)]
pub struct Extractor {
    limits: Limits,
    height: Height,
    base_fee: u128,
    multiplier: u64,
    lanes: BTreeMap<Address, Lane>,
    /// Where each transaction is.
    places: BTreeMap<TxHash, (Address, u64)>,
    /// Who waits for a request.
    waiters: BTreeMap<RequestKey, BTreeSet<TxHash>>,
    /// When gangs are to be sent again.
    repeats: BTreeSet<(Micros, TxHash)>,
    /// When ready transactions were last announced.
    announced: BTreeSet<(Micros, TxHash)>,
    /// Lanes with a transaction that is held.
    held: BTreeSet<Address>,
    /// Lanes to be looked at, in order.
    queue: VecDeque<Address>,
    /// Lanes that used up their budget, until when.
    throttled: BTreeSet<(Micros, Address)>,
    discoveries: usize,
    generations: u64,
    /// Answers that came while discoveries ran, with their numbers, and the number of the next.
    answers: BTreeMap<RequestKey, u64>,
    answers_next: u64,
    /// The same, oldest first.
    answers_order: VecDeque<(u64, RequestKey)>,
    /// When held transactions were last looked for without a head.
    held_looked_at: Micros,
    /// Results that blocks since the last head consumed.
    consumed: BTreeSet<RequestKey>,
    credit: Credit,
}

impl Extractor {
    /// An extractor that knows of no transaction yet. `base_fee` and `multiplier` are those of the block that will be
    /// built on the head.
    #[must_use]
    pub fn new(limits: Limits, height: Height, base_fee: u128, multiplier: u64) -> Self {
        Self {
            credit: Credit::new(limits.credit.clone()),
            limits,
            height,
            base_fee,
            multiplier,
            lanes: BTreeMap::new(),
            places: BTreeMap::new(),
            waiters: BTreeMap::new(),
            repeats: BTreeSet::new(),
            announced: BTreeSet::new(),
            held: BTreeSet::new(),
            queue: VecDeque::new(),
            throttled: BTreeSet::new(),
            discoveries: 0,
            generations: 0,
            answers: BTreeMap::new(),
            answers_next: 0,
            answers_order: VecDeque::new(),
            held_looked_at: Micros(0),
            consumed: BTreeSet::new(),
        }
    }

    /// Transactions that it looks after.
    #[must_use]
    pub fn len(&self) -> usize {
        self.places.len()
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// The last stage that was published of a transaction.
    #[must_use]
    pub fn stage(&self, hash: &TxHash) -> Option<&Stage> {
        self.get(hash)?.told.as_ref()
    }

    /// Rounds of a transaction so far.
    #[must_use]
    pub fn rounds(&self, hash: &TxHash) -> Option<u32> {
        self.get(hash).map(|tx| tx.round)
    }

    /// Transactions that are ready, with the keys that they need.
    pub fn ready(&self) -> impl Iterator<Item = (&PoolTx, &[RequestKey])> {
        self.lanes
            .values()
            .flat_map(|lane| lane.txs.values())
            .filter_map(|tx| match &tx.state {
                State::Ready(ready) => Some((&tx.tx, ready.keys.as_slice())),
                _ => None,
            })
    }

    /// Keys that some transaction waits for.
    pub fn waited(&self) -> impl Iterator<Item = RequestKey> + '_ {
        self.waiters.keys().copied()
    }

    /// Exposure, credit and debt.
    #[must_use]
    pub fn credit(&self) -> &Credit {
        &self.credit
    }

    fn get(&self, hash: &TxHash) -> Option<&Tx> {
        let (lane, nonce) = self.places.get(hash)?;
        self.lanes.get(lane)?.txs.get(nonce)
    }

    fn get_mut(&mut self, hash: &TxHash) -> Option<&mut Tx> {
        let (lane, nonce) = self.places.get(hash)?;
        self.lanes.get_mut(lane)?.txs.get_mut(nonce)
    }

    fn pending(&mut self, now: Micros, tx: PoolTx, arrival: u64, effects: &mut Vec<Effect>) {
        let (hash, sender, nonce) = (tx.hash, tx.sender, tx.nonce);
        if self.places.contains_key(&hash) {
            return;
        }
        let mut new = Tx {
            tx,
            arrival,
            came: self.height,
            state: State::Unknown,
            round: 0,
            dispatched: BTreeMap::new(),
            announced: None,
            stale: Vec::new(),
            told: None,
        };
        if let Some(old) = self.unlink(sender, nonce, effects) {
            // What was computed for the one before is of use if the new one asks the same, else it is its debt.
            new.dispatched = old.dispatched;
            if old.announced.is_some() {
                effects.push(Effect::Unready { hash: old.tx.hash });
            }
        }
        self.places.insert(hash, (sender, nonce));
        let lane = self.lanes.entry(sender).or_default();
        lane.txs.insert(nonce, new);
        lane.changed_at(nonce);
        self.look(sender);
        self.announce(now, sender, effects);
    }

    fn gone(
        &mut self,
        now: Micros,
        hash: TxHash,
        how: Option<Departure>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&(sender, nonce)) = self.places.get(&hash) else {
            return;
        };
        let Some(old) = self.unlink(sender, nonce, effects) else {
            return;
        };
        let included = matches!(how, Some(Departure::Included(_)));
        for (key, dispatched) in &old.dispatched {
            let (igas, kind) = (dispatched.igas, dispatched.kind);
            if included && self.consumed.contains(key) {
                self.credit.used(now, sender, igas, kind);
            } else {
                self.credit.wasted(now, sender, igas, kind);
            }
        }
        // The producer sees for itself what is in a block.
        if old.announced.is_some() && !included {
            effects.push(Effect::Unready { hash });
        }
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        if included {
            // What its successors came to stands. One that waited for it alone may get on now.
            lane.dirty |= lane.is_stuck();
            if let Some(running) = &mut lane.running {
                running.shortened = true;
            }
        } else {
            lane.changed_at(nonce);
        }
        self.look(sender);
        // One that was announced and is in a block changes nothing for its successors.
        if !included || old.announced.is_none() {
            self.announce(now, sender, effects);
        }
        self.prune(sender);
    }

    /// Takes a transaction out of all books but the credit's.
    fn unlink(&mut self, sender: Address, nonce: u64, effects: &mut Vec<Effect>) -> Option<Tx> {
        let mut old = self.lanes.get_mut(&sender)?.txs.remove(&nonce)?;
        let hash = old.tx.hash;
        if let State::Waiting(waiting) = std::mem::replace(&mut old.state, State::Unknown) {
            self.stop_waiting(hash, &waiting, effects);
        }
        if let Some(at) = old.announced {
            self.announced.remove(&(at, hash));
        }
        self.places.remove(&hash);
        Some(old)
    }

    /// Takes a gang out of the books, and back from the scheduler if anything of it is unanswered.
    fn stop_waiting(&mut self, hash: TxHash, waiting: &Waiting, effects: &mut Vec<Effect>) {
        self.repeats.remove(&(waiting.repeat_at, hash));
        for request in &waiting.gang.requests {
            if let Some(waiters) = self.waiters.get_mut(&request.key) {
                waiters.remove(&hash);
                if waiters.is_empty() {
                    self.waiters.remove(&request.key);
                }
            }
        }
        if !waiting.gang.requests.is_empty() {
            effects.push(Effect::Withdraw { id: hash });
        }
    }

    fn prune(&mut self, sender: Address) {
        if self.lanes.get(&sender).is_some_and(Lane::is_idle) {
            self.lanes.remove(&sender);
            self.held.remove(&sender);
        }
    }

    /// Puts a dirty lane into the queue, unless it is there, runs, or has to wait for its budget.
    fn look(&mut self, sender: Address) {
        if let Some(lane) = self.lanes.get_mut(&sender)
            && lane.dirty
            && !lane.queued
            && lane.running.is_none()
        {
            lane.queued = true;
            self.queue.push_back(sender);
        }
    }

    /// Starts discoveries while there is room.
    fn pump(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        while self.discoveries < self.limits.discoveries_max {
            let Some(sender) = self.queue.pop_front() else {
                break;
            };
            let Some(lane) = self.lanes.get_mut(&sender) else {
                continue;
            };
            let window = now.0 / self.limits.budget_window.0.max(1);
            if lane.window != window {
                lane.window = window;
                lane.spent = Micros(0);
            }
            if lane.running.is_some() || !lane.dirty {
                // An entry of a lane that was here before; what runs puts it back if need be.
                lane.queued = false;
                continue;
            }
            if lane.spent >= self.limits.budget {
                // It stays marked as queued: the clock brings it back.
                let until = Micros((window + 1) * self.limits.budget_window.0);
                self.throttled.insert((until, sender));
                continue;
            }
            lane.queued = false;
            lane.dirty = false;
            let txs = lane.run(self.limits.lane_txs_max);
            if txs.is_empty() {
                self.prune(sender);
                continue;
            }
            self.generations += 1;
            self.discoveries += 1;
            lane.running = Some(Running {
                generation: self.generations,
                answers_from: self.answers_next,
                stale_from: u64::MAX,
                shortened: false,
            });
            effects.push(Effect::Discover {
                lane: sender,
                generation: self.generations,
                txs,
            });
        }
    }

    /// Remembers an answer for the discoveries that began before it.
    fn remember(&mut self, key: RequestKey) {
        self.answers.insert(key, self.answers_next);
        self.answers_order.push_back((self.answers_next, key));
        self.answers_next += 1;
        if self.answers_order.len() > self.limits.answers_max
            && let Some((number, oldest)) = self.answers_order.pop_front()
            && self.answers.get(&oldest) == Some(&number)
        {
            self.answers.remove(&oldest);
        }
    }

    fn settled(&mut self, keys: &[RequestKey]) {
        for &key in keys {
            if self.discoveries > 0 {
                self.remember(key);
            }
            for hash in self.waiters.remove(&key).unwrap_or_default() {
                let Some(&(sender, _)) = self.places.get(&hash) else {
                    continue;
                };
                let Some(Tx {
                    state: State::Waiting(waiting),
                    ..
                }) = self.get_mut(&hash)
                else {
                    continue;
                };
                waiting.gang.requests.retain(|request| request.key != key);
                let was_certain = waiting.certain.remove(&key);
                let look = was_certain && waiting.certain.is_empty();
                if waiting.gang.requests.is_empty() {
                    let at = waiting.repeat_at;
                    self.repeats.remove(&(at, hash));
                }
                if look {
                    if let Some(lane) = self.lanes.get_mut(&sender) {
                        lane.dirty = true;
                    }
                    self.look(sender);
                }
            }
        }
    }

    /// Says which transactions at the lane's start are ready, and takes back what is not any more.
    fn announce(&mut self, now: Micros, sender: Address, effects: &mut Vec<Effect>) {
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        let mut next = lane.txs.keys().next().copied().unwrap_or(0);
        let mut open = true;
        for (&nonce, tx) in &mut lane.txs {
            let hash = tx.tx.hash;
            open &= nonce == next;
            next = nonce.saturating_add(1);
            match &tx.state {
                State::Ready(ready) if open => {
                    if tx.announced.is_none() {
                        tx.announced = Some(now);
                        self.announced.insert((now, hash));
                        effects.push(Effect::Ready(ready.as_ref().clone()));
                        tell(now, tx, Stage::Ready, effects);
                    }
                    continue;
                }
                State::Ready(_) => tell(now, tx, deferred(Reason::NonceDependency, 0), effects),
                _ => {}
            }
            open = false;
            if let Some(at) = tx.announced.take() {
                self.announced.remove(&(at, hash));
                effects.push(Effect::Unready { hash });
            }
        }
    }

    /// Announces again what was announced before `before`.
    fn announce_again(&mut self, now: Micros, before: Micros, effects: &mut Vec<Effect>) {
        for _ in 0..self.limits.ready_repeats_max {
            let Some(&(at, hash)) = self.announced.first() else {
                break;
            };
            if at > before || at == now {
                break;
            }
            self.announced.remove(&(at, hash));
            if let Some(tx) = self.get_mut(&hash)
                && let State::Ready(ready) = &tx.state
            {
                effects.push(Effect::Ready(ready.as_ref().clone()));
                tx.announced = Some(now);
                self.announced.insert((now, hash));
            }
        }
    }

    fn head(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        self.consumed.clear();
        self.announce_again(now, now.saturating_sub(self.limits.ready_repeat), effects);
        self.look_at_held(now);
    }

    /// The market fell: who waits for that is looked at now. Pauses alone would miss each short dip.
    fn hasten(&mut self, now: Micros) {
        for sender in &self.held {
            let lane = self.lanes.get_mut(sender);
            for tx in lane.into_iter().flat_map(|lane| lane.txs.values_mut()) {
                if let State::Held {
                    reason: Reason::FeeBelowMarket,
                    look_at,
                    ..
                } = &mut tx.state
                    && tx.tx.max_fee_per_gas >= self.base_fee
                {
                    *look_at = now.min(*look_at);
                }
            }
        }
    }

    /// Looks again at lanes with a held transaction whose pause is over.
    fn look_at_held(&mut self, now: Micros) {
        self.held_looked_at = now;
        for sender in self.held.clone() {
            let Some(lane) = self.lanes.get_mut(&sender) else {
                continue;
            };
            let due = |tx: &Tx| matches!(&tx.state, State::Held { look_at, .. } if *look_at <= now);
            if lane.txs.values().any(due) {
                lane.dirty = true;
                self.look(sender);
            }
        }
    }

    fn deferred(&mut self, now: Micros, deferral: &Deferral, effects: &mut Vec<Effect>) {
        if let Some(tx) = self.get_mut(&deferral.id)
            && matches!(tx.state, State::Waiting(_))
        {
            tell(now, tx, deferred(deferral.reason, deferral.blocks), effects);
        }
    }

    fn withheld(&mut self, now: Micros, withheld: &Withheld, effects: &mut Vec<Effect>) {
        let (hash, reason) = (withheld.hash, withheld.reason);
        let Some(&(sender, _)) = self.places.get(&hash) else {
            return;
        };
        let look_at = now.saturating_add(self.limits.look_pause_min);
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        let Some(at) = tx.announced else {
            return;
        };
        tell(now, tx, deferred(reason, 1), effects);
        match reason {
            // The producer keeps it.
            Reason::BlockFull => return,
            // A predecessor was perhaps lost on the way: the next tick says the whole lane again.
            Reason::NonceDependency => {
                let lane = self.lanes.get_mut(&sender);
                for tx in lane.into_iter().flat_map(|lane| lane.txs.values_mut()) {
                    if let Some(at) = tx.announced {
                        tx.announced = Some(Micros(0));
                        self.announced.remove(&(at, tx.tx.hash));
                        self.announced.insert((Micros(0), tx.tx.hash));
                    }
                }
                return;
            }
            Reason::StaleInput => {
                tx.round = 0;
                if let State::Ready(ready) = std::mem::replace(&mut tx.state, State::Unknown) {
                    tx.stale = ready.keys;
                }
            }
            _ => {
                tx.state = State::Held {
                    reason,
                    looks: 1,
                    look_at,
                };
            }
        }
        tx.announced = None;
        self.announced.remove(&(at, hash));
        if reason == Reason::StaleInput {
            if let Some(lane) = self.lanes.get_mut(&sender) {
                lane.dirty = true;
            }
            self.look(sender);
        } else {
            self.held.insert(sender);
        }
        self.announce(now, sender, effects);
    }

    fn tick(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        while let Some(&(at, hash)) = self.repeats.first() {
            if at > now {
                break;
            }
            self.repeats.remove(&(at, hash));
            let repeat_max = self.limits.repeat_max;
            if let Some(Tx {
                state: State::Waiting(waiting),
                ..
            }) = self.get_mut(&hash)
            {
                waiting.repeat_at = now.saturating_add(waiting.repeat);
                waiting.repeat = Micros(waiting.repeat.0 * 2).min(repeat_max);
                let again = waiting.repeat_at;
                effects.push(Effect::Submit(waiting.gang.clone()));
                self.repeats.insert((again, hash));
            }
        }
        self.announce_again(
            now,
            now.saturating_sub(self.limits.ready_repeat_idle),
            effects,
        );
        while let Some(&(until, sender)) = self.throttled.first() {
            if until > now {
                break;
            }
            self.throttled.remove(&(until, sender));
            self.queue.push_back(sender);
        }
        // Without heads the state stands still, but debt decays and time passes.
        if now
            >= self
                .held_looked_at
                .saturating_add(self.limits.look_pause_max)
        {
            self.look_at_held(now);
        }
    }
}

/// Publishes a transaction's stage, if it is another than before.
fn tell(at: Micros, tx: &mut Tx, stage: Stage, effects: &mut Vec<Effect>) {
    if tx.told.as_ref() == Some(&stage) {
        return;
    }
    effects.push(Effect::Status(StatusUpdate {
        hash: tx.tx.hash,
        at,
        stage: stage.clone(),
    }));
    tx.told = Some(stage);
}

fn deferred(reason: Reason, blocks: u32) -> Stage {
    Stage::Deferred { reason, blocks }
}

impl Machine for Extractor {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Pending { tx, arrival } => self.pending(now, tx, arrival, effects),
            Event::Parked { hash } => self.gone(now, hash, None, effects),
            Event::Gone { hash, how } => self.gone(now, hash, Some(how), effects),
            Event::Head {
                height,
                base_fee,
                multiplier,
            } => {
                let cheaper = base_fee < self.base_fee || multiplier < self.multiplier;
                self.height = height;
                self.base_fee = base_fee;
                self.multiplier = multiplier;
                if cheaper {
                    self.hasten(now);
                }
                self.head(now, effects);
            }
            Event::Consumed { keys } => self.consumed.extend(keys),
            Event::Discovered {
                lane,
                generation,
                at: _,
                took,
                findings,
            } => self.discovered(now, lane, generation, took, findings, effects),
            Event::Settled { keys } => self.settled(&keys),
            Event::Deferred(deferral) => self.deferred(now, &deferral, effects),
            Event::Withheld(withheld) => self.withheld(now, &withheld, effects),
            Event::Tick => self.tick(now, effects),
        }
        self.pump(now, effects);
    }
}
