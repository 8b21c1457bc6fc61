//! How full the inference network is, and how well the scheduler did: what it says with each head.

use alloy_primitives::{U64, U128};
use penstock_rules::scheduler::{Congestion, Step, Window};
use serde::Serialize;

/// What waits, and what price clears.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Backlog {
    /// The block that is built next.
    block_number: U64,
    /// Transactions that wait for a place on a shard beyond the next two blocks.
    waiting: U64,
    /// Time that all shards have for one block, in microseconds.
    capacity: U64,
    /// How many blocks the waiting work fills that is worth a price, in wei per igas, or more.
    prices: Vec<Price>,
}

#[derive(Clone, Debug, Serialize)]
struct Price {
    blocks: U64,
    price: U128,
}

impl From<&Congestion> for Backlog {
    fn from(congestion: &Congestion) -> Self {
        let price = |step: &Step| Price {
            blocks: U64::from(step.blocks),
            price: U128::from(step.price),
        };
        Self {
            block_number: U64::from(congestion.height.0),
            waiting: U64::from(congestion.waiting),
            capacity: U64::from(congestion.capacity.0),
            prices: congestion.steps.iter().map(price).collect(),
        }
    }
}

/// Value that the last blocks included, against what no schedule could have exceeded.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Certificate {
    from_block: U64,
    to_block: U64,
    /// Wei that transactions with inference brought.
    included: U128,
    /// Wei that no schedule could have exceeded.
    bound: U128,
    /// Included over bound, in a hundred thousand.
    share: U64,
    /// Wei per microsecond of a shard at which the bound is least.
    price: U128,
}

impl From<Window> for Certificate {
    fn from(window: Window) -> Self {
        Self {
            from_block: U64::from(window.first.0),
            to_block: U64::from(window.last.0),
            included: U128::from(window.included),
            bound: U128::from(window.bound),
            share: U64::from(window.share()),
            price: U128::from(window.price),
        }
    }
}
