//! Who waits: gangs and their senders, in the slots of the problem.

use super::Scheduler;
use super::limits::{CALL_LIFE, CALLS_MAX, CALLS_PER_SENDER_MAX, GANGS_MAX};
use super::model::{Candidate, Verdict};
use super::{Effect, policy};
use crate::ids::{Height, Micros};
use crate::message::{Class, Deferral, Gang};
use crate::tx::Reason;
use alloy_primitives::{Address, B256};

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
    pub(super) fn park(&mut self, slot: u32) {
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
