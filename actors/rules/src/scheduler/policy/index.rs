//! What a plan has to know of every gang, kept from plan to plan: who changed since is looked at anew, nobody else is.
//!
//! Gangs that ask for the same numbers of requests of the same models have one **shape**, and cost the same. Within a
//! shape they stand by value. So the best of all is found among the best of each shape, whatever time costs today, and
//! of 100,000 gangs only those are looked at that have a chance.
//!
//! A gang behind another of its sender has its turn after that one, and stands in no order of its own.

mod look;

use super::Scratch;
use super::ahead::{self, AHEAD};
use super::board::Ask;
use crate::scheduler::model::{KeyState, NONE, Problem};
use look::{BOUND, CALLS, EMPTY, Row, SILENT, STARTED, UNDER_WAY, look};
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

/// A gang's place among those of its shape: the greatest value first, then the least hash, of which this has a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bid {
    pub(super) value: Reverse<u128>,
    pub(super) prefix: u64,
    pub(super) gang: u32,
    /// The gang behind it in its lane, or [`NONE`].
    pub(super) next: u32,
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

/// Requests that stand beside a gang's other facts: 97 of 100 gangs have no more.
pub(super) const BESIDE: usize = 4;

/// What caps, cuts and placing ask of a gang, in one line of the cache: a plan asks it of thousands, in no order that
/// memory knows.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(align(64))]
pub(super) struct Facts {
    pub(super) value: u128,
    pub(super) igas: u64,
    pub(super) sender: u32,
    /// [`NONE`] for one that has nothing left to be started.
    pub(super) shape: u32,
    /// The gang behind it in its lane, or [`NONE`].
    pub(super) next: u32,
    keys: [u32; BESIDE],
    models: [u8; BESIDE],
    /// The leading bytes of its hash: see [`super::board::Ask`].
    spread: [u8; BESIDE],
    pub(super) class: Class,
    /// How many of its requests are told here: all, or none where one of them is more than a single execution on any
    /// shard.
    count: u8,
}

const _: () = assert!(size_of::<Facts>() == 64 && size_of::<Row>() == 64);

const NO_FACTS: Facts = Facts {
    value: 0,
    igas: 0,
    sender: 0,
    shape: NONE,
    next: NONE,
    keys: [0; BESIDE],
    models: [0; BESIDE],
    spread: [0; BESIDE],
    class: Class::Empty,
    count: 0,
};

impl Facts {
    /// What it asks for, where that is told here.
    pub(super) fn asks(&self) -> Option<impl Iterator<Item = Ask> + Clone + use<>> {
        let Self {
            keys,
            models,
            spread,
            count,
            ..
        } = *self;
        let asks = (0..usize::from(count)).map(move |n| Ask {
            key: keys[n],
            spread: spread[n],
            state: KeyState::plain(models[n].into()),
            homes: 0,
        });
        (count > 0).then_some(asks)
    }
}

const _: () = assert!(BESIDE < 32, "a hash has as many bytes");

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
    /// Shapes by a digest of their pairs.
    by_pairs: BTreeSet<(u64, u32)>,
    free: Vec<u32>,
    pub(super) under_way: BTreeSet<u32>,
    pub(super) calls: BTreeSet<u32>,
    /// Those that were promised a block, and have something left to be started.
    pub(super) bound: BTreeSet<u32>,
    /// Tickets of those that compete, with their shapes: by the block with which they are due, then by the leading part
    /// of the hash.
    pub(super) due: BTreeMap<(u64, u64, u32), u32>,
    /// Of those that compete.
    pub(super) started: BTreeSet<u32>,
    /// Firsts of their senders that don't compete: who follows them is found through them.
    pub(super) silent: BTreeSet<u32>,
    /// Per model: copies that all gangs ask for.
    pub(super) asked: Vec<u64>,
    /// Gangs that have something left to be started.
    pub(super) waiting: u32,
    pub(super) scratch: Scratch,
}

impl Index {
    /// Gangs that were promised a block, and have something left to be started.
    pub(crate) fn promised(&self) -> Vec<u32> {
        self.bound.iter().copied().collect()
    }

    /// For a problem of which no plan was made yet: all is new.
    #[must_use]
    pub fn of(p: &Problem) -> Self {
        let mut index = Self::default();
        (0..p.gangs.len() as u32).for_each(|gang| index.touch(gang));
        index
    }

