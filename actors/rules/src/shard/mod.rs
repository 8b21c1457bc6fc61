//! The shard: takes work or says why not, joins requests into batches, answers each once.
//!
//! ```text
//!  assignments --> QUEUE --(requests of one model, up to batch_max)--> engine --outcomes--> answers, one per lease
//! ```
//!
//! A request's outcome never depends on its neighbours in a batch, so batches are formed as the engine gets free.

use crate::ids::{Epoch, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use crate::message::{
    AssignedRequest, Assignment, AssignmentRefused, CancelAssignment, Prefetch, ShardHello,
};
use crate::request::Outcome;

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

/// How often a shard reports: half a second, so that a lost one is noticed within two blocks of one second.
pub const HEARTBEAT: Micros = Micros::from_millis(500);

/// The shard.
#[derive(Clone, Debug)]
pub struct Shard {
    config: Config,
}

impl Shard {
    /// A shard with nothing loaded.
    #[must_use]
    pub fn new(config: Config) -> Self {
        Self { config }
    }
}

impl crate::Machine for Shard {
    type Event = Event;
    type Effect = Effect;

    fn apply(&mut self, _now: Micros, _event: Event, _effects: &mut Vec<Effect>) {
        let _ = self.config.shard;
    }
}
