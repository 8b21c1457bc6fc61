//! Discoveries: a few lanes at a time, on blocking threads.

use super::ExtractorActor;
use crate::chain::ChainHead;
use crate::results::ResultBook;
use crate::shell::now;
use actix::prelude::*;
use alloy_primitives::Address;
use penstock_evm::dev::settings;
use penstock_evm::{DiscoverLimits, discover_lane, next_env};
use penstock_rules::extractor::{Event, Finding};
use penstock_rules::ids::Micros;
use penstock_rules::producer::Timetable;
use penstock_rules::tx::PoolTx;
use std::time::Instant;
use tracing::debug;

/// Lanes that one job discovers, in number: at 10 to 100 µs each a job is about a millisecond.
const LANES_PER_JOB: usize = 16;
/// Gas limit of a transaction that is discovered on the actor's own thread, where it is the only one: some milliseconds at
/// worst. A transfer or a token's takes less than to wake another thread, and to be woken by it.
const INLINE_GAS_MAX: u64 = 200_000;

/// A job ended.
#[derive(Message)]
#[rtype(result = "()")]
struct JobDone(Vec<Event>);

/// A lane to be discovered.
pub(super) struct Job {
    pub(super) lane: Address,
    pub(super) generation: u64,
    pub(super) txs: Vec<PoolTx>,
}

impl ExtractorActor {
    /// Timestamp of the block that will be built on the head, in seconds.
    fn next_timestamp(&self) -> u64 {
        let set = settings(&self.head.state);
        let at = match set.mining.unwrap_or(self.config.timetable) {
            Timetable::AtOnce | Timetable::Manual => now(),
            Timetable::Slots(slot) => Micros((now().0 / slot.0 + 1).saturating_mul(slot.0)),
        };
        set.clock.timestamp(at, self.head.header.timestamp)
    }

    /// Starts jobs while there are lanes and threads for them.
    pub(super) fn run_jobs(&mut self, ctx: &mut Context<Self>) {
        while self.jobs_running < self.config.jobs_max && !self.jobs.is_empty() {
            let free = self.config.jobs_max - self.jobs_running;
            let count = self.jobs.len().div_ceil(free).min(LANES_PER_JOB);
            let jobs: Vec<_> = self.jobs.drain(..count).collect();
            self.jobs_running += 1;
            let (head, results, timestamp) = (
                self.head.clone(),
                self.results.clone(),
                self.next_timestamp(),
            );
            let limits = DiscoverLimits {
                requests_per_tx: u32::try_from(self.config.limits.requests_max).unwrap_or(u32::MAX),
                ..DiscoverLimits::default()
            };
            if self.jobs_running == 1 && self.jobs.is_empty() && is_small(&jobs) {
                let events = discover(&jobs, &head, timestamp, &results, &limits);
                ctx.notify(JobDone(events));
                return;
            }
            let work = tokio::task::spawn_blocking(move || {
                discover(&jobs, &head, timestamp, &results, &limits)
            });
            let addr = ctx.address();
            let job = async move {
                match work.await {
                    Ok(events) => {
                        let _ = addr.send(JobDone(events)).await;
                    }
                    Err(error) => panic!("discovery failed: {error}"),
                }
            };
            ctx.spawn(job.into_actor(self));
        }
    }
}

/// Whether these jobs take less than a thread does to begin with them.
fn is_small(jobs: &[Job]) -> bool {
    let mut txs = jobs.iter().flat_map(|job| &job.txs);
    txs.next().is_none_or(|tx| tx.gas_limit <= INLINE_GAS_MAX) && txs.next().is_none()
}

/// Discovers lanes one after the other.
fn discover(
    jobs: &[Job],
    head: &ChainHead,
    timestamp_secs: u64,
    results: &ResultBook,
    limits: &DiscoverLimits,
) -> Vec<Event> {
    let env = next_env(&head.spec, &head.state, &head.header, timestamp_secs);
    let discover = |job: &Job| {
        let began = Instant::now();
        let findings = discover_lane(&head.state, &head.spec, &env, &job.txs, results, limits);
        let took = began.elapsed();
        metrics::histogram!("extractor_discovery_seconds").record(took.as_secs_f64());
        Event::Discovered {
            lane: job.lane,
            generation: job.generation,
            at: head.height,
            took: Micros(u64::try_from(took.as_micros()).unwrap_or(u64::MAX)),
            findings: job
                .txs
                .iter()
                .zip(findings)
                .map(|(tx, found)| (tx.hash, finding(tx, found)))
                .collect(),
        }
    };
    jobs.iter().map(discover).collect()
}

/// As the machine has it.
fn finding(tx: &PoolTx, found: penstock_evm::Finding) -> Finding {
    match found {
        penstock_evm::Finding::Ready {
            keys,
            igas,
            gas_used,
        } => Finding::Ready {
            keys,
            igas,
            gas_used,
        },
        penstock_evm::Finding::Waits { requests, igas } => Finding::Waits { requests, igas },
        penstock_evm::Finding::FeeBelowMarket => Finding::FeeBelowMarket,
        penstock_evm::Finding::Behind => Finding::Behind,
        penstock_evm::Finding::TooMany => Finding::TooMany,
        penstock_evm::Finding::Invalid(why) => {
            debug!(tx = %tx.hash, why, "can't be executed on this state");
            Finding::Invalid
        }
    }
}

impl Handler<JobDone> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, JobDone(events): JobDone, ctx: &mut Self::Context) {
        self.jobs_running -= 1;
        self.input_all(events, ctx);
    }
}
