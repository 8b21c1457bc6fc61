//! What a block writes before its first transaction, as Ethereum's system calls do.
//!
//! - EIP-2935 <https://eips.ethereum.org/EIPS/eip-2935>: the parent's hash, at `(number - 1) % 8191`. From Prague.
//! - EIP-4788 <https://eips.ethereum.org/EIPS/eip-4788>: the timestamp, at `timestamp % 8191`, and the parent's beacon
//!   root 8191 slots behind. From Cancun. A devnet has no beacon: the root is zero.
//!
//! The slots are written as the contracts at these addresses would write them (genesis has their code), without the
//! EVM. No-op where the contract is not there, and in block 0. Discovery starts with the same writes: a contract could
//! tell it from execution by them.
//!
//! Left out: requests to a consensus layer (EIP-7002, EIP-7251, EIP-6110), which a devnet has none of; the header has
//! the hash of no requests.

use crate::overlay::{Backend, BackendError, Changes};
use crate::spec::{BlockEnv, ChainSpec, Hardfork};
use alloy_eips::eip2935::{HISTORY_SERVE_WINDOW, HISTORY_STORAGE_ADDRESS};
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_primitives::U256;

/// Slots of each ring of EIP-4788.
const BEACON_ROOTS_WINDOW: u64 = 8191;

/// Begins a block.
pub(crate) fn begin(
    changes: &mut Changes,
    below: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
) -> Result<(), BackendError> {
    let Some(parent) = env.number.0.checked_sub(1) else {
        return Ok(());
    };
    if spec.hardfork >= Hardfork::Cancun {
        let slot = env.timestamp % BEACON_ROOTS_WINDOW;
        changes.write(
            below,
            BEACON_ROOTS_ADDRESS,
            U256::from(slot),
            U256::from(env.timestamp),
        )?;
        changes.write(
            below,
            BEACON_ROOTS_ADDRESS,
            U256::from(slot + BEACON_ROOTS_WINDOW),
            env.parent_beacon_root.into(),
        )?;
    }
    if spec.hardfork >= Hardfork::Prague {
        changes.write(
            below,
            HISTORY_STORAGE_ADDRESS,
            U256::from(parent % HISTORY_SERVE_WINDOW as u64),
            env.parent_hash.into(),
        )?;
    }
    Ok(())
}
