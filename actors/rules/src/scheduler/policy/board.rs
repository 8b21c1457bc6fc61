//! The board: batches on shards while a plan is made. A gang is put on it whole, or taken off without a trace.

mod place;
mod room;

mod check;

use crate::scheduler::Policy;
use crate::scheduler::limits::{BATCH_ROOM_PERCENT, BATCH_SLOT_PERCENT, LONG_PERCENT, SHARDS_MAX};
use crate::scheduler::model::{Batch, Cost, KeyState, NONE, PASSES, Pass, Problem, Urgency};
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
    /// So many standard deviations as [`Tuning`](crate::scheduler::Tuning) says.
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

/// A request that is to be placed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ask {
    pub(crate) key: u32,
    /// Where many shards serve its model, the two that are looked at beside the last one: a byte of its gang's hash.
    pub(crate) spread: u8,
    pub(crate) state: KeyState,
    /// Shards that come before others, as a set.
    pub(crate) homes: u128,
}

impl Ask {
    /// What a gang waits for.
    pub(crate) fn all<'p>(
        p: &'p Problem,
        needs: &'p [u32],
        gang: u32,
    ) -> impl Iterator<Item = Self> + Clone + use<'p> {
        let gang = &p.gangs[gang as usize];
        let stays = gang.committed && p.policy == Policy::Value;
        let homes = move |key: u32| match stays {
            true => p.homes.get(&key).copied().unwrap_or(0),
            false => 0,
        };
        needs
            .iter()
            .zip(gang.id.0.iter().cycle())
            .map(move |(&key, &spread)| Self {
                key,
                spread,
                state: p.keys[key as usize],
                homes: homes(key),
            })
    }
}

/// Where a request stands on the board.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Spot {
    /// Copies that are placed, each on a shard of its own: no more than [`SHARDS_MAX`].
    placed: u8,
    /// The latest pass of those.
    pass: u8,
    /// The last shard of those.
    shard: u8,
}

const _: () = assert!(SHARDS_MAX <= u8::MAX as usize);

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

/// What a shard has, per pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Side {
    /// Microseconds of placed batches.
    load: [u64; PASSES],
    /// Their variance.
    variance: [u64; PASSES],
    /// Microseconds that open batches keep free.
    kept: [u64; PASSES],
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
    /// Per shard.
    sides: Vec<Side>,
    /// Per model and shard: requests for which a batch must have room when it is opened. One where nothing is contended.
    least: Vec<u32>,
    /// Per batch: microseconds that it keeps free while it is open, up to that many requests.
    batch_kept: Vec<u64>,
    /// Per pass, model and shard: the batch that takes more.
    open: [Vec<u32>; PASSES],
    /// Per pass and model: the shard that was chosen last.
    hint: [Vec<u32>; PASSES],
    /// Per pass and model: there is no room at all.
    full: [Vec<bool>; PASSES],
    /// Passes and models of which it is known that one more request has room, as the board is now.
    roomy: Vec<(Pass, u32)>,
    /// Per key.
    spots: Vec<Spot>,
    /// Keys for which something was ever placed.
    used: Vec<u32>,
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
    /// An empty one. Of `old` only the memory is used.
    pub(crate) fn new(p: &Problem, margin: Margin, old: Self) -> Self {
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
                Margin::On => p.tuning.margin_sigmas,
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
        let (mut spots, mut used) = (old.spots, old.used);
        for key in used.drain(..) {
            spots[key as usize] = Spot::default();
        }
        spots.resize(p.keys.len(), Spot::default());
        let live = p.shards.iter().filter(|s| s.live).count();
        Self {
            shards,
            hosts,
            caps,
            long,
            short,
            set: sets,
            sides: vec![Side::default(); shards],
            least: vec![1; shards * models],
            batch_kept: Vec::new(),
            open: std::array::from_fn(|_| vec![NONE; shards * models]),
            hint: std::array::from_fn(|_| vec![NONE; models]),
            full: std::array::from_fn(|_| vec![false; models]),
            roomy: Vec::new(),
            spots,
            used,
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
    pub(crate) fn set_margin(&mut self, margin: Margin) -> Margin {
        self.roomy.clear();
        std::mem::replace(&mut self.margin, margin)
    }

    /// Passes reach so far from now on.
    pub(crate) fn set_horizon(&mut self, horizon: Horizon) {
        self.roomy.clear();
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
            .saturating_sub(self.spots[key as usize].placed.into())
    }

    /// The shards on which a key is placed, as a set.
    pub(crate) fn places(&self, key: u32) -> u128 {
        match (self.taken.get(&key), self.spots.get(key as usize)) {
            (Some(&several), _) => several,
            (None, Some(spot)) if spot.placed > 0 => 1 << spot.shard,
            _ => 0,
        }
    }

    /// Whether a pass has room for no model at all.
    pub(crate) fn all_full(&self, pass: Pass) -> bool {
        self.full[pass as usize]
            .iter()
            .zip(&self.hosts)
            .all(|(full, hosts)| *full || hosts.is_empty())
    }

    /// Work got done earlier than expected, perhaps: look again.
    pub(crate) fn reopen(&mut self) {
        self.roomy.clear();
        for full in &mut self.full {
            full.fill(false);
        }
    }
}
