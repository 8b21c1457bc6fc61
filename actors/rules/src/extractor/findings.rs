//! What a discovery found, and what follows from it.

use super::credit::Kind;
use super::lane::{Dispatched, State, Waiting};
use super::model::{Effect, Finding};
use super::{Extractor, Tx, deferred, tell};
use crate::ids::{Igas, Micros, RequestKey, TxHash};
use crate::message::{Class, Gang, GangRequest};
use crate::tx::{DropReason, ReadyTx, Reason, Stage};
use alloy_primitives::Address;
use std::collections::BTreeSet;

/// Gas that a transaction uses besides its inference: what the bare envelope costs.
const GAS_BARE: u128 = 21_000;

/// Gas that a transaction which asks for `igas` is taken to use: it was not run to its end yet.
#[must_use]
pub fn gas_of(igas: Igas, multiplier: u64) -> u128 {
    GAS_BARE.saturating_add(u128::from(igas.0) * u128::from(multiplier))
}

/// Wei to the producer at a tip in wei per gas: what a [`Gang`] is worth.
#[must_use]
pub fn worth(tip: u128, igas: Igas, multiplier: u64) -> u128 {
    tip.saturating_mul(gas_of(igas, multiplier))
}

impl Extractor {
    pub(super) fn discovered(
        &mut self,
        now: Micros,
        sender: Address,
        generation: u64,
        took: Micros,
        findings: Vec<(TxHash, Finding)>,
        effects: &mut Vec<Effect>,
    ) {
        let Some(lane) = self.lanes.get_mut(&sender) else {
            return;
        };
        let Some(running) = lane.running.filter(|r| r.generation == generation) else {
            return;
        };
        lane.running = None;
        lane.spent = lane.spent.saturating_add(took);
        self.discoveries -= 1;
        for (hash, finding) in findings {
            let Some(&(at, nonce)) = self.places.get(&hash) else {
                continue;
            };
            if at == sender && nonce < running.stale_from {
                self.found(now, hash, finding, running.answers_from, effects);
            }
        }
        if self.discoveries == 0 {
            self.answers.clear();
            self.answers_order.clear();
        }
        self.hold_the_rest(now, sender, running.stale_from, effects);
        if running.shortened
            && let Some(lane) = self.lanes.get_mut(&sender)
        {
            lane.dirty |= lane.is_stuck();
        }
        self.announce(now, sender, effects);
        self.look(sender);
        self.prune(sender);
    }

    /// Nothing was said of these: they are looked at again on a later head, or when their predecessors get on.
    fn hold_the_rest(
        &mut self,
        now: Micros,
        sender: Address,
        stale_from: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(lane) = self.lanes.get(&sender) else {
            return;
        };
        let unknown = |tx: &&Tx| matches!(tx.state, State::Unknown);
        let left: Vec<_> = lane
            .txs
            .range(..stale_from)
            .map(|(_, tx)| tx)
            .filter(unknown)
            .map(|tx| tx.tx.hash)
            .collect();
        // A lane that is looked at again anyway needs no pause.
        if !lane.dirty {
            for hash in left {
                self.hold(now, hash, Reason::NonceDependency, effects);
            }
        }
        let held = self.lanes.get(&sender).is_some_and(|lane| {
            let mut states = lane.txs.values().map(|tx| &tx.state);
            states.any(|state| matches!(state, State::Held { .. }))
        });
        if held {
            self.held.insert(sender);
        } else {
            self.held.remove(&sender);
        }
    }

    fn found(
        &mut self,
        now: Micros,
        hash: TxHash,
        finding: Finding,
        answers_from: u64,
        effects: &mut Vec<Effect>,
    ) {
        if self
            .get(&hash)
            .is_none_or(|tx| matches!(tx.state, State::Dropped))
        {
            return;
        }
        match finding {
            Finding::Ready {
                keys,
                igas,
                gas_used,
            } => self.ready_now(hash, keys, igas, gas_used, effects),
            Finding::Waits { requests, igas } => {
                self.waits(now, hash, requests, igas, answers_from, effects);
            }
            Finding::FeeBelowMarket => self.hold(now, hash, Reason::FeeBelowMarket, effects),
            Finding::Behind => self.hold(now, hash, Reason::NonceDependency, effects),
            Finding::Invalid => self.hold(now, hash, Reason::Unfunded, effects),
            Finding::TooMany => self.drop_tx(hash, DropReason::TooManyRequests, effects),
        }
    }

