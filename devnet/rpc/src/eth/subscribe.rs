//! `eth_subscribe`, over WebSocket. Every subscription is a task of its own that reads a bounded feed: one that is slow
//! falls behind, reads blocks that it missed from the chain, and is closed when its client takes nothing at all.

use crate::api::{Api, Table};
use crate::convert;
use crate::errors::RpcError;
use crate::eth::logs;
use crate::params::Args;
use crate::reader::{ChainBlock, PendingTx};
use alloy_rpc_types_eth::Filter;
use alloy_rpc_types_eth::pubsub::{SubscriptionKind, TransactionReceiptsParams};
use jsonrpsee::{PendingSubscriptionSink, SubscriptionMessage, SubscriptionSink};
use penstock_rules::ids::Height;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};

/// How long a client may take nothing while its buffer is full; then its subscription ends.
const SLOW_CLIENT: Duration = Duration::from_secs(30);

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .module()
        .register_subscription(
            "eth_subscribe",
            "eth_subscription",
            "eth_unsubscribe",
            |params, pending, api, _| async move {
                match Args::split(&params).and_then(|args| Wanted::parse(&args)) {
                    Ok(wanted) => serve(wanted, pending, api).await,
                    Err(error) => pending.reject(error).await,
                }
            },
        )
        .expect("method names are unique");
}

enum Wanted {
    Heads,
    Logs(Box<Filter>),
    Pending { full: bool },
    Receipts(TransactionReceiptsParams),
    Syncing,
}

impl Wanted {
    fn parse(args: &Args) -> Result<Self, RpcError> {
        let kind: String = args.need(0)?;
        let kind = kind.parse::<SubscriptionKind>().map_err(|_| {
            RpcError::InvalidParams(format!("no \"{kind}\" subscription in eth namespace"))
        })?;
        Ok(match kind {
            SubscriptionKind::NewHeads => Self::Heads,
            SubscriptionKind::Logs => {
                let filter: Filter = args.maybe(1)?.unwrap_or_default();
                logs::check(&filter)?;
                Self::Logs(Box::new(filter))
            }
            SubscriptionKind::NewPendingTransactions => Self::Pending {
                full: args.maybe(1)?.is_some_and(|OrObject(full)| full),
            },
            SubscriptionKind::TransactionReceipts => {
                Self::Receipts(args.maybe(1)?.unwrap_or_default())
            }
            SubscriptionKind::Syncing => Self::Syncing,
        })
    }
}

/// `true`, `false`, or anything else, which is taken for `false`: clients send all sorts here.
struct OrObject(bool);

impl<'de> Deserialize<'de> for OrObject {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = serde_json::Value::deserialize(deserializer)?;
        Ok(Self(value.as_bool().unwrap_or(false)))
    }
}

async fn serve(wanted: Wanted, pending: PendingSubscriptionSink, api: Arc<Api>) {
    // Feeds start before the client knows its id, so that it misses nothing from then on.
    let mut blocks = BlockFeed::new(api.clone());
    let mut transactions = api.reader.watch_pending();
    let Ok(sink) = pending.accept().await else {
        return;
    };
    let work = async {
        match wanted {
            Wanted::Pending { full } => while pending_one(&mut transactions, &sink, full).await {},
            // The node is never behind: there is nothing to say until the client goes.
            Wanted::Syncing => std::future::pending().await,
            other => {
                while let Ok(Some(block)) = blocks.next().await {
                    if !block_one(&other, &block, &sink).await {
                        break;
                    }
                }
            }
        }
    };
    tokio::select! {
        () = sink.closed() => {}
        () = work => {}
    }
}

/// Sends what a block brings; false when the client is gone.
async fn block_one(wanted: &Wanted, block: &ChainBlock, sink: &SubscriptionSink) -> bool {
    match wanted {
        Wanted::Heads => send(sink, &convert::header(block)).await,
        Wanted::Logs(filter) => {
            let mut found = Vec::new();
            // Too many logs in one block: those that were found are sent.
            let _ = logs::collect(block, filter, &mut found);
            for log in found {
                if !send(sink, &log).await {
                    return false;
                }
            }
            true
        }
        Wanted::Receipts(params) => {
            let hashes = params.transaction_hashes.as_deref().unwrap_or_default();
            let mut receipts = convert::receipts(block);
            if !hashes.is_empty() {
                receipts.retain(|receipt| hashes.contains(&receipt.transaction_hash));
            }
            receipts.is_empty() || send(sink, &receipts).await
        }
        Wanted::Pending { .. } | Wanted::Syncing => true,
    }
}

/// Sends the next transaction of the pool; false when the client or the feed is gone.
async fn pending_one(
    feed: &mut broadcast::Receiver<Arc<PendingTx>>,
    sink: &SubscriptionSink,
    full: bool,
) -> bool {
    match feed.recv().await {
        Ok(tx) if full => send(sink, &convert::pending_transaction(&tx)).await,
        Ok(tx) => send(sink, &tx.tx.hash).await,
        Err(RecvError::Lagged(_)) => true,
        Err(RecvError::Closed) => false,
    }
}

pub async fn send(sink: &SubscriptionSink, item: &impl Serialize) -> bool {
    let Ok(json) = serde_json::value::to_raw_value(item) else {
        return false;
    };
    sink.send_timeout(SubscriptionMessage::from(json), SLOW_CLIENT)
        .await
        .is_ok()
}

/// All blocks from now on, in order, each once, however slowly they are taken.
pub struct BlockFeed {
    api: Arc<Api>,
    live: broadcast::Receiver<Arc<ChainBlock>>,
    next: Height,
    /// Blocks below this height are there to be read.
    known: Height,
}

impl BlockFeed {
    /// Starts after the head.
    pub fn new(api: Arc<Api>) -> Self {
        let live = api.reader.watch_blocks();
        let next = api.reader.head().height().next();
        Self {
            api,
            live,
            next,
            known: next,
        }
    }

    /// The next block; nothing when the chain's feed has ended.
    ///
    /// # Errors
    /// Where a block that was missed can't be read.
    pub async fn next(&mut self) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        loop {
            if self.next < self.known {
                let block = self.api.at_height(self.next).await?;
                self.next = self.next.next();
                match block {
                    Some(block) => return Ok(Some(block)),
                    None => continue,
                }
            }
            match self.live.recv().await {
                Ok(block) if block.height() == self.next => {
                    self.next = self.next.next();
                    self.known = self.known.max(self.next);
                    return Ok(Some(block));
                }
                Ok(block) => self.known = self.known.max(block.height().next()),
                Err(RecvError::Lagged(_)) => {
                    self.known = self.known.max(self.api.reader.head().height().next());
                }
                Err(RecvError::Closed) => return Ok(None),
            }
        }
    }
}
