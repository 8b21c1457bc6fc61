//! What a plan has to know of every gang, kept from plan to plan: who changed since is looked at anew, nobody else is.
//!
//! Gangs that ask for the same numbers of requests of the same models have one **shape**, and cost the same. Within a
//! shape they stand by value. So the best of all is found among the best of each shape, whatever time costs today, and
//! of 100,000 gangs only those are looked at that have a chance.
//!
//! A gang behind another of its sender has its turn after that one, and stands in no order of its own.

use super::purse::Purse;
use crate::scheduler::model::{NONE, Problem};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A gang's place among those of its shape: the greatest value first, then the least hash, of which this has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bid {
    pub(super) value: Reverse<u128>,
    pub(super) prefix: u64,
    pub(super) gang: u32,
    /// Others of its sender follow it.
    pub(super) followed: bool,
}

/// What a gang is to a plan.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Class {
    /// Nothing: the slot is empty.
    #[default]
    Empty,
    /// All that it waits for is under way.
    UnderWay,
    /// A call.
    Call,
    /// It was promised.
    Bound,
    /// It competes: the first of its sender.
    First,
    /// It competes, behind another of its sender.
    Next,
}

/// A gang.
#[derive(Clone, Copy, Debug)]
struct Row {
    class: Class,
    bid: Bid,
}

/// What caps and cuts ask of a gang: as little as possible, side by side for all gangs, for a plan asks it of thousands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) igas: u64,
    pub(super) sender: u32,
    /// [`NONE`] for one that has nothing left to be started.
    pub(super) shape: u32,
}

/// What gangs ask for: `(model, copies to be started)` per request, in order. None to be started is a request that is
/// under way.
pub(super) type Pairs = [(u32, u32)];

/// Gangs that ask for the same.
#[derive(Clone, Debug, Default)]
pub(super) struct Shape {
    pub(super) pairs: Box<Pairs>,
    /// Firsts of their senders that compete.
    pub(super) firsts: BTreeSet<Bid>,
    /// The best of those.
    pub(super) best: Option<Bid>,
    /// All others.
    pub(super) rest: BTreeSet<u32>,
}

impl Shape {
    /// All its gangs.
    pub(super) fn gangs(&self) -> impl Iterator<Item = u32> + use<'_> {
        let firsts = self.firsts.iter().map(|bid| bid.gang);
        firsts.chain(self.rest.iter().copied())
    }
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct Index {
    rows: Vec<Row>,
    facts: Vec<Facts>,
    /// Changed since the last plan.
    stale: Vec<bool>,
    changed: Vec<u32>,
    pub(super) shapes: Vec<Shape>,
    by_pairs: BTreeMap<Box<Pairs>, u32>,
    free: Vec<u32>,
    pub(super) under_way: BTreeSet<u32>,
    pub(super) calls: BTreeSet<u32>,
    pub(super) bound: BTreeSet<u32>,
    /// Of those that compete.
    pub(super) due: BTreeSet<u32>,
    pub(super) started: BTreeSet<u32>,
    /// Firsts of their senders that don't compete: who follows them is found through them.
    pub(super) silent: BTreeSet<u32>,
    /// Per model: copies that all gangs ask for.
    pub(super) asked: Vec<u64>,
    /// Gangs that have something left to be started.
    pub(super) waiting: u32,
    pub(super) purse: Purse,
}

const EMPTY: Row = Row {
    class: Class::Empty,
    bid: Bid {
        value: Reverse(0),
        prefix: 0,
        gang: NONE,
        followed: false,
    },
};

const NO_FACTS: Facts = Facts {
    igas: 0,
    sender: 0,
    shape: NONE,
};

impl Index {
    /// For a problem of which no plan was made yet: all is new.
    #[must_use]
    pub fn of(p: &Problem) -> Self {
        let mut index = Self::default();
        (0..p.gangs.len() as u32).for_each(|gang| index.touch(gang));
        index
    }

    /// Something about a gang changed: itself, what it needs, or whether it is its sender's first, or the only one.
    pub fn touch(&mut self, gang: u32) {
        let at = gang as usize;
        if at >= self.stale.len() {
            self.stale.resize(at + 1, false);
        }
        if !std::mem::replace(&mut self.stale[at], true) {
            self.changed.push(gang);
        }
    }

    /// Looks at what changed, and gives it.
    pub(super) fn refresh(&mut self, p: &Problem) -> Vec<u32> {
        self.rows.resize(p.gangs.len(), EMPTY);
        self.facts.resize(p.gangs.len(), NO_FACTS);
        self.stale.resize(p.gangs.len(), false);
        self.asked.resize(p.models.len(), 0);
        let changed = std::mem::take(&mut self.changed);
        let mut pairs = Vec::new();
        for &gang in &changed {
            self.stale[gang as usize] = false;
            self.take_out(gang);
            self.put_in(p, gang, &mut pairs);
        }
        changed
    }

    /// What a gang is, as of the last plan.
    pub(super) fn class(&self, gang: u32) -> Class {
        self.rows[gang as usize].class
    }

    /// Its shape, as of the last plan; [`NONE`] for one that has nothing left to be started.
    pub(super) fn shape(&self, gang: u32) -> u32 {
        self.facts.get(gang as usize).map_or(NONE, |of| of.shape)
    }

    /// What is known of it, as of the last plan.
    pub(super) fn facts(&self, gang: u32) -> Facts {
        self.facts[gang as usize]
    }

    /// Whether it has something left to be started.
    pub(super) fn waits(&self, gang: u32) -> bool {
        self.shape(gang) != NONE
    }

