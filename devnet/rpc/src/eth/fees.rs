//! Prices: what to bid, and what was paid.

use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::params::{Args, Count};
use crate::reader::ChainBlock;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{U64, U128};
use alloy_rpc_types_eth::FeeHistory;
use penstock_rules::ids::Height;

/// Wei per gas that is suggested as a tip where no block says more: 1 gwei, as geth and anvil do.
const TIP_DEFAULT: u128 = 1_000_000_000;
/// Wei per gas: the most that is suggested, as in geth, so that one absurd payer does not make all pay absurdly.
const TIP_MAX: u128 = 500_000_000_000;
/// Blocks that a suggestion looks at, as in geth.
const TIP_BLOCKS: u64 = 20;
/// Cheapest tips per block that a suggestion looks at, as in geth.
const TIP_SAMPLES_PER_BLOCK: usize = 3;
/// Percentile of the samples that is suggested, as in geth.
const TIP_PERCENTILE: usize = 60;
/// Blocks that one fee history spans at most, as in geth.
const HISTORY_BLOCKS_MAX: u64 = 1024;
/// Percentiles that one fee history may ask for, as in geth.
const PERCENTILES_MAX: usize = 100;
/// Wei per blob gas: the least that EIP-4844 knows. There are no blobs here, so it never rises.
const BLOB_BASE_FEE: u128 = 1;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("eth_gasPrice", async |api, _| {
            let base_fee = u128::from(api.reader.next_base_fee());
            Ok(U128::from(base_fee.saturating_add(tip(&api).await?)))
        })
        .add("eth_maxPriorityFeePerGas", async |api, _| {
            Ok(U128::from(tip(&api).await?))
        })
        .add("eth_baseFee", async |api, _| {
            Ok(U64::from(api.reader.next_base_fee()))
        })
        .add("eth_blobBaseFee", async |_, _| {
            Ok(U128::from(BLOB_BASE_FEE))
        })
        .add("eth_feeHistory", async |api, args| {
            history(&api, &args).await
        });
}

/// Tips that a block's transactions paid, per gas, with the gas that paid them; cheapest first.
fn tips(block: &ChainBlock) -> Vec<(u128, u64)> {
    let base_fee = u128::from(block.header.base_fee_per_gas.unwrap_or_default());
    let mut tips: Vec<_> = block
        .receipts
        .iter()
        .map(|receipt| {
            let tip = receipt.effective_gas_price.saturating_sub(base_fee);
            (tip, receipt.gas_used)
        })
        .collect();
    tips.sort_unstable();
    tips
}

/// The tip that geth's oracle would suggest: a percentile of the cheapest tips of the last blocks.
pub async fn tip(api: &Api) -> Result<u128, RpcError> {
    let head = api.reader.head();
    let cached = *api.tip.lock().unwrap_or_else(|e| e.into_inner());
    if let Some((hash, tip)) = cached
        && hash == head.hash
    {
        return Ok(tip);
    }
    let mut samples = Vec::new();
    let last = head.header.number;
    for number in last.saturating_sub(TIP_BLOCKS - 1)..=last {
        if let Some(block) = api.at_height(Height(number)).await? {
            let cheapest = tips(&block).into_iter().map(|(tip, _)| tip);
            samples.extend(cheapest.take(TIP_SAMPLES_PER_BLOCK));
        }
    }
    samples.sort_unstable();
    let tip = match samples.len() {
        0 => TIP_DEFAULT,
        count => samples[(count - 1) * TIP_PERCENTILE / 100].min(TIP_MAX),
    };
    *api.tip.lock().unwrap_or_else(|e| e.into_inner()) = Some((head.hash, tip));
    Ok(tip)
}

