//! What must hold of every full plan, told from the problem and the batches alone: none of the running sums that the
//! planner keeps is trusted here.

use super::Policy;
use super::limits::BATCH_SLOT_PERCENT;
use super::model::{Batch, Cost, Pass, Plan, Problem, Verdict};
use crate::invariants::{
    FEASIBLE_PLAN, NO_INVERSION, NONCE_CHAIN, REASONED, THIS_BLOCK_FIRST, Violation, WHOLE_PLAN,
    WORK_CONSERVED,
};
use crate::tx::Reason;
use std::collections::BTreeMap;

/// Checks a plan against the problem that it was just made for: I3, I4, I5, I6, I17, I19 and I22, as far as one plan
/// shows them. Plans of other policies than [`Policy::Value`] promise none of it but I3 without margin, and I6.
///
/// # Errors
/// The first invariant that is broken, and by whom.
pub fn audit(p: &Problem, plan: &Plan) -> Result<(), Violation> {
    let audit = Audit::new(p, plan);
    audit.order()?;
    if p.policy != Policy::Value {
        return Ok(());
    }
    audit.batches()?;
    audit.deadlines()?;
    audit.whole()?;
    audit.chains()?;
    audit.reasons()?;
    audit.leftovers()
}

/// Where the copies of a key stand.
type Places = BTreeMap<u32, Vec<(u32, Pass)>>;

struct Audit<'a> {
    p: &'a Problem,
    plan: &'a Plan,
    places: Places,
}

impl<'a> Audit<'a> {
    fn new(p: &'a Problem, plan: &'a Plan) -> Self {
        let mut places = Places::new();
        for batch in plan.batches() {
            for &key in &batch.keys {
                places
                    .entry(key)
                    .or_default()
                    .push((batch.shard, batch.pass));
            }
        }
        Self { p, plan, places }
    }

    /// I6.
    fn order(&self) -> Result<(), Violation> {
        for (shard, queue) in self.plan.queues.iter().enumerate() {
            let pass = |&b: &u32| self.plan.batches()[b as usize].pass;
            let sorted = queue.iter().map(pass).is_sorted();
            THIS_BLOCK_FIRST.require(sorted, || self.p.shards[shard].id.to_string())?;
        }
        Ok(())
    }

    /// A model has no live shard on which one request fits in a slot, with margin.
    fn is_long(&self, model: u32) -> bool {
        let fits =
            |s: u32| span(self.p.cost(model, s), self.p.tuning.margin_sigmas) <= self.p.slot();
        !self.hosts(model).any(fits)
    }

    fn hosts(&self, model: u32) -> impl Iterator<Item = u32> + use<'_, 'a> {
        let set = self.p.hosts(model);
        (0..self.p.shards.len() as u32).filter(move |s| set & 1 << s != 0)
    }

    fn cap(&self, model: u32, shard: u32) -> usize {
        let most = self.p.shards[shard as usize].batch_max.max(1) as usize;
        if self.is_long(model) {
            return most;
        }
        let cost = self.p.cost(model, shard);
        let time = (self.p.slot() * BATCH_SLOT_PERCENT / 100).saturating_sub(cost.base);
        ((time / cost.each.max(1)) as usize).clamp(1, most)
    }

    /// I3: a batch's shard lives, has the model, takes so many, and each key's copies are on shards that differ.
    fn batches(&self) -> Result<(), Violation> {
        for batch in self.plan.batches().iter().filter(|b| !b.keys.is_empty()) {
            let shard = &self.p.shards[batch.shard as usize];
            let cost = self.p.cost(batch.model, batch.shard);
            FEASIBLE_PLAN.require(shard.live && cost.hosted, || {
                format!(
                    "{} has no {}",
                    shard.id, self.p.models[batch.model as usize]
                )
            })?;
            let cap = self.cap(batch.model, batch.shard);
            FEASIBLE_PLAN.require(batch.keys.len() <= cap, || {
                format!("{} of {cap} requests for {}", batch.keys.len(), shard.id)
            })?;
            for &key in &batch.keys {
                let state = &self.p.keys[key as usize];
                let fits = state.model == batch.model && state.barred & 1 << batch.shard == 0;
                FEASIBLE_PLAN.require(fits, || format!("key {key} on {}", shard.id))?;
            }
        }
        for (key, places) in &self.places {
            let shards: Vec<u32> = places.iter().map(|place| place.0).collect();
            let again = (1..shards.len()).any(|n| shards[..n].contains(&shards[n]));
            let copies = self.p.keys[*key as usize].copies as usize;
            FEASIBLE_PLAN.require(!again && shards.len() <= copies, || {
                format!("key {key} on {shards:?} for {copies}")
            })?;
        }
        Ok(())
    }

