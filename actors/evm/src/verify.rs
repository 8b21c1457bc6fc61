//! Verification: a block is executed again from its transactions and witness alone.

use crate::execute::{ExecutedBlock, PushError};
use crate::spec::ChainSpec;
use crate::state::State;
use alloy_consensus::Header;
use penstock_rules::block::Block;
use penstock_rules::ids::{RequestKey, ShardId};

/// Why a block is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The header's bytes are no header, or not the canonical ones.
    #[error("header does not decode")]
    HeaderRlp,
    /// A field of the header is not what it must be.
    #[error("header field {0} is wrong")]
    Field(&'static str),
    /// No registered producer signed it.
    #[error("block is not signed by a producer")]
    Signature,
    /// A transaction's bytes are no signed transaction for this chain.
    #[error("transaction {index} does not decode: {why}")]
    Decode {
        /// Which.
        index: usize,
        /// Why.
        why: String,
    },
    /// A transaction can't be at its place.
    #[error("transaction {index} is invalid: {why}")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        why: PushError,
    },
    /// The witness holds a request twice.
    #[error("witness holds request {0} twice")]
    WitnessTwice(RequestKey),
    /// The witness holds what execution did not consume, or in another order.
    #[error("witness entry {index} ({key}) is not what execution consumed there")]
    WitnessExtra {
        /// Which entry.
        index: usize,
        /// Its key.
        key: RequestKey,
    },
    /// Attestations of an entry are too few, not in order, or of shards that are not registered.
    #[error("attestations of request {0} make no quorum of registered shards")]
    Quorum(RequestKey),
    /// A signature of an attestation is wrong.
    #[error("attestation of shard {shard} for request {key} has a wrong signature")]
    Attestation {
        /// For what.
        key: RequestKey,
        /// Whose.
        shard: ShardId,
    },
}

/// Checks a block on its parent's state, and gives what follows from it.
///
/// # Errors
/// The first reason found why it is not valid.
pub fn verify(
    state: &State,
    spec: &ChainSpec,
    parent: &Header,
    block: &Block,
) -> Result<ExecutedBlock, VerifyError> {
    let _ = (state, spec, parent, block);
    Err(VerifyError::HeaderRlp)
}
