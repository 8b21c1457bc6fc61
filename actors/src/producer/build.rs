//! Builds: candidates are executed in order, on a blocking thread where they are many.

use super::orders::{Past, resolve};
use super::{Build, ProducerActor};
use crate::chain::ChainHead;
use crate::results::ResultBook;
use crate::shell::now;
use actix::prelude::*;
use alloy_primitives::B256;
use penstock_evm::{BlockBuilder, ExecutedBlock, PushError, SigningKey, next_env};
use penstock_rules::dev::{DevOrder, DevRefusal};
use penstock_rules::ids::{Micros, TxHash};
use penstock_rules::producer::{Attempt, Event, Parent};
use penstock_rules::tx::{ReadyTx, Reason};
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::{debug, error};

/// Longest build where there is no timetable, in µs: what came meanwhile waits no longer.
const BUILD_TIME_MAX: Micros = Micros::from_millis(500);
/// A build that begins late has this long all the same, in µs: else a machine that is always late would make empty
/// blocks for ever.
const BUILD_TIME_MIN: Micros = Micros::from_millis(20);
/// Gas limits of all candidates of a block that is built on the actor's own thread: some milliseconds at worst. Few transfers
/// take less than to wake another thread, and to be woken by it.
const INLINE_GAS_MAX: u64 = 200_000;

/// A build is done, or what was ordered can't be.
#[derive(Message)]
#[rtype(result = "()")]
struct BuildDone {
    attempt: Attempt,
    built: Option<Result<Built, DevRefusal>>,
}

/// What a build is of.
pub(super) struct Work {
    pub(super) timestamp_secs: u64,
    pub(super) candidates: Vec<Arc<ReadyTx>>,
    pub(super) order: Option<Arc<DevOrder>>,
}

impl Work {
    /// Whether it takes less than a thread does to begin with it. What is ordered can be anything.
    fn is_small(&self) -> bool {
        let gas = self.candidates.iter().map(|ready| ready.tx.gas_limit);
        self.order.is_none() && gas.fold(0, u64::saturating_add) <= INLINE_GAS_MAX
    }
}

struct Built {
    block: ExecutedBlock,
    included: Vec<TxHash>,
    withheld: Vec<(TxHash, Reason)>,
}

impl ProducerActor {
    pub(super) fn build(
        &mut self,
        attempt: Attempt,
        parent: Parent,
        slot: Option<Micros>,
        work: Work,
        ctx: &mut Context<Self>,
    ) {
        self.builds.insert(attempt, Build { block: None, slot });
        let head = self.chain.head();
        if head.hash != parent.hash {
            self.input(Event::BuildFailed { attempt }, ctx);
            return;
        }
        let (results, key) = (self.results.clone(), self.key.clone());
        let past = self
            .snapshots
            .past(work.order.as_deref(), self.genesis.as_ref());
        let begun = now();
        let deadline = slot.map_or(begun.saturating_add(BUILD_TIME_MAX), |slot| {
            slot.max(begun.saturating_add(BUILD_TIME_MIN))
        });
        if work.is_small() {
            let built = build(&head, deadline, &work, &past, &results, &key);
            ctx.notify(BuildDone {
                attempt,
                built: Some(built),
            });
            return;
        }
        let addr = ctx.address();
        let work = tokio::task::spawn_blocking(move || {
            build(&head, deadline, &work, &past, &results, &key)
        });
        ctx.spawn(
            async move {
                let built = match work.await {
                    Ok(built) => Some(built),
                    Err(error) => {
                        error!(%error, "build failed");
                        None
                    }
                };
                let _ = addr.send(BuildDone { attempt, built }).await;
            }
            .into_actor(self),
        );
    }
}

/// Executes candidates in order until `deadline`, seals and signs. What is ordered goes before them.
fn build(
    head: &ChainHead,
    deadline: Micros,
    work: &Work,
    past: &Past,
    results: &ResultBook,
    key: &SigningKey,
) -> Result<Built, DevRefusal> {
    let env = next_env(&head.spec, &head.state, &head.header, work.timestamp_secs);
    let entry = match work.order.as_deref() {
        Some(order) => resolve(order, head, past, now())?,
        None => None,
    };
    let mut builder = match entry {
        None => BlockBuilder::new(head.state.clone(), &head.spec, env),
        Some(entry) => BlockBuilder::privileged(head.state.clone(), &head.spec, env, &entry)
            .map_err(|error| DevRefusal::Failed(error.to_string()))?,
    };
    let (mut included, mut withheld) = (Vec::new(), Vec::new());
    let mut blocked = BTreeSet::new();
    for candidate in &work.candidates {
        let tx = &candidate.tx;
        if blocked.contains(&tx.sender) {
            withheld.push((tx.hash, Reason::NonceDependency));
            continue;
        }
        if now() >= deadline {
            withheld.push((tx.hash, Reason::BlockFull));
            continue;
        }
        let reason = match builder.push(tx, results) {
            Ok(_) => {
                included.push(tx.hash);
                continue;
            }
            Err(PushError::Missing(_)) => Reason::StaleInput,
            Err(PushError::FeeBelowMarket) => Reason::FeeBelowMarket,
            Err(PushError::NoRoom) => Reason::BlockFull,
            Err(PushError::Invalid(why)) => {
                debug!(tx = %tx.hash, why, "candidate is invalid at its place");
                Reason::NonceDependency
            }
        };
        blocked.insert(tx.sender);
        withheld.push((tx.hash, reason));
    }
    let mut block = builder.seal();
    block.block.signature = key.sign(block.hash);
    Ok(Built {
        block,
        included,
        withheld,
    })
}

impl Handler<BuildDone> for ProducerActor {
    type Result = ();

    fn handle(&mut self, done: BuildDone, ctx: &mut Self::Context) {
        let BuildDone { attempt, built } = done;
        let event = match built {
            None => Event::BuildFailed { attempt },
            Some(Err(why)) => Event::OrderRefused { attempt, why },
            Some(Ok(Built {
                block,
                included,
                withheld,
            })) => {
                let hash: B256 = block.hash;
                if let Some(build) = self.builds.get_mut(&attempt) {
                    build.block = Some(Arc::new(block));
                }
                Event::Built {
                    attempt,
                    hash,
                    included,
                    withheld,
                }
            }
        };
        self.input(event, ctx);
    }
}
