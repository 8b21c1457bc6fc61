//! What a block does to the state, as the store keeps it.

use crate::ids::{Height, TxHash};
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use alloy_rlp::{RlpDecodable, RlpEncodable};
use serde::{Deserialize, Serialize};

/// An account, without its storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, RlpEncodable, RlpDecodable)]
pub struct Account {
    /// Transactions sent, or contracts made.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// keccak256 of the code; that of nothing for plain accounts.
    pub code_hash: B256,
}

/// keccak256 of nothing.
pub const EMPTY_CODE_HASH: B256 = alloy_primitives::KECCAK256_EMPTY;

impl Default for Account {
    fn default() -> Self {
        Self {
            nonce: 0,
            balance: U256::ZERO,
            code_hash: EMPTY_CODE_HASH,
        }
    }
}

/// An account that a block changed.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct AccountChange {
    /// Which.
    pub address: Address,
    /// 0 items: it is gone. 1 item: what it is now.
    pub now: Vec<Account>,
    /// All its earlier storage is gone (it was destroyed, perhaps made anew): apply before its slots.
    pub wiped: bool,
}

/// A storage slot that a block changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct SlotChange {
    /// Whose storage.
    pub address: Address,
    /// Which slot.
    pub slot: U256,
    /// What it holds now; zero means it is gone.
    pub now: U256,
}

/// New contract code.
#[derive(Clone, Debug, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct CodeChange {
    /// keccak256 of the code.
    pub hash: B256,
    /// The code.
    pub code: Bytes,
}

/// All that a block changed, by ascending address and slot.
#[derive(Clone, Debug, Default, PartialEq, Eq, RlpEncodable, RlpDecodable)]
pub struct StateDiff {
    /// Accounts.
    pub accounts: Vec<AccountChange>,
    /// Storage.
    pub slots: Vec<SlotChange>,
    /// Code that no account had before.
    pub codes: Vec<CodeChange>,
}

/// A receipt, with what an RPC answer needs beside the consensus fields.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, RlpEncodable, RlpDecodable)]
#[rlp(trailing)]
pub struct Receipt {
    /// Whose.
    pub tx_hash: TxHash,
    /// EIP-2718 type.
    pub tx_type: u8,
    /// Whether execution succeeded.
    pub success: bool,
    /// Gas of this transaction.
    pub gas_used: u64,
    /// Gas of the block up to and with this transaction.
    pub cumulative_gas_used: u64,
    /// Part of `gas_used` that paid for inference.
    pub inference_gas_used: u64,
    /// Wei per gas.
    pub effective_gas_price: u128,
    /// Sender.
    pub from: Address,
    /// Logs, in order.
    pub logs: Vec<Log>,
    /// Return data of a top-level call, or revert data: what a client shows.
    pub output: Bytes,
    /// The contract that was made.
    pub contract_address: Option<Address>,
}

/// Reads of the state as it is after some block.
pub trait StateRead {
    /// Why a read failed.
    type Error;

    /// The account, where there is one.
    ///
    /// # Errors
    /// As the implementation says.
    fn account(&self, address: Address) -> Result<Option<Account>, Self::Error>;

    /// The slot's value; zero where there is none.
    ///
    /// # Errors
    /// As the implementation says.
    fn slot(&self, address: Address, slot: U256) -> Result<U256, Self::Error>;

    /// Code by hash.
    ///
    /// # Errors
    /// As the implementation says, and where no such code is known.
    fn code(&self, hash: B256) -> Result<Bytes, Self::Error>;

    /// Hash of an earlier block; zero where it is unknown.
    ///
    /// # Errors
    /// As the implementation says.
    fn block_hash(&self, height: Height) -> Result<B256, Self::Error>;
}