    /// When a shard is done with a pass, from now, and the variance of that.
    fn finish(&self, shard: u32, pass: Pass) -> (u64, u64) {
        let lane = &self.p.shards[shard as usize];
        let start = (lane.free_at.saturating_sub(self.p.now).0, lane.variance);
        self.on(shard)
            .filter(|batch| batch.pass <= pass)
            .fold(start, |(time, variance), batch| {
                let cost = self.p.cost(batch.model, shard);
                (
                    time + cost.batch(batch.keys.len() as u64),
                    variance + cost.variance,
                )
            })
    }

    fn on(&self, shard: u32) -> impl Iterator<Item = &'a Batch> + use<'a> {
        let batches = self.plan.batches().iter();
        batches.filter(move |batch| batch.shard == shard && !batch.keys.is_empty())
    }

    fn left(&self, pass: Pass) -> u64 {
        let deadline = match pass {
            Pass::Next => self.p.deadlines[1],
            _ => self.p.deadlines[0],
        };
        deadline.saturating_sub(self.p.now).0
    }

    /// Whether a shard keeps the end of a pass, with so much more in it and this many deviations to spare.
    fn keeps(&self, shard: u32, pass: Pass, more: (u64, u64), sigmas: u64) -> bool {
        let (time, variance) = self.finish(shard, pass);
        let left = self.left(pass).checked_sub(time + more.0);
        let needed = (variance + more.1) * sigmas * sigmas;
        left.is_some_and(|left| left.saturating_mul(left) >= needed)
    }

    /// I3: what is planned fits. What was promised may use up its margin.
    fn deadlines(&self) -> Result<(), Violation> {
        for shard in 0..self.p.shards.len() as u32 {
            let bound = self
                .on(shard)
                .any(|b| b.urgency.committed && b.pass <= Pass::Next);
            let sigmas = if bound {
                0
            } else {
                self.p.tuning.margin_sigmas
            };
            for pass in [Pass::This, Pass::Next] {
                let used = self.on(shard).any(|batch| batch.pass == pass);
                FEASIBLE_PLAN.require(!used || self.keeps(shard, pass, (0, 0), sigmas), || {
                    format!("{} ends {pass:?} late", self.p.shards[shard as usize].id)
                })?;
            }
        }
        Ok(())
    }

    /// I4: a gang that is placed has a place for everything, and nothing is placed for gangs that wait alone.
    fn whole(&self) -> Result<(), Violation> {
        let mut wanted = vec![false; self.p.keys.len()];
        for (gang, verdict) in self.plan.verdicts.iter().enumerate() {
            let Verdict::Placed(pass) = *verdict else {
                continue;
            };
            let candidate = &self.p.gangs[gang];
            for &key in &candidate.needs {
                wanted[key as usize] = true;
                let copies = self.p.keys[key as usize].copies as usize;
                let places = self.places.get(&key).map_or(&[][..], Vec::as_slice);
                let there = places.iter().filter(|place| place.1 <= pass).count();
                WHOLE_PLAN.require(there == copies, || {
                    format!("{there} of {copies} of key {key} for {}", candidate.id)
                })?;
            }
        }
        for (key, places) in &self.places {
            let blocks = places
                .iter()
                .any(|p| matches!(p.1, Pass::This | Pass::Next));
            WHOLE_PLAN.require(!blocks || wanted[*key as usize], || {
                format!("key {key} is placed for nobody")
            })?;
        }
        Ok(())
    }

    /// I19: who is placed for a block comes after its sender's earlier ones.
    fn chains(&self) -> Result<(), Violation> {
        for lane in &self.p.lanes {
            for pair in lane.windows(2) {
                let [before, gang] = [pair[0] as usize, pair[1] as usize];
                let open = |&key: &u32| self.p.keys[key as usize].copies > 0;
                let candidate = &self.p.gangs[gang];
                // What is under way is out of the plan's hands.
                let planned = candidate.needs.iter().any(open) && !candidate.committed;
                let Verdict::Placed(pass) = self.plan.verdicts[gang] else {
                    continue;
                };
                let ready = match self.plan.verdicts[before] {
                    Verdict::Nothing => true,
                    Verdict::Placed(earlier) => earlier <= pass,
                    Verdict::Deferred(_) => false,
                };
                let block = matches!(pass, Pass::This | Pass::Next);
                NONCE_CHAIN.require(!planned || !block || ready, || {
                    format!("{} before its predecessor", candidate.id)
                })?;
            }
        }
        Ok(())
    }

