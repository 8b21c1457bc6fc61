//! `eth_simulateV1`: blocks that might follow a state, with calls in them, none of which stays.
//!
//! <https://ethereum.github.io/execution-apis/api/methods/eth_simulateV1>. Blocks stand on each other; a gap of numbers is
//! filled with empty ones. Without validation a call needs neither nonce nor fee, as in `eth_call`; with it, it is
//! checked as in a block. Its transaction is that of an account without a key ([`crate::dev::impersonated`]).

use crate::attest::Attesters;
use crate::call::{AccountOverride, BOUNDS, CallOutcome, apply, outcome};
use crate::dev;
use crate::discover::{Probed, probe};
use crate::header::{self, Contents, Sealed};
use crate::market;
use crate::overlay::{Changes, View};
use crate::precompile::Stop;
use crate::recover::{environment, initcode_max, intrinsic_gas};
use crate::results::Results;
use crate::run::{Checks, Manner, RunError, Scene, run_inspected};
use crate::spec::{BlockEnv, ChainSpec, next_env};
use crate::state::State;
use crate::system;
use alloy_consensus::{Header, Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, Log, U256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use penstock_rules::ids::{Height, Igas};
use penstock_rules::message::GangRequest;
use penstock_rules::state::{Account, EMPTY_CODE_HASH, Receipt};
use revm_inspectors::transfer::TransferInspector;
use std::collections::BTreeMap;

/// Blocks of one simulation at most, those that fill gaps included; the specification's.
pub const SIMULATED_BLOCKS_MAX: u64 = 256;
/// Gas of all blocks of one simulation at most: about a second of this machine's EVM.
pub const SIMULATED_GAS_MAX: u64 = 500_000_000;
/// Seconds from one simulated block to the next, where nobody says: a slot of mainnet's, as the specification has it.
const BLOCK_SECS: u64 = 12;

/// A block to simulate.
#[derive(Clone, Debug, Default)]
pub struct SimulateBlock {
    /// How its environment is other than that of the next block.
    pub env: BlockOverrides,
    /// How accounts are other than in the state, from this block on.
    pub accounts: BTreeMap<Address, AccountOverride>,
    /// Its calls, in order.
    pub calls: Vec<TransactionRequest>,
}

/// Whether calls are checked as transactions of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Validation {
    /// Nonce, fees and funds have to be right.
    Yes,
    /// Calls as `eth_call` has them.
    No,
}

/// Whether transfers of ether show as logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TransferLogs {
    /// As `Transfer` of the address `0xeeee…`.
    Yes,
    /// What contracts log is all.
    No,
}

/// A simulated block.
#[derive(Clone, Debug)]
pub struct Simulated {
    /// Its header.
    pub header: Header,
    /// Its hash.
    pub hash: alloy_primitives::B256,
    /// Its transactions.
    pub transactions: Vec<TxEnvelope>,
    /// In whose name.
    pub senders: Vec<Address>,
    /// What each came to: never [`CallOutcome::Missing`] or [`CallOutcome::Invalid`].
    pub calls: Vec<CallOutcome>,
}

