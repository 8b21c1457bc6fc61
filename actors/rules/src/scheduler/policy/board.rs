//! The board: batches on shards while a plan is made. A gang is put on it whole, or taken off without a trace.

use crate::ids::Micros;
use crate::scheduler::limits::{
    BATCH_ROOM_PERCENT, BATCH_SLOT_PERCENT, HOSTS_COMPARED_MAX, JOIN_WEIGHT, LONG_PERCENT,
    MARGIN_SIGMAS,
};
use crate::scheduler::model::{Batch, Cost, NONE, PASSES, Pass, Problem};
use std::collections::BTreeMap;

/// Why a gang found no place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No shard serves a model of it, or not as many as the mode asks for.
    NoShard,
    /// The shards are full.
    Full,
    /// Something that it needs is under way already, and ends too late.
    Late,
}

/// Chance margin of a placement: baselines plan without.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Margin {
    /// None.
    #[default]
    Off,
    /// [`MARGIN_SIGMAS`] standard deviations.
    On,
}

/// Whether a placement leaves alone what open batches keep free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Room {
    /// It does.
    #[default]
    Kept,
    /// It may take it: it has to be placed.
    Used,
}

/// How far ahead a pass reaches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Horizon {
    /// To its block's deadline.
    #[default]
    Blocks,
    /// Without end.
    Open,
}

/// The urgency of a placement: see [`Batch::urgency`].
pub(crate) type Urgency = (bool, bool, u64);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    key: u32,
    batch: u32,
    table: usize,
    /// The batch was opened by this step, and this was open before.
    opened: Option<u32>,
    urgency: Urgency,
    key_pass: u8,
    /// The pass that was asked for: the batch may be an earlier one's.
    asked: Pass,
    hint: u32,
    add: u64,
    variance: u64,
    /// What the batch kept free before.
    kept: u64,
}

/// Loads, open batches, and what is placed.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Board {
    shards: usize,
    /// Per model: shards that serve it, by ascending id.
    hosts: Vec<Vec<u32>>,
    /// Per model and shard: requests per batch.
    caps: Vec<u32>,
    /// Per model: one request takes longer than a slot everywhere, or may do so.
    long: Vec<bool>,
    /// Per model: the set of its shards on which it does not.
    short: Vec<u128>,
    /// Per model: all its shards, as a set.
    set: Vec<u128>,
    /// Per pass and shard: microseconds of placed batches.
    load: [Vec<u64>; PASSES],
    /// Per pass and shard: their variance.
    variance: [Vec<u64>; PASSES],
    /// Per model and shard: requests for which a batch must have room when it is opened. One where nothing is contended.
    least: Vec<u32>,
    /// Per pass and shard: microseconds that open batches keep free, up to that many requests.
    kept: [Vec<u64>; PASSES],
    /// Per batch: the same.
    batch_kept: Vec<u64>,
    /// Per pass, model and shard: the batch that takes more.
    open: [Vec<u32>; PASSES],
    /// Per pass and model: the shard that was chosen last.
    hint: [Vec<u32>; PASSES],
    /// Per pass and model: there is no room at all.
    full: [Vec<bool>; PASSES],
    /// Per key: copies that are placed.
    placed: Vec<u32>,
    /// Per key: the latest pass of its copies.
    key_pass: Vec<u8>,
    /// Shards of keys that need more than one copy.
    taken: BTreeMap<u32, u128>,
    /// Shards that may be given work longer than a slot.
    long_max: usize,
    margin: Margin,
    room: Room,
    horizon: Horizon,
    steps: Vec<Step>,
    pub(crate) batches: Vec<Batch>,
}

const PASS_OF: [Pass; PASSES] = [Pass::Aged, Pass::This, Pass::Next, Pass::Long];

