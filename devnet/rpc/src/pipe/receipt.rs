//! What a transaction's inference came to, and who stands for a block.

use super::{AttestationJson, OutcomeJson, Step, attestations, step};
use crate::api::Api;
use crate::errors::RpcError;
use crate::reader::{At, ChainBlock, RequestView};
use alloy_primitives::{Address, B256, Bytes, Signature, U64};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::requests;
use penstock_rules::ids::{Height, ModelHash, RequestKey, TxHash};
use penstock_rules::model::ModelInfo;
use penstock_rules::request::Mode;
use penstock_rules::tx::Stage;
use serde::Serialize;
use std::collections::BTreeMap;

/// A transaction's requests with their answers, what they cost, and its way into the block.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct InferenceReceipt {
    transaction_hash: B256,
    transaction_index: U64,
    block_hash: B256,
    block_number: U64,
    /// 0x1: it succeeded.
    status: U64,
    gas_used: U64,
    /// Part of `gasUsed` that paid for inference.
    inference_gas_used: U64,
    igas: U64,
    /// Gas per igas that it paid.
    multiplier: U64,
    /// Rounds of discovery; null where this node did not see them (it was started since, say).
    rounds: Option<U64>,
    requests: Vec<Request>,
    /// Its way, as far as this node saw it.
    history: Vec<Step>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Request {
    #[serde(flatten)]
    asked: RequestJson,
    #[serde(flatten)]
    outcome: OutcomeJson,
    attestations: Vec<AttestationJson>,
}

/// A request, as receipts and estimates show it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RequestJson {
    request_key: B256,
    model: ModelHash,
    /// The model's id, where the registry still has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    cid: Option<String>,
    mode: &'static str,
    igas: U64,
    /// Canonical tensors.
    input: Bytes,
}

impl RequestJson {
    pub(super) fn new(view: &RequestView, models: &[ModelInfo]) -> Self {
        let model = models.iter().find(|model| model.hash == view.request.model);
        Self {
            request_key: view.key.0,
            model: view.request.model,
            cid: model.map(|model| model.cid.clone()),
            mode: mode_name(view.request.mode),
            igas: U64::from(view.igas.0),
            input: view.request.input.clone(),
        }
    }
}

const fn mode_name(mode: Mode) -> &'static str {
    match mode {
        Mode::Vanilla => "VANILLA",
        Mode::Zk => "ZK",
        Mode::Tee => "TEE",
    }
}

/// `pipe_getInferenceReceipt`; null where the transaction is in no block.
pub async fn of(api: &Api, hash: TxHash) -> Result<Option<InferenceReceipt>, RpcError> {
    let Some((height, index)) = api.reader.location(hash).await? else {
        return Ok(None);
    };
    let Some(block) = api.at_height(height).await? else {
        return Ok(None);
    };
    let at = index as usize;
    let Some(receipt) = block.receipts.get(at).cloned() else {
        return Ok(None);
    };
    let consumed = match receipt.inference_gas_used {
        // Nothing was asked for: no need to run it again.
        0 => Default::default(),
        _ => api.reader.consumed(block.clone(), at).await?,
    };
    let models = api.reader.models().await?;
    let answers: BTreeMap<RequestKey, &WitnessEntry> = requests(&block.witness)
        .iter()
        .map(|entry| (entry.key, entry))
        .collect();
    let steps = api.reader.history(hash);
    let rounds = steps.iter().filter_map(|step| match step.stage {
        Stage::Inferring { round, .. } => Some(u64::from(round)),
        _ => None,
    });
    let multiplier = match (receipt.inference_gas_used, consumed.igas.0) {
        (_, 0) => api
            .reader
            .market(before(height))
            .await
            .map_or(0, |market| market.multiplier),
        (gas, igas) => gas / igas,
    };
    Ok(Some(InferenceReceipt {
        transaction_hash: hash,
        transaction_index: U64::from(index),
        block_hash: block.hash,
        block_number: U64::from(height.0),
        status: U64::from(receipt.success),
        gas_used: U64::from(receipt.gas_used),
        inference_gas_used: U64::from(receipt.inference_gas_used),
        igas: U64::from(consumed.igas.0),
        multiplier: U64::from(multiplier),
        rounds: match consumed.requests.is_empty() {
            true => Some(U64::ZERO),
            false => rounds.max().map(U64::from),
        },
        requests: consumed
            .requests
            .iter()
            .filter_map(|request| {
                let entry = answers.get(&request.key)?;
                Some(Request {
                    asked: RequestJson::new(request, &models),
                    outcome: (&entry.outcome).into(),
                    attestations: attestations(&entry.attestations),
                })
            })
            .collect(),
        history: steps.iter().map(step).collect(),
    }))
}

/// The state that a block ran on.
const fn before(height: Height) -> At {
    At::Height(Height(height.0.saturating_sub(1)))
}

/// Who stands for a block: its producer's signature, and what it covers.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    block_number: U64,
    block_hash: B256,
    state_root: B256,
    /// The header's `extraData`: the root of what the block consumed.
    witness_root: Bytes,
    producer: Address,
    /// secp256k1 over the block hash: r, s, recovery bit, 65 bytes.
    signature: Bytes,
}

/// `pipe_getCertificate`; null for genesis, which nobody signs.
pub fn certificate(block: &ChainBlock) -> Option<Certificate> {
    let bytes: &[u8; 65] = block.signature[..].try_into().ok()?;
    let signature = Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 1);
    let producer = signature.recover_address_from_prehash(&block.hash).ok()?;
    Some(Certificate {
        block_number: U64::from(block.header.number),
        block_hash: block.hash,
        state_root: block.header.state_root,
        witness_root: block.header.extra_data.clone(),
        producer,
        signature: block.signature.clone(),
    })
}
