//! The price of inference, block by block.

use crate::api::Api;
use crate::errors::RpcError;
use crate::params::Count;
use crate::reader::{At, MarketView};
use alloy_eips::BlockId;
use alloy_primitives::U64;
use penstock_rules::ids::Height;
use serde::Serialize;

/// Blocks of one answer at most; geth's for `eth_feeHistory`.
const BLOCKS_MAX: u64 = 1_024;

/// As `eth_feeHistory` has it for gas.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FeeHistory {
    oldest_block: U64,
    /// Gas per igas, of each block and of the one after the last.
    multiplier: Vec<U64>,
    /// Inference units of each block.
    igas_used: Vec<U64>,
    /// Their share of the limit.
    igas_used_ratio: Vec<f64>,
    /// Gas that each block's transactions paid for them.
    inference_gas_used: Vec<U64>,
    igas_limit: U64,
}

/// `pipe_feeHistory`: fewer blocks where the state of older ones is not kept.
pub async fn history(
    api: &Api,
    Count(blocks): Count,
    newest: Option<BlockId>,
) -> Result<FeeHistory, RpcError> {
    let id = match newest.unwrap_or_default() {
        // It has no market of its own yet.
        BlockId::Number(alloy_eips::BlockNumberOrTag::Pending) => BlockId::latest(),
        id => id,
    };
    let newest = api
        .block(id)
        .await?
        .ok_or(RpcError::HeaderNotFound)?
        .height();
    let blocks = blocks.min(BLOCKS_MAX).min(newest.0 + 1);
    let last = api.reader.market(at(api, newest)).await?;
    // From the newest on, as far back as there is a state.
    let (mut found, mut oldest) = (Vec::new(), newest.0 + 1);
    while (found.len() as u64) < blocks {
        let height = oldest - 1;
        let own = match height == newest.0 {
            true => last,
            false => match api.reader.market(at(api, Height(height))).await {
                Ok(market) => market,
                Err(RpcError::Pruned { .. }) => break,
                Err(error) => return Err(error),
            },
        };
        found.push(own);
        oldest = height;
    }
    // What a block paid per igas stands in its parent's state.
    let first = match oldest.checked_sub(1) {
        Some(parent) => api.reader.market(at(api, Height(parent))).await.ok(),
        None => None,
    };
    found.reverse();
    let first = first.or(found.first().copied()).unwrap_or(last);
    let multipliers = std::iter::once(&first).chain(&found);
    Ok(FeeHistory {
        oldest_block: U64::from(oldest),
        multiplier: multipliers
            .map(|market| U64::from(market.multiplier))
            .collect(),
        igas_used: found
            .iter()
            .map(|market| U64::from(market.igas.0))
            .collect(),
        igas_used_ratio: found.iter().map(ratio).collect(),
        inference_gas_used: found.iter().map(|m| U64::from(m.inference_gas)).collect(),
        igas_limit: U64::from(last.igas_limit.0),
    })
}

fn at(api: &Api, height: Height) -> At {
    if height == api.reader.head().height() {
        At::Head
    } else {
        At::Height(height)
    }
}

fn ratio(market: &MarketView) -> f64 {
    market.igas.0 as f64 / market.igas_limit.0.max(1) as f64
}
