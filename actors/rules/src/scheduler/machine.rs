//! Events in, effects out: the order in which things are looked at.

use super::book::Parked;
use super::congestion::Survey;
use super::limits::{REPLAN_AT_ONCE, REPLAN_EACH, REPLAN_MAX, SETTLE_TIME, SLOT_DEFAULT};
use super::model::{Plan, Problem, Verdict};
use super::{
    Config, Decision, DecisionLog, Effect, Event, Figures, Included, Record, Released, Reputation,
    Scheduler, Slot, policy,
};
use crate::Machine;
use crate::ids::{Epoch, Height, LeaseId, Micros, RequestKey};
use crate::message::Deferral;
use crate::request::Settled;
use crate::tx::Reason;
use alloy_primitives::{Address, B256};
use std::collections::{BTreeMap, BTreeSet};

impl Scheduler {
    /// A scheduler that knows nothing yet. It gives no work before [`Event::TookOver`].
    #[must_use]
    pub fn new(config: Config) -> Self {
        let problem = Problem {
            policy: config.policy,
            tuning: config.tuning,
            ..Problem::default()
        };
        Self {
            config,
            epoch: None,
            fenced: false,
            problem,
            plan: Plan::default(),
            index: policy::Index::default(),
            planned_at: Micros(0),
            built: Height(0),
            dirty: false,
            urgent: false,
            costs_changed: false,
            entries: Vec::new(),
            waiting: Vec::new(),
            members: Vec::new(),
            asked: Vec::new(),
            short: BTreeSet::new(),
            priors: Vec::new(),
            free_keys: Vec::new(),
            freed_keys: Vec::new(),
            free_gangs: Vec::new(),
            free_senders: Vec::new(),
            by_key: BTreeMap::new(),
            by_gang: BTreeMap::new(),
            by_model: BTreeMap::new(),
            by_shard: BTreeMap::new(),
            senders: BTreeMap::new(),
            call_ends: BTreeSet::new(),
            unticketed: BTreeSet::new(),
            tickets_held: 0,
            parked: BTreeMap::new(),
            leases: BTreeMap::new(),
            next_lease: 0,
            dispatched_time: 0,
            hedged_time: 0,
            disputes: 0,
            figures: Figures::default(),
            certificate: super::Certificate::default(),
            least: Vec::new(),
            profiles: BTreeMap::new(),
            cache: super::Cache::default(),
            credit: super::Credit::default(),
            registered: None,
            convicted: BTreeSet::new(),
        }
    }

    /// The problem as it is now: for figures, displays and tests.
    #[must_use]
    pub const fn problem(&self) -> &Problem {
        &self.problem
    }

    /// The plan that work is given from.
    #[must_use]
    pub const fn plan(&self) -> &Plan {
        &self.plan
    }

    /// The answer to a request, if it is kept.
    #[must_use]
    pub fn settled(&self, key: &RequestKey) -> Option<&Settled> {
        self.cache.peek(key)
    }

    /// Gangs that wait, leases under way, answers that are kept.
    #[must_use]
    pub fn load(&self) -> (usize, usize, usize) {
        (self.by_gang.len(), self.leases.len(), self.cache.len())
    }

    /// What it did since its start.
    #[must_use]
    pub const fn figures(&self) -> Figures {
        self.figures
    }

    /// Value that the last blocks included, against what no schedule could have exceeded. None before the second head.
    #[must_use]
    pub const fn certificate(&self) -> Option<super::Window> {
        self.certificate.last()
    }

    pub(super) fn log(&self, now: Micros, decision: Decision, effects: &mut Vec<Effect>) {
        effects.push(Effect::Log(Record { at: now, decision }));
    }

    pub(super) fn update_room(&mut self, now: Micros, sender: Address) {
        if let Some(known) = self.senders.get(&sender) {
            self.problem.rooms[known.slot as usize] = self.credit.cover(now, sender);
        }
    }

    fn took_over(&mut self, now: Micros, epoch: Epoch, effects: &mut Vec<Effect>) {
        if self.epoch.is_some_and(|known| known >= epoch) {
            return;
        }
        self.epoch = Some(epoch);
        self.fenced = false;
        // Numbers go on from the clock: a shard's report about an earlier scheduler's leases then names none of ours.
        self.next_lease = self.next_lease.max(now.0);
        let old: Vec<LeaseId> = self.leases.keys().copied().collect();
        for lease in old {
            self.release(now, lease, Released::Refused, effects);
        }
        self.urgent = true;
        self.dirty = true;
    }

