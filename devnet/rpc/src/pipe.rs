//! `pipe_`: what is ours alone. Where a transaction is on its way, what a block consumed, which models and shards there
//! are, what waits. Numbers are quantities (`0x` hex), as everywhere in JSON-RPC; times are milliseconds since 1970.

mod congestion;
mod estimate;
mod market;
mod receipt;
mod subscribe;

use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::Args;
use crate::reader::{AnswerView, ChainBlock, NumberTensor, QueueView, ShardView, StringTensor};
use alloy_eips::BlockId;
use alloy_primitives::{Address, B256, Bytes, U64, U128};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::{ENTRY_KEY, requests};
use penstock_rules::ids::{ModelHash, RequestKey, ShardId};
use penstock_rules::model::{ModelInfo, Port};
use penstock_rules::request::{Attestation, ModelError, Outcome};
use penstock_rules::scheduler::Evidence;
use penstock_rules::tensor::ElementType;
use penstock_rules::tx::{DropReason, Reason, Stage, StatusUpdate};
use serde::Serialize;
use std::collections::BTreeMap;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("pipe_getTransactionStatus", async |api, args| {
            Ok(status(args.need(0)?, &api.reader.history(args.need(0)?)))
        })
        .add("pipe_getWitness", async |api, args| {
            witness(&api, &args).await
        })
        .add("pipe_getAnswer", async |api, args| {
            let answer = api.reader.answer(RequestKey(args.need(0)?)).await;
            Ok(answer.as_ref().map(Answer::from))
        })
        .add("pipe_models", async |api, _| {
            let multiplier = api.reader.queue().await?.multiplier;
            let models = api.reader.models().await?;
            let models = models.iter().map(|model| Model::new(model, multiplier));
            Ok(models.collect::<Vec<_>>())
        })
        .add("pipe_shards", async |api, _| {
            Ok(api
                .reader
                .shards()
                .iter()
                .map(Shard::from)
                .collect::<Vec<_>>())
        })
        .add("pipe_queue", async |api, _| {
            Ok(Queue::from(api.reader.queue().await?))
        })
        .add("pipe_certificate", async |api, _| {
            let congestion = api.reader.queue().await?.congestion;
            let window = congestion.and_then(|congestion| congestion.window);
            Ok(window.map(congestion::Certificate::from))
        })
        .add("pipe_getInferenceReceipt", async |api, args| {
            receipt::of(&api, args.need(0)?).await
        })
        .add("pipe_getCertificate", async |api, args| {
            let id: BlockId = args.maybe(0)?.unwrap_or_default();
            let block = api.block(id).await?;
            Ok(block.and_then(|block| receipt::certificate(&block)))
        })
        .add("pipe_estimate", async |api, args| {
            estimate::of(&api, &args).await
        })
        .add("pipe_feeHistory", async |api, args| {
            market::history(&api, args.need(0)?, args.maybe(1)?).await
        })
        .add("pipe_modes", async |_, _| Ok(MODES))
        .add("pipe_uploadModel", async |api, args| {
            api.submitter.put_model(args.need(0)?).await
        });
    subscribe::register(table);
}

/// How answers are trusted, in words. A devnet has no enclaves and makes no proofs, and says so.
#[derive(Clone, Copy, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ModeText {
    mode: u8,
    name: &'static str,
    stand_in: bool,
    served_by: &'static str,
}

const MODES: [ModeText; 3] = [
    ModeText {
        mode: 0,
        name: "VANILLA",
        stand_in: false,
        served_by: "one shard's signed answer",
    },
    ModeText {
        mode: 1,
        name: "ZK",
        stand_in: true,
        served_by: "stand-in for a proof: equal signed answers of several shards, which followers that hold the model recompute",
    },
    ModeText {
        mode: 2,
        name: "TEE",
        stand_in: true,
        served_by: "stand-in for an enclave: equal signed answers of several shards",
    },
];

/// A step of a transaction.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Step {
    stage: &'static str,
    at: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    round: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    requests: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<&'static str>,
    /// Wei per igas that clears, where others pay more.
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<U128>,
    /// Estimate of how many blocks; left out where unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    blocks: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    block_number: Option<U64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    replaced_by: Option<B256>,
}

