//! Answers of mode ZK, computed again: every process that follows the chain and can read the models does so for the
//! blocks that it stores.
//!
//! ```text
//!   follower --block--> requests of mode ZK --> thread with a CPU executor --+-- same: counted
//!                                                                            +-- other: evidence against who signed
//!                                                                                  |-> scheduler: quarantine, tell all
//!                                                                                  |-> results: the answer is forgotten
//!                                                                                  +-> gateway: pipe_shards
//! ```
//!
//! A block with a false answer stays what it is: whether it is valid must not hang on who holds a model. **Invariant:**
//! nothing here is believed that was not computed here.

use crate::chain::{ChainHandle, ChainHead};
use crate::engine;
use crate::results::ResultBook;
use penstock_evm::{ExecutedBlock, check_attestation};
use penstock_rules::block::WitnessEntry;
use penstock_rules::ids::{Height, ModelHash, ShardId};
use penstock_rules::message::Answer;
use penstock_rules::request::{Outcome, Request};
use penstock_rules::scheduler::Evidence;
use penstock_shaders::Executor;
use penstock_wire::BlobStore;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::mpsc::{self, TrySendError};
use tokio::runtime::Handle;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{broadcast, oneshot, watch};
use tracing::{error, warn};

/// Requests that wait for the thread at most: a full block of small ones. What comes beyond is not computed, and counted.
const QUEUE: usize = 1_024;
/// Shards against which evidence is kept at most, as many as are listed.
const CONVICTED_MAX: usize = 1_024;

/// Evidence that this process found, by shard: the first against each.
type Found = BTreeMap<ShardId, Evidence>;

/// Work for the thread.
enum Job {
    /// A block consumed this request, with this answer.
    Answer {
        height: Height,
        request: Request,
        entry: WitnessEntry,
    },
    /// Somebody says what a request comes to.
    Claim {
        request: Request,
        reply: oneshot::Sender<Option<Outcome>>,
    },
}

/// See the module. Cheap to clone; the thread ends with the last one and the chain.
#[derive(Clone, Debug)]
pub struct Recompute {
    jobs: mpsc::SyncSender<Job>,
    found: watch::Receiver<Found>,
}

/// Starts it on the current tokio runtime. Models come from `blobs`; what proves false is forgotten in `results`.
///
/// # Panics
/// Where the process may have no further thread.
#[must_use]
pub fn start(blobs: Arc<dyn BlobStore>, chain: &ChainHandle, results: ResultBook) -> Recompute {
    let (jobs, inbox) = mpsc::sync_channel(QUEUE);
    let (tell, found) = watch::channel(Found::new());
    let chain_id = chain.head().spec.chain_id;
    let models = Models::new(blobs);
    let thread = std::thread::Builder::new().name("recompute".into());
    let spawned = thread.spawn(move || work(models, &inbox, chain_id, &results, &tell));
    if let Err(error) = spawned {
        panic!("no thread to compute answers again: {error}");
    }
    let recompute = Recompute { jobs, found };
    // Taken now, so that no block falls between.
    tokio::spawn(recompute.clone().follow(chain.blocks()));
    recompute
}

impl Recompute {
    /// What was found so far, and wakes when there is more.
    #[must_use]
    pub fn found(&self) -> watch::Receiver<BTreeMap<ShardId, Evidence>> {
        self.found.clone()
    }

    /// Whether somebody else's evidence holds: the shard signed it, and here the request comes to what is claimed.
    /// Without the model nothing is known, so it does not.
    pub async fn proves(&self, evidence: &Evidence, chain_id: u64) -> bool {
        let answer = &evidence.answer;
        let said = answer.outcome.hash();
        let Some(request) = evidence.asked.clone() else {
            return false;
        };
        let signed = answer.attestation.shard == evidence.shard
            && request.key() == answer.key
            && said != evidence.outcome_hash
            && check_attestation(&answer.attestation, chain_id, answer.key, said);
        if !signed {
            return false;
        }
        let (reply, computed) = oneshot::channel();
        if self.jobs.try_send(Job::Claim { request, reply }).is_err() {
            return false;
        }
        let computed = computed.await.ok().flatten();
        computed.is_some_and(|outcome| outcome.hash() == evidence.outcome_hash)
    }