    fn head(&mut self, now: Micros, slot: Slot, effects: &mut Vec<Effect>) {
        if slot.height < self.built {
            return;
        }
        let planned = self.problem.height;
        let before = std::mem::replace(&mut self.built, slot.height);
        let [old, _] = self.problem.deadlines;
        let next = slot.height.next();
        self.problem.height = if before < slot.height {
            next
        } else if old > Micros(0) && now >= old {
            next.next()
        } else {
            self.problem.height.max(next)
        };
        let first = slot.cutoff.saturating_sub(SETTLE_TIME);
        let second = slot.next_cutoff.saturating_sub(SETTLE_TIME);
        self.problem.deadlines = [first, second.max(first.saturating_add(Micros(1)))];
        self.roll(now);
        if self.problem.height != planned {
            self.next_slot();
        }
        if before < slot.height {
            self.certificate.block(now, slot.height, self.busy_count());
        }
        self.broken_promises(now, slot.height, effects);
        self.late_tickets(before, slot.height);
        let survey = self.survey();
        self.report(&survey, effects);
        if before < slot.height {
            effects.push(Effect::Congestion(self.congestion_of(&survey)));
        }
        self.forget_parked();
        self.grant_tickets();
        self.dirty = true;
        self.urgent = true;
    }

    /// Where no block came in time, plans look one slot further: work is of use for the next one.
    fn roll(&mut self, now: Micros) -> bool {
        let [first, second] = self.problem.deadlines;
        if now < first {
            return false;
        }
        let slot = if first == Micros(0) {
            SLOT_DEFAULT
        } else {
            second.saturating_sub(first).max(Micros(1))
        };
        let passed = now.saturating_sub(first).0 / slot.0 + 1;
        let passed_one = first > Micros(0);
        let first = if first == Micros(0) {
            now.saturating_add(slot)
        } else {
            first.saturating_add(Micros(passed.saturating_mul(slot.0)))
        };
        self.problem.deadlines = [first, first.saturating_add(slot)];
        if passed_one {
            // The block after the head takes no more: it is in the making.
            self.problem.height = self.built.next().next();
            self.next_slot();
        }
        self.dirty = true;
        self.urgent = true;
        true
    }

    /// Caps are counted anew.
    fn next_slot(&mut self) {
        self.problem.used.fill(0);
        self.problem.used_uncovered = 0;
    }

    fn broken_promises(&mut self, now: Micros, built: Height, effects: &mut Vec<Effect>) {
        for slot in 0..self.waiting.len() {
            let Some(waiting) = &mut self.waiting[slot] else {
                continue;
            };
            if waiting.committed_to.is_some_and(|height| height <= built) {
                waiting.committed_to = Some(self.problem.height);
                self.figures.broken += 1;
                let id = self.problem.gangs[slot].id;
                let height = built;
                self.log(now, Decision::PromiseBroken { id, height }, effects);
            }
        }
    }

    /// Counts the gangs whose ticket was due with a block after `before`, up to `built`, and that wait still.
    fn late_tickets(&mut self, before: Height, built: Height) {
        let held = self.problem.gangs.iter().filter(|gang| gang.live);
        let late = held.filter(|gang| gang.due.is_some_and(|due| before < due && due <= built));
        self.figures.late += late.count() as u64;
    }

    /// Tells those who wait why, and about how long, where that changed.
    fn report(&mut self, survey: &Survey, effects: &mut Vec<Effect>) {
        let live = self.problem.shards.iter().filter(|s| s.live).count() as u64;
        let per_block = live.saturating_mul(self.problem.slot());
        let (plan, index) = (&self.plan, &self.index);
        for &(gang, rank) in &survey.ranks {
            let (Verdict::Deferred(reason), Some(Some(waiting))) = (
                plan.verdict(index, gang),
                self.waiting.get_mut(gang as usize),
            ) else {
                continue;
            };
            let blocks = match reason {
                Reason::NoShard => 0,
                _ if per_block == 0 => 0,
                _ => {
                    let blocks = survey.ahead(rank) / per_block;
                    u32::try_from(blocks).unwrap_or(u32::MAX).saturating_add(2)
                }
            };
            if waiting.told.is_none_or(|(said, after)| {
                differs(said, reason) || after.abs_diff(blocks) > after / 4
            }) {
                waiting.told = Some((reason, blocks));
                effects.push(Effect::Defer(Deferral {
                    id: self.problem.gangs[gang as usize].id,
                    reason,
                    blocks,
                }));
            }
        }
    }

