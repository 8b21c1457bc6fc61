//! Work that is with a shard: given, prolonged, doubled, taken back.

use super::limits::{HEDGE_AFTER_PERCENT, LEASE_MIN, ROUND_TRIP};
use super::model::{KeyState, Pass, Verdict};
use super::{Decision, Effect, Scheduler};
use crate::ids::{LeaseId, Micros};
use crate::message::{AssignedRequest, Assignment, CancelAssignment, Class, Deferral};
use crate::tx::Reason;

/// Work that is with a shard.
#[derive(Clone, Debug)]
pub(super) struct Lease {
    /// The shard's slot.
    pub(super) shard: u32,
    /// The model's slot.
    pub(super) model: u32,
    pub(super) assignment: Assignment,
    pub(super) issued: Micros,
    /// When it started, or will, as far as is known.
    pub(super) started: Micros,
    pub(super) expected: u64,
    pub(super) variance: u64,
    pub(super) expires: Micros,
    pub(super) hedged: bool,
    pub(super) cancelled: bool,
}

impl Lease {
    pub(super) fn done_at(&self) -> Micros {
        self.started.saturating_add(Micros(self.expected))
    }

    /// When it will be done, as it looks now: it runs, or it waits until its shard is free.
    pub(super) fn ends(&self, now: Micros, free: Option<Micros>) -> Micros {
        match free {
            Some(free) => free.saturating_add(Micros(self.expected)),
            None if now <= self.done_at() => self.done_at(),
            // What is overdue is thought to take its deviation still, and as long as it is overdue; a quarter of its time
            // at most.
            None => {
                let overdue = now.saturating_sub(self.done_at()).0;
                let more = overdue.saturating_add(self.variance.isqrt());
                now.saturating_add(Micros(more.min(self.expected / 4)))
            }
        }
    }
}

/// How a lease ended without an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Released {
    /// The shard is gone, or the message was.
    Lost,
    /// The shard tried and could not.
    Failed,
    /// The shard did not take it, for no fault of its own.
    Refused,
}

impl Scheduler {
    /// Gives idle shards what the plan has for them.
    pub(super) fn dispatch(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        if self.fenced || self.epoch.is_none() {
            return;
        }
        let mut shards: Vec<u32> = (0..self.members.len() as u32).collect();
        shards.sort_by_key(|&s| self.problem.shards[s as usize].id);
        for shard in shards {
            while let Some(batch) = self.next_batch(now, shard) {
                self.assign(now, shard, batch, effects);
            }
        }
    }

    fn next_batch(&mut self, now: Micros, shard: u32) -> Option<u32> {
        let s = shard as usize;
        let (lane, member) = (&self.problem.shards[s], &self.members[s]);
        if !lane.live || lane.long || now < member.busy_until || !self.takes_more(now, member) {
            return None;
        }
        let queue = self.plan.queues.get_mut(s)?;
        let &batch = queue.front()?;
        let long = matches!(
            self.plan.board.batches[batch as usize].pass,
            Pass::Aged | Pass::Long
        );
        if long && !member.leases.is_empty() {
            return None;
        }
        queue.pop_front()
    }

    fn assign(&mut self, now: Micros, shard: u32, batch: u32, effects: &mut Vec<Effect>) {
        let s = shard as usize;
        let (model, pass) = {
            let batch = &self.plan.board.batches[batch as usize];
            (batch.model, batch.pass)
        };
        let keys = self.plan.board.batches[batch as usize].keys.clone();
        self.plan.board.dispatched(&self.problem, batch);
        let mut requests = Vec::with_capacity(keys.len());
        let mut taken = Vec::with_capacity(keys.len());
        for key in keys {
            let state = &self.problem.keys[key as usize];
            if let Some(entry) = &self.entries[key as usize]
                && state.copies > 0
                && state.barred & 1 << shard == 0
            {
                requests.push(AssignedRequest {
                    key: entry.key,
                    mode: entry.mode,
                    input: entry.input.clone(),
                });
                taken.push(key);
            }
        }
        let Some(epoch) = self.epoch.filter(|_| !requests.is_empty()) else {
            return;
        };
        for &key in &taken {
            let entry = self.entries[key as usize].as_mut();
            if let Some(charge) = entry.and_then(|entry| entry.charged.as_mut())
                && !std::mem::replace(&mut charge.begun, true)
            {
                self.certificate.begun(charge.whose, charge.time);
            }
        }
        self.next_lease += 1;
        let lease = LeaseId(self.next_lease);
        let cost = *self.problem.cost(model, shard);
        let expected = cost.batch(requests.len() as u64);
        let start = self.problem.shards[s].free_at.max(now);
        let soon = start.saturating_add(ROUND_TRIP);
        let span = Micros(expected);
        let must_start_by = match pass {
            Pass::This => self.problem.deadlines[0].saturating_sub(span).max(soon),
            Pass::Next => self.problem.deadlines[1].saturating_sub(span).max(soon),
            Pass::Aged | Pass::Long => start.saturating_add(LEASE_MIN),
        };
        let expires = start
            .saturating_add(Micros(expected.saturating_mul(2)))
            .saturating_add(ROUND_TRIP)
            .max(must_start_by.saturating_add(span))
            .max(now.saturating_add(LEASE_MIN));
        let assignment = Assignment {
            shard: self.members[s].hello.shard,
            incarnation: self.members[s].hello.incarnation,
            lease,
            epoch,
            model: self.problem.models[model as usize],
            requests,
            must_start_by,
            expires,
        };
        self.leases.insert(
            lease,
            Lease {
                shard,
                model,
                assignment: assignment.clone(),
                issued: now,
                started: start,
                expected,
                variance: cost.variance,
                expires,
                hedged: false,
                cancelled: false,
            },
        );
        self.members[s].leases.push_back(lease);
        self.dispatched_time = self.dispatched_time.saturating_add(expected);
        let slot_time = self.problem.slot();
        let lane = &mut self.problem.shards[s];
        lane.free_at = start.saturating_add(span);
        lane.variance = lane.variance.saturating_add(cost.variance);
        lane.long |= expected > slot_time;
        for &key in &taken {
            if let Some(entry) = &mut self.entries[key as usize] {
                entry.leases.insert(lease);
            }
            self.recount(key);
        }
        let (ready_at, variance) = (start.saturating_add(span), self.problem.shards[s].variance);
        for &key in &taken {
            let state = &mut self.problem.keys[key as usize];
            state.ready_at = state.ready_at.max(ready_at);
            state.variance = state.variance.max(variance);
        }
        let each = expected / taken.len().max(1) as u64;
        for key in taken {
            self.promise(now, key, each);
        }
        effects.push(Effect::Assign(assignment));
    }

