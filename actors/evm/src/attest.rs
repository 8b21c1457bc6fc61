//! Signatures of shards on answers and of producers on blocks.

use crate::overlay::{Backend, BackendError};
use crate::predeploys;
use alloy_consensus::crypto::secp256k1::{recover_signer, sign_message};
use alloy_primitives::{Address, B256, Bytes, Signature};
use penstock_rules::ids::{RequestKey, ShardId};
use penstock_rules::request::{Attestation, Mode, Quorum, Settled, attestation_digest};
use std::collections::BTreeSet;

/// A secp256k1 key of a shard or producer.
#[derive(Clone, PartialEq, Eq)]
pub struct SigningKey {
    secret: B256,
    address: Address,
}

/// The bytes are no secp256k1 key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a secp256k1 key")]
pub struct KeyError;

impl std::fmt::Debug for SigningKey {
    /// Shows the address alone: keys don't belong into logs.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "SigningKey({:#x})", self.address)
    }
}

impl SigningKey {
    /// From 32 secret bytes.
    ///
    /// # Errors
    /// Where they are zero or past the curve's order.
    pub fn new(secret: B256) -> Result<Self, KeyError> {
        // A signature over any digest gives the address back: no second curve library is needed for it.
        let digest = B256::repeat_byte(1);
        let signature = sign_message(secret, digest).map_err(|_| KeyError)?;
        let address = recover_signer(&signature, digest).map_err(|_| KeyError)?;
        Ok(Self { secret, address })
    }

    /// The Ethereum address of the key.
    #[must_use]
    pub const fn address(&self) -> Address {
        self.address
    }

    /// Signs a digest: r, s, recovery bit (0 or 1), 65 bytes.
    #[must_use]
    pub fn sign(&self, digest: B256) -> Bytes {
        let signature = sign_message(self.secret, digest).expect("the key was checked when made");
        let mut bytes = [0; 65];
        bytes[..32].copy_from_slice(&signature.r().to_be_bytes::<32>());
        bytes[32..64].copy_from_slice(&signature.s().to_be_bytes::<32>());
        bytes[64] = u8::from(signature.v());
        Bytes::copy_from_slice(&bytes)
    }
}

/// Who signed `digest`. Signatures have one form: 65 bytes, recovery bit 0 or 1, low s (EIP-2).
#[must_use]
pub fn signer_of(digest: B256, signature: &[u8]) -> Option<Address> {
    let bytes: &[u8; 65] = signature.try_into().ok()?;
    let parity = match bytes[64] {
        0 => false,
        1 => true,
        _ => return None,
    };
    let signature = Signature::from_bytes_and_parity(&bytes[..64], parity);
    recover_signer(&signature, digest).ok()
}

/// A shard's signature on an answer.
#[must_use]
pub fn attest(
    signer: &SigningKey,
    chain_id: u64,
    key: RequestKey,
    outcome_hash: B256,
) -> Attestation {
    Attestation {
        shard: ShardId(signer.address()),
        signature: signer.sign(attestation_digest(chain_id, key, outcome_hash)),
    }
}

/// Whether the attestation's signature is that of the shard that it names.
#[must_use]
pub fn check_attestation(
    attestation: &Attestation,
    chain_id: u64,
    key: RequestKey,
    outcome_hash: B256,
) -> bool {
    let digest = attestation_digest(chain_id, key, outcome_hash);
    signer_of(digest, &attestation.signature) == Some(attestation.shard.0)
}

/// Whose attestations count in a block, and how many each mode needs: the shard registry as the parent's state has it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Attesters {
    pub(crate) quorum: Quorum,
    pub(crate) shards: BTreeSet<ShardId>,
}

impl Attesters {
    /// Reads the registry.
    pub(crate) fn of(below: &dyn Backend) -> Result<Self, BackendError> {
        let mut error = None;
        let mut read = |address, slot| {
            below.slot(address, slot).unwrap_or_else(|failed| {
                error.get_or_insert(failed);
                Default::default()
            })
        };
        let attesters = Self {
            quorum: predeploys::read_quorum(&mut read),
            shards: predeploys::read_shards(&mut read).into_iter().collect(),
        };
        error.map_or(Ok(attesters), Err)
    }

    /// Whether an answer has the attestations that its mode needs: enough, of different registered shards, by ascending
    /// shard. Signatures are checked apart, once, where an answer comes from outside.
    pub(crate) fn suffice(&self, settled: &Settled, mode: Mode) -> bool {
        settled.attestations.len() >= usize::from(self.quorum.of(mode)) && self.known(settled)
    }

    /// Whether all attestations are of registered shards, by ascending shard, none twice.
    pub(crate) fn known(&self, settled: &Settled) -> bool {
        let attestations = &settled.attestations;
        attestations.is_sorted_by(|a, b| a.shard < b.shard)
            && attestations
                .iter()
                .all(|attestation| self.shards.contains(&attestation.shard))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::new(B256::repeat_byte(7)).expect("a key")
    }

    #[test]
    fn an_attestation_holds_for_its_chain_key_and_outcome_alone() {
        let request = RequestKey(B256::repeat_byte(1));
        let outcome = B256::repeat_byte(2);
        let attestation = attest(&key(), 1, request, outcome);
        assert!(check_attestation(&attestation, 1, request, outcome));
        assert!(!check_attestation(&attestation, 2, request, outcome));
        assert!(!check_attestation(
            &attestation,
            1,
            RequestKey(outcome),
            outcome
        ));
        assert!(!check_attestation(&attestation, 1, request, request.0));
        let other = Attestation {
            shard: ShardId(Address::repeat_byte(3)),
            ..attestation
        };
        assert!(!check_attestation(&other, 1, request, outcome));
    }

    #[test]
    fn a_signature_has_one_form() {
        let digest = B256::repeat_byte(9);
        let good = key().sign(digest);
        assert_eq!(signer_of(digest, &good), Some(key().address()));
        // The other s (n - s) with the other bit recovers the same key in plain ECDSA; it must not count.
        let order = alloy_primitives::U256::from_str_radix(
            "fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141",
            16,
        )
        .expect("hex");
        let s = alloy_primitives::U256::from_be_slice(&good[32..64]);
        let mut other = good.to_vec();
        other[32..64].copy_from_slice(&(order - s).to_be_bytes::<32>());
        other[64] ^= 1;
        assert_eq!(signer_of(digest, &other), None);
        let mut shifted = good.to_vec();
        shifted[64] += 27;
        assert_eq!(signer_of(digest, &shifted), None);
        assert_eq!(signer_of(digest, &good[..64]), None);
    }

    #[test]
    fn zero_and_the_order_are_no_keys() {
        assert_eq!(SigningKey::new(B256::ZERO), Err(KeyError));
        assert_eq!(SigningKey::new(B256::repeat_byte(0xff)), Err(KeyError));
    }
}
