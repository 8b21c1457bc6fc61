//! Execution with a tracer that watches: a block again from its parent's state and its witness, or a call.
//!
//! The tracers are revm-inspectors', which follow geth (`debug_`) and Parity (`trace_`) field by field. A traced run is
//! the run that [`crate::verify()`] does, by the same machine: no result depends on who watches.

use crate::attest::Attesters;
use crate::dev;
use crate::flat;
use crate::overlay::{Backend, BackendError, Changes, View};
use crate::precompile::Trace;
use crate::recover::{checks, environment};
use crate::run::{Done, Manner, RunError, Scene, block_env, run, run_inspected};
use crate::spec::{ChainSpec, env_of};
use crate::system;
use alloy_consensus::{Header, TxEnvelope};
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, B256, TxHash};
use alloy_rpc_types_eth::TransactionInfo;
use alloy_rpc_types_trace::geth::{GethDebugTracingOptions, GethTrace};
use alloy_rpc_types_trace::parity::{LocalizedTransactionTrace, TraceResults, TraceType};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::Privileged;
use penstock_rules::ids::RequestKey;
use penstock_rules::request::Settled;
use revm::context::TxEnv;
use revm::context::result::ResultAndState;
use revm_inspectors::tracing::{
    DebugInspector, DebugInspectorError, TraceLimitBehavior, TraceLimits, TracingInspector,
    TracingInspectorConfig, TransactionContext,
};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Bytes of memory, input and the like that one traced transaction records at most. A transaction of 16 Mgas with
/// memory snapshots at each step can ask for far more than a machine has.
const RECORDED_BYTES_MAX: usize = 256 << 20;

/// geth's tracers that are served, beside struct logs.
const TRACERS: [&str; 8] = [
    "callTracer",
    "prestateTracer",
    "flatCallTracer",
    "4byteTracer",
    "muxTracer",
    "noopTracer",
    "stateGasTracer",
    "erc7562Tracer",
];
/// Of a tracer that is not served, an error shows this many characters.
const TRACER_NAME_CHARS_MAX: usize = 64;

/// What watches.
#[derive(Clone, Debug)]
pub enum Tracer {
    /// One of geth's: struct logs, calls, prestate, four bytes, flat calls, several, none.
    Geth(Box<GethDebugTracingOptions>),
    /// Parity's: calls, creations and self-destructions, flat.
    Calls,
    /// Parity's: the same, the virtual machine's steps, and what changed.
    Replay(HashSet<TraceType>),
}

/// What a tracer saw of one transaction.
#[derive(Clone, Debug)]
pub enum Traced {
    /// By [`Tracer::Geth`].
    Geth(Box<GethTrace>),
    /// By [`Tracer::Calls`].
    Calls(Vec<LocalizedTransactionTrace>),
    /// By [`Tracer::Replay`].
    Replay(Box<TraceResults>),
}

/// Why there is no trace.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TraceError {
    /// No such tracer, or not with these options.
    #[error("{0}")]
    Options(String),
    /// A state could not be read.
    #[error(transparent)]
    Backend(#[from] BackendError),
    /// A transaction does not run, though the chain has it: its witness or its state is not what it was.
    #[error("transaction {hash} does not run: {why}")]
    Transaction {
        /// Which.
        hash: TxHash,
        /// Why.
        why: String,
    },
    /// A call can't run.
    #[error("{0}")]
    Call(String),
}

impl From<DebugInspectorError<BackendError>> for TraceError {
    fn from(error: DebugInspectorError<BackendError>) -> Self {
        match error {
            DebugInspectorError::Database(error) => Self::Backend(error),
            other => Self::Options(other.to_string()),
        }
    }
}

/// A block of the chain, with all that its execution depends on.
#[derive(Clone, Copy)]
pub struct BlockToTrace<'a> {
    /// State after the parent.
    pub state: &'a dyn Backend,
    /// The chain.
    pub spec: &'a ChainSpec,
    /// Header.
    pub header: &'a Header,
    /// Its hash.
    pub hash: B256,
    /// Transactions, in order.
    pub transactions: &'a [TxEnvelope],
    /// Their senders.
    pub senders: &'a [Address],
    /// Answers that the block consumed.
    pub witness: &'a [WitnessEntry],
}

/// Which transactions of a block are watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// All.
    Every,
    /// The one at this index.
    Index(usize),
}

