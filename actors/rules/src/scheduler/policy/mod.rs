//! From a problem to a plan: one pure function, and its incremental form for arrivals between two full plans.
//!
//! ```text
//!             committed | aged long work | tickets due | started | others by rank | over a cap | calls
//!  This block:    1            2               3            4            5             6          7
//!  Next block:    again, what found no place; last of all, work that is longer than a slot
//! ```

mod ahead;
mod board;
mod compete;
mod heap;
mod index;
mod insert;
mod merge;
mod order;
mod outbid;
mod passes;
mod purse;
mod said;
mod standing;

pub(crate) use board::Board;
use board::Margin;
pub use index::Index;
pub use insert::insert;
use order::Item;
pub(crate) use order::{DENSITY_BITS, density, fixed};
pub(crate) use outbid::Outbid;
use purse::Purse;
pub(crate) use said::Said;

use super::Policy;
use super::limits::{PRICE_MAX, PRICE_MIN, PRICE_ONE, PRICE_STEP};
use super::model::{NONE, Pass, Plan, Problem, Time, Verdict};
use crate::ids::Micros;
use std::collections::{BTreeMap, VecDeque};

/// Plans everything anew. Equal problems give equal plans, in every byte.
#[must_use]
pub fn plan(problem: &Problem) -> Plan {
    let mut plan = Plan::default();
    let mut index = Index::of(problem);
    replan(problem, &mut index, &mut plan);
    plan.complete(problem, &index);
    plan
}

/// The same from what is known of the problem already: `index` was told of all gangs that changed since its last plan,
/// which was `plan`. Of that nothing stays but its memory.
pub fn replan(problem: &Problem, index: &mut Index, plan: &mut Plan) {
    let changed = index.refresh(problem);
    plan.verdicts.resize(problem.gangs.len(), Verdict::Nothing);
    plan.said.resize(problem.gangs.len(), Said::Nothing);
    plan.told.resize(problem.gangs.len(), None);
    // Who was given a verdict waited or was under way, and is still what it was unless it changed.
    let before = std::mem::take(&mut plan.decided);
    for &gang in &before {
        plan.said[gang as usize] = Said::Waits;
    }
    for &gang in &index.under_way {
        plan.said[gang as usize] = Said::Nothing;
    }
    for &gang in &changed {
        let said = if index.waits(gang) {
            Said::Waits
        } else {
            Said::Nothing
        };
        plan.said[gang as usize] = said;
    }
    let mut scratch = std::mem::take(&mut index.scratch);
    scratch.purse.clear(problem);
    let mut planner = Planner::new(problem, index, std::mem::take(plan), scratch);
    planner.run();
    (*plan, scratch) = planner.finish(before.into_iter().chain(changed));
    index.scratch = scratch;
}

/// The verdict of a gang for which nothing is left to be started.
fn under_way(p: &Problem, gang: u32) -> Option<Verdict> {
    let candidate = &p.gangs[gang as usize];
    if !candidate.live || candidate.needs.is_empty() {
        return Some(Verdict::Nothing);
    }
    let mut ready = Micros(0);
    for &key in &candidate.needs {
        let state = &p.keys[key as usize];
        if state.copies > 0 {
            return None;
        }
        // What was promised stands while it is expected in time; what is to be promised needs its margin.
        let margin = if candidate.committed || p.policy != Policy::Value {
            0
        } else {
            state.margin(p.tuning.margin_sigmas)
        };
        ready = ready.max(state.ready_at.saturating_add(Micros(margin)));
    }
    Some(Verdict::Placed(if ready <= p.deadlines[0] {
        Pass::This
    } else if ready <= p.deadlines[1] {
        Pass::Next
    } else {
        Pass::Long
    }))
}

