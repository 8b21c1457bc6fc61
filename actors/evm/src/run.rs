//! One transaction through revm: the only place where an EVM is made.

use crate::attest::Attesters;
use crate::overlay::{BackendError, View};
use crate::precompile::{Bounds, Own, Precompiles, Stop, Trace, Unknown, warm_addresses};
use crate::results::{NoResults, Results};
use crate::spec::{BlockEnv, ChainSpec, Hardfork};
use alloy_primitives::U256;
use revm::context::result::{EVMError, ExecutionResult, InvalidTransaction};
use revm::context::{CfgEnv, Context, ContextSetters, ContextTr, Evm, FrameStack, Journal, TxEnv};
use revm::context_interface::JournalTr;
use revm::context_interface::block::BlobExcessGasAndPrice;
use revm::handler::evm::{ContextDbError, FrameInitResult};
use revm::handler::instructions::EthInstructions;
use revm::handler::{
    EthFrame, EthPrecompiles, EvmTr, FrameInitOrResult, FrameResult, Handler, MainnetHandler,
};
use revm::inspector::{Inspector, InspectorEvmTr, InspectorHandler};
use revm::interpreter::interpreter::EthInterpreter;
use revm::interpreter::interpreter_action::FrameInit;
use revm::interpreter::{CallInputs, FrameInput};
use revm::state::EvmState;

pub(crate) type Ctx<'a> =
    Context<revm::context::BlockEnv, TxEnv, CfgEnv, View<'a>, Journal<View<'a>>, ()>;
type Inner<'a, I> = Evm<
    Ctx<'a>,
    I,
    EthInstructions<EthInterpreter, Ctx<'a>>,
    Precompiles<'a>,
    EthFrame<EthInterpreter>,
>;

/// Gas that the EVM gives to a call with value beside what the caller pays.
pub(crate) const CALL_STIPEND: u64 = 2_300;

/// revm's EVM, which also knows of each frame whether it was given all the gas that the transaction had left.
///
/// That tells a transaction whose gas limit is too low for today's price (it waits) from a contract that gives a call
/// too little (it runs out of gas, as with any other call).
struct Machine<'a, I> {
    inner: Inner<'a, I>,
    /// By frame on the stack.
    whole_gas: Vec<bool>,
}

impl<I> Machine<'_, I> {
    /// Whether the frame that begins now is given all that its caller has: what EIP-150 lets through, 63 parts of 64.
    fn gets_all(&mut self, input: &FrameInput) -> bool {
        let given = match input {
            FrameInput::Call(call) => given(call),
            FrameInput::Create(create) => create.gas_limit(),
            FrameInput::Empty => return false,
        };
        let kept = self.inner.frame_stack.get().interpreter.gas.remaining();
        let before = kept.saturating_add(given);
        given == before - before / 64
    }
}

fn given(call: &CallInputs) -> u64 {
    if call.transfers_value() {
        call.gas_limit.saturating_sub(CALL_STIPEND)
    } else {
        call.gas_limit
    }
}

impl<'a, I> EvmTr for Machine<'a, I> {
    type Context = Ctx<'a>;
    type Instructions = EthInstructions<EthInterpreter, Ctx<'a>>;
    type Precompiles = Precompiles<'a>;
    type Frame = EthFrame<EthInterpreter>;

    fn all(
        &self,
    ) -> (
        &Self::Context,
        &Self::Instructions,
        &Self::Precompiles,
        &FrameStack<Self::Frame>,
    ) {
        self.inner.all()
    }

    fn all_mut(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
    ) {
        self.inner.all_mut()
    }

