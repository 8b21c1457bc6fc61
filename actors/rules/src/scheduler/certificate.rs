//! How far from the best possible the blocks of the last while were: value included against a bound that no schedule
//! can exceed.
//!
//! For any price `l` of a microsecond, whatever is computed when, the value that a window's blocks include is at most
//!
//! ```text
//!   D(l) = l * time of the shards + sum over candidates of max(0, value - l * least time that it still takes)
//! ```
//!
//! (weak duality of the packing problem: a gang brings no more than its value, and what its value is above the price of
//! its time). The least of `D` over all prices is the bound. **Every** price gives a valid one, so prices are tried in
//! steps of a sixteenth of an octave, and the candidates stand in a table by value per time with the same steps: an
//! event costs a table entry, a block one walk over the table, however many wait.
//!
//! What is counted is always to the bound's favour, so that it stays one:
//! - a candidate of any part of the window counts with its whole value;
//! - work that was handed out before the window began costs nothing in it;
//! - nor does what was computed for another scheduler, or was handed out by nobody that is known of here;
//! - a request that several wait for is charged to who asked first, once;
//! - a model costs its share of a full batch on its fastest shard, and nothing before batches of several sizes told how
//!   much that is;
//! - any model could be on any shard, and each shard that lived or had work at any moment of a block gave its whole
//!   time.

use super::policy::{DENSITY_BITS, density, fixed};
use crate::ids::{Height, Micros};
use alloy_primitives::B256;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, VecDeque};

/// Blocks of a window: as `scheduling` windows go, long enough that a gang's life fits in one.
pub const CERTIFICATE_BLOCKS: usize = 10;

/// Steps of the table: 16 below 16, then 16 to each of the 124 further octaves of 128 bits.
pub(super) const STEPS: usize = 16 + 124 * 16;

/// A value above this (a million ether) counts as this one, in blocks and in the bound: sums of a million must not
/// overflow.
const VALUE_MAX: u128 = 1 << 80;

/// Fraction bits that a price is cut by before it is multiplied, down where it is taken off and up where it is added.
const CUT_BITS: u32 = 16;

/// What a round of a transaction adds to what is known of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asked {
    /// Its first, or the same one changed: this is all that it still needs.
    Anew,
    /// A further one: it needs this too.
    More,
}

/// Value and time, summed up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Sum {
    value: u128,
    time: u128,
}

/// A transaction that asks for inference, or did so within the window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Candidate {
    value: u128,
    /// Microseconds that it takes at least, but for what was handed out before the window.
    time: u64,
    /// Microseconds of it that were handed out within the window.
    begun: u64,
    round: u32,
    /// The block during which it left, if it did.
    left: Option<u64>,
    /// It left into a block.
    included: bool,
}

impl Candidate {
    /// The same with other times.
    const fn of(self, time: u64, begun: u64) -> Self {
        Self {
            time,
            begun,
            ..self
        }
    }
}

/// A block's part of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Block {
    height: Height,
    included: u128,
    /// Microseconds of all shards.
    capacity: u128,
    /// Who left during it.
    left: Vec<B256>,
    /// Work that was handed out during it: whose, and microseconds.
    begun: Vec<(B256, u64)>,
}

/// Value included in a window of blocks, against the bound.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Window {
    /// The first block.
    pub first: Height,
    /// The last block.
    pub last: Height,
    /// Wei that its transactions with inference brought.
    pub included: u128,
    /// Wei that no schedule could have exceeded.
    pub bound: u128,
    /// Wei per microsecond at which the bound is least, rounded down: what a shard's time was worth.
    pub price: u128,
}

impl Window {
    /// Included over bound, in a hundred thousand; all of it where there was nothing to include.
    #[must_use]
    pub fn share(&self) -> u64 {
        if self.bound == 0 {
            return 100_000;
        }
        // Both are sums of values below 2^80: of a million, below 2^101.
        u64::try_from(self.included * 100_000 / self.bound).unwrap_or(u64::MAX)
    }
}

/// All candidates, summed up.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Books {
    /// Wei of those that take no time any more: no price is too high for them.
    free: u128,
    /// The others, by the step of their value per time.
    table: Vec<Sum>,
}

