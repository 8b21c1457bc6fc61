//! Blocks, transactions, receipts and accounts. What does not exist is `null`, not an error; state of a block that
//! does not exist is one.

use crate::api::{Api, Table};
use crate::convert::{self, Detail};
use crate::errors::RpcError;
use crate::params::{Args, Index, SlotKey};
use crate::reader::{At, ChainBlock};
use alloy_consensus::Header;
use alloy_eips::{BlockId, BlockNumberOrTag, Encodable2718};
use alloy_primitives::{Address, B256, Bytes, U64, U256};
use alloy_rpc_types_eth::{
    AccountInfo, Block, EIP1186AccountProofResponse, EIP1186StorageProof, Transaction,
    TransactionReceipt,
};
use alloy_serde::JsonStorageKey;
use penstock_rules::ids::{Height, TxHash};
use penstock_rules::producer::Timetable;
use penstock_rules::tx::Stage;
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;

/// Slots that one `eth_getStorageValues` may ask for, as in geth.
const STORAGE_VALUES_MAX: usize = 1024;

/// Adds the methods.
pub fn register(table: &mut Table) {
    chain(table);
    accounts(table);
    blocks(table);
    transactions(table);
}

fn chain(table: &mut Table) {
    table
        .add("eth_chainId", async |api, _| {
            Ok(U64::from(api.reader.chain_id()))
        })
        .add("eth_blockNumber", async |api, _| {
            Ok(U64::from(api.reader.head().header.number))
        })
        // Followers serve what they have verified; there is nothing that they lag behind and know of.
        .add("eth_syncing", async |_, _| Ok(false))
        .add("eth_coinbase", async |api, _| {
            Ok(api.reader.head().header.beneficiary)
        })
        .add("eth_capabilities", async |api, _| Ok(capabilities(&api)))
        .add("eth_accounts", async |api, _| Ok(senders(&api)))
        .add("eth_requestAccounts", async |api, _| Ok(senders(&api)))
        .add("eth_protocolVersion", async |_, _| Ok("0x44"));
}

/// What can be asked for, and from which block on (execution-apis 755).
#[derive(Clone, Debug, Serialize)]
struct Capabilities {
    head: HeadJson,
    state: Resource,
    tx: Resource,
    logs: Resource,
    receipts: Resource,
    blocks: Resource,
    stateproofs: Resource,
}

#[derive(Clone, Debug, Serialize)]
struct HeadJson {
    number: U64,
    hash: B256,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Resource {
    disabled: bool,
    oldest_block: U64,
    #[serde(skip_serializing_if = "Option::is_none")]
    delete_strategy: Option<Window>,
}

#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Window {
    r#type: &'static str,
    retention_blocks: u64,
}

impl Resource {
    fn new(oldest: Height, window: Option<u64>) -> Self {
        Self {
            disabled: false,
            oldest_block: U64::from(oldest.0),
            delete_strategy: window.map(|retention_blocks| Window {
                r#type: "window",
                retention_blocks,
            }),
        }
    }
}

fn capabilities(api: &Api) -> Capabilities {
    let (head, kept) = (api.reader.head(), api.reader.kept());
    let ever = || Resource::new(Height(0), None);
    Capabilities {
        head: HeadJson {
            number: U64::from(head.header.number),
            hash: head.hash,
        },
        state: Resource::new(kept.state.0, kept.state.1),
        tx: ever(),
        logs: ever(),
        receipts: ever(),
        blocks: ever(),
        stateproofs: Resource::new(kept.proofs.0, Some(kept.proofs.1)),
    }
}

/// Accounts for which `eth_sendTransaction` sends: clients look for theirs in this list first.
fn senders(api: &Api) -> Vec<Address> {
    let mut all = api.accounts.addresses();
    let others = api.impersonated.addresses().into_iter();
    all.extend(others.filter(|address| api.accounts.signer(*address).is_none()));
    all
}

fn accounts(table: &mut Table) {
    table
        .add("eth_getBalance", async |api, args| {
            let at = api.state(args.maybe(1)?).await?;
            Ok(api.reader.account(args.need(0)?, at).await?.balance)
        })
        .add("eth_getCode", async |api, args| {
            let at = api.state(args.maybe(1)?).await?;
            api.reader.code(args.need(0)?, at).await
        })
        .add("eth_getStorageAt", async |api, args| {
            let SlotKey(slot) = args.need(1)?;
            let at = api.state(args.maybe(2)?).await?;
            api.reader
                .slot(args.need(0)?, slot, at)
                .await
                .map(B256::from)
        })
        .add("eth_getProof", async |api, args| proof(&api, &args).await)
        .add("eth_getStorageValues", async |api, args| {
            storage_values(&api, &args).await
        })
        .add("eth_getTransactionCount", async |api, args| {
            let address: Address = args.need(0)?;
            let nonce = match api.state(args.maybe(1)?).await? {
                At::Pending => api.reader.next_nonce(address).await?,
                at => api.reader.account(address, at).await?.nonce,
            };
            Ok(U64::from(nonce))
        })
        .add("eth_getAccountInfo", async |api, args| {
            let address: Address = args.need(0)?;
            let at = api.state(args.maybe(1)?).await?;
            let account = api.reader.account(address, at).await?;
            let code = api.reader.code(address, at).await?;
            Ok(AccountInfo {
                balance: account.balance,
                nonce: account.nonce,
                code,
            })
        });
}

