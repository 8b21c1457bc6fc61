//! `pipe_subscribe`: what the other methods answer, whenever it changes.
//!
//! | kind | argument | comes |
//! |---|---|---|
//! | `transactionStatus` | a hash, or nothing for all | with each step: the hash and the step |
//! | `witness` | | with each block that consumed something, or has a privileged entry |
//! | `inferenceReceipt` | | with each block: one for each transaction that asked for inference |
//! | `certificate` | | with each block: its producer's signature |
//! | `valueCertificate` | | when the scheduler's certificate (`pipe_certificate`) changed, looked at with each block and each second |
//! | `market` | | with each block: multiplier of the next, and what this one used |
//! | `queue` | | when it changed, looked at with each block and each second |
//! | `models`, `shards` | | at first, and when they changed, looked at in the same way |

use super::{Model, Queue, Shard, Witness, congestion, receipt, step};
use crate::api::{Api, Table};
use crate::errors::RpcError;
use crate::eth::subscribe::{BlockFeed, send};
use crate::params::Args;
use crate::reader::{At, ChainBlock};
use alloy_primitives::{B256, U64};
use jsonrpsee::{PendingSubscriptionSink, SubscriptionSink};
use penstock_rules::tx::StatusUpdate;
use serde::Serialize;
use serde_json::Value;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// How often what no block announces is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Adds the subscription.
pub fn register(table: &mut Table) {
    table
        .module()
        .register_subscription(
            "pipe_subscribe",
            "pipe_subscription",
            "pipe_unsubscribe",
            |params, pending, api, _| async move {
                match Args::split(&params).and_then(|args| Wanted::parse(&args)) {
                    Ok(wanted) => serve(wanted, pending, api).await,
                    Err(error) => pending.reject(error).await,
                }
            },
        )
        .expect("method names are unique");
}

#[derive(Clone, Copy)]
enum Wanted {
    Status(Option<B256>),
    Witness,
    Receipts,
    Certificate,
    ValueCertificate,
    Market,
    Queue,
    Models,
    Shards,
}

impl Wanted {
    fn parse(args: &Args) -> Result<Self, RpcError> {
        let kind: String = args.need(0)?;
        Ok(match kind.as_str() {
            "transactionStatus" => Self::Status(args.maybe(1)?),
            "witness" => Self::Witness,
            "inferenceReceipt" => Self::Receipts,
            "certificate" => Self::Certificate,
            "valueCertificate" => Self::ValueCertificate,
            "market" => Self::Market,
            "queue" => Self::Queue,
            "models" => Self::Models,
            "shards" => Self::Shards,
            _ => {
                return Err(RpcError::InvalidParams(format!(
                    "no \"{kind}\" subscription in pipe namespace"
                )));
            }
        })
    }
}

async fn serve(wanted: Wanted, pending: PendingSubscriptionSink, api: Arc<Api>) {
    // Feeds start before the client knows its id, so that it misses nothing from then on.
    let mut blocks = BlockFeed::new(api.clone());
    let mut statuses = api.reader.watch_statuses();
    let Ok(sink) = pending.accept().await else {
        return;
    };
    let work = async {
        match wanted {
            Wanted::Status(hash) => while status(&mut statuses, hash, &sink).await {},
            Wanted::Witness | Wanted::Receipts | Wanted::Certificate | Wanted::Market => {
                while let Ok(Some(block)) = blocks.next().await {
                    if !with_block(wanted, &api, &block, &sink).await {
                        break;
                    }
                }
            }
            Wanted::ValueCertificate | Wanted::Queue | Wanted::Models | Wanted::Shards => {
                changes(wanted, &api, &mut blocks, &sink).await;
            }
        }
    };
    tokio::select! {
        () = sink.closed() => {}
        () = work => {}
    }
}

/// A step, with the transaction that takes it.
#[derive(Serialize)]
struct StatusStep {
    hash: B256,
    #[serde(flatten)]
    step: super::Step,
}

