//! Models of a running devnet, over its JSON-RPC.

use crate::models::LoadedModel;
use alloy_primitives::{Address, B256, Bytes, address};
use alloy_provider::{DynProvider, Provider, ProviderBuilder};
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::{SolCall, sol};
use eyre::{WrapErr, bail, eyre};
use serde_json::Value;
use std::time::Duration;

/// Where the model registry stands from genesis on.
pub const MODEL_REGISTRY: Address = address!("0000000000000000000000000000000000F40001");

/// Longest wait for a registration's receipt.
const RECEIPT_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause between two looks for it.
const RECEIPT_POLL: Duration = Duration::from_millis(50);

sol! {
    /// The registry's functions that this program calls.
    #[allow(missing_docs)]
    interface ModelRegistry {
        function register(string cid, bytes32 contentHash, uint64 igasBase, uint64 igasPerUnit, bytes signature);
        function has(string cid) returns (bool);
        function owner() returns (address);
    }
}

/// A client of the devnet at `rpc_url`.
///
/// # Errors
/// Where that is no URL, or nobody answers there.
pub async fn connect(rpc_url: &str) -> eyre::Result<DynProvider> {
    let url = rpc_url
        .parse()
        .wrap_err_with(|| format!("{rpc_url:?} is no URL"))?;
    // Nonces, fees and signatures are the devnet's matter, or said in the request.
    let provider = ProviderBuilder::new()
        .disable_recommended_fillers()
        .connect_http(url)
        .erased();
    provider
        .get_chain_id()
        .await
        .wrap_err_with(|| format!("no devnet answers at {rpc_url}; start one with: penstock up"))?;
    Ok(provider)
}

/// Calldata of a model's registration.
///
/// # Errors
/// Where the model's signature is larger than the registry takes.
pub fn registration(model: &LoadedModel) -> eyre::Result<Bytes> {
    let info = model.info();
    let signature = info
        .signature
        .encode()
        .wrap_err_with(|| format!("model {} has too many inputs or outputs", info.cid))?;
    let call = ModelRegistry::registerCall {
        cid: info.cid,
        contentHash: info.hash.0,
        igasBase: info.igas_base.0,
        igasPerUnit: info.igas_per_unit.0,
        signature: signature.into(),
    };
    Ok(call.abi_encode().into())
}

async fn view<C: SolCall>(provider: &impl Provider, call: C) -> eyre::Result<C::Return> {
    let request = TransactionRequest::default()
        .to(MODEL_REGISTRY)
        .input(Bytes::from(call.abi_encode()).into());
    let output = provider.call(request).await?;
    Ok(C::abi_decode_returns(&output)?)
}

/// Uploads a model to a running devnet and registers it there, from the registry's owner's account.
///
/// # Errors
/// Names what the devnet refused.
pub async fn add(rpc_url: &str, model: &LoadedModel) -> eyre::Result<()> {
    let provider = connect(rpc_url).await?;
    let cid = &model.cid;
    let has = ModelRegistry::hasCall { cid: cid.clone() };
    if view(&provider, has).await? {
        bail!(
            "a model with the id {cid} is registered already: ids stand for one content; use --cid"
        );
    }
    let hash: B256 = provider
        .raw_request("pipe_uploadModel".into(), (model.bytes.clone(),))
        .await
        .wrap_err("the devnet refused the upload")?;
    if hash != model.model.hash().0 {
        bail!("the devnet stored another content: {hash}");
    }
    let owner = view(&provider, ModelRegistry::ownerCall {}).await?;
    let request = TransactionRequest::default()
        .from(owner)
        .to(MODEL_REGISTRY)
        .input(registration(model)?.into());
    let tx: B256 = provider
        .raw_request("eth_sendTransaction".into(), (request,))
        .await
        .wrap_err_with(|| format!("the registry's owner {owner} is no account of this devnet"))?;
    let receipt = receipt(&provider, tx).await?;
    if !receipt.status() {
        bail!("registration of {cid} reverted in transaction {tx}");
    }
    let block = receipt.block_number.unwrap_or_default();
    println!(
        "{cid} is registered in block {block}: {}",
        model.model.hash()
    );
    Ok(())
}

/// Waits for a transaction's receipt.
///
/// # Errors
/// Where it does not come in time.
pub async fn receipt(provider: &impl Provider, tx: B256) -> eyre::Result<TransactionReceipt> {
    let found = tokio::time::timeout(RECEIPT_TIMEOUT, async {
        loop {
            if let Some(receipt) = provider.get_transaction_receipt(tx).await? {
                return Ok::<_, eyre::Report>(receipt);
            }
            tokio::time::sleep(RECEIPT_POLL).await;
        }
    });
    found
        .await
        .map_err(|_| eyre!("transaction {tx} is in no block after {RECEIPT_TIMEOUT:?}"))?
}

/// Prints the models of a running devnet.
///
/// # Errors
/// Where no devnet answers.
pub async fn list(rpc_url: &str) -> eyre::Result<()> {
    let provider = connect(rpc_url).await?;
    let models: Vec<Value> = provider
        .raw_request("pipe_models".into(), ())
        .await
        .wrap_err("the devnet does not list its models")?;
    for model in models {
        let text = |key: &str| model[key].as_str().unwrap_or_default().to_owned();
        println!("{:<20} {}", text("cid"), text("hash"));
    }
    Ok(())
}
