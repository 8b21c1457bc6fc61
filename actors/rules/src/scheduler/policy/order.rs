//! In which order gangs are tried, sorted only as far as the capacity reaches.

use super::Planner;
use crate::scheduler::Policy;
use crate::scheduler::limits::{PRICE_ONE, TICKET_BLOCKS};
use crate::scheduler::model::{NONE, Problem};
use std::cmp::Ordering;

/// How many items are sorted at first: about what a slot of 32 shards takes.
const CHUNK: usize = 4_096;

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
    pub(crate) key: u32,
}

/// Items by descending rank, ties by hash. Sorted lazily: of 100,000 pending, some thousands have a chance.
#[derive(Clone, Debug, Default)]
pub(crate) struct Order {
    items: Vec<Item>,
    sorted: usize,
}

impl Order {
    pub(crate) const fn new(items: Vec<Item>) -> Self {
        Self { items, sorted: 0 }
    }

    pub(crate) fn get(
        &mut self,
        at: usize,
        compare: impl Fn(&Item, &Item) -> Ordering,
    ) -> Option<Item> {
        if at >= self.sorted && at < self.items.len() {
            let rest = &mut self.items[self.sorted..];
            let chunk = CHUNK.max(self.sorted);
            let count = if chunk < rest.len() {
                rest.select_nth_unstable_by(chunk, &compare);
                chunk
            } else {
                rest.len()
            };
            rest[..count].sort_unstable_by(&compare);
            self.sorted += count;
        }
        self.items.get(at).copied()
    }
}

/// Descending rank; gangs of one sender by nonce, others by hash.
pub(crate) fn compare(p: &Problem, heads: &[u32], a: &Item, b: &Item) -> Ordering {
    b.rank.cmp(&a.rank).then_with(|| {
        let (ga, gb) = (&p.gangs[a.gang as usize], &p.gangs[b.gang as usize]);
        let head = |item: &Item| &p.gangs[heads[item.gang as usize] as usize].id;
        head(a)
            .cmp(head(b))
            .then(ga.nonce.cmp(&gb.nonce))
            .then_with(|| ga.id.cmp(&gb.id))
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

impl Planner<'_> {
    /// Takes in what a gang has left to be started, counting every need in full, and gives its microseconds at shadow
    /// prices. One look: of 100,000 gangs each costs a few cache misses.
    pub(crate) fn look_at(&mut self, gang: u32) -> u64 {
        let (mut plain, mut priced) = (0u64, 0u128);
        let (mut open, mut all) = (0, 0);
        for &key in &self.p.gangs[gang as usize].needs {
            let state = &self.p.keys[key as usize];
            let (model, kind) = (state.model as usize, super::kind(state.model));
            all |= kind;
            if state.copies > 0 {
                open |= kind;
                let time = self.mean[model].saturating_mul(u64::from(state.copies));
                plain = plain.saturating_add(time);
                priced += u128::from(time) * u128::from(self.price[model]);
                self.wanted[model] = self.wanted[model].saturating_add(time);
                self.copies_most = self.copies_most.max(state.copies);
            }
        }
        let priced = u64::try_from(priced / u128::from(PRICE_ONE)).unwrap_or(u64::MAX);
        self.plain[gang as usize] = plain;
        self.priced[gang as usize] = priced;
        self.kinds[gang as usize] = (open, all);
        self.demand = self.demand.saturating_add(plain);
        priced
    }

    /// Ranks of gangs that share a sender: a later nonce is worth no more than the way to it.
    pub(crate) fn chain(&mut self) {
        for lane in self.p.lanes.iter().filter(|lane| lane.len() > 1) {
            let (mut value, mut cost, mut least) = (0u128, 0u64, u64::MAX);
            let mut before = NONE;
            for &gang in lane {
                let candidate = &self.p.gangs[gang as usize];
                value = value.saturating_add(candidate.value);
                cost = cost.saturating_add(self.priced[gang as usize]);
                self.heads[gang as usize] = lane[0];
                self.before[gang as usize] = before;
                before = gang;
                if matches!(self.p.policy, Policy::Value) {
                    least = least.min(density(value, cost));
                } else {
                    least = least.min(self.rank[gang as usize]);
                }
                self.rank[gang as usize] = least;
            }
        }
    }

    /// The policy's rank of a gang by itself; greater goes first.
    pub(crate) fn rank_of(&self, gang: u32, priced: u64) -> u64 {
        let candidate = &self.p.gangs[gang as usize];
        match self.p.policy {
            Policy::Value | Policy::Density => density(candidate.value, priced),
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
