//! The order of candidates in a block.

use crate::tx::ReadyTx;
use alloy_primitives::Address;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, btree_map::Entry};
use std::sync::Arc;

/// Rank of a candidate, greatest first: inference before plain (its inputs go stale, a transfer does not), then by
/// tip, then by arrival, then by hash.
type Rank = (bool, u128, Reverse<u64>, Reverse<[u8; 32]>);

fn rank(tx: &ReadyTx, base_fee: u128) -> Rank {
    (
        !tx.keys.is_empty(),
        tx.tx.effective_tip(base_fee).unwrap_or(0),
        Reverse(tx.arrival),
        Reverse(tx.tx.hash.0),
    )
}

/// Candidates that cover `base_fee`, best first, a sender's by nonce, at most `limit`.
///
/// A lane counts by its lowest nonce; what stands behind a candidate that does not cover the base fee waits with it.
#[must_use]
pub fn order<'a>(
    pool: impl Iterator<Item = &'a Arc<ReadyTx>>,
    base_fee: u128,
    limit: usize,
) -> Vec<Arc<ReadyTx>> {
    let mut lanes: BTreeMap<Address, BTreeMap<u64, &Arc<ReadyTx>>> = BTreeMap::new();
    for tx in pool {
        match lanes.entry(tx.tx.sender).or_default().entry(tx.tx.nonce) {
            Entry::Vacant(place) => {
                place.insert(tx);
            }
            // A replacement and what it replaces may meet here for a moment: the better paid one counts.
            Entry::Occupied(mut place) => {
                if rank(tx, base_fee) > rank(place.get(), base_fee) {
                    place.insert(tx);
                }
            }
        }
    }
    let mut lanes: Vec<_> = lanes
        .into_values()
        .map(|lane| lane.into_values().peekable())
        .collect();
    let mut heap: BinaryHeap<(Rank, Reverse<usize>)> = BinaryHeap::new();
    for (index, lane) in lanes.iter_mut().enumerate() {
        if let Some(tx) = lane.peek() {
            heap.push((rank(tx, base_fee), Reverse(index)));
        }
    }
    let mut out = Vec::new();
    while let Some((_, Reverse(index))) = heap.pop() {
        if out.len() == limit {
            break;
        }
        let lane = &mut lanes[index];
        let Some(tx) = lane.next() else { continue };
        if tx.tx.effective_tip(base_fee).is_none() {
            continue;
        }
        out.push(Arc::clone(tx));
        if let Some(next) = lane.peek() {
            heap.push((rank(next, base_fee), Reverse(index)));
        }
    }
    out
}
