//! In which order gangs are tried, sorted only as far as the capacity reaches.

use super::Planner;
use super::index::{Class, Facts};
use super::merge::{Memory, Merged};
use super::standing::rank;
use crate::scheduler::Policy;
use crate::scheduler::limits::TICKET_BLOCKS;
use crate::scheduler::model::{NONE, Problem};
use std::cmp::Ordering;

/// How many items are sorted at first: about what a slot of 32 shards takes.
const CHUNK: usize = 4_096;

/// Lanes up to this length are looked through from the front: two lines of the cache.
const LANE_SHORT: usize = 32;

/// Fraction bits of a density, in wei per microsecond: small values differ still.
pub(crate) const DENSITY_BITS: u32 = 32;

/// Values above this (some 10^28 wei, more ether than there is) rank as this one: the shift must not overflow.
const VALUE_MAX: u128 = 1 << 95;

/// Value per time as a number that sorts as the exact quotient does, to 56 bits.
pub(crate) fn density(value: u128, cost: u64) -> u64 {
    let quotient = (value.min(VALUE_MAX) << DENSITY_BITS) / u128::from(cost.max(1));
    rounded(quotient)
}

/// A 128-bit number as 8 bits of magnitude and its leading 56 bits: monotone.
const fn rounded(x: u128) -> u64 {
    let bits = 128 - x.leading_zeros();
    if bits <= 56 {
        x as u64
    } else {
        ((bits as u64 - 55) << 55) | ((x >> (bits - 56)) as u64 & ((1 << 55) - 1))
    }
}

/// A density's wei per microsecond, with [`DENSITY_BITS`] fraction bits, rounded down.
pub(crate) const fn fixed(density: u64) -> u128 {
    let exponent = density >> 55;
    if exponent <= 1 {
        density as u128
    } else {
        let leading = (density & ((1 << 55) - 1)) | 1 << 55;
        (leading as u128) << (exponent - 1)
    }
}

/// The whole wei per microsecond of a density.
pub(crate) const fn price_of(density: u64) -> u128 {
    fixed(density) >> DENSITY_BITS
}

/// Something to be placed: a gang, or for [`Policy::Density`] one key of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Item {
    pub(crate) rank: u64,
    pub(crate) gang: u32,
    /// First gang of its sender.
    pub(crate) head: u32,
    /// The gang before it in its lane that it has to wait for, or [`NONE`].
    pub(crate) before: u32,
    pub(crate) key: u32,
}

impl Item {
    const NONE: Self = Self {
        rank: 0,
        gang: NONE,
        head: NONE,
        before: NONE,
        key: NONE,
    };
}

/// An item, and what caps and cuts ask of it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Turn {
    pub(super) item: Item,
    pub(super) facts: Facts,
    /// Of its sender: inference units that what it paid covers, and microseconds that it was given for this block.
    pub(super) room: u64,
    pub(super) used: u64,
    /// Its sender's place in the plan's purse.
    pub(super) place: u32,
}

/// Items by descending rank, ties by hash: only as many as are asked for are put in order.
#[derive(Debug)]
pub(super) struct Order<'p> {
    source: Source<'p>,
    found: Found,
}

/// Those that were found of an order.
#[derive(Clone, Debug, Default)]
pub(super) struct Found {
    turns: Vec<Turn>,
    /// Their gangs once more: most of what is asked of a turn again is whether it is over.
    gangs: Vec<u32>,
}

/// Where items come from.
#[derive(Debug)]
enum Source<'p> {
    /// They are all there.
    Listed(Listed),
    /// They are found in the index.
    Merged(Merged<'p>),
}

/// Turns that are found at a time: what is asked of each is read in one go, so that the waits for memory overlap.
const AHEAD: usize = 64;

impl<'p> Order<'p> {
    pub(super) fn listed(items: Vec<Item>) -> Self {
        Self {
            source: Source::Listed(Listed { items, sorted: 0 }),
            found: Found::default(),
        }
    }

    /// Of `found` the memory is used.
    pub(super) fn merged(merged: Merged<'p>, mut found: Found) -> Self {
        found.turns.clear();
        found.gangs.clear();
        Self {
            source: Source::Merged(merged),
            found,
        }
    }

    /// What was found, and the memory of where it came from.
    pub(super) fn take_apart(self) -> (Found, Memory) {
        let memory = match self.source {
            Source::Listed(_) => Memory::default(),
            Source::Merged(merged) => merged.into_memory(),
        };
        (self.found, memory)
    }

