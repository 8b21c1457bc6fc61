//! Calls that change nothing: `eth_call`, `eth_estimateGas`, `eth_createAccessList`, `debug_traceCall`.

use crate::attest::Attesters;
use crate::discover::{self, DiscoverLimits, Probed, probe};
use crate::overlay::{Backend, BackendError, Changes, View};
use crate::precompile::Stop;
use crate::results::Results;
use crate::run::{CALL_STIPEND, Checks, Manner, RunError, Scene, run_inspected};
use crate::spec::{BlockEnv, ChainSpec};
use crate::system;
use crate::trace::{Place, TraceError, Traced, Tracer, watch};
use alloy_primitives::{Address, B256, Bytes, Log, TxKind, U256};
use penstock_rules::message::GangRequest;
use penstock_rules::state::EMPTY_CODE_HASH;
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use revm::context_interface::transaction::{AccessList, AccessListItem};
use revm_inspectors::access_list::AccessListInspector;
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

/// Calls have no sender's credit to bound them, so they have the default bounds of a transaction.
pub(crate) const BOUNDS: DiscoverLimits = DiscoverLimits {
    rounds_per_tx: discover::ROUNDS_PER_TX_MAX,
    requests_per_tx: discover::REQUESTS_PER_TX_MAX,
    input_bytes_per_tx: discover::INPUT_BYTES_PER_TX_MAX,
    simulation_gas_per_lane: discover::SIMULATION_GAS_PER_LANE_MAX,
};

/// Runs of one access list: a list that is still not complete after these follows its own content, and never will be.
const ACCESS_LIST_RUNS_MAX: u32 = 32;

/// Estimates are as near as this, in parts of a thousand: geth's, which spares half of the runs of an exact search.
const ESTIMATE_ERROR_PERMILLE: u64 = 15;

/// Gas of a transfer to an account without code, with no data (yellow paper, G_transaction).
const TRANSFER_GAS: u64 = 21_000;

