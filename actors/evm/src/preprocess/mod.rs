//! F6: statistics over decimals, exact.

use crate::abi::Revert;
use alloy_primitives::Bytes;

/// A call of F6 that has a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preprocessed {
    /// Gas to charge.
    pub gas: u64,
    /// Return data.
    pub output: Bytes,
}

/// A call of F6 that reverts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("preprocessing reverts: {why:?}")]
pub struct PreprocessError {
    /// Gas to charge.
    pub gas: u64,
    /// Why.
    pub why: Revert,
}

impl PreprocessError {
    /// The revert data.
    #[must_use]
    pub fn revert(&self) -> Bytes {
        self.why.encode()
    }
}

/// What a call costs, from its size alone: known before anything is computed.
#[must_use]
pub fn gas(calldata: &[u8]) -> u64 {
    let _ = calldata;
    0
}

/// Runs a call of F6.
///
/// # Errors
/// Typed reverts; see [`Revert`].
pub fn run(calldata: &[u8]) -> Result<Preprocessed, PreprocessError> {
    Err(PreprocessError {
        gas: gas(calldata),
        why: Revert::BadRequest,
    })
}
