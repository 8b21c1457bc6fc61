//! Recent blocks and states, in memory: what nearly all reads are about.

use crate::chain::ChainHead;
use alloy_primitives::{B256, Bloom};
use parking_lot::RwLock;
use penstock_rpc::ChainBlock;
use penstock_rules::ids::{Height, TxHash};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// Recent blocks that are kept decoded. Wallets and subscriptions look at a few; fee histories at up to 1,024.
const BLOCKS_MAX: usize = 1_024;
/// Transactions in them at most, so that full blocks don't take the memory: some 1 kB each with receipt.
const TRANSACTIONS_MAX: usize = 200_000;
/// Recent states that calls and reads find in memory, as geth keeps them. They share all that did not change.
const STATES_MAX: usize = 128;
/// Header blooms that are kept, 256 bytes each.
const BLOOMS_MAX: usize = 65_536;

#[derive(Default)]
struct Recent {
    blocks: BTreeMap<Height, Arc<ChainBlock>>,
    by_hash: HashMap<B256, Height>,
    transactions: HashMap<TxHash, (Height, u32)>,
    states: BTreeMap<Height, Arc<ChainHead>>,
    blooms: BTreeMap<Height, Bloom>,
}

/// See the module.
#[derive(Default)]
pub struct Blocks(RwLock<Recent>);

impl Blocks {
    /// Adds a block, with its state where it is known, and forgets the oldest.
    pub fn insert(&self, block: Arc<ChainBlock>, chain: Option<Arc<ChainHead>>) {
        let height = block.height();
        let mut guard = self.0.write();
        let recent = &mut *guard;
        recent.by_hash.insert(block.hash, height);
        for (index, tx) in (0..).zip(&block.transactions) {
            recent.transactions.insert(*tx.tx_hash(), (height, index));
        }
        recent.blooms.insert(height, block.header.logs_bloom);
        recent.blocks.insert(height, block);
        if let Some(chain) = chain {
            recent.states.insert(height, chain);
        }
        while recent.blocks.len() > BLOCKS_MAX
            || (recent.transactions.len() > TRANSACTIONS_MAX && recent.blocks.len() > 1)
        {
            let Some((_, old)) = recent.blocks.pop_first() else {
                break;
            };
            recent.by_hash.remove(&old.hash);
            for tx in &old.transactions {
                recent.transactions.remove(tx.tx_hash());
            }
        }
        while recent.states.len() > STATES_MAX {
            recent.states.pop_first();
        }
        while recent.blooms.len() > BLOOMS_MAX {
            recent.blooms.pop_first();
        }
    }

    /// A recent block.
    pub fn by_height(&self, height: Height) -> Option<Arc<ChainBlock>> {
        self.0.read().blocks.get(&height).cloned()
    }

    /// A recent block.
    pub fn by_hash(&self, hash: B256) -> Option<Arc<ChainBlock>> {
        let recent = self.0.read();
        let height = recent.by_hash.get(&hash)?;
        recent.blocks.get(height).cloned()
    }

    /// Where a transaction of a recent block is.
    pub fn location(&self, hash: TxHash) -> Option<(Height, u32)> {
        self.0.read().transactions.get(&hash).copied()
    }

    /// A recent state, with its block's header.
    pub fn state(&self, height: Height) -> Option<Arc<ChainHead>> {
        self.0.read().states.get(&height).cloned()
    }

    /// The oldest state in memory, and how many are kept.
    pub fn oldest_state(&self) -> (Height, u64) {
        let recent = self.0.read();
        let oldest = recent.states.first_key_value().map(|(height, _)| *height);
        (oldest.unwrap_or_default(), STATES_MAX as u64)
    }

    /// The bloom of a recent block.
    pub fn bloom(&self, height: Height) -> Option<Bloom> {
        self.0.read().blooms.get(&height).copied()
    }

    /// Remembers the bloom of an old block that was read.
    pub fn remember_bloom(&self, height: Height, bloom: Bloom) {
        let mut recent = self.0.write();
        if recent.blooms.len() < BLOOMS_MAX {
            recent.blooms.insert(height, bloom);
        }
    }
}
