//! Where the predeploys keep what nodes read without the EVM. The one place that knows.
//!
//! ```text
//! ModelRegistry                        ShardRegistry                      InferenceMarket
//!  0 address owner                      0 address owner                    0 uint256 multiplier
//!  1 string[] cids                      1 address[] shards
//!  2 mapping(string => Model)           2 mapping(address => uint256)
//!      +0 bytes32 contentHash           3 uint8 vanilla | zk << 8 | tee << 16
//!      +1 uint64 igasBase | igasPerUnit << 64 | number << 128
//!      +2 bytes signature
//! ```
//!
//! Solidity's rules: an array's length stands in its slot s, its elements from keccak256(s) on; a mapping's value at
//! keccak256(key . s), a string key as its bytes, an address as a word; bytes and strings of up to 31 bytes stand in
//! their slot, left-aligned, with twice the length in the last byte, longer ones from keccak256(s) on, with twice the
//! length and one in s. Tests hold all this against the compiled contracts.

use super::ReadSlot;
use alloy_primitives::{Address, B256, U256, keccak256};

/// `Owned.owner`.
pub(super) const OWNER: U256 = U256::ZERO;
/// `ModelRegistry.cids`.
pub(super) const CIDS: U256 = U256::from_limbs([1, 0, 0, 0]);
/// `ModelRegistry.models`.
pub(super) const MODELS: U256 = U256::from_limbs([2, 0, 0, 0]);
/// `ShardRegistry.shards`.
pub(super) const SHARDS: U256 = U256::from_limbs([1, 0, 0, 0]);
/// `ShardRegistry.numbers`.
pub(super) const SHARD_NUMBERS: U256 = U256::from_limbs([2, 0, 0, 0]);
/// `ShardRegistry.quorums`.
pub(super) const QUORUM: U256 = U256::from_limbs([3, 0, 0, 0]);

/// Elements of an array that are read at most: a devnet has tens of models and shards, and a slot set by hand must not
/// keep a node reading for ever.
const ELEMENTS_MAX: u64 = 65_536;
/// Bytes of a string that are read at most: eight times `ModelRegistry.SIGNATURE_BYTES_MAX`, for the same reason.
const BYTES_MAX: usize = 65_536;

/// First slot of an array's elements, or of long bytes.
pub(super) fn content(slot: U256) -> U256 {
    keccak256(slot.to_be_bytes::<32>()).into()
}

/// Slot of `MODELS[cid]`.
pub(super) fn model(cid: &str) -> U256 {
    let mut bytes = cid.as_bytes().to_vec();
    bytes.extend(MODELS.to_be_bytes::<32>());
    keccak256(bytes).into()
}

/// Slot of `SHARD_NUMBERS[shard]`.
pub(super) fn shard_number(shard: Address) -> U256 {
    let mut bytes = shard.into_word().to_vec();
    bytes.extend(SHARD_NUMBERS.to_be_bytes::<32>());
    keccak256(bytes).into()
}

/// The slots of bytes or a string at `slot`.
pub(super) fn write_bytes(slot: U256, bytes: &[u8]) -> Vec<(U256, U256)> {
    let word = |chunk: &[u8]| U256::from_be_bytes(B256::right_padding_from(chunk).0);
    let twice = U256::from(bytes.len()) << 1;
    if bytes.len() < 32 {
        return vec![(slot, word(bytes) | twice)];
    }
    let first = content(slot);
    std::iter::once((slot, twice | U256::ONE))
        .chain(
            bytes
                .chunks(32)
                .enumerate()
                .map(|(i, chunk)| (first.wrapping_add(U256::from(i)), word(chunk))),
        )
        .collect()
}

/// Bytes or a string at `slot`; `None` where its length makes no sense.
pub(super) fn read_bytes(address: Address, slot: U256, read: ReadSlot<'_>) -> Option<Vec<u8>> {
    let head = read(address, slot);
    if !head.bit(0) {
        let word = head.to_be_bytes::<32>();
        let length = usize::from(word[31] >> 1);
        return word[..31].get(..length).map(<[u8]>::to_vec);
    }
    let length = usize::try_from(head >> 1)
        .ok()
        .filter(|n| *n <= BYTES_MAX)?;
    let first = content(slot);
    let mut bytes: Vec<u8> = (0..length.div_ceil(32))
        .flat_map(|i| read(address, first.wrapping_add(U256::from(i))).to_be_bytes::<32>())
        .collect();
    bytes.truncate(length);
    Some(bytes)
}

/// Slots of the elements of the array at `slot`.
pub(super) fn elements(
    address: Address,
    slot: U256,
    read: ReadSlot<'_>,
) -> impl Iterator<Item = U256> + use<> {
    let count = read(address, slot).saturating_to::<u64>().min(ELEMENTS_MAX);
    let first = content(slot);
    (0..count).map(move |i| first.wrapping_add(U256::from(i)))
}