/// A transaction's way: its last step, and all that are known.
#[derive(Clone, Debug, Serialize)]
struct Status {
    hash: B256,
    #[serde(flatten)]
    now: Step,
    history: Vec<Step>,
}

fn status(hash: B256, history: &[StatusUpdate]) -> Option<Status> {
    let steps: Vec<_> = history.iter().map(step).collect();
    Some(Status {
        hash,
        now: steps.last()?.clone(),
        history: steps,
    })
}

fn step(update: &StatusUpdate) -> Step {
    let mut step = Step {
        stage: stage_name(&update.stage),
        at: U64::from(update.at.0 / 1_000),
        ..Step::default()
    };
    match &update.stage {
        Stage::Inferring { round, requests } => {
            step.round = Some(U64::from(*round));
            step.requests = Some(U64::from(*requests));
        }
        Stage::Deferred { reason, blocks } => {
            step.reason = Some(reason_name(*reason));
            step.blocks = (*blocks > 0).then(|| U64::from(*blocks));
            if let Reason::Outbid(price) = reason {
                step.price = Some(U128::from(*price));
            }
        }
        Stage::Included { height } => step.block_number = Some(U64::from(height.0)),
        Stage::Dropped { reason } => {
            step.reason = Some(drop_name(*reason));
            if let DropReason::Replaced(by) = reason {
                step.replaced_by = Some(*by);
            }
        }
        Stage::Accepted | Stage::Queued | Stage::Ready => {}
    }
    step
}

/// The stage's name in JSON.
#[must_use]
pub const fn stage_name(stage: &Stage) -> &'static str {
    match stage {
        Stage::Accepted => "accepted",
        Stage::Queued => "queued",
        Stage::Inferring { .. } => "inferring",
        Stage::Ready => "ready",
        Stage::Deferred { .. } => "deferred",
        Stage::Included { .. } => "included",
        Stage::Dropped { .. } => "dropped",
    }
}

/// The reason's name in JSON.
#[must_use]
pub const fn reason_name(reason: Reason) -> &'static str {
    match reason {
        Reason::NoCover => "NoCover",
        Reason::UnbondedCap => "UnbondedCap",
        Reason::Outbid(_) => "Outbid",
        Reason::DeadlineInfeasible => "DeadlineInfeasible",
        Reason::SenderCap => "SenderCap",
        Reason::NonceDependency => "NonceDependency",
        Reason::StaleInput => "StaleInput",
        Reason::ShardLost => "ShardLost",
        Reason::FeeBelowMarket => "FeeBelowMarket",
        Reason::NoShard => "NoShard",
        Reason::Unfunded => "Unfunded",
        Reason::BlockFull => "BlockFull",
    }
}

const fn drop_name(reason: DropReason) -> &'static str {
    match reason {
        DropReason::Replaced(_) => "Replaced",
        DropReason::Evicted => "Evicted",
        DropReason::Expired => "Expired",
        DropReason::NonceUsed => "NonceUsed",
        DropReason::Asked => "Asked",
        DropReason::TooManyRequests => "TooManyRequests",
        DropReason::Invalid => "Invalid",
    }
}

/// What a block consumed.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Witness {
    block_number: U64,
    block_hash: B256,
    /// The header's `extraData`.
    witness_root: Bytes,
    entries: Vec<Entry>,
    /// The block's privileged entry (a development method's), RLP; its trie key is before those of `entries`.
    #[serde(skip_serializing_if = "Option::is_none")]
    privileged: Option<Bytes>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    request_key: B256,
    #[serde(flatten)]
    outcome: OutcomeJson,
    attestations: Vec<AttestationJson>,
}

/// `output` holds the canonical tensors, `error` says why there are none.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct OutcomeJson {
    outcome_hash: B256,
    output: Option<Bytes>,
    error: Option<&'static str>,
}

#[derive(Clone, Debug, Serialize)]
struct AttestationJson {
    shard: Address,
    signature: Bytes,
}

impl From<&Outcome> for OutcomeJson {
    fn from(outcome: &Outcome) -> Self {
        let (output, error) = match outcome {
            Outcome::Output(bytes) => (Some(bytes.clone()), None),
            Outcome::Failed(error) => (None, Some(model_error_name(*error))),
        };
        Self {
            outcome_hash: outcome.hash(),
            output,
            error,
        }
    }
}

