//! Block 0.

use crate::execute::ExecutedBlock;
use crate::header::{Sealed, genesis_header};
use crate::predeploys::{self, MULTIPLIER_INITIAL};
use crate::spec::{ChainSpec, Hardfork};
use crate::state::State;
use alloy_eips::{eip2935, eip4788};
use alloy_primitives::{Address, Bytes, U256, keccak256};
use penstock_rules::ids::{Height, ShardId};
use penstock_rules::model::ModelInfo;
use penstock_rules::state::{
    Account, AccountChange, CodeChange, EMPTY_CODE_HASH, SlotChange, StateDiff,
};
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
    /// Accounts beside the predeploys, or in the place of one.
    pub alloc: BTreeMap<Address, GenesisAccount>,
    /// Who may register models and shards.
    pub owner: Address,
    /// Shards whose attestations count.
    pub shards: Vec<ShardId>,
    /// Models that are there from the start.
    pub models: Vec<ModelInfo>,
}

/// The contracts of Ethereum's own that a block writes to (see [`crate::system`]), as of the hardfork.
pub(crate) fn system_contracts(spec: &ChainSpec) -> Vec<(Address, Bytes)> {
    let mut contracts = Vec::new();
    if spec.hardfork >= Hardfork::Cancun {
        contracts.push((
            eip4788::BEACON_ROOTS_ADDRESS,
            eip4788::BEACON_ROOTS_CODE.clone(),
        ));
    }
    if spec.hardfork >= Hardfork::Prague {
        contracts.push((
            eip2935::HISTORY_STORAGE_ADDRESS,
            eip2935::HISTORY_STORAGE_CODE.clone(),
        ));
    }
    contracts
}

fn accounts(genesis: &Genesis) -> BTreeMap<Address, GenesisAccount> {
    let inputs = predeploys::Inputs {
        owner: genesis.owner,
        shards: &genesis.shards,
        quorum: genesis.spec.quorum,
        models: &genesis.models,
        multiplier: MULTIPLIER_INITIAL,
    };
    let predeploys = predeploys::alloc(&inputs).into_iter().map(|predeploy| {
        let account = GenesisAccount {
            balance: U256::ZERO,
            nonce: predeploy.nonce,
            code: predeploy.code,
            storage: predeploy.slots.into_iter().collect(),
        };
        (predeploy.address, account)
    });
    let system = system_contracts(&genesis.spec)
        .into_iter()
        .map(|(address, code)| {
            let account = GenesisAccount {
                nonce: 1,
                code,
                ..GenesisAccount::default()
            };
            (address, account)
        });
    let own = genesis
        .alloc
        .iter()
        .map(|(address, account)| (*address, account.clone()));
    predeploys.chain(system).chain(own).collect()
}

/// Block 0: predeploys, registry entries as storage, and the accounts of the genesis file. It has no signature: every
/// process makes it from the same file, and its hash names the chain.
#[must_use]
pub fn genesis_block(genesis: &Genesis) -> ExecutedBlock {
    let mut diff = StateDiff::default();
    let mut codes = BTreeMap::new();
    for (address, account) in accounts(genesis) {
        let code_hash = if account.code.is_empty() {
            EMPTY_CODE_HASH
        } else {
            let hash = keccak256(&account.code);
            codes.insert(hash, account.code);
            hash
        };
        diff.accounts.push(AccountChange {
            address,
            now: vec![Account {
                nonce: account.nonce,
                balance: account.balance,
                code_hash,
            }],
            wiped: false,
        });
        diff.slots.extend(
            account
                .storage
                .into_iter()
                .filter(|(_, now)| !now.is_zero())
                .map(|(slot, now)| SlotChange { address, slot, now }),
        );
    }
    diff.codes = codes
        .into_iter()
        .map(|(hash, code)| CodeChange { hash, code })
        .collect();
    let mut state = State::empty();
    state.apply(&diff);
    let Sealed {
        header,
        hash,
        block,
    } = genesis_header(&genesis.spec, genesis.timestamp, state.root());
    state.push_block_hash(Height(0), hash);
    ExecutedBlock {
        header,
        hash,
        block,
        receipts: Vec::new(),
        senders: Vec::new(),
        zk: Vec::new(),
        diff,
        state,
    }
}