    /// Work on a key began: who was planned for this block with it is promised that block, and who came first pays.
    fn promise(&mut self, now: Micros, key: u32, time: u64) {
        let Some(entry) = &self.entries[key as usize] else {
            return;
        };
        let height = self.problem.height;
        // A plan is some milliseconds old: what began later than planned may be too late, and is not promised.
        let keys = &self.problem.keys;
        let end = self.problem.deadlines[0];
        let sigmas = self.problem.tuning.margin_sigmas;
        let in_time = |&key: &u32| {
            let state: &KeyState = &keys[key as usize];
            state.copies > 0 || state.ready_at.saturating_add(Micros(state.margin(sigmas))) <= end
        };
        let (mut payer, mut promised) = (None, Vec::new());
        for &gang in &entry.waiters {
            let candidate = &mut self.problem.gangs[gang as usize];
            let Some(waiting) = &mut self.waiting[gang as usize] else {
                continue;
            };
            candidate.started = true;
            self.index.touch(gang);
            if self.plan.verdicts.get(gang as usize) == Some(&Verdict::Placed(Pass::This))
                && !candidate.committed
                && candidate.needs.iter().all(in_time)
            {
                candidate.committed = true;
                self.figures.promised += 1;
                waiting.committed_to = Some(height);
                promised.push(gang);
            }
            if waiting.class == Class::Block {
                let bid = (candidate.arrival, candidate.id, waiting.sender);
                if payer.is_none_or(|best| bid < best) {
                    payer = Some(bid);
                }
            }
        }
        if let Some((_, id, sender)) = payer {
            if let Some(known) = self.senders.get(&sender) {
                let slot = known.slot as usize;
                let used = &mut self.problem.used[slot];
                *used = used.saturating_add(time);
                if self.problem.rooms[slot] < entry.igas.0 {
                    let used = &mut self.problem.used_uncovered;
                    *used = used.saturating_add(time);
                }
            }
            self.credit.expose(now, sender, id, entry.key, entry.igas);
            self.update_room(now, sender);
        }
        for gang in promised {
            self.settle_in(gang);
        }
    }

    /// What of a gang is placed and was promised keeps its places in the plans to come.
    pub(super) fn settle_in(&mut self, gang: u32) {
        for key in &self.problem.gangs[gang as usize].needs {
            match self.plan.board.places(*key) {
                0 => {}
                places => {
                    self.problem.homes.insert(*key, places);
                }
            }
        }
    }

    /// Takes a lease out of the books of its shard and its requests; the requests are counted anew by the caller.
    pub(super) fn take_lease(&mut self, now: Micros, lease: LeaseId) -> Option<Lease> {
        let ended = self.leases.remove(&lease)?;
        let member = &mut self.members[ended.shard as usize];
        member.leases.retain(|&other| other != lease);
        if let Some(next) = member.leases.front()
            && let Some(next) = self.leases.get_mut(next)
        {
            next.started = next.started.min(now).max(next.issued);
            if ended.started <= next.started {
                next.started = now;
            }
        }
        for request in &ended.assignment.requests {
            if let Some(&slot) = self.by_key.get(&request.key)
                && let Some(entry) = &mut self.entries[slot as usize]
            {
                entry.leases.remove(&lease);
            }
        }
        Some(ended)
    }

