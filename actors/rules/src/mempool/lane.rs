//! One sender's transactions, by nonce.

use super::{AccountView, Limits};
use crate::ids::{Micros, TxHash};
use crate::tx::PoolTx;
use alloy_primitives::{B256, U256};
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// A transaction in the pool.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub tx: PoolTx,
    /// Hash of what it does, without fees.
    pub content: B256,
    /// Order of arrival.
    pub arrival: u64,
    /// Time after which it is dropped.
    pub expires: Micros,
    /// The extractor was told of it.
    pub pending: bool,
    /// Compute was dispatched for it.
    pub dispatched: bool,
}

impl Entry {
    /// Whether `new` pays so much more that it takes this one's place.
    pub fn yields_to(&self, new: &PoolTx, content: B256, limits: &Limits) -> bool {
        let percent = if self.dispatched && content != self.content {
            limits.bump_dispatched_percent
        } else {
            limits.bump_percent
        };
        bumped(self.tx.max_fee_per_gas, new.max_fee_per_gas, percent)
            && bumped(
                self.tx.max_priority_fee_per_gas,
                new.max_priority_fee_per_gas,
                percent,
            )
    }
}

/// Whether `new` is at least `percent` above `old`. A tip of zero may stay zero.
fn bumped(old: u128, new: u128, percent: u8) -> bool {
    let least = old.saturating_add(old.div_ceil(100).saturating_mul(u128::from(percent)));
    // Exact for small fees, where hundredths are coarse.
    let exact = old
        .checked_mul(100 + u128::from(percent))
        .map(|n| n.div_ceil(100));
    new >= exact.unwrap_or(least)
}

/// What a lane's tail is worth to the pool; the least goes first when room is needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    /// Executable goes before waiting behind a gap.
    pending: bool,
    /// Least effective tip up to the tail; `None` where the base fee is not covered.
    tip: Option<u128>,
    /// Least fee up to the tail.
    fee: u128,
    /// The older stays.
    newest: Reverse<u64>,
    /// Ties.
    pub hash: TxHash,
}

impl Rank {
    /// Whether a newcomer of this rank may push out `victim`: equal pay does not.
    pub fn outbids(&self, victim: &Self) -> bool {
        (self.pending, self.tip, self.fee) > (victim.pending, victim.tip, victim.fee)
    }
}

/// One sender's transactions.
#[derive(Clone, Debug, Default)]
pub(super) struct Lane {
    pub account: AccountView,
    pub txs: BTreeMap<u64, Entry>,
    /// Nonces of those that are being written, by hash.
    pub writing: BTreeMap<TxHash, u64>,
    /// The tail's rank, as the pool's index has it.
    pub rank: Option<Rank>,
}

/// Why a transaction of a lane is not pending.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// A lower nonce is missing.
    Gap,
    /// The balance does not cover it beside the earlier ones.
    Funds,
}

impl Lane {
    /// Nonces that are pending by rule: `Ok` up to the first gap or the end of the money, then why not.
    pub fn places(&self) -> impl Iterator<Item = (u64, Result<(), Wait>)> + '_ {
        let mut next = self.account.nonce;
        let mut left = self.account.balance;
        let mut stopped = None;
        self.txs.iter().map(move |(&nonce, entry)| {
            if stopped.is_none() && nonce != next {
                stopped = Some(Wait::Gap);
            }
            if stopped.is_none() {
                match left.checked_sub(entry.tx.cost_max) {
                    Some(rest) => left = rest,
                    None => stopped = Some(Wait::Funds),
                }
            }
            next = nonce.saturating_add(1);
            (nonce, stopped.map_or(Ok(()), Err))
        })
    }

    /// The lowest nonce that is neither here nor being written, and how many that are lie beyond it.
    pub fn gap(&self) -> (u64, usize) {
        let mut nonces: Vec<u64> = self
            .txs
            .keys()
            .chain(self.writing.values())
            .copied()
            .collect();
        nonces.sort_unstable();
        nonces.dedup();
        let start = self.account.nonce;
        let run = (start..).zip(&nonces).take_while(|(n, have)| n == *have);
        let count = run.count();
        (start + count as u64, nonces.len() - count)
    }

    /// What all transactions here can cost, but for those at `nonce`.
    pub fn cost_without(
        &self,
        nonce: u64,
        writing: impl Fn(&TxHash) -> Option<(u64, U256)>,
    ) -> U256 {
        let here = self
            .txs
            .iter()
            .filter(|(n, _)| **n != nonce)
            .map(|(_, e)| e.tx.cost_max);
        let written = self
            .writing
            .keys()
            .filter_map(writing)
            .filter(|(n, _)| *n != nonce && !self.txs.contains_key(n))
            .map(|(_, cost)| cost);
        here.chain(written).fold(U256::ZERO, U256::saturating_add)
    }

    /// Rank of the tail at this base fee.
    pub fn tail_rank(&self, base_fee: u128) -> Option<Rank> {
        let (_, tail) = self.txs.last_key_value()?;
        let (tip, fee) = self.worth_up_to(u64::MAX, base_fee)?;
        Some(Rank {
            pending: tail.pending,
            tip,
            fee,
            newest: Reverse(tail.arrival),
            hash: tail.tx.hash,
        })
    }

    /// Rank that a newcomer would have.
    pub fn newcomer_rank(&self, tx: &PoolTx, arrival: u64, base_fee: u128) -> Rank {
        let own = (tx.effective_tip(base_fee), tx.max_fee_per_gas);
        let (tip, fee) = match tx.nonce.checked_sub(1) {
            Some(last) => self
                .worth_up_to(last, base_fee)
                .map_or(own, |(tip, fee)| (tip.min(own.0), fee.min(own.1))),
            None => own,
        };
        Rank {
            pending: tx.nonce <= self.gap().0,
            tip,
            fee,
            newest: Reverse(arrival),
            hash: tx.hash,
        }
    }

    /// Least effective tip and least fee of all up to `nonce`.
    fn worth_up_to(&self, nonce: u64, base_fee: u128) -> Option<(Option<u128>, u128)> {
        self.txs
            .range(..=nonce)
            .map(|(_, e)| (e.tx.effective_tip(base_fee), e.tx.max_fee_per_gas))
            .reduce(|a, b| (a.0.min(b.0), a.1.min(b.1)))
    }
}

#[cfg(test)]
mod tests {
    use super::bumped;

    #[test]
    fn a_bump_is_exact_for_small_and_for_huge_fees() {
        for (old, new, percent, expect) in [
            (0, 0, 10, true),
            (1, 1, 10, false),
            (1, 2, 10, true),
            (100, 109, 10, false),
            (100, 110, 10, true),
            (105, 115, 10, false),
            (105, 116, 10, true),
            (7, 13, 100, false),
            (7, 14, 100, true),
            (u128::MAX, u128::MAX, 10, true),
            (u128::MAX / 2, u128::MAX / 2 + 5, 10, false),
        ] {
            assert_eq!(bumped(old, new, percent), expect, "{old} {new} {percent}");
        }
    }
}
