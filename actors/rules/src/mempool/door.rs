//! What is let in.

use super::lane::Lane;
use super::{Mempool, entry};
use crate::ids::{Micros, TxHash};
use crate::tx::{PoolTx, Refusal};
use alloy_primitives::B256;

impl Mempool {
    /// Every check at the door, cheap ones first. The sender's lane exists and knows its account.
    pub(super) fn admit(&self, tx: &PoolTx, content: B256) -> Result<(), Refusal> {
        let limits = &self.limits;
        let bytes = tx.raw.len();
        if bytes > limits.tx_bytes_max {
            return Err(Refusal::Oversized {
                size: u32::try_from(bytes).unwrap_or(u32::MAX),
                limit: u32::try_from(limits.tx_bytes_max).unwrap_or(u32::MAX),
            });
        }
        if tx.max_priority_fee_per_gas > tx.max_fee_per_gas {
            return Err(Refusal::TipAboveFee);
        }
        if tx.gas_limit > limits.gas_max {
            return Err(Refusal::GasLimit {
                have: tx.gas_limit,
                limit: limits.gas_max,
            });
        }
        // The base fee is below the least only where a person has set it so for the next block.
        let minimum = limits.fee_min.min(self.base_fee);
        if tx.max_fee_per_gas < minimum {
            return Err(Refusal::Underpriced {
                fee: tx.max_fee_per_gas,
                minimum,
            });
        }
        if self.places.contains_key(&tx.hash) {
            return Err(Refusal::AlreadyKnown);
        }
        let Some(lane) = self.lanes.get(&tx.sender) else {
            return Err(Refusal::Busy);
        };
        let (next, nonce) = (lane.account.nonce, tx.nonce);
        if nonce < next {
            return Err(Refusal::NonceTooLow { next, nonce });
        }
        if nonce - next >= limits.nonce_ahead_max {
            return Err(Refusal::NonceTooHigh { next, nonce });
        }
        let replaced = self.check_replacement(lane, tx, content)?;
        if !replaced {
            let sender_limit = |limit: usize| Refusal::SenderLimit {
                limit: u32::try_from(limit).unwrap_or(u32::MAX),
            };
            if lane.txs.len() + lane.writing.len() >= limits.per_sender_max {
                return Err(sender_limit(limits.per_sender_max));
            }
            let (missing, queued) = lane.gap();
            if nonce > missing && queued >= limits.queued_per_sender_max {
                return Err(sender_limit(limits.queued_per_sender_max));
            }
        }
        let written = |hash: &TxHash| self.writing.get(hash).map(|w| (w.tx.nonce, w.tx.cost_max));
        let cost = lane
            .cost_without(nonce, written)
            .saturating_add(tx.cost_max);
        let balance = lane.account.balance;
        if cost > balance {
            return Err(Refusal::InsufficientFunds { balance, cost });
        }
        if self.writing.len() >= limits.writing_max {
            return Err(Refusal::Busy);
        }
        let full = (!replaced && self.len() + self.writing.len() >= limits.transactions_max)
            || self.bytes + self.bytes_writing + bytes > limits.bytes_max;
        if full {
            let rank = lane.newcomer_rank(tx, self.arrivals + 1, self.base_fee);
            if !self
                .tails
                .first()
                .is_some_and(|(worst, _)| rank.outbids(worst))
            {
                return Err(Refusal::PoolFull);
            }
        }
        Ok(())
    }

    /// Whether the transaction takes another's place; an error where it does not pay enough for that.
    fn check_replacement(&self, lane: &Lane, tx: &PoolTx, content: B256) -> Result<bool, Refusal> {
        let here = lane.txs.get(&tx.nonce);
        if here.is_some_and(|old| !old.yields_to(tx, content, &self.limits)) {
            return Err(Refusal::ReplacementUnderpriced);
        }
        let mut replaced = here.is_some();
        let rivals = lane.writing.iter().filter(|(_, n)| **n == tx.nonce);
        for rival in rivals.filter_map(|(hash, _)| self.writing.get(hash)) {
            replaced = true;
            if !entry(rival.clone(), Micros(0)).yields_to(tx, content, &self.limits) {
                return Err(Refusal::ReplacementUnderpriced);
            }
        }
        Ok(replaced)
    }
}