    fn frame_init(
        &mut self,
        input: FrameInit,
    ) -> Result<FrameInitResult<'_, Self::Frame>, ContextDbError<Self::Context>> {
        let whole = match self.inner.frame_stack.index() {
            None => {
                self.whole_gas.clear();
                true
            }
            Some(caller) => {
                self.whole_gas.truncate(caller + 1);
                self.whole_gas.last() == Some(&true) && self.gets_all(&input.frame_input)
            }
        };
        self.whole_gas.push(whole);
        self.inner.precompiles.whole_gas = whole;
        self.inner.frame_init(input)
    }

    fn frame_run(
        &mut self,
    ) -> Result<FrameInitOrResult<Self::Frame>, ContextDbError<Self::Context>> {
        self.inner.frame_run()
    }

    fn frame_return_result(
        &mut self,
        result: FrameResult,
    ) -> Result<Option<FrameResult>, ContextDbError<Self::Context>> {
        self.inner.frame_return_result(result)
    }
}

/// The machine with a tracer that watches. What it watches is the same machine: no result depends on it.
impl<'a, I: Inspector<Ctx<'a>>> InspectorEvmTr for Machine<'a, I> {
    type Inspector = I;

    fn all_inspector(
        &self,
    ) -> (
        &Self::Context,
        &Self::Instructions,
        &Self::Precompiles,
        &FrameStack<Self::Frame>,
        &I,
    ) {
        self.inner.all_inspector()
    }

    fn all_mut_inspector(
        &mut self,
    ) -> (
        &mut Self::Context,
        &mut Self::Instructions,
        &mut Self::Precompiles,
        &mut FrameStack<Self::Frame>,
        &mut I,
    ) {
        self.inner.all_mut_inspector()
    }
}

/// How strictly a transaction is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Checks {
    /// As in a block.
    All,
    /// As in a block, but a contract may be the sender too (EIP-3607 forbids it): somebody impersonates it.
    Impersonated,
    /// As `eth_call` has it: any caller, any nonce, gas at no cost.
    Call,
}

/// All that runs in one block have in common.
#[derive(Clone, Copy)]
pub(crate) struct Scene<'a> {
    pub(crate) spec: &'a ChainSpec,
    pub(crate) env: &'a BlockEnv,
    pub(crate) attesters: &'a Attesters,
    pub(crate) results: &'a dyn Results,
}

/// How one transaction is run.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Manner {
    pub(crate) unknown: Unknown,
    pub(crate) bounds: Option<Bounds>,
    pub(crate) checks: Checks,
    /// A placeholder was given out before this run.
    pub(crate) tainted: bool,
}

impl Manner {
    /// As in a block.
    pub(crate) const EXECUTE: Self = Self {
        unknown: Unknown::Abort,
        bounds: None,
        checks: Checks::All,
        tainted: false,
    };
}

/// A run that came to its end.
pub(crate) struct Done {
    pub(crate) result: ExecutionResult,
    pub(crate) state: EvmState,
}

/// Why a run did not come to its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum RunError {
    Stopped(Stop),
    /// The fee is below the base fee.
    BaseFee,
    Invalid(String),
}

/// Runs one transaction on `view`. Nothing is changed: the caller commits what it left, or does not.
pub(crate) fn run(
    scene: Scene<'_>,
    view: View<'_>,
    tx: TxEnv,
    manner: Manner,
) -> (Result<Done, RunError>, Trace) {
    let mut machine = machine(scene, view, tx, manner, ());
    let result = MainnetHandler::default().run(&mut machine);
    finish(machine, result)
}

/// As [`run`], and `inspector` watches.
pub(crate) fn run_inspected<'a, I: Inspector<Ctx<'a>>>(
    scene: Scene<'a>,
    view: View<'a>,
    tx: TxEnv,
    manner: Manner,
    inspector: &mut I,
) -> (Result<Done, RunError>, Trace) {
    let mut machine = machine(scene, view, tx, manner, inspector);
    let result = MainnetHandler::default().inspect_run(&mut machine);
    finish(machine, result)
}

