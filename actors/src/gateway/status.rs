//! Where each transaction is on its way, as its actors told: a bounded history per transaction, oldest out first.

use parking_lot::RwLock;
use penstock_rules::ids::{Height, Micros, TxHash};
use penstock_rules::tx::{Stage, StatusUpdate};
use std::collections::{HashMap, VecDeque};
use tokio::sync::broadcast;

/// Transactions whose way is remembered: some minutes of a busy devnet, at up to some kB each.
const TRANSACTIONS_MAX: usize = 100_000;
/// Steps that are remembered of one transaction. The first stays; then the latest.
const STEPS_MAX: usize = 32;

#[derive(Default)]
struct Inner {
    steps: HashMap<TxHash, Vec<StatusUpdate>>,
    order: VecDeque<TxHash>,
}

/// See the module.
pub struct Statuses {
    inner: RwLock<Inner>,
    new: broadcast::Sender<StatusUpdate>,
}

/// Steps that a slow subscription may lag behind before it loses some.
const BUFFERED: usize = 16_384;

impl Default for Statuses {
    fn default() -> Self {
        Self {
            inner: RwLock::default(),
            new: broadcast::channel(BUFFERED).0,
        }
    }
}

impl Statuses {
    /// Adds a step, unless it says what is known.
    pub fn add(&self, update: &StatusUpdate) {
        let mut guard = self.inner.write();
        let inner = &mut *guard;
        if !inner.steps.contains_key(&update.hash) {
            inner.order.push_back(update.hash);
            if inner.order.len() > TRANSACTIONS_MAX
                && let Some(oldest) = inner.order.pop_front()
            {
                inner.steps.remove(&oldest);
            }
        }
        let steps = inner.steps.entry(update.hash).or_default();
        // Messages come doubled, and late: nothing follows a block.
        let known = steps.last().is_some_and(|last| {
            last.stage == update.stage || matches!(last.stage, Stage::Included { .. })
        });
        if known {
            return;
        }
        let late = update.stage == Stage::Accepted
            && (steps.last()).is_some_and(|last| !matches!(last.stage, Stage::Dropped { .. }));
        if late && steps[0].stage == Stage::Accepted {
            return;
        }
        if steps.len() == STEPS_MAX {
            steps.remove(1);
        }
        if late {
            // Each actor sends for itself: what was first may come second.
            steps.insert(0, update.clone());
        } else {
            steps.push(update.clone());
        }
        drop(guard);
        // Nobody listening is no error.
        let _ = self.new.send(update.clone());
    }

    /// Steps from now on.
    pub fn watch(&self) -> broadcast::Receiver<StatusUpdate> {
        self.new.subscribe()
    }

    /// A block has it: the one step that is no hearsay.
    pub fn included(&self, hash: TxHash, height: Height, at: Micros) {
        self.add(&StatusUpdate {
            hash,
            at,
            stage: Stage::Included { height },
        });
    }

    /// Begins anew with a transaction, where this is still its last step.
    pub fn forget(&self, hash: TxHash, last: &Stage) {
        let mut inner = self.inner.write();
        if let Some(steps) = inner.steps.get_mut(&hash)
            && steps.last().is_some_and(|step| step.stage == *last)
        {
            steps.clear();
        }
    }

    /// All steps that are remembered, oldest first.
    pub fn history(&self, hash: TxHash) -> Vec<StatusUpdate> {
        let inner = self.inner.read();
        inner.steps.get(&hash).cloned().unwrap_or_default()
    }

    /// The last step.
    pub fn last(&self, hash: TxHash) -> Option<Stage> {
        let inner = self.inner.read();
        inner
            .steps
            .get(&hash)?
            .last()
            .map(|step| step.stage.clone())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use penstock_rules::tx::Reason;

    fn step(hash: u64, at: u64, stage: Stage) -> StatusUpdate {
        StatusUpdate {
            hash: B256::from(alloy_primitives::U256::from(hash)),
            at: Micros(at),
            stage,
        }
    }

    #[test]
    fn doubled_steps_are_one_and_nothing_follows_a_block() {
        let statuses = Statuses::default();
        let included = Stage::Included { height: Height(3) };
        for stage in [
            Stage::Accepted,
            Stage::Accepted,
            included.clone(),
            Stage::Ready,
        ] {
            statuses.add(&step(1, 0, stage));
        }
        let stages: Vec<_> = statuses
            .history(step(1, 0, Stage::Ready).hash)
            .into_iter()
            .map(|step| step.stage)
            .collect();
        assert_eq!(stages, [Stage::Accepted, included]);
    }

    /// The mempool's word came after the extractor's, and a transaction that was being computed showed as accepted.
    #[test]
    fn a_first_step_that_comes_late_is_the_first() {
        let statuses = Statuses::default();
        let inferring = Stage::Inferring {
            round: 1,
            requests: 1,
        };
        let dropped = Stage::Dropped {
            reason: penstock_rules::tx::DropReason::Asked,
        };
        let add = |stage: &Stage| statuses.add(&step(1, 0, stage.clone()));
        let stages = || -> Vec<Stage> {
            let history = statuses.history(step(1, 0, Stage::Ready).hash);
            history.into_iter().map(|step| step.stage).collect()
        };
        for stage in [&inferring, &Stage::Accepted, &Stage::Accepted] {
            add(stage);
        }
        assert_eq!(stages(), [Stage::Accepted, inferring.clone()]);
        for stage in [&dropped, &Stage::Accepted] {
            add(stage);
        }
        assert_eq!(
            stages(),
            [Stage::Accepted, inferring, dropped, Stage::Accepted]
        );
    }

    #[test]
    fn a_long_way_keeps_its_first_step_and_the_latest() {
        let statuses = Statuses::default();
        statuses.add(&step(1, 0, Stage::Accepted));
        for blocks in 1..100 {
            let reason = Reason::NoShard;
            statuses.add(&step(1, 0, Stage::Deferred { reason, blocks }));
        }
        let history = statuses.history(step(1, 0, Stage::Ready).hash);
        assert_eq!(history.len(), STEPS_MAX);
        assert_eq!(history[0].stage, Stage::Accepted);
        let last = Stage::Deferred {
            reason: Reason::NoShard,
            blocks: 99,
        };
        assert_eq!(history[STEPS_MAX - 1].stage, last);
    }

    #[test]
    fn the_oldest_transactions_are_forgotten_first() {
        let statuses = Statuses::default();
        for hash in 0..=TRANSACTIONS_MAX as u64 {
            statuses.add(&step(hash, 0, Stage::Accepted));
        }
        assert_eq!(statuses.last(step(0, 0, Stage::Ready).hash), None);
        assert_eq!(
            statuses.last(step(1, 0, Stage::Ready).hash),
            Some(Stage::Accepted)
        );
        assert_eq!(statuses.inner.read().steps.len(), TRANSACTIONS_MAX);
    }
}