    /// Ends a lease that brought no answer: its requests are to be started again, elsewhere where that helps.
    pub(super) fn release(
        &mut self,
        now: Micros,
        lease: LeaseId,
        how: Released,
        effects: &mut Vec<Effect>,
    ) {
        let Some(ended) = self.take_lease(now, lease) else {
            return;
        };
        for request in &ended.assignment.requests {
            let Some(&slot) = self.by_key.get(&request.key) else {
                continue;
            };
            if how == Released::Failed
                && let Some(entry) = &mut self.entries[slot as usize]
            {
                entry.failed |= 1 << ended.shard;
            }
            self.recount(slot);
            if how == Released::Lost && !ended.cancelled {
                self.tell_lost(slot, effects);
            }
            self.unwanted(slot, effects);
        }
        self.dirty = true;
        self.refresh(now);
    }

    fn tell_lost(&mut self, key: u32, effects: &mut Vec<Effect>) {
        let Some(entry) = &self.entries[key as usize] else {
            return;
        };
        for &gang in &entry.waiters {
            let told = Some((Reason::ShardLost, 1));
            if let Some(waiting) = &mut self.waiting[gang as usize]
                && waiting.told != told
            {
                waiting.told = told;
                effects.push(Effect::Defer(Deferral {
                    id: self.problem.gangs[gang as usize].id,
                    reason: Reason::ShardLost,
                    blocks: 1,
                }));
            }
        }
    }

    /// Takes a lease back if nobody waits for any of its requests.
    pub(super) fn cancel_if_unwanted(&mut self, lease: LeaseId, effects: &mut Vec<Effect>) {
        let Some(entry) = self.leases.get_mut(&lease) else {
            return;
        };
        let wanted = |request: &AssignedRequest| {
            self.by_key
                .get(&request.key)
                .and_then(|&slot| self.entries[slot as usize].as_ref())
                .is_some_and(|e| !e.waiters.is_empty())
        };
        if entry.cancelled || entry.assignment.requests.iter().any(wanted) {
            return;
        }
        entry.cancelled = true;
        effects.push(Effect::Cancel(CancelAssignment {
            shard: entry.assignment.shard,
            lease,
            epoch: entry.assignment.epoch,
        }));
    }

    pub(super) fn expire_leases(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let expired: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| now >= lease.expires)
            .map(|(id, _)| *id)
            .collect();
        for id in expired {
            let Some(lease) = self.leases.get(&id) else {
                continue;
            };
            let (shard, assignment) = (lease.shard, lease.assignment.clone());
            self.release(now, id, Released::Failed, effects);
            self.log(now, Decision::LeaseExpired(assignment), effects);
            self.strike(now, shard, effects);
        }
    }

    /// Starts a second copy of work that takes much longer than expected and was promised, where another shard is idle
    /// and the budget allows.
    pub(super) fn hedge(&mut self, now: Micros) {
        let late: Vec<LeaseId> = self
            .leases
            .iter()
            .filter(|(_, lease)| {
                let patience = Micros(lease.expected / 100 * HEDGE_AFTER_PERCENT);
                let front = self.members[lease.shard as usize].leases.front();
                !lease.hedged
                    && !lease.cancelled
                    && front == Some(&lease.assignment.lease)
                    && now
                        > lease
                            .started
                            .saturating_add(patience)
                            .saturating_add(ROUND_TRIP)
            })
            .map(|(id, _)| *id)
            .collect();
        for id in late {
            let Some(lease) = self.leases.get(&id) else {
                continue;
            };
            let (expected, shard, model) = (lease.expected, lease.shard, lease.model);
            let slots: Vec<u32> = lease
                .assignment
                .requests
                .iter()
                .filter_map(|request| self.by_key.get(&request.key).copied())
                .collect();
            let promised = |&slot: &u32| {
                self.entries[slot as usize].as_ref().is_some_and(|entry| {
                    let mut waiters = entry.waiters.iter();
                    waiters.any(|&gang| self.problem.gangs[gang as usize].committed)
                })
            };
            let hosts = self.problem.hosts(model) & !(1 << shard);
            let idle = (0..self.members.len() as u32).any(|s| {
                hosts & 1 << s != 0
                    && self.members[s as usize].leases.is_empty()
                    && now.saturating_add(Micros(
                        self.problem.cost(model, s).batch(slots.len() as u64),
                    )) <= self.problem.deadlines[1]
            });
            let base = self.dispatched_time.saturating_add(self.problem.slot());
            let budget = base / 100 * self.problem.tuning.hedge_percent;
            if !idle
                || !slots.iter().any(promised)
                || self.hedged_time.saturating_add(expected) > budget
            {
                continue;
            }
            self.hedged_time = self.hedged_time.saturating_add(expected);
            if let Some(lease) = self.leases.get_mut(&id) {
                lease.hedged = true;
            }
            for slot in slots {
                if let Some(entry) = &mut self.entries[slot as usize] {
                    entry.hedged = true;
                }
                self.recount(slot);
            }
            self.dirty = true;
            self.urgent = true;
        }
    }
}