async fn status(
    feed: &mut broadcast::Receiver<StatusUpdate>,
    only: Option<B256>,
    sink: &SubscriptionSink,
) -> bool {
    match feed.recv().await {
        Ok(update) if only.is_none_or(|hash| hash == update.hash) => {
            let hash = update.hash;
            let step = step(&update);
            send(sink, &StatusStep { hash, step }).await
        }
        // Another's; or a slow client missed some, of which the last step tells.
        Ok(_) | Err(RecvError::Lagged(_)) => true,
        Err(RecvError::Closed) => false,
    }
}

/// The market after a block.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Market {
    block_number: U64,
    /// Gas per igas in the next block.
    multiplier: U64,
    igas_used: U64,
    igas_limit: U64,
    inference_gas_used: U64,
}

async fn with_block(
    wanted: Wanted,
    api: &Api,
    block: &ChainBlock,
    sink: &SubscriptionSink,
) -> bool {
    match wanted {
        Wanted::Witness if block.witness.is_empty() => true,
        Wanted::Witness => send(sink, &Witness::of(block)).await,
        Wanted::Receipts => receipts(api, block, sink).await,
        Wanted::Certificate => match receipt::certificate(block) {
            Some(certificate) => send(sink, &certificate).await,
            None => true,
        },
        _ => {
            let at = match block.height() == api.reader.head().height() {
                true => At::Head,
                false => At::Height(block.height()),
            };
            let Ok(market) = api.reader.market(at).await else {
                return true;
            };
            let market = Market {
                block_number: U64::from(block.header.number),
                multiplier: U64::from(market.multiplier),
                igas_used: U64::from(market.igas.0),
                igas_limit: U64::from(market.igas_limit.0),
                inference_gas_used: U64::from(market.inference_gas),
            };
            send(sink, &market).await
        }
    }
}

/// Sends the inference receipts of a block's transactions. One that can't be made (its state is pruned, where a client lags
/// so far behind) is left out.
async fn receipts(api: &Api, block: &ChainBlock, sink: &SubscriptionSink) -> bool {
    let asked = block.receipts.iter();
    for transaction in asked.filter(|receipt| receipt.inference_gas_used > 0) {
        if let Ok(Some(receipt)) = receipt::of(api, transaction.tx_hash).await
            && !send(sink, &receipt).await
        {
            return false;
        }
    }
    true
}

/// Sends what is other than it was, from the first look on, until the client goes.
async fn changes(wanted: Wanted, api: &Api, blocks: &mut BlockFeed, sink: &SubscriptionSink) {
    let mut last = None;
    loop {
        if let Ok(now) = look(wanted, api).await
            && last.as_ref() != Some(&now)
        {
            if !send(sink, &now).await {
                return;
            }
            last = Some(now);
        }
        tokio::select! {
            () = tokio::time::sleep(LOOK) => {}
            block = blocks.next() => if !matches!(block, Ok(Some(_))) { return },
        }
    }
}

async fn look(wanted: Wanted, api: &Api) -> Result<Value, RpcError> {
    let queue = api.reader.queue().await?;
    let json = match wanted {
        Wanted::ValueCertificate => {
            let window = queue.congestion.and_then(|congestion| congestion.window);
            serde_json::to_value(window.map(congestion::Certificate::from))
        }
        Wanted::Models => {
            let models = api.reader.models().await?;
            let models: Vec<_> = models
                .iter()
                .map(|m| Model::new(m, queue.multiplier))
                .collect();
            serde_json::to_value(models)
        }
        Wanted::Shards => {
            let shards = api.reader.shards();
            // The time of the last hello moves all the time, and says nothing new.
            let shards = shards.iter().map(|view| Shard {
                seen: U64::ZERO,
                ..Shard::from(view)
            });
            serde_json::to_value(shards.collect::<Vec<_>>())
        }
        _ => serde_json::to_value(Queue::from(queue)),
    };
    json.map_err(|error| RpcError::Internal(error.to_string()))
}
