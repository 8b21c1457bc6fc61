//! From a problem to a plan: one pure function, and its incremental form for arrivals between two full plans.
//!
//! ```text
//!             committed | aged long work | tickets due | started | others by rank | over a cap | calls
//!  This block:    1            2               3            4            5             6          7
//!  Next block:    again, what found no place; last of all, work that is longer than a slot
//! ```

mod board;
mod compete;
mod insert;
mod order;
mod outbid;

pub(crate) use board::Board;
use board::{Horizon, Margin, Miss, Room, Urgency};
pub use insert::insert;
pub(crate) use order::{DENSITY_BITS, density, fixed};
use order::{Item, Order};
use outbid::Outbid;

use super::Policy;
use super::limits::{
    CUT_PERCENT, FAILURES_MAX, LONG_AGE_BLOCKS, PRICE_MAX, PRICE_MIN, PRICE_ONE, PRICE_STEP,
    TICKET_PERCENT, TICKET_SLACK,
};
use super::model::{Candidate, NONE, Pass, Plan, Problem, Verdict};
use crate::ids::Micros;
use crate::tx::Reason;
use std::collections::VecDeque;

/// Plans everything anew. Equal problems give equal plans, in every byte.
#[must_use]
pub fn plan(problem: &Problem) -> Plan {
    let mut planner = Planner::new(problem);
    planner.run();
    planner.finish()
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
            state.margin()
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

/// A model's bit in a set of kinds.
const fn kind(model: u32) -> u64 {
    1 << (model % u64::BITS)
}

/// What says in which part of the order a gang stands.
#[derive(Clone, Copy)]
struct Traits {
    call: bool,
    committed: bool,
    due: bool,
    started: bool,
}

impl Traits {
    const fn of(candidate: &Candidate) -> Self {
        Self {
            call: candidate.call,
            committed: candidate.committed,
            due: candidate.due.is_some(),
            started: candidate.started,
        }
    }
}

/// A plan in the making.
struct Planner<'p> {
    p: &'p Problem,
    board: Board,
    /// Per model: least mean time of a request, and least shadow price, over its shards.
    mean: Vec<u64>,
    price: Vec<u64>,
    /// Per gang: time left, plain and priced; rank; first gang of its lane; the one before it.
    plain: Vec<u64>,
    priced: Vec<u64>,
    rank: Vec<u64>,
    heads: Vec<u32>,
    before: Vec<u32>,
    verdicts: Vec<Verdict>,
    /// Per sender: time given for this block, and placed in this plan.
    spent: Vec<u64>,
    /// Per sender: inference units placed in this plan.
    exposed: Vec<u64>,
    uncovered: u64,
    /// Over a cap, in the order in which they were met.
    kept_back: Vec<Item>,
    /// Per model: the least density that got a place in open competition.
    clearing: Vec<u64>,
    /// Per model: time that all candidates ask for.
    wanted: Vec<u64>,
    /// Per gang: models of which it has something left to be started, and all that it needs, one bit each; models beyond
    /// the 64th share bits. What is not in here need not be looked up.
    kinds: Vec<(u64, u64)>,
    /// Models that may be long.
    long_kinds: u64,
    /// The most copies that a key is to be started in.
    copies_most: u32,
    demand: u64,
    capacity: u64,
    /// Microseconds that the shards have in a whole slot.
    per_slot: u64,
    /// See [`Plan::bar`].
    bar: u64,
}

/// Whether caps bind.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caps {
    Bind,
    Lifted,
}

impl<'p> Planner<'p> {
    fn new(p: &'p Problem) -> Self {
        let baseline = p.policy != Policy::Value;
        let margin = if baseline { Margin::Off } else { Margin::On };
        let board = Board::new(p, margin);
        let models = p.models.len();
        let mean = (0..models as u32).map(|m| board.mean(p, m)).collect();
        let price = (0..models as u32)
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
        let gangs = p.gangs.len();
        let long = (0..models as u32).filter(|&m| board.may_be_long(m));
        let long_kinds = long.fold(0, |set, m| set | kind(m));
        Self {
            p,
            board,
            mean,
            price,
            plain: vec![0; gangs],
            priced: vec![0; gangs],
            rank: vec![0; gangs],
            heads: (0..gangs as u32).collect(),
            before: vec![NONE; gangs],
            verdicts: vec![Verdict::Nothing; gangs],
            spent: (0..p.lanes.len())
                .map(|s| p.used.get(s).copied().unwrap_or(0))
                .collect(),
            exposed: vec![0; p.lanes.len()],
            uncovered: p.used_uncovered,
            kept_back: Vec::new(),
            clearing: vec![u64::MAX; models],
            wanted: vec![0; models],
            kinds: vec![(0, 0); gangs],
            long_kinds,
            copies_most: 1,
            demand: 0,
            capacity,
            per_slot: p.shards.iter().filter(|s| s.live).count() as u64 * p.slot(),
            bar: 0,
        }
    }