/// Executes a block again, as far as it is asked for, and gives what the tracer saw of each watched transaction.
///
/// # Errors
/// See [`TraceError`].
pub fn trace_block(
    block: &BlockToTrace<'_>,
    only: Only,
    tracer: &Tracer,
) -> Result<Vec<Traced>, TraceError> {
    let mut seen = Vec::new();
    replay(block, only, &mut |turn| {
        if only != Only::Every && only != Only::Index(turn.index) {
            return turn.run();
        }
        let place = Place {
            number: block.header.number,
            block: Some(block.hash),
            tx: Some((turn.hash, turn.index)),
        };
        let (done, traced) = watch(turn.scene, turn.view, turn.tx, turn.manner, tracer, place)?;
        seen.push(traced);
        Ok(done)
    })?;
    Ok(seen)
}

/// A transaction of a block that is executed again, at its place.
pub(crate) struct Turn<'a> {
    pub(crate) scene: Scene<'a>,
    pub(crate) view: View<'a>,
    pub(crate) tx: TxEnv,
    pub(crate) manner: Manner,
    pub(crate) hash: TxHash,
    pub(crate) index: usize,
}

impl Turn<'_> {
    /// Runs it, and nothing watches.
    pub(crate) fn run(self) -> Result<Done, TraceError> {
        self.run_traced().map(|(done, _)| done)
    }

    /// Runs it, and gives what it asked for.
    pub(crate) fn run_traced(self) -> Result<(Done, Trace), TraceError> {
        let (done, trace) = run(self.scene, self.view, self.tx, self.manner);
        let done = done.map_err(|error| broken(Some(self.hash), error))?;
        Ok((done, trace))
    }
}

/// Executes a block again up to the last transaction that is asked for; `step` runs each.
pub(crate) fn replay(
    block: &BlockToTrace<'_>,
    only: Only,
    step: &mut dyn FnMut(Turn<'_>) -> Result<Done, TraceError>,
) -> Result<(), TraceError> {
    let env = env_of(block.header);
    let mut changes = opened(block)?;
    let attesters = Attesters::of(block.state)?;
    let results = witnessed(block.witness);
    let scene = Scene {
        spec: block.spec,
        env: &env,
        attesters: &attesters,
        results: &results,
    };
    for (index, (envelope, sender)) in block.transactions.iter().zip(block.senders).enumerate() {
        let turn = Turn {
            scene,
            view: View {
                below: block.state,
                changes: &changes,
            },
            tx: environment(envelope, *sender),
            manner: Manner {
                checks: checks(envelope),
                ..Manner::EXECUTE
            },
            hash: *envelope.tx_hash(),
            index,
        };
        let done = step(turn)?;
        if only == Only::Index(index) {
            break;
        }
        changes.commit(done.state);
    }
    Ok(())
}

/// What a block changes before its first transaction.
pub(crate) fn opened(block: &BlockToTrace<'_>) -> Result<Changes, TraceError> {
    let mut changes = Changes::default();
    system::begin(&mut changes, block.state, block.spec, &env_of(block.header))?;
    // It was checked when the block was verified.
    if let Ok(Some(entry)) = Privileged::of(block.witness) {
        dev::replay(&mut changes, &entry.diff);
    }
    Ok(changes)
}

fn witnessed(witness: &[WitnessEntry]) -> BTreeMap<RequestKey, Arc<Settled>> {
    let settled = |entry: &WitnessEntry| {
        let settled = Settled {
            key: entry.key,
            outcome: entry.outcome.clone(),
            attestations: entry.attestations.clone(),
        };
        (entry.key, Arc::new(settled))
    };
    witness.iter().map(settled).collect()
}

fn broken(hash: Option<TxHash>, error: RunError) -> TraceError {
    let why = match error {
        RunError::Stopped(stop) => format!("{stop:?}"),
        RunError::BaseFee => "fee is below the base fee".into(),
        RunError::Invalid(why) => why,
    };
    match hash {
        Some(hash) => TraceError::Transaction { hash, why },
        None => TraceError::Call(why),
    }
}

/// One of geth's tracers; the error names the one that was asked for.
fn inspector(options: &GethDebugTracingOptions) -> Result<DebugInspector, TraceError> {
    DebugInspector::new(options.clone()).map_err(|error| {
        // It may be a whole program.
        let asked = options.tracer.as_ref().map_or("", |tracer| tracer.as_str());
        let name: String = asked.chars().take(TRACER_NAME_CHARS_MAX).collect();
        TraceError::Options(match error {
            DebugInspectorError::JsTracerNotEnabled | DebugInspectorError::UnsupportedTracer => {
                format!(
                    "there is no tracer {name:?}, and JavaScript is not run: take one of {}",
                    TRACERS.join(", ")
                )
            }
            DebugInspectorError::InvalidTracerConfig => {
                format!(
                    "tracerConfig is none of {name}'s: {}",
                    options.tracer_config.0
                )
            }
            other => format!("{name}: {other}"),
        })
    })
}

/// Where what is traced stands.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Place {
    pub(crate) number: u64,
    pub(crate) block: Option<B256>,
    pub(crate) tx: Option<(TxHash, usize)>,
}

