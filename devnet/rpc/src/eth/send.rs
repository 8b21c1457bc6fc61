//! Transactions: in, signed or to be signed by an account of the node.

use crate::api::{Api, Table};
use crate::convert;
use crate::errors::RpcError;
use crate::eth::subscribe::BlockFeed;
use crate::eth::{call, fees, read};
use crate::params::{Count, Message};
use crate::reader::{At, Overrides};
use alloy_consensus::{SignableTransaction, TxEnvelope, TypedTransaction};
use alloy_dyn_abi::eip712::TypedData;
use alloy_eips::Encodable2718;
use alloy_network::TxSignerSync;
use alloy_primitives::{Address, B256, Bytes, Signature, TxKind, U256};
use alloy_rpc_types_eth::{Transaction, TransactionReceipt, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Mutex, OwnedMutexGuard};

/// How long `eth_sendRawTransactionSync` waits where the client does not say, in ms; geth's default.
const SYNC_MS_DEFAULT: u64 = 20_000;
/// How long it waits at most, in ms; geth's.
const SYNC_MS_MAX: u64 = 60_000;
/// Base fees that a filled fee covers: two, so that it holds for five full blocks in a row, as wallets do it.
const BASE_FEE_MARGIN: u128 = 2;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("eth_sendRawTransaction", async |api, args| {
            Ok(api.submitter.send_raw(args.need(0)?).await?)
        })
        .add("eth_sendRawTransactionSync", async |api, args| {
            let timeout = args.maybe(1)?.map_or(SYNC_MS_DEFAULT, |Count(ms)| ms);
            send_sync(api, args.need(0)?, timeout.min(SYNC_MS_MAX)).await
        })
        .add("eth_sendTransaction", async |api, args| {
            let request: TransactionRequest = args.need(0)?;
            let (from, _guard) = account(&api, &request).await?;
            let request = fill(&api, from, request).await?;
            if api.accounts.signer(from).is_none() {
                return api.dev.send_as(from, build(request)?).await;
            }
            let raw = sign(&api, from, request)?.encoded_2718().into();
            Ok(api.submitter.send_raw(raw).await?)
        })
        .add("eth_sendUnsignedTransaction", async |api, args| {
            api.dev.allowed()?;
            let request: TransactionRequest = args.need(0)?;
            let from = request.from.ok_or(RpcError::UnknownAccount)?;
            let _guard = api.account_locks.of(from).lock_owned().await;
            let request = fill(&api, from, request).await?;
            api.dev.send_as(from, build(request)?).await
        })
        .add("eth_signTransaction", async |api, args| {
            let request: TransactionRequest = args.need(0)?;
            let (from, _guard) = account(&api, &request).await?;
            let envelope = sign(&api, from, fill(&api, from, request).await?)?;
            Ok(Filled::new(envelope, from))
        })
        .add("eth_fillTransaction", async |api, args| {
            let request: TransactionRequest = args.need(0)?;
            let from = request.from.unwrap_or_default();
            let typed = build(fill(&api, from, request).await?)?;
            // There is no signature yet; zeros stand in its place, as in geth.
            let none = Signature::new(U256::ZERO, U256::ZERO, false);
            Ok(Filled::new(typed.into_signed(none).into(), from))
        })
        .add("eth_sign", async |api, args| {
            let Message(message) = args.need(1)?;
            sign_message(signer(&api, args.need(0)?)?, &message)
        })
        .add("personal_sign", async |api, args| {
            let Message(message) = args.need(0)?;
            sign_message(signer(&api, args.need(1)?)?, &message)
        });
    for name in ["eth_signTypedData_v4", "eth_signTypedData"] {
        table.add(name, async |api, args| {
            let OneOrText(data) = args.need(1)?;
            sign_typed(signer(&api, args.need(0)?)?, &data)
        });
    }
}

/// One lock per account that the node sends for: sends from one account are one after the other, others don't wait.
#[derive(Default)]
pub struct AccountLocks(Locks);

type Locks = std::sync::Mutex<BTreeMap<Address, Arc<Mutex<()>>>>;

/// Locks that are kept though nobody holds them, in number: those of the node's own accounts and some others.
const LOCKS_KEPT_MAX: usize = 1_024;

impl AccountLocks {
    fn of(&self, address: Address) -> Arc<Mutex<()>> {
        let mut locks = self.0.lock().unwrap_or_else(|poison| poison.into_inner());
        if locks.len() >= LOCKS_KEPT_MAX {
            locks.retain(|_, lock| Arc::strong_count(lock) > 1);
        }
        locks.entry(address).or_default().clone()
    }
}

/// The sender of a request, and its lock; an error where the node neither has a key for it nor impersonates it.
async fn account(
    api: &Api,
    request: &TransactionRequest,
) -> Result<(Address, OwnedMutexGuard<()>), RpcError> {
    let from = request.from.ok_or(RpcError::UnknownAccount)?;
    if api.accounts.signer(from).is_none() && !api.impersonated.has(from) {
        return Err(RpcError::UnknownAccount);
    }
    Ok((from, api.account_locks.of(from).lock_owned().await))
}

fn signer(api: &Api, address: Address) -> Result<&PrivateKeySigner, RpcError> {
    api.accounts.signer(address).ok_or(RpcError::UnknownAccount)
}