    async fn follow(self, mut blocks: broadcast::Receiver<Arc<ChainHead>>) {
        loop {
            match blocks.recv().await {
                Ok(head) => {
                    if let Some(executed) = &head.executed {
                        self.block(head.height, executed);
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    skipped(missed, "blocks came faster than they were read");
                }
                Err(RecvError::Closed) => return,
            }
        }
    }

    fn block(&self, height: Height, executed: &ExecutedBlock) {
        for request in &executed.zk {
            let key = request.key();
            let Some(entry) = executed.block.witness.iter().find(|entry| entry.key == key) else {
                continue;
            };
            let job = Job::Answer {
                height,
                request: request.clone(),
                entry: entry.clone(),
            };
            match self.jobs.try_send(job) {
                Ok(()) => {}
                Err(TrySendError::Full(_)) => skipped(1, "too many wait"),
                Err(TrySendError::Disconnected(_)) => return,
            }
        }
    }
}

/// Answers that are not computed again; of blocks that were missed it is not known how many they hold.
fn skipped(count: u64, why: &str) {
    warn!(count, why, "answers of mode ZK are not computed again");
    metrics::counter!("recompute_skipped_total").increment(count);
}

/// The models that the thread has and can have.
struct Models {
    executor: Box<dyn Executor>,
    blobs: Arc<dyn BlobStore>,
    runtime: Handle,
    loaded: BTreeSet<ModelHash>,
    /// Those of which it was said that they can't be had.
    missing: BTreeSet<ModelHash>,
}

impl Models {
    /// None yet. Must be called inside a tokio runtime, which fetches them.
    fn new(blobs: Arc<dyn BlobStore>) -> Self {
        Self {
            executor: penstock_shaders::cpu(),
            blobs,
            runtime: Handle::current(),
            loaded: BTreeSet::new(),
            missing: BTreeSet::new(),
        }
    }

    /// What a request comes to; `None` where this process can't tell.
    fn compute(&mut self, request: &Request) -> Option<Outcome> {
        if let Err(why) = self.load(request.model) {
            if self.missing.insert(request.model) {
                warn!(model = %request.model, why, "answers of this model can't be computed again");
            }
            return None;
        }
        let inputs = std::iter::once(&request.input[..]);
        match engine::run(self.executor.as_mut(), request.model, inputs) {
            Ok(outcomes) => outcomes.into_iter().next(),
            Err(why) => {
                error!(model = %request.model, why, "engine failed");
                None
            }
        }
    }

    fn load(&mut self, model: ModelHash) -> Result<(), String> {
        if self.loaded.contains(&model) {
            return Ok(());
        }
        let bytes = self.runtime.block_on(self.blobs.get(model.0));
        let bytes = bytes.map_err(|error| error.to_string())?;
        let bytes = bytes.ok_or_else(|| "it is not in the blob store".to_owned())?;
        engine::load(self.executor.as_mut(), model, &bytes)?;
        self.loaded.insert(model);
        Ok(())
    }
}

/// The thread: one request after the other.
fn work(
    mut models: Models,
    jobs: &mpsc::Receiver<Job>,
    chain_id: u64,
    results: &ResultBook,
    tell: &watch::Sender<Found>,
) {
    while let Ok(job) = jobs.recv() {
        match job {
            Job::Claim { request, reply } => {
                // Who asked may have given up.
                let _ = reply.send(models.compute(&request));
            }
            Job::Answer {
                height,
                request,
                entry,
            } => {
                let computed = models.compute(&request).map(|outcome| outcome.hash());
                let said = entry.outcome.hash();
                let result = match computed {
                    None => "unknown",
                    Some(hash) if hash == said => "same",
                    Some(_) => "different",
                };
                metrics::counter!("recompute_answers_total", "result" => result).increment(1);
                if let Some(computed) = computed.filter(|&hash| hash != said) {
                    error!(
                        height = height.0,
                        request = %entry.key,
                        model = %request.model,
                        %said,
                        %computed,
                        "an answer of mode ZK in a block is false: who signed it lied"
                    );
                    results.forget(&entry.key);
                    let all = against(&request, &entry, computed, chain_id);
                    tell.send_if_modified(|found| add(found, all));
                }
            }
        }
    }
}

/// Evidence against each that signed an answer.
fn against(
    request: &Request,
    entry: &WitnessEntry,
    computed: alloy_primitives::B256,
    chain_id: u64,
) -> Vec<Evidence> {
    let said = entry.outcome.hash();
    let signed = entry.attestations.iter();
    signed
        // Nobody is convicted on a check that was made elsewhere.
        .filter(|attestation| check_attestation(attestation, chain_id, entry.key, said))
        .map(|attestation| Evidence {
            shard: attestation.shard,
            answer: Answer {
                key: entry.key,
                outcome: entry.outcome.clone(),
                attestation: attestation.clone(),
            },
            outcome_hash: computed,
            against: Vec::new(),
            asked: Some(request.clone()),
        })
        .collect()
}

/// Keeps the first evidence against each shard; whether there is any more.
fn add(found: &mut Found, all: Vec<Evidence>) -> bool {
    let before = found.len();
    for evidence in all {
        if found.len() < CONVICTED_MAX {
            found.entry(evidence.shard).or_insert(evidence);
        }
    }
    found.len() > before
}

#[cfg(test)]
mod tests;
