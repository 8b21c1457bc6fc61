//! Execution with a witness: a block is built transaction by transaction, and a transaction that can't be in it leaves
//! no trace.

use crate::attest::Attesters;
use crate::dev::{self, DevError};
use crate::header::{self, Contents, Sealed};
use crate::market;
use crate::overlay::{Changes, View};
use crate::precompile::{Stop, Trace};
use crate::recover::tx_env;
use crate::results::Results;
use crate::run::{Done, Manner, RunError, Scene, run};
use crate::spec::{BlockEnv, ChainSpec};
use crate::state::State;
use crate::system;
use alloy_consensus::Header;
use alloy_eips::eip1559::calc_effective_gas_price;
use alloy_primitives::{Address, B256, Bytes};
use penstock_rules::block::{Block, WitnessEntry};
use penstock_rules::dev::Privileged;
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::request::{Mode, Request};
use penstock_rules::state::{Receipt, StateDiff};
use penstock_rules::tx::PoolTx;
use revm::context::TxEnv;
use revm::context::result::ExecutionResult;
use std::collections::HashSet;

/// A block, with all that follows from it.
#[derive(Clone, Debug)]
pub struct ExecutedBlock {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// The entry of the log. A built block's signature is empty until the producer signs [`ExecutedBlock::hash`].
    pub block: Block,
    /// One per transaction.
    pub receipts: Vec<Receipt>,
    /// One per transaction.
    pub senders: Vec<Address>,
    /// Requests of mode ZK that it consumed, each once: who holds their models computes them again.
    pub zk: Vec<Request>,
    /// What the block changed.
    pub diff: StateDiff,
    /// The state after it.
    pub state: State,
}

/// Why a transaction is not in the block. Nothing of it is left in the builder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// At this place the transaction asks for a request whose result is not there (or lacks attestations).
    #[error("result of request {0} is missing")]
    Missing(RequestKey),
    /// Gas limit or fee is too low for the multiplier or base fee.
    #[error("gas limit or fee is below the market")]
    FeeBelowMarket,
    /// It fits in no space left of this block: gas, execution gas, or inference units.
    #[error("no room left in the block")]
    NoRoom,
    /// It can't be executed on this state.
    #[error("invalid transaction: {0}")]
    Invalid(String),
}

impl From<RunError> for PushError {
    fn from(error: RunError) -> Self {
        match error {
            RunError::Stopped(Stop::Missing(key)) => Self::Missing(key),
            RunError::Stopped(Stop::FeeBelowMarket) | RunError::BaseFee => Self::FeeBelowMarket,
            RunError::Stopped(Stop::TooMany) => Self::Invalid("too many requests".into()),
            RunError::Invalid(why) => Self::Invalid(why),
        }
    }
}

/// What the block has used of each of its limits.
#[derive(Clone, Copy, Debug, Default)]
struct Used {
    gas: u64,
    inference_gas: u64,
    igas: Igas,
}

/// A block under construction.
#[derive(Debug)]
pub struct BlockBuilder {
    spec: ChainSpec,
    env: BlockEnv,
    below: State,
    attesters: Attesters,
    changes: Changes,
    used: Used,
    transactions: Vec<Bytes>,
    senders: Vec<Address>,
    receipts: Vec<Receipt>,
    witness: Vec<WitnessEntry>,
    witnessed: HashSet<RequestKey>,
    zk: Vec<Request>,
}

impl BlockBuilder {
    /// Starts the block that `env` describes on the state of its parent.
    ///
    /// # Panics
    /// Never: the head's state is in memory and can be read.
    #[must_use]
    pub fn new(state: State, spec: &ChainSpec, env: BlockEnv) -> Self {
        let mut builder = Self::begin(state, spec, env);
        dev::use_settings(&mut builder.changes, &builder.below);
        builder
    }

    /// Starts a block with a privileged entry, which comes into force before its first transaction. Its timestamp is the
    /// entry's.
    ///
    /// # Errors
    /// Where this chain does not take the entry.
    pub fn privileged(
        state: State,
        spec: &ChainSpec,
        env: BlockEnv,
        entry: &Privileged,
    ) -> Result<Self, DevError> {
        dev::check(entry, spec, 0)?;
        let env = BlockEnv {
            timestamp: entry.timestamp_secs,
            ..env
        };
        let mut builder = Self::begin(state, spec, env);
        if !entry.own {
            dev::use_settings(&mut builder.changes, &builder.below);
        }
        dev::apply(&mut builder.changes, &builder.below, &entry.diff)?;
        builder.witness.push(entry.entry());
        Ok(builder)
    }

    fn begin(state: State, spec: &ChainSpec, env: BlockEnv) -> Self {
        let mut changes = Changes::default();
        system::begin(&mut changes, &state, spec, &env).expect("the head's state is in memory");
        Self {
            spec: spec.clone(),
            attesters: Attesters::of(&state).expect("the head's state is in memory"),
            env,
            below: state,
            changes,
            used: Used::default(),
            transactions: Vec::new(),
            senders: Vec::new(),
            receipts: Vec::new(),
            witness: Vec::new(),
            witnessed: HashSet::new(),
            zk: Vec::new(),
        }
    }

