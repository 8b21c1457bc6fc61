//! `eth_simulateV1`, `eth_callMany`, and `eth_config`.

use crate::api::{Api, Table};
use crate::convert::{self, Detail};
use crate::errors::{RpcError, code};
use crate::eth::call::CallOptions;
use crate::params::Args;
use crate::reader::{ChainBlock, Given, SimulatedBlock, SimulatedCall};
use alloy_eips::BlockId;
use alloy_primitives::Bytes;
use alloy_rpc_types_eth::simulate::{
    SimBlock, SimCallResult, SimulateError, SimulatePayload, SimulatedBlock as BlockJson,
};
use alloy_rpc_types_eth::{Block, Bundle, EthCallResponse, Log, StateContext, TransactionIndex};

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("eth_simulateV1", async |api, args| {
            let payload: SimulatePayload = args.need(0)?;
            let answers = CallOptions::given(&args, 2)?;
            simulate(&api, payload, args.maybe(1)?, answers).await
        })
        .add("eth_callMany", async |api, args| many(&api, &args).await)
        .add("eth_config", async |api, _| api.reader.config().await);
}

async fn simulate(
    api: &Api,
    payload: SimulatePayload,
    at: Option<BlockId>,
    answers: Option<Given>,
) -> Result<Vec<BlockJson<Block>>, RpcError> {
    if payload.block_state_calls.is_empty() {
        return Err(RpcError::InvalidParams("empty input".into()));
    }
    let detail = Detail::from(payload.return_full_transactions);
    let at = api.state(at).await?;
    let blocks = api.reader.simulate(payload, at, answers).await?;
    Ok(blocks
        .into_iter()
        .map(|block| json(block, detail))
        .collect())
}

/// `eth_callMany`: bundles of calls, each a block of its own behind the state, which see what those before them did.
async fn many(api: &Api, args: &Args) -> Result<Vec<Vec<EthCallResponse>>, RpcError> {
    let bundles: Vec<Bundle> = args.need(0)?;
    let context: StateContext = args.maybe(1)?.unwrap_or_default();
    if let Some(TransactionIndex::Index(_)) = context.transaction_index {
        return Err(RpcError::InvalidArgument {
            index: 1,
            reason: "calls run behind a whole block: transactionIndex is -1".into(),
        });
    }
    if bundles.is_empty() {
        return Err(RpcError::InvalidParams("empty input".into()));
    }
    let mut state_overrides = args.maybe(2)?;
    let blocks = bundles.into_iter().map(|bundle| SimBlock {
        block_overrides: bundle.block_override,
        state_overrides: state_overrides.take(),
        calls: bundle.transactions,
    });
    let payload = SimulatePayload {
        block_state_calls: blocks.collect(),
        trace_transfers: false,
        validation: false,
        return_full_transactions: false,
    };
    let answers = CallOptions::given(args, 3)?;
    let at = api.state(context.block_number).await?;
    let blocks = api.reader.simulate(payload, at, answers).await?;
    let response = |call: SimulatedCall| match call.outcome {
        Ok(output) => EthCallResponse {
            value: Some(output),
            error: None,
        },
        Err(error) => EthCallResponse {
            value: None,
            error: Some(error.to_string()),
        },
    };
    let blocks = blocks.into_iter();
    Ok(blocks
        .map(|block| block.calls.into_iter().map(response).collect())
        .collect())
}

fn json(block: SimulatedBlock, detail: Detail) -> BlockJson<Block> {
    let SimulatedBlock {
        header,
        hash,
        transactions,
        senders,
        calls,
    } = block;
    let block = ChainBlock::new(hash, header, transactions, senders, Vec::new(), Vec::new());
    let mut log_index = 0;
    let calls = calls.into_iter().enumerate();
    BlockJson {
        calls: calls
            .map(|(index, call)| result(&block, index, call, &mut log_index))
            .collect(),
        inner: convert::block(&block, detail),
    }
}

fn result(
    block: &ChainBlock,
    index: usize,
    call: SimulatedCall,
    log_index: &mut u64,
) -> SimCallResult {
    let log = |inner| {
        let number = *log_index;
        *log_index += 1;
        Log {
            inner,
            block_hash: Some(block.hash),
            block_number: Some(block.header.number),
            block_timestamp: Some(block.header.timestamp),
            transaction_hash: block.transactions.get(index).map(|tx| *tx.tx_hash()),
            transaction_index: Some(index as u64),
            log_index: Some(number),
            removed: false,
        }
    };
    let logs = call.logs.into_iter().map(log).collect();
    let (return_data, error) = match call.outcome {
        Ok(output) => (output, None),
        Err(error) => {
            let data = match &error {
                RpcError::Reverted(data) => data.clone(),
                _ => Bytes::new(),
            };
            let reverted = matches!(error, RpcError::Reverted(_));
            let error = SimulateError {
                code: if reverted { code::REVERTED } else { code::VM },
                message: error.to_string(),
                data: reverted.then(|| data.clone()),
            };
            (data, Some(error))
        }
    };
    SimCallResult {
        return_data,
        logs,
        gas_used: call.gas_used,
        max_used_gas: None,
        status: error.is_none(),
        error,
    }
}