/// Runs a call on a state, in the environment `env`: that of the state's own block ([`crate::env_of`]), or of the next.
#[must_use]
pub fn call(
    state: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> CallOutcome {
    let outcome = Caller::new(state, spec, env, request, results)
        .map(|caller| caller.run(request, caller.gas_limit));
    outcome.unwrap_or_else(|error| CallOutcome::Invalid(error.to_string()))
}

/// Gas with which the call returns, as [`CallOutcome::Returned::gas_used`], at today's price of inference: the least for a
/// plain transfer, else at most 1.5 % more than the least. Any other outcome is that of the call with as much gas as it
/// may have.
#[must_use]
pub fn estimate(
    state: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> CallOutcome {
    match Caller::new(state, spec, env, request, results) {
        Ok(caller) => caller.estimate(request),
        Err(error) => CallOutcome::Invalid(error.to_string()),
    }
}

/// Runs a call as [`call`] does, and a tracer watches.
///
/// # Errors
/// What the call came to where it does not run to an end (an answer is missing, or it can't start).
pub fn trace_call(
    state: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
    tracer: &Tracer,
) -> Result<Traced, TraceError> {
    Caller::new(state, spec, env, request, results)?.trace(request, tracer)
}

/// What a call touches beside its caller, its callee and the precompiles.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessListed {
    /// By ascending address, slots ascending.
    pub list: Vec<(Address, Vec<B256>)>,
    /// Gas that the call uses with this list.
    pub gas_used: u64,
    /// Why the call fails, where it does.
    pub error: Option<String>,
}

/// The access list with which a call touches nothing else.
///
/// # Errors
/// What the call came to where it does not run to an end.
pub fn create_access_list(
    state: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> Result<AccessListed, CallOutcome> {
    Caller::new(state, spec, env, request, results)
        .map_err(|error| CallOutcome::Invalid(error.to_string()))?
        .access_list(request.clone())
}

pub(crate) struct Caller<'a> {
    pub(crate) state: &'a dyn Backend,
    spec: &'a ChainSpec,
    env: &'a BlockEnv,
    results: &'a dyn Results,
    attesters: Attesters,
    pub(crate) changes: Changes,
    pub(crate) gas_limit: u64,
}

impl<'a> Caller<'a> {
    pub(crate) fn new(
        state: &'a dyn Backend,
        spec: &'a ChainSpec,
        env: &'a BlockEnv,
        request: &CallRequest,
        results: &'a dyn Results,
    ) -> Result<Self, BackendError> {
        let mut changes = Changes::default();
        // On the state of the environment's own block this writes what is there already.
        system::begin(&mut changes, state, spec, env)?;
        for (address, other) in &request.overrides {
            apply(&mut changes, state, *address, other)?;
        }
        let mut gas_limit = spec.tx_gas_limit_max();
        gas_limit = request.gas.unwrap_or(gas_limit).min(gas_limit);
        if let Some(price) = request.gas_price.filter(|&price| price > 0) {
            let balance = changes
                .account(state, request.from)?
                .unwrap_or_default()
                .balance;
            let affordable = balance.saturating_sub(request.value) / U256::from(price);
            gas_limit = gas_limit.min(affordable.saturating_to());
        }
        Ok(Self {
            state,
            spec,
            env,
            results,
            attesters: Attesters::of(state)?,
            changes,
            gas_limit,
        })
    }

    pub(crate) fn tx(&self, request: &CallRequest, gas_limit: u64) -> TxEnv {
        TxEnv {
            tx_type: u8::from(!request.access_list.is_empty()),
            caller: request.from,
            gas_limit,
            gas_price: request.gas_price.unwrap_or_default(),
            kind: request.to.map_or(TxKind::Create, TxKind::Call),
            value: request.value,
            data: request.data.clone(),
            chain_id: Some(self.spec.chain_id),
            access_list: access_list(request),
            ..TxEnv::default()
        }
    }

    pub(crate) const fn scene(&self) -> Scene<'_> {
        Scene {
            spec: self.spec,
            env: self.env,
            attesters: &self.attesters,
            results: self.results,
        }
    }

    pub(crate) fn run(&self, request: &CallRequest, gas_limit: u64) -> CallOutcome {
        let tx = self.tx(request, gas_limit);
        match probe(
            self.scene(),
            self.state,
            &self.changes,
            &tx,
            BOUNDS.bounds(),
        ) {
            Ok(done) => outcome(done.result),
            Err(Probed::Missing(requests)) => CallOutcome::Missing { requests },
            Err(Probed::Failed(error)) => failed(error, gas_limit),
        }
    }

    /// Runs the call, with all its answers there, and a tracer that watches.
    fn trace(&self, request: &CallRequest, tracer: &Tracer) -> Result<Traced, TraceError> {
        let view = View {
            below: self.state,
            changes: &self.changes,
        };
        let tx = self.tx(request, self.gas_limit);
        let manner = Manner {
            checks: Checks::Call,
            ..Manner::EXECUTE
        };
        let place = Place {
            number: self.env.number.0,
            ..Place::default()
        };
        watch(self.scene(), view, tx, manner, tracer, place).map(|(_, traced)| traced)
    }

    /// Runs the call with ever longer lists, until a run touches nothing that is not listed.
    fn access_list(&self, mut request: CallRequest) -> Result<AccessListed, CallOutcome> {
        for _ in 0..ACCESS_LIST_RUNS_MAX {
            let outcome = self.run(&request, self.gas_limit);
            let (gas_used, error) = match &outcome {
                CallOutcome::Missing { .. } | CallOutcome::Invalid(_) => return Err(outcome),
                CallOutcome::Returned { gas_used, .. } => (*gas_used, None),
                CallOutcome::Reverted { gas_used, .. } => {
                    (*gas_used, Some("execution reverted".to_owned()))
                }
                CallOutcome::Halted { gas_used, reason } => (*gas_used, Some(reason.clone())),
            };
            let touched = self.touched(&request)?;
            if touched == request.access_list {
                return Ok(AccessListed {
                    list: touched,
                    gas_used,
                    error,
                });
            }
            request.access_list = touched;
        }
        Err(CallOutcome::Invalid(
            "what the call touches depends on its access list".into(),
        ))
    }

    /// Accounts and slots that a run touches, those of the request's own list included.
    fn touched(&self, request: &CallRequest) -> Result<Vec<(Address, Vec<B256>)>, CallOutcome> {
        let view = View {
            below: self.state,
            changes: &self.changes,
        };
        let manner = Manner {
            checks: Checks::Call,
            ..Manner::EXECUTE
        };
        let mut inspector = AccessListInspector::new(access_list(request));
        let tx = self.tx(request, self.gas_limit);
        let (done, _) = run_inspected(self.scene(), view, tx, manner, &mut inspector);
        done.map_err(|error| failed(error, self.gas_limit))?;
        let items = inspector.into_access_list().0.into_iter();
        Ok(items
            .map(|item| (item.address, item.storage_keys))
            .collect())
    }

    fn estimate(&self, request: &CallRequest) -> CallOutcome {
        let most = self.run(request, self.gas_limit);
        let CallOutcome::Returned { gas_used, .. } = &most else {
            return most;
        };
        // A plain transfer runs no code: wallets expect its cost to the gas, so that an account can be emptied.
        if *gas_used == TRANSFER_GAS {
            let exact = self.run(request, TRANSFER_GAS);
            if matches!(exact, CallOutcome::Returned { .. }) {
                return exact;
            }
        }
        // `fails` is too little, `enough` is enough. Refunds and what calls hold back (1/64) make the gas that is needed
        // more than the gas that is used, so the used gas with that on top is tried first.
        let mut fails = gas_used.saturating_sub(1);
        let mut enough = self.gas_limit;
        let mut tried = gas_used.saturating_add(CALL_STIPEND).saturating_mul(64) / 63;
        while fails.saturating_add(1) < enough
            && (enough - fails).saturating_mul(1_000)
                > enough.saturating_mul(ESTIMATE_ERROR_PERMILLE)
        {
            let gas = tried.clamp(fails + 1, enough - 1);
            match self.run(request, gas) {
                CallOutcome::Returned { .. } => enough = gas,
                _ => fails = gas,
            }
            tried = fails + (enough - fails) / 2;
        }
        match most {
            CallOutcome::Returned {
                output,
                logs,
                created,
                ..
            } => CallOutcome::Returned {
                output,
                gas_used: enough,
                logs,
                created,
            },
            other => other,
        }
    }
}

