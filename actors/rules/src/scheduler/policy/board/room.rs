//! Where there is room, and which of it is best.

use super::{Board, Horizon, Margin, Miss, PASS_OF, Room};
use crate::scheduler::limits::{HOSTS_COMPARED_MAX, JOIN_WEIGHT};
use crate::scheduler::model::{NONE, Pass, Problem};

/// Where a request goes.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found {
    pub(super) shard: u32,
    /// The batch that it joins, or none where it opens one.
    pub(super) join: Option<u32>,
    /// Microseconds and variance that it adds.
    pub(super) add: u64,
    pub(super) variance: u64,
}

impl Board {
    /// Time from now until the pass's answers must be here.
    pub(super) fn deadline(&self, p: &Problem, pass: Pass) -> u64 {
        match pass {
            _ if self.horizon == Horizon::Open => u64::MAX >> 2,
            Pass::This => p.deadlines[0].saturating_sub(p.now).0,
            Pass::Next => p.deadlines[1].saturating_sub(p.now).0,
            Pass::Aged | Pass::Long => u64::MAX >> 2,
        }
    }

    pub(super) fn choose(
        &self,
        p: &Problem,
        model: u32,
        barred: u128,
        pass: Pass,
        deadline: u64,
        spread: usize,
    ) -> Result<Found, Miss> {
        let hosts = &self.hosts[model as usize];
        let best_of = |shards: &[u32]| {
            let allowed = shards.iter().filter(|&&s| barred & 1 << s == 0);
            allowed
                .filter_map(|&s| self.score(p, model, s, pass, deadline))
                .reduce(|best, next| if next.0 < best.0 { next } else { best })
        };
        let mut best = None;
        if hosts.len() > HOSTS_COMPARED_MAX {
            let hint = self.hint[pass as usize][model as usize];
            let two = [
                hosts[spread % hosts.len()],
                hosts[(spread + hosts.len() / 2 + 1) % hosts.len()],
            ];
            best = if hint == NONE {
                best_of(&two)
            } else {
                best_of(&[hint, two[0], two[1]])
            };
        }
        let best = best.or_else(|| best_of(hosts));
        let any = best.is_some() || hosts.iter().any(|&s| barred & 1 << s == 0);
        match best {
            Some((_, found)) => Ok(found),
            None if any => Err(Miss::Full),
            None => Err(Miss::NoShard),
        }
    }

    /// The batch that a request would join, or `None` where it opens one; with what it adds.
    fn addition(&self, p: &Problem, model: u32, shard: u32, pass: Pass) -> (Option<u32>, u64, u64) {
        let cost = p.cost(model, shard);
        let table = model as usize * self.shards + shard as usize;
        let open = self.open[pass as usize][table];
        let open = if open == NONE && pass == Pass::Next {
            // What is for the next block may ride in this block's batch, while that stays in time.
            let earlier = self.open[Pass::This as usize][table];
            if earlier != NONE && self.fits(p, shard, Pass::This, cost.each, 0, u64::MAX) {
                earlier
            } else {
                NONE
            }
        } else {
            open
        };
        if open != NONE && self.batches[open as usize].keys.len() < self.caps[table] as usize {
            (Some(open), cost.each, 0)
        } else {
            (None, cost.base.saturating_add(cost.each), cost.variance)
        }
    }

    /// Least is best.
    fn score(
        &self,
        p: &Problem,
        model: u32,
        shard: u32,
        pass: Pass,
        deadline: u64,
    ) -> Option<(u64, Found)> {
        let (join, add, variance) = self.addition(p, model, shard, pass);
        if matches!(pass, Pass::Aged | Pass::Long) {
            // A shard gets one batch of long work at a time, and only so many shards do.
            if join.is_none() && !self.takes_long(p, shard, pass) {
                return None;
            }
        }
        let at = join.map_or(pass, |batch| self.batches[batch as usize].pass);
        // What the batch kept free for it is not taken from others; what a new one will keep free is.
        let needs = match join {
            Some(batch) if self.room == Room::Kept => {
                add - self.batch_kept[batch as usize].min(add)
            }
            Some(_) => add,
            None => add.saturating_add(self.to_keep(p, model, shard, at)),
        };
        if !self.fits(p, shard, at, needs, variance, deadline) {
            return None;
        }
        let score =
            add.saturating_mul(JOIN_WEIGHT)
                .saturating_add(self.finish(p, shard, pass as usize));
        let found = Found {
            shard,
            join,
            add,
            variance,
        };
        Some((score, found))
    }

    /// Microseconds that a batch keeps free when it is opened with one request.
    pub(super) fn to_keep(&self, p: &Problem, model: u32, shard: u32, pass: Pass) -> u64 {
        if matches!(pass, Pass::Aged | Pass::Long) || self.room == Room::Used {
            return 0;
        }
        let least = self.least[model as usize * self.shards + shard as usize];
        p.cost(model, shard)
            .each
            .saturating_mul(u64::from(least - 1))
    }

    fn takes_long(&self, p: &Problem, shard: u32, pass: Pass) -> bool {
        let has = |s: usize| {
            let load = &self.sides[s].load;
            p.shards[s].long || load[Pass::Aged as usize] + load[Pass::Long as usize] > 0
        };
        let s = shard as usize;
        !has(s)
            && (pass == Pass::Long || self.sides[s].load[Pass::This as usize] == 0)
            && (0..self.shards).filter(|&s| has(s)).count() < self.long_max
    }

    /// When the shard is done with all up to a pass, from now.
    fn finish(&self, p: &Problem, shard: u32, pass: usize) -> u64 {
        let s = shard as usize;
        let busy = p.shards[s].free_at.saturating_sub(p.now).0;
        let loads = self.sides[s].load.iter().take(pass + 1);
        loads.fold(busy, |sum, &load| sum.saturating_add(load))
    }

    /// Whether `add` more in `pass` keeps this and all later passes in time, with margin.
    fn fits(
        &self,
        p: &Problem,
        shard: u32,
        pass: Pass,
        add: u64,
        variance: u64,
        until: u64,
    ) -> bool {
        self.fits_with(
            p,
            shard,
            pass,
            (add, variance),
            until,
            (self.margin, self.room),
        )
    }

    pub(super) fn fits_with(
        &self,
        p: &Problem,
        shard: u32,
        pass: Pass,
        (add, variance): (u64, u64),
        until: u64,
        (margin, room): (Margin, Room),
    ) -> bool {
        let (lane, side) = (&p.shards[shard as usize], &self.sides[shard as usize]);
        let mut finish = lane.free_at.saturating_sub(p.now).0.saturating_add(add);
        let mut noise = lane.variance.saturating_add(variance);
        for (q, &at) in PASS_OF.iter().enumerate() {
            finish = finish.saturating_add(side.load[q]);
            if room == Room::Kept {
                finish = finish.saturating_add(side.kept[q]);
            }
            noise = noise.saturating_add(side.variance[q]);
            if q < pass as usize || q > pass as usize && side.load[q] == 0 {
                continue;
            }
            let deadline = self.deadline(p, at);
            let deadline = if q == pass as usize {
                deadline.min(until)
            } else {
                deadline
            };
            let Some(left) = deadline.checked_sub(finish) else {
                return false;
            };
            let needed = noise.saturating_mul(p.tuning.margin_sigmas.pow(2));
            if margin == Margin::On && left.saturating_mul(left) < needed {
                return false;
            }
        }
        true
    }
}
