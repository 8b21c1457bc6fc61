//! What a gang that found no room is told.

use super::index::Pairs;
use super::{Board, order};
use crate::scheduler::model::Problem;
use crate::tx::Reason;

/// The reasons of gangs that found no room: the price that clears, or that no price would help.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Outbid {
    /// Per model: the price that clears, in whole wei per microsecond; zero where nothing was placed.
    prices: Vec<u128>,
    /// Per model: no shard serves it.
    unserved: Vec<bool>,
}

impl Outbid {
    pub(super) fn new(p: &Problem, board: &Board, clearing: &[u64]) -> Self {
        let price = |&least: &u64| match least {
            u64::MAX => 0,
            least => order::price_of(least),
        };
        let models = 0..p.models.len() as u32;
        Self {
            prices: clearing.iter().map(price).collect(),
            unserved: models.map(|m| board.hosts(m).is_empty()).collect(),
        }
    }

    /// Of a gang that asks for this.
    pub(crate) fn reason(&self, pairs: &Pairs) -> Reason {
        let mut price = 0;
        for &(model, copies) in pairs {
            if copies > 0 && self.unserved[model as usize] {
                return Reason::NoShard;
            }
            price = price.max(self.prices[model as usize]);
        }
        if price > 0 {
            Reason::Outbid(price)
        } else {
            Reason::DeadlineInfeasible
        }
    }
}
