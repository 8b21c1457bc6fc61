//! `trace_`: Parity's flat traces, as Otterscan and indexers read them.

use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::eth::call::{self, CallOptions};
use crate::eth::read;
use crate::params::{Args, Index};
use crate::reader::{ChainBlock, Only, Overrides, Traced, Tracer};
use alloy_consensus::TxEnvelope;
use alloy_consensus::transaction::SignerRecoverable;
use alloy_eips::{BlockId, Decodable2718};
use alloy_primitives::map::HashSet;
use alloy_primitives::{B256, Bytes};
use alloy_rpc_types_eth::TransactionRequest;
use alloy_rpc_types_trace::filter::TraceFilter;
use alloy_rpc_types_trace::parity::{
    LocalizedTransactionTrace, TraceResults, TraceResultsWithTransactionHash, TraceType,
};
use penstock_rules::ids::Height;
use std::sync::Arc;

/// Blocks that one `trace_filter` executes again at most, as in reth.
const FILTER_BLOCKS_MAX: u64 = 100;

type Types = HashSet<TraceType>;

/// Adds the methods.
pub fn register(table: &mut Table) {
    flat(table);
    replayed(table);
}

fn flat(table: &mut Table) {
    table
        .add("trace_block", async |api, args| {
            match api.block(args.need::<BlockId>(0)?).await? {
                Some(block) => calls(&api, block, Only::Every).await.map(Some),
                None => Ok(None),
            }
        })
        .add("trace_transaction", async |api, args| {
            of_transaction(&api, args.need(0)?).await
        })
        .add("trace_get", async |api, args| {
            let path: Vec<Index> = args.need(1)?;
            // Parity takes one index, of the flat list.
            let &[index] = &path[..] else {
                return Ok(None);
            };
            let traces = of_transaction(&api, args.need(0)?).await?;
            Ok(traces.and_then(|traces| traces.into_iter().nth(index.to::<usize>())))
        })
        .add("trace_filter", async |api, args| {
            filter(&api, args.need(0)?).await
        });
}

fn replayed(table: &mut Table) {
    table
        .add("trace_replayTransaction", async |api, args| {
            let found = read::included(&api, args.need(0)?).await?;
            let (block, index) = found.ok_or(RpcError::TransactionNotFound)?;
            let seen = replay(&api, block, Only::Index(index), args.need(1)?).await?;
            let results = seen.into_iter().next();
            results.ok_or_else(|| RpcError::Internal("the transaction was not traced".into()))
        })
        .add("trace_replayBlockTransactions", async |api, args| {
            let Some(block) = api.block(args.need::<BlockId>(0)?).await? else {
                return Ok(None);
            };
            let seen = replay(&api, block.clone(), Only::Every, args.need(1)?).await?;
            let hashes = block.transactions.iter().map(|tx| *tx.tx_hash());
            let named = seen.into_iter().zip(hashes);
            Ok(Some(
                named
                    .map(
                        |(full_trace, transaction_hash)| TraceResultsWithTransactionHash {
                            full_trace,
                            transaction_hash,
                        },
                    )
                    .collect::<Vec<_>>(),
            ))
        })
        .add("trace_call", async |api, args| {
            let overrides = Overrides {
                state: args.maybe(3)?,
                block: args.maybe(4)?,
                answers: CallOptions::given(&args, 5)?,
            };
            traced_call(&api, args.need(0)?, &args, overrides).await
        })
        .add("trace_rawTransaction", async |api, args| {
            let raw: Bytes = args.need(0)?;
            let request = request_of(&raw)
                .map_err(|reason| RpcError::InvalidArgument { index: 0, reason })?;
            traced_call(&api, request, &args, Overrides::default()).await
        });
}

fn request_of(raw: &[u8]) -> Result<TransactionRequest, String> {
    let envelope = TxEnvelope::decode_2718(&mut &raw[..]).map_err(|error| error.to_string())?;
    let sender = envelope
        .recover_signer()
        .map_err(|error| error.to_string())?;
    let mut request: TransactionRequest = envelope.into();
    request.from = Some(sender);
    // It was signed once: the nonce of a call is the account's.
    request.nonce = None;
    Ok(request)
}

/// A call with its trace types in the second argument and its block in the third.
async fn traced_call(
    api: &Api,
    request: TransactionRequest,
    args: &Args,
    overrides: Overrides,
) -> Result<TraceResults, RpcError> {
    let request = call::normalized(request, 0)?;
    let tracer = Tracer::Replay(args.need::<Types>(1)?);
    let at = api.state(args.maybe(2)?).await?;
    match api
        .reader
        .trace_call(request, at, overrides, tracer)
        .await?
    {
        Traced::Replay(results) => Ok(*results),
        Traced::Geth(_) | Traced::Calls(_) => Err(another()),
    }
}

fn another() -> RpcError {
    RpcError::Internal("another tracer's answer".into())
}

async fn replay(
    api: &Api,
    block: Arc<ChainBlock>,
    only: Only,
    types: Types,
) -> Result<Vec<TraceResults>, RpcError> {
    let tracer = Tracer::Replay(types);
    let seen = api.reader.trace_block(block, only, tracer).await?;
    let results = seen.into_iter().map(|traced| match traced {
        Traced::Replay(results) => Ok(*results),
        Traced::Geth(_) | Traced::Calls(_) => Err(another()),
    });
    results.collect()
}

/// Flat traces of a block's transactions.
pub async fn calls(
    api: &Api,
    block: Arc<ChainBlock>,
    only: Only,
) -> Result<Vec<LocalizedTransactionTrace>, RpcError> {
    let seen = api.reader.trace_block(block, only, Tracer::Calls).await?;
    let mut all = Vec::new();
    for traced in seen {
        match traced {
            Traced::Calls(calls) => all.extend(calls),
            Traced::Geth(_) | Traced::Replay(_) => return Err(another()),
        }
    }
    Ok(all)
}

/// Flat traces of an included transaction.
pub async fn of_transaction(
    api: &Api,
    hash: B256,
) -> Result<Option<Vec<LocalizedTransactionTrace>>, RpcError> {
    match read::included(api, hash).await? {
        Some((block, index)) => calls(api, block, Only::Index(index)).await.map(Some),
        None => Ok(None),
    }
}

async fn filter(
    api: &Api,
    filter: TraceFilter,
) -> Result<Vec<LocalizedTransactionTrace>, RpcError> {
    let head = api.reader.head().height().0;
    let from = filter.from_block.unwrap_or(0);
    let to = filter.to_block.unwrap_or(head).min(head);
    if from > to {
        return Err(RpcError::InvalidBlockRange);
    }
    if to - from >= FILTER_BLOCKS_MAX {
        return Err(RpcError::InvalidParams(format!(
            "block range is too large: at most {FILTER_BLOCKS_MAX} blocks are traced"
        )));
    }
    let matcher = filter.matcher();
    let skip = filter.after.unwrap_or(0) as usize;
    let take = filter.count.map_or(usize::MAX, |count| count as usize);
    let mut found = Vec::new();
    for height in from..=to {
        if found.len() >= skip.saturating_add(take) {
            break;
        }
        if let Some(block) = api.at_height(Height(height)).await? {
            let traces = calls(api, block, Only::Every).await?;
            found.extend(traces.into_iter().filter(|t| matcher.matches(&t.trace)));
        }
    }
    Ok(found.into_iter().skip(skip).take(take).collect())
}
