//! The shard: takes work or says why not, joins requests into batches, answers each once.
//!
//! ```text
//!  assignments --> QUEUE --(requests of one model, up to batch_max)--> engine --outcomes--> answers, one per lease
//! ```
//!
//! A request's outcome never depends on its neighbours in a batch, so batches are formed as the engine gets free.

use crate::Machine;
use crate::ids::{Epoch, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use crate::message::{
    AssignedRequest, Assignment, AssignmentRefused, CancelAssignment, Prefetch, RefuseReason,
    ShardHello,
};
use crate::request::{ENGINE_VERSION, Outcome};
use std::collections::{BTreeMap, BTreeSet, VecDeque};

/// What happens to a shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Work came.
    Assign(Assignment),
    /// Work is taken back.
    Cancel(CancelAssignment),
    /// A model will be asked for.
    Prefetch(Prefetch),
    /// A model is loaded, its hash checked, and warm.
    Loaded(ModelHash),
    /// A model could not be loaded.
    LoadFailed(ModelHash),
    /// A batch ran: one outcome per request, in order.
    Ran {
        /// Which.
        batch: BatchId,
        /// Outcomes.
        outcomes: Vec<Outcome>,
        /// How long it ran.
        took: Micros,
    },
    /// The engine failed on a batch (device lost, out of memory). No outcome.
    RunFailed {
        /// Which.
        batch: BatchId,
    },
    /// Finish what is here, take nothing new.
    Drain,
    /// Time passed. At least every [`HEARTBEAT`].
    Tick,
}

/// Number of a batch, from 1, within an incarnation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BatchId(pub u64);

/// What a shard wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Get a model, check its hash, load it.
    Load(ModelHash),
    /// Drop a model that has not been used for longest.
    Unload(ModelHash),
    /// Run a batch on the engine.
    Run {
        /// Which.
        batch: BatchId,
        /// The model.
        model: ModelHash,
        /// The requests, in order.
        requests: Vec<AssignedRequest>,
    },
    /// Sign and send: an assignment is done.
    Answer(Answers),
    /// An assignment is not taken.
    Refuse(AssignmentRefused),
    /// Report to the scheduler.
    Hello(ShardHello),
    /// Nothing is left to do after [`Event::Drain`].
    Drained,
}

/// The unsigned parts of an [`crate::message::AssignmentDone`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answers {
    /// Which lease.
    pub lease: LeaseId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// One per request, in the assignment's order.
    pub outcomes: Vec<(RequestKey, Outcome)>,
    /// How long the batch ran that the last of them was in.
    pub ran: Micros,
    /// Requests in that batch.
    pub batch: u32,
}

/// What a shard is told once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Its id.
    pub shard: ShardId,
    /// Random at each start.
    pub incarnation: u64,
    /// `cpu`, or the adapter's name.
    pub backend: String,
    /// Requests in one batch at most.
    pub batch_max: u32,
    /// Assignments that wait at most, beside those that run.
    pub queue_max: u32,
    /// Models that are kept loaded at most.
    pub models_max: u32,
    /// Batches that run at the same time: one per engine.
    pub engines: u32,
}

/// How often a shard reports: half a second, so that a lost one is noticed within a few blocks of one second.
pub const HEARTBEAT: Micros = Micros::from_millis(500);

/// Leases that are remembered after they ended, so that a doubled assignment is not run twice: some seconds' worth on
/// the fastest engine.
pub const ENDED_MAX: usize = 1_024;

/// An assignment that is here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Held {
    assignment: Assignment,
    /// Requests that were given to an engine: the first ones.
    started: usize,
    outcomes: Vec<Option<Outcome>>,
}

/// A batch on an engine: which request of which lease each of its places is.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Running {
    places: Vec<(LeaseId, usize)>,
}