/// Runs one transaction, and a tracer watches.
pub(crate) fn watch(
    scene: Scene<'_>,
    mut view: View<'_>,
    tx: TxEnv,
    manner: Manner,
    tracer: &Tracer,
    place: Place,
) -> Result<(Done, Traced), TraceError> {
    let hash = place.tx.map(|(hash, _)| hash);
    let limits = TraceLimits::default()
        .set_max_recorded_bytes(Some(RECORDED_BYTES_MAX))
        .set_behavior(TraceLimitBehavior::Halt);
    match tracer {
        Tracer::Geth(options) => {
            let mut inspector = inspector(options)?;
            if let DebugInspector::Default(logger, _) = &mut inspector {
                *logger = std::mem::replace(
                    logger,
                    TracingInspector::new(TracingInspectorConfig::none()),
                )
                .with_limits(limits);
            }
            let (done, _) = run_inspected(scene, view, tx.clone(), manner, &mut inspector);
            let done = done.map_err(|error| broken(hash, error))?;
            let context = TransactionContext {
                block_hash: place.block,
                tx_index: place.tx.map(|(_, index)| index),
                tx_hash: hash,
            };
            let result = ResultAndState::new(done.result, done.state);
            let block = block_env(scene.spec, scene.env);
            let mut trace = inspector.get_result(Some(context), &tx, &block, &result, &mut view)?;
            if let GethTrace::FlatCallTracer(traces) = &mut trace {
                flat::as_geth(traces, result.result.tx_gas_used(), options);
            }
            let done = Done {
                result: result.result,
                state: result.state,
            };
            Ok((done, Traced::Geth(Box::new(trace))))
        }
        Tracer::Calls => {
            let config = TracingInspectorConfig::default_parity();
            let mut inspector = TracingInspector::new(config).with_limits(limits);
            let (done, _) = run_inspected(scene, view, tx.clone(), manner, &mut inspector);
            let done = done.map_err(|error| broken(hash, error))?;
            inspector.set_transaction_gas_limit(tx.gas_limit);
            inspector.set_transaction_caller(tx.caller);
            let info = TransactionInfo {
                hash,
                index: place.tx.map(|(_, index)| index as u64),
                block_hash: place.block,
                block_number: Some(place.number),
                base_fee: Some(scene.env.base_fee),
                ..TransactionInfo::default()
            };
            let calls = inspector
                .into_parity_builder()
                .into_localized_transaction_traces(info);
            Ok((done, Traced::Calls(calls)))
        }
        Tracer::Replay(types) => {
            let config = TracingInspectorConfig::from_parity_config(types);
            let mut inspector = TracingInspector::new(config).with_limits(limits);
            let (done, _) = run_inspected(scene, view, tx.clone(), manner, &mut inspector);
            let done = done.map_err(|error| broken(hash, error))?;
            inspector.set_transaction_gas_limit(tx.gas_limit);
            inspector.set_transaction_caller(tx.caller);
            let results = inspector
                .into_parity_builder()
                .into_trace_results_with_state_parts(&done.result, &done.state, types, view)?;
            Ok((done, Traced::Replay(Box::new(results))))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn refusal(options: serde_json::Value) -> Option<String> {
        let options = serde_json::from_value(options).expect("options of geth's form");
        inspector(&options).err().map(|error| error.to_string())
    }

    #[test]
    fn every_tracer_that_the_refusal_names_is_served() {
        for name in TRACERS {
            assert_eq!(refusal(json!({ "tracer": name })), None, "{name}");
        }
        assert_eq!(refusal(json!({})), None, "struct logs");
    }

    #[test]
    fn a_tracer_that_is_not_served_is_named_and_a_program_is_cut() {
        let why = refusal(json!({ "tracer": "calTracer" })).expect("refused");
        assert!(
            why.contains("\"calTracer\"") && why.contains("callTracer"),
            "{why}"
        );
        let program = format!("{{data: [], fault: function() {{}}{}}}", "x".repeat(10_000));
        let why = refusal(json!({ "tracer": program })).expect("refused");
        assert!(why.contains("{data: [], fault") && why.len() < 400, "{why}");
    }

    #[test]
    fn a_config_that_is_not_the_tracers_is_shown() {
        let options = json!({ "tracer": "callTracer", "tracerConfig": { "onlyTopCall": 7 } });
        let why = refusal(options).expect("refused");
        assert!(
            why.contains("callTracer") && why.contains("onlyTopCall"),
            "{why}"
        );
    }
}
