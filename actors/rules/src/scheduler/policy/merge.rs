//! The order of those that compete, found one by one: the best of each shape stand in a heap, and whoever follows
//! another of its sender enters it when that one has had its turn.

use super::Planner;
use super::heap::Heap;
use super::index::{Bid, Class, Facts, Index, prefix};
use super::order::{Item, Way, compare, density};
use crate::scheduler::model::NONE;
use std::cmp::{Ordering, Reverse};
use std::collections::btree_set;
use std::iter::Peekable;
use std::ops::Bound;

/// The cursor of a shape that has no second.
const ALONE: u32 = NONE - 1;

/// Who has its turn when.
#[derive(Debug)]
pub(super) struct Merged<'p> {
    heap: Heap<Entry>,
    followers: Vec<Follower>,
    /// See [`Memory`].
    shapes: Vec<(u32, u32)>,
    cursors: Vec<Cursor<'p>>,
    index: &'p Index,
}

/// What an order that is over leaves to the next one.
#[derive(Clone, Debug, Default)]
pub(super) struct Memory {
    entries: Vec<Entry>,
    followers: Vec<Follower>,
    /// Per shape: its cursor ([`NONE`] before it is needed, [`ALONE`] where it never is), and entries of it in the heap.
    shapes: Vec<(u32, u32)>,
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
#[derive(Clone, Copy, Debug)]
struct Entry {
    /// The rank, and below it what the leading part of the head's hash leaves to the greatest.
    key: u128,
    gang: u32,
    /// The gang behind it in its lane, or [`NONE`].
    next: u32,
    stand: Stand,
}

const _: () = assert!(size_of::<Entry>() == 32, "two in a line of the cache");

/// What an entry stands for.
#[derive(Clone, Copy, Debug)]
enum Stand {
    /// The best of a shape that is left.
    Best(u32),
    /// One of a shape: who shares its place there is in the heap too.
    Settled(u32),
    /// One of several of its sender: its place among the followers.
    Follower(u32),
}

/// How one that follows others of its sender came about.
#[derive(Clone, Copy, Debug)]
struct Follower {
    way: Way,
    /// The first of its sender, and who comes before it that it has to wait for, or [`NONE`].
    head: u32,
    before: u32,
}

impl<'p> Merged<'p> {
    /// Of `old` the memory is used.
    pub(super) fn new(planner: &Planner<'p>, old: Memory) -> Self {
        let index = planner.index;
        let Memory {
            mut entries,
            mut followers,
            mut shapes,
        } = old;
        entries.clear();
        followers.clear();
        shapes.clear();
        for (number, shape) in (0..).zip(&index.shapes) {
            if let Some(bid) = shape.best {
                entries.push(planner.entry(&bid, number));
            }
            let alone = shape.firsts.len() < 2;
            shapes.push((if alone { ALONE } else { NONE }, 1));
        }
        let mut merged = Self {
            heap: Heap::of(entries),
            followers,
            shapes,
            cursors: Vec::new(),
            index,
        };
        for &gang in &index.silent {
            if planner.in_order(gang) {
                let item = planner.item(gang);
                let next = planner.index.facts(gang).next;
                merged.enter(item, next, prefix(planner.p, gang), Way::START);
            } else {
                let next = planner.index.facts(gang).next;
                merged.follow(planner, (gang, next), gang, Way::START, None);
            }
        }
        merged
    }

    /// It is over.
    pub(super) fn into_memory(self) -> Memory {
        Memory {
            entries: self.heap.into_items(),
            followers: self.followers,
            shapes: self.shapes,
        }
    }

    pub(super) fn next(&mut self, planner: &Planner<'_>) -> Option<Item> {
        let entry = loop {
            let entry = self.heap.take()?;
            if !self.settle(planner, entry) {
                break self.first_of_equals(planner, entry);
            }
        };
        let item = self.item(&entry);
        let way = match entry.stand {
            Stand::Best(shape) | Stand::Settled(shape) => {
                self.refill(planner, shape);
                Way::START
            }
            Stand::Follower(place) => self.followers[place as usize].way,
        };
        if entry.next != NONE {
            let leading = Some(entry.prefix());
            self.follow(planner, (entry.gang, entry.next), item.head, way, leading);
        }
        Some(item)
    }

    fn item(&self, entry: &Entry) -> Item {
        let (head, before) = match entry.stand {
            Stand::Follower(place) => {
                let follower = &self.followers[place as usize];
                (follower.head, follower.before)
            }
            Stand::Best(_) | Stand::Settled(_) => (entry.gang, NONE),
        };
        Item {
            rank: entry.rank(),
            gang: entry.gang,
            head,
            before,
            key: NONE,
        }
    }

