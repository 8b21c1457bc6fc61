//! The inference market's state: the multiplier, and what the last block used.
//!
//! Contracts read the multiplier from the predeploy; the slots behind it are written by the block itself, after its last
//! transaction, so that base fee and multiplier of the next block follow from the state alone.

use crate::predeploys::{INFERENCE_MARKET, MULTIPLIER_INITIAL};
use crate::state::State;
use alloy_primitives::U256;

/// Gas per igas, at least.
pub const MULTIPLIER_MIN: u64 = MULTIPLIER_INITIAL;
/// Slot of the gas that the last block's transactions paid for inference.
pub const INFERENCE_GAS_SLOT: U256 = U256::from_limbs([1, 0, 0, 0]);

pub(crate) fn inference_gas(state: &State) -> u64 {
    state
        .slot_at(INFERENCE_MARKET, INFERENCE_GAS_SLOT)
        .saturating_to()
}