    /// Forgets what was kept for next rounds of transactions that were not heard of for twice a ticket's time: their end
    /// was missed.
    fn forget_parked(&mut self) {
        let height = self.problem.height;
        let blocks = self.problem.tuning.ticket_blocks;
        let old = |parked: &Parked| height.0 > parked.since.0 + 2 * blocks;
        let gone: Vec<B256> = (self.parked.iter())
            .filter(|(_, parked)| old(parked))
            .map(|(id, _)| *id)
            .collect();
        for id in gone {
            self.certificate.left(id);
            self.unpark(&id);
        }
    }

    /// Gives tickets to the oldest gangs, as many as the shards can serve in time even with one of them lost.
    fn grant_tickets(&mut self) {
        let live = self.problem.shards.iter().filter(|s| s.live).count() as u64;
        let tuning = self.problem.tuning;
        let sure = live.saturating_sub(1).max(live.min(1)) * self.problem.slot();
        let per_block = sure * tuning.ticket_percent / 100;
        let largest = per_block / 4;
        let room = (tuning.ticket_blocks - 2) * (per_block - largest);
        let due = Height(self.problem.height.0 + tuning.ticket_blocks);
        let mut given = Vec::new();
        for &(arrival, id) in &self.unticketed {
            if self.tickets_held >= room {
                break;
            }
            let Some(&slot) = self.by_gang.get(&id) else {
                continue;
            };
            let cost = self.plan.asks(&self.index, slot);
            if cost == 0 || cost > largest || self.tickets_held + cost > room {
                continue;
            }
            if let Some(waiting) = &mut self.waiting[slot as usize] {
                waiting.ticket = Some(cost);
                self.problem.gangs[slot as usize].due = Some(due);
                self.index.touch(slot);
                self.tickets_held += cost;
                self.figures.tickets += 1;
                given.push((arrival, id));
            }
        }
        for ticket in given {
            self.unticketed.remove(&ticket);
        }
    }

    fn included(&mut self, now: Micros, included: &Included, effects: &mut Vec<Effect>) {
        let Included {
            id,
            sender,
            igas,
            ref keys,
        } = *included;
        let mut ticket = self.parked.get(&id).and_then(|parked| parked.ticket);
        if let Some(&slot) = self.by_gang.get(&id) {
            let held = self.waiting[slot as usize].as_ref().and_then(|w| w.ticket);
            ticket = ticket.or(held.zip(self.problem.gangs[slot as usize].due));
            self.drop_gang(slot, effects);
        }
        if let Some((_, due)) = ticket {
            let left = due.0.saturating_sub(self.built.next().0);
            let waited = self.problem.tuning.ticket_blocks.saturating_sub(left);
            self.figures.ticket_wait_most = self.figures.ticket_wait_most.max(waited);
        }
        self.unpark(&id);
        self.certificate.included(id);
        self.credit.included(now, id, sender, igas, keys);
        self.credit.bound(&self.senders);
        self.update_room(now, sender);
    }

    /// What every sender paid and wasted, for who comes next.
    #[must_use]
    pub fn reputation(&self, now: Micros) -> Reputation {
        self.credit.reputation(now)
    }

    fn remember(&mut self, now: Micros, reputation: &Reputation) {
        self.credit.remember(now, reputation);
        self.credit.bound(&self.senders);
        for standing in &reputation.accounts {
            self.update_room(now, standing.sender);
        }
    }

    fn recovered(&mut self, settled: Settled, effects: &mut Vec<Effect>) {
        let key = settled.key;
        self.cache.insert(settled.clone());
        if let Some(&slot) = self.by_key.get(&key) {
            if let Some(entry) = &mut self.entries[slot as usize] {
                entry.elsewhere = true;
            }
            effects.push(Effect::Resend(settled));
            self.satisfy(slot, effects);
        }
    }