    fn run(&mut self) {
        let p = self.p;
        let (mut bound, mut started, mut due, mut aged, mut others, mut calls) = (
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
            Vec::new(),
        );
        let mut candidates = Vec::with_capacity(p.gangs.len());
        for gang in 0..p.gangs.len() as u32 {
            if let Some(verdict) = under_way(p, gang) {
                self.verdicts[gang as usize] = verdict;
                continue;
            }
            let priced = self.look_at(gang);
            self.rank[gang as usize] = self.rank_of(gang, priced);
            self.verdicts[gang as usize] = Verdict::Deferred(Reason::Outbid(0));
            candidates.push((gang, Traits::of(&p.gangs[gang as usize])));
        }
        self.board.allow_quorum(self.copies_most);
        self.chain();
        // Most gangs are not looked at again: one is three cache lines, and there are many.
        for (gang, traits) in candidates {
            let item = Item {
                rank: self.rank[gang as usize],
                gang,
                key: NONE,
            };
            let fair = p.policy == Policy::Value;
            if traits.call {
                calls.push(item);
            } else if fair && traits.committed {
                bound.push(item);
                // What became longer than a slot since the promise fits in no pass, and would wait for ever.
                if self.is_long(gang) {
                    others.push(item);
                }
            } else if fair && self.is_long(gang) {
                if p.gangs[gang as usize].arrival.0 + LONG_AGE_BLOCKS <= p.height.0 {
                    aged.push(item);
                }
                others.push(item);
            } else if p.policy == Policy::Density {
                let candidate = &p.gangs[gang as usize];
                others.extend(candidate.needs.iter().filter_map(|&key| {
                    let state = &p.keys[key as usize];
                    let time = self.mean[state.model as usize] * u64::from(state.copies);
                    let rank = order::density(candidate.value, time);
                    (state.copies > 0).then_some(Item { rank, gang, key })
                }));
            } else {
                if fair && traits.due {
                    due.push(item);
                }
                if fair && traits.started {
                    started.push(item);
                }
                others.push(item);
            }
        }
        for list in [&mut bound, &mut started, &mut aged, &mut calls] {
            list.sort_unstable_by(|a, b| order::compare(p, &self.heads, a, b));
        }
        if p.policy == Policy::Queue {
            return self.queue(others);
        }
        let mut others = Order::new(others);
        // What was promised is not given up for the sake of a margin: nobody else comes before it.
        let margin = self.board.set_margin(Margin::Off);
        self.all(&bound, Pass::This, true);
        self.board.set_margin(margin);
        for item in &aged {
            self.place_long(item.gang, Pass::Aged);
        }
        self.tickets(due);
        // What began before is worth more than its value: without the rest it was computed in vain.
        let [this, next] = self.cuts(&mut others, &bound);
        self.all(&started, Pass::This, false);
        self.compete(&mut others, Pass::This, 0..this);
        self.all(&bound, Pass::Next, true);
        self.all(&started, Pass::Next, false);
        self.compete(&mut others, Pass::Next, 0..next);
        // What is not worth its time has what the others leave; first those of them that found no room for a good batch.
        self.board.keep(Room::Used);
        self.compete(&mut others, Pass::This, 0..usize::MAX);
        self.compete(&mut others, Pass::Next, 0..usize::MAX);
        self.compete_last(Pass::This);
        self.compete_last(Pass::Next);
        self.all(&calls, Pass::Next, false);
        self.long(&mut others, &calls);
    }

    /// [`Policy::Queue`].
    fn queue(&mut self, mut items: Vec<Item>) {
        let p = self.p;
        items.sort_unstable_by(|a, b| order::compare(p, &self.heads, a, b));
        self.board.set_horizon(Horizon::Open);
        for item in items {
            self.try_place(item, Pass::This, (false, false, item.rank));
        }
    }

