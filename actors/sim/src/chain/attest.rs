//! Signatures of the model: what a shard alone can make, and everybody can check.

use super::evm::infer;
use alloy_primitives::{B256, Bytes, keccak256};
use penstock_rules::block::WitnessEntry;
use penstock_rules::ids::{RequestKey, ShardId};
use penstock_rules::request::{Attestation, attestation_digest};

/// Chain of the simulation.
const CHAIN_ID: u64 = 31_337;

/// What a shard signs for an outcome.
pub(super) fn sign(shard: ShardId, key: RequestKey, outcome: B256) -> Attestation {
    let digest = attestation_digest(CHAIN_ID, key, outcome);
    let signature = keccak256([&shard.0[..], &digest[..]].concat());
    Attestation {
        shard,
        signature: Bytes::copy_from_slice(&signature[..]),
    }
}

/// What somebody else signs in a shard's name.
pub(super) fn forge(shard: ShardId) -> Attestation {
    Attestation {
        shard,
        signature: Bytes::from_static(b"not a signature"),
    }
}

/// Whether the shard signed this outcome.
pub(super) fn is_genuine(attestation: &Attestation, key: RequestKey, outcome: B256) -> bool {
    *attestation == sign(attestation.shard, key, outcome)
}

/// Whether enough different shards stand for an entry of a witness.
pub(super) fn check(entry: &WitnessEntry, quorum: usize) -> Result<(), String> {
    let shards: Vec<_> = entry.attestations.iter().map(|a| a.shard).collect();
    if shards.len() < quorum || !shards.is_sorted_by(|a, b| a < b) {
        return Err(format!(
            "{} of {quorum} shards stand for request {}",
            shards.len(),
            entry.key
        ));
    }
    let hash = entry.outcome.hash();
    let genuine = |a: &Attestation| is_genuine(a, entry.key, hash);
    if !entry.attestations.iter().all(genuine) {
        return Err(format!("an attestation for {} is forged", entry.key));
    }
    Ok(())
}

/// What a shard that lies says instead, each its own lie.
pub(super) fn lie(
    shard: ShardId,
    model: penstock_rules::ids::ModelHash,
    input: &[u8],
) -> penstock_rules::request::Outcome {
    let lied = [&shard.0[..], input].concat();
    infer(model, &lied)
}
