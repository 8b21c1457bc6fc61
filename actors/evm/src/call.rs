//! Calls that change nothing: `eth_call`, `eth_estimateGas`.

use crate::results::Results;
use crate::spec::{BlockEnv, ChainSpec};
use crate::state::State;
use alloy_primitives::{Address, B256, Bytes, Log, U256};
use penstock_rules::message::GangRequest;
use std::collections::BTreeMap;

/// What to call.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallRequest {
    /// Caller; zero where none is given. It need not have a key.
    pub from: Address,
    /// Callee; none makes a contract.
    pub to: Option<Address>,
    /// Wei. Checked against the caller's balance.
    pub value: U256,
    /// Calldata.
    pub data: Bytes,
    /// Gas limit; where none is given, the most that a transaction may have.
    pub gas: Option<u64>,
    /// Wei per gas; where none is given, gas costs nothing.
    pub gas_price: Option<u128>,
    /// EIP-2930 access list.
    pub access_list: Vec<(Address, Vec<B256>)>,
    /// Accounts that are other than in the state.
    pub overrides: BTreeMap<Address, AccountOverride>,
}

/// How an account is other than in the state.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountOverride {
    /// Wei.
    pub balance: Option<U256>,
    /// Nonce.
    pub nonce: Option<u64>,
    /// Code.
    pub code: Option<Bytes>,
    /// The whole storage.
    pub state: Option<BTreeMap<U256, U256>>,
    /// Slots in the storage that there is.
    pub state_diff: BTreeMap<U256, U256>,
}

/// What a call came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum CallOutcome {
    /// It returned.
    Returned {
        /// Return data; of a creation, the code.
        output: Bytes,
        /// Gas used.
        gas_used: u64,
        /// Logs.
        logs: Vec<Log>,
        /// The contract that it would make.
        created: Option<Address>,
    },
    /// It reverted.
    Reverted {
        /// Revert data.
        output: Bytes,
        /// Gas used.
        gas_used: u64,
    },
    /// It ended exceptionally (out of gas, invalid opcode).
    Halted {
        /// Why, in words.
        reason: String,
        /// Gas used.
        gas_used: u64,
    },
    /// It waits for these: call again when they are settled.
    Missing {
        /// Never empty.
        requests: Vec<GangRequest>,
    },
    /// It can't run.
    Invalid(String),
}

/// Runs a call on `state`, in the environment `env`.
#[must_use]
pub fn call(
    state: &State,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> CallOutcome {
    let _ = (state, spec, env, request, results);
    CallOutcome::Invalid(String::new())
}

/// The least gas with which the call returns, as [`CallOutcome::Returned::gas_used`]. Any other outcome is that of the
/// call with as much gas as it may have.
#[must_use]
pub fn estimate(
    state: &State,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> CallOutcome {
    call(state, spec, env, request, results)
}
