//! Keys of the one tree that holds the chain. The first byte says what a record is; heights are big-endian, so keys
//! sort by them.

use alloy_primitives::{Address, B256, U256};
use penstock_rules::ids::Height;

/// What a record is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Kind {
    /// The head: no more key. Value: height, hash.
    Head = 1,
    /// The lowest height whose state can be read: no more key. Value: height.
    Horizon = 2,
    /// Value of a node's own, by name.
    Meta = 3,
    /// Block by height.
    Block = 4,
    /// Receipts by height.
    Receipts = 5,
    /// Height by block hash.
    HeightOf = 6,
    /// Height and index by transaction hash.
    Tx = 7,
    /// Code by hash.
    Code = 8,
    /// Account by address and height; empty where it is gone.
    Account = 9,
    /// Value by address, slot and height; empty where it is zero.
    Slot = 10,
    /// By address and height: all its older slots are gone.
    Wipe = 11,
    /// By height and key: what may be deleted once that height is the horizon.
    Superseded = 12,
    /// Block hash by height: short, for `BLOCKHASH`.
    HashOf = 13,
}

pub(crate) fn key(kind: Kind, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::with_capacity(1 + parts.iter().map(|p| p.len()).sum::<usize>());
    out.push(kind as u8);
    for part in parts {
        out.extend_from_slice(part);
    }
    out
}

pub(crate) fn at(kind: Kind, height: Height) -> Vec<u8> {
    key(kind, &[&height.0.to_be_bytes()])
}

/// An account's versions have this prefix.
pub(crate) fn account(address: Address) -> Vec<u8> {
    key(Kind::Account, &[&address[..]])
}

/// A slot's versions have this prefix.
pub(crate) fn slot(address: Address, slot: U256) -> Vec<u8> {
    key(Kind::Slot, &[&address[..], &slot.to_be_bytes::<32>()])
}

/// All slots of an address have this prefix.
pub(crate) fn slots(address: Address) -> Vec<u8> {
    key(Kind::Slot, &[&address[..]])
}

/// An address's wipes have this prefix.
pub(crate) fn wipe(address: Address) -> Vec<u8> {
    key(Kind::Wipe, &[&address[..]])
}

/// Bytes of a height at the end of a key.
pub(crate) const HEIGHT_BYTES: usize = 8;

/// The version of `prefix` at `height`.
pub(crate) fn version(prefix: &[u8], height: Height) -> Vec<u8> {
    [prefix, &height.0.to_be_bytes()].concat()
}

/// The height at the end of a key, and what is before it.
pub(crate) fn split_version(key: &[u8]) -> Option<(&[u8], Height)> {
    let (prefix, height) = key.split_last_chunk::<HEIGHT_BYTES>()?;
    Some((prefix, Height(u64::from_be_bytes(*height))))
}

pub(crate) fn tx(hash: B256) -> Vec<u8> {
    key(Kind::Tx, &[&hash[..]])
}

pub(crate) fn code(hash: B256) -> Vec<u8> {
    key(Kind::Code, &[&hash[..]])
}

pub(crate) fn height_of(hash: B256) -> Vec<u8> {
    key(Kind::HeightOf, &[&hash[..]])
}
