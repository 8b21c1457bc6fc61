//! `debug_`: geth's tracers, what the chain holds as raw bytes, and storage in parts. A block is traced by executing it again from its
//! parent's state and its witness, so old blocks need no shard; blocks whose parent's state is no longer kept can't be.

use crate::api::{Api, Table};
use crate::convert;
use crate::errors::RpcError;
use crate::eth::call::{self, Answers};
use crate::eth::read;
use crate::params::{Args, Count};
use crate::reader::{ChainBlock, Only, Overrides, StorageRangeView, Traced, Tracer};
use alloy_consensus::{Block, BlockBody, TxEnvelope};
use alloy_eips::{BlockId, Encodable2718};
use alloy_primitives::{B256, Bytes, U256};
use alloy_rlp::{Decodable, Encodable};
use alloy_rpc_types_trace::geth::{
    GethDebugTracingCallOptions, GethDebugTracingOptions, GethTrace, TraceResult,
};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Adds the methods.
pub fn register(table: &mut Table) {
    tracers(table);
    raw(table);
    table.add("debug_storageRangeAt", async |api, args| {
        let block = named(&api, &args).await?;
        let (Count(index), address) = (args.need(1)?, args.need(2)?);
        let start = first_key(&args.need::<Bytes>(3)?)?;
        let Count(limit) = args.need(4)?;
        let limit = usize::try_from(limit).unwrap_or(SLOTS_MAX).min(SLOTS_MAX);
        let index = usize::try_from(index).unwrap_or(usize::MAX);
        let range = api
            .reader
            .storage_range(block, index, address, start, limit);
        range.await.map(StorageRange::from)
    });
}

/// Slots of one answer at most: some 200 kB. The next part begins at its `nextKey`.
const SLOTS_MAX: usize = 1_024;

/// The first hashed key that begins with these bytes.
fn first_key(prefix: &[u8]) -> Result<B256, RpcError> {
    if prefix.len() > B256::len_bytes() {
        return Err(RpcError::InvalidArgument {
            index: 3,
            reason: format!("a hashed key has 32 bytes, not {}", prefix.len()),
        });
    }
    Ok(B256::right_padding_from(prefix))
}

/// Part of an account's storage, in geth's form.
#[derive(Clone, Serialize)]
#[serde(rename_all = "camelCase")]
struct StorageRange {
    /// By hashed key.
    storage: BTreeMap<B256, StorageEntry>,
    next_key: Option<B256>,
}

#[derive(Clone, Serialize)]
struct StorageEntry {
    key: B256,
    value: B256,
}

impl From<StorageRangeView> for StorageRange {
    fn from(range: StorageRangeView) -> Self {
        let entry = |(hashed, slot, value): (B256, U256, U256)| {
            let (key, value) = (slot.into(), value.into());
            (hashed, StorageEntry { key, value })
        };
        Self {
            storage: range.slots.into_iter().map(entry).collect(),
            next_key: range.next,
        }
    }
}

fn tracers(table: &mut Table) {
    table
        .add("debug_traceTransaction", async |api, args| {
            let found = read::included(&api, args.need(0)?).await?;
            let (block, index) = found.ok_or(RpcError::TransactionNotFound)?;
            let seen = trace(&api, block, Only::Index(index), options(&args, 1)?).await?;
            let trace = seen.into_iter().next();
            trace.ok_or_else(|| RpcError::Internal("the transaction was not traced".into()))
        })
        .add("debug_traceBlockByNumber", async |api, args| {
            let tag: alloy_eips::BlockNumberOrTag = args.need(0)?;
            traced_block(&api, api.block(tag.into()).await?, &args).await
        })
        .add("debug_traceBlockByHash", async |api, args| {
            let block = api.reader.block_by_hash(args.need(0)?).await?;
            traced_block(&api, block, &args).await
        })
        .add("debug_traceBlock", async |api, args| {
            let rlp: Bytes = args.need(0)?;
            let block = Block::<TxEnvelope>::decode(&mut &rlp[..]).map_err(|error| {
                RpcError::InvalidArgument {
                    index: 0,
                    reason: format!("could not decode block: {error}"),
                }
            })?;
            let block = api.reader.block_by_hash(block.header.hash_slow()).await?;
            traced_block(&api, block, &args).await
        })
        .add("debug_traceCall", async |api, args| {
            let request = call::normalized(args.need(0)?, 0)?;
            let at = api.state(args.maybe(1)?).await?;
            let options: GethDebugTracingCallOptions = args.maybe(2)?.unwrap_or_default();
            let WithAnswers { answers } = args.maybe(2)?.unwrap_or_default();
            let overrides = Overrides {
                state: options.state_overrides,
                block: options.block_overrides.map(Box::new),
                answers: answers.map(|given| given.checked(2)).transpose()?,
            };
            let tracer = Tracer::Geth(Box::new(options.tracing_options));
            let seen = api.reader.trace_call(request, at, overrides, tracer);
            geth(seen.await?)
        })
        // Every invalid entry of the log is skipped by all: none is kept.
        .add("debug_getBadBlocks", async |_, _| Ok([(); 0]));
}