/// What a run came to that has no result of its own.
pub(crate) fn failed(error: RunError, gas_limit: u64) -> CallOutcome {
    match error {
        RunError::Stopped(Stop::FeeBelowMarket) => CallOutcome::Halted {
            reason: "out of gas: not enough for the inference at today's multiplier".into(),
            gas_used: gas_limit,
        },
        RunError::Stopped(_) => {
            CallOutcome::Invalid("too many inference requests in one call".into())
        }
        RunError::BaseFee => CallOutcome::Invalid("gas price is below the base fee".into()),
        RunError::Invalid(why) => CallOutcome::Invalid(why),
    }
}

fn access_list(request: &CallRequest) -> AccessList {
    let items = request.access_list.iter();
    AccessList(
        items
            .map(|(address, storage_keys)| AccessListItem {
                address: *address,
                storage_keys: storage_keys.clone(),
            })
            .collect(),
    )
}

pub(crate) fn apply(
    changes: &mut Changes,
    state: &dyn Backend,
    address: Address,
    other: &AccountOverride,
) -> Result<(), BackendError> {
    let mut account = changes.account(state, address)?.unwrap_or_default();
    account.balance = other.balance.unwrap_or(account.balance);
    account.nonce = other.nonce.unwrap_or(account.nonce);
    if let Some(code) = &other.code {
        account.code_hash = if code.is_empty() {
            EMPTY_CODE_HASH
        } else {
            changes.add_code(code.clone())
        };
    }
    changes.set_account(address, account);
    if let Some(slots) = &other.state {
        changes.wipe(address);
        for (slot, value) in slots {
            changes.set_slot(address, *slot, *value);
        }
    }
    for (slot, value) in &other.state_diff {
        changes.set_slot(address, *slot, *value);
    }
    Ok(())
}

pub(crate) fn outcome(result: ExecutionResult) -> CallOutcome {
    let gas_used = result.tx_gas_used();
    match result {
        ExecutionResult::Success { logs, output, .. } => CallOutcome::Returned {
            created: output.address().copied(),
            output: output.into_data(),
            gas_used,
            logs,
        },
        ExecutionResult::Revert { output, .. } => CallOutcome::Reverted { output, gas_used },
        ExecutionResult::Halt { reason, .. } => CallOutcome::Halted {
            reason: format!("{reason:?}"),
            gas_used,
        },
    }
}