    /// Whose turn comes at a place; none where the order ends before it.
    pub(super) fn gang(&mut self, at: usize, planner: &mut Planner<'_>) -> Option<u32> {
        while self.found.gangs.len() <= at && self.find(planner) {}
        self.found.gangs.get(at).copied()
    }

    /// A turn that was asked for.
    pub(super) fn turn(&self, at: usize) -> &Turn {
        &self.found.turns[at]
    }

    /// Finds some more, and says whether there are any.
    fn find(&mut self, planner: &mut Planner<'_>) -> bool {
        let mut items = [Item::NONE; AHEAD];
        let mut count = 0;
        while count < AHEAD
            && let Some(item) = match &mut self.source {
                Source::Listed(listed) => listed.get(planner.p, self.found.gangs.len() + count),
                Source::Merged(merged) => merged.next(planner),
            }
        {
            items[count] = item;
            count += 1;
        }
        let items = &items[..count];
        let facts: Vec<Facts> = items.iter().map(|i| planner.index.facts(i.gang)).collect();
        let found = &mut self.found;
        found.gangs.extend(items.iter().map(|item| item.gang));
        let turns = items.iter().zip(facts);
        let turns = turns.map(|(&item, facts)| planner.turn_of(item, facts));
        found.turns.extend(turns);
        count > 0
    }
}

/// Items that are sorted lazily: of 100,000 pending, some thousands have a chance.
#[derive(Debug)]
struct Listed {
    items: Vec<Item>,
    sorted: usize,
}

impl Listed {
    fn get(&mut self, p: &Problem, at: usize) -> Option<Item> {
        if at >= self.sorted && at < self.items.len() {
            let rest = &mut self.items[self.sorted..];
            let chunk = CHUNK.max(self.sorted);
            let count = if chunk < rest.len() {
                rest.select_nth_unstable_by(chunk, |a, b| compare(p, a, b));
                chunk
            } else {
                rest.len()
            };
            rest[..count].sort_unstable_by(|a, b| compare(p, a, b));
            self.sorted += count;
        }
        self.items.get(at).copied()
    }
}

/// Descending rank; gangs of one sender by nonce, others by hash.
pub(super) fn compare(p: &Problem, a: &Item, b: &Item) -> Ordering {
    b.rank.cmp(&a.rank).then_with(|| {
        let gang = |item: &Item| &p.gangs[item.gang as usize];
        let head = |item: &Item| &p.gangs[item.head as usize].id;
        head(a)
            .cmp(head(b))
            .then_with(|| gang(a).nonce.cmp(&gang(b).nonce))
            .then_with(|| gang(a).id.cmp(&gang(b).id))
            .then_with(|| position(p, a).cmp(&position(p, b)))
    })
}

/// A key's place in its gang's list: its slot's number says nothing.
fn position(p: &Problem, item: &Item) -> Option<usize> {
    p.gangs[item.gang as usize]
        .needs
        .iter()
        .position(|&key| key == item.key)
}

/// A gang's place among those of its sender; none where it stands alone.
pub(super) fn place_in_lane(p: &Problem, gang: u32) -> Option<(&[u32], usize)> {
    let lane = p.lanes.get(p.gangs[gang as usize].sender as usize)?;
    if lane.len() < 2 {
        return None;
    }
    // A short lane is looked through without a look at its gangs.
    if lane.len() <= LANE_SHORT {
        let found = lane.iter().position(|&other| other == gang)?;
        return Some((lane, found));
    }
    let at = |g: u32| (p.gangs[g as usize].nonce, p.gangs[g as usize].id);
    let own = at(gang);
    let guess = lane.partition_point(|&other| at(other) < own);
    if lane.get(guess) == Some(&gang) {
        return Some((lane, guess));
    }
    let found = lane.iter().position(|&other| other == gang)?;
    Some((lane, found))
}

/// What a later nonce is worth: no more than the way to it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Way {
    value: u128,
    cost: u64,
    pub(super) least: u64,
}

impl Way {
    /// Before the first.
    pub(super) const START: Self = Self {
        value: 0,
        cost: 0,
        least: u64::MAX,
    };

    /// One further.
    pub(super) fn step(&mut self, value: u128, cost: u64) {
        self.value = self.value.saturating_add(value);
        self.cost = self.cost.saturating_add(cost);
        self.least = self.least.min(density(self.value, self.cost));
    }
}

