//! Blocks as the log has them, with their witness.

use crate::ids::RequestKey;
use crate::request::{Attestation, Outcome};
use alloy_primitives::Bytes;
use alloy_rlp::{RlpDecodable, RlpEncodable};
use serde::{Deserialize, Serialize};

/// A request that the block's execution consumed, and what it came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, RlpEncodable, RlpDecodable)]
pub struct WitnessEntry {
    /// The request.
    pub key: RequestKey,
    /// Its outcome.
    pub outcome: Outcome,
    /// Who stands for it, by ascending shard, all different.
    pub attestations: Vec<Attestation>,
}

/// An entry of the block log.
///
/// The header commits to everything else: transactions root, receipts root, and in `extraData` the witness root (the
/// root of an Ethereum ordered trie over the entries' RLP). The producer signs the header's hash.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, RlpEncodable, RlpDecodable)]
pub struct Block {
    /// Ethereum header, RLP. Its keccak256 is the block hash.
    pub header: Bytes,
    /// Transactions, EIP-2718.
    pub transactions: Vec<Bytes>,
    /// Each request once, in the order of first use.
    pub witness: Vec<WitnessEntry>,
    /// secp256k1 signature of the producer over the block hash: r, s, recovery bit, 65 bytes. Empty at genesis.
    pub signature: Bytes,
}
