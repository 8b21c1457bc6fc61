//! Filters that clients poll. A filter remembers how far it was read, no results; what is new is read from the chain
//! when it is asked for. So a filter that nobody polls costs nothing but its name.

use crate::api::{Api, Table};
use crate::convert;
use crate::errors::RpcError;
use crate::eth::logs;
use crate::reader::PendingTx;
use crate::server::random_id;
use alloy_primitives::B256;
use alloy_rpc_types_eth::{Filter as Query, Log, Transaction};
use penstock_rules::ids::Height;
use serde::Serialize;
use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::broadcast::{self, error::TryRecvError};

/// How long a filter lives without being polled; geth's 5 minutes.
const IDLE: Duration = Duration::from_secs(300);
/// Filters at the same time. One takes at most a few kB, so this is some MB.
const FILTERS_MAX: usize = 4_096;
/// Block hashes that one poll gives at most; the next poll goes on.
const HASHES_PER_POLL: u64 = 16_384;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("eth_newFilter", async |api, args| {
            let query: Query = args.need(0)?;
            logs::check(&query)?;
            api.filters.install(Kind::Logs(Box::new(query)), next(&api))
        })
        .add("eth_newBlockFilter", async |api, _| {
            api.filters.install(Kind::Blocks, next(&api))
        })
        .add("eth_newPendingTransactionFilter", async |api, args| {
            let full = args.maybe(0)?.unwrap_or(false);
            let from = api.reader.watch_pending();
            api.filters
                .install(Kind::Pending { from, full }, next(&api))
        })
        .add("eth_getFilterChanges", async |api, args| {
            let filter = api.filters.find(&args.need::<String>(0)?)?;
            changes(&api, &mut *filter.lock().await).await
        })
        .add("eth_getFilterLogs", async |api, args| {
            let filter = api.filters.find(&args.need::<String>(0)?)?;
            let query = match &filter.lock().await.kind {
                Kind::Logs(query) => query.clone(),
                Kind::Blocks | Kind::Pending { .. } => return Err(RpcError::FilterNotFound),
            };
            logs::query(&api, &query).await
        })
        .add("eth_uninstallFilter", async |api, args| {
            Ok(api.filters.remove(&args.need::<String>(0)?))
        });
}

/// The first height that a filter made now has not seen.
fn next(api: &Api) -> Height {
    api.reader.head().height().next()
}

enum Kind {
    Blocks,
    Logs(Box<Query>),
    Pending {
        from: broadcast::Receiver<Arc<PendingTx>>,
        full: bool,
    },
}

struct Filter {
    kind: Kind,
    /// First height that was not read yet.
    next: Height,
}

struct Slot {
    used: Instant,
    filter: Arc<tokio::sync::Mutex<Filter>>,
}

/// All filters, by id. The lock is held for a look-up only.
#[derive(Default)]
pub struct Filters(Mutex<HashMap<String, Slot>>);

impl Filters {
    fn slots(&self) -> std::sync::MutexGuard<'_, HashMap<String, Slot>> {
        self.0.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn install(&self, kind: Kind, next: Height) -> Result<String, RpcError> {
        let mut slots = self.slots();
        if slots.len() >= FILTERS_MAX {
            slots.retain(|_, slot| slot.used.elapsed() < IDLE);
        }
        if slots.len() >= FILTERS_MAX {
            return Err(RpcError::TooManyFilters(FILTERS_MAX));
        }
        let id = random_id();
        let slot = Slot {
            used: Instant::now(),
            filter: Arc::new(tokio::sync::Mutex::new(Filter { kind, next })),
        };
        slots.insert(id.clone(), slot);
        Ok(id)
    }

    fn find(&self, id: &str) -> Result<Arc<tokio::sync::Mutex<Filter>>, RpcError> {
        let mut slots = self.slots();
        let slot = slots.get_mut(id).ok_or(RpcError::FilterNotFound)?;
        if slot.used.elapsed() >= IDLE {
            slots.remove(id);
            return Err(RpcError::FilterNotFound);
        }
        slot.used = Instant::now();
        Ok(slot.filter.clone())
    }

    fn remove(&self, id: &str) -> bool {
        self.slots().remove(id).is_some()
    }
}

/// What a filter found since the last poll.
#[derive(Clone, Debug, Serialize)]
#[serde(untagged)]
enum Changes {
    Hashes(Vec<B256>),
    Logs(Vec<Log>),
    Transactions(Vec<Transaction>),
}

async fn changes(api: &Api, filter: &mut Filter) -> Result<Changes, RpcError> {
    let head = api.reader.head().height();
    let from = filter.next;
    match &mut filter.kind {
        Kind::Blocks => {
            let mut hashes = Vec::new();
            let last = head.0.min(from.0.saturating_add(HASHES_PER_POLL - 1));
            for number in from.0..=last {
                let block = api.at_height(Height(number)).await?;
                hashes.extend(block.map(|block| block.hash));
            }
            filter.next = Height(last).next().max(from);
            Ok(Changes::Hashes(hashes))
        }
        Kind::Logs(query) => {
            let to = query.get_to_block().map_or(head, |to| head.min(Height(to)));
            let from = from.max(Height(query.get_from_block().unwrap_or_default()));
            let found = if from <= to {
                logs::range(api, query, from, to).await?
            } else {
                Vec::new()
            };
            filter.next = filter.next.max(head.next());
            Ok(Changes::Logs(found))
        }
        Kind::Pending { from, full } => {
            let new = drain(from);
            Ok(if *full {
                Changes::Transactions(
                    new.iter()
                        .map(|tx| convert::pending_transaction(tx))
                        .collect(),
                )
            } else {
                Changes::Hashes(new.iter().map(|tx| tx.tx.hash).collect())
            })
        }
    }
}

/// All that a receiver holds. What it lost because it was not polled in time is lost, as in geth's pool filter.
fn drain(from: &mut broadcast::Receiver<Arc<PendingTx>>) -> Vec<Arc<PendingTx>> {
    let mut new = Vec::new();
    loop {
        match from.try_recv() {
            Ok(tx) => new.push(tx),
            Err(TryRecvError::Lagged(_)) => {}
            Err(TryRecvError::Empty | TryRecvError::Closed) => return new,
        }
    }
}