    fn set_state(&mut self, hash: TxHash, state: State, effects: &mut Vec<Effect>) {
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        if let State::Waiting(waiting) = std::mem::replace(&mut tx.state, state) {
            self.stop_waiting(hash, &waiting, effects);
        }
    }

    fn drop_tx(&mut self, hash: TxHash, reason: DropReason, effects: &mut Vec<Effect>) {
        self.set_state(hash, State::Dropped, effects);
        effects.push(Effect::Drop { hash, reason });
    }

    fn hold(&mut self, now: Micros, hash: TxHash, reason: Reason, effects: &mut Vec<Effect>) {
        let Some(tx) = self.get(&hash) else {
            return;
        };
        let looks = match tx.state {
            State::Held {
                reason: before,
                looks,
                ..
            } if before == reason => looks.saturating_add(1),
            _ => 1,
        };
        if reason == Reason::Unfunded && looks > self.limits.invalid_looks_max {
            self.drop_tx(hash, DropReason::Invalid, effects);
            return;
        }
        let pause = self.limits.look_pause_min.0 << (looks - 1).min(16);
        let look_at = now.saturating_add(Micros(pause).min(self.limits.look_pause_max));
        let state = State::Held {
            reason,
            looks,
            look_at,
        };
        self.set_state(hash, state, effects);
        if let Some(tx) = self.get_mut(&hash) {
            tell(now, tx, deferred(reason, 0), effects);
        }
    }

    fn ready_now(
        &mut self,
        hash: TxHash,
        keys: Vec<RequestKey>,
        igas: Igas,
        gas_used: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        // The producer perhaps never heard of an answer that is known here: without its being said again, the
        // transaction would be withheld for ever.
        let stale = std::mem::take(&mut tx.stale);
        let again: Vec<_> = stale.into_iter().filter(|k| keys.contains(k)).collect();
        let new = ReadyTx {
            tx: tx.tx.clone(),
            keys,
            igas,
            gas_used,
            arrival: tx.arrival,
        };
        if !again.is_empty() {
            effects.push(Effect::Share { keys: again });
        }
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        if let State::Ready(old) = &tx.state
            && **old == new
        {
            return;
        }
        // It is announced anew, with what it needs now.
        let announced = tx.announced.take();
        self.set_state(hash, State::Ready(Box::new(new)), effects);
        if let Some(at) = announced {
            self.announced.remove(&(at, hash));
        }
    }