/// A plan in the making.
#[derive(Debug)]
struct Planner<'p> {
    p: &'p Problem,
    index: &'p Index,
    board: Board,
    /// Per model: least mean time of a request.
    mean: Vec<u64>,
    /// Per shape: the time that its gangs have left.
    times: Vec<Time>,
    verdicts: Vec<Verdict>,
    /// Per gang: its verdict in the making.
    said: Vec<Said>,
    /// See [`Plan::told`].
    told: Vec<Option<Said>>,
    /// Per gang, as a set: it is placed.
    has_place: Vec<u64>,
    /// Gangs that were given a verdict, some of them more than once.
    decided: Vec<u32>,
    /// Ranks of all gangs, under a policy that is there to be compared with.
    ranks: Vec<u64>,
    /// See [`Scratch`].
    scratch: Scratch,
    /// Over a cap, in the order in which they were met.
    kept_back: Vec<Item>,
    /// Those who ask for nothing that is not under way or planned for others, some of it too late for this block.
    late: Vec<Item>,
    /// Per model: the least density that got a place in open competition.
    clearing: Vec<u64>,
    /// Per model: time that all candidates ask for.
    wanted: Vec<u64>,
    /// Some model may be long.
    any_long: bool,
    demand: u64,
    capacity: u64,
    /// Microseconds that the shards have in a whole slot.
    per_slot: u64,
    /// See [`Plan::bar`].
    bar: u64,
}

/// What a plan needs while it is made: its memory stays for the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Scratch {
    /// What senders have of this plan.
    purse: Purse,
    /// Of the order of those that compete.
    found: order::Found,
    merged: merge::Memory,
}

/// Whether caps bind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caps {
    Bind,
    Lifted,
}

impl<'p> Planner<'p> {
    /// Of `old` the memory is used, and the verdicts, of which none is said yet.
    fn new(p: &'p Problem, index: &'p Index, old: Plan, scratch: Scratch) -> Self {
        let baseline = p.policy != Policy::Value;
        let margin = if baseline { Margin::Off } else { Margin::On };
        let mut board = Board::new(p, margin, old.board);
        let models = 0..p.models.len() as u32;
        let mean: Vec<u64> = models.clone().map(|m| board.mean(p, m)).collect();
        let price: Vec<u64> = models
            .clone()
            .map(|m| {
                let hosts = board.hosts(m).iter();
                let least = hosts.map(|&s| p.shards[s as usize].price).min();
                if baseline {
                    PRICE_ONE
                } else {
                    least.unwrap_or(PRICE_ONE).clamp(PRICE_MIN, PRICE_MAX)
                }
            })
            .collect();
        let capacity = p
            .shards
            .iter()
            .filter(|s| s.live)
            .map(|s| p.deadlines[0].saturating_sub(s.free_at.max(p.now)).0)
            .sum();
        let (mut times, mut copies_most) = (old.times, 1);
        times.clear();
        for shape in &index.shapes {
            let (mut plain, mut priced) = (0u64, 0u128);
            for &(model, copies) in &shape.pairs {
                let time = mean[model as usize].saturating_mul(u64::from(copies));
                plain = plain.saturating_add(time);
                priced += u128::from(time) * u128::from(price[model as usize]);
                copies_most = copies_most.max(copies);
            }
            let priced = u64::try_from(priced / u128::from(PRICE_ONE)).unwrap_or(u64::MAX);
            times.push(Time { plain, priced });
        }
        board.allow_quorum(copies_most);
        let asked = mean.iter().zip(&index.asked);
        let wanted: Vec<u64> = asked.map(|(&mean, &n)| mean.saturating_mul(n)).collect();
        Self {
            p,
            index,
            mean,
            times,
            verdicts: old.verdicts,
            said: old.said,
            told: old.told,
            has_place: vec![0; p.gangs.len().div_ceil(64)],
            decided: old.decided,
            ranks: Vec::new(),
            scratch,
            kept_back: Vec::new(),
            late: Vec::new(),
            clearing: vec![u64::MAX; p.models.len()],
            demand: wanted.iter().fold(0, |sum, &time| sum.saturating_add(time)),
            wanted,
            any_long: models.into_iter().any(|m| board.may_be_long(m)),
            capacity,
            per_slot: p.shards.iter().filter(|s| s.live).count() as u64 * p.slot(),
            bar: 0,
            board,
        }
    }