    /// Executes a transaction as the next of the block.
    ///
    /// # Errors
    /// The transaction is not in the block, and nothing of it is left.
    pub fn push(&mut self, tx: &PoolTx, results: &dyn Results) -> Result<Receipt, PushError> {
        if tx.gas_limit > self.env.gas_limit.saturating_sub(self.used.gas) {
            return Err(PushError::NoRoom);
        }
        let (env, checks) =
            tx_env(tx, &self.spec).map_err(|why| PushError::Invalid(why.to_string()))?;
        let manner = Manner {
            checks,
            ..Manner::EXECUTE
        };
        let scene = Scene {
            spec: &self.spec,
            env: &self.env,
            attesters: &self.attesters,
            results,
        };
        let view = View {
            below: &self.below,
            changes: &self.changes,
        };
        let (done, trace) = run(scene, view, env.clone(), manner);
        let Done { result, state } = done?;
        let used = self.used_after(&result, &trace)?;
        let receipt = self.receipt(tx, &env, result, &trace, used);

        // From here on nothing fails: the transaction is in the block.
        self.changes.commit(state);
        self.used = used;
        self.transactions.push(tx.raw.clone());
        self.senders.push(tx.sender);
        self.receipts.push(receipt.clone());
        for used in trace.used {
            let Some(settled) = used.settled else {
                continue;
            };
            if self.witnessed.insert(settled.key) {
                if used.request.mode == Mode::Zk {
                    self.zk.push(used.request);
                }
                self.witness.push(WitnessEntry {
                    key: settled.key,
                    outcome: settled.outcome.clone(),
                    attestations: settled.attestations.clone(),
                });
            }
        }
        Ok(receipt)
    }

    /// What the block has used with this transaction. Execution and inference have their own space of the block's gas,
    /// so neither can crowd the other out, and inference is bounded by its units as well.
    fn used_after(&self, result: &ExecutionResult, trace: &Trace) -> Result<Used, PushError> {
        let add = |a: u64, b: u64| a.checked_add(b).ok_or(PushError::NoRoom);
        let used = Used {
            gas: add(self.used.gas, result.tx_gas_used())?,
            inference_gas: add(self.used.inference_gas, trace.inference_gas)?,
            igas: Igas(add(self.used.igas.0, trace.igas.0)?),
        };
        let fits = used.gas <= self.env.gas_limit
            && used.gas.saturating_sub(used.inference_gas) <= self.spec.execution_gas_limit
            && used.inference_gas <= self.spec.inference_gas_limit()
            && used.igas <= self.spec.igas_limit;
        fits.then_some(used).ok_or(PushError::NoRoom)
    }

    fn receipt(
        &self,
        tx: &PoolTx,
        env: &TxEnv,
        result: ExecutionResult,
        trace: &Trace,
        used: Used,
    ) -> Receipt {
        let success = result.is_success();
        Receipt {
            tx_hash: tx.hash,
            tx_type: env.tx_type,
            success,
            gas_used: result.tx_gas_used(),
            cumulative_gas_used: used.gas,
            inference_gas_used: trace.inference_gas,
            effective_gas_price: calc_effective_gas_price(
                env.gas_price,
                env.gas_priority_fee.unwrap_or(env.gas_price),
                Some(self.env.base_fee),
            ),
            from: tx.sender,
            contract_address: result.created_address(),
            // revm also tells the logs of reverted executions; a receipt has none of them.
            logs: if success {
                result.logs().to_vec()
            } else {
                Vec::new()
            },
            output: result.into_output().unwrap_or_default(),
        }
    }

    /// Inference units used so far.
    #[must_use]
    pub fn igas_used(&self) -> Igas {
        self.used.igas
    }

    /// Gas used so far, inference included.
    #[must_use]
    pub fn gas_used(&self) -> u64 {
        self.used.gas
    }

    /// Transactions so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.transactions.len()
    }

    /// Whether there are no transactions yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.transactions.is_empty()
    }

    /// Finishes the block: settles the market, applies all changes and computes the roots.
    ///
    /// # Panics
    /// Never: the head's state is in memory and can be read.
    #[must_use]
    pub fn seal(mut self) -> ExecutedBlock {
        market::settle(
            &mut self.changes,
            &self.below,
            self.used.igas,
            self.spec.igas_limit,
            self.used.inference_gas,
        )
        .expect("the head's state is in memory");
        let diff = self.changes.diff(&self.below);
        let mut state = self.below;
        state.apply(&diff);
        let Sealed {
            header,
            hash,
            block,
        } = header::seal(
            &self.spec,
            &self.env,
            Contents {
                transactions: self.transactions,
                receipts: &self.receipts,
                witness: self.witness,
                state_root: state.root(),
            },
        );
        state.push_block_hash(self.env.number, hash);
        ExecutedBlock {
            header,
            hash,
            block,
            receipts: self.receipts,
            senders: self.senders,
            zk: self.zk,
            diff,
            state,
        }
    }
}