    fn waits(
        &mut self,
        now: Micros,
        hash: TxHash,
        mut requests: Vec<GangRequest>,
        igas: Igas,
        answers_from: u64,
        effects: &mut Vec<Effect>,
    ) {
        let Some(&(sender, _)) = self.places.get(&hash) else {
            return;
        };
        // Some answers came while the discovery ran.
        let mut look = false;
        requests.retain(|request| {
            let known = self.answers.get(&request.key) >= Some(&answers_from);
            look |= known && request.certain;
            !known
        });
        if look {
            // With that answer a discovery says what is certain now: nothing is guessed meanwhile.
            if let Some(lane) = self.lanes.get_mut(&sender) {
                lane.dirty = true;
            }
            return;
        }
        if requests.is_empty() {
            // Nothing that it could wait for: only another look can tell, so one is sure to come.
            self.hold(now, hash, Reason::NonceDependency, effects);
            return;
        }
        if self.credit.is_blocked(now, sender) {
            self.hold(now, hash, Reason::NoCover, effects);
            return;
        }
        let Some(tx) = self.get(&hash) else {
            return;
        };
        let (before, dispatched) = (tx.dispatched.len(), tx.dispatched.clone());
        let mut news = Vec::new();
        let mut left = self.credit.available(now, sender);
        requests.sort_by_key(|request| !request.certain);
        let mut seen = BTreeSet::new();
        requests.retain(|request| seen.insert(request.key));
        requests.retain(|request| {
            let kind = kind_of(request);
            match dispatched.get(&request.key) {
                Some(_) => true,
                None if kind == Kind::Certain || request.igas <= left => {
                    if kind == Kind::Speculative {
                        left = left.saturating_sub(request.igas);
                    }
                    news.push((request.key, request.igas, kind));
                    true
                }
                None => false,
            }
        });
        if requests.is_empty() {
            self.hold(now, hash, Reason::NoCover, effects);
            return;
        }
        let first = tx.round == 0;
        let round = (tx.round + u32::from(!news.is_empty())).max(1);
        if round > self.limits.rounds_max || before + news.len() > self.limits.dispatched_max {
            self.drop_tx(hash, DropReason::TooManyRequests, effects);
            return;
        }
        for request in requests.iter().filter(|request| request.certain) {
            let known = dispatched.get(&request.key);
            if let Some(known) = known.filter(|d| d.kind == Kind::Speculative) {
                self.credit.confirm(now, sender, known.igas);
            }
        }
        for &(_, igas, kind) in &news {
            self.credit.dispatch(now, sender, igas, kind);
        }
        let (base_fee, multiplier) = (self.base_fee, self.multiplier);
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        tx.round = round;
        for &(key, igas, kind) in &news {
            tx.dispatched.insert(key, Dispatched { igas, kind });
        }
        for request in requests.iter().filter(|request| request.certain) {
            if let Some(dispatched) = tx.dispatched.get_mut(&request.key) {
                dispatched.kind = Kind::Certain;
            }
        }
        let tip = tx.tx.effective_tip(base_fee).unwrap_or(0);
        let gang = Gang {
            id: hash,
            sender,
            nonce: tx.tx.nonce,
            value: worth(tip, igas, multiplier),
            class: Class::Block,
            round,
            arrival: tx.came,
            deadline: None,
            requests,
        };
        let stage = Stage::Inferring {
            round,
            requests: u32::try_from(gang.requests.len()).unwrap_or(u32::MAX),
        };
        // Why it waits was said of these requests, and the scheduler says it anew only where that changes.
        if !tx.waits_for_keys(&gang) {
            tell(now, tx, stage, effects);
        }
        if first {
            effects.push(Effect::Dispatched { hash });
        }
        self.send(now, hash, gang, effects);
    }

    /// Makes a gang the one that the transaction waits for.
    fn send(&mut self, now: Micros, hash: TxHash, gang: Gang, effects: &mut Vec<Effect>) {
        if self.get(&hash).is_some_and(|tx| tx.waits_for(&gang)) {
            return;
        }
        let repeat = self.limits.repeat_min;
        let waiting = Waiting {
            certain: certain_keys(&gang),
            repeat_at: now.saturating_add(repeat),
            repeat: Micros(repeat.0 * 2),
            gang: gang.clone(),
        };
        for request in &gang.requests {
            self.waiters.entry(request.key).or_default().insert(hash);
        }
        let repeat_at = waiting.repeat_at;
        let Some(tx) = self.get_mut(&hash) else {
            return;
        };
        let old = std::mem::replace(&mut tx.state, State::Waiting(Box::new(waiting)));
        if let State::Waiting(old) = old {
            // The scheduler takes the new gang in the old one's place.
            self.repeats.remove(&(old.repeat_at, hash));
            let kept: BTreeSet<_> = gang.requests.iter().map(|r| r.key).collect();
            for request in old.gang.requests.iter().filter(|r| !kept.contains(&r.key)) {
                if let Some(waiters) = self.waiters.get_mut(&request.key) {
                    waiters.remove(&hash);
                    if waiters.is_empty() {
                        self.waiters.remove(&request.key);
                    }
                }
            }
        }
        self.repeats.insert((repeat_at, hash));
        effects.push(Effect::Submit(gang));
    }
}

fn kind_of(request: &GangRequest) -> Kind {
    if request.certain {
        Kind::Certain
    } else {
        Kind::Speculative
    }
}

fn certain_keys(gang: &Gang) -> BTreeSet<RequestKey> {
    gang.requests
        .iter()
        .filter(|request| request.certain)
        .map(|request| request.key)
        .collect()
}