    fn is_long(&self, gang: u32) -> bool {
        if self.kinds[gang as usize].0 & self.long_kinds == 0 {
            return false;
        }
        let needs = &self.p.gangs[gang as usize].needs;
        needs.iter().any(|&key| self.board.is_long(self.p, key))
    }

    /// Whether more is asked for than can be done for this block.
    fn contended(&self) -> bool {
        self.p.policy == Policy::Value && self.demand > self.capacity
    }

    fn waits(&self, gang: u32) -> bool {
        matches!(self.verdicts[gang as usize], Verdict::Deferred(_))
    }

    fn all(&mut self, items: &[Item], pass: Pass, committed: bool) {
        for item in items {
            if self.waits(item.gang) {
                self.try_place(*item, pass, (committed, false, item.rank));
            }
        }
    }

    /// Serves the oldest tickets, as many as must be served in this block so that none is ever late.
    fn tickets(&mut self, mut due: Vec<Item>) {
        let p = self.p;
        let due_of = |gang: u32| p.gangs[gang as usize].due.unwrap_or(p.height);
        due.sort_unstable_by_key(|item| (due_of(item.gang), p.gangs[item.gang as usize].id));
        let live = p.shards.iter().filter(|s| s.live).count() as u64;
        let per_block = live * p.slot() * TICKET_PERCENT / 100;
        let (mut sum, mut needed) = (0u64, 0u64);
        for item in &due {
            let blocks = due_of(item.gang)
                .0
                .saturating_sub(p.height.0 + TICKET_SLACK);
            sum = sum.saturating_add(self.plain[item.gang as usize]);
            needed = needed.max(sum.saturating_sub(per_block.saturating_mul(blocks)));
        }
        let mut served = 0u64;
        for item in due {
            if served >= needed {
                break;
            }
            served = served.saturating_add(self.plain[item.gang as usize]);
            // Its sender's earlier nonces go with it: it is of no use without them.
            let mut way = vec![item.gang];
            while let Some(&first) = way.last() {
                let before = self.before[first as usize];
                if before == NONE || !self.waits(before) {
                    break;
                }
                way.push(before);
            }
            for gang in way.into_iter().rev() {
                if self.waits(gang) && !self.is_long(gang) {
                    let (rank, key) = (self.rank[gang as usize], NONE);
                    self.try_place(Item { rank, gang, key }, Pass::This, (false, true, rank));
                }
            }
        }
    }

    /// How many in the order are worth the time until each of the two blocks: where more is asked for than can be done,
    /// those that come first and fill it. A cheap one of little worth would find a gap in this block's time, and keep
    /// a dear one of the next block waiting.
    fn cuts(&mut self, order: &mut Order, bound: &[Item]) -> [usize; 2] {
        let p = self.p;
        if !self.contended() {
            return [usize::MAX; 2];
        }
        let live = p.shards.iter().filter(|s| s.live).count() as u64;
        let sum = |items: &[Item]| -> u64 {
            let times = items.iter().map(|item| self.plain[item.gang as usize]);
            times.fold(0, u64::saturating_add)
        };
        let left = self.capacity.saturating_sub(sum(bound));
        let most = [left, left + live * p.slot()].map(|time| time / 100 * CUT_PERCENT);
        let mut cuts = [0; 2];
        let (mut at, mut cost) = (0, 0u64);
        let mut asked = vec![0; p.models.len()];
        // Who will be kept back takes nobody's place.
        let charged = (self.spent.clone(), self.exposed.clone(), self.uncovered);
        while cost <= most[1] {
            let heads = &self.heads;
            let Some(item) = order.get(at, |a, b| order::compare(p, heads, a, b)) else {
                break;
            };
            at += 1;
            if !self.waits(item.gang) || self.is_long(item.gang) {
                continue;
            }
            if self.capped(item.gang, Pass::Next, Caps::Bind).is_some() {
                continue;
            }
            self.charge(item.gang);
            let (value, plain) = (
                p.gangs[item.gang as usize].value,
                self.plain[item.gang as usize],
            );
            cost = cost.saturating_add(plain);
            self.bar = order::density(value, plain);
            for &key in &p.gangs[item.gang as usize].needs {
                let state = &p.keys[key as usize];
                asked[state.model as usize] += u64::from(state.copies);
            }
            for (cut, most) in cuts.iter_mut().zip(most) {
                if cost <= most {
                    *cut = at;
                }
            }
        }
        (self.spent, self.exposed, self.uncovered) = charged;
        if cost <= most[1] {
            self.bar = 0;
        }
        self.board.keep_room(&asked);
        cuts
    }