const fn model_error_name(error: ModelError) -> &'static str {
    match error {
        ModelError::WrongInput => "WrongInput",
        ModelError::NotFinite => "NotFinite",
        ModelError::Domain => "Domain",
        ModelError::TooLarge => "TooLarge",
    }
}

fn attestations(list: &[Attestation]) -> Vec<AttestationJson> {
    list.iter()
        .map(|attestation| AttestationJson {
            shard: attestation.shard.0,
            signature: attestation.signature.clone(),
        })
        .collect()
}

impl From<&WitnessEntry> for Entry {
    fn from(entry: &WitnessEntry) -> Self {
        Self {
            request_key: entry.key.0,
            outcome: (&entry.outcome).into(),
            attestations: attestations(&entry.attestations),
        }
    }
}

async fn witness(api: &Api, args: &Args) -> Result<Option<Witness>, RpcError> {
    let id: BlockId = args.maybe(0)?.unwrap_or_default();
    Ok(api.block(id).await?.map(|block| Witness::of(&block)))
}

impl Witness {
    fn of(block: &ChainBlock) -> Self {
        Self {
            block_number: U64::from(block.header.number),
            block_hash: block.hash,
            witness_root: block.header.extra_data.clone(),
            entries: requests(&block.witness).iter().map(Entry::from).collect(),
            privileged: privileged(&block.witness),
        }
    }
}

fn privileged(witness: &[WitnessEntry]) -> Option<Bytes> {
    match witness.first() {
        Some(WitnessEntry {
            key: ENTRY_KEY,
            outcome: Outcome::Output(bytes),
            ..
        }) => Some(bytes.clone()),
        _ => None,
    }
}

/// A request's answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Answer {
    request_key: B256,
    #[serde(flatten)]
    outcome: OutcomeJson,
    attestations: Vec<AttestationJson>,
    model_output: ModelOutput,
}

impl From<&AnswerView> for Answer {
    fn from(answer: &AnswerView) -> Self {
        Self {
            request_key: answer.settled.key.0,
            outcome: (&answer.settled.outcome).into(),
            attestations: attestations(&answer.settled.attestations),
            model_output: answer.into(),
        }
    }
}

/// OpenGradient's `ModelOutput`, as its nodes answer it over HTTP: numbers as decimal strings, snake case.
#[derive(Clone, Debug, Serialize)]
pub struct ModelOutput {
    numbers: Vec<NumberTensorJson>,
    strings: Vec<StringTensorJson>,
    jsons: [(); 0],
    is_simulation_result: bool,
}

#[derive(Clone, Debug, Serialize)]
struct NumberTensorJson {
    name: String,
    values: Vec<NumberJson>,
    shape: Vec<u32>,
}

#[derive(Clone, Debug, Serialize)]
struct NumberJson {
    value: String,
    decimals: String,
}

#[derive(Clone, Debug, Serialize)]
struct StringTensorJson {
    name: String,
    values: Vec<String>,
    shape: [usize; 1],
}

impl From<&AnswerView> for ModelOutput {
    fn from(answer: &AnswerView) -> Self {
        let number = |tensor: &NumberTensor| NumberTensorJson {
            name: tensor.name.clone(),
            values: tensor
                .values
                .iter()
                .map(|(value, decimals)| NumberJson {
                    value: value.to_string(),
                    decimals: decimals.to_string(),
                })
                .collect(),
            shape: tensor.shape.clone(),
        };
        let text = |tensor: &StringTensor| StringTensorJson {
            name: tensor.name.clone(),
            values: tensor.values.clone(),
            shape: [tensor.values.len()],
        };
        Self {
            numbers: answer.numbers.iter().map(number).collect(),
            strings: answer.strings.iter().map(text).collect(),
            jsons: [],
            is_simulation_result: false,
        }
    }
}

/// A model of the registry, with its price at the head.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Model {
    cid: String,
    hash: ModelHash,
    igas_base: U64,
    igas_per_unit: U64,
    /// Gas of a request of one unit, at today's multiplier.
    gas: U64,
    inputs: Vec<PortJson>,
    outputs: Vec<PortJson>,
}

#[derive(Clone, Debug, Serialize)]
struct PortJson {
    name: String,
    element: &'static str,
    /// 0 stands for a dimension that the caller chooses.
    shape: Vec<u32>,
}