/// `eth_feeHistory`: `n + 1` base fees, `n` ratios, and `n` rows of rewards where percentiles are given.
async fn history(api: &Api, args: &Args) -> Result<FeeHistory, RpcError> {
    let Count(count) = args.need(0)?;
    let newest: BlockNumberOrTag = args.need(1)?;
    let percentiles: Option<Vec<f64>> = args.maybe(2)?;
    let percentiles = percentiles.filter(|list| !list.is_empty());
    check_percentiles(percentiles.as_deref().unwrap_or_default())?;
    let head = api.reader.head().header.number;
    let newest = match newest {
        BlockNumberOrTag::Number(number) if number > head => {
            return Err(RpcError::BeyondHead {
                requested: Height(number),
                head: Height(head),
            });
        }
        BlockNumberOrTag::Number(number) => number,
        BlockNumberOrTag::Earliest => 0,
        _ => head,
    };
    let count = count.min(HISTORY_BLOCKS_MAX).min(newest + 1);
    if count == 0 {
        return Ok(FeeHistory::default());
    }
    let oldest = newest + 1 - count;
    let mut answer = FeeHistory {
        oldest_block: oldest,
        reward: percentiles.is_some().then(Vec::new),
        ..FeeHistory::default()
    };
    for number in oldest..=newest {
        let block = api
            .at_height(Height(number))
            .await?
            .ok_or(RpcError::HeaderNotFound)?;
        answer
            .base_fee_per_gas
            .push(block.header.base_fee_per_gas.unwrap_or_default().into());
        answer
            .gas_used_ratio
            .push(ratio(block.header.gas_used, block.header.gas_limit));
        if let (Some(rows), Some(percentiles)) = (&mut answer.reward, &percentiles) {
            rows.push(rewards(&block, percentiles));
        }
    }
    let next = if newest == head {
        api.reader.next_base_fee()
    } else {
        let block = api.at_height(Height(newest + 1)).await?;
        let block = block.ok_or(RpcError::HeaderNotFound)?;
        block.header.base_fee_per_gas.unwrap_or_default()
    };
    answer.base_fee_per_gas.push(next.into());
    answer.base_fee_per_blob_gas = vec![BLOB_BASE_FEE; answer.base_fee_per_gas.len()];
    answer.blob_gas_used_ratio = vec![0.0; answer.gas_used_ratio.len()];
    Ok(answer)
}

fn ratio(used: u64, limit: u64) -> f64 {
    if limit == 0 {
        return 0.0;
    }
    used as f64 / limit as f64
}

fn check_percentiles(percentiles: &[f64]) -> Result<(), RpcError> {
    if percentiles.len() > PERCENTILES_MAX {
        return Err(RpcError::InvalidParams(format!(
            "over the query limit {PERCENTILES_MAX}"
        )));
    }
    let mut last = 0.0;
    for &percentile in percentiles {
        if !(0.0..=100.0).contains(&percentile) {
            return Err(RpcError::InvalidParams(format!(
                "invalid reward percentile: {percentile}"
            )));
        }
        if percentile < last {
            return Err(RpcError::InvalidParams(format!(
                "invalid reward percentile: {last} > {percentile}"
            )));
        }
        last = percentile;
    }
    Ok(())
}

/// The tips at these percentiles of a block's gas.
fn rewards(block: &ChainBlock, percentiles: &[f64]) -> Vec<u128> {
    let tips = tips(block);
    let total: u64 = tips.iter().map(|(_, gas)| gas).sum();
    let mut at = 0;
    let mut sum = tips.first().map_or(0, |(_, gas)| *gas);
    percentiles
        .iter()
        .map(|percentile| {
            let threshold = (total as f64 * percentile / 100.0) as u64;
            while sum < threshold && at + 1 < tips.len() {
                at += 1;
                sum += tips[at].1;
            }
            tips.get(at).map_or(0, |(tip, _)| *tip)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_rise_and_stay_between_0_and_100() {
        for good in [&[][..], &[0.0, 50.0, 50.0, 100.0]] {
            assert_eq!(check_percentiles(good), Ok(()), "{good:?}");
        }
        for bad in [&[-1.0][..], &[100.1], &[50.0, 20.0], &[f64::NAN]] {
            assert!(check_percentiles(bad).is_err(), "{bad:?}");
        }
    }
}