impl Board {
    pub(crate) fn new(p: &Problem, margin: Margin) -> Self {
        let (shards, models) = (p.shards.len(), p.models.len());
        let mut by_id: Vec<u32> = (0..shards as u32).collect();
        by_id.sort_by_key(|&s| p.shards[s as usize].id);
        let slot = p.slot();
        let batch_time = slot * BATCH_SLOT_PERCENT / 100;
        let mut hosts = Vec::with_capacity(models);
        let mut long = Vec::with_capacity(models);
        let mut short = Vec::with_capacity(models);
        let mut sets = Vec::with_capacity(models);
        let mut caps = vec![1; shards * models];
        for m in 0..models as u32 {
            let set = p.hosts(m);
            let list: Vec<u32> = by_id
                .iter()
                .copied()
                .filter(|&s| set & 1 << s != 0)
                .collect();
            // Margin included: what no deadline leaves room for, on an idle shard even, would never be placed.
            let sigmas = match margin {
                Margin::On => MARGIN_SIGMAS,
                Margin::Off => 0,
            };
            let span = |cost: &Cost| {
                let noise = cost.variance.isqrt().saturating_add(1);
                cost.batch(1).saturating_add(noise.saturating_mul(sigmas))
            };
            let fast = list.iter().filter(|&&s| span(p.cost(m, s)) <= slot);
            let fast = fast.fold(0u128, |set, s| set | 1 << s);
            let is_long = !list.is_empty() && fast == 0;
            short.push(fast);
            sets.push(set);
            for &s in &list {
                let cost = p.cost(m, s);
                let most = p.shards[s as usize].batch_max.max(1);
                let fits = batch_time.saturating_sub(cost.base) / cost.each.max(1);
                caps[m as usize * shards + s as usize] = if is_long {
                    most
                } else {
                    u32::try_from(fits).unwrap_or(u32::MAX).clamp(1, most)
                };
            }
            hosts.push(list);
            long.push(is_long);
        }
        let live = p.shards.iter().filter(|s| s.live).count();
        let per_shard = || vec![0; shards];
        Self {
            shards,
            hosts,
            caps,
            long,
            short,
            set: sets,
            load: [per_shard(), per_shard(), per_shard(), per_shard()],
            variance: [per_shard(), per_shard(), per_shard(), per_shard()],
            least: vec![1; shards * models],
            kept: [per_shard(), per_shard(), per_shard(), per_shard()],
            batch_kept: Vec::new(),
            open: std::array::from_fn(|_| vec![NONE; shards * models]),
            hint: std::array::from_fn(|_| vec![NONE; models]),
            full: std::array::from_fn(|_| vec![false; models]),
            placed: vec![0; p.keys.len()],
            key_pass: vec![0; p.keys.len()],
            taken: BTreeMap::new(),
            long_max: (live * LONG_PERCENT as usize / 100).max(1),
            margin,
            room: Room::Kept,
            horizon: Horizon::Blocks,
            steps: Vec::new(),
            batches: Vec::new(),
        }
    }

    /// Placements from now on keep this margin; what was kept until now.
    pub(crate) const fn set_margin(&mut self, margin: Margin) -> Margin {
        std::mem::replace(&mut self.margin, margin)
    }

    /// Passes reach so far from now on.
    pub(crate) const fn set_horizon(&mut self, horizon: Horizon) {
        self.horizon = horizon;
    }

    /// From now on a batch is opened only where it and all open ones find room for a good part of what they can take,
    /// as far as `asked` (requests per model) is enough to fill them: many models side by side on one shard would leave
    /// all their batches small.
    pub(crate) fn keep_room(&mut self, asked: &[u64]) {
        for (m, hosts) in self.hosts.iter().enumerate() {
            for &s in hosts {
                let table = m * self.shards + s as usize;
                let good = u64::from(self.caps[table]) * BATCH_ROOM_PERCENT / 100;
                let there = asked[m] / hosts.len() as u64;
                self.least[table] = good.min(there).max(1) as u32;
            }
        }
        self.keep(Room::Kept);
    }

    /// Whether batches are opened with room to fill alone, or wherever one request has room.
    pub(crate) fn keep(&mut self, room: Room) {
        self.room = room;
        self.reopen();
    }

    /// A quorum of a long model needs as many shards at once.
    pub(crate) fn allow_quorum(&mut self, copies: u32) {
        self.long_max = self.long_max.max(copies as usize);
    }

    /// Shards that serve a model.
    pub(crate) fn hosts(&self, model: u32) -> &[u32] {
        &self.hosts[model as usize]
    }

    /// Least mean time of a request of the model, over its shards.
    pub(crate) fn mean(&self, p: &Problem, model: u32) -> u64 {
        let hosts = self.hosts[model as usize].iter();
        hosts.map(|&s| p.cost(model, s).mean).min().unwrap_or(1)
    }