    fn tick(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.roll(now) {
            let survey = self.survey();
            self.report(&survey, effects);
            effects.push(Effect::Congestion(self.congestion_of(&survey)));
        }
        self.expire_calls(now, effects);
        self.expire_shards(now, effects);
        self.expire_leases(now, effects);
        self.hedge(now);
        self.refresh(now);
        self.refresh_costs();
        let gangs = self.by_gang.len();
        let gap = Micros(REPLAN_EACH.0 * gangs as u64).min(REPLAN_MAX);
        let due = gangs <= REPLAN_AT_ONCE || now >= self.planned_at.saturating_add(gap);
        if self.urgent || self.dirty && due {
            self.replan(now, effects);
        }
        self.prefetch(now, effects);
    }

    /// The full plan.
    fn replan(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        self.refresh_ready(now);
        policy::replan(&self.problem, &mut self.index, &mut self.plan);
        for (lane, &price) in self.problem.shards.iter_mut().zip(&self.plan.prices) {
            lane.price = price;
        }
        self.problem.homes.clear();
        for gang in self.index.promised() {
            self.settle_in(gang);
        }
        self.free_keys.append(&mut self.freed_keys);
        self.dirty = false;
        self.urgent = false;
        self.planned_at = now;
        if self.config.decision_log == DecisionLog::Plans {
            let name = |slot: u32| {
                self.entries[slot as usize]
                    .as_ref()
                    .map_or_else(RequestKey::default, |e| e.key)
            };
            let mut whole = self.plan.clone();
            whole.complete(&self.problem, &self.index);
            let decision = Decision::Planned {
                height: self.problem.height,
                digest: whole.digest(&self.problem, name),
                placed: self.plan.placed,
                deferred: self.plan.deferred,
            };
            self.log(now, decision, effects);
        }
        // That no shard serves a model is told at once: waiting does not help, loading it does.
        self.short.clear();
        for gang in self.plan.unserved(&self.index) {
            let gang = gang as usize;
            for &key in &self.problem.gangs[gang].needs {
                let state = &self.problem.keys[key as usize];
                let hosts = self.problem.hosts(state.model) & !state.barred;
                if hosts.count_ones() < state.copies {
                    self.short.insert(state.model);
                }
            }
            if let Some(Some(waiting)) = self.waiting.get_mut(gang)
                && waiting.told.is_none_or(|(said, _)| said != Reason::NoShard)
            {
                waiting.told = Some((Reason::NoShard, 0));
                effects.push(Effect::Defer(Deferral {
                    id: self.problem.gangs[gang].id,
                    reason: Reason::NoShard,
                    blocks: 0,
                }));
            }
        }
    }
}

/// Whether a reason is news: another one, or a clearing price that moved by more than a quarter.
fn differs(before: Reason, now: Reason) -> bool {
    match (before, now) {
        (Reason::Outbid(a), Reason::Outbid(b)) => a.abs_diff(b) > a / 4,
        _ => before != now,
    }
}

impl Machine for Scheduler {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        let now = now.max(self.problem.now);
        self.problem.now = now;
        match event {
            Event::Submit(gang) if gang.requests.is_empty() => {}
            Event::Submit(gang) => self.submit(now, &gang, effects),
            Event::Withdraw(withdraw) => {
                if let Some(&slot) = self.by_gang.get(&withdraw.id) {
                    self.drop_gang(slot, effects);
                }
                self.unpark(&withdraw.id);
                self.certificate.left(withdraw.id);
                self.credit.abandon(now, withdraw.id);
            }
            Event::Hello(hello) => self.hello(now, hello, effects),
            Event::Done(done) => self.done(now, done, effects),
            // Anybody can put a shard's name on an answer: it proves nothing against that shard, and a strike would let
            // one shard silence another. One that can't sign is struck when its leases run out.
            Event::Forged { .. } => {}
            Event::Refused(refused) => self.refused(now, &refused, effects),
            Event::Head(slot) => self.head(now, slot, effects),
            Event::Included(included) => self.included(now, &included, effects),
            Event::Registered(shards) => {
                self.registered = Some(shards.into_iter().collect());
                self.costs_changed = true;
                self.urgent = true;
                self.refresh(now);
            }
            Event::Recovered(settled) => self.recovered(settled, effects),
            Event::Reputation(reputation) => self.remember(now, &reputation),
            Event::Convicted(shard) => self.quarantine(now, shard, effects),
            Event::Recomputed(evidence) => self.recomputed(now, evidence, effects),
            Event::TookOver { epoch } => self.took_over(now, epoch, effects),
            Event::Tick => self.tick(now, effects),
        }
        self.dispatch(now, effects);
    }
}

#[cfg(test)]
mod tests;
