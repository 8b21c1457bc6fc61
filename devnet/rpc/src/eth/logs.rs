//! `eth_getLogs`: header blooms first, then the receipts of blocks that may match.

use crate::api::{Api, Table};
use crate::convert;
use crate::errors::RpcError;
use crate::reader::ChainBlock;
use alloy_eips::BlockNumberOrTag;
use alloy_rpc_types_eth::{Filter, FilterBlockOption, Log};
use penstock_rules::ids::Height;

/// Results of one query at most: some 60 MB of JSON, below the response limit.
pub const RESULTS_MAX: usize = 100_000;
/// Addresses, and topics per position, that one query may name, as in geth.
const CRITERIA_MAX: usize = 1_000;
/// Blocks whose blooms are looked at in one go: bounds what one query holds in memory.
const BLOOM_CHUNK: u64 = 65_536;

/// Adds the method.
pub fn register(table: &mut Table) {
    table.add("eth_getLogs", async |api, args| {
        query(&api, &args.need(0)?).await
    });
}

/// Refuses what is too large to be looked for.
pub fn check(filter: &Filter) -> Result<(), RpcError> {
    let most = filter.topics.iter().map(|set| set.len()).max();
    if filter.address.len().max(most.unwrap_or_default()) > CRITERIA_MAX {
        return Err(RpcError::TooManyCriteria(CRITERIA_MAX));
    }
    Ok(())
}

/// Logs of the chain that match.
pub async fn query(api: &Api, filter: &Filter) -> Result<Vec<Log>, RpcError> {
    check(filter)?;
    let (from, to) = match filter.block_option {
        FilterBlockOption::AtBlockHash(hash) => {
            let block = api.reader.block_by_hash(hash).await?;
            let block = block.ok_or(RpcError::UnknownBlock)?;
            let mut found = Vec::new();
            collect(&block, filter, &mut found)?;
            return Ok(found);
        }
        FilterBlockOption::Range {
            from_block,
            to_block,
        } => (number(api, from_block), number(api, to_block)),
    };
    if from > to {
        return Err(RpcError::InvalidBlockRange);
    }
    range(api, filter, from, to).await
}

/// The height that a bound names; the head's where it is left out.
fn number(api: &Api, bound: Option<BlockNumberOrTag>) -> Height {
    match bound {
        Some(BlockNumberOrTag::Number(number)) => Height(number),
        Some(BlockNumberOrTag::Earliest) => Height(0),
        _ => api.reader.head().height(),
    }
}

/// Logs of `from..=to` that match; heights past the head have none.
pub async fn range(
    api: &Api,
    filter: &Filter,
    from: Height,
    to: Height,
) -> Result<Vec<Log>, RpcError> {
    let to = to.min(api.reader.head().height());
    let mut found = Vec::new();
    let mut start = from;
    while start <= to {
        let end = Height(start.0.saturating_add(BLOOM_CHUNK - 1)).min(to);
        let matcher = filter.clone();
        let may_match = Box::new(move |bloom: &_| matcher.matches_bloom(*bloom));
        for height in api.reader.blooms(start, end, may_match).await? {
            if let Some(block) = api.at_height(height).await? {
                collect(&block, filter, &mut found)?;
            }
        }
        start = end.next();
    }
    Ok(found)
}

/// Adds a block's logs that match.
pub fn collect(block: &ChainBlock, filter: &Filter, found: &mut Vec<Log>) -> Result<(), RpcError> {
    if !filter.matches_bloom(block.header.logs_bloom) {
        return Ok(());
    }
    for index in 0..block.receipts.len() {
        let logs = convert::logs(block, index);
        found.extend(logs.filter(|log| matches(filter, log)));
        if found.len() > RESULTS_MAX {
            return Err(RpcError::TooManyLogs(RESULTS_MAX));
        }
    }
    Ok(())
}

fn matches(filter: &Filter, log: &Log) -> bool {
    filter.matches_address(log.inner.address) && filter.matches_topics(log.inner.data.topics())
}
