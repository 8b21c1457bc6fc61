//! Who waits for what: gangs, requests, senders and models, in the slots of the problem.

use super::Scheduler;
use super::leases::Lease;
use super::limits::{CALL_LIFE, CALLS_MAX, CALLS_PER_SENDER_MAX, GANGS_MAX};
use super::model::{Candidate, KeyState, Verdict};
use super::{Effect, policy};
use crate::ids::{Height, Igas, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use crate::message::{Answer, Class, Deferral, Gang, GangRequest};
use crate::request::Mode;
use crate::tx::Reason;
use alloy_primitives::{Address, B256, Bytes};
use std::collections::{BTreeMap, BTreeSet};

/// A request that someone waits for, or that is under way.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: RequestKey,
    pub(super) mode: Mode,
    pub(super) input: Bytes,
    pub(super) igas: Igas,
    /// Equal answers that settle it.
    pub(super) quorum: u8,
    /// Gangs that wait.
    pub(super) waiters: BTreeSet<u32>,
    /// Answers, one per shard.
    pub(super) answers: BTreeMap<ShardId, Answer>,
    /// Leases under way.
    pub(super) leases: BTreeSet<LeaseId>,
    /// Shards that failed at it, as a set of slots.
    pub(super) failed: u128,
    /// One more copy than needed may be under way.
    pub(super) hedged: bool,
    /// What the certificate has of it.
    pub(super) charged: Option<Charge>,
    /// Some answer came from a shard that this scheduler had not given it to, or not any more.
    pub(super) elsewhere: bool,
    /// It was settled, and a later answer differs: it runs again to tell who lied.
    pub(super) judged: bool,
}

/// A request's least time in the certificate: that of who asked for it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    /// The gang.
    pub(super) whose: B256,
    /// Microseconds, of all copies that are needed.
    pub(super) time: u64,
    /// It was handed out.
    pub(super) begun: bool,
}

impl Entry {
    /// Leases that can bring a word from a shard that gave none yet: late answers make others useless.
    pub(super) fn useful(&self, leases: &BTreeMap<LeaseId, Lease>) -> usize {
        let shard = |id: &LeaseId| leases.get(id).map(|lease| lease.assignment.shard);
        let shards = self.leases.iter().filter_map(shard);
        shards
            .filter(|shard| !self.answers.contains_key(shard))
            .count()
    }

    /// The most shards that agree.
    pub(super) fn agreed(&self) -> usize {
        let mut counts: BTreeMap<B256, usize> = BTreeMap::new();
        for answer in self.answers.values() {
            *counts.entry(answer.outcome.hash()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}

/// What becomes of a request whose answer is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Known {
    /// It is answered.
    Answers,
    /// It is computed again.
    Recomputes,
}

/// What the machine knows of a gang beside its place in the problem.
#[derive(Clone, Debug)]
pub(super) struct Waiting {
    pub(super) sender: Address,
    pub(super) class: Class,
    /// Microseconds that its ticket holds.
    pub(super) ticket: Option<u64>,
    /// The block that it was promised for.
    pub(super) committed_to: Option<Height>,
    /// What its sender was told last.
    pub(super) told: Option<(Reason, u32)>,
}

/// What a transaction whose round is answered takes into its next one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Parked {
    /// The block that was planned when the round was answered.
    pub(super) since: Height,
    /// Its ticket: microseconds that it holds, and when it is due.
    pub(super) ticket: Option<(u64, Height)>,
}

impl Parked {
    /// Microseconds that its ticket holds.
    pub(super) fn cost(&self) -> u64 {
        self.ticket.map_or(0, |(cost, _)| cost)
    }
}

/// A sender with gangs here.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    pub(super) slot: u32,
    pub(super) gangs: u32,
    pub(super) calls: u32,
}

impl Scheduler {
    pub(super) fn submit(&mut self, now: Micros, gang: &Gang, effects: &mut Vec<Effect>) {
        match self.admit(gang) {
            Ok(()) => self.enter(now, gang, Known::Answers, effects),
            Err(reason) => effects.push(Effect::Defer(Deferral {
                id: gang.id,
                reason,
                blocks: 0,
            })),
        }
    }