    /// Whether the copies of a key that are to be started need a shard on which one takes longer than a slot: a quorum
    /// may have to, though a single answer does not.
    pub(crate) fn is_long(&self, p: &Problem, key: u32) -> bool {
        let state = &p.keys[key as usize];
        if state.copies == 0 || !self.may_be_long(state.model) {
            return false;
        }
        let open = self.set[state.model as usize] & !state.barred;
        let short = self.short[state.model as usize] & open;
        self.long[state.model as usize]
            || (short.count_ones() < state.copies && open.count_ones() >= state.copies)
    }

    /// Whether a key of the model may be long.
    pub(crate) fn may_be_long(&self, model: u32) -> bool {
        self.short[model as usize] != self.set[model as usize]
    }

    /// Copies of a key that are neither under way nor placed.
    pub(crate) fn left(&self, p: &Problem, key: u32) -> u32 {
        p.keys[key as usize]
            .copies
            .saturating_sub(self.placed[key as usize])
    }

    /// Whether a pass has room for no model at all.
    pub(crate) fn all_full(&self, pass: Pass) -> bool {
        self.full[pass as usize]
            .iter()
            .zip(&self.hosts)
            .all(|(full, hosts)| *full || hosts.is_empty())
    }

    /// Places all that `needs` asks for in `pass`, or nothing.
    pub(crate) fn place(
        &mut self,
        p: &Problem,
        needs: &[u32],
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let result = self.place_some(p, needs, pass, until, urgency, opener);
        if result.is_err() {
            self.undo();
        }
        self.steps.clear();
        result
    }

    /// Places what finds a place, and keeps it even where the rest does not: what baselines do.
    pub(crate) fn place_partly(
        &mut self,
        p: &Problem,
        needs: &[u32],
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let mut result = Ok(());
        for need in needs {
            let need = std::slice::from_ref(need);
            result = result.and(self.place(p, need, pass, until, urgency, opener));
        }
        result
    }

    fn place_some(
        &mut self,
        p: &Problem,
        needs: &[u32],
        pass: Pass,
        until: Option<Micros>,
        urgency: Urgency,
        opener: u32,
    ) -> Result<(), Miss> {
        let deadline = self.deadline(p, pass);
        let deadline = until.map_or(deadline, |u| deadline.min(u.saturating_sub(p.now).0));
        for (position, &key) in needs.iter().enumerate() {
            let state = p.keys[key as usize];
            let margin = match self.margin {
                Margin::On => state.margin(),
                Margin::Off => 0,
            };
            let late = state
                .ready_at
                .saturating_sub(p.now)
                .0
                .saturating_add(margin)
                > deadline;
            let placed = self.placed[key as usize];
            if late || placed > 0 && self.key_pass[key as usize] > pass as u8 {
                return Err(Miss::Late);
            }
            for _ in placed..state.copies {
                let barred = state.barred | self.taken.get(&key).copied().unwrap_or(0);
                let first = self.steps.is_empty();
                if barred == 0 && self.full[pass as usize][state.model as usize] {
                    return Err(Miss::Full);
                }
                let spread = p.gangs[opener as usize].id.0[position % 32] as usize;
                match self.choose(p, state.model, barred, pass, deadline, spread) {
                    Ok(shard) => self.put(p, key, shard, pass, urgency, opener),
                    Err(miss) => {
                        // Where even an empty undo list finds nothing, nobody will in this pass: loads only grow.
                        if first && barred == 0 && miss == Miss::Full && until.is_none() {
                            self.full[pass as usize][state.model as usize] = true;
                        }
                        return Err(miss);
                    }
                }
            }
        }
        Ok(())
    }

    /// Time from now until the pass's answers must be here.
    fn deadline(&self, p: &Problem, pass: Pass) -> u64 {
        match pass {
            _ if self.horizon == Horizon::Open => u64::MAX >> 2,
            Pass::This => p.deadlines[0].saturating_sub(p.now).0,
            Pass::Next => p.deadlines[1].saturating_sub(p.now).0,
            Pass::Aged | Pass::Long => u64::MAX >> 2,
        }
    }

