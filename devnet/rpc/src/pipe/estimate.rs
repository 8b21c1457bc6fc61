//! What a call would ask models for, and what that would cost.

use super::receipt::RequestJson;
use crate::api::Api;
use crate::errors::RpcError;
use crate::eth::call::{Answers, normalized};
use crate::params::Args;
use crate::reader::{InferenceView, Overrides};
use alloy_primitives::{B256, U64, U128};
use alloy_rpc_types_eth::{BlockOverrides, state::StateOverride};
use penstock_rules::ids::RequestKey;
use serde::{Deserialize, Serialize};

/// What may be other than it is.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Options {
    #[serde(default)]
    state_overrides: Option<StateOverride>,
    #[serde(default)]
    block_overrides: Option<Box<BlockOverrides>>,
    /// Outputs by request key. With these, no shard is asked: what is not among them is an error that names it.
    #[serde(default)]
    answers: Option<Answers>,
}

/// The answer.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Estimate {
    /// Requests by round: each round needs the answers of those before it.
    rounds: Vec<Vec<B256>>,
    /// Each request once, in order of first use.
    requests: Vec<RequestJson>,
    igas: U64,
    /// Gas per igas now.
    multiplier: U64,
    inference_gas: U64,
    /// Gas limit with which the transaction succeeds, inference included; null where it fails.
    gas: Option<U64>,
    /// Wei that this gas costs at the next block's base fee; null where it fails.
    price: Option<U128>,
    /// Blocks until it is included, the one that includes it counted, with nothing else on the shards; null where no
    /// block has room for it.
    expected_blocks: Option<U64>,
    /// Why it fails; null where it does not.
    error: Option<String>,
}

/// `pipe_estimate`.
pub async fn of(api: &Api, args: &Args) -> Result<Estimate, RpcError> {
    let request = normalized(args.need(0)?, 0)?;
    let at = api
        .state(Some(
            args.maybe(1)?.unwrap_or(alloy_eips::BlockId::pending()),
        ))
        .await?;
    let options: Options = args.maybe(2)?.unwrap_or_default();
    let overrides = Overrides {
        state: options.state_overrides,
        block: options.block_overrides,
        answers: options.answers.map(|given| given.checked(2)).transpose()?,
    };
    let view = api
        .reader
        .estimate_inference(request, at, overrides)
        .await?;
    let (models, market) = (api.reader.models().await?, api.reader.market(at).await?);
    let InferenceView {
        rounds,
        requests,
        igas,
        inference_gas,
        gas,
        error,
        blocks,
    } = view;
    let base_fee = u128::from(api.reader.next_base_fee());
    let keys = |round: Vec<RequestKey>| round.into_iter().map(|key| key.0).collect();
    Ok(Estimate {
        rounds: rounds.into_iter().map(keys).collect(),
        requests: requests
            .iter()
            .map(|r| RequestJson::new(r, &models))
            .collect(),
        igas: U64::from(igas.0),
        multiplier: U64::from(market.multiplier),
        inference_gas: U64::from(inference_gas),
        price: gas.map(|gas| U128::from(u128::from(gas).saturating_mul(base_fee))),
        gas: gas.map(U64::from),
        expected_blocks: blocks.map(U64::from),
        error: error.map(|error| error.to_string()),
    })
}
