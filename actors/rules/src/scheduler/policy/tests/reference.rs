//! The documented policy once more, as simply as it can be said: everything is sorted, every sum is taken anew from the
//! batches, and what does not work out is undone by going back to a copy. It has to decide as the planner does.

use super::problems::{Extras, Shape, problem};
use crate::ids::Micros;
use crate::scheduler::limits::{
    BATCH_ROOM_PERCENT, BATCH_SLOT_PERCENT, CUT_PERCENT, FAILURES_MAX, JOIN_WEIGHT,
    LONG_AGE_BLOCKS, LONG_PERCENT, MARGIN_SIGMAS, PRICE_ONE, SENDER_PERCENT, TICKET_PERCENT,
    TICKET_SLACK, UNCOVERED_PERCENT,
};
use crate::scheduler::model::{Pass, Problem, Verdict};
use crate::scheduler::policy::{density, plan};
use crate::tx::Reason;
use alloy_primitives::B256;
use proptest::prelude::*;
use std::cmp::Reverse;
use std::collections::BTreeSet;

#[derive(Clone, Debug)]
struct Batch {
    shard: u32,
    model: u32,
    pass: Pass,
    keys: Vec<u32>,
    urgency: (bool, bool, u64),
    opener: B256,
    /// Microseconds for which it kept room when it was opened.
    reserved: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Miss {
    NoShard,
    Other,
}

#[derive(Clone)]
struct Slow<'p> {
    p: &'p Problem,
    batches: Vec<Batch>,
    verdicts: Vec<Verdict>,
    full: BTreeSet<(Pass, u32)>,
    /// Requests asked for per model, once the cut was made.
    asked: Option<Vec<u64>>,
    sigmas: u64,
    keeps_room: bool,
    spent: Vec<u64>,
    exposed: Vec<u64>,
    uncovered: u64,
    kept_back: Vec<u32>,
    clearing: Vec<u64>,
}

impl<'p> Slow<'p> {
    fn new(p: &'p Problem) -> Self {
        Self {
            p,
            batches: Vec::new(),
            verdicts: vec![Verdict::Nothing; p.gangs.len()],
            full: BTreeSet::new(),
            asked: None,
            sigmas: MARGIN_SIGMAS,
            keeps_room: true,
            spent: p.used.clone(),
            exposed: vec![0; p.lanes.len()],
            uncovered: p.used_uncovered,
            kept_back: Vec::new(),
            clearing: vec![u64::MAX; p.models.len()],
        }
    }

    // What the problem says.

    fn hosts(&self, model: u32) -> Vec<u32> {
        let set = self.p.hosts(model);
        let mut hosts: Vec<u32> = (0..self.p.shards.len() as u32)
            .filter(|s| set & 1 << s != 0)
            .collect();
        hosts.sort_by_key(|&s| self.p.shards[s as usize].id);
        hosts
    }

    fn live(&self) -> u64 {
        self.p.shards.iter().filter(|s| s.live).count() as u64
    }

    fn short(&self, model: u32, shard: u32) -> bool {
        let cost = self.p.cost(model, shard);
        cost.batch(1) + (cost.variance.isqrt() + 1) * MARGIN_SIGMAS <= self.p.slot()
    }

    fn long_model(&self, model: u32) -> bool {
        let hosts = self.hosts(model);
        !hosts.is_empty() && !hosts.iter().any(|&s| self.short(model, s))
    }

    fn long_key(&self, key: u32) -> bool {
        let state = &self.p.keys[key as usize];
        let open = |s: &&u32| state.barred & 1 << **s == 0;
        let hosts = self.hosts(state.model);
        let all = hosts.iter().filter(open).count() as u32;
        let short = hosts.iter().filter(open);
        let short = short.filter(|&&s| self.short(state.model, s)).count() as u32;
        state.copies > 0
            && (self.long_model(state.model) || short < state.copies && all >= state.copies)
    }

    fn is_long(&self, gang: u32) -> bool {
        self.needs(gang).iter().any(|&key| self.long_key(key))
    }

