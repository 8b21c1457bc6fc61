//! Whether the pool's invariants hold.

use super::Mempool;
use crate::invariants::{POOL_BOUNDED, POOL_INDEXED, POOL_PENDING, POOL_RANKED, Violation};

impl Mempool {
    /// Whether the pool's invariants hold.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Violation> {
        let mut count = 0;
        let mut bytes = 0;
        for (sender, lane) in &self.lanes {
            for ((nonce, entry), (_, place)) in lane.txs.iter().zip(lane.places()) {
                count += 1;
                bytes += entry.tx.raw.len();
                POOL_INDEXED.require(
                    self.places.get(&entry.tx.hash) == Some(&(*sender, *nonce))
                        && entry.tx.sender == *sender
                        && entry.tx.nonce == *nonce
                        && self.expiries.contains(&(entry.expires, entry.tx.hash)),
                    || format!("{} at {sender} {nonce}", entry.tx.hash),
                )?;
                POOL_PENDING.require(
                    entry.pending == place.is_ok() && *nonce >= lane.account.nonce,
                    || format!("{} at {sender} {nonce}: {place:?}", entry.tx.hash),
                )?;
            }
            let rank = lane.tail_rank(self.base_fee);
            POOL_RANKED.require(
                rank == lane.rank && rank.is_none_or(|r| self.tails.contains(&(r, *sender))),
                || format!("lane {sender}: {rank:?}"),
            )?;
            POOL_INDEXED.require(!lane.txs.is_empty() || !lane.writing.is_empty(), || {
                format!("lane {sender} is empty")
            })?;
            POOL_BOUNDED.require(lane.txs.len() <= self.limits.per_sender_max, || {
                format!("{sender} has {}", lane.txs.len())
            })?;
        }
        POOL_INDEXED.require(
            count == self.places.len() && count == self.expiries.len() && bytes == self.bytes,
            || format!("{count} transactions, {bytes} bytes"),
        )?;
        POOL_RANKED.require(
            self.tails.len() == self.lanes.values().filter(|l| !l.txs.is_empty()).count(),
            || format!("{} tails", self.tails.len()),
        )?;
        POOL_BOUNDED.require(
            count <= self.limits.transactions_max
                && bytes <= self.limits.bytes_max
                && self.writing.len() <= self.limits.writing_max,
            || {
                format!(
                    "{count} transactions, {bytes} bytes, {} writing",
                    self.writing.len()
                )
            },
        )
    }
}
