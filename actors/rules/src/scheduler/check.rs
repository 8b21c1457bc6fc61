//! What must hold after every event.

use super::Scheduler;
use super::book::Parked;
use super::limits::{ASSIGNMENTS_PER_SHARD, ASSIGNMENTS_SHORT, ROUND_TRIP};
use super::model::{Pass, Verdict};
use std::collections::BTreeSet;

impl Scheduler {
    /// The first rule that is broken, in words. The ids are those of `invariants.rs`.
    ///
    /// # Errors
    /// Names the rule and what breaks it.
    pub fn check(&self) -> Result<(), String> {
        self.check_requests()?;
        self.check_leases()?;
        self.check_gangs()?;
        if !self.cache.is_sound() {
            return Err("result cache: bytes or count do not add up".into());
        }
        if !self.credit.is_sound() {
            return Err("I11: exposure is not the sum of what is owed".into());
        }
        if !self.certificate.is_sound() {
            return Err("I16: the table of candidates does not add up".into());
        }
        if let Some(window) = self.certificate.last()
            && window.included > window.bound
        {
            return Err(format!("I16: more than the bound is included: {window:?}"));
        }
        Ok(())
    }

    /// What must hold right after a full plan (after a tick that planned), beside [`Scheduler::check`].
    ///
    /// # Errors
    /// Names the rule and what breaks it.
    pub fn check_plan(&self) -> Result<(), String> {
        let (p, plan) = (&self.problem, &self.plan);
        if !self.index.is_true(p) {
            return Err("I14: the index of gangs is not what the problem says".into());
        }
        if !plan.tells_true() {
            return Err("I14: a verdict is not what the plan told last".into());
        }
        if !plan.board.adds_up(p) {
            return Err("I4: loads are not what the batches add up to".into());
        }
        if self.planned_at == p.now
            && let Some((shard, pass)) = plan.board.overruns(p).first()
        {
            let shard = p.shards[*shard as usize].id;
            return Err(format!("I3: {shard} is planned beyond the end of {pass:?}"));
        }
        for gang in self.index.promised() {
            let needs = p.gangs[gang as usize].needs.iter();
            let mut moved = needs.filter(|&&key| {
                // Of several places one may have been left for its shard since.
                let homes = p.homes.get(&key).copied().unwrap_or(0);
                plan.board.places(key) & !homes != 0
            });
            if let Some(key) = moved.next() {
                let id = p.gangs[gang as usize].id;
                return Err(format!(
                    "I8: key {key} of {id} was promised and has no home"
                ));
            }
        }
        for queue in &plan.queues {
            let mut last = None;
            for &batch in queue {
                let pass = plan.board.batches[batch as usize].pass;
                if last.is_some_and(|last| pass < last) {
                    return Err("I6: a later block's batch stands before an earlier one's".into());
                }
                last = Some(pass);
            }
        }
        Ok(())
    }

    fn check_requests(&self) -> Result<(), String> {
        for (key, &slot) in &self.by_key {
            let Some(entry) = &self.entries[slot as usize] else {
                return Err(format!("I10: request {key} is lost"));
            };
            let state = &self.problem.keys[slot as usize];
            if entry.key != *key {
                return Err(format!("I10: slot {slot} holds {} for {key}", entry.key));
            }
            if self.cache.contains(key) && !entry.judged {
                return Err(format!("I9: request {key} is settled and computed again"));
            }
            if entry.waiters.is_empty() && entry.leases.is_empty() {
                return Err(format!("I10: request {key} is kept for nobody"));
            }
            let (under_way, copies) = (entry.useful(&self.leases), state.copies as usize);
            let needed = usize::from(entry.quorum).saturating_sub(entry.agreed());
            if !entry.waiters.is_empty() && under_way + copies < needed {
                return Err(format!("I10: request {key} waits for nothing"));
            }
            if !entry.waiters.is_empty()
                && copies > 0
                && under_way + copies > needed + usize::from(entry.hedged)
            {
                return Err(format!(
                    "I9: request {key} has {under_way} + {copies} copies for {needed}"
                ));
            }
            let mut shards = BTreeSet::new();
            for lease in &entry.leases {
                let Some(lease) = self.leases.get(lease) else {
                    return Err(format!("I10: request {key} names a lease that is over"));
                };
                if !shards.insert(lease.assignment.shard) {
                    return Err(format!("quorum: one shard twice for request {key}"));
                }
            }
            for &gang in &entry.waiters {
                if !self.problem.gangs[gang as usize].needs.contains(&slot) {
                    return Err(format!(
                        "I21: request {key} has a waiter that does not wait"
                    ));
                }
            }
        }
        Ok(())
    }

