//! Traces, and access lists: runs that something watches.

use super::Gateway;
use super::calls::{Kind, failed};
use alloy_eips::eip2930::{AccessList, AccessListItem};
use alloy_primitives::{Address, B256, U256};
use alloy_rpc_types_eth::{AccessListResult, TransactionRequest};
use penstock_evm::{
    Backend, BlockToTrace, CallOutcome, ChainSpec, StorageRange, TraceError, create_access_list,
    storage_range, trace_block, trace_call,
};
use penstock_rpc::{At, ChainBlock, Only, Overrides, RpcError, StorageRangeView, Traced, Tracer};
use penstock_rules::ids::Height;
use std::sync::Arc;

impl Gateway {
    /// `debug_traceCall`, `trace_call`.
    pub(super) async fn run_trace_call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
        tracer: Tracer,
    ) -> Result<Traced, RpcError> {
        let job = self.job(request, at, overrides, Kind::Call).await?;
        // This run brings the answers; the one that is watched finds them all.
        if let invalid @ CallOutcome::Invalid(_) = self.run(job.clone()).await? {
            return Err(failed(invalid));
        }
        let _place = self.trace_place().await?;
        let tracer = into(tracer);
        let traced = blocking(move || {
            trace_call(
                &*job.state,
                &job.spec,
                &job.env,
                &job.request,
                &job.answers,
                &tracer,
            )
        });
        traced.await?.map(from).map_err(error)
    }

    /// `debug_traceBlock*`, `debug_traceTransaction`, `trace_*`, `ots_*`.
    pub(super) async fn run_trace_block(
        &self,
        block: Arc<ChainBlock>,
        only: Only,
        tracer: Tracer,
    ) -> Result<Vec<Traced>, RpcError> {
        let (Some(parent), false) = (
            block.header.number.checked_sub(1),
            block.transactions.is_empty(),
        ) else {
            return Ok(Vec::new());
        };
        let state = self.backend(Height(parent))?;
        let _place = self.trace_place().await?;
        let spec = self.head().chain.spec.clone();
        let (tracer, only) = (into(tracer), whose(only));
        let traced =
            blocking(move || trace_block(&to_trace(&block, &*state, &spec), only, &tracer));
        let seen = traced.await?.map_err(error)?;
        Ok(seen.into_iter().map(from).collect())
    }

    /// `debug_storageRangeAt`.
    pub(super) async fn run_storage_range(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
        range: (Address, B256, usize),
    ) -> Result<StorageRangeView, RpcError> {
        let Some(parent) = block.header.number.checked_sub(1).map(Height) else {
            return Err(RpcError::GenesisTrace);
        };
        let chain = self.blocks.state(parent).ok_or(RpcError::NoProof(parent))?;
        let _place = self.trace_place().await?;
        let spec = self.head().chain.spec.clone();
        let work = blocking(move || {
            let block = to_trace(&block, &chain.state, &spec);
            storage_range(&block, &chain.state, index, range)
        });
        let StorageRange { slots, next } = work.await?.map_err(error)?;
        Ok(StorageRangeView { slots, next })
    }

    /// `eth_createAccessList`.
    pub(super) async fn run_access_list(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<AccessListResult, RpcError> {
        let job = self.job(request, at, overrides, Kind::Call).await?;
        if let invalid @ CallOutcome::Invalid(_) = self.run(job.clone()).await? {
            return Err(failed(invalid));
        }
        let listed = blocking(move || {
            create_access_list(&*job.state, &job.spec, &job.env, &job.request, &job.answers)
        });
        let listed = listed.await?.map_err(failed)?;
        let items = listed.list.into_iter();
        let items = items.map(|(address, storage_keys)| AccessListItem {
            address,
            storage_keys,
        });
        Ok(AccessListResult {
            access_list: AccessList(items.collect()),
            gas_used: U256::from(listed.gas_used),
            error: listed.error,
        })
    }

    /// Waits for a place: traces hold far more memory than calls.
    pub(super) async fn trace_place(&self) -> Result<tokio::sync::SemaphorePermit<'_>, RpcError> {
        self.traces
            .acquire()
            .await
            .map_err(|error| RpcError::Internal(error.to_string()))
    }
}

/// A block with what it ran on.
pub(super) fn to_trace<'a>(
    block: &'a ChainBlock,
    state: &'a dyn Backend,
    spec: &'a ChainSpec,
) -> BlockToTrace<'a> {
    BlockToTrace {
        state,
        spec,
        header: &block.header,
        hash: block.hash,
        transactions: &block.transactions,
        senders: &block.senders,
        witness: &block.witness,
    }
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T, RpcError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| RpcError::Internal(error.to_string()))
}

fn into(tracer: Tracer) -> penstock_evm::Tracer {
    match tracer {
        Tracer::Geth(options) => penstock_evm::Tracer::Geth(options),
        Tracer::Calls => penstock_evm::Tracer::Calls,
        Tracer::Replay(types) => penstock_evm::Tracer::Replay(types),
    }
}

fn from(traced: penstock_evm::Traced) -> Traced {
    match traced {
        penstock_evm::Traced::Geth(trace) => Traced::Geth(trace),
        penstock_evm::Traced::Calls(calls) => Traced::Calls(calls),
        penstock_evm::Traced::Replay(results) => Traced::Replay(results),
    }
}

const fn whose(only: Only) -> penstock_evm::Only {
    match only {
        Only::Every => penstock_evm::Only::Every,
        Only::Index(index) => penstock_evm::Only::Index(index),
    }
}

pub(super) fn error(error: TraceError) -> RpcError {
    match error {
        TraceError::Options(why) | TraceError::Call(why) => RpcError::Trace(why),
        error @ (TraceError::Backend(_) | TraceError::Transaction { .. }) => {
            RpcError::Internal(error.to_string())
        }
    }
}