impl Planner<'_> {
    /// A gang, with its rank under [`Policy::Value`].
    pub(super) fn item(&self, gang: u32) -> Item {
        let facts = self.index.facts(gang);
        if facts.class == Class::First {
            // Its lane has nobody before it.
            return Item {
                rank: density(facts.value, self.times[facts.shape as usize].priced),
                gang,
                head: gang,
                before: NONE,
                key: NONE,
            };
        }
        let (rank, way) = rank(self.p, gang, |g| self.time(g));
        let promised = self.p.gangs[gang as usize].committed;
        Item {
            rank,
            gang,
            head: way.first().copied().unwrap_or(gang),
            before: match way.last() {
                Some(&before) if !promised => before,
                _ => NONE,
            },
            key: NONE,
        }
    }

    pub(super) fn turn(&mut self, item: Item) -> Turn {
        self.turn_of(item, self.index.facts(item.gang))
    }

    fn turn_of(&mut self, item: Item, facts: Facts) -> Turn {
        let sender = facts.sender as usize;
        Turn {
            item,
            facts,
            room: self.p.rooms.get(sender).copied().unwrap_or(0),
            used: self.p.used.get(sender).copied().unwrap_or(0),
            place: self.scratch.purse.place(facts.sender),
        }
    }

    /// All items of a policy that is there to be compared with, and the calls apart; ranks of all gangs.
    pub(super) fn list(&self) -> (Vec<Item>, Vec<Item>, Vec<u64>) {
        let p = self.p;
        let mut ranks = vec![0; p.gangs.len()];
        let mut heads: Vec<u32> = (0..p.gangs.len() as u32).collect();
        for gang in self.index.all_waiting() {
            ranks[gang as usize] = self.rank_of(gang);
        }
        for lane in p.lanes.iter().filter(|lane| lane.len() > 1) {
            let mut least = u64::MAX;
            for &gang in lane {
                least = least.min(ranks[gang as usize]);
                ranks[gang as usize] = least;
                heads[gang as usize] = lane[0];
            }
        }
        let (mut others, mut calls) = (Vec::new(), Vec::new());
        for gang in self.index.all_waiting() {
            let candidate = &p.gangs[gang as usize];
            let (rank, head) = (ranks[gang as usize], heads[gang as usize]);
            let item = |rank, key| Item {
                rank,
                gang,
                head,
                before: NONE,
                key,
            };
            if candidate.call {
                calls.push(item(rank, NONE));
            } else if p.policy == Policy::Density {
                others.extend(candidate.needs.iter().filter_map(|&key| {
                    let state = &p.keys[key as usize];
                    let time = self.mean[state.model as usize] * u64::from(state.copies);
                    let rank = density(candidate.value, time);
                    (state.copies > 0).then_some(item(rank, key))
                }));
            } else {
                others.push(item(rank, NONE));
            }
        }
        (others, calls, ranks)
    }

    /// The rank of a gang by itself, under a policy that is there to be compared with; greater goes first.
    fn rank_of(&self, gang: u32) -> u64 {
        let candidate = &self.p.gangs[gang as usize];
        match self.p.policy {
            Policy::Value | Policy::Density => density(candidate.value, self.time(gang).priced),
            Policy::Tip | Policy::Queue => rounded(candidate.value.min(VALUE_MAX)),
            Policy::Fifo => u64::MAX - candidate.arrival.0,
            Policy::Edf => {
                // Without a deadline of its own, a gang's is as far from its arrival as a ticket's.
                let blocks = (candidate.arrival.0 + TICKET_BLOCKS).saturating_sub(self.p.height.0);
                let implied = self.p.deadlines[0].0 + blocks * self.p.slot();
                u64::MAX - candidate.deadline.map_or(implied, |d| d.0.min(implied))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn density_sorts_as_the_exact_quotient(
            a in (0u128..1 << 90, 1u64..1 << 40),
            b in (0u128..1 << 90, 1u64..1 << 40),
        ) {
            // Cross-multiplied in the high and low half, exactly.
            let wide = |v: u128, c: u64| {
                let (hi, lo) = ((v >> 64) * u128::from(c), (v & u128::from(u64::MAX)) * u128::from(c));
                (hi + (lo >> 64), lo as u64)
            };
            let exact = wide(a.0, b.1).cmp(&wide(b.0, a.1));
            let ours = density(a.0, a.1).cmp(&density(b.0, b.1));
            prop_assert!(ours == exact || ours == Ordering::Equal);
        }

        #[test]
        fn a_density_gives_its_price_back_to_one_part_in_2_to_the_50(value in 0u128..1 << 90, cost in 1u64..1 << 40) {
            let (exact, price) = (value / u128::from(cost), price_of(density(value, cost)));
            prop_assert!(price <= exact && exact - price <= (exact >> 50) + 1, "{price} for {exact}");
        }
    }
}