    /// The gangs that have.
    pub(super) fn all_waiting(&self) -> impl Iterator<Item = u32> + use<'_> {
        (0..self.rows.len() as u32).filter(|&gang| self.waits(gang))
    }

    fn take_out(&mut self, gang: u32) {
        let row = std::mem::replace(&mut self.rows[gang as usize], EMPTY);
        let number = std::mem::replace(&mut self.facts[gang as usize], NO_FACTS).shape;
        for list in [
            &mut self.under_way,
            &mut self.calls,
            &mut self.bound,
            &mut self.silent,
        ] {
            // Most gangs compete, and stand in none of them.
            if !matches!(row.class, Class::First | Class::Next) {
                list.remove(&gang);
            }
        }
        if number == NONE {
            return;
        }
        self.due.remove(&gang);
        self.started.remove(&gang);
        self.waiting -= 1;
        let shape = &mut self.shapes[number as usize];
        for &(model, copies) in &shape.pairs {
            self.asked[model as usize] -= u64::from(copies);
        }
        if row.class == Class::First {
            shape.firsts.remove(&row.bid);
            if shape.best == Some(row.bid) {
                shape.best = shape.firsts.first().copied();
            }
        } else {
            shape.rest.remove(&gang);
        }
        if shape.firsts.is_empty() && shape.rest.is_empty() {
            self.by_pairs.remove(&shape.pairs);
            *shape = Shape::default();
            self.free.push(number);
        }
    }

    fn put_in(&mut self, p: &Problem, gang: u32, pairs: &mut Vec<(u32, u32)>) {
        let candidate = &p.gangs[gang as usize];
        let lane = p.lanes.get(candidate.sender as usize);
        let lane = lane.map_or(&[][..], Vec::as_slice);
        let first = lane.first() == Some(&gang);
        if !candidate.live || candidate.needs.is_empty() {
            if first {
                self.silent.insert(gang);
            }
            return;
        }
        pairs.clear();
        pairs.extend(candidate.needs.iter().map(|&key| {
            let state = &p.keys[key as usize];
            (state.model, state.copies)
        }));
        pairs.sort_unstable();
        let row = &mut self.rows[gang as usize];
        if pairs.iter().all(|pair| pair.1 == 0) {
            row.class = Class::UnderWay;
            self.under_way.insert(gang);
            if first {
                self.silent.insert(gang);
            }
            return;
        }
        row.class = match candidate {
            c if c.call => Class::Call,
            c if c.committed => Class::Bound,
            _ if first || !lane.contains(&gang) => Class::First,
            _ => Class::Next,
        };
        let number = match self.by_pairs.get(&pairs[..]) {
            Some(&shape) => shape,
            None => {
                let number = self.free.pop().unwrap_or(self.shapes.len() as u32);
                let shape = Shape {
                    pairs: pairs[..].into(),
                    ..Shape::default()
                };
                self.by_pairs.insert(shape.pairs.clone(), number);
                match self.shapes.get_mut(number as usize) {
                    Some(place) => *place = shape,
                    None => self.shapes.push(shape),
                }
                number
            }
        };
        for &(model, copies) in &pairs[..] {
            self.asked[model as usize] += u64::from(copies);
        }
        self.waiting += 1;
        self.facts[gang as usize] = Facts {
            igas: candidate.igas,
            sender: candidate.sender,
            shape: number,
        };
        let shape = &mut self.shapes[number as usize];
        if row.class == Class::First {
            row.bid = Bid {
                value: Reverse(candidate.value),
                prefix: prefix(p, gang),
                gang,
                followed: lane.len() > 1,
            };
            shape.best = Some(shape.best.map_or(row.bid, |best| best.min(row.bid)));
            shape.firsts.insert(row.bid);
        } else {
            shape.rest.insert(gang);
        }
        match row.class {
            Class::Call => {
                self.calls.insert(gang);
            }
            Class::Bound => {
                self.bound.insert(gang);
                if first {
                    self.silent.insert(gang);
                }
            }
            _ => {
                if candidate.due.is_some() {
                    self.due.insert(gang);
                }
                if candidate.started {
                    self.started.insert(gang);
                }
            }
        }
    }

    /// Whether this is what the problem says, but for what changed since the last plan.
    pub(crate) fn is_true(&self, p: &Problem) -> bool {
        let mut now = self.clone();
        now.refresh(p);
        let mut fresh = Self::of(p);
        fresh.refresh(p);
        let rows = |index: &Self| -> Vec<_> {
            let pairs = |of: &Facts| match of.shape {
                NONE => Box::default(),
                shape => index.shapes[shape as usize].pairs.clone(),
            };
            let rows = index.rows.iter().zip(&index.facts);
            rows.map(|(row, of)| (row.class, row.bid, of.sender, of.igas, pairs(of)))
                .collect()
        };
        let shapes = |index: &Self| -> BTreeMap<Box<Pairs>, _> {
            let of = |&number: &u32| {
                let shape = &index.shapes[number as usize];
                (shape.firsts.clone(), shape.best, shape.rest.clone())
            };
            let known = index.by_pairs.iter();
            known.map(|(pairs, n)| (pairs.clone(), of(n))).collect()
        };
        let lists = |index: &Self| {
            let lists = [&index.under_way, &index.calls, &index.bound];
            let more = [&index.due, &index.started, &index.silent];
            (lists.map(Clone::clone), more.map(Clone::clone))
        };
        rows(&now) == rows(&fresh)
            && shapes(&now) == shapes(&fresh)
            && lists(&now) == lists(&fresh)
            && (now.asked, now.waiting) == (fresh.asked, fresh.waiting)
    }
}

/// The leading part of a gang's hash.
pub(super) fn prefix(p: &Problem, gang: u32) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = p.gangs[gang as usize].id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
