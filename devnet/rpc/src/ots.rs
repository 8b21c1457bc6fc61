//! `ots_` and `erigon_getHeaderByNumber`: what Otterscan asks, at API level 8. Searches go through blocks, as far back as
//! [`SEARCH_BLOCKS_MAX`]; there is no index of addresses.

use crate::api::{Api, Table};
use crate::convert::{self, Detail};
use crate::errors::RpcError;
use crate::eth::read;
use crate::params::Args;
use crate::reader::{At, ChainBlock, Only};
use crate::trace;
use alloy_consensus::Transaction as _;
use alloy_eips::BlockNumberOrTag;
use alloy_primitives::{Address, B256, Bytes, TxHash, U64, U256};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_rpc_types_trace::otterscan::{
    BlockDetails, ContractCreator, InternalIssuance, InternalOperation, OperationType,
    OtsBlockTransactions, OtsReceipt, OtsTransactionReceipt, TraceEntry, TransactionsWithReceipts,
};
use alloy_rpc_types_trace::parity::{
    Action, CallType, CreationMethod, LocalizedTransactionTrace, TraceOutput,
};
use penstock_rules::ids::Height;
use std::sync::Arc;

/// The API level that Otterscan 2 asks for at least.
const API_LEVEL: u64 = 8;
/// Results of a page at most, as in erigon.
const PAGE_SIZE_MAX: usize = 25;
/// Blocks that one search reads at most: some 100 ms where they are plain.
const SEARCH_BLOCKS_MAX: u64 = 10_000;

/// Adds the methods.
pub fn register(table: &mut Table) {
    blocks(table);
    transactions(table);
    searches(table);
}

fn blocks(table: &mut Table) {
    table
        .add("ots_getApiLevel", async |_, _| Ok(API_LEVEL))
        .add("ots_getBlockDetails", async |api, args| {
            Ok(by_number(&api, &args).await?.map(|block| details(&block)))
        })
        .add("ots_getBlockDetailsByHash", async |api, args| {
            let block = api.reader.block_by_hash(args.need(0)?).await?;
            Ok(block.map(|block| details(&block)))
        })
        .add("ots_getBlockTransactions", async |api, args| {
            let (page, size): (U64, U64) = (args.need(1)?, args.need(2)?);
            let block = by_number(&api, &args).await?;
            Ok(block.map(|block| page_of(&block, page.to(), size.to())))
        });
    for name in ["ots_getHeaderByNumber", "erigon_getHeaderByNumber"] {
        table.add(name, async |api, args| {
            let block = by_number(&api, &args).await?;
            Ok(block.map(|block| convert::header(&block)))
        });
    }
}

async fn by_number(api: &Api, args: &Args) -> Result<Option<Arc<ChainBlock>>, RpcError> {
    /// Otterscan sends numbers, others tags or quantities.
    #[derive(serde::Deserialize)]
    #[serde(untagged)]
    enum Form {
        Number(u64),
        Tag(BlockNumberOrTag),
    }
    let tag = match args.need(0)? {
        Form::Number(number) => BlockNumberOrTag::Number(number),
        Form::Tag(tag) => tag,
    };
    api.block(tag.into()).await
}

fn details(block: &ChainBlock) -> BlockDetails {
    let fees = block.receipts.iter().fold(U256::ZERO, |sum, receipt| {
        let fee = U256::from(receipt.gas_used) * U256::from(receipt.effective_gas_price);
        sum.saturating_add(fee)
    });
    // Nothing is issued since the merge.
    let issuance = InternalIssuance::default();
    BlockDetails::new(convert::block(block, Detail::Hashes), issuance, fees)
}