/// Adds what a request leaves out: chain id, nonce, fees and gas, in geth's manner.
async fn fill(
    api: &Api,
    from: Address,
    request: TransactionRequest,
) -> Result<TransactionRequest, RpcError> {
    let mut request = call::normalized(request, 0)?;
    let chain_id = api.reader.chain_id();
    if let Some(have) = request.chain_id
        && have != chain_id
    {
        return Err(RpcError::InvalidTransaction(format!(
            "chainId does not match node's (have={have}, want={chain_id})"
        )));
    }
    request.chain_id = Some(chain_id);
    request.from = Some(from);
    let empty = request.input.input.as_ref().is_none_or(|i| i.is_empty());
    match request.to {
        None if empty => {
            return Err(RpcError::InvalidTransaction(
                "contract creation without any data provided".into(),
            ));
        }
        None => request.to = Some(TxKind::Create),
        Some(_) => {}
    }
    if request.nonce.is_none() {
        request.nonce = Some(api.reader.next_nonce(from).await?);
    }
    fill_fees(api, &mut request).await?;
    if request.gas.is_none() {
        let estimate = api
            .reader
            .estimate(request.clone(), At::Pending, Overrides::default());
        request.gas = Some(estimate.await?);
    }
    Ok(request)
}

async fn fill_fees(api: &Api, request: &mut TransactionRequest) -> Result<(), RpcError> {
    if request.gas_price.is_some() {
        return Ok(());
    }
    let base_fee = u128::from(api.reader.next_base_fee());
    // Types 0 and 1 are older than EIP-1559.
    if matches!(request.transaction_type, Some(0 | 1)) && request.max_fee_per_gas.is_none() {
        request.gas_price = Some(base_fee + fees::tip(api).await?);
        return Ok(());
    }
    let tip = match request.max_priority_fee_per_gas {
        Some(tip) => tip,
        None => {
            let tip = fees::tip(api).await?;
            tip.min(request.max_fee_per_gas.unwrap_or(u128::MAX))
        }
    };
    request.max_priority_fee_per_gas = Some(tip);
    let covering = base_fee.saturating_mul(BASE_FEE_MARGIN).saturating_add(tip);
    request.max_fee_per_gas.get_or_insert(covering);
    Ok(())
}

fn build(request: TransactionRequest) -> Result<TypedTransaction, RpcError> {
    if request.sidecar.is_some() || request.blob_versioned_hashes.is_some() {
        return Err(penstock_rules::tx::Refusal::Unsupported(3).into());
    }
    request.build_typed_tx().map_err(|_| {
        RpcError::InvalidTransaction("fields of different transaction types are mixed".into())
    })
}

fn sign(api: &Api, from: Address, request: TransactionRequest) -> Result<TxEnvelope, RpcError> {
    let mut typed = build(request)?;
    let signature = signer(api, from)?
        .sign_transaction_sync(&mut typed)
        .map_err(|error| RpcError::Internal(error.to_string()))?;
    Ok(typed.into_signed(signature).into())
}

/// Sends, then waits until the transaction is in a block.
async fn send_sync(
    api: Arc<Api>,
    raw: Bytes,
    timeout_ms: u64,
) -> Result<TransactionReceipt, RpcError> {
    // The feed starts before the transaction is sent, so that no block is missed.
    let mut blocks = BlockFeed::new(api.clone());
    let hash = api.submitter.send_raw(raw).await?;
    let included = async {
        while blocks.next().await?.is_some() {
            if let Some(receipt) = read::receipt(&api, hash).await? {
                return Ok(Some(receipt));
            }
        }
        Ok(None)
    };
    match tokio::time::timeout(Duration::from_millis(timeout_ms), included).await {
        Ok(Ok(Some(receipt))) => Ok(receipt),
        Ok(Err(error)) => Err(error),
        Ok(Ok(None)) | Err(_) => Err(RpcError::NotIncluded {
            hash,
            waited_ms: timeout_ms,
        }),
    }
}

/// A transaction that the node filled or signed: its bytes, and itself.
#[derive(Clone, Debug, Serialize)]
struct Filled {
    raw: Bytes,
    tx: Transaction,
}

impl Filled {
    fn new(envelope: TxEnvelope, from: Address) -> Self {
        Self {
            raw: envelope.encoded_2718().into(),
            tx: convert::unmined(envelope, from),
        }
    }
}

fn bytes(signature: Signature) -> Bytes {
    signature.as_bytes().into()
}

fn sign_message(signer: &PrivateKeySigner, message: &[u8]) -> Result<Bytes, RpcError> {
    signer
        .sign_message_sync(message)
        .map(bytes)
        .map_err(|error| RpcError::Internal(error.to_string()))
}

/// Typed data as a JSON object, or as a string that holds one: wallets send either.
struct OneOrText(TypedData);

impl<'de> Deserialize<'de> for OneOrText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut value = serde_json::Value::deserialize(deserializer)?;
        if let Some(text) = value.as_str() {
            value = serde_json::from_str(text).map_err(serde::de::Error::custom)?;
        }
        serde_json::from_value(value)
            .map(Self)
            .map_err(serde::de::Error::custom)
    }
}

fn sign_typed(signer: &PrivateKeySigner, data: &TypedData) -> Result<Bytes, RpcError> {
    let hash: B256 = data
        .eip712_signing_hash()
        .map_err(|error| RpcError::InvalidArgument {
            index: 1,
            reason: error.to_string(),
        })?;
    signer
        .sign_hash_sync(&hash)
        .map(bytes)
        .map_err(|error| RpcError::Internal(error.to_string()))
}
