//! The order of those that compete, found one by one: the best of each shape stand in a heap, and whoever follows
//! another of its sender enters it when that one has had its turn.

use super::Planner;
use super::index::{Bid, Class, Facts, prefix};
use super::order::{Item, Turn, Way, compare, density};
use crate::scheduler::model::NONE;
use std::cmp::Reverse;
use std::collections::btree_set;
use std::collections::{BTreeSet, BinaryHeap};
use std::iter::Peekable;
use std::ops::Bound;

/// Turns that are found at a time: what is asked of each is read in one go, so that the waits for memory overlap.
const AHEAD: usize = 64;

/// Who has its turn when.
#[derive(Debug)]
pub(super) struct Merged<'p> {
    found: Vec<Turn>,
    heap: BinaryHeap<Entry>,
    ways: Vec<Way>,
    /// Per shape: its cursor, and entries of it in the heap.
    shapes: Vec<(u32, u32)>,
    cursors: Vec<Cursor<'p>>,
    firsts: Vec<&'p BTreeSet<Bid>>,
}

/// How far the bids of a shape are looked through.
#[derive(Debug)]
struct Cursor<'p> {
    bids: Peekable<btree_set::Iter<'p, Bid>>,
    /// Up to here no other value has the same rank.
    told_apart: Option<u128>,
    /// The value of the bid that came last.
    value: u128,
    /// The rank of the bid that comes next, where it was looked at.
    rank: Option<u64>,
}

/// Sorts by rank and the leading part of the head's hash; ties beyond that are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Entry {
    rank: u64,
    prefix: Reverse<u64>,
    gang: u32,
    head: u32,
    before: u32,
    /// [`NONE`], or where it is one of several of its sender, how it came about.
    way: u32,
    /// The shape that it stands for, or [`NONE`].
    shape: u32,
    /// Others of its sender follow it.
    followed: bool,
    /// Who shares its place in its shape is in the heap too.
    settled: bool,
}

impl<'p> Merged<'p> {
    pub(super) fn new(planner: &Planner<'p>) -> Self {
        let index = planner.index;
        let mut entries = Vec::with_capacity(index.shapes.len());
        for (number, shape) in (0..).zip(&index.shapes) {
            if let Some(bid) = shape.best {
                entries.push(planner.entry(&bid, number));
            }
        }
        let mut merged = Self {
            found: Vec::new(),
            heap: BinaryHeap::from(entries),
            ways: Vec::new(),
            shapes: vec![(NONE, 1); index.shapes.len()],
            cursors: Vec::new(),
            firsts: index.shapes.iter().map(|shape| &shape.firsts).collect(),
        };
        for &gang in &index.silent {
            if planner.in_order(gang) {
                let item = planner.item(gang);
                merged.enter(item, prefix(planner.p, gang), Way::START);
            } else {
                merged.follow(planner, gang, gang, Way::START, None);
            }
        }
        merged
    }

    pub(super) fn get(&mut self, at: usize, planner: &mut Planner<'_>) -> Option<Turn> {
        while self.found.len() <= at {
            let mut ahead = Vec::with_capacity(AHEAD);
            while ahead.len() < AHEAD
                && let Some(item) = self.next(planner)
            {
                ahead.push(item);
            }
            if ahead.is_empty() {
                return None;
            }
            self.found
                .extend(ahead.iter().map(|item| planner.turn(*item)));
        }
        self.found.get(at).copied()
    }

    fn next(&mut self, planner: &Planner<'_>) -> Option<Item> {
        let entry = loop {
            let entry = self.heap.pop()?;
            if entry.settled || !self.settle(planner, entry) {
                break self.first_of_equals(planner, entry);
            }
        };
        if entry.shape != NONE {
            self.refill(planner, entry.shape);
        }
        if entry.followed {
            let way = self.ways.get(entry.way as usize);
            let way = way.copied().unwrap_or(Way::START);
            self.follow(planner, entry.gang, entry.head, way, Some(entry.prefix.0));
        }
        Some(entry.item())
    }

    /// Puts into the heap who of the same shape may come before or beside an entry, for their ranks or hashes are equal,
    /// and then the entry itself. Says whether it did.
    fn settle(&mut self, planner: &Planner<'_>, entry: Entry) -> bool {
        let (number, mut more) = (entry.shape, Vec::new());
        let Some(cursor) = self.cursor(number) else {
            return false;
        };
        let cursor = &mut self.cursors[cursor];
        let value = cursor.value;
        while let Some(&&bid) = cursor.bids.peek()
            && bid.value.0 == value
            && bid.prefix == entry.prefix.0
        {
            more.push(bid);
            cursor.bids.next();
        }
        if cursor.told_apart != Some(value) {
            cursor.told_apart = Some(value);
            let beyond = Bid {
                value: Reverse(value),
                prefix: u64::MAX,
                gang: NONE,
                followed: true,
            };
            let lower = match cursor.bids.peek() {
                Some(bid) if bid.value.0 != value => Some(**bid),
                Some(_) => {
                    let range = (Bound::Excluded(beyond), Bound::Unbounded);
                    self.firsts[number as usize].range(range).next().copied()
                }
                None => None,
            };
            let rank = |bid: &Bid| planner.bid_rank(bid, number);
            let same = |bid: &Bid| rank(bid) == entry.rank;
            let below = lower.map(|bid| rank(&bid));
            if below == Some(entry.rank) {
                // Values that differ by less than a rank tells: seldom, and all of them stand by their hashes.
                while let Some(bid) = cursor.bids.next_if(|bid| same(bid)) {
                    more.push(*bid);
                }
            } else if cursor.bids.peek().copied() == lower.as_ref() {
                cursor.rank = below;
            }
        }
        if more.is_empty() {
            return false;
        }
        self.shapes[number as usize].1 += more.len() as u32;
        for bid in more {
            let other = planner.entry(&bid, number);
            self.heap.push(Entry {
                settled: true,
                ..other
            });
        }
        self.heap.push(Entry {
            settled: true,
            ..entry
        });
        true
    }