    fn cap(&self, model: u32, shard: u32) -> u64 {
        let most = u64::from(self.p.shards[shard as usize].batch_max.max(1));
        if self.long_model(model) {
            return most;
        }
        let cost = self.p.cost(model, shard);
        let time = (self.p.slot() * BATCH_SLOT_PERCENT / 100).saturating_sub(cost.base);
        (time / cost.each.max(1)).clamp(1, most)
    }

    fn mean(&self, model: u32) -> u64 {
        let hosts = self.hosts(model);
        let means = hosts.iter().map(|&s| self.p.cost(model, s).mean);
        means.min().unwrap_or(1)
    }

    fn needs(&self, gang: u32) -> &'p [u32] {
        &self.p.gangs[gang as usize].needs
    }

    fn time(&self, key: u32) -> u64 {
        let state = &self.p.keys[key as usize];
        self.mean(state.model) * u64::from(state.copies)
    }

    fn plain(&self, gang: u32) -> u64 {
        self.needs(gang).iter().map(|&key| self.time(key)).sum()
    }

    fn priced(&self, gang: u32) -> u64 {
        let priced = self.needs(gang).iter().map(|&key| {
            let model = self.p.keys[key as usize].model;
            let hosts = self.hosts(model);
            let price = hosts.iter().map(|&s| self.p.shards[s as usize].price);
            self.time(key) * price.min().unwrap_or(PRICE_ONE)
        });
        priced.sum::<u64>() / PRICE_ONE
    }

    /// Gangs before this one in its sender's lane, itself included.
    fn chain(&self, gang: u32) -> &'p [u32] {
        let lane = &self.p.lanes[self.p.gangs[gang as usize].sender as usize];
        match lane.iter().position(|&g| g == gang) {
            Some(at) => &lane[..=at],
            None => &[],
        }
    }

    fn competes(&self, gang: u32) -> bool {
        self.under_way(gang).is_none()
    }

    /// The least, over the way to it, of value per time of all up to there.
    fn rank(&self, gang: u32) -> u64 {
        let alone = || density(self.p.gangs[gang as usize].value, self.priced(gang));
        let chain = self.chain(gang);
        if self.p.gangs[gang as usize].call || chain.len() < 2 && self.lane_of(gang).len() < 2 {
            return alone();
        }
        (1..=chain.len())
            .map(|n| {
                let value = chain[..n].iter().map(|&g| self.p.gangs[g as usize].value);
                let cost = chain[..n].iter().filter(|&&g| self.competes(g));
                density(value.sum(), cost.map(|&g| self.priced(g)).sum())
            })
            .min()
            .unwrap_or_else(alone)
    }

    fn lane_of(&self, gang: u32) -> &'p [u32] {
        &self.p.lanes[self.p.gangs[gang as usize].sender as usize]
    }

    fn order(&self, gang: u32) -> impl Ord + use<> {
        let candidate = &self.p.gangs[gang as usize];
        let head = self.chain(gang).first().copied().unwrap_or(gang);
        (
            Reverse(self.rank(gang)),
            self.p.gangs[head as usize].id,
            candidate.nonce,
            candidate.id,
        )
    }

    fn under_way(&self, gang: u32) -> Option<Verdict> {
        let candidate = &self.p.gangs[gang as usize];
        let states = candidate.needs.iter().map(|&k| &self.p.keys[k as usize]);
        if states.clone().any(|state| state.copies > 0) {
            return None;
        }
        let margin = |s: &crate::scheduler::model::KeyState| {
            if candidate.committed { 0 } else { s.margin() }
        };
        let ready = states.map(|s| s.ready_at.0 + margin(s)).max()?;
        Some(Verdict::Placed(match self.p.deadlines {
            [this, _] if ready <= this.0 => Pass::This,
            [_, next] if ready <= next.0 => Pass::Next,
            _ => Pass::Long,
        }))
    }

    // What the batches come to.

    fn load(&self, shard: u32, pass: Pass) -> u64 {
        let on = |b: &&Batch| b.shard == shard && b.pass == pass;
        let batches = self.batches.iter().filter(on);
        batches
            .map(|b| self.p.cost(b.model, shard).batch(b.keys.len() as u64))
            .sum()
    }

    fn variance(&self, shard: u32, pass: Pass) -> u64 {
        let on = |b: &&Batch| b.shard == shard && b.pass == pass;
        let batches = self.batches.iter().filter(on);
        batches.map(|b| self.p.cost(b.model, shard).variance).sum()
    }

    fn kept_by(&self, batch: &Batch) -> u64 {
        let joined = batch.keys.len() as u64 - 1;
        let each = self.p.cost(batch.model, batch.shard).each;
        batch.reserved.saturating_sub(joined * each)
    }

    fn kept(&self, shard: u32, pass: Pass) -> u64 {
        let on = |b: &&Batch| b.shard == shard && b.pass == pass;
        let batches = self.batches.iter().filter(on);
        batches.map(|b| self.kept_by(b)).sum()
    }

    fn places(&self, key: u32) -> Vec<(u32, Pass)> {
        let has = |b: &&Batch| b.keys.contains(&key);
        let batches = self.batches.iter().filter(has);
        batches.map(|b| (b.shard, b.pass)).collect()
    }

    fn deadline(&self, pass: Pass) -> u64 {
        match pass {
            Pass::This => self.p.deadlines[0].saturating_sub(self.p.now).0,
            Pass::Next => self.p.deadlines[1].saturating_sub(self.p.now).0,
            Pass::Aged | Pass::Long => u64::MAX >> 2,
        }
    }

    fn fits(&self, shard: u32, pass: Pass, add: u64, variance: u64, until: u64) -> bool {
        let lane = &self.p.shards[shard as usize];
        let mut time = lane.free_at.saturating_sub(self.p.now).0 + add;
        let mut noise = lane.variance + variance;
        for at in [Pass::Aged, Pass::This, Pass::Next, Pass::Long] {
            time += self.load(shard, at);
            time += u64::from(self.keeps_room) * self.kept(shard, at);
            noise += self.variance(shard, at);
            let matters = at == pass || at > pass && self.load(shard, at) > 0;
            let end = self.deadline(at);
            let end = if at == pass { end.min(until) } else { end };
            let spare = end.checked_sub(time);
            let needed = noise * self.sigmas * self.sigmas;
            if matters && spare.is_none_or(|s| s.saturating_mul(s) < needed) {
                return false;
            }
        }
        true
    }

    fn last(&self, shard: u32, model: u32, pass: Pass) -> Option<usize> {
        let same = |b: &Batch| b.shard == shard && b.model == model && b.pass == pass;
        self.batches.iter().rposition(same)
    }

    /// The batch that a request would join.
    fn joins(&self, shard: u32, model: u32, pass: Pass) -> Option<usize> {
        let each = self.p.cost(model, shard).each;
        let earlier = || {
            let this = self.last(shard, model, Pass::This)?;
            let rides = pass == Pass::Next && self.fits(shard, Pass::This, each, 0, u64::MAX);
            rides.then_some(this)
        };
        let open = self.last(shard, model, pass).or_else(earlier)?;
        ((self.batches[open].keys.len() as u64) < self.cap(model, shard)).then_some(open)
    }

    fn reserve(&self, shard: u32, model: u32, pass: Pass) -> u64 {
        if !self.keeps_room || !matches!(pass, Pass::This | Pass::Next) {
            return 0;
        }
        let Some(asked) = &self.asked else {
            return 0;
        };
        let good = self.cap(model, shard) * BATCH_ROOM_PERCENT / 100;
        let there = asked[model as usize] / self.hosts(model).len() as u64;
        self.p.cost(model, shard).each * (good.min(there).max(1) - 1)
    }

    fn score(&self, shard: u32, model: u32, pass: Pass, until: u64) -> Option<u64> {
        let cost = self.p.cost(model, shard);
        let join = self.joins(shard, model, pass);
        if join.is_none() && matches!(pass, Pass::Aged | Pass::Long) {
            let has = |s: u32| {
                self.p.shards[s as usize].long
                    || self.load(s, Pass::Aged) + self.load(s, Pass::Long) > 0
            };
            let most = self.p.keys.iter().map(|k| u64::from(k.copies)).max();
            let most = (self.live() * LONG_PERCENT / 100)
                .max(most.unwrap_or(1))
                .max(1);
            let taken = (0..self.p.shards.len() as u32).filter(|&s| has(s)).count() as u64;
            let early = pass == Pass::Aged && self.load(shard, Pass::This) > 0;
            if has(shard) || early || taken >= most {
                return None;
            }
        }
        let (at, add, needs, variance) = match join {
            Some(n) => {
                let batch = &self.batches[n];
                let kept = u64::from(self.keeps_room) * self.kept_by(batch).min(cost.each);
                (batch.pass, cost.each, cost.each - kept, 0)
            }
            None => {
                let add = cost.batch(1);
                let needs = add + self.reserve(shard, model, pass);
                (pass, add, needs, cost.variance)
            }
        };
        let busy = self.p.shards[shard as usize].free_at;
        let busy = busy.saturating_sub(self.p.now).0;
        let passes = [Pass::Aged, Pass::This, Pass::Next, Pass::Long];
        let before = passes.into_iter().filter(|&q| q <= pass);
        let finish = busy + before.map(|q| self.load(shard, q)).sum::<u64>();
        self.fits(shard, at, needs, variance, until)
            .then(|| add * JOIN_WEIGHT + finish)
    }

    // What is done.

    fn put(&mut self, key: u32, shard: u32, pass: Pass, urgency: (bool, bool, u64), opener: u32) {
        let model = self.p.keys[key as usize].model;
        if let Some(n) = self.joins(shard, model, pass) {
            let batch = &mut self.batches[n];
            batch.keys.push(key);
            if batch.pass == pass {
                batch.urgency = batch.urgency.max(urgency);
            }
            return;
        }
        let reserved = self.reserve(shard, model, pass);
        self.batches.push(Batch {
            shard,
            model,
            pass,
            keys: vec![key],
            urgency,
            opener: self.p.gangs[opener as usize].id,
            reserved,
        });
    }

    fn place_key(
        &mut self,
        key: u32,
        pass: Pass,
        until: Option<Micros>,
        urgency: (bool, bool, u64),
        gang: u32,
        first: &mut bool,
    ) -> Result<(), Miss> {
        let state = &self.p.keys[key as usize];
        let end = until.map_or(u64::MAX, |u| u.saturating_sub(self.p.now).0);
        let deadline = self.deadline(pass).min(end);
        let margin = self.sigmas.min(1) * state.margin();
        let late = state.ready_at.saturating_sub(self.p.now).0 + margin > deadline;
        let places = self.places(key);
        if late || places.iter().any(|place| place.1 > pass) {
            return Err(Miss::Other);
        }
        for _ in places.len()..state.copies as usize {
            let taken: Vec<u32> = self.places(key).iter().map(|place| place.0).collect();
            let mut hosts = self.hosts(state.model);
            let barred = |s: u32| state.barred & 1 << s != 0 || taken.contains(&s);
            let none_barred = state.barred == 0 && taken.is_empty();
            if none_barred && self.full.contains(&(pass, state.model)) {
                return Err(Miss::Other);
            }
            hosts.retain(|&s| !barred(s));
            let scores = hosts.iter().filter_map(|&s| {
                let score = self.score(s, state.model, pass, deadline)?;
                Some((score, self.p.shards[s as usize].id, s))
            });
            match scores.min() {
                Some((_, _, shard)) => self.put(key, shard, pass, urgency, gang),
                None if hosts.is_empty() => return Err(Miss::NoShard),
                None => {
                    if *first && none_barred && until.is_none() {
                        self.full.insert((pass, state.model));
                    }
                    return Err(Miss::Other);
                }
            }
            *first = false;
        }
        Ok(())
    }

    fn place(&mut self, gang: u32, pass: Pass, urgency: (bool, bool, u64)) -> bool {
        let candidate = &self.p.gangs[gang as usize];
        let chain = self.chain(gang);
        if let Some(&before) = chain.len().checked_sub(2).map(|at| &chain[at])
            && !candidate.committed
        {
            let ready = match self.verdicts[before as usize] {
                Verdict::Nothing => true,
                Verdict::Placed(earlier) => earlier <= pass,
                Verdict::Deferred(_) => false,
            };
            if !ready {
                self.verdicts[gang as usize] = Verdict::Deferred(Reason::NonceDependency);
                return false;
            }
        }
        let before = self.batches.clone();
        let mut first = true;
        for &key in &candidate.needs {
            let until = candidate.deadline;
            if let Err(miss) = self.place_key(key, pass, until, urgency, gang, &mut first) {
                self.batches = before;
                self.verdicts[gang as usize] = Verdict::Deferred(match miss {
                    Miss::NoShard => Reason::NoShard,
                    Miss::Other => Reason::Outbid(0),
                });
                return false;
            }
        }
        self.verdicts[gang as usize] = Verdict::Placed(pass);
        self.charge(gang);
        true
    }

    fn place_long(&mut self, gang: u32, pass: Pass) {
        let candidate = &self.p.gangs[gang as usize];
        let urgency = (false, false, self.rank(gang));
        let mut result = Ok(());
        for &key in &candidate.needs {
            let before = self.batches.clone();
            let until = candidate.deadline;
            let one = self.place_key(key, pass, until, urgency, gang, &mut true);
            if one.is_err() {
                self.batches = before;
            }
            result = result.and(one);
        }
        self.verdicts[gang as usize] = match result {
            Ok(()) => Verdict::Placed(pass),
            Err(Miss::NoShard) => Verdict::Deferred(Reason::NoShard),
            Err(Miss::Other) => Verdict::Deferred(Reason::DeadlineInfeasible),
        };
    }

    fn waits(&self, gang: u32) -> bool {
        matches!(self.verdicts[gang as usize], Verdict::Deferred(_))
    }

    fn all(&mut self, gangs: &[u32], pass: Pass, committed: bool) {
        for &gang in gangs {
            if self.waits(gang) {
                self.place(gang, pass, (committed, false, self.rank(gang)));
            }
        }
    }

    fn covered(&self, gang: u32) -> bool {
        let candidate = &self.p.gangs[gang as usize];
        let sender = candidate.sender as usize;
        self.exposed[sender] + candidate.igas <= self.p.rooms[sender]
    }

    fn charge(&mut self, gang: u32) {
        let candidate = &self.p.gangs[gang as usize];
        let plain = self.plain(gang);
        self.uncovered += u64::from(!self.covered(gang)) * plain;
        self.spent[candidate.sender as usize] += plain;
        self.exposed[candidate.sender as usize] += candidate.igas;
    }

    fn capped(&self, gang: u32, pass: Pass) -> Option<Reason> {
        let slots = 1 + u64::from(pass == Pass::Next);
        let cap = |percent| self.live() * self.p.slot() * slots / 100 * percent;
        let plain = self.plain(gang);
        if !self.covered(gang) && self.uncovered + plain > cap(UNCOVERED_PERCENT) {
            return Some(Reason::UnbondedCap);
        }
        let spent = self.spent[self.p.gangs[gang as usize].sender as usize];
        (spent > 0 && spent + plain > cap(SENDER_PERCENT)).then_some(Reason::SenderCap)
    }

    fn all_full(&self, pass: Pass) -> bool {
        (0..self.p.models.len() as u32)
            .all(|m| self.hosts(m).is_empty() || self.full.contains(&(pass, m)))
    }

    fn compete(&mut self, gangs: &[u32], pass: Pass, contended: bool) {
        let mut failures = 0;
        for &gang in gangs {
            if failures >= FAILURES_MAX || self.all_full(pass) {
                break;
            }
            if !self.waits(gang) || self.is_long(gang) {
                continue;
            }
            if let Some(reason) = self.capped(gang, pass).filter(|_| contended) {
                self.verdicts[gang as usize] = Verdict::Deferred(reason);
                self.kept_back.push(gang);
            } else if self.place(gang, pass, (false, false, self.rank(gang))) {
                failures = 0;
                let worth = density(self.p.gangs[gang as usize].value, self.plain(gang));
                for &key in self.needs(gang) {
                    let least = &mut self.clearing[self.p.keys[key as usize].model as usize];
                    *least = worth.min(*least);
                }
            } else {
                failures += 1;
            }
        }
    }

    fn compete_last(&mut self, pass: Pass) {
        for gang in self.kept_back.clone() {
            if self.all_full(pass) {
                break;
            }
            let before = self.verdicts[gang as usize];
            if self.waits(gang) && !self.place(gang, pass, (false, false, self.rank(gang))) {
                self.verdicts[gang as usize] = before;
            }
        }
    }

    fn tickets(&mut self, gangs: &[u32]) {
        let due_of = |gang: u32| self.p.gangs[gang as usize].due.unwrap_or(self.p.height);
        let mut due: Vec<u32> = gangs.to_vec();
        due.sort_by_key(|&g| (due_of(g), self.p.gangs[g as usize].id));
        let per_block = self.live() * self.p.slot() * TICKET_PERCENT / 100;
        let mut needed = 0;
        for (n, &gang) in due.iter().enumerate() {
            let sum: u64 = due[..=n].iter().map(|&g| self.plain(g)).sum();
            let blocks = due_of(gang)
                .0
                .saturating_sub(self.p.height.0 + TICKET_SLACK);
            needed = needed.max(sum.saturating_sub(per_block * blocks));
        }
        let mut served = 0;
        for gang in due {
            if served >= needed {
                break;
            }
            served += self.plain(gang);
            // What of the way to it is contiguous and waits.
            let chain = self.chain(gang);
            let from = chain[..chain.len() - 1]
                .iter()
                .rposition(|&g| !self.waits(g))
                .map_or(0, |at| at + 1);
            for &gang in &chain[from..] {
                if self.waits(gang) && !self.is_long(gang) {
                    self.place(gang, Pass::This, (false, true, self.rank(gang)));
                }
            }
        }
    }

    fn run(mut self) -> Self {
        let p = self.p;
        let mut open: Vec<u32> = (0..p.gangs.len() as u32).collect();
        for &gang in &open {
            let verdict = self.under_way(gang);
            self.verdicts[gang as usize] = verdict.unwrap_or(Verdict::Deferred(Reason::Outbid(0)));
        }
        open.retain(|&gang| self.waits(gang));
        open.sort_by_cached_key(|&gang| self.order(gang));
        let pick = |slow: &Self, of: &dyn Fn(&Self, u32) -> bool| -> Vec<u32> {
            open.iter().copied().filter(|&g| of(slow, g)).collect()
        };
        let at = |g: u32| &p.gangs[g as usize];
        let calls = pick(&self, &|_, g| at(g).call);
        let bound = pick(&self, &|_, g| !at(g).call && at(g).committed);
        let long = |s: &Self, g: u32| !at(g).call && s.is_long(g);
        let aged = pick(&self, &|s, g| {
            long(s, g) && !at(g).committed && at(g).arrival.0 + LONG_AGE_BLOCKS <= p.height.0
        });
        let short = |s: &Self, g: u32| !at(g).call && !at(g).committed && !s.is_long(g);
        let due = pick(&self, &|s, g| short(s, g) && at(g).due.is_some());
        let started = pick(&self, &|s, g| short(s, g) && at(g).started);
        let others = pick(&self, &|s, g| short(s, g) || long(s, g));

        let capacity: u64 = p
            .shards
            .iter()
            .filter(|s| s.live)
            .map(|s| p.deadlines[0].saturating_sub(s.free_at.max(p.now)).0)
            .sum();
        let contended = open.iter().map(|&g| self.plain(g)).sum::<u64>() > capacity;

        self.sigmas = 0;
        self.all(&bound, Pass::This, true);
        self.sigmas = MARGIN_SIGMAS;
        for &gang in &aged {
            self.place_long(gang, Pass::Aged);
        }
        self.tickets(&due);
        let (mut this, mut next) = (others.len(), others.len());
        if contended {
            let promised: u64 = bound.iter().map(|&g| self.plain(g)).sum();
            let left = capacity.saturating_sub(promised);
            let most = [left, left + self.live() * p.slot()].map(|t| t / 100 * CUT_PERCENT);
            (this, next) = (0, 0);
            let (mut cost, mut asked) = (0, vec![0; p.models.len()]);
            let mut looking = self.clone();
            for (n, &gang) in others.iter().enumerate() {
                if cost > most[1] {
                    break;
                }
                let barred = looking.capped(gang, Pass::Next).is_some();
                if !self.waits(gang) || self.is_long(gang) || barred {
                    continue;
                }
                looking.charge(gang);
                cost += self.plain(gang);
                for &key in self.needs(gang) {
                    let state = &p.keys[key as usize];
                    asked[state.model as usize] += u64::from(state.copies);
                }
                this = if cost <= most[0] { n + 1 } else { this };
                next = if cost <= most[1] { n + 1 } else { next };
            }
            self.asked = Some(asked);
            self.full.clear();
        }
        self.all(&started, Pass::This, false);
        self.compete(&others[..this], Pass::This, contended);
        self.all(&bound, Pass::Next, true);
        self.all(&started, Pass::Next, false);
        self.compete(&others[..next], Pass::Next, contended);
        self.keeps_room = false;
        self.full.clear();
        self.compete(&others, Pass::This, contended);
        self.compete(&others, Pass::Next, contended);
        self.compete_last(Pass::This);
        self.compete_last(Pass::Next);
        self.all(&calls, Pass::Next, false);
        let mut failures = 0;
        for &gang in others.iter().chain(&calls) {
            if failures < FAILURES_MAX && self.waits(gang) && self.is_long(gang) {
                self.place_long(gang, Pass::Long);
                failures = if self.waits(gang) { failures + 1 } else { 0 };
            }
        }
        self
    }

    /// What a shard runs, in order.
    fn queue(&self, shard: u32) -> Vec<(Pass, u32, Vec<u32>)> {
        let mut batches: Vec<&Batch> = self.batches.iter().filter(|b| b.shard == shard).collect();
        batches.sort_by_key(|b| {
            (
                b.pass,
                Reverse(b.urgency),
                b.opener,
                self.p.models[b.model as usize],
            )
        });
        let said = |b: &&Batch| (b.pass, b.model, b.keys.clone());
        batches.iter().map(said).collect()
    }

    fn verdict(&self, gang: usize) -> Verdict {
        let verdict = self.verdicts[gang];
        if verdict != Verdict::Deferred(Reason::Outbid(0)) {
            return verdict;
        }
        let mut price = 0;
        for &key in &self.p.gangs[gang].needs {
            let state = &self.p.keys[key as usize];
            if state.copies > 0 && self.hosts(state.model).is_empty() {
                return Verdict::Deferred(Reason::NoShard);
            }
            let least = self.clearing[state.model as usize];
            if least != u64::MAX {
                price = price.max(super::super::order::price_of(least));
            }
        }
        Verdict::Deferred(match price {
            0 => Reason::DeadlineInfeasible,
            price => Reason::Outbid(price),
        })
    }
}

