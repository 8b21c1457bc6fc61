//! What the batches come to, and what is added to them.

use super::{Batch, Miss, Slow};
use crate::ids::Micros;
use crate::scheduler::limits::{BATCH_ROOM_PERCENT, JOIN_WEIGHT, LONG_PERCENT};
use crate::scheduler::model::{Pass, Urgency};

impl Slow<'_> {
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

    pub(super) fn places(&self, key: u32) -> Vec<(u32, Pass)> {
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

    fn put(&mut self, key: u32, shard: u32, pass: Pass, urgency: Urgency, opener: u32) {
        let model = self.p.keys[key as usize].model;
        if let Some(n) = self.joins(shard, model, pass) {
            let batch = &mut self.batches[n];
            batch.keys.push(key);
            if batch.pass == pass {
                batch.urgency = batch.urgency.join(urgency);
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

    pub(super) fn place_key(
        &mut self,
        key: u32,
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        gang: u32,
        first: &mut bool,
    ) -> Result<(), Miss> {
        let state = &self.p.keys[key as usize];
        let end = until.map_or(u64::MAX, |u| u.saturating_sub(self.p.now).0);
        let deadline = self.deadline(pass).min(end);
        let margin = state.margin(self.sigmas);
        let late = state.ready_at.saturating_sub(self.p.now).0 + margin > deadline;
        let places = self.places(key);
        if late || places.iter().any(|place| place.1 > pass) {
            return Err(Miss::Late);
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
            let best = |hosts: &[u32]| {
                let scores = hosts.iter().filter_map(|&s| {
                    let score = self.score(s, state.model, pass, deadline)?;
                    Some((score, self.p.shards[s as usize].id, s))
                });
                scores.min()
            };
            // What was promised stays where it was, if it can.
            let homes = match self.p.gangs[gang as usize].committed {
                true => self.p.homes.get(&key).copied().unwrap_or(0),
                false => 0,
            };
            let at_home: Vec<u32> = (hosts.iter().copied())
                .filter(|s| homes & 1 << s != 0)
                .collect();
            match best(&at_home).or_else(|| best(&hosts)) {
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
}