    fn check_leases(&self) -> Result<(), String> {
        let mut listed = 0;
        for member in &self.members {
            listed += member.leases.len();
            let barred = member.quarantined || member.lost;
            if barred && !member.leases.is_empty() {
                return Err(format!(
                    "{} has work and is not trusted or gone",
                    member.hello.shard
                ));
            }
            // The last was given, where there were two, since those before it were done shortly.
            let (held, given) = (member.leases.len(), member.leases.iter().rev().skip(1));
            let before = given.take(held.saturating_sub(2));
            let before = before.filter_map(|lease| self.leases.get(lease));
            let waits = before.fold(0, |sum, lease| lease.expected.saturating_add(sum));
            if held > ASSIGNMENTS_SHORT || held > ASSIGNMENTS_PER_SHARD && waits >= ROUND_TRIP.0 {
                return Err(format!(
                    "{} has {held} assignments, and {waits} us wait before the last",
                    member.hello.shard
                ));
            }
        }
        if listed != self.leases.len() {
            return Err("I10: leases of shards and of the book differ".into());
        }
        for (id, lease) in &self.leases {
            if lease.expires < lease.issued || self.epoch != Some(lease.assignment.epoch) {
                return Err(format!(
                    "I10: lease {id} never ends, or is of another epoch"
                ));
            }
        }
        Ok(())
    }

    fn check_gangs(&self) -> Result<(), String> {
        let mut tickets: u64 = self.parked.values().map(Parked::cost).sum();
        for (id, &slot) in &self.by_gang {
            let (candidate, waiting) = (
                &self.problem.gangs[slot as usize],
                &self.waiting[slot as usize],
            );
            let Some(waiting) = waiting else {
                return Err(format!("gang {id} is lost"));
            };
            if candidate.id != *id || !candidate.live || candidate.needs.is_empty() {
                return Err(format!(
                    "gang {id} waits for nothing, or stands in a wrong slot"
                ));
            }
            tickets += waiting.ticket.unwrap_or(0);
            for &key in &candidate.needs {
                let entry = self.entries[key as usize].as_ref();
                if !entry.is_some_and(|e| e.waiters.contains(&slot)) {
                    return Err(format!("I10: gang {id} waits for a request that is lost"));
                }
            }
        }
        if tickets != self.tickets_held {
            return Err("I7: ticket time held is not the sum of tickets".into());
        }
        Ok(())
    }

    /// Gangs that are placed whole for this block, right after a full plan, and whether that holds (I4).
    ///
    /// # Errors
    /// Names a gang that is said to be placed and is not, or of which a part is.
    pub fn check_whole(&self) -> Result<(), String> {
        let (p, plan) = (&self.problem, &self.plan);
        for (slot, verdict) in plan.verdicts.iter().enumerate() {
            let candidate = &p.gangs[slot];
            if let Verdict::Placed(Pass::This | Pass::Next) = verdict
                && let Some(key) = candidate
                    .needs
                    .iter()
                    .find(|&&key| plan.board.left(p, key) > 0)
            {
                return Err(format!("I4: key {key} of {} is not placed", candidate.id));
            }
        }
        Ok(())
    }
}