/// One page of a block's transactions, the last of the block first.
fn page_of(block: &ChainBlock, page: usize, size: usize) -> OtsBlockTransactions {
    let count = block.transactions.len();
    let end = count.saturating_sub(page.saturating_mul(size));
    let range = end.saturating_sub(size)..end;
    let mut shown = convert::block(block, Detail::Full);
    if let alloy_rpc_types_eth::BlockTransactions::Full(all) = &mut shown.transactions {
        *all = all.drain(range.clone()).collect();
    }
    let receipts = range
        .filter_map(|index| convert::receipt(block, index))
        .map(|receipt| OtsTransactionReceipt {
            receipt: without_logs(receipt),
            timestamp: None,
        });
    let mut fullblock: alloy_rpc_types_trace::otterscan::OtsBlock = shown.into();
    fullblock.transaction_count = count;
    OtsBlockTransactions {
        receipts: receipts.collect(),
        fullblock,
    }
}

fn without_logs(receipt: TransactionReceipt) -> TransactionReceipt<OtsReceipt> {
    receipt.map_inner(|inner| OtsReceipt {
        status: inner.status(),
        cumulative_gas_used: inner.cumulative_gas_used(),
        logs: None,
        logs_bloom: None,
        r#type: inner.tx_type() as u8,
    })
}

fn transactions(table: &mut Table) {
    table
        .add("ots_hasCode", async |api, args| {
            let at = api.state(args.maybe(1)?).await?;
            Ok(!api.reader.code(args.need(0)?, at).await?.is_empty())
        })
        .add("ots_getTransactionError", async |api, args| {
            let found = read::included(&api, args.need(0)?).await?;
            // The data of a revert; nothing where it succeeded.
            Ok(found.map(|(block, index)| {
                let receipt = block.receipts.get(index).filter(|receipt| !receipt.success);
                receipt.map_or_else(Bytes::new, |receipt| receipt.output.clone())
            }))
        })
        .add("ots_traceTransaction", async |api, args| {
            let traces = trace::of_transaction(&api, args.need(0)?).await?;
            Ok(traces.map(|traces| traces.iter().filter_map(entry).collect::<Vec<_>>()))
        })
        .add("ots_getInternalOperations", async |api, args| {
            let traces = trace::of_transaction(&api, args.need(0)?).await?;
            let traces = traces.unwrap_or_default();
            Ok(traces.iter().filter_map(operation).collect::<Vec<_>>())
        });
}

/// A trace as Otterscan draws it; creations and self-destructions are among its entries.
fn entry(trace: &LocalizedTransactionTrace) -> Option<TraceEntry> {
    let trace = &trace.trace;
    let depth = trace.trace_address.len() as u32;
    Some(match &trace.action {
        Action::Call(call) => TraceEntry {
            // No value goes along with these two.
            value: (!matches!(
                call.call_type,
                CallType::StaticCall | CallType::DelegateCall
            ))
            .then_some(call.value),
            ..TraceEntry::from_transaction_trace(trace)?
        },
        Action::Create(create) => {
            let (to, output) = match &trace.result {
                Some(TraceOutput::Create(made)) => (made.address, made.code.clone()),
                _ => (Address::ZERO, Bytes::new()),
            };
            TraceEntry {
                r#type: method(create.creation_method).into(),
                depth,
                from: create.from,
                to,
                value: Some(create.value),
                input: create.init.clone(),
                output,
            }
        }
        Action::Selfdestruct(gone) => TraceEntry {
            r#type: "SELFDESTRUCT".into(),
            depth,
            from: gone.address,
            to: gone.refund_address,
            value: Some(gone.balance),
            input: Bytes::new(),
            output: Bytes::new(),
        },
        Action::Reward(_) => return None,
    })
}

const fn method(method: CreationMethod) -> &'static str {
    match method {
        CreationMethod::Create2 => "CREATE2",
        _ => "CREATE",
    }
}

/// What moved value, made or destroyed a contract inside a transaction.
fn operation(trace: &LocalizedTransactionTrace) -> Option<InternalOperation> {
    let trace = &trace.trace;
    if trace.trace_address.is_empty() || trace.error.is_some() {
        return None;
    }
    match &trace.action {
        Action::Call(call) if call.call_type == CallType::Call && !call.value.is_zero() => {
            Some(InternalOperation {
                r#type: OperationType::OpTransfer,
                from: call.from,
                to: call.to,
                value: call.value,
            })
        }
        Action::Create(create) => {
            let Some(TraceOutput::Create(made)) = &trace.result else {
                return None;
            };
            Some(InternalOperation {
                r#type: match create.creation_method {
                    CreationMethod::Create2 => OperationType::OpCreate2,
                    _ => OperationType::OpCreate,
                },
                from: create.from,
                to: made.address,
                value: create.value,
            })
        }
        Action::Selfdestruct(gone) => Some(InternalOperation {
            r#type: OperationType::OpSelfDestruct,
            from: gone.address,
            to: gone.refund_address,
            value: gone.balance,
        }),
        Action::Call(_) | Action::Reward(_) => None,
    }
}