    /// I22: a reason that is a price names one.
    fn reasons(&self) -> Result<(), Violation> {
        for (gang, verdict) in self.plan.verdicts.iter().enumerate() {
            let blank = *verdict == Verdict::Deferred(Reason::Outbid(0));
            let candidate = &self.p.gangs[gang];
            let silent = candidate.live && !candidate.needs.is_empty();
            let silent = silent && *verdict == Verdict::Nothing;
            REASONED.require(!blank && !silent, || {
                format!("{}: {verdict:?}", candidate.id)
            })?;
        }
        Ok(())
    }

    /// A gang that is tried in open competition, and that one request decides: its model.
    fn single(&self, gang: usize) -> Option<u32> {
        let candidate = &self.p.gangs[gang];
        let [key] = candidate.needs[..] else {
            return None;
        };
        let state = &self.p.keys[key as usize];
        let open = !candidate.call && !candidate.committed && !candidate.started;
        let sender = candidate.sender as usize;
        // Who has no cover is kept back by a cap, whatever it is worth.
        let alone = self.p.lanes[sender].len() == 1 && self.p.rooms[sender] >= candidate.igas;
        (open && alone && candidate.due.is_none() && candidate.deadline.is_none())
            .then_some(state.model)
            .filter(|&model| state.copies == 1 && state.barred == 0 && !self.is_long(model))
    }

    /// I5 and I17, among gangs of one request, whose size excuses nothing: who is outbid is not worth more than who got
    /// a place on the same model, and no shard that could do it in time has that time left.
    fn leftovers(&self) -> Result<(), Violation> {
        let mut least: BTreeMap<u32, (u64, usize)> = BTreeMap::new();
        let placed = |v: &Verdict| matches!(v, Verdict::Placed(Pass::This | Pass::Next));
        for gang in (0..self.plan.verdicts.len()).filter(|&g| placed(&self.plan.verdicts[g])) {
            let opened = |key| self.places.contains_key(key);
            // Who waits for what another has placed, or what is under way, competes for nothing.
            if let Some(model) = self.single(gang)
                && self.p.gangs[gang].needs.iter().all(opened)
                && self.asked_by_one(gang)
            {
                let rank = (self.plan.ranks[gang].0, gang);
                let entry = least.entry(model).or_insert(rank);
                *entry = rank.min(*entry);
            }
        }
        for (gang, verdict) in self.plan.verdicts.iter().enumerate() {
            let waits = matches!(
                verdict,
                Verdict::Deferred(Reason::Outbid(_) | Reason::DeadlineInfeasible)
            );
            let Some(model) = self.single(gang).filter(|_| waits) else {
                continue;
            };
            let (rank, id) = (self.plan.ranks[gang].0, self.p.gangs[gang].id);
            if let Some(&(other, who)) = least.get(&model) {
                NO_INVERSION.require(rank <= other, || {
                    format!("{id} waits, {} is worth less", self.p.gangs[who].id)
                })?;
            }
            for shard in self.hosts(model) {
                for pass in [Pass::This, Pass::Next] {
                    let free = self.has_room(model, shard, pass);
                    WORK_CONSERVED.require(!free, || {
                        let shard = self.p.shards[shard as usize].id;
                        format!("{id} fits on {shard} for {pass:?}")
                    })?;
                }
            }
        }
        Ok(())
    }

    fn asked_by_one(&self, gang: usize) -> bool {
        let needs = &self.p.gangs[gang].needs;
        let shares = |other: &super::model::Candidate| other.needs.contains(&needs[0]);
        self.p.gangs.iter().filter(|other| shares(other)).count() == 1
    }

    /// Whether a batch of one more fits, with margin, in a pass and leaves all later ones in time.
    fn has_room(&self, model: u32, shard: u32, pass: Pass) -> bool {
        let cost = self.p.cost(model, shard);
        let more = (cost.batch(1), cost.variance);
        let sigmas = self.p.tuning.margin_sigmas;
        let this = self.keeps(shard, Pass::This, more, sigmas);
        let next = self.keeps(shard, Pass::Next, more, sigmas);
        let later = self.on(shard).any(|batch| batch.pass == Pass::Next);
        match pass {
            Pass::This => this && (next || !later),
            _ => next,
        }
    }
}

/// Time of one request alone, with margin.
fn span(cost: &Cost, sigmas: u64) -> u64 {
    let noise = cost.variance.isqrt().saturating_add(1);
    cost.batch(1).saturating_add(noise.saturating_mul(sigmas))
}
