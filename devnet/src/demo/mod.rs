//! `penstock demo`: three contracts that call models, used with real data on a running devnet.
//!
//! ```text
//!   scenes.rs: which contract, which model, which calls  -->  mod.rs: deploy, send, wait  -->  report.rs: table, digest
//! ```
//!
//! It is a client like any other: all that it knows comes over JSON-RPC. Each scene is played alone, so that the batches
//! which shards ran meanwhile are its own.

mod report;
mod scenes;

pub use report::{Report, SceneReport, Skipped, Spread};
pub use scenes::number;

use crate::registry;
use alloy_primitives::{Address, B256, Bytes, TxKind, U64, address};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_sol_types::SolEvent;
use eyre::{WrapErr, bail, eyre};
use futures::future::try_join_all;
use penstock_evm::abi::solidity::ModelInferenceEvent;
use report::Answers;
use scenes::Scene;
use serde::Deserialize;
use std::collections::BTreeSet;

/// The inference precompile: its events are the inferences.
const PRECOMPILE: Address = address!("00000000000000000000000000000000000000F4");

/// Most gas of a transaction since Osaka (EIP-7825).
const TRANSACTION_GAS_MAX: u64 = 1 << 24;

/// Gas of a deployment: the largest demo contract takes 1.5 M.
const DEPLOY_GAS: u64 = 5_000_000;

/// A model, as `pipe_models` lists it.
#[derive(Clone, Debug, Deserialize)]
struct Served {
    cid: String,
    /// Gas of a request of one unit, at the head's multiplier.
    gas: U64,
    inputs: Vec<Port>,
}

#[derive(Clone, Debug, Deserialize)]
struct Port {
    name: String,
}

/// A shard, as `pipe_shards` lists it.
#[derive(Clone, Copy, Debug, Deserialize)]
struct Shard {
    answers: U64,
    batches: U64,
}

/// A transaction's way, as `pipe_getTransactionStatus` tells it.
#[derive(Clone, Debug, Deserialize)]
struct Way {
    history: Vec<Step>,
}

#[derive(Clone, Debug, Deserialize)]
struct Step {
    stage: String,
    /// Milliseconds since 1970.
    at: U64,
}

/// A transaction that was sent, and the head when it was.
#[derive(Clone, Copy, Debug)]
struct Sent {
    hash: B256,
    head: u64,
}

/// Plays all scenes whose model the devnet serves, each with at most `transactions` transactions.
///
/// # Errors
/// Names what the devnet refused, or which transaction did not do what it should.
pub async fn play(rpc_url: &str, transactions: usize) -> eyre::Result<Report> {
    if transactions == 0 {
        bail!("--transactions 0: there is nothing to show");
    }
    let mut stage = Stage::open(rpc_url).await?;
    let (mut played, mut skipped) = (Vec::new(), Vec::new());
    for scene in scenes::all() {
        let served = stage.models.iter().find(|model| model.cid == scene.model);
        match served.cloned() {
            Some(model) => played.push(stage.play(&scene, &model, transactions).await?),
            None => skipped.push(Skipped {
                contract: scene.contract.to_owned(),
                model: scene.model.to_owned(),
                why: scene.absent.to_owned(),
            }),
        }
    }
    if played.is_empty() {
        bail!("the devnet at {rpc_url} serves none of the demo's models");
    }
    Ok(Report {
        chain_id: stage.chain_id,
        digest: stage.answers.digest(),
        outcomes: stage.answers.len(),
        scenes: played,
        skipped,
    })
}

/// The devnet, and what the demo has to keep of it.
struct Stage {
    provider: DynProvider,
    chain_id: u64,
    models: Vec<Served>,
    /// Accounts of the devnet, which signs for them, and the nonce of each one's next transaction.
    accounts: Vec<(Address, u64)>,
    answers: Answers,
}

impl Stage {
    async fn open(rpc_url: &str) -> eyre::Result<Self> {
        let provider = registry::connect(rpc_url).await?;
        let addresses = provider.get_accounts().await?;
        if addresses.is_empty() {
            bail!("the devnet at {rpc_url} has no accounts to send from");
        }
        let mut accounts = Vec::with_capacity(addresses.len());
        for address in addresses {
            let nonce = provider.get_transaction_count(address).pending().await?;
            accounts.push((address, nonce));
        }
        Ok(Self {
            chain_id: provider.get_chain_id().await?,
            models: provider
                .raw_request("pipe_models".into(), ())
                .await
                .wrap_err_with(|| format!("{rpc_url} is no penstock devnet"))?,
            provider,
            accounts,
            answers: Answers::default(),
        })
    }