    /// Takes a gang in, in the place of its earlier form.
    pub(super) fn enter(
        &mut self,
        now: Micros,
        gang: &Gang,
        known: Known,
        effects: &mut Vec<Effect>,
    ) {
        // What the new form shares with the old one must not be dropped in between.
        let old = self.by_gang.get(&gang.id).copied();
        let mut room = self.credit.room(now, gang.sender);
        let mut needs = Vec::with_capacity(gang.requests.len());
        let (mut igas, mut least) = (0u64, 0u64);
        for request in &gang.requests {
            if known == Known::Answers
                && let Some(settled) = self.cache.get(&request.key)
            {
                effects.push(Effect::Resend(settled.clone()));
                continue;
            }
            if !request.certain {
                // What was found behind a placeholder is computed within the sender's credit alone.
                if request.igas.0 > room {
                    continue;
                }
                room -= request.igas.0;
            }
            let key = self.entry(request);
            if !needs.contains(&key) {
                needs.push(key);
                igas = igas.saturating_add(request.igas.0);
                if request.certain {
                    least = least.saturating_add(self.charge(key, gang.id));
                }
            }
        }
        if gang.class == Class::Block && known == Known::Answers {
            self.certificate
                .asked(gang.id, gang.value, gang.round, least);
        }
        let fresh = self.new_gang(now, gang, &needs, igas, old);
        if let Some(old) = old {
            self.drop_gang(old, effects);
        }
        self.by_gang.insert(gang.id, fresh);
        self.dirty = true;
        if needs.is_empty() {
            self.park(fresh);
            self.drop_gang(fresh, effects);
            return;
        }
        if self.by_gang.len() > super::limits::INSERT_FROM {
            policy::insert(&self.problem, &mut self.plan, fresh);
        }
    }

    fn admit(&self, gang: &Gang) -> Result<(), Reason> {
        if self.by_gang.contains_key(&gang.id) {
            return Ok(());
        }
        if self.by_gang.len() >= GANGS_MAX {
            return Err(Reason::BlockFull);
        }
        if gang.class == Class::Call {
            let calls = |s: &Sender| s.calls as usize >= CALLS_PER_SENDER_MAX;
            if self.call_ends.len() >= CALLS_MAX {
                return Err(Reason::BlockFull);
            }
            if self.senders.get(&gang.sender).is_some_and(calls) {
                return Err(Reason::SenderCap);
            }
        }
        Ok(())
    }