/// Why there is no simulation.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SimulateError {
    /// It waits for these answers: simulate again when they are settled.
    #[error("{} answers are missing", .0.len())]
    Missing(Vec<GangRequest>),
    /// Block numbers do not grow.
    #[error("block numbers must be in order: {number} <= {parent}")]
    Number {
        /// Asked for.
        number: u64,
        /// The block's before.
        parent: u64,
    },
    /// Timestamps do not grow.
    #[error("block timestamps must be in order: {time} <= {parent}")]
    Time {
        /// Asked for, in seconds.
        time: u64,
        /// The block's before, in seconds.
        parent: u64,
    },
    /// More blocks than one simulation may have.
    #[error("too many blocks: limit {SIMULATED_BLOCKS_MAX}")]
    TooManyBlocks,
    /// More gas than one simulation may use.
    #[error("simulation uses more than {SIMULATED_GAS_MAX} gas")]
    TooMuchGas,
    /// The nonce was used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's.
        next: u64,
        /// The call's.
        nonce: u64,
    },
    /// The nonce is ahead.
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh {
        /// The account's.
        next: u64,
        /// The call's.
        nonce: u64,
    },
    /// The fee does not cover the base fee.
    #[error("max fee per gas less than block base fee: maxFeePerGas {fee}, baseFee {base_fee}")]
    BaseFee {
        /// The call's, wei per gas.
        fee: u128,
        /// The block's, wei per gas.
        base_fee: u64,
    },
    /// Less gas than the envelope costs.
    #[error("intrinsic gas too low: have {have}, want {want}")]
    IntrinsicGas {
        /// The call's.
        have: u64,
        /// The least.
        want: u64,
    },
    /// The sender can't pay.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    Funds {
        /// Wei.
        balance: U256,
        /// Wei.
        cost: U256,
    },
    /// More gas than the block has left.
    #[error("block gas limit reached: {left} < {gas}")]
    BlockGas {
        /// What is left.
        left: u64,
        /// The call's.
        gas: u64,
    },
    /// The sender has code.
    #[error("sender {0} is not an externally owned account")]
    SenderHasCode(Address),
    /// Code that makes a contract is too long.
    #[error("max initcode size exceeded: {size} bytes")]
    InitCode {
        /// Bytes.
        size: usize,
    },
    /// The call is no transaction that can be built, or it can't run.
    #[error("{0}")]
    Invalid(String),
}

/// Simulates blocks behind `parent`, whose state `state` is.
///
/// # Errors
/// The first reason why one of them can't be.
pub fn simulate(
    state: &State,
    spec: &ChainSpec,
    parent: &Header,
    blocks: &[SimulateBlock],
    validation: Validation,
    transfers: TransferLogs,
    results: &dyn Results,
) -> Result<Vec<Simulated>, SimulateError> {
    let mut simulation = Simulation {
        spec,
        validation,
        transfers,
        results,
        state: state.clone(),
        parent: parent.clone(),
        gas_left: SIMULATED_GAS_MAX,
        done: Vec::new(),
    };
    for block in blocks {
        simulation.fill_gap(block)?;
        simulation.block(block)?;
    }
    Ok(simulation.done)
}

struct Simulation<'a> {
    spec: &'a ChainSpec,
    validation: Validation,
    transfers: TransferLogs,
    results: &'a dyn Results,
    state: State,
    parent: Header,
    gas_left: u64,
    done: Vec<Simulated>,
}

/// What a block under construction has.
#[derive(Default)]
struct Open {
    changes: Changes,
    gas_used: u64,
    inference_gas: u64,
    igas: Igas,
    transactions: Vec<TxEnvelope>,
    senders: Vec<Address>,
    receipts: Vec<Receipt>,
    calls: Vec<CallOutcome>,
}

