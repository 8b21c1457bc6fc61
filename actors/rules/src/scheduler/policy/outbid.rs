//! What a gang that found no room is told.

use super::{Board, kind, order};
use crate::scheduler::model::Problem;
use crate::tx::Reason;

/// The reasons of gangs that found no room: the price that clears, or that no price would help.
pub(super) struct Outbid<'p> {
    p: &'p Problem,
    /// Per model: the price that clears, in whole wei per microsecond; zero where nothing was placed.
    prices: Vec<u128>,
    /// Per model: no shard serves it.
    unserved: Vec<bool>,
    /// Models that no shard serves, as kinds.
    unserved_kinds: u64,
}

impl<'p> Outbid<'p> {
    pub(super) fn new(p: &'p Problem, board: &Board, clearing: &[u64]) -> Self {
        let price = |&least: &u64| match least {
            u64::MAX => 0,
            least => order::price_of(least),
        };
        let models = 0..p.models.len() as u32;
        let unserved: Vec<bool> = models.map(|m| board.hosts(m).is_empty()).collect();
        let kinds = (0..).zip(&unserved).filter(|(_, none)| **none);
        Self {
            p,
            prices: clearing.iter().map(price).collect(),
            unserved_kinds: kinds.fold(0, |set, (m, _)| set | kind(m)),
            unserved,
        }
    }

    pub(super) fn reason(&self, gang: usize, (open, all): (u64, u64)) -> Reason {
        let price = if self.p.models.len() <= u64::BITS as usize {
            // Each kind is one model: the gang itself need not be looked at, and there are many.
            if open & self.unserved_kinds != 0 {
                return Reason::NoShard;
            }
            let (mut left, mut price) = (all, 0);
            while left != 0 {
                price = price.max(self.prices[left.trailing_zeros() as usize]);
                left &= left - 1;
            }
            price
        } else {
            let mut price = 0;
            for &key in &self.p.gangs[gang].needs {
                let state = &self.p.keys[key as usize];
                if state.copies > 0 && self.unserved[state.model as usize] {
                    return Reason::NoShard;
                }
                price = price.max(self.prices[state.model as usize]);
            }
            price
        };
        if price > 0 {
            Reason::Outbid(price)
        } else {
            Reason::DeadlineInfeasible
        }
    }
}