    /// Puts into the heap who of the same shape may come before or beside an entry, for their ranks or hashes are equal,
    /// and then the entry itself. Says whether it did.
    fn settle(&mut self, planner: &Planner<'_>, entry: Entry) -> bool {
        let Stand::Best(number) = entry.stand else {
            return false;
        };
        let mut more = Vec::new();
        let Some(cursor) = self.cursor(number) else {
            return false;
        };
        let cursor = &mut self.cursors[cursor];
        let value = cursor.value;
        while let Some(&&bid) = cursor.bids.peek()
            && bid.value.0 == value
            && bid.prefix == entry.prefix()
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
                next: NONE,
            };
            let lower = match cursor.bids.peek() {
                Some(bid) if bid.value.0 != value => Some(**bid),
                Some(_) => {
                    let range = (Bound::Excluded(beyond), Bound::Unbounded);
                    let firsts = &self.index.shapes[number as usize].firsts;
                    firsts.range(range).next().copied()
                }
                None => None,
            };
            let rank = |bid: &Bid| planner.bid_rank(bid, number);
            let same = |bid: &Bid| rank(bid) == entry.rank();
            let below = lower.map(|bid| rank(&bid));
            if below == Some(entry.rank()) {
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
        let stand = Stand::Settled(number);
        for bid in more {
            let other = planner.entry(&bid, number);
            self.heap.push(Entry { stand, ..other });
        }
        self.heap.push(Entry { stand, ..entry });
        true
    }

    /// The cursor behind a shape's first; none where that is all.
    fn cursor(&mut self, number: u32) -> Option<usize> {
        let place = &mut self.shapes[number as usize];
        if place.0 == ALONE {
            return None;
        }
        if place.0 == NONE {
            let mut bids = self.index.shapes[number as usize].firsts.iter().peekable();
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
        // Which of several equals the heap has on top it says when that is taken, not before.
        while self.heap.peek().is_some_and(|top| top.key == first.key)
            && let Some(other) = self.heap.take()
        {
            if self.settle(planner, other) {
                continue;
            }
            let before = compare(planner.p, &self.item(&other), &self.item(&first)).is_lt();
            others.push(if before {
                std::mem::replace(&mut first, other)
            } else {
                other
            });
        }
        for other in others {
            self.heap.push(other);
        }
        first
    }

    /// A gang had its turn, or never has one: who follows it from its sender has the next. `leading` is the leading part
    /// of their head's hash, where it is known.
    fn follow(
        &mut self,
        planner: &Planner<'_>,
        (gang, mut next): (u32, u32),
        head: u32,
        mut way: Way,
        leading: Option<u64>,
    ) {
        let p = planner.p;
        let step = |way: &mut Way, g: u32, facts: &Facts| match facts.shape {
            NONE => way.step(p.gangs[g as usize].value, 0),
            shape => way.step(facts.value, planner.times[shape as usize].priced),
        };
        let mut at = gang;
        step(&mut way, at, &planner.index.facts(at));
        while next != NONE {
            let before = std::mem::replace(&mut at, next);
            let facts = planner.index.facts(at);
            next = facts.next;
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
                self.enter(item, next, leading, way);
                return;
            }
            way = here;
        }
    }

    fn enter(&mut self, item: Item, next: u32, leading: u64, way: Way) {
        let Item {
            rank,
            gang,
            head,
            before,
            ..
        } = item;
        let place = self.followers.len() as u32;
        self.followers.push(Follower { way, head, before });
        self.heap.push(Entry {
            key: key(rank, leading),
            gang,
            next,
            stand: Stand::Follower(place),
        });
    }
}

impl Entry {
    const fn of(bid: &Bid, shape: u32, rank: u64) -> Self {
        Self {
            key: key(rank, bid.prefix),
            gang: bid.gang,
            next: bid.next,
            stand: Stand::Best(shape),
        }
    }

    const fn rank(&self) -> u64 {
        (self.key >> 64) as u64
    }

    /// The leading part of its head's hash.
    const fn prefix(&self) -> u64 {
        !(self.key as u64)
    }
}

const fn key(rank: u64, prefix: u64) -> u128 {
    (rank as u128) << 64 | !prefix as u128
}

impl PartialEq for Entry {
    fn eq(&self, other: &Self) -> bool {
        self.key == other.key
    }
}

impl Eq for Entry {}

impl PartialOrd for Entry {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }

    fn lt(&self, other: &Self) -> bool {
        self.key < other.key
    }

    fn le(&self, other: &Self) -> bool {
        self.key <= other.key
    }
}

impl Ord for Entry {
    fn cmp(&self, other: &Self) -> Ordering {
        self.key.cmp(&other.key)
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