/// EIP-1186. Keys come back in the form in which they were asked for: web3.py sends `0x0`.
async fn proof(api: &Api, args: &Args) -> Result<EIP1186AccountProofResponse, RpcError> {
    let address: Address = args.need(0)?;
    let keys: Vec<SlotKey> = args.maybe(1)?.unwrap_or_default();
    let forms: Vec<JsonStorageKey> = args.maybe(1)?.unwrap_or_default();
    if keys.len() > STORAGE_VALUES_MAX {
        return Err(RpcError::TooManyCriteria(STORAGE_VALUES_MAX));
    }
    let at = api.state(args.maybe(2)?).await?;
    let slots = keys.iter().map(|SlotKey(slot)| *slot).collect();
    let view = api.reader.proof(address, slots, at).await?;
    Ok(EIP1186AccountProofResponse {
        address,
        balance: view.account.balance,
        code_hash: view.account.code_hash,
        nonce: view.account.nonce,
        storage_hash: view.storage_root,
        account_proof: view.nodes,
        storage_proof: forms
            .into_iter()
            .zip(view.slots)
            .map(|(key, (value, proof))| EIP1186StorageProof { key, value, proof })
            .collect(),
    })
}

async fn storage_values(api: &Api, args: &Args) -> Result<BTreeMap<Address, Vec<B256>>, RpcError> {
    let wanted: BTreeMap<Address, Vec<B256>> = args.need(0)?;
    let at = api.state(args.maybe(1)?).await?;
    if wanted.values().map(Vec::len).sum::<usize>() > STORAGE_VALUES_MAX {
        return Err(RpcError::TooManyCriteria(STORAGE_VALUES_MAX));
    }
    let mut values = BTreeMap::new();
    for (address, slots) in wanted {
        let mut found = Vec::with_capacity(slots.len());
        for slot in slots {
            let value = api.reader.slot(address, U256::from_be_bytes(slot.0), at);
            found.push(B256::from(value.await?));
        }
        values.insert(address, found);
    }
    Ok(values)
}

/// The block that a request names by number or tag in its first argument.
async fn by_number(api: &Api, args: &Args) -> Result<Option<Arc<ChainBlock>>, RpcError> {
    let tag: BlockNumberOrTag = args.need(0)?;
    api.block(tag.into()).await
}

/// The block that a request names by hash in its first argument.
async fn by_hash(api: &Api, args: &Args) -> Result<Option<Arc<ChainBlock>>, RpcError> {
    api.reader.block_by_hash(args.need(0)?).await
}

fn detailed(block: Option<Arc<ChainBlock>>, args: &Args) -> Result<Option<Block>, RpcError> {
    let detail = Detail::from(args.maybe(1)?.unwrap_or(false));
    Ok(block.map(|block| convert::block(&block, detail)))
}

fn count(block: &ChainBlock) -> U64 {
    U64::from(block.transactions.len())
}

fn blocks(table: &mut Table) {
    table
        .add("eth_getBlockByNumber", async |api, args| {
            detailed(by_number(&api, &args).await?, &args)
        })
        .add("eth_getBlockByHash", async |api, args| {
            detailed(by_hash(&api, &args).await?, &args)
        })
        .add("eth_getHeaderByNumber", async |api, args| {
            let block = by_number(&api, &args).await?;
            Ok(block.map(|block| convert::header(&block)))
        })
        .add("eth_getHeaderByHash", async |api, args| {
            let block = by_hash(&api, &args).await?;
            Ok(block.map(|block| convert::header(&block)))
        })
        .add("eth_getBlockTransactionCountByNumber", async |api, args| {
            Ok(by_number(&api, &args).await?.map(|block| count(&block)))
        })
        .add("eth_getBlockTransactionCountByHash", async |api, args| {
            Ok(by_hash(&api, &args).await?.map(|block| count(&block)))
        })
        .add("eth_getBlockReceipts", async |api, args| {
            let block = api.block(args.need::<BlockId>(0)?).await?;
            Ok(block.map(|block| convert::receipts(&block)))
        })
        // There are no uncles since the merge: none counted where there is a block, and none found.
        .add("eth_getUncleCountByBlockNumber", async |api, args| {
            Ok(by_number(&api, &args).await?.map(|_| U64::ZERO))
        })
        .add("eth_getUncleCountByBlockHash", async |api, args| {
            Ok(by_hash(&api, &args).await?.map(|_| U64::ZERO))
        })
        .add("eth_getUncleByBlockNumberAndIndex", async |_, _| {
            Ok(None::<Header>)
        })
        .add("eth_getUncleByBlockHashAndIndex", async |_, _| {
            Ok(None::<Header>)
        });
}

