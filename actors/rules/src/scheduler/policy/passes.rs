//! The passes of a plan, in their order.

use super::board::{Horizon, Margin, Miss, Room, Urgency};
use super::index::{Class, Pairs, Shape};
use super::merge::Merged;
use super::order::{self, Item, Listed, Order, Turn, place_in_lane};
use super::{Caps, Planner, under_way};
use crate::scheduler::Policy;
use crate::scheduler::limits::{
    CUT_PERCENT, FAILURES_MAX, LONG_AGE_BLOCKS, TICKET_PERCENT, TICKET_SLACK,
};
use crate::scheduler::model::{BLANK, NONE, Pass, Verdict};
use crate::tx::Reason;
use std::collections::BTreeSet;

impl Planner<'_> {
    pub(super) fn run(&mut self) {
        let (p, index) = (self.p, self.index);
        for &gang in &index.under_way {
            if let Some(verdict) = under_way(p, gang) {
                self.say(gang, verdict);
            }
        }
        if p.policy != Policy::Value {
            let (others, mut calls, ranks) = self.list();
            self.ranks = ranks;
            calls.sort_unstable_by(|a, b| order::compare(p, a, b));
            if p.policy == Policy::Queue {
                return self.queue(others);
            }
            let mut others = Order::Listed(Listed::new(others));
            return self.all_passes([&[], &[], &[], &calls], &mut others, Vec::new());
        }
        let items = |gangs: &BTreeSet<u32>| -> Vec<Item> {
            let gangs = gangs.iter().copied();
            gangs.map(|gang| self.item(gang)).collect()
        };
        let mut lists = [
            items(&index.bound),
            self.aged(),
            items(&index.started),
            items(&index.calls),
        ];
        lists[2].retain(|item| !self.is_long(item.gang));
        for list in &mut lists {
            list.sort_unstable_by(|a, b| order::compare(p, a, b));
        }
        let mut due: Vec<u32> = index.due.iter().copied().collect();
        due.retain(|&gang| !self.is_long(gang));
        let mut others = Order::Merged(Merged::new(self));
        let [bound, aged, started, calls] = &lists;
        self.all_passes([bound, aged, started, calls], &mut others, due);
    }

    /// Work longer than a slot that waited long enough.
    fn aged(&self) -> Vec<Item> {
        let p = self.p;
        if !self.any_long {
            return Vec::new();
        }
        let may_be = |pairs: &Pairs| pairs.iter().any(|pair| self.board.may_be_long(pair.0));
        let shapes = self.index.shapes.iter().filter(|s| may_be(&s.pairs));
        let gangs = shapes.flat_map(Shape::gangs).filter(|&gang| {
            let old = p.gangs[gang as usize].arrival.0 + LONG_AGE_BLOCKS <= p.height.0;
            let class = self.index.class(gang);
            old && matches!(class, Class::First | Class::Next) && self.is_long(gang)
        });
        gangs.map(|gang| self.item(gang)).collect()
    }

    fn all_passes(
        &mut self,
        [bound, aged, started, calls]: [&[Item]; 4],
        others: &mut Order<'_>,
        due: Vec<u32>,
    ) {
        // What was promised keeps its margin where it can, and is not given up for its sake: nobody else comes before it.
        self.all(bound, Pass::This, true);
        self.board.reopen();
        let margin = self.board.set_margin(Margin::Off);
        self.all(bound, Pass::This, true);
        self.board.set_margin(margin);
        for item in aged {
            self.place_long(item, Pass::Aged);
        }
        self.tickets(due);
        // What began before is worth more than its value: without the rest it was computed in vain.
        let [this, next] = self.cuts(others, bound);
        self.all(started, Pass::This, false);
        self.compete(others, Pass::This, 0..this);
        self.all(bound, Pass::Next, true);
        self.all(started, Pass::Next, false);
        self.compete(others, Pass::Next, 0..next);
        // What is not worth its time has what the others leave; first those of them that found no room for a good batch.
        self.board.keep(Room::Used);
        self.compete(others, Pass::This, 0..usize::MAX);
        self.compete(others, Pass::Next, 0..usize::MAX);
        self.compete_last(Pass::This);
        self.compete_last(Pass::Next);
        self.all(calls, Pass::Next, false);
        self.long(others, calls);
    }

    /// [`Policy::Queue`].
    fn queue(&mut self, mut items: Vec<Item>) {
        let p = self.p;
        items.sort_unstable_by(|a, b| order::compare(p, a, b));
        self.board.set_horizon(Horizon::Open);
        for item in items {
            self.try_place(item, Pass::This, (false, false, item.rank));
        }
    }

    pub(super) fn is_long(&self, gang: u32) -> bool {
        if !self.any_long {
            return false;
        }
        let shape = self.index.shape(gang);
        if shape == NONE {
            return false;
        }
        let mut pairs = self.index.shapes[shape as usize].pairs.iter();
        let may_be = pairs.any(|&(model, copies)| copies > 0 && self.board.may_be_long(model));
        let needs = &self.p.gangs[gang as usize].needs;
        may_be && needs.iter().any(|&key| self.board.is_long(self.p, key))
    }

    /// Whether more is asked for than can be done for this block.
    pub(super) fn contended(&self) -> bool {
        self.p.policy == Policy::Value && self.demand > self.capacity
    }

    pub(super) fn waits(&self, gang: u32) -> bool {
        matches!(self.verdicts[gang as usize], Verdict::Deferred(_))
    }

    /// Whether a gang that has something left to be started has a place: what [`Self::waits`] says, from less memory.
    pub(super) fn is_placed(&self, gang: u32) -> bool {
        self.has_place[gang as usize / 64] & 1 << (gang % 64) != 0
    }

    fn all(&mut self, items: &[Item], pass: Pass, committed: bool) {
        for item in items {
            if self.waits(item.gang) {
                self.try_place(*item, pass, (committed, false, item.rank));
            }
        }
    }

    /// Serves the oldest tickets, as many as must be served in this block so that none is ever late.
    fn tickets(&mut self, mut due: Vec<u32>) {
        let p = self.p;
        let due_of = |gang: u32| p.gangs[gang as usize].due.unwrap_or(p.height);
        due.sort_unstable_by_key(|&gang| (due_of(gang), p.gangs[gang as usize].id));
        let per_block = self.per_slot * TICKET_PERCENT / 100;
        let (mut sum, mut needed) = (0u64, 0u64);
        for &gang in &due {
            let blocks = due_of(gang).0.saturating_sub(p.height.0 + TICKET_SLACK);
            sum = sum.saturating_add(self.time(gang).plain);
            needed = needed.max(sum.saturating_sub(per_block.saturating_mul(blocks)));
        }
        let mut served = 0u64;
        for gang in due {
            if served >= needed {
                break;
            }
            served = served.saturating_add(self.time(gang).plain);
            // Its sender's earlier nonces go with it: it is of no use without them.
            let alone = [gang];
            let (lane, at) = place_in_lane(p, gang).unwrap_or((&alone, 0));
            let waits = |g: &u32| self.waits(*g);
            let from = lane[..at].iter().rposition(|g| !waits(g));
            for &gang in &lane[from.map_or(0, |n| n + 1)..=at] {
                if self.waits(gang) && !self.is_long(gang) {
                    let item = self.item(gang);
                    self.try_place(item, Pass::This, (false, true, item.rank));
                }
            }
        }
    }

    /// How many in the order are worth the time until each of the two blocks: where more is asked for than can be done,
    /// those that come first and fill it. A cheap one of little worth would find a gap in this block's time, and keep
    /// a dear one of the next block waiting.
    fn cuts(&mut self, order: &mut Order<'_>, bound: &[Item]) -> [usize; 2] {
        let p = self.p;
        if !self.contended() {
            return [usize::MAX; 2];
        }
        let sum = |items: &[Item]| -> u64 {
            let times = items.iter().map(|item| self.time(item.gang).plain);
            times.fold(0, u64::saturating_add)
        };
        let left = self.capacity.saturating_sub(sum(bound));
        let most = [left, left + self.per_slot].map(|time| time / 100 * CUT_PERCENT);
        let mut cuts = [0; 2];
        let (mut at, mut cost) = (0, 0u64);
        let (mut last, mut counts) = (None, vec![0u64; self.times.len()]);
        // Who will be kept back takes nobody's place.
        let before = self.purse.moment();
        while cost <= most[1] {
            let Some(turn) = order.get(at, self) else {
                break;
            };
            at += 1;
            let (gang, shape) = (turn.item.gang, turn.facts.shape as usize);
            if self.is_placed(gang) || self.is_long(gang) {
                continue;
            }
            if self.capped(&turn, Pass::Next, Caps::Bind).is_some() {
                continue;
            }
            self.charge(&turn);
            let plain = self.times[shape].plain;
            cost = cost.saturating_add(plain);
            last = Some((gang, plain));
            counts[shape] += 1;
            for (cut, most) in cuts.iter_mut().zip(most) {
                if cost <= most {
                    *cut = at;
                }
            }
        }
        self.purse.back_to(before);
        self.bar = match last {
            Some((gang, plain)) if cost > most[1] => {
                order::density(p.gangs[gang as usize].value, plain)
            }
            _ => 0,
        };
        let mut asked = vec![0; p.models.len()];
        for (shape, count) in self.index.shapes.iter().zip(counts) {
            for &(model, copies) in &shape.pairs {
                asked[model as usize] += u64::from(copies) * count;
            }
        }
        self.board.keep_room(&asked);
        cuts
    }

    /// Places a gang in a pass, whole, and says whether it did.
    pub(super) fn try_place(&mut self, item: Item, pass: Pass, urgency: Urgency) -> bool {
        let p = self.p;
        let gang = item.gang as usize;
        let candidate = &p.gangs[gang];
        let baseline = p.policy != Policy::Value;
        // Who heads its lane has nobody before it, and its lane is not looked up.
        if !baseline
            && !candidate.committed
            && (item.head != item.gang || candidate.call)
            && let Some((lane, at)) = place_in_lane(p, item.gang)
            && at > 0
        {
            let ready = match self.verdicts[lane[at - 1] as usize] {
                Verdict::Nothing => true,
                Verdict::Placed(earlier) => earlier <= pass,
                Verdict::Deferred(_) => false,
            };
            if !ready {
                self.say(item.gang, Verdict::Deferred(Reason::NonceDependency));
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
                    self.say(item.gang, Verdict::Placed(pass));
                }
                self.charge(&self.turn(item));
                true
            }
            Err(miss) => {
                let verdict = match miss {
                    Miss::NoShard => Verdict::Deferred(Reason::NoShard),
                    Miss::Full | Miss::Late => BLANK,
                };
                self.say(item.gang, verdict);
                false
            }
        }
    }

    /// Work longer than a slot is placed piece by piece: its shards are few, and nothing of it is lost.
    fn place_long(&mut self, item: &Item, pass: Pass) {
        let p = self.p;
        let gang = item.gang;
        let candidate = &p.gangs[gang as usize];
        let urgency = (false, false, item.rank);
        let (needs, until) = (&candidate.needs, candidate.deadline);
        let result = self
            .board
            .place_partly(p, needs, pass, until, urgency, gang);
        let verdict = match result {
            Ok(()) => Verdict::Placed(pass),
            Err(Miss::NoShard) => Verdict::Deferred(Reason::NoShard),
            Err(_) => Verdict::Deferred(Reason::DeadlineInfeasible),
        };
        self.say(gang, verdict);
    }

    fn long(&mut self, order: &mut Order<'_>, calls: &[Item]) {
        if self.p.policy != Policy::Value {
            return;
        }
        let p = self.p;
        let (mut at, mut failures) = (0, 0);
        let any = (0..p.models.len() as u32)
            .any(|m| self.wanted[m as usize] > 0 && self.board.may_be_long(m));
        while any && failures < FAILURES_MAX {
            let Some(Turn { item, .. }) = order.get(at, self) else {
                break;
            };
            at += 1;
            if self.is_long(item.gang) && self.waits(item.gang) {
                self.place_long(&item, Pass::Long);
                failures = if self.waits(item.gang) {
                    failures + 1
                } else {
                    0
                };
            }
        }
        for item in calls {
            if self.waits(item.gang) && self.is_long(item.gang) {
                self.place_long(item, Pass::Long);
            }
        }
    }
}