/// The shard.
#[derive(Clone, Debug)]
pub struct Shard {
    config: Config,
    epoch: Epoch,
    held: BTreeMap<LeaseId, Held>,
    /// Leases with requests that no engine has yet, in order of arrival.
    waiting: VecDeque<LeaseId>,
    running: BTreeMap<BatchId, Running>,
    ready: BTreeMap<ModelHash, Micros>,
    loading: BTreeSet<ModelHash>,
    ended: VecDeque<LeaseId>,
    batches: u64,
    draining: bool,
    drained: bool,
    last_hello: Option<Micros>,
    changed: bool,
}

impl Shard {
    /// A shard with nothing loaded.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self {
            config,
            epoch: Epoch(0),
            held: BTreeMap::new(),
            waiting: VecDeque::new(),
            running: BTreeMap::new(),
            ready: BTreeMap::new(),
            loading: BTreeSet::new(),
            ended: VecDeque::new(),
            batches: 0,
            draining: false,
            drained: false,
            last_hello: None,
            changed: true,
        }
    }

    /// Assignments that are here, and batches that run.
    #[must_use]
    pub fn load(&self) -> (usize, usize) {
        (self.held.len(), self.running.len())
    }

    fn assign(&mut self, now: Micros, assignment: Assignment, effects: &mut Vec<Effect>) {
        if assignment.shard != self.config.shard || assignment.requests.is_empty() {
            return;
        }
        let lease = assignment.lease;
        let refuse = |reason| {
            Effect::Refuse(AssignmentRefused {
                shard: assignment.shard,
                lease,
                epoch: assignment.epoch,
                reason,
            })
        };
        if assignment.epoch < self.epoch {
            effects.push(refuse(RefuseReason::StaleEpoch));
            return;
        }
        self.meet(assignment.epoch, effects);
        if self.held.contains_key(&lease) || self.ended.contains(&lease) {
            // The bus doubled it.
            return;
        }
        let reason = if assignment.incarnation != self.config.incarnation {
            RefuseReason::OtherIncarnation
        } else if self.draining {
            RefuseReason::Draining
        } else if now > assignment.must_start_by {
            RefuseReason::Late
        } else if !self.ready.contains_key(&assignment.model) {
            RefuseReason::NoModel
        } else if self.waiting.len() >= self.config.queue_max as usize && !self.idle() {
            RefuseReason::Busy
        } else {
            self.ready.insert(assignment.model, now);
            let outcomes = vec![None; assignment.requests.len()];
            let held = Held {
                assignment,
                started: 0,
                outcomes,
            };
            self.held.insert(lease, held);
            self.waiting.push_back(lease);
            return;
        };
        effects.push(refuse(reason));
    }

    fn idle(&self) -> bool {
        self.running.len() < self.config.engines as usize
    }

    /// A younger scheduler is known from its first message on: what an older one gave and no engine has is refused, so
    /// that the older one learns it.
    fn meet(&mut self, epoch: Epoch, effects: &mut Vec<Effect>) {
        if epoch > self.epoch {
            self.epoch = epoch;
            self.refuse_waiting(RefuseReason::StaleEpoch, effects);
        }
    }

    /// Refuses all leases that no engine has touched.
    fn refuse_waiting(&mut self, reason: RefuseReason, effects: &mut Vec<Effect>) {
        for lease in self.waiting.clone() {
            if self.held.get(&lease).is_some_and(|h| h.started == 0) {
                self.refuse_held(lease, reason, effects);
            }
        }
    }

    fn refuse_held(&mut self, lease: LeaseId, reason: RefuseReason, effects: &mut Vec<Effect>) {
        if let Some(held) = self.end(lease) {
            effects.push(Effect::Refuse(AssignmentRefused {
                shard: self.config.shard,
                lease,
                epoch: held.assignment.epoch,
                reason,
            }));
        }
    }

    fn end(&mut self, lease: LeaseId) -> Option<Held> {
        self.waiting.retain(|&other| other != lease);
        if self.ended.len() == ENDED_MAX {
            self.ended.pop_front();
        }
        self.ended.push_back(lease);
        self.held.remove(&lease)
    }

    /// Starts batches while there are engines and work: the model of the oldest assignment, joined by all of the same
    /// model that wait, in order, up to `batch_max` requests.
    fn start(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        self.refuse_late(now, effects);
        while self.idle() {
            let Some(first) = self.waiting.front().and_then(|lease| self.held.get(lease)) else {
                return;
            };
            let model = first.assignment.model;
            let (mut places, mut requests) = (Vec::new(), Vec::new());
            for lease in &self.waiting {
                let Some(held) = self.held.get_mut(lease) else {
                    continue;
                };
                if held.assignment.model != model {
                    continue;
                }
                let room = self.config.batch_max.max(1) as usize - places.len();
                let until = (held.started + room).min(held.assignment.requests.len());
                for place in held.started..until {
                    places.push((*lease, place));
                    requests.push(held.assignment.requests[place].clone());
                }
                held.started = until;
                if places.len() >= self.config.batch_max.max(1) as usize {
                    break;
                }
            }
            let held = &self.held;
            self.waiting.retain(|lease| {
                held.get(lease)
                    .is_some_and(|h| h.started < h.assignment.requests.len())
            });
            self.batches += 1;
            let batch = BatchId(self.batches);
            self.running.insert(batch, Running { places });
            self.ready.insert(model, now);
            effects.push(Effect::Run {
                batch,
                model,
                requests,
            });
        }
    }

    fn refuse_late(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        for lease in self.waiting.clone() {
            let late = |h: &Held| h.started == 0 && now > h.assignment.must_start_by;
            if self.held.get(&lease).is_some_and(late) {
                self.refuse_held(lease, RefuseReason::Late, effects);
            }
        }
    }

    fn ran(
        &mut self,
        batch: BatchId,
        outcomes: Vec<Outcome>,
        took: Micros,
        effects: &mut Vec<Effect>,
    ) {
        if self
            .running
            .get(&batch)
            .is_some_and(|r| r.places.len() != outcomes.len())
        {
            // An engine that gives another number of outcomes than it was asked for has failed.
            self.failed(batch, effects);
            return;
        }
        let Some(Running { places }) = self.running.remove(&batch) else {
            return;
        };
        let count = places.len() as u32;
        let mut touched = Vec::new();
        for ((lease, place), outcome) in places.into_iter().zip(outcomes) {
            if let Some(held) = self.held.get_mut(&lease) {
                held.outcomes[place] = Some(outcome);
                if touched.last() != Some(&lease) {
                    touched.push(lease);
                }
            }
        }
        for lease in touched {
            let whole = |h: &Held| h.outcomes.iter().all(Option::is_some);
            if self.held.get(&lease).is_some_and(whole)
                && let Some(held) = self.end(lease)
            {
                let keys = held.assignment.requests.iter().map(|r| r.key);
                effects.push(Effect::Answer(Answers {
                    lease,
                    epoch: held.assignment.epoch,
                    outcomes: keys.zip(held.outcomes.into_iter().flatten()).collect(),
                    ran: took,
                    batch: count,
                }));
            }
        }
    }

    fn failed(&mut self, batch: BatchId, effects: &mut Vec<Effect>) {
        let Some(Running { places }) = self.running.remove(&batch) else {
            return;
        };
        let leases: BTreeSet<LeaseId> = places.into_iter().map(|(lease, _)| lease).collect();
        for lease in leases {
            self.refuse_held(lease, RefuseReason::EngineFailed, effects);
        }
    }

    fn cancel(&mut self, cancel: &CancelAssignment) {
        let unstarted = |h: &Held| h.started == 0 && h.assignment.epoch == cancel.epoch;
        if self.held.get(&cancel.lease).is_some_and(unstarted) {
            self.end(cancel.lease);
            // The scheduler sees from the report that the lease is gone.
            self.changed = true;
        }
    }

    fn prefetch(&mut self, prefetch: &Prefetch, effects: &mut Vec<Effect>) {
        if prefetch.epoch < self.epoch || self.draining {
            return;
        }
        self.meet(prefetch.epoch, effects);
        let model = prefetch.model;
        if self.ready.contains_key(&model) || self.loading.contains(&model) {
            return;
        }
        if self.ready.len() + self.loading.len() >= self.config.models_max.max(1) as usize {
            let busy: BTreeSet<ModelHash> =
                self.held.values().map(|h| h.assignment.model).collect();
            let idle = self
                .ready
                .iter()
                .filter(|(model, _)| !busy.contains(*model));
            let Some(oldest) = idle.min_by_key(|(model, used)| (**used, **model)) else {
                return;
            };
            let oldest = *oldest.0;
            self.ready.remove(&oldest);
            self.changed = true;
            effects.push(Effect::Unload(oldest));
        }
        self.loading.insert(model);
        effects.push(Effect::Load(model));
    }

    fn hello(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        self.changed = false;
        self.last_hello = Some(now);
        let of_epoch = |lease: &LeaseId| {
            self.held
                .get(lease)
                .is_some_and(|h| h.assignment.epoch == self.epoch)
        };
        let waiting: BTreeSet<LeaseId> = self.waiting.iter().copied().collect();
        let running = self.held.keys().filter(|l| !waiting.contains(*l)).copied();
        effects.push(Effect::Hello(ShardHello {
            shard: self.config.shard,
            incarnation: self.config.incarnation,
            backend: self.config.backend.clone(),
            engine_version: ENGINE_VERSION,
            models: self.ready.keys().copied().collect(),
            batch_max: self.config.batch_max,
            queue_max: self.config.queue_max,
            draining: self.draining,
            held: running
                .chain(self.waiting.iter().copied())
                .filter(of_epoch)
                .collect(),
        }));
    }

    /// What must hold after every event; the first that does not, in words.
    ///
    /// # Errors
    /// Names what is broken.
    pub fn check(&self) -> Result<(), String> {
        if self.running.len() > self.config.engines as usize {
            return Err(format!("{} batches on fewer engines", self.running.len()));
        }
        let mut places = BTreeSet::new();
        for (batch, running) in &self.running {
            if running.places.len() > self.config.batch_max.max(1) as usize {
                return Err(format!("{batch:?} is larger than batch_max"));
            }
            for &place in &running.places {
                if !places.insert(place) {
                    return Err(format!("{place:?} runs twice"));
                }
            }
        }
        for (lease, held) in &self.held {
            let unstarted = held.started < held.assignment.requests.len();
            if unstarted != self.waiting.contains(lease) {
                return Err(format!("{lease} is lost between queue and engine"));
            }
            for place in 0..held.started {
                let runs = places.contains(&(*lease, place));
                if runs == held.outcomes[place].is_some() {
                    return Err(format!("request {place} of {lease} neither runs nor ran"));
                }
            }
        }
        if self.idle() && !self.waiting.is_empty() {
            return Err("an engine idles while work waits".into());
        }
        Ok(())
    }
}