fn searches(table: &mut Table) {
    table
        .add("ots_searchTransactionsBefore", async |api, args| {
            let (address, number, size) = search_args(&args)?;
            let head = api.reader.head().height().0;
            // 0 stands for the head, and the block that is named is not searched.
            let last = if number == 0 { head } else { number - 1 };
            let range = last.saturating_sub(SEARCH_BLOCKS_MAX - 1)..=last.min(head);
            let reaches_end = *range.start() == 0;
            let mut found = Found::default();
            let mut complete = reaches_end;
            for height in range.rev() {
                found.add(&api, Height(height), address).await?;
                if found.0.len() >= size {
                    complete = height == 0;
                    break;
                }
            }
            Ok(found.page(number == 0, complete))
        })
        .add("ots_searchTransactionsAfter", async |api, args| {
            let (address, number, size) = search_args(&args)?;
            let head = api.reader.head().height().0;
            let first = if number == 0 { 0 } else { number + 1 };
            let last = first.saturating_add(SEARCH_BLOCKS_MAX - 1).min(head);
            let mut found = Found::default();
            let mut complete = last == head;
            for height in first..=last {
                found.add(&api, Height(height), address).await?;
                if found.0.len() >= size {
                    complete = height == head;
                    break;
                }
            }
            // Pages show the newest first.
            found.0.reverse();
            Ok(found.page(complete, number == 0))
        })
        .add("ots_getTransactionBySenderAndNonce", async |api, args| {
            let sender: Address = args.need(0)?;
            let nonce: U64 = args.need(1)?;
            by_sender_and_nonce(&api, sender, nonce.to()).await
        })
        .add("ots_getContractCreator", async |api, args| {
            creator(&api, args.need(0)?).await
        });
}

fn search_args(args: &Args) -> Result<(Address, u64, usize), RpcError> {
    let crate::params::Count(number) = args.need(1)?;
    let crate::params::Count(size) = args.need(2)?;
    let size = usize::try_from(size).unwrap_or(usize::MAX);
    Ok((args.need(0)?, number, size.clamp(1, PAGE_SIZE_MAX)))
}

/// Transactions that a search found: block and index.
#[derive(Default)]
struct Found(Vec<(Arc<ChainBlock>, usize)>);

impl Found {
    /// Adds those of a block that touch `address`, the last first.
    async fn add(&mut self, api: &Api, height: Height, address: Address) -> Result<(), RpcError> {
        let Some(block) = api.at_height(height).await? else {
            return Ok(());
        };
        let mut inside = None;
        for index in (0..block.transactions.len()).rev() {
            let found = if touches(&block, index, address) {
                true
            } else if !block.transactions[index].input().is_empty() {
                // Calls inside are seen by executing the block again, as long as its state is kept.
                if inside.is_none() {
                    inside = Some(called_in(api, &block, address).await?);
                }
                inside
                    .as_ref()
                    .is_some_and(|inside| inside.contains(&index))
            } else {
                false
            };
            if found {
                self.0.push((block.clone(), index));
            }
        }
        Ok(())
    }

    fn page(self, first_page: bool, last_page: bool) -> TransactionsWithReceipts {
        let txs = self.0.iter();
        let txs = txs.filter_map(|(block, index)| convert::transaction(block, *index));
        let receipts = self.0.iter().filter_map(|(block, index)| {
            Some(OtsTransactionReceipt {
                receipt: without_logs(convert::receipt(block, *index)?),
                timestamp: Some(block.header.timestamp),
            })
        });
        TransactionsWithReceipts {
            txs: txs.collect(),
            receipts: receipts.collect(),
            first_page,
            last_page,
        }
    }
}