    /// The slot of a request, new or known.
    fn entry(&mut self, request: &GangRequest) -> u32 {
        if let Some(&slot) = self.by_key.get(&request.key) {
            return slot;
        }
        let model = self.model(request.model, request.igas);
        let quorum = self.config.quorum.of(request.mode).max(1);
        let entry = Entry {
            key: request.key,
            mode: request.mode,
            input: request.input.clone(),
            igas: request.igas,
            quorum,
            waiters: BTreeSet::new(),
            answers: BTreeMap::new(),
            leases: BTreeSet::new(),
            failed: 0,
            hedged: false,
            charged: None,
            elsewhere: false,
            judged: false,
        };
        let state = KeyState {
            model,
            copies: u32::from(quorum),
            ready_at: Micros(0),
            variance: 0,
            barred: 0,
        };
        let slot = self.free_keys.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.problem.keys.push(KeyState::default());
            self.entries.len() as u32 - 1
        });
        self.entries[slot as usize] = Some(entry);
        self.problem.keys[slot as usize] = state;
        self.by_key.insert(request.key, slot);
        self.asked[model as usize] += 1;
        slot
    }

    /// Microseconds that a request takes at least, where this gang is who it is charged to: who asked for it first.
    fn charge(&mut self, slot: u32, id: B256) -> u64 {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return 0;
        };
        if entry.waiters.is_empty() && entry.leases.is_empty() && entry.answers.is_empty() {
            let model = self.problem.keys[slot as usize].model as usize;
            let least = self.least.get(model).copied().unwrap_or(0);
            entry.charged = Some(Charge {
                whose: id,
                time: least.saturating_mul(u64::from(entry.quorum)),
                begun: false,
            });
        }
        match entry.charged {
            Some(charge) if charge.whose == id && !charge.begun => charge.time,
            _ => 0,
        }
    }

    /// The slot of a model. Its first request says what to expect of it.
    pub(super) fn model(&mut self, hash: ModelHash, igas: Igas) -> u32 {
        if let Some(&slot) = self.by_model.get(&hash) {
            return slot;
        }
        let slot = self.problem.models.len() as u32;
        self.problem.models.push(hash);
        self.by_model.insert(hash, slot);
        self.asked.push(0);
        self.priors.push(igas.0);
        self.costs_changed = true;
        self.refresh_costs();
        slot
    }

    fn new_gang(
        &mut self,
        now: Micros,
        gang: &Gang,
        needs: &[u32],
        igas: u64,
        old: Option<u32>,
    ) -> u32 {
        let call = gang.class == Class::Call;
        let sender = self.sender(now, gang.sender, call);
        let mut candidate = Candidate {
            id: gang.id,
            sender,
            nonce: gang.nonce,
            value: gang.value,
            arrival: gang.arrival,
            deadline: gang.deadline,
            live: true,
            call,
            committed: false,
            started: false,
            igas,
            due: None,
            needs: needs.to_vec(),
        };
        let mut waiting = Waiting {
            sender: gang.sender,
            class: gang.class,
            ticket: None,
            committed_to: None,
            told: None,
        };
        if call {
            let life = now.saturating_add(CALL_LIFE);
            let deadline = candidate.deadline.map_or(life, |d| d.min(life));
            candidate.deadline = Some(deadline);
            self.call_ends.insert((deadline, gang.id));
        }
        if let Some(old) = old.map(|slot| slot as usize)
            && let Some(was) = &mut self.waiting[old]
        {
            // A gang that changed keeps its age, its ticket and its promise.
            let before = &mut self.problem.gangs[old];
            candidate.arrival = candidate.arrival.min(before.arrival);
            candidate.committed = before.committed;
            candidate.started = before.started;
            candidate.due = before.due.take();
            waiting.ticket = was.ticket.take();
            waiting.committed_to = was.committed_to.take();
            waiting.told = was.told;
        }
        if let Some(parked) = self.parked.remove(&gang.id) {
            candidate.started = true;
            if let Some((cost, due)) = parked.ticket {
                candidate.due = Some(due);
                waiting.ticket = Some(cost);
            }
        }
        let slot = self.free_gangs.pop().unwrap_or_else(|| {
            self.waiting.push(None);
            self.problem.gangs.push(Candidate::default());
            self.waiting.len() as u32 - 1
        });
        for &key in needs {
            if let Some(entry) = &mut self.entries[key as usize]
                && entry.waiters.insert(slot)
                && entry.waiters.len() == 1
            {
                self.recount(key);
            }
        }
        if !call {
            if candidate.due.is_none() {
                self.unticketed.insert((candidate.arrival, gang.id));
            }
            let lane = &mut self.problem.lanes[sender as usize];
            let gangs = &self.problem.gangs;
            let place = (gang.nonce, gang.id);
            let at = lane.partition_point(|&g| {
                let other = &gangs[g as usize];
                (other.nonce, other.id) < place
            });
            lane.insert(at, slot);
            // Who was its sender's first, or the last one, may be no more.
            let beside = [at.saturating_sub(1), at + 1];
            let beside = beside.iter().filter_map(|&at| lane.get(at));
            beside.for_each(|&gang| self.index.touch(gang));
        }
        self.plan.tell(slot, Verdict::Nothing);
        self.problem.gangs[slot as usize] = candidate;
        self.waiting[slot as usize] = Some(waiting);
        self.index.touch(slot);
        slot
    }

    fn sender(&mut self, now: Micros, address: Address, call: bool) -> u32 {
        let room = self.credit.cover(now, address);
        let (problem, free) = (&mut self.problem, &mut self.free_senders);
        let sender = self.senders.entry(address).or_insert_with(|| {
            let slot = free.pop().unwrap_or_else(|| {
                problem.lanes.push(Vec::new());
                problem.rooms.push(0);
                problem.used.push(0);
                problem.lanes.len() as u32 - 1
            });
            Sender {
                slot,
                gangs: 0,
                calls: 0,
            }
        });
        sender.gangs += 1;
        sender.calls += u32::from(call);
        if sender.gangs == 1 {
            problem.used[sender.slot as usize] = 0;
        }
        problem.rooms[sender.slot as usize] = room;
        sender.slot
    }

    /// Keeps what a gang whose round is answered takes into the next one.
    fn park(&mut self, slot: u32) {
        let candidate = &self.problem.gangs[slot as usize];
        let Some(waiting) = &mut self.waiting[slot as usize] else {
            return;
        };
        if waiting.class == Class::Block {
            let since = self.problem.height;
            let ticket = waiting.ticket.take().zip(candidate.due);
            self.parked.insert(candidate.id, Parked { since, ticket });
        }
    }

    /// Forgets what was kept for a next round: the transaction is in a block, or gone.
    pub(super) fn unpark(&mut self, id: &B256) {
        if let Some(parked) = self.parked.remove(id) {
            self.tickets_held -= parked.cost();
        }
    }

    /// Takes a gang out. Requests that nobody else waits for go with it, as far as they are not under way.
    pub(super) fn drop_gang(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        let candidate = std::mem::take(&mut self.problem.gangs[slot as usize]);
        let Some(waiting) = self.waiting[slot as usize].take() else {
            return;
        };
        self.tickets_held -= waiting.ticket.unwrap_or(0);
        self.unticketed.remove(&(candidate.arrival, candidate.id));
        if let Some(deadline) = candidate.deadline {
            self.call_ends.remove(&(deadline, candidate.id));
        }
        let lane = &mut self.problem.lanes[candidate.sender as usize];
        self.index.touch(slot);
        if let Some(at) = lane.iter().position(|&g| g == slot) {
            lane.remove(at);
            let beside = [at.saturating_sub(1), at];
            let beside = beside.iter().filter_map(|&at| lane.get(at));
            beside.for_each(|&gang| self.index.touch(gang));
        }
        if let Some(sender) = self.senders.get_mut(&waiting.sender) {
            sender.gangs -= 1;
            sender.calls -= u32::from(waiting.class == Class::Call);
            if sender.gangs == 0 {
                self.free_senders.push(sender.slot);
                self.senders.remove(&waiting.sender);
            }
        }
        if self.by_gang.get(&candidate.id) == Some(&slot) {
            self.by_gang.remove(&candidate.id);
        }
        self.plan.tell(slot, Verdict::Nothing);
        self.free_gangs.push(slot);
        for key in candidate.needs {
            if let Some(entry) = &mut self.entries[key as usize] {
                entry.waiters.remove(&slot);
                self.unwanted(key, effects);
            }
        }
        self.dirty = true;
    }

    /// Drops a request that nobody waits for and nobody computes; takes back what only such requests are in.
    pub(super) fn unwanted(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        let Some(entry) = &self.entries[slot as usize] else {
            return;
        };
        if !entry.waiters.is_empty() {
            return;
        }
        // No more copies are started for nobody.
        self.problem.keys[slot as usize].copies = 0;
        if entry.leases.is_empty() {
            self.free_key(slot);
        } else {
            for lease in entry.leases.clone() {
                self.cancel_if_unwanted(lease, effects);
            }
        }
    }

    /// Forgets a request. Its slot is used again after the next full plan, which has it nowhere.
    pub(super) fn free_key(&mut self, slot: u32) {
        if let Some(entry) = self.entries[slot as usize].take() {
            self.by_key.remove(&entry.key);
            let state = std::mem::take(&mut self.problem.keys[slot as usize]);
            self.asked[state.model as usize] -= 1;
            self.freed_keys.push(slot);
        }
    }

    /// Copies to be started, and shards that may not have them, after anything about a request changed.
    pub(super) fn recount(&mut self, slot: u32) {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        let state = &mut self.problem.keys[slot as usize];
        let wanted = !entry.waiters.is_empty();
        let needed = usize::from(entry.quorum).saturating_sub(entry.agreed());
        let useful = entry.useful(&self.leases);
        // What is doubled has to be under way: a copy more than needed of nothing would ask for a shard too many.
        entry.hedged &= useful > 0;
        let needed = needed + usize::from(entry.hedged);
        let copies = if wanted {
            needed.saturating_sub(useful)
        } else {
            0
        };
        let mut barred = 0u128;
        for shard in entry.answers.keys() {
            if let Some(&shard) = self.by_shard.get(shard) {
                barred |= 1 << shard;
            }
        }
        let (mut ready, mut variance) = (Micros(0), 0);
        for lease in &entry.leases {
            if let Some(lease) = self.leases.get(lease) {
                barred |= 1 << lease.shard;
                ready = ready.max(lease.done_at());
                variance = variance.max(lease.variance);
            }
        }
        let hosts = self.problem.shards.len();
        let all: u128 = (0..hosts as u32)
            .filter(|&s| self.problem.shards[s as usize].live)
            .fold(0, |set, s| set | 1 << s);
        if copies > 0 && (all & !(barred | entry.failed)).count_ones() < copies as u32 {
            // Whoever failed may try again: there is nobody else.
            entry.failed = 0;
        }
        let before = (state.copies, state.is_plain());
        state.copies = copies as u32;
        state.barred = barred | entry.failed;
        state.ready_at = ready;
        state.variance = variance;
        if before != (state.copies, state.is_plain()) {
            let waiters = entry.waiters.iter();
            waiters.for_each(|&gang| self.index.touch(gang));
        }
    }

    /// A key is settled: its waiters need it no more, and gangs that need nothing more are done.
    pub(super) fn satisfy(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        let waiters = std::mem::take(&mut entry.waiters);
        let leases = std::mem::take(&mut entry.leases);
        if entry.elsewhere
            && let Some(Charge { whose, time, .. }) = entry.charged
        {
            self.certificate.elsewhere(whose, time);
        }
        self.free_key(slot);
        for gang in waiters {
            let needs = &mut self.problem.gangs[gang as usize].needs;
            needs.retain(|&key| key != slot);
            self.index.touch(gang);
            if needs.is_empty() {
                self.park(gang);
                self.drop_gang(gang, effects);
            }
        }
        for lease in leases {
            self.cancel_if_unwanted(lease, effects);
        }
        self.dirty = true;
    }

    /// Gives up calls whose deadline passed.
    pub(super) fn expire_calls(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        while let Some(&(deadline, id)) = self.call_ends.first()
            && deadline <= now
        {
            self.call_ends.pop_first();
            effects.push(Effect::Defer(Deferral {
                id,
                reason: Reason::DeadlineInfeasible,
                blocks: 0,
            }));
            if let Some(&slot) = self.by_gang.get(&id) {
                self.drop_gang(slot, effects);
            }
        }
    }
}