    async fn play(
        &mut self,
        scene: &Scene,
        model: &Served,
        transactions: usize,
    ) -> eyre::Result<SceneReport> {
        let input = model.inputs.first().map(|port| port.name.as_str());
        let input = input.ok_or_else(|| eyre!("model {} takes no input", model.cid))?;
        let contract = self.deploy(scene, (scene.code)(input)?).await?;
        let before = self.work().await?;
        // Twice the price of today, as far as a transaction may go.
        let gas = model.gas.to::<u64>().saturating_mul(2);
        let gas = scene.gas.saturating_add(gas).min(TRANSACTION_GAS_MAX);
        let sent = self
            .send((scene.calls)(transactions)?, contract, gas)
            .await?;
        let mut figures = report::Figures::default();
        let mut receipts = Vec::with_capacity(sent.len());
        for one in &sent {
            let receipt = registry::receipt(&self.provider, one.hash).await?;
            if !receipt.status() {
                bail!("{}: transaction {} reverted", scene.contract, one.hash);
            }
            let height = receipt.block_number.unwrap_or_default();
            let keys = keys(&receipt)?;
            if keys.is_empty() {
                bail!(
                    "{}: transaction {} read no answer",
                    scene.contract,
                    one.hash
                );
            }
            figures.add(
                height,
                height.saturating_sub(one.head),
                self.milliseconds(one.hash).await?,
                keys.len(),
            );
            self.answers.ask(height, keys);
            receipts.push(receipt);
        }
        self.answers.read(&self.provider).await?;
        let work = self.work().await?.since(before);
        Ok(figures.report(scene, contract, work, (scene.said)(&receipts)))
    }

    async fn deploy(&mut self, scene: &Scene, code: Bytes) -> eyre::Result<Address> {
        let (from, nonce) = &mut self.accounts[0];
        let mut request = TransactionRequest::default()
            .from(*from)
            .nonce(*nonce)
            .gas_limit(DEPLOY_GAS)
            .input(code.into());
        request.to = Some(TxKind::Create);
        *nonce += 1;
        let tx = submit(&self.provider, request).await?;
        let receipt = registry::receipt(&self.provider, tx).await?;
        receipt
            .contract_address
            .filter(|_| receipt.status())
            .ok_or_else(|| eyre!("{} could not be deployed: transaction {tx}", scene.contract))
    }

    /// Sends calls from all accounts at the same time, each account's in order.
    async fn send(&mut self, calls: Vec<Bytes>, to: Address, gas: u64) -> eyre::Result<Vec<Sent>> {
        let mut lanes = vec![Vec::new(); self.accounts.len()];
        for (number, call) in calls.into_iter().enumerate() {
            let lane = number % lanes.len();
            let (from, nonce) = &mut self.accounts[lane];
            lanes[lane].push(
                TransactionRequest::default()
                    .from(*from)
                    .nonce(*nonce)
                    .to(to)
                    .gas_limit(gas)
                    .input(call.into()),
            );
            *nonce += 1;
        }
        let provider = &self.provider;
        let lanes = lanes.into_iter().map(|lane| async move {
            let mut sent = Vec::with_capacity(lane.len());
            for request in lane {
                let head = provider.get_block_number().await?;
                let hash = submit(provider, request).await?;
                sent.push(Sent { hash, head });
            }
            Ok::<_, eyre::Report>(sent)
        });
        Ok(try_join_all(lanes).await?.concat())
    }

    /// Time from acceptance to inclusion, as the devnet's own clock has it.
    async fn milliseconds(&self, hash: B256) -> eyre::Result<Option<u64>> {
        let way: Option<Way> = self
            .provider
            .raw_request("pipe_getTransactionStatus".into(), (hash,))
            .await?;
        let at = |stage: &str| {
            let way = way.as_ref()?;
            let step = way.history.iter().find(|step| step.stage == stage)?;
            Some(step.at.to::<u64>())
        };
        let (accepted, included) = (at("accepted"), at("included"));
        Ok(included
            .zip(accepted)
            .map(|(end, start)| end.saturating_sub(start)))
    }

    async fn work(&self) -> eyre::Result<report::Work> {
        let shards: Vec<Shard> = self.provider.raw_request("pipe_shards".into(), ()).await?;
        Ok(report::Work {
            answers: shards.iter().map(|shard| shard.answers.to::<u64>()).sum(),
            batches: shards.iter().map(|shard| shard.batches.to::<u64>()).sum(),
        })
    }
}

async fn submit(provider: &DynProvider, request: TransactionRequest) -> eyre::Result<B256> {
    let from = request.from.unwrap_or_default();
    provider
        .raw_request("eth_sendTransaction".into(), (request,))
        .await
        .wrap_err_with(|| format!("the devnet did not take a transaction from {from}"))
}

/// Keys of the requests that were answered in this transaction.
fn keys(receipt: &TransactionReceipt) -> eyre::Result<BTreeSet<B256>> {
    let logs = receipt.logs().iter();
    logs.filter(|log| log.address() == PRECOMPILE)
        .map(|log| {
            let event = ModelInferenceEvent::decode_log(&log.inner)
                .wrap_err("an inference event does not decode")?;
            event
                .data
                .inferenceID
                .parse()
                .wrap_err_with(|| format!("{:?} is no request key", event.data.inferenceID))
        })
        .collect()
}
