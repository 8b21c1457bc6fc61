//! Back-pressure: where the network has more work than it can do, a transaction whose inference would wait longer than
//! the limit is refused, with the price that would not wait so long.
//!
//! Nobody knows what a transaction asks for before it ran. So it runs here, once, on the head: only while there is such
//! a backlog, and what asks for nothing, or for what is answered already, passes at any price.

use super::{Gateway, Head};
use crate::results::ResultBook;
use alloy_consensus::{Transaction as _, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use parking_lot::RwLock;
use penstock_evm::{CallOutcome, CallRequest, estimate_inference, multiplier};
use penstock_rules::extractor::{gas_of, worth};
use penstock_rules::ids::Igas;
use penstock_rules::scheduler::Congestion;
use penstock_rules::tx::{PoolTx, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long what a scheduler said holds: blocks come more often, and a scheduler that is gone says nothing new.
const FRESH: Duration = Duration::from_secs(30);

/// What the scheduler said last.
#[derive(Default)]
pub struct Pressure {
    said: RwLock<Option<(Instant, Arc<Congestion>)>>,
}

impl Pressure {
    /// A scheduler says how it is.
    pub fn add(&self, congestion: Congestion) {
        *self.said.write() = Some((Instant::now(), Arc::new(congestion)));
    }

    /// How it is, where that is known.
    pub fn now(&self) -> Option<Arc<Congestion>> {
        let said = self.said.read();
        let (at, congestion) = said.as_ref()?;
        (at.elapsed() < FRESH).then(|| congestion.clone())
    }
}

/// All that it takes to say whether a transaction would wait too long.
pub(super) struct Check {
    congestion: Arc<Congestion>,
    limit: u32,
    head: Arc<Head>,
    results: ResultBook,
}

impl Gateway {
    /// What to check a transaction with, where somebody waits longer than the limit.
    pub(super) fn crowded(&self) -> Option<Check> {
        let limit = self.config.backlog_max?;
        let congestion = self.pressure.now()?;
        let most = congestion.steps.last()?.blocks;
        (most > limit).then(|| Check {
            congestion,
            limit,
            head: self.head(),
            results: self.results.clone(),
        })
    }
}

impl Check {
    /// Runs the transaction on the head, and says no where it would wait too long at what it pays.
    ///
    /// # Errors
    /// [`Refusal::Capacity`].
    pub(super) fn run(&self, tx: &PoolTx) -> Result<(), Refusal> {
        let Some(request) = request_of(tx) else {
            return Ok(());
        };
        let (state, spec) = (&self.head.chain.state, &self.head.chain.spec);
        let env = self.head.env();
        // What can't run is the mempool's to refuse.
        let Err(CallOutcome::Missing { requests }) =
            estimate_inference(state, spec, &env, &request, &self.results)
        else {
            return Ok(());
        };
        let igas = Igas(requests.iter().map(|request| request.igas.0).sum());
        let multiplier = multiplier(state);
        let tip = tx.effective_tip(u128::from(env.base_fee)).unwrap_or(0);
        let paid = worth(tip, igas, multiplier) / u128::from(igas.0.max(1));
        let (limit, blocks) = (self.limit, self.congestion.blocks(paid));
        if blocks <= limit {
            return Ok(());
        }
        let price = self.congestion.price(limit);
        let value = price.saturating_mul(u128::from(igas.0));
        Err(Refusal::Capacity {
            blocks,
            limit,
            price,
            tip: value.div_ceil(gas_of(igas, multiplier)),
        })
    }
}

/// The transaction as a call: fees and nonce decide nothing about what it asks for.
fn request_of(tx: &PoolTx) -> Option<CallRequest> {
    let envelope = TxEnvelope::decode_2718(&mut &tx.raw[..]).ok()?;
    let list = envelope.access_list().cloned().unwrap_or_default();
    Some(CallRequest {
        from: tx.sender,
        to: envelope.to(),
        value: envelope.value(),
        data: envelope.input().clone(),
        gas: Some(tx.gas_limit),
        gas_price: None,
        access_list: (list.0.into_iter())
            .map(|item| (item.address, item.storage_keys))
            .collect(),
        overrides: BTreeMap::new(),
    })
}
