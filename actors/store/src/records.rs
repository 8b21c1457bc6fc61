//! Values, as RLP.

use crate::StoreError;
use alloy_primitives::{Address, B256, U256, hex};
use alloy_rlp::{Decodable, Encodable, RlpDecodable, RlpEncodable};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};

/// A stored block.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct BlockRecord {
    /// Height.
    pub height: Height,
    /// Hash of the header.
    pub hash: B256,
    /// The block, as the log has it.
    pub block: Block,
    /// Sender of each transaction.
    pub senders: Vec<Address>,
    /// Position in the block log: a follower goes on behind it.
    pub log_seq: Seq,
}

/// Where a transaction is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct TxLocation {
    /// Height of its block.
    pub height: Height,
    /// Place in the block, from 0.
    pub index: u32,
}

/// The head pointer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct HeadRecord {
    pub(crate) height: Height,
    pub(crate) hash: B256,
}

/// What may be deleted of a key once the horizon reaches the height at which it changed.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub(crate) struct SupersededRecord {
    /// Height of the version before, where there is one: at most one item.
    pub(crate) before: Vec<Height>,
    /// The version of that height itself says "gone": it may go too.
    pub(crate) gone: bool,
}

pub(crate) fn encode<T: Encodable>(value: &T) -> Vec<u8> {
    alloy_rlp::encode(value)
}

/// Reads a whole record; `key` is for the error.
pub(crate) fn decode<T: Decodable>(key: &[u8], bytes: &[u8]) -> Result<T, StoreError> {
    let damaged = |why: String| StoreError::Damaged {
        what: hex::encode_prefixed(key),
        why,
    };
    let mut rest = bytes;
    let value = T::decode(&mut rest).map_err(|e| damaged(e.to_string()))?;
    if !rest.is_empty() {
        return Err(damaged(format!("{} bytes too many", rest.len())));
    }
    Ok(value)
}

/// A slot's value: big-endian without leading zeros, so zero is empty.
pub(crate) fn encode_slot(value: U256) -> Vec<u8> {
    value.to_be_bytes_trimmed_vec()
}

pub(crate) fn decode_slot(key: &[u8], bytes: &[u8]) -> Result<U256, StoreError> {
    U256::try_from_be_slice(bytes).ok_or_else(|| StoreError::Damaged {
        what: hex::encode_prefixed(key),
        why: format!("a slot has 32 bytes at most, not {}", bytes.len()),
    })
}