/// The one option of a traced call that geth does not have.
#[derive(Default, Deserialize)]
struct WithAnswers {
    #[serde(default)]
    answers: Option<Answers>,
}

fn options(args: &Args, index: usize) -> Result<GethDebugTracingOptions, RpcError> {
    Ok(args.maybe(index)?.unwrap_or_default())
}

fn geth(traced: Traced) -> Result<GethTrace, RpcError> {
    match traced {
        Traced::Geth(trace) => Ok(*trace),
        Traced::Calls(_) | Traced::Replay(_) => {
            Err(RpcError::Internal("another tracer's answer".into()))
        }
    }
}

async fn trace(
    api: &Api,
    block: Arc<ChainBlock>,
    only: Only,
    options: GethDebugTracingOptions,
) -> Result<Vec<GethTrace>, RpcError> {
    let tracer = Tracer::Geth(Box::new(options));
    let seen = api.reader.trace_block(block, only, tracer).await?;
    seen.into_iter().map(geth).collect()
}

async fn traced_block(
    api: &Api,
    block: Option<Arc<ChainBlock>>,
    args: &Args,
) -> Result<Vec<TraceResult>, RpcError> {
    let block = block.ok_or(RpcError::UnknownBlock)?;
    if block.header.number == 0 {
        return Err(RpcError::GenesisTrace);
    }
    let seen = trace(api, block.clone(), Only::Every, options(args, 1)?).await?;
    let hashes = block.transactions.iter().map(|tx| *tx.tx_hash());
    Ok(seen
        .into_iter()
        .zip(hashes)
        .map(|(result, hash)| TraceResult::Success {
            result,
            tx_hash: Some(hash),
        })
        .collect())
}

fn raw(table: &mut Table) {
    table
        .add("debug_getRawHeader", async |api, args| {
            let block = named(&api, &args).await?;
            Ok(Bytes::from(alloy_rlp::encode(&block.header)))
        })
        .add("debug_getRawBlock", async |api, args| {
            let block = named(&api, &args).await?;
            Ok(raw_block(&block))
        })
        .add("debug_getRawTransaction", async |api, args| {
            let hash: B256 = args.need(0)?;
            if let Some(pending) = api.reader.pending(hash) {
                return Ok(pending.tx.raw.clone());
            }
            let found = read::included(&api, hash).await?;
            // geth answers no bytes, not null, where there is no such transaction.
            Ok(found.map_or_else(Bytes::new, |(block, index)| {
                block.transactions[index].encoded_2718().into()
            }))
        })
        .add("debug_getRawTransactions", async |api, args| {
            let block = named(&api, &args).await?;
            let raw = block.transactions.iter().map(|tx| tx.encoded_2718().into());
            Ok(raw.collect::<Vec<Bytes>>())
        })
        .add("debug_getRawReceipts", async |api, args| {
            let block = named(&api, &args).await?;
            let receipts = (0..block.receipts.len())
                .filter_map(|index| convert::consensus_receipt(&block, index));
            Ok(receipts
                .map(|receipt| receipt.encoded_2718().into())
                .collect::<Vec<Bytes>>())
        });
}

async fn named(api: &Api, args: &Args) -> Result<Arc<ChainBlock>, RpcError> {
    let block = api.block(args.need::<BlockId>(0)?).await?;
    block.ok_or(RpcError::HeaderNotFound)
}

/// The block as Ethereum encodes it; the witness is not part of it.
fn raw_block(block: &ChainBlock) -> Bytes {
    let body = BlockBody {
        transactions: block.transactions.clone(),
        ommers: Vec::new(),
        withdrawals: block
            .header
            .withdrawals_root
            .is_some()
            .then(Default::default),
    };
    let mut rlp = Vec::new();
    Block::new(block.header.clone(), body).encode(&mut rlp);
    rlp.into()
}