/// An included transaction: its block and index.
pub async fn included(
    api: &Api,
    hash: TxHash,
) -> Result<Option<(Arc<ChainBlock>, usize)>, RpcError> {
    let Some((height, index)) = api.reader.location(hash).await? else {
        return Ok(None);
    };
    let block = api.at_height(height).await?;
    Ok(block.map(|block| (block, index as usize)))
}

/// The receipt of an included transaction.
pub async fn receipt(api: &Api, hash: TxHash) -> Result<Option<TransactionReceipt>, RpcError> {
    let found = included(api, hash).await?;
    Ok(found.and_then(|(block, index)| convert::receipt(&block, index)))
}

/// A receipt. Where blocks are made at once and the transaction is about to be in one, it is waited for a moment.
async fn receipt_soon(api: &Api, hash: TxHash) -> Result<Option<TransactionReceipt>, RpcError> {
    // Before the first look, so that no block falls between.
    let mut blocks = api.reader.watch_blocks();
    if let Some(found) = receipt(api, hash).await? {
        return Ok(Some(found));
    }
    if api.dev.timetable() != Timetable::AtOnce || !is_about_to_be_included(api, hash) {
        return Ok(None);
    }
    let included = async {
        while !matches!(blocks.recv().await, Err(RecvError::Closed)) {
            if let Some(found) = receipt(api, hash).await? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    };
    let waited = tokio::time::timeout(api.receipt_patience, included).await;
    waited.unwrap_or(Ok(None))
}

/// Whether nothing but its turn keeps a transaction of the pool from the next block.
fn is_about_to_be_included(api: &Api, hash: TxHash) -> bool {
    let last = api.reader.history(hash).pop().map(|step| step.stage);
    api.reader.pending(hash).is_some()
        && matches!(last, None | Some(Stage::Accepted | Stage::Ready))
}

/// A transaction of the chain or the pool.
async fn transaction(api: &Api, hash: TxHash) -> Result<Option<Transaction>, RpcError> {
    if let Some((block, index)) = included(api, hash).await? {
        return Ok(convert::transaction(&block, index));
    }
    if let Some(pending) = api.reader.pending(hash) {
        return Ok(Some(convert::pending_transaction(&pending)));
    }
    // It may have gone from the pool into a block between the two looks.
    let found = included(api, hash).await?;
    Ok(found.and_then(|(block, index)| convert::transaction(&block, index)))
}

fn at_index(block: Option<Arc<ChainBlock>>, args: &Args) -> Result<Option<Transaction>, RpcError> {
    let index: Index = args.need(1)?;
    Ok(block.and_then(|block| convert::transaction(&block, index.to::<usize>())))
}

fn raw_at_index(block: Option<Arc<ChainBlock>>, args: &Args) -> Result<Option<Bytes>, RpcError> {
    let index: Index = args.need(1)?;
    Ok(block.and_then(|block| {
        let envelope = block.transactions.get(index.to::<usize>())?;
        Some(envelope.encoded_2718().into())
    }))
}

fn transactions(table: &mut Table) {
    table
        .add("eth_getTransactionByHash", async |api, args| {
            transaction(&api, args.need(0)?).await
        })
        .add("eth_getTransactionReceipt", async |api, args| {
            receipt_soon(&api, args.need(0)?).await
        })
        .add(
            "eth_getTransactionByBlockNumberAndIndex",
            async |api, args| at_index(by_number(&api, &args).await?, &args),
        )
        .add(
            "eth_getTransactionByBlockHashAndIndex",
            async |api, args| at_index(by_hash(&api, &args).await?, &args),
        )
        .add(
            "eth_getRawTransactionByBlockNumberAndIndex",
            async |api, args| raw_at_index(by_number(&api, &args).await?, &args),
        )
        .add(
            "eth_getRawTransactionByBlockHashAndIndex",
            async |api, args| raw_at_index(by_hash(&api, &args).await?, &args),
        )
        .add("eth_getRawTransactionByHash", async |api, args| {
            let hash: TxHash = args.need(0)?;
            if let Some(pending) = api.reader.pending(hash) {
                return Ok(Some(pending.tx.raw.clone()));
            }
            let found = included(&api, hash).await?;
            Ok(found.and_then(|(block, index)| {
                Some(Bytes::from(block.transactions.get(index)?.encoded_2718()))
            }))
        })
        .add("eth_pendingTransactions", async |api, _| {
            let ours = api.accounts.addresses();
            let pool = api.reader.pool();
            Ok(pool
                .iter()
                .filter(|entry| ours.contains(&entry.tx.tx.sender))
                .map(|entry| convert::pending_transaction(&entry.tx))
                .collect::<Vec<_>>())
        });
}