impl From<&Port> for PortJson {
    fn from(port: &Port) -> Self {
        Self {
            name: port.name.clone(),
            element: element_name(port.element),
            shape: port.shape.clone(),
        }
    }
}

impl Model {
    fn new(model: &ModelInfo, multiplier: u64) -> Self {
        Self {
            cid: model.cid.clone(),
            hash: model.hash,
            igas_base: U64::from(model.igas_base.0),
            igas_per_unit: U64::from(model.igas_per_unit.0),
            gas: U64::from(model.igas(1).0.saturating_mul(multiplier)),
            inputs: model.signature.inputs.iter().map(PortJson::from).collect(),
            outputs: model.signature.outputs.iter().map(PortJson::from).collect(),
        }
    }
}

const fn element_name(element: ElementType) -> &'static str {
    match element {
        ElementType::F32 => "f32",
        ElementType::U8 => "u8",
        ElementType::I8 => "i8",
        ElementType::I32 => "i32",
        ElementType::I64 => "i64",
        ElementType::String => "string",
        ElementType::Bool => "bool",
        ElementType::F64 => "f64",
        ElementType::U32 => "u32",
    }
}

/// A shard.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Shard {
    shard: ShardId,
    backend: String,
    engine_version: U64,
    models: Vec<ModelHash>,
    batch_max: U64,
    queue_max: U64,
    draining: bool,
    /// No hello for longer than shards repeat theirs.
    silent: bool,
    /// Time of the last hello.
    seen: U64,
    /// Answers that this node heard of since it started, and the batches that they came in.
    answers: U64,
    batches: U64,
    /// It was caught lying, and gets no more work.
    quarantined: bool,
    /// The proof.
    #[serde(skip_serializing_if = "Option::is_none")]
    evidence: Option<EvidenceJson>,
}

/// A signed answer, and what shows that it is false.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct EvidenceJson {
    request_key: B256,
    /// What the shard signed.
    said: OutcomeJson,
    signature: Bytes,
    /// What the others signed, or what this node computed.
    outcome_hash: B256,
    against: Vec<AttestationJson>,
    /// The request's input, where this node computed it again.
    #[serde(skip_serializing_if = "Option::is_none")]
    recomputed: Option<Bytes>,
}

impl From<&Evidence> for EvidenceJson {
    fn from(evidence: &Evidence) -> Self {
        Self {
            request_key: evidence.answer.key.0,
            said: (&evidence.answer.outcome).into(),
            signature: evidence.answer.attestation.signature.clone(),
            outcome_hash: evidence.outcome_hash,
            against: attestations(&evidence.against),
            recomputed: evidence.asked.as_ref().map(|asked| asked.input.clone()),
        }
    }
}

impl From<&ShardView> for Shard {
    fn from(view: &ShardView) -> Self {
        let hello = &view.hello;
        Self {
            shard: hello.shard,
            backend: hello.backend.clone(),
            engine_version: U64::from(hello.engine_version),
            models: hello.models.clone(),
            batch_max: U64::from(hello.batch_max),
            queue_max: U64::from(hello.queue_max),
            draining: hello.draining,
            silent: view.silent,
            seen: U64::from(view.seen.0 / 1_000),
            quarantined: view.evidence.is_some(),
            evidence: view.evidence.as_ref().map(EvidenceJson::from),
            answers: U64::from(view.answers),
            batches: U64::from(view.batches),
        }
    }
}

/// What waits.
#[derive(Clone, Debug, Serialize)]
struct Queue {
    stages: BTreeMap<String, U64>,
    reasons: BTreeMap<String, U64>,
    requests: U64,
    calls: U64,
    multiplier: U64,
    congestion: Option<congestion::Backlog>,
}

impl From<QueueView> for Queue {
    fn from(view: QueueView) -> Self {
        let map = |counts: Vec<crate::reader::StageCount>| {
            counts
                .into_iter()
                .map(|count| (count.name, U64::from(count.count)))
                .collect()
        };
        Self {
            stages: map(view.stages),
            reasons: map(view.reasons),
            requests: U64::from(view.requests),
            calls: U64::from(view.calls),
            multiplier: U64::from(view.multiplier),
            congestion: view.congestion.as_ref().map(congestion::Backlog::from),
        }
    }
}