    fn choose(
        &self,
        p: &Problem,
        model: u32,
        barred: u128,
        pass: Pass,
        deadline: u64,
        spread: usize,
    ) -> Result<u32, Miss> {
        let hosts = &self.hosts[model as usize];
        let best_of = |shards: &[u32]| {
            let allowed = shards.iter().filter(|&&s| barred & 1 << s == 0);
            allowed
                .filter_map(|&s| Some((self.score(p, model, s, pass, deadline)?, s)))
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
            Some((_, shard)) => Ok(shard),
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

    fn score(&self, p: &Problem, model: u32, shard: u32, pass: Pass, deadline: u64) -> Option<u64> {
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
        Some(
            add.saturating_mul(JOIN_WEIGHT)
                .saturating_add(self.finish(p, shard, pass as usize)),
        )
    }

    /// Microseconds that a batch keeps free when it is opened with one request.
    fn to_keep(&self, p: &Problem, model: u32, shard: u32, pass: Pass) -> u64 {
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
            p.shards[s].long
                || self.load[Pass::Aged as usize][s] + self.load[Pass::Long as usize][s] > 0
        };
        let s = shard as usize;
        !has(s)
            && (pass == Pass::Long || self.load[Pass::This as usize][s] == 0)
            && (0..self.shards).filter(|&s| has(s)).count() < self.long_max
    }

    /// When the shard is done with all up to a pass, from now.
    fn finish(&self, p: &Problem, shard: u32, pass: usize) -> u64 {
        let s = shard as usize;
        let busy = p.shards[s].free_at.saturating_sub(p.now).0;
        (0..=pass).fold(busy, |sum, q| sum.saturating_add(self.load[q][s]))
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

    fn fits_with(
        &self,
        p: &Problem,
        shard: u32,
        pass: Pass,
        (add, variance): (u64, u64),
        until: u64,
        (margin, room): (Margin, Room),
    ) -> bool {
        let s = shard as usize;
        let mut finish = p.shards[s]
            .free_at
            .saturating_sub(p.now)
            .0
            .saturating_add(add);
        let mut noise = p.shards[s].variance.saturating_add(variance);
        for (q, &at) in PASS_OF.iter().enumerate() {
            finish = finish.saturating_add(self.load[q][s]);
            if room == Room::Kept {
                finish = finish.saturating_add(self.kept[q][s]);
            }
            noise = noise.saturating_add(self.variance[q][s]);
            if q < pass as usize || q > pass as usize && self.load[q][s] == 0 {
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
            let needed = noise.saturating_mul(MARGIN_SIGMAS * MARGIN_SIGMAS);
            if margin == Margin::On && left.saturating_mul(left) < needed {
                return false;
            }
        }
        true
    }

    fn put(
        &mut self,
        p: &Problem,
        key: u32,
        shard: u32,
        pass: Pass,
        urgency: Urgency,
        opener: u32,
    ) {
        let model = p.keys[key as usize].model;
        let table = model as usize * self.shards + shard as usize;
        let (join, add, variance) = self.addition(p, model, shard, pass);
        let hint = std::mem::replace(&mut self.hint[pass as usize][model as usize], shard);
        let (batch, opened) = if let Some(batch) = join {
            (batch, None)
        } else {
            let batch = self.batches.len() as u32;
            self.batch_kept.push(0);
            self.batches.push(Batch {
                shard,
                model,
                pass,
                keys: Vec::new(),
                urgency,
                opener: p.gangs[opener as usize].id,
            });
            let before = std::mem::replace(&mut self.open[pass as usize][table], batch);
            (batch, Some(before))
        };
        let kept = self.batch_kept[batch as usize];
        let left = match opened {
            Some(_) => self.to_keep(p, model, shard, pass),
            None => kept - kept.min(add),
        };
        let entry = &mut self.batches[batch as usize];
        self.steps.push(Step {
            key,
            batch,
            table,
            opened,
            urgency: entry.urgency,
            key_pass: self.key_pass[key as usize],
            asked: pass,
            hint,
            add,
            variance,
            kept,
        });
        // What rides along does not make a batch of this block more urgent.
        if entry.pass == pass {
            entry.urgency = entry.urgency.max(urgency);
        }
        entry.keys.push(key);
        let at = entry.pass as usize;
        self.keep_free(batch, left);
        self.load[at][shard as usize] += add;
        self.variance[at][shard as usize] += variance;
        self.placed[key as usize] += 1;
        self.key_pass[key as usize] = self.key_pass[key as usize].max(at as u8);
        if p.keys[key as usize].copies > 1 {
            *self.taken.entry(key).or_default() |= 1 << shard;
        }
    }

    /// Has a batch keep so many microseconds free.
    fn keep_free(&mut self, batch: u32, time: u64) {
        let Batch { pass, shard, .. } = self.batches[batch as usize];
        let kept = &mut self.kept[pass as usize][shard as usize];
        let before = std::mem::replace(&mut self.batch_kept[batch as usize], time);
        *kept = *kept - before + time;
    }

    fn undo(&mut self) {
        while let Some(step) = self.steps.pop() {
            self.keep_free(step.batch, step.kept);
            let batch = &mut self.batches[step.batch as usize];
            let (at, shard, model) = (batch.pass as usize, batch.shard, batch.model);
            batch.keys.pop();
            batch.urgency = step.urgency;
            self.load[at][shard as usize] -= step.add;
            self.variance[at][shard as usize] -= step.variance;
            self.placed[step.key as usize] -= 1;
            self.key_pass[step.key as usize] = step.key_pass;
            if let Some(taken) = self.taken.get_mut(&step.key) {
                *taken &= !(1 << shard);
                if *taken == 0 {
                    self.taken.remove(&step.key);
                }
            }
            if let Some(before) = step.opened {
                self.open[at][step.table] = before;
                self.batches.pop();
                self.batch_kept.pop();
            }
            self.hint[step.asked as usize][model as usize] = step.hint;
        }
    }

    /// A batch went to its shard: from now on the problem has it, as work that is under way.
    pub(crate) fn dispatched(&mut self, p: &Problem, batch: u32) {
        self.keep_free(batch, 0);
        let Batch {
            shard,
            model,
            pass,
            ref mut keys,
            ..
        } = self.batches[batch as usize];
        let keys = std::mem::take(keys);
        let (s, at) = (shard as usize, pass as usize);
        let cost = p.cost(model, shard);
        let time = cost.batch(keys.len() as u64);
        self.load[at][s] = self.load[at][s].saturating_sub(time);
        self.variance[at][s] = self.variance[at][s].saturating_sub(cost.variance);
        let open = &mut self.open[at][model as usize * self.shards + s];
        if *open == batch {
            *open = NONE;
        }
        for key in keys {
            let placed = &mut self.placed[key as usize];
            *placed = placed.saturating_sub(1);
            if let Some(taken) = self.taken.get_mut(&key) {
                *taken &= !(1 << shard);
            }
        }
    }

    /// Makes room for keys that came after the plan.
    pub(crate) fn grow(&mut self, p: &Problem) {
        self.placed.resize(p.keys.len(), 0);
        self.key_pass.resize(p.keys.len(), 0);
    }

    /// Work got done earlier than expected, perhaps: look again.
    pub(crate) fn reopen(&mut self) {
        for full in &mut self.full {
            full.fill(false);
        }
    }

    /// Shards that are planned beyond a deadline, as `(shard slot, pass)`: none, ever. What was promised may use up its
    /// margin.
    pub(crate) fn overruns(&self, p: &Problem) -> Vec<(u32, Pass)> {
        let mut found = Vec::new();
        for shard in 0..self.shards as u32 {
            for pass in [Pass::This, Pass::Next] {
                let bound = |b: &Batch| {
                    b.shard == shard && b.urgency.0 && b.pass <= Pass::Next && !b.keys.is_empty()
                };
                let margin = if self.batches.iter().any(bound) {
                    Margin::Off
                } else {
                    self.margin
                };
                if self.load[pass as usize][shard as usize] > 0
                    && !self.fits_with(p, shard, pass, (0, 0), u64::MAX, (margin, Room::Used))
                {
                    found.push((shard, pass));
                }
            }
        }
        found
    }

    /// Whether loads and counts are what the batches add up to: an undo that left a trace shows here.
    pub(crate) fn adds_up(&self, p: &Problem) -> bool {
        let mut load: [Vec<u64>; PASSES] = std::array::from_fn(|_| vec![0; self.shards]);
        let mut variance = load.clone();
        let mut placed = vec![0u32; self.placed.len()];
        for batch in self.batches.iter().filter(|b| !b.keys.is_empty()) {
            let cost = p.cost(batch.model, batch.shard);
            let (at, s) = (batch.pass as usize, batch.shard as usize);
            load[at][s] += cost.batch(batch.keys.len() as u64);
            variance[at][s] += cost.variance;
            for &key in &batch.keys {
                placed[key as usize] += 1;
            }
        }
        let mut kept: [Vec<u64>; PASSES] = std::array::from_fn(|_| vec![0; self.shards]);
        for (batch, time) in self.batches.iter().zip(&self.batch_kept) {
            kept[batch.pass as usize][batch.shard as usize] += time;
        }
        load == self.load
            && variance == self.variance
            && placed == self.placed
            && kept == self.kept
            && self.batches.len() == self.batch_kept.len()
    }
}