    /// The time that a gang has left.
    fn time(&self, gang: u32) -> Time {
        match self.index.shape(gang) {
            NONE => Time::default(),
            shape => self.times[shape as usize],
        }
    }

    fn say(&mut self, gang: u32, said: Said) {
        let place = &mut self.said[gang as usize];
        if *place != said {
            *place = said;
            self.decided.push(gang);
            let (set, bit) = (&mut self.has_place[gang as usize / 64], 1 << (gang % 64));
            match said {
                Said::Placed(_) => *set |= bit,
                _ => *set &= !bit,
            }
        }
    }

    /// The plan. Besides those that it decided, `changed` are gangs whose verdict may be another than before.
    fn finish(mut self, changed: impl Iterator<Item = u32>) -> (Plan, Scratch) {
        let p = self.p;
        for gang in changed.chain(self.decided.iter().copied()) {
            let (said, told) = (self.said[gang as usize], &mut self.told[gang as usize]);
            if *told != Some(said) {
                *told = Some(said);
                self.verdicts[gang as usize] = said.into();
            }
        }
        let placed: u32 = self.has_place.iter().map(|set| set.count_ones()).sum();
        let under_way = self.index.under_way.iter();
        let under_way = under_way.filter(|&&gang| self.is_placed(gang)).count() as u32;
        let prices = self.next_prices();
        let ranks = match p.policy {
            Policy::Value => Vec::new(),
            _ => {
                let plain = (0..p.gangs.len() as u32).map(|gang| self.time(gang).plain);
                self.ranks.iter().copied().zip(plain).collect()
            }
        };
        let mut plan = Plan {
            queues: vec![VecDeque::new(); p.shards.len()],
            verdicts: self.verdicts,
            said: self.said,
            told: self.told,
            decided: self.decided,
            ranks,
            times: self.times,
            outbid: Outbid::new(p, &self.board, &self.clearing),
            inserted: BTreeMap::new(),
            wanted: self.wanted,
            clearing: self.clearing,
            prices,
            placed,
            deferred: self.index.waiting - (placed - under_way),
            bar: self.bar,
            demand: self.demand,
            capacity: self.capacity,
            board: self.board,
        };
        for batch in 0..plan.board.batches.len() as u32 {
            plan.queues[plan.board.batches[batch as usize].shard as usize].push_back(batch);
        }
        for queue in &mut plan.queues {
            let batches = &plan.board.batches;
            let queue = queue.make_contiguous();
            queue.sort_by_cached_key(|&b| batches[b as usize].service_order(p));
        }
        (plan, self.scratch)
    }

    /// A shard's price rises while more is asked of it than it can do in two slots, and falls while less is.
    fn next_prices(&self) -> Vec<u64> {
        let p = self.p;
        let mut asked = vec![0u64; p.shards.len()];
        for (m, &wanted) in self.wanted.iter().enumerate() {
            let hosts = self.board.hosts(m as u32);
            for &s in hosts {
                let share = wanted / hosts.len() as u64;
                asked[s as usize] = asked[s as usize].saturating_add(share);
            }
        }
        let capacity = 2 * p.slot();
        let price = |(lane, asked): (&super::model::Lane, u64)| {
            let step = lane.price / PRICE_STEP;
            let asked = asked.min(2 * capacity);
            let up = step as u128 * u128::from(asked) / u128::from(capacity);
            let up = u64::try_from(up).unwrap_or(u64::MAX);
            (lane.price - step)
                .saturating_add(up)
                .clamp(PRICE_MIN, PRICE_MAX)
        };
        p.shards.iter().zip(asked).map(price).collect()
    }
}

#[cfg(test)]
mod tests;