    /// Places a gang in a pass, whole, and says whether it did.
    fn try_place(&mut self, item: Item, pass: Pass, urgency: Urgency) -> bool {
        let p = self.p;
        let gang = item.gang as usize;
        let candidate = &p.gangs[gang];
        let before = self.before[gang];
        let baseline = p.policy != Policy::Value;
        if !baseline && before != NONE && !candidate.committed {
            let ready = match self.verdicts[before as usize] {
                Verdict::Nothing => true,
                Verdict::Placed(earlier) => earlier <= pass,
                Verdict::Deferred(_) => false,
            };
            if !ready {
                self.verdicts[gang] = Verdict::Deferred(Reason::NonceDependency);
                return false;
            }
        }
        let until = candidate.deadline;
        let result = if item.key != NONE {
            let needs = [item.key];
            self.board.place(p, &needs, pass, until, urgency, item.gang)
        } else if baseline {
            self.board
                .place_partly(p, &candidate.needs, pass, until, urgency, item.gang)
        } else {
            self.board
                .place(p, &candidate.needs, pass, until, urgency, item.gang)
        };
        match result {
            Ok(()) => {
                let whole = item.key == NONE
                    || candidate
                        .needs
                        .iter()
                        .all(|&key| self.board.left(p, key) == 0);
                if whole {
                    self.verdicts[gang] = Verdict::Placed(pass);
                }
                self.charge(item.gang);
                true
            }
            Err(miss) => {
                self.verdicts[gang] = Verdict::Deferred(match miss {
                    Miss::NoShard => Reason::NoShard,
                    Miss::Full | Miss::Late => Reason::Outbid(0),
                });
                false
            }
        }
    }

    /// Work longer than a slot is placed piece by piece: its shards are few, and nothing of it is lost.
    fn place_long(&mut self, gang: u32, pass: Pass) {
        let p = self.p;
        let candidate = &p.gangs[gang as usize];
        let urgency = (false, false, self.rank[gang as usize]);
        let (needs, until) = (&candidate.needs, candidate.deadline);
        let result = self
            .board
            .place_partly(p, needs, pass, until, urgency, gang);
        self.verdicts[gang as usize] = match result {
            Ok(()) => Verdict::Placed(pass),
            Err(Miss::NoShard) => Verdict::Deferred(Reason::NoShard),
            Err(_) => Verdict::Deferred(Reason::DeadlineInfeasible),
        };
    }

    fn long(&mut self, order: &mut Order, calls: &[Item]) {
        if self.p.policy != Policy::Value {
            return;
        }
        let p = self.p;
        let (mut at, mut failures) = (0, 0);
        let any = (0..p.models.len() as u32)
            .any(|m| self.wanted[m as usize] > 0 && self.board.may_be_long(m));
        while any && failures < FAILURES_MAX {
            let heads = &self.heads;
            let Some(item) = order.get(at, |a, b| order::compare(p, heads, a, b)) else {
                break;
            };
            at += 1;
            if self.is_long(item.gang) && self.waits(item.gang) {
                self.place_long(item.gang, Pass::Long);
                failures = if self.waits(item.gang) {
                    failures + 1
                } else {
                    0
                };
            }
        }
        for item in calls {
            if self.waits(item.gang) && self.is_long(item.gang) {
                self.place_long(item.gang, Pass::Long);
            }
        }
    }

    fn finish(mut self) -> Plan {
        let p = self.p;
        let (mut placed, mut deferred) = (0, 0);
        let outbid = Outbid::new(p, &self.board, &self.clearing);
        for gang in 0..p.gangs.len() {
            match &mut self.verdicts[gang] {
                Verdict::Nothing => {}
                Verdict::Placed(_) => placed += 1,
                Verdict::Deferred(reason) => {
                    deferred += 1;
                    if *reason == Reason::Outbid(0) {
                        *reason = outbid.reason(gang, self.kinds[gang]);
                    }
                }
            }
        }
        let prices = self.next_prices();
        let mut plan = Plan {
            queues: vec![VecDeque::new(); p.shards.len()],
            verdicts: self.verdicts,
            ranks: self.rank.into_iter().zip(self.plain).collect(),
            wanted: self.wanted,
            clearing: self.clearing,
            prices,
            placed,
            deferred,
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
        plan
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
