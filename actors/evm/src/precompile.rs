//! F4, F5 and F6 as the EVM meets them.
//!
//! What a call of F4 (inference) does, in this order; what comes before the lookup depends on registry, calldata and gas
//! alone, so hit, miss and placeholder cost the same:
//!
//! | case | result | gas |
//! |---|---|---|
//! | inside a static call | halts, as any code that emits a log there | all that was given |
//! | with value (`CALL`, `CALLCODE`) | reverts without data, as a Solidity function that is not payable | base and bytes |
//! | less gas than base and bytes cost | halts: out of gas | all that was given |
//! | no call of the interface, unknown model, tensors that don't fit it | reverts with a typed error | base and bytes |
//! | less gas than the inference costs, with all the gas that the transaction had left | the transaction is not executed: `FeeBelowMarket` | - |
//! | less gas than the inference costs, otherwise | halts: out of gas | all that was given |
//! | the result is not known | **the whole execution ends**; no contract sees it | - |
//! | the model has no output for this input | reverts with `ModelFailed` | base, bytes, inference |
//! | the model has an output | returns it; emits `ModelInferenceEvent` with F4's address | base, bytes, inference |
//!
//! `DELEGATECALL` and `CALLCODE` are as `CALL`: a precompile acts as itself, so its log has its own address in every case;
//! the value that a delegated call only shows is not looked at. A frame that reverts later takes the log with it, but the
//! request stays consumed: it is witnessed and paid for. F5 (price history) always reverts with `Unsupported`. F6
//! (preprocessing) computes at once and needs no result.

use crate::abi::{self, InferenceCall, Revert};
use crate::attest::Attesters;
use crate::placeholder::{self, World};
use crate::predeploys::{self, HISTORICAL, INFERENCE, PREPROCESSING};
use crate::preprocess;
use crate::results::Results;
use alloy_primitives::{Address, Bytes, Log, U256};
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::message::GangRequest;
use penstock_rules::model::ModelInfo;
use penstock_rules::request::{Outcome, Request, Settled};
use penstock_rules::tensor::{self, Tensor};
use revm::context_interface::{Cfg, ContextTr, Database, JournalTr};
use revm::handler::{EthPrecompiles, PrecompileProvider};
use revm::interpreter::{CallInputs, Gas, InstructionResult, InterpreterResult};
use revm::primitives::AddressSet;
use revm::primitives::hardfork::SpecId;
use revm::state::EvmState;
use std::sync::Arc;

/// Gas of every call of F4: two cold reads and a log's base, which the registry lookup and the event are like.
pub const GAS_BASE: u64 = 5_000;
/// Gas per byte of calldata: a log's, because the event repeats the request.
pub const GAS_PER_BYTE: u64 = 8;
/// Gas of a call of F5, which does nothing: a warm account access.
const GAS_UNSUPPORTED: u64 = 100;

/// What happens at a request whose result is not known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// The execution ends.
    Abort,
    /// It goes on with a placeholder.
    Placeholder(World),
}

/// Bounds of one run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) requests: u32,
    pub(crate) input_bytes: u32,
}

/// Why a run ended before its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stop {
    Missing(RequestKey),
    FeeBelowMarket,
    /// The bounds were passed.
    TooMany,
}

/// A request that was consumed.
#[derive(Clone, Debug)]
pub(crate) struct Used {
    pub(crate) key: RequestKey,
    pub(crate) request: Request,
    /// Inference units of one use.
    pub(crate) igas: Igas,
    /// `None`: a placeholder stood for it.
    pub(crate) settled: Option<Arc<Settled>>,
}

/// What a run did at F4.
#[derive(Clone, Debug, Default)]
pub(crate) struct Trace {
    /// Each request once, in order of first use, those of reverted frames too.
    pub(crate) used: Vec<Used>,
    /// Those of `used` that are not known, as a gang would ask for them.
    pub(crate) unknown: Vec<GangRequest>,
    /// What was paid for, repeated requests again.
    pub(crate) igas: Igas,
    /// Gas that was paid for inference.
    pub(crate) inference_gas: u64,
    /// Why the run ended before its end.
    pub(crate) stop: Option<Stop>,
    /// A placeholder was given out, in this run or before it.
    pub(crate) tainted: bool,
    pub(crate) input_bytes: u64,
}

/// The precompiles of one run.
pub(crate) struct Precompiles<'a> {
    pub(crate) eth: EthPrecompiles,
    pub(crate) own: Own,
    pub(crate) warm: AddressSet,
    pub(crate) results: &'a dyn Results,
    pub(crate) attesters: &'a Attesters,
    pub(crate) unknown: Unknown,
    pub(crate) bounds: Option<Bounds>,
    pub(crate) trace: Trace,
    /// The call that runs now was given all the gas that the transaction had left (see `run::Machine`).
    pub(crate) whole_gas: bool,
}

/// Whether F4, F5 and F6 are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Own {
    /// As on every chain of ours.
    On,
    /// As on Ethereum: for its tests alone.
    Off,
}

