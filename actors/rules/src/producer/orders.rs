//! Blocks that a person asks for: one after the other, each before whatever the timetable says.

use super::limits::{ORDER_PATIENCE, ORDERS_MAX, WANTED_PATIENCE};
use super::{Attempt, Effect, Micros, Producer, ReadyTx};
use crate::dev::{DevDone, DevOrder, DevRefusal};
use crate::ids::TxHash;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// A number for each order.
pub type OrderId = u64;

#[derive(Debug)]
struct Pending {
    id: OrderId,
    order: Arc<DevOrder>,
    /// Transactions that are waited for, and until when.
    wanted: BTreeSet<TxHash>,
    wanted_until: Micros,
    expires: Micros,
}

/// Orders, oldest first.
#[derive(Debug, Default)]
pub(super) struct Orders {
    pending: VecDeque<Pending>,
    /// The build that carries out the first of them.
    attempt: Option<Attempt>,
}

impl Orders {
    pub(super) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Puts an order behind the others.
    pub(super) fn take(
        &mut self,
        now: Micros,
        id: OrderId,
        order: Arc<DevOrder>,
        pool: &BTreeMap<TxHash, Arc<ReadyTx>>,
        effects: &mut Vec<Effect>,
    ) {
        if self.pending.len() >= ORDERS_MAX {
            let limit = u32::try_from(ORDERS_MAX).unwrap_or(u32::MAX);
            let result = Err(DevRefusal::Busy { limit });
            effects.push(Effect::Ordered { id, result });
            return;
        }
        let wanted = match &*order {
            DevOrder::Mine { wanted, .. } => wanted
                .iter()
                .filter(|hash| !pool.contains_key(*hash))
                .copied()
                .collect(),
            DevOrder::Change(_) => BTreeSet::new(),
        };
        self.pending.push_back(Pending {
            id,
            order,
            wanted,
            wanted_until: now.saturating_add(WANTED_PATIENCE),
            expires: now.saturating_add(ORDER_PATIENCE),
        });
    }

    /// A transaction is here, or will not come: nobody waits for it any more.
    pub(super) fn seen(&mut self, hash: &TxHash) {
        for order in &mut self.pending {
            order.wanted.remove(hash);
        }
    }

    /// Whether this build carries out an order.
    pub(super) fn is_built_by(&self, attempt: Attempt) -> bool {
        self.attempt == Some(attempt)
    }

    /// The order that this build carries out is done, or refused.
    pub(super) fn finish(
        &mut self,
        attempt: Attempt,
        result: Result<DevDone, DevRefusal>,
        effects: &mut Vec<Effect>,
    ) {
        if self.attempt == Some(attempt)
            && let Some(Pending { id, .. }) = self.pending.pop_front()
        {
            self.attempt = None;
            effects.push(Effect::Ordered { id, result });
        }
    }

    /// This producer's last build is the head.
    pub(super) fn built(&mut self, done: DevDone, effects: &mut Vec<Effect>) {
        if let Some(attempt) = self.attempt {
            self.finish(attempt, Ok(done), effects);
        }
    }

    /// Refuses what waited too long. The one that is being carried out is not: its block may come yet.
    pub(super) fn expire(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let busy = usize::from(self.attempt.is_some());
        while let Some(order) = self.pending.get(busy)
            && order.expires <= now
        {
            if let Some(Pending { id, .. }) = self.pending.remove(busy) {
                let result = Err(DevRefusal::NotLeading);
                effects.push(Effect::Ordered { id, result });
            }
        }
    }
}

impl Producer {
    /// Builds for the first order, where there is one: true, also while it waits for what it wants.
    pub(super) fn build_ordered(&mut self, now: Micros, effects: &mut Vec<Effect>) -> bool {
        // A build that came to nothing is tried again on the head that there is now.
        self.orders.attempt = None;
        let Some(first) = self.orders.pending.front() else {
            return false;
        };
        if !first.wanted.is_empty() && now < first.wanted_until {
            effects.push(Effect::WakeAt(first.wanted_until));
            return true;
        }
        let order = first.order.clone();
        let candidates = match &*order {
            DevOrder::Mine { .. } => self.candidates(),
            DevOrder::Change(_) => Vec::new(),
        };
        // It is for no slot: the one that is to come stays.
        self.built_slot = Micros(0);
        let attempt = self.build(now, None, candidates, Some(order), effects);
        self.orders.attempt = Some(attempt);
        true
    }
}
