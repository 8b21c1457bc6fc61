//! An account's storage in the order of its trie, in parts (`debug_storageRangeAt`): as it is when a transaction of a block
//! begins.

use crate::state::State;
use crate::trace::{BlockToTrace, Only, TraceError, opened, replay};
use alloy_primitives::{Address, B256, U256};

/// Part of an account's storage.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageRange {
    /// Slots whose hashed keys follow each other: hashed key, slot, value.
    pub slots: Vec<(B256, U256, U256)>,
    /// The hashed key that follows; none after the last.
    pub next: Option<B256>,
}

/// Slots of `address` from the hashed key `start` on, at most `limit`, before the transaction at `index` of a block runs.
/// A block without transactions has the state that one would begin on at 0. `parent` is what [`BlockToTrace::state`] is.
///
/// # Errors
/// See [`TraceError`]. An index that the block does not have is one.
pub fn storage_range(
    block: &BlockToTrace<'_>,
    parent: &State,
    index: usize,
    (address, start, limit): (Address, B256, usize),
) -> Result<StorageRange, TraceError> {
    let count = block.transactions.len();
    if index >= count.max(1) {
        return Err(TraceError::Options(format!(
            "transaction index {index} out of range for block {}: it has {count}",
            block.hash
        )));
    }
    let diff = match count {
        0 => opened(block)?.diff(parent),
        _ => {
            let mut before = None;
            replay(block, Only::Index(index), &mut |turn| {
                if turn.index == index {
                    before = Some(turn.view.changes.diff(parent));
                }
                turn.run()
            })?;
            before.unwrap_or_default()
        }
    };
    let mut state = parent.clone();
    state.apply(&diff);
    Ok(state.storage_range(address, start, limit))
}