impl Simulation<'_> {
    /// Makes the empty blocks between the last one and this.
    fn fill_gap(&mut self, block: &SimulateBlock) -> Result<(), SimulateError> {
        let next = self.parent.number + 1;
        let number = block
            .env
            .number
            .map_or(next, |number| number.saturating_to());
        if number < next {
            let parent = self.parent.number;
            return Err(SimulateError::Number { number, parent });
        }
        let made = self.done.len() as u64;
        if number - next >= SIMULATED_BLOCKS_MAX.saturating_sub(made) {
            return Err(SimulateError::TooManyBlocks);
        }
        for _ in next..number {
            self.block(&SimulateBlock::default())?;
        }
        Ok(())
    }

    fn env(&self, over: &BlockOverrides) -> Result<BlockEnv, SimulateError> {
        let parent = self.parent.timestamp;
        let timestamp = over.time.unwrap_or(parent.saturating_add(BLOCK_SECS));
        if timestamp <= parent {
            let time = timestamp;
            return Err(SimulateError::Time { time, parent });
        }
        let env = next_env(self.spec, &self.state, &self.parent, timestamp);
        let free = match self.validation {
            Validation::Yes => env.base_fee,
            Validation::No => 0,
        };
        Ok(BlockEnv {
            base_fee: over.base_fee.map_or(free, |fee| fee.saturating_to()),
            gas_limit: over.gas_limit.unwrap_or(env.gas_limit),
            coinbase: over.coinbase.unwrap_or(env.coinbase),
            prevrandao: over.random.unwrap_or(env.prevrandao),
            ..env
        })
    }

    fn block(&mut self, block: &SimulateBlock) -> Result<(), SimulateError> {
        let env = self.env(&block.env)?;
        let mut open = Open::default();
        let memory = "a state in memory can be read";
        system::begin(&mut open.changes, &self.state, self.spec, &env).expect(memory);
        dev::use_settings(&mut open.changes, &self.state);
        for (address, other) in &block.accounts {
            apply(&mut open.changes, &self.state, *address, other).expect(memory);
        }
        let attesters = Attesters::of(&self.state).expect(memory);
        for call in &block.calls {
            self.call(&mut open, &env, &attesters, call)?;
        }
        self.seal(open, &env);
        Ok(())
    }

    fn call(
        &mut self,
        open: &mut Open,
        env: &BlockEnv,
        attesters: &Attesters,
        request: &TransactionRequest,
    ) -> Result<(), SimulateError> {
        let from = request.from.unwrap_or_default();
        let account = open.changes.account(&self.state, from);
        let account = account.ok().flatten().unwrap_or_default();
        let envelope = self.envelope(request, from, &account, env, open.gas_used)?;
        if self.validation == Validation::Yes {
            self.validate(&envelope, from, &account, env)?;
        }
        let tx = environment(&envelope, from);
        let scene = Scene {
            spec: self.spec,
            env,
            attesters,
            results: self.results,
        };
        probe(scene, &self.state, &open.changes, &tx, BOUNDS.bounds()).map_err(
            |found| match found {
                Probed::Missing(requests) => SimulateError::Missing(requests),
                Probed::Failed(error) => failed(error, &envelope, env),
            },
        )?;
        let manner = Manner {
            checks: match self.validation {
                Validation::Yes => Checks::Impersonated,
                Validation::No => Checks::Call,
            },
            ..Manner::EXECUTE
        };
        let view = View {
            below: &self.state,
            changes: &open.changes,
        };
        let logs = self.transfers == TransferLogs::Yes;
        let mut inspector = TransferInspector::new(false).with_logs(logs);
        let (done, trace) = run_inspected(scene, view, tx, manner, &mut inspector);
        let done = done.map_err(|error| failed(error, &envelope, env))?;
        let (gas, success) = (done.result.tx_gas_used(), done.result.is_success());
        self.gas_left = self
            .gas_left
            .checked_sub(gas)
            .ok_or(SimulateError::TooMuchGas)?;
        open.gas_used += gas;
        open.inference_gas += trace.inference_gas;
        open.igas = open.igas.saturating_add(trace.igas);
        open.changes.commit(done.state);
        let logs: &[Log] = if success { done.result.logs() } else { &[] };
        open.receipts.push(Receipt {
            tx_hash: *envelope.tx_hash(),
            tx_type: envelope.tx_type() as u8,
            success,
            gas_used: gas,
            cumulative_gas_used: open.gas_used,
            inference_gas_used: trace.inference_gas,
            effective_gas_price: envelope.effective_gas_price(Some(env.base_fee)),
            from,
            logs: logs.to_vec(),
            output: Default::default(),
            contract_address: None,
        });
        open.calls.push(outcome(done.result));
        open.transactions.push(envelope);
        open.senders.push(from);
        Ok(())
    }

    /// The transaction of a call, with what it leaves out.
    fn envelope(
        &self,
        request: &TransactionRequest,
        from: Address,
        account: &Account,
        env: &BlockEnv,
        gas_used: u64,
    ) -> Result<TxEnvelope, SimulateError> {
        let left = env.gas_limit.saturating_sub(gas_used);
        let gas = match request.gas {
            Some(gas) if gas > left => return Err(SimulateError::BlockGas { left, gas }),
            Some(gas) => gas,
            None => left.min(self.spec.tx_gas_limit_max()),
        };
        let mut request = request.clone();
        if request.blob_versioned_hashes.is_some() || request.sidecar.is_some() {
            return Err(SimulateError::Invalid(
                "blob transactions are not supported".into(),
            ));
        }
        request.from = Some(from);
        request.gas = Some(gas.min(self.gas_left));
        request.nonce.get_or_insert(account.nonce);
        request.chain_id.get_or_insert(self.spec.chain_id);
        request.to.get_or_insert(alloy_primitives::TxKind::Create);
        if request.gas_price.is_none() {
            let tip = request.max_priority_fee_per_gas.unwrap_or(0);
            request.max_priority_fee_per_gas = Some(tip);
            request.max_fee_per_gas.get_or_insert(tip);
        }
        let typed = request.build_typed_tx().map_err(|_| {
            SimulateError::Invalid("fields of different transaction types are mixed".into())
        })?;
        Ok(dev::impersonated(typed, from))
    }

    /// What a block checks of a transaction.
    fn validate(
        &self,
        envelope: &TxEnvelope,
        from: Address,
        account: &Account,
        env: &BlockEnv,
    ) -> Result<(), SimulateError> {
        let (next, nonce) = (account.nonce, envelope.nonce());
        if nonce < next {
            return Err(SimulateError::NonceTooLow { next, nonce });
        }
        if nonce > next {
            return Err(SimulateError::NonceTooHigh { next, nonce });
        }
        let delegated = account.code_hash != EMPTY_CODE_HASH
            && self.state.bytecode(account.code_hash).is_eip7702();
        if account.code_hash != EMPTY_CODE_HASH && !delegated {
            return Err(SimulateError::SenderHasCode(from));
        }
        let (fee, base_fee) = (envelope.max_fee_per_gas(), env.base_fee);
        if fee < u128::from(base_fee) {
            return Err(SimulateError::BaseFee { fee, base_fee });
        }
        let size = envelope.input().len();
        if envelope.is_create() && size > initcode_max(self.spec) {
            return Err(SimulateError::InitCode { size });
        }
        let have = envelope.gas_limit();
        let want = intrinsic_gas(&environment(envelope, from), self.spec);
        if have < want {
            return Err(SimulateError::IntrinsicGas { have, want });
        }
        let gas = U256::from(have).saturating_mul(U256::from(fee));
        let (balance, cost) = (account.balance, gas.saturating_add(envelope.value()));
        if balance < cost {
            return Err(SimulateError::Funds { balance, cost });
        }
        Ok(())
    }

    fn seal(&mut self, mut open: Open, env: &BlockEnv) {
        market::settle(
            &mut open.changes,
            &self.state,
            open.igas,
            self.spec.igas_limit,
            open.inference_gas,
        )
        .expect("a state in memory can be read");
        let diff = open.changes.diff(&self.state);
        self.state.apply(&diff);
        let raw = open.transactions.iter().map(|tx| tx.encoded_2718().into());
        let Sealed { header, hash, .. } = header::seal(
            self.spec,
            env,
            Contents {
                transactions: raw.collect(),
                receipts: &open.receipts,
                witness: Vec::new(),
                state_root: self.state.root(),
            },
        );
        self.state.push_block_hash(Height(header.number), hash);
        self.parent = header.clone();
        self.done.push(Simulated {
            header,
            hash,
            transactions: open.transactions,
            senders: open.senders,
            calls: open.calls,
        });
    }
}

/// Why a call does not run that passed its checks, or had none.
fn failed(error: RunError, envelope: &TxEnvelope, env: &BlockEnv) -> SimulateError {
    match error {
        RunError::Stopped(Stop::FeeBelowMarket) => SimulateError::Invalid(
            "out of gas: not enough for the inference at today's multiplier".into(),
        ),
        RunError::Stopped(_) => {
            SimulateError::Invalid("too many inference requests in one call".into())
        }
        RunError::BaseFee => SimulateError::BaseFee {
            fee: envelope.max_fee_per_gas(),
            base_fee: env.base_fee,
        },
        RunError::Invalid(why) => SimulateError::Invalid(why),
    }
}