impl Default for Books {
    fn default() -> Self {
        Self {
            free: 0,
            table: vec![Sum::default(); STEPS],
        }
    }
}

impl Books {
    fn add(&mut self, known: &Candidate) {
        if known.time == 0 {
            self.free += known.value;
            return;
        }
        let sum = &mut self.table[step(known.value, known.time)];
        sum.value += known.value;
        sum.time += u128::from(known.time);
    }

    fn take(&mut self, known: &Candidate) {
        if known.time == 0 {
            self.free -= known.value;
            return;
        }
        let sum = &mut self.table[step(known.value, known.time)];
        sum.value -= known.value;
        sum.time -= u128::from(known.time);
    }
}

/// The books from which each block's window is certified.
#[derive(Clone, Debug)]
pub(crate) struct Certificate {
    candidates: BTreeMap<B256, Candidate>,
    books: Books,
    /// Closed blocks, and at the end the one that is being built.
    blocks: VecDeque<Block>,
    /// Number of the block that is being built: counts, whatever heights do.
    number: u64,
    since: Option<Micros>,
    shards_most: u64,
    last: Option<Window>,
}

impl Default for Certificate {
    fn default() -> Self {
        Self {
            candidates: BTreeMap::new(),
            books: Books::default(),
            blocks: VecDeque::from([Block::default()]),
            number: 0,
            since: None,
            shards_most: 0,
            last: None,
        }
    }
}

/// The step of a value per time.
pub(super) fn step(value: u128, time: u64) -> usize {
    let x = fixed(density(value, time));
    let bits = 128 - x.leading_zeros() as usize;
    if bits < 5 {
        x as usize
    } else {
        (bits - 4) * 16 + ((x >> (bits - 5)) & 15) as usize
    }
}

/// The least value per time of a step, with [`DENSITY_BITS`] fraction bits.
pub(super) const fn edge(step: usize) -> u128 {
    if step < 16 {
        step as u128
    } else {
        (16 + step as u128 % 16) << (step / 16 - 1)
    }
}

impl Certificate {
    /// A transaction asks for work that takes `time` microseconds at least; in which round, its number says.
    pub(crate) fn asked(&mut self, id: B256, value: u128, round: u32, time: u64) {
        let value = value.min(VALUE_MAX);
        let before = self.candidates.get(&id).copied();
        if before.is_some_and(|known| known.included) {
            // A message that was overtaken by the block.
            return;
        }
        let what = match before {
            Some(known) if known.left.is_none() && round > known.round => Asked::More,
            _ => Asked::Anew,
        };
        let time = match (what, before) {
            (Asked::More, Some(known)) => known.time.saturating_add(time),
            _ => time,
        };
        self.put(
            id,
            Candidate {
                value,
                time,
                begun: before.map_or(0, |known| known.begun),
                round,
                left: None,
                included: false,
            },
        );
    }

    /// Some of a transaction's work was handed out.
    pub(crate) fn begun(&mut self, id: B256, time: u64) {
        if time > 0
            && let Some(block) = self.blocks.back_mut()
        {
            block.begun.push((id, time));
            if let Some(known) = self.candidates.get_mut(&id) {
                known.begun = known.begun.saturating_add(time);
            }
        }
    }

    /// Some of a transaction's work was done by a shard that nobody here had given it to, or had given it up: by the
    /// word of another scheduler, before this one led or after.
    pub(crate) fn elsewhere(&mut self, id: B256, time: u64) {
        if let Some(&known) = self.candidates.get(&id) {
            let time = known.time.saturating_sub(time);
            let begun = known.begun.min(time);
            self.put(id, known.of(time, begun));
        }
    }

    /// A transaction is in a block.
    pub(crate) fn included(&mut self, id: B256) {
        let known = self.candidates.get(&id).copied();
        if let (Some(known), Some(block)) =
            (known.filter(|c| c.left.is_none()), self.blocks.back_mut())
        {
            block.included += known.value;
            // It is all computed. What of it was not handed out here took no time that is counted here.
            let time = known.time.min(known.begun);
            let included = Candidate {
                included: true,
                ..known
            };
            self.put(id, included.of(time, known.begun));
        }
        self.left(id);
    }

