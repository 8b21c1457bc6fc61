//! The passes of a plan, in their order.

use super::ahead::{self, AHEAD};
use super::board::{Ask, Horizon, Margin, Miss, Room};
use super::index::{Class, Pairs, Shape};
use super::merge::Merged;
use super::order::{self, Item, Order, Turn, place_in_lane};
use super::{Caps, Planner, Said, Scratch, under_way};
use crate::scheduler::Policy;
use crate::scheduler::limits::{CUT_PERCENT, FAILURES_MAX, LONG_AGE_BLOCKS, TICKET_SLACK};
use crate::scheduler::model::{NONE, Pass, Urgency, Verdict};
use std::collections::BTreeSet;

impl Planner<'_> {
    pub(super) fn run(&mut self) {
        let (p, index) = (self.p, self.index);
        let known: Vec<u32> = index.under_way.iter().copied().collect();
        for part in known.chunks(AHEAD) {
            ahead::read(part, |&gang| {
                let needs = p.gangs[gang as usize].needs.iter();
                needs.fold(0, |sum, &key| sum ^ p.keys[key as usize].copies)
            });
            for &gang in part {
                if let Some(Verdict::Placed(pass)) = under_way(p, gang) {
                    self.say(gang, Said::Placed(pass));
                }
            }
        }
        if p.policy != Policy::Value {
            let (others, mut calls, ranks) = self.list();
            self.ranks = ranks;
            calls.sort_unstable_by(|a, b| order::compare(p, a, b));
            if p.policy == Policy::Queue {
                return self.queue(others);
            }
            let mut others = Order::listed(others);
            return self.all_passes([&[], &[], &[], &calls], &mut others);
        }
        let items = |gangs: &BTreeSet<u32>| -> Vec<Item> {
            let gangs: Vec<u32> = gangs.iter().copied().collect();
            let parts = gangs.chunks(AHEAD);
            let parts = parts.inspect(|part| self.read_ahead(part.iter().copied()));
            parts.flatten().map(|&gang| self.item(gang)).collect()
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
        let Scratch { found, merged, .. } = &mut self.scratch;
        let (found, merged) = (std::mem::take(found), std::mem::take(merged));
        let mut others = Order::merged(Merged::new(self, merged), found);
        let [bound, aged, started, calls] = &lists;
        self.all_passes([bound, aged, started, calls], &mut others);
        (self.scratch.found, self.scratch.merged) = others.take_apart();
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

    fn all_passes(&mut self, [bound, aged, started, calls]: [&[Item]; 4], others: &mut Order<'_>) {
        let p = self.p;
        // What was promised keeps its margin where it can, and is not given up for its sake: nobody else comes before it.
        self.all(bound, Pass::This, true);
        self.board.reopen();
        let margin = self.board.set_margin(Margin::Off);
        self.all(bound, Pass::This, true);
        self.board.set_margin(margin);
        for item in aged {
            self.place_long(item, Pass::Aged);
        }
        if p.policy == Policy::Value {
            self.tickets();
        }
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
        self.ride();
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
            let turn = self.turn(item);
            self.try_place(&turn, Pass::This, Urgency::of(item.rank));
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
        self.said[gang as usize].waits()
    }

    /// Whether a gang that has something left to be started has a place: what [`Self::waits`] says, from less memory.
    pub(super) fn is_placed(&self, gang: u32) -> bool {
        self.has_place[gang as usize / 64] & 1 << (gang % 64) != 0
    }

    /// Reads what is asked of gangs that stand somewhere in their lanes.
    fn read_ahead(&self, gangs: impl Iterator<Item = u32>) {
        ahead::read(gangs, |gang| {
            let facts = self.index.facts(gang);
            let lane = self.p.lanes.get(facts.sender as usize);
            let first = lane.and_then(|lane| lane.first().copied());
            first.unwrap_or(0) ^ self.p.gangs[gang as usize].sender
        });
    }

    fn all(&mut self, items: &[Item], pass: Pass, committed: bool) {
        for item in items {
            if self.waits(item.gang) {
                let turn = self.turn(*item);
                self.try_place(
                    &turn,
                    pass,
                    Urgency {
                        due: committed && pass == Pass::This && self.is_due(item.gang),
                        committed,
                        rank: item.rank,
                    },
                );
            }
        }
    }

    /// Whether a gang's ticket is to be served in this block, however few tickets there are.
    fn is_due(&self, gang: u32) -> bool {
        let due = self.p.gangs[gang as usize].due;
        due.is_some_and(|due| due.0 <= self.p.height.0 + TICKET_SLACK)
    }

    /// Serves the oldest tickets, as many as must be served in this block so that none is ever late.
    fn tickets(&mut self) {
        let (p, index) = (self.p, self.index);
        let tickets = index.due.iter();
        let tickets = tickets.map(|(&(due, prefix, gang), &shape)| (due, prefix, gang, shape));
        let mut due: Vec<_> = tickets
            .filter(|&(_, _, gang, _)| !self.is_long(gang))
            .collect();
        // They stand so already, but for those whose hashes differ late.
        due.sort_by(|a, b| {
            let id = |gang: u32| p.gangs[gang as usize].id;
            let own = (a.0, a.1).cmp(&(b.0, b.1));
            own.then_with(|| id(a.2).cmp(&id(b.2)))
        });
        let per_block = self.per_slot * p.tuning.ticket_percent / 100;
        let (mut sum, mut needed) = (0u64, 0u64);
        for &(due, _, _, shape) in &due {
            let blocks = due.saturating_sub(p.height.0 + TICKET_SLACK);
            sum = sum.saturating_add(self.times[shape as usize].plain);
            needed = needed.max(sum.saturating_sub(per_block.saturating_mul(blocks)));
        }
        let mut served = 0u64;
        for (n, &(_, _, gang, shape)) in due.iter().enumerate() {
            if served >= needed {
                break;
            }
            if n % AHEAD == 0 {
                let next = due[n..].iter().take(AHEAD);
                self.read_ahead(next.map(|ticket| ticket.2));
            }
            served = served.saturating_add(self.times[shape as usize].plain);
            // Its sender's earlier nonces go with it: it is of no use without them.
            let alone = [gang];
            let place = match index.class(gang) {
                Class::First => None,
                _ => place_in_lane(p, gang),
            };
            let (lane, at) = place.unwrap_or((&alone, 0));
            let waits = |g: &u32| self.waits(*g);
            let from = lane[..at].iter().rposition(|g| !waits(g));
            for &gang in &lane[from.map_or(0, |n| n + 1)..=at] {
                if self.waits(gang) && !self.is_long(gang) {
                    let item = self.item(gang);
                    let turn = self.turn(item);
                    self.try_place(
                        &turn,
                        Pass::This,
                        Urgency {
                            due: true,
                            ..Urgency::of(item.rank)
                        },
                    );
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
        let before = self.scratch.purse.moment();
        while cost <= most[1] {
            let Some(gang) = order.gang(at, self) else {
                break;
            };
            at += 1;
            if self.is_placed(gang) || self.is_long(gang) {
                continue;
            }
            let turn = order.turn(at - 1);
            if self.capped(turn, Pass::Next, Caps::Bind).is_some() {
                continue;
            }
            self.charge(turn);
            let shape = turn.facts.shape as usize;
            let plain = self.times[shape].plain;
            cost = cost.saturating_add(plain);
            last = Some((turn.facts.value, plain));
            counts[shape] += 1;
            for (cut, most) in cuts.iter_mut().zip(most) {
                if cost <= most {
                    *cut = at;
                }
            }
        }
        self.scratch.purse.back_to(before);
        self.bar = match last {
            Some((value, plain)) if cost > most[1] => order::density(value, plain),
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
    pub(super) fn try_place(&mut self, turn: &Turn, pass: Pass, urgency: Urgency) -> bool {
        let p = self.p;
        let item = &turn.item;
        let gang = item.gang;
        let baseline = p.policy != Policy::Value;
        if !baseline && item.before != NONE && !self.is_ready(item.before, pass) {
            self.say(gang, Said::NonceDependency);
            return false;
        }
        let result = match turn.facts.asks() {
            Some(asks) if !baseline && !urgency.committed => {
                self.board.place(p, asks, pass, None, urgency, gang)
            }
            _ => {
                let (needs, until) = (
                    &p.gangs[gang as usize].needs,
                    p.gangs[gang as usize].deadline,
                );
                let board = &mut self.board;
                if item.key != NONE {
                    board.place_partly(p, &[item.key], pass, until, urgency, gang)
                } else if baseline {
                    board.place_partly(p, needs, pass, until, urgency, gang)
                } else {
                    let asks = Ask::all(p, needs, gang);
                    board.place(p, asks, pass, until, urgency, gang)
                }
            }
        };
        match result {
            Ok(()) => {
                let needs = || &p.gangs[gang as usize].needs;
                let whole =
                    item.key == NONE || needs().iter().all(|&key| self.board.left(p, key) == 0);
                if whole {
                    self.say(gang, Said::Placed(pass));
                }
                self.charge(turn);
                true
            }
            Err(miss) => {
                let said = match miss {
                    Miss::NoShard => Said::NoShard,
                    Miss::Full | Miss::Late => Said::Waits,
                };
                self.say(gang, said);
                let planned = |&key: &u32| self.board.left(p, key) == 0;
                if miss == Miss::Late
                    && pass == Pass::This
                    && !baseline
                    && p.gangs[gang as usize].needs.iter().all(planned)
                {
                    self.late.push(*item);
                }
                false
            }
        }
    }

    /// Whoever asks for nothing that is not under way or planned for others is in the next block, however full that is.
    fn ride(&mut self) {
        for item in std::mem::take(&mut self.late) {
            if self.waits(item.gang) {
                let turn = self.turn(item);
                self.try_place(&turn, Pass::Next, Urgency::of(item.rank));
            }
        }
    }

    /// Whether a gang is done, or is in the pass or an earlier one: then who is behind it may follow.
    fn is_ready(&self, gang: u32, pass: Pass) -> bool {
        match self.said[gang as usize] {
            Said::Nothing => true,
            Said::Placed(earlier) => earlier <= pass,
            _ => false,
        }
    }

    /// Work longer than a slot is placed piece by piece: its shards are few, and nothing of it is lost.
    fn place_long(&mut self, item: &Item, pass: Pass) {
        let p = self.p;
        let gang = item.gang;
        let candidate = &p.gangs[gang as usize];
        let urgency = Urgency::of(item.rank);
        let (needs, until) = (&candidate.needs, candidate.deadline);
        let result = self
            .board
            .place_partly(p, needs, pass, until, urgency, gang);
        let said = match result {
            Ok(()) => Said::Placed(pass),
            Err(Miss::NoShard) => Said::NoShard,
            Err(_) => Said::DeadlineInfeasible,
        };
        self.say(gang, said);
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
            let Some(gang) = order.gang(at, self) else {
                break;
            };
            at += 1;
            if self.is_long(gang) && self.waits(gang) {
                self.place_long(&order.turn(at - 1).item, Pass::Long);
                failures = if self.waits(gang) { failures + 1 } else { 0 };
            }
        }
        for item in calls {
            if self.waits(item.gang) && self.is_long(item.gang) {
                self.place_long(item, Pass::Long);
            }
        }
    }
}