/// The addresses that are warm: Ethereum's precompiles and ours.
pub(crate) fn warm_addresses(eth: &EthPrecompiles, own: Own) -> AddressSet {
    let mut warm = eth.warm_addresses().clone();
    if own == Own::On {
        warm.extend([INFERENCE, HISTORICAL, PREPROCESSING]);
    }
    warm
}

/// The price of `igas`: gas, rounded up. The multiplier is whole, so there is nothing to round.
const fn price(igas: Igas, multiplier: u64) -> u64 {
    igas.0.saturating_mul(multiplier)
}

/// A slot as the running transaction sees it, without making it warm: the registry is read as if it were no account.
fn read_slot<CTX>(
    context: &mut CTX,
    address: Address,
    slot: U256,
) -> Result<U256, <CTX::Db as Database>::Error>
where
    CTX: ContextTr<Journal: JournalTr<State = EvmState>>,
{
    if let Some(account) = context.journal().evm_state().get(&address) {
        if let Some(value) = account.storage.get(&slot) {
            return Ok(value.present_value());
        }
        if account.is_created() {
            return Ok(U256::ZERO);
        }
    }
    context.db_mut().storage(address, slot)
}

/// Reads through [`read_slot`], and keeps the first error.
fn with_registry<CTX, T>(
    context: &mut CTX,
    read: impl FnOnce(predeploys::ReadSlot<'_>) -> T,
) -> Result<T, String>
where
    CTX: ContextTr<Journal: JournalTr<State = EvmState>>,
{
    let mut error = None;
    let value = read(&mut |address, slot| {
        read_slot(context, address, slot).unwrap_or_else(|failed| {
            error.get_or_insert(failed.to_string());
            U256::ZERO
        })
    });
    error.map_or(Ok(value), Err)
}

fn halted(result: InstructionResult, inputs: &CallInputs) -> InterpreterResult {
    let mut gas = Gas::new_with_regular_gas_and_reservoir(inputs.gas_limit, inputs.reservoir);
    gas.spend_all();
    InterpreterResult::new(result, Bytes::new(), gas)
}

/// Ends a call that costs `cost`; out of gas where that is more than was given.
fn ended(
    result: InstructionResult,
    output: Bytes,
    cost: u64,
    inputs: &CallInputs,
) -> InterpreterResult {
    let mut gas = Gas::new_with_regular_gas_and_reservoir(inputs.gas_limit, inputs.reservoir);
    if !gas.record_regular_cost(cost) {
        return halted(InstructionResult::PrecompileOOG, inputs);
    }
    InterpreterResult::new(result, output, gas)
}

fn reverted(revert: &Revert, cost: u64, inputs: &CallInputs) -> InterpreterResult {
    ended(InstructionResult::Revert, revert.encode(), cost, inputs)
}

/// A request with all that its answer needs.
struct Asked {
    call: InferenceCall,
    model: ModelInfo,
    request: Request,
    igas: Igas,
    cost: u64,
    key: RequestKey,
}

impl Precompiles<'_> {
    fn inference<CTX>(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<InterpreterResult, String>
    where
        CTX: ContextTr<Journal: JournalTr<State = EvmState>>,
    {
        if inputs.is_static {
            return Ok(halted(
                InstructionResult::StateChangeDuringStaticCall,
                inputs,
            ));
        }
        let cost = GAS_BASE.saturating_add(GAS_PER_BYTE.saturating_mul(inputs.input.len() as u64));
        if cost > inputs.gas_limit {
            return Ok(halted(InstructionResult::PrecompileOOG, inputs));
        }
        if inputs.transfers_value() {
            return Ok(ended(InstructionResult::Revert, Bytes::new(), cost, inputs));
        }
        let call = match abi::decode_request(&inputs.input.as_bytes(context)) {
            Ok(call) => call,
            Err(error) => return Ok(reverted(&error.revert(), cost, inputs)),
        };
        let Some(model) = with_registry(context, |read| predeploys::read_model(&call.cid, read))?
        else {
            return Ok(reverted(&Revert::UnknownModel(call.cid), cost, inputs));
        };
        let (request, units) = match abi::to_request(&call, &model) {
            Ok(request) => request,
            Err(error) => return Ok(reverted(&Revert::ModelFailed(error), cost, inputs)),
        };
        let igas = model.igas(units);
        let price = price(igas, with_registry(context, predeploys::read_multiplier)?);
        if cost.saturating_add(price) > inputs.gas_limit {
            if self.whole_gas {
                return Err(self.stop(Stop::FeeBelowMarket));
            }
            return Ok(halted(InstructionResult::PrecompileOOG, inputs));
        }
        let asked = Asked {
            key: request.key(),
            call,
            model,
            request,
            igas,
            cost: cost + price,
        };
        let outcome = self.answer(&asked)?;
        self.trace.igas = self.trace.igas.saturating_add(igas);
        self.trace.inference_gas = self.trace.inference_gas.saturating_add(price);
        Ok(respond(context, inputs, &asked, outcome))
    }

    /// The answer of a request, or why the run ends.
    fn answer(&mut self, asked: &Asked) -> Result<Answer, String> {
        let known = self
            .results
            .outcome(&asked.key)
            .filter(|settled| settled.key == asked.key)
            .filter(|settled| self.attesters.suffice(settled, asked.request.mode));
        let world = match (&known, self.unknown) {
            (None, Unknown::Abort) => return Err(self.stop(Stop::Missing(asked.key))),
            (None, Unknown::Placeholder(world)) => world,
            (Some(_), _) => World::First,
        };
        if !self.trace.used.iter().any(|used| used.key == asked.key) {
            let bytes = self.trace.input_bytes + asked.request.input.len() as u64;
            if let Some(bounds) = self.bounds {
                let requests = self.trace.used.len() as u64 + 1;
                if requests > u64::from(bounds.requests) || bytes > u64::from(bounds.input_bytes) {
                    return Err(self.stop(Stop::TooMany));
                }
            }
            self.trace.input_bytes = bytes;
            self.trace.used.push(Used {
                key: asked.key,
                request: asked.request.clone(),
                igas: asked.igas,
                settled: known.clone(),
            });
            if known.is_none() {
                self.trace.unknown.push(GangRequest {
                    key: asked.key,
                    model: asked.request.model,
                    mode: asked.request.mode,
                    input: asked.request.input.clone(),
                    igas: asked.igas,
                    certain: !self.trace.tainted,
                });
            }
        }
        Ok(match known {
            Some(settled) => match &settled.outcome {
                // A quorum that signs bytes which are no tensors gets a defined answer too.
                Outcome::Output(bytes) => {
                    tensor::decode(bytes).map_err(|_| penstock_rules::request::ModelError::Domain)
                }
                Outcome::Failed(error) => Err(*error),
            },
            None => {
                self.trace.tainted = true;
                Ok(placeholder::outputs(
                    &asked.model,
                    &asked.request.input,
                    world,
                ))
            }
        })
    }

    /// Ends the run. The text is for nobody: who started the run looks at the trace.
    fn stop(&mut self, stop: Stop) -> String {
        self.trace.stop = Some(stop);
        String::from("stopped at the inference precompile")
    }
}

type Answer = Result<Vec<Tensor>, penstock_rules::request::ModelError>;

fn respond<CTX: ContextTr>(
    context: &mut CTX,
    inputs: &CallInputs,
    asked: &Asked,
    answer: Answer,
) -> InterpreterResult {
    let encoded = answer.and_then(|outputs| {
        let event = abi::inference_event(&asked.key.to_string(), &asked.call, &outputs)?;
        Ok((abi::encode_output(&outputs)?, event))
    });
    match encoded {
        Ok((output, data)) => {
            context.journal_mut().log(Log {
                address: INFERENCE,
                data,
            });
            ended(InstructionResult::Return, output.into(), asked.cost, inputs)
        }
        Err(error) => reverted(&Revert::ModelFailed(error), asked.cost, inputs),
    }
}

fn historical<CTX: ContextTr>(context: &CTX, inputs: &CallInputs) -> InterpreterResult {
    let error = abi::decode_price_feed_call(&inputs.input.as_bytes(context));
    reverted(&error.revert(), GAS_UNSUPPORTED, inputs)
}

fn preprocessing<CTX: ContextTr>(context: &CTX, inputs: &CallInputs) -> InterpreterResult {
    let calldata = inputs.input.as_bytes(context);
    let gas = preprocess::gas(&calldata);
    if gas > inputs.gas_limit {
        return halted(InstructionResult::PrecompileOOG, inputs);
    }
    if inputs.transfers_value() {
        return ended(InstructionResult::Revert, Bytes::new(), gas, inputs);
    }
    match preprocess::run(&calldata) {
        Ok(done) => ended(InstructionResult::Return, done.output, done.gas, inputs),
        Err(error) => ended(InstructionResult::Revert, error.revert(), error.gas, inputs),
    }
}

impl<CTX> PrecompileProvider<CTX> for Precompiles<'_>
where
    CTX: ContextTr<Cfg: Cfg<Spec = SpecId>, Journal: JournalTr<State = EvmState>>,
{
    type Output = InterpreterResult;

    fn set_spec(&mut self, spec: SpecId) -> bool {
        let changed = <EthPrecompiles as PrecompileProvider<CTX>>::set_spec(&mut self.eth, spec);
        if changed {
            self.warm = warm_addresses(&self.eth, self.own);
        }
        changed
    }

    fn run(
        &mut self,
        context: &mut CTX,
        inputs: &CallInputs,
    ) -> Result<Option<InterpreterResult>, String> {
        if self.own == Own::Off {
            return <EthPrecompiles as PrecompileProvider<CTX>>::run(
                &mut self.eth,
                context,
                inputs,
            );
        }
        match inputs.bytecode_address {
            INFERENCE => self.inference(context, inputs).map(Some),
            HISTORICAL => Ok(Some(historical(context, inputs))),
            PREPROCESSING => Ok(Some(preprocessing(context, inputs))),
            _ => <EthPrecompiles as PrecompileProvider<CTX>>::run(&mut self.eth, context, inputs),
        }
    }

    fn warm_addresses(&self) -> &AddressSet {
        &self.warm
    }
}