    /// A transaction is gone. It stays a candidate of each window that saw it.
    pub(crate) fn left(&mut self, id: B256) {
        if let Some(known) = self.candidates.get_mut(&id)
            && known.left.is_none()
            && let Some(block) = self.blocks.back_mut()
        {
            known.left = Some(self.number);
            block.left.push(id);
        }
    }

    /// So many shards live now, or have work.
    pub(crate) fn shards(&mut self, busy: u64) {
        self.shards_most = self.shards_most.max(busy);
    }

    /// The block of this height is there. What comes from now on counts for the next.
    pub(crate) fn block(&mut self, now: Micros, height: Height, busy: u64) {
        let Some(since) = self.since.replace(now) else {
            // It is not known how long this one was built: it is in no window.
            self.shards_most = busy;
            self.number += 1;
            self.blocks.push_back(Block::default());
            self.forget();
            return;
        };
        if let Some(block) = self.blocks.back_mut() {
            block.height = height;
            block.capacity =
                u128::from(now.saturating_sub(since).0) * u128::from(self.shards_most.max(busy));
        }
        self.shards_most = busy;
        self.last = self.certify();
        self.number += 1;
        self.blocks.push_back(Block::default());
        while self.blocks.len() > CERTIFICATE_BLOCKS {
            self.forget();
        }
    }

    /// The last window, once there is a block.
    pub(crate) const fn last(&self) -> Option<Window> {
        self.last
    }

    /// The window of all blocks that are kept.
    fn certify(&self) -> Option<Window> {
        let sum = |of: fn(&Block) -> u128| self.blocks.iter().map(of).sum::<u128>();
        let capacity = sum(|block| block.capacity);
        let (mut bound, mut price) = (u128::MAX, 0);
        let mut above = Sum::default();
        for (step, sum) in self.books.table.iter().enumerate().rev() {
            above.value += sum.value;
            above.time += sum.time;
            if sum.value == 0 && step > 0 {
                continue;
            }
            let edge = edge(step);
            let (down, up) = (edge >> CUT_BITS, (edge >> CUT_BITS) + 1);
            let up = if edge == 0 { 0 } else { up };
            let bits = DENSITY_BITS - CUT_BITS;
            let Some(paid) = up.checked_mul(capacity) else {
                continue;
            };
            // At the lower edge of its step nobody in it is worth less than its time costs.
            let cost = down.saturating_mul(above.time) >> bits;
            let worth = above.value.saturating_sub(cost);
            let dual = (paid >> bits) + u128::from(paid > 0) + self.books.free + worth;
            if dual < bound {
                (bound, price) = (dual, edge >> DENSITY_BITS);
            }
        }
        Some(Window {
            first: self.blocks.front()?.height,
            last: self.blocks.back()?.height,
            included: sum(|block| block.included),
            bound,
            price,
        })
    }

    /// The oldest block leaves the window: with it those who left then, and what was handed out then is done for free.
    fn forget(&mut self) {
        let Some(block) = self.blocks.pop_front() else {
            return;
        };
        let number = self.number - self.blocks.len() as u64;
        for id in block.left {
            if let Some(&known) = self.candidates.get(&id)
                && known.left == Some(number)
            {
                self.books.take(&known);
                self.candidates.remove(&id);
            }
        }
        for (id, time) in block.begun {
            if let Some(&known) = self.candidates.get(&id) {
                let begun = known.begun.saturating_sub(time);
                self.put(id, known.of(known.time.saturating_sub(time), begun));
            }
        }
    }

    /// Takes a candidate in, in the place of what it was.
    fn put(&mut self, id: B256, known: Candidate) {
        self.books.add(&known);
        if let Some(before) = self.candidates.insert(id, known) {
            self.books.take(&before);
        }
    }

    /// Whether the books are the sum of the candidates (I16).
    pub(crate) fn is_sound(&self) -> bool {
        let mut books = Books::default();
        for known in self.candidates.values() {
            books.add(known);
        }
        books == self.books
    }
}

#[cfg(test)]
mod tests;
