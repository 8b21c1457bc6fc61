//! `txpool_`: the pool's content, in geth's forms.

use crate::api::{Api, Table};
use crate::convert;
use crate::reader::PendingTx;
use alloy_consensus::Transaction as _;
use alloy_primitives::{Address, U64};
use alloy_rpc_types_eth::Transaction;
use serde::Serialize;
use std::collections::BTreeMap;

/// Adds the methods.
pub fn register(table: &mut Table) {
    table
        .add("txpool_status", async |api, _| {
            let pool = api.reader.pool();
            let queued = pool.iter().filter(|entry| entry.queued).count();
            Ok(Parts {
                pending: U64::from(pool.len() - queued),
                queued: U64::from(queued),
            })
        })
        .add("txpool_content", async |api, _| {
            Ok(by_sender(&api, convert::pending_transaction))
        })
        .add("txpool_contentFrom", async |api, args| {
            let sender: Address = args.need(0)?;
            let mut all = by_sender(&api, convert::pending_transaction);
            Ok(Parts::<ByNonce<Transaction>> {
                pending: all.pending.remove(&sender).unwrap_or_default(),
                queued: all.queued.remove(&sender).unwrap_or_default(),
            })
        })
        .add("txpool_inspect", async |api, _| {
            Ok(by_sender(&api, summary))
        });
}

/// Executable ones and those behind a nonce gap.
#[derive(Clone, Debug, Serialize)]
struct Parts<T> {
    pending: T,
    queued: T,
}

type ByNonce<T> = BTreeMap<String, T>;

fn by_sender<T>(api: &Api, make: impl Fn(&PendingTx) -> T) -> Parts<BTreeMap<Address, ByNonce<T>>> {
    let (mut executable, mut queued) = (BTreeMap::new(), BTreeMap::new());
    for entry in api.reader.pool() {
        let pending = &entry.tx;
        let part: &mut BTreeMap<Address, ByNonce<T>> = if entry.queued {
            &mut queued
        } else {
            &mut executable
        };
        part.entry(pending.tx.sender)
            .or_default()
            .insert(pending.tx.nonce.to_string(), make(pending));
    }
    Parts {
        pending: executable,
        queued,
    }
}

fn summary(pending: &PendingTx) -> String {
    let tx = &pending.envelope;
    let target = tx
        .to()
        .map_or_else(|| "contract creation".to_owned(), |to| to.to_string());
    format!(
        "{target}: {} wei + {} gas × {} wei",
        tx.value(),
        tx.gas_limit(),
        tx.max_fee_per_gas()
    )
}