    /// The cursor behind a shape's first; none where that is all.
    fn cursor(&mut self, number: u32) -> Option<usize> {
        let place = &mut self.shapes[number as usize];
        if place.0 == NONE {
            let firsts = self.firsts[number as usize];
            if firsts.len() < 2 {
                return None;
            }
            let mut bids = firsts.iter().peekable();
            let value = bids.next()?.value.0;
            place.0 = self.cursors.len() as u32;
            self.cursors.push(Cursor {
                bids,
                told_apart: None,
                value,
                rank: None,
            });
        }
        Some(place.0 as usize)
    }

    /// An entry of the shape left the heap: where it was the last one, the next takes its place.
    fn refill(&mut self, planner: &Planner<'_>, number: u32) {
        let left = &mut self.shapes[number as usize].1;
        *left -= 1;
        if *left > 0 {
            return;
        }
        *left = 1;
        if let Some(cursor) = self.cursor(number)
            && let Some(bid) = self.cursors[cursor].bids.next()
        {
            let known = self.cursors[cursor].rank.take();
            self.cursors[cursor].value = bid.value.0;
            let rank = known.unwrap_or_else(|| planner.bid_rank(bid, number));
            self.heap.push(Entry::of(bid, number, rank));
        }
    }

    /// The first of an entry and all in the heap that are its equals as far as an entry tells.
    fn first_of_equals(&mut self, planner: &Planner<'_>, mut first: Entry) -> Entry {
        let mut others = Vec::new();
        while let Some(&other) = self.heap.peek()
            && (other.rank, other.prefix) == (first.rank, first.prefix)
        {
            self.heap.pop();
            if !other.settled && self.settle(planner, other) {
                continue;
            }
            let before = compare(planner.p, &other.item(), &first.item()).is_lt();
            others.push(if before {
                std::mem::replace(&mut first, other)
            } else {
                other
            });
        }
        self.heap.extend(others);
        first
    }

    /// A gang had its turn, or never has one: who follows it from its sender has the next. `leading` is the leading part
    /// of their head's hash, where it is known.
    fn follow(
        &mut self,
        planner: &Planner<'_>,
        gang: u32,
        head: u32,
        mut way: Way,
        leading: Option<u64>,
    ) {
        let p = planner.p;
        let step = |way: &mut Way, g: u32, facts: &Facts| match facts.shape {
            NONE => way.step(p.gangs[g as usize].value, 0),
            shape => way.step(facts.value, planner.times[shape as usize].priced),
        };
        let (mut at, mut facts) = (gang, planner.index.facts(gang));
        step(&mut way, at, &facts);
        while facts.next != NONE {
            let before = std::mem::replace(&mut at, facts.next);
            facts = planner.index.facts(at);
            let mut here = way;
            step(&mut here, at, &facts);
            if planner.in_order(at) {
                let item = Item {
                    rank: here.least,
                    gang: at,
                    head,
                    before: match facts.class {
                        Class::Bound => NONE,
                        _ => before,
                    },
                    key: NONE,
                };
                let leading = leading.unwrap_or_else(|| prefix(p, head));
                self.enter(item, leading, way);
                return;
            }
            way = here;
        }
    }

    fn enter(&mut self, item: Item, leading: u64, way: Way) {
        self.ways.push(way);
        self.heap.push(Entry {
            rank: item.rank,
            prefix: Reverse(leading),
            gang: item.gang,
            head: item.head,
            before: item.before,
            way: self.ways.len() as u32 - 1,
            shape: NONE,
            followed: true,
            settled: true,
        });
    }
}

impl Entry {
    const fn of(bid: &Bid, shape: u32, rank: u64) -> Self {
        Self {
            rank,
            prefix: Reverse(bid.prefix),
            gang: bid.gang,
            head: bid.gang,
            before: NONE,
            way: NONE,
            shape,
            followed: bid.followed,
            settled: false,
        }
    }

    const fn item(&self) -> Item {
        Item {
            rank: self.rank,
            gang: self.gang,
            head: self.head,
            before: self.before,
            key: NONE,
        }
    }
}

impl Planner<'_> {
    fn entry(&self, bid: &Bid, shape: u32) -> Entry {
        Entry::of(bid, shape, self.bid_rank(bid, shape))
    }

    fn bid_rank(&self, bid: &Bid, shape: u32) -> u64 {
        density(bid.value.0, self.times[shape as usize].priced)
    }

    /// Whether a gang competes: what was promised does not, unless it became longer than a slot, fits in no pass and
    /// would wait for ever.
    pub(super) fn in_order(&self, gang: u32) -> bool {
        match self.index.class(gang) {
            Class::First | Class::Next => true,
            Class::Bound => self.is_long(gang),
            Class::Empty | Class::UnderWay | Class::Call => false,
        }
    }
}