fn check(seed: u64, shape: Shape) -> Result<(), TestCaseError> {
    let p = problem(seed, shape);
    let fast = plan(&p);
    let slow = Slow::new(&p).run();
    for (gang, verdict) in fast.verdicts.iter().enumerate() {
        prop_assert_eq!(
            *verdict,
            slow.verdict(gang),
            "gang {}: {:?}",
            gang,
            p.gangs[gang]
        );
    }
    for shard in 0..p.shards.len() as u32 {
        let queue = fast.queues[shard as usize].iter().map(|&b| {
            let batch = &fast.batches()[b as usize];
            (batch.pass, batch.model, batch.keys.clone())
        });
        prop_assert_eq!(
            queue.collect::<Vec<_>>(),
            slow.queue(shard),
            "shard {}",
            shard
        );
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 256, ..ProptestConfig::default() })]

    /// Up to eight shards per model all are compared: beyond, the planner looks at three that it chooses by hash.
    #[test]
    fn the_planner_decides_as_a_slow_one_does(
        seed in any::<u64>(),
        shards in 1u64..=8,
        models in 1u64..6,
        gangs in 0u64..90,
        plain in any::<bool>(),
    ) {
        let extras = if plain { Extras::None } else { Extras::All };
        check(seed, Shape { shards, models, gangs, extras })?;
    }
}