/// Whether a transaction's envelope or logs name `address`.
fn touches(block: &ChainBlock, index: usize, address: Address) -> bool {
    let receipt = &block.receipts[index];
    let word = B256::left_padding_from(address.as_slice());
    block.senders[index] == address
        || block.transactions[index].to() == Some(address)
        || receipt.contract_address == Some(address)
        || receipt
            .logs
            .iter()
            .any(|log| log.address == address || log.data.topics().contains(&word))
}

/// Indices of a block's transactions that call, make or destroy `address` inside; none where its state is gone.
async fn called_in(
    api: &Api,
    block: &Arc<ChainBlock>,
    address: Address,
) -> Result<Vec<usize>, RpcError> {
    let traces = match trace::calls(api, block.clone(), Only::Every).await {
        Err(RpcError::Pruned { .. }) => return Ok(Vec::new()),
        traces => traces?,
    };
    let names = |trace: &&LocalizedTransactionTrace| match &trace.trace.action {
        Action::Call(call) => call.from == address || call.to == address,
        Action::Create(create) => create.from == address || made(trace) == Some(address),
        Action::Selfdestruct(gone) => gone.address == address || gone.refund_address == address,
        Action::Reward(_) => false,
    };
    let positions = traces.iter().filter(names);
    Ok(positions
        .filter_map(|trace| trace.transaction_position)
        .map(|index| index as usize)
        .collect())
}

fn made(trace: &LocalizedTransactionTrace) -> Option<Address> {
    match &trace.trace.result {
        Some(TraceOutput::Create(made)) => Some(made.address),
        _ => None,
    }
}

/// The first height whose state passes `test`, which holds from then on. State that is no longer kept does not pass.
async fn first_height<F: Future<Output = Result<bool, RpcError>>>(
    api: &Api,
    test: impl Fn(At) -> F,
) -> Result<Option<Height>, RpcError> {
    let head = api.reader.head().height();
    if !test(At::Head).await? {
        return Ok(None);
    }
    let (mut low, mut high) = (0, head.0);
    while low < high {
        let middle = low + (high - low) / 2;
        let passes = match test(At::Height(Height(middle))).await {
            Err(RpcError::Pruned { .. }) => false,
            passes => passes?,
        };
        if passes {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    Ok(Some(Height(low)))
}

async fn by_sender_and_nonce(
    api: &Api,
    sender: Address,
    nonce: u64,
) -> Result<Option<TxHash>, RpcError> {
    let used = |at| async move { Ok(api.reader.account(sender, at).await?.nonce > nonce) };
    let Some(height) = first_height(api, used).await? else {
        return Ok(None);
    };
    let Some(block) = api.at_height(height).await? else {
        return Ok(None);
    };
    let index = (0..block.transactions.len()).find(|&index| {
        block.senders[index] == sender && block.transactions[index].nonce() == nonce
    });
    Ok(index.map(|index| *block.transactions[index].tx_hash()))
}

async fn creator(api: &Api, address: Address) -> Result<Option<ContractCreator>, RpcError> {
    let has_code = |at| async move { Ok(!api.reader.code(address, at).await?.is_empty()) };
    let Some(height) = first_height(api, has_code).await? else {
        return Ok(None);
    };
    let Some(block) = api.at_height(height).await? else {
        return Ok(None);
    };
    let mut receipts = block.receipts.iter();
    if let Some(receipt) = receipts.find(|r| r.contract_address == Some(address)) {
        return Ok(Some(ContractCreator {
            hash: receipt.tx_hash,
            creator: receipt.from,
        }));
    }
    let traces = trace::calls(api, block, Only::Every).await?;
    let found = traces.iter().find(|trace| made(trace) == Some(address));
    Ok(found.and_then(|trace| {
        let creator = trace.trace.action.as_create()?.from;
        Some(ContractCreator {
            hash: trace.transaction_hash?,
            creator,
        })
    }))
}