    /// Something about a gang changed: itself, what it needs, whether it is its sender's first, or who is behind it.
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
        for part in changed.chunks(AHEAD) {
            self.read_ahead(p, part);
            for &gang in part {
                self.stale[gang as usize] = false;
                self.renew(p, gang, &mut pairs);
            }
        }
        changed
    }

    /// Reads what the renewal of these will, in one go: then it is at hand, and the waits for memory overlap.
    fn read_ahead(&self, p: &Problem, gangs: &[u32]) {
        ahead::read(gangs, |&gang| {
            let (candidate, row) = (&p.gangs[gang as usize], &self.rows[gang as usize]);
            let lane = p.lanes.get(candidate.sender as usize);
            let first = lane.and_then(|lane| lane.first().copied());
            let needs = candidate.needs.iter();
            let copies = needs.fold(0, |sum, &key| sum ^ p.keys[key as usize].copies);
            let facts = self.facts[gang as usize].shape;
            facts ^ copies ^ first.unwrap_or(0) ^ u32::from(row.lists)
        });
    }

    /// What a gang that has something left to be started is, as of the last plan.
    pub(super) fn class(&self, gang: u32) -> Class {
        self.facts[gang as usize].class
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

    /// Looks at a gang, and moves it where it stands elsewhere now.
    fn renew(&mut self, p: &Problem, gang: u32, pairs: &mut Vec<(u32, u32)>) {
        let mut facts = NO_FACTS;
        let row = look(p, gang, pairs, &mut facts);
        let was = std::mem::replace(&mut self.rows[gang as usize], row);
        let before = self.facts[gang as usize].shape;
        let stays = before != NONE && *self.shapes[before as usize].pairs == pairs[..];
        if !stays {
            self.leave(before, gang, &was);
            facts.shape = self.join(pairs);
        } else {
            facts.shape = before;
        }
        if let Some(shape) = self.shapes.get_mut(facts.shape as usize) {
            if !stays {
                shape.seat(gang, &row);
            } else if was.firsts_bid() != row.firsts_bid() {
                shape.unseat(gang, &was);
                shape.seat(gang, &row);
            }
        }
        self.list(gang, was.lists, row.lists);
        let (old, new) = (was.due_key(gang), row.due_key(gang));
        if let Some(old) = old.filter(|_| old != new) {
            self.due.remove(&old);
        }
        if let Some(new) = new.filter(|_| old != new || before != facts.shape) {
            self.due.insert(new, facts.shape);
        }
        self.facts[gang as usize] = facts;
    }

    /// Takes a gang from its shape, and the shape away with its last gang.
    fn leave(&mut self, number: u32, gang: u32, row: &Row) {
        let Some(shape) = self.shapes.get_mut(number as usize) else {
            return;
        };
        self.waiting -= 1;
        for &(model, copies) in &shape.pairs {
            self.asked[model as usize] -= u64::from(copies);
        }
        shape.unseat(gang, row);
        if shape.firsts.is_empty() && shape.rest.is_empty() {
            self.by_pairs.remove(&(fingerprint(&shape.pairs), number));
            *shape = Shape::default();
            self.free.push(number);
        }
    }

    /// The shape for one more gang that asks for this, or [`NONE`] for one that asks for nothing.
    fn join(&mut self, pairs: &Pairs) -> u32 {
        if pairs.is_empty() {
            return NONE;
        }
        self.waiting += 1;
        for &(model, copies) in pairs {
            self.asked[model as usize] += u64::from(copies);
        }
        let print = fingerprint(pairs);
        let mut alike = self.by_pairs.range((print, 0)..=(print, NONE));
        let known = alike.find(|(_, number)| *self.shapes[*number as usize].pairs == *pairs);
        if let Some(&(_, number)) = known {
            return number;
        }
        let number = self.free.pop().unwrap_or(self.shapes.len() as u32);
        let shape = Shape {
            pairs: pairs.into(),
            ..Shape::default()
        };
        self.by_pairs.insert((print, number));
        match self.shapes.get_mut(number as usize) {
            Some(place) => *place = shape,
            None => self.shapes.push(shape),
        }
        number
    }

    /// Moves a gang from some lists to others.
    fn list(&mut self, gang: u32, was: u8, is: u8) {
        if was == is {
            return;
        }
        for (bit, list) in [
            (UNDER_WAY, &mut self.under_way),
            (CALLS, &mut self.calls),
            (BOUND, &mut self.bound),
            (STARTED, &mut self.started),
            (SILENT, &mut self.silent),
        ] {
            match (was & bit != 0, is & bit != 0) {
                (true, false) => {
                    list.remove(&gang);
                }
                (false, true) => {
                    list.insert(gang);
                }
                _ => {}
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
            rows.map(|(row, of)| {
                let facts = Facts { shape: 0, ..*of };
                (row.class, row.lists, row.bid, row.due, facts, pairs(of))
            })
            .collect()
        };
        let shapes = |index: &Self| -> BTreeMap<Box<Pairs>, _> {
            let of = |&(_, number): &(u64, u32)| {
                let shape = &index.shapes[number as usize];
                let gangs = (shape.firsts.clone(), shape.best, shape.rest.clone());
                (shape.pairs.clone(), gangs)
            };
            index.by_pairs.iter().map(of).collect()
        };
        let lists = |index: &Self| {
            let lists = [&index.under_way, &index.calls, &index.bound];
            let more = [&index.started, &index.silent];
            let pairs = |&shape: &u32| index.shapes[shape as usize].pairs.clone();
            let due: Vec<_> = index.due.iter().map(|(at, of)| (*at, pairs(of))).collect();
            (lists.map(Clone::clone), more.map(Clone::clone), due)
        };
        rows(&now) == rows(&fresh)
            && shapes(&now) == shapes(&fresh)
            && lists(&now) == lists(&fresh)
            && (now.asked, now.waiting) == (fresh.asked, fresh.waiting)
    }
}

impl Shape {
    fn seat(&mut self, gang: u32, row: &Row) {
        if let Some(bid) = row.firsts_bid() {
            self.best = Some(self.best.map_or(bid, |best| best.min(bid)));
            self.firsts.insert(bid);
        } else {
            self.rest.insert(gang);
        }
    }

    fn unseat(&mut self, gang: u32, row: &Row) {
        if let Some(bid) = row.firsts_bid() {
            self.firsts.remove(&bid);
            if self.best == Some(bid) {
                self.best = self.firsts.first().copied();
            }
        } else {
            self.rest.remove(&gang);
        }
    }
}

/// A digest of pairs; others may have the same.
fn fingerprint(pairs: &Pairs) -> u64 {
    pairs.iter().fold(0, |print: u64, &(model, copies)| {
        let mixed = (print ^ (u64::from(model) << 32 | u64::from(copies)))
            .wrapping_add(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15);
        mixed ^ mixed >> 29
    })
}

/// The leading part of a gang's hash.
pub(super) fn prefix(p: &Problem, gang: u32) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = p.gangs[gang as usize].id.0;
    u64::from_be_bytes([a, b, c, d, e, f, g, h])
}