impl Machine for Shard {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, now: Micros, event: Event, effects: &mut Vec<Effect>) {
        match event {
            Event::Assign(assignment) => self.assign(now, assignment, effects),
            Event::Cancel(cancel) => self.cancel(&cancel),
            Event::Prefetch(prefetch) => self.prefetch(&prefetch, effects),
            Event::Loaded(model) => {
                self.loading.remove(&model);
                self.ready.insert(model, now);
                self.changed = true;
            }
            Event::LoadFailed(model) => {
                self.loading.remove(&model);
                self.changed |= self.ready.remove(&model).is_some();
            }
            Event::Ran {
                batch,
                outcomes,
                took,
            } => self.ran(batch, outcomes, took, effects),
            Event::RunFailed { batch } => self.failed(batch, effects),
            Event::Drain => {
                self.changed |= !self.draining;
                self.draining = true;
                self.refuse_waiting(RefuseReason::Draining, effects);
            }
            Event::Tick => {}
        }
        self.start(now, effects);
        let due = |last: Micros| now >= last.saturating_add(HEARTBEAT);
        if self.changed || self.last_hello.is_none_or(due) {
            self.hello(now, effects);
        }
        if self.draining && self.held.is_empty() && !self.drained {
            self.drained = true;
            effects.push(Effect::Drained);
        }
    }
}

#[cfg(test)]
mod tests;