fn machine<'a, I>(
    scene: Scene<'a>,
    view: View<'a>,
    tx: TxEnv,
    manner: Manner,
    inspector: I,
) -> Machine<'a, I> {
    let spec = scene.spec.hardfork.spec_id();
    let mut cfg = CfgEnv::new_with_spec(spec).with_chain_id(scene.spec.chain_id);
    cfg.disable_eip3607 = manner.checks != Checks::All;
    if manner.checks == Checks::Call {
        cfg.disable_nonce_check = true;
        cfg.disable_base_fee = true;
        cfg.disable_block_gas_limit = true;
    }
    let block = block_env(scene.spec, scene.env);
    assemble(scene, Own::On, (cfg, block), view, tx, manner, inspector)
}

/// Runs a transaction of Ethereum's tests: in any environment, of any hardfork, with our precompiles or without.
pub(crate) fn run_bare(
    cfg: CfgEnv,
    block: revm::context::BlockEnv,
    view: View<'_>,
    tx: TxEnv,
    own: Own,
) -> Result<Done, RunError> {
    let (spec, env) = (ChainSpec::default(), BlockEnv::nowhere());
    let attesters = Attesters::default();
    let scene = Scene {
        spec: &spec,
        env: &env,
        attesters: &attesters,
        results: &NoResults,
    };
    let mut machine = assemble(scene, own, (cfg, block), view, tx, Manner::EXECUTE, ());
    let result = MainnetHandler::default().run(&mut machine);
    finish(machine, result).0
}

fn assemble<'a, I>(
    scene: Scene<'a>,
    own: Own,
    (cfg, block): (CfgEnv, revm::context::BlockEnv),
    view: View<'a>,
    tx: TxEnv,
    manner: Manner,
    inspector: I,
) -> Machine<'a, I> {
    let spec = cfg.spec;
    let mut context: Ctx<'_> = Context::new(view, spec);
    context = context.with_cfg(cfg);
    context.set_block(block);
    let eth = EthPrecompiles::new(spec);
    let precompiles = Precompiles {
        warm: warm_addresses(&eth, own),
        eth,
        own,
        results: scene.results,
        attesters: scene.attesters,
        unknown: manner.unknown,
        bounds: manner.bounds,
        trace: Trace {
            tainted: manner.tainted,
            ..Trace::default()
        },
        whole_gas: false,
    };
    context.set_tx(tx);
    let instructions = EthInstructions::new_mainnet_with_spec(spec);
    Machine {
        inner: Evm::new_with_inspector(context, inspector, instructions, precompiles),
        whole_gas: Vec::new(),
    }
}

fn finish<I>(
    mut machine: Machine<'_, I>,
    result: Result<ExecutionResult, EVMError<BackendError>>,
) -> (Result<Done, RunError>, Trace) {
    let trace = std::mem::take(&mut machine.inner.precompiles.trace);
    let done = match (result, trace.stop) {
        (_, Some(stop)) => Err(RunError::Stopped(stop)),
        (Ok(result), None) => Ok(Done {
            result,
            state: machine.inner.ctx.journal_mut().finalize(),
        }),
        (Err(EVMError::Transaction(InvalidTransaction::GasPriceLessThanBasefee)), None) => {
            Err(RunError::BaseFee)
        }
        (Err(error), None) => Err(RunError::Invalid(error.to_string())),
    };
    (done, trace)
}

pub(crate) fn block_env(spec: &ChainSpec, env: &BlockEnv) -> revm::context::BlockEnv {
    revm::context::BlockEnv {
        number: U256::from(env.number.0),
        beneficiary: env.coinbase,
        timestamp: U256::from(env.timestamp),
        gas_limit: env.gas_limit,
        basefee: env.base_fee,
        difficulty: U256::ZERO,
        prevrandao: Some(env.prevrandao),
        blob_excess_gas_and_price: (spec.hardfork >= Hardfork::Cancun).then(|| {
            BlobExcessGasAndPrice::new(
                env.excess_blob_gas,
                revm::primitives::eip4844::BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
            )
        }),
        slot_num: 0,
    }
}
