//! The scheduler: what is computed now, where, and what waits.
//!
//! ```text
//!  gangs -----> REQUESTS (single flight, quorum) --problem--> POLICY --plan--> LEASES --assignments--> shards
//!  (extractor)     ^   |                                        ^                ^  |
//!                  |   +--settled--> CACHE, all                 |                |  +--lost, late, refused: again
//!                  +------------------ verified answers --------+--- PROFILES ---+
//! ```
//!
//! The problem and the wanted properties are in `README.md`. [`policy::plan`] is one pure function; the machine around
//! it keeps the books: who waits for which key, who computes it, who stands for it.
//!
//! **Invariant:** nothing here waits. A shard that never answers costs a lease, never a block.

pub mod model;

pub mod policy;

mod machine;

mod answers;
mod audit;
mod book;
mod cache;
mod certificate;
mod check;
mod congestion;
mod credit;
mod fleet;
mod leases;
mod profile;
mod requests;
mod tuning;

#[cfg(test)]
mod dice;

pub mod limits;

pub use audit::audit;
use book::{Parked, Sender, Waiting};
use cache::Cache;
use certificate::Certificate;
pub use certificate::{CERTIFICATE_BLOCKS, Window};
pub use congestion::{Congestion, Step};
use credit::Credit;
pub use credit::{Reputation, Standing};
use fleet::Member;
use leases::{Lease, Released};
use model::{Plan, Problem};
use profile::Profile;
use requests::Entry;
pub use tuning::Tuning;

use crate::ids::{Epoch, Height, Igas, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use crate::message::{
    Answer, Assignment, AssignmentDone, AssignmentRefused, CancelAssignment, Deferral, Gang,
    Prefetch, ShardHello, Withdraw,
};
use crate::request::{Attestation, Quorum, Request, Settled};
use alloy_primitives::{Address, B256};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};

/// What happens to the scheduler.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Event {
    /// A gang came, or came again, perhaps changed.
    Submit(Gang),
    /// Nobody waits for a gang any more.
    Withdraw(Withdraw),
    /// A shard reports.
    Hello(ShardHello),
    /// A shard answered, and every signature was checked: each answer is the named shard's.
    Done(AssignmentDone),
    /// An answer in this shard's name had a signature that is not its own.
    Forged {
        /// In whose name.
        shard: ShardId,
    },
    /// A shard refused.
    Refused(AssignmentRefused),
    /// A new head: these are the next two blocks to be built.
    Head(Slot),
    /// A transaction got into a block: what it paid for counts for its sender.
    Included(Included),
    /// Shards that the chain knows. Until the first of these, all are taken.
    Registered(Vec<ShardId>),
    /// A result that an earlier scheduler settled.
    Recovered(Settled),
    /// What senders paid and wasted under an earlier scheduler.
    Reputation(Reputation),
    /// A shard that an earlier scheduler caught lying.
    Convicted(ShardId),
    /// Who computed a settled answer again got another one: this shard had signed it.
    Recomputed(Box<Evidence>),
    /// This scheduler is now the one, in this epoch.
    TookOver {
        /// Greater than every earlier one.
        epoch: Epoch,
    },
    /// Time passed, or a burst of events ended: plan, dispatch, expire. The shell sends one after each burst that it
    /// takes from its mailbox, and at least every [`limits::TICK`].
    Tick,
}

/// When the next two blocks stop taking results.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Slot {
    /// The head.
    pub height: Height,
    /// The block after the head takes what is settled by then.
    pub cutoff: Micros,
    /// The block after that one takes what is settled by then.
    pub next_cutoff: Micros,
}

/// A transaction that got into a block.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Included {
    /// The gang's id: the transaction hash.
    pub id: B256,
    /// Who paid.
    pub sender: Address,
    /// Inference units that were paid for.
    pub igas: Igas,
    /// Requests that its execution consumed.
    pub keys: Vec<RequestKey>,
}

/// What the scheduler wants done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Effect {
    /// Send work to a shard.
    Assign(Assignment),
    /// Take work back that nobody needs and that has perhaps not started.
    Cancel(CancelAssignment),
    /// Have a shard load a model.
    Prefetch(Prefetch),
    /// An answer reached its quorum: make it durable, tell all. Once per key.
    Settle(Settled),
    /// Someone asked for what is settled: tell all again.
    Resend(Settled),
    /// A gang waits, and why.
    Defer(Deferral),
    /// What waits in all, and what price clears. With each head.
    Congestion(Congestion),
    /// A shard lied. It gets no more work.
    Quarantine(Box<Evidence>),
    /// A younger scheduler is at work: this one must stop.
    Fenced,
    /// A line of the decision log.
    Log(Record),
}

/// A signed answer, and what shows that it is false: others that signed another one, or the request itself, which
/// whoever holds the model can compute again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Evidence {
    /// Who lied.
    pub shard: ShardId,
    /// What it said.
    pub answer: Answer,
    /// Outcome hash that the majority said, or that the request was computed to.
    pub outcome_hash: B256,
    /// The majority. Empty where the request was computed again.
    pub against: Vec<Attestation>,
    /// What was asked, where it was computed again.
    pub asked: Option<Request>,
}

/// A line of the decision log: when, and what was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// When.
    pub at: Micros,
    /// What.
    pub decision: Decision,
}

/// What was decided.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Decision {
    /// A full plan.
    Planned {
        /// For the block of this height and the one after.
        height: Height,
        /// keccak256 of the plan's canonical bytes: equal snapshots give equal digests.
        digest: B256,
        /// Gangs with all their requests placed or under way for this block and the next.
        placed: u32,
        /// Gangs that wait.
        deferred: u32,
    },
    /// A lease ran out.
    LeaseExpired(Assignment),
    /// A shard's circuit breaker opened.
    BreakerOpened(ShardId),
    /// A promise to be done by this block's cut-off was broken.
    PromiseBroken {
        /// Which gang.
        id: B256,
        /// Which block.
        height: Height,
    },
}

/// What a scheduler is told once.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Config {
    /// Equal answers that each mode needs.
    pub quorum: Quorum,
    /// In which order gangs are planned.
    pub policy: Policy,
    /// Whether each full plan's digest goes to the decision log: it costs about as much as the plan.
    pub decision_log: DecisionLog,
    /// What experiments vary. A decision log is of the default: no network has another.
    #[serde(skip)]
    pub tuning: Tuning,
}

/// What the decision log has.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum DecisionLog {
    /// What went wrong.
    #[default]
    Faults,
    /// That, and the digest of every full plan.
    Plans,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            quorum: Quorum::default(),
            policy: Policy::Value,
            decision_log: DecisionLog::Faults,
            tuning: Tuning::DEFAULT,
        }
    }
}

/// In which order gangs are planned. All but [`Policy::Value`] are there to be compared with.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize,
)]
pub enum Policy {
    /// Whole gangs by value per remaining marginal compute time, with tickets and two passes.
    #[default]
    Value,
    /// First come, first served.
    Fifo,
    /// By value alone, and only what can be done by the end of one of the two blocks: an order of tips with our planning.
    Tip,
    /// By value alone, as a queue: each request of the best transaction is given out before any of the next, whatever
    /// its deadline, and each batch is filled with the next best of its model. What shards behind an unmodified
    /// builder do.
    Queue,
    /// Requests (not gangs) by value per cost.
    Density,
    /// Earliest deadline first.
    Edf,
}

/// What a scheduler did since its start, in numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Promises: a gang whose work began for the block that is built next.
    pub promised: u64,
    /// Promises that were not kept: the block was built before all of the gang's answers were here.
    pub broken: u64,
    /// Tickets that were given.
    pub tickets: u64,
    /// Gangs that still waited when the block was built with which their ticket was due.
    pub late: u64,
    /// The most blocks between a ticket and the block that had its gang, since the start.
    pub ticket_wait_most: u64,
}

impl Policy {
    /// All of them.
    pub const ALL: [Self; 6] = [
        Self::Value,
        Self::Fifo,
        Self::Tip,
        Self::Queue,
        Self::Density,
        Self::Edf,
    ];
}

impl Figures {
    /// What was added since `before`.
    #[must_use]
    pub const fn since(&self, before: &Self) -> Self {
        Self {
            promised: self.promised - before.promised,
            broken: self.broken - before.broken,
            tickets: self.tickets - before.tickets,
            late: self.late - before.late,
            ticket_wait_most: self.ticket_wait_most,
        }
    }
}

/// The scheduler.
#[derive(Clone, Debug)]
pub struct Scheduler {
    config: Config,
    epoch: Option<Epoch>,
    fenced: bool,
    /// The live problem: kept up to date by every event, read by every plan.
    problem: Problem,
    plan: Plan,
    /// What plans know of gangs: told of every change.
    index: policy::Index,
    planned_at: Micros,
    /// The head. The block after it is planned for, until that stops taking results; then the one after that.
    built: Height,
    /// Something changed since the last full plan; something that cannot wait for the next.
    dirty: bool,
    urgent: bool,
    costs_changed: bool,

    // Beside the problem's tables, by the same slots.
    entries: Vec<Option<Entry>>,
    waiting: Vec<Option<Waiting>>,
    members: Vec<Member>,
    asked: Vec<u32>,
    /// Models that too few shards serve for some request.
    short: BTreeSet<u32>,
    priors: Vec<u64>,
    free_keys: Vec<u32>,
    /// Free after the next full plan.
    freed_keys: Vec<u32>,
    free_gangs: Vec<u32>,
    free_senders: Vec<u32>,

    by_key: BTreeMap<RequestKey, u32>,
    by_gang: BTreeMap<B256, u32>,
    by_model: BTreeMap<ModelHash, u32>,
    by_shard: BTreeMap<ShardId, u32>,
    senders: BTreeMap<Address, Sender>,
    /// When calls are given up.
    call_ends: BTreeSet<(Micros, B256)>,
    /// Gangs without a ticket, the oldest first.
    unticketed: BTreeSet<(Height, B256)>,
    tickets_held: u64,
    /// Transactions whose round is answered: their next one goes on with their ticket, and has begun.
    parked: BTreeMap<B256, Parked>,

    leases: BTreeMap<LeaseId, Lease>,
    next_lease: u64,
    dispatched_time: u64,
    hedged_time: u64,
    disputes: usize,
    figures: Figures,
    certificate: Certificate,
    /// Per model: microseconds that a request takes at least, its share of a full batch; none before its first run.
    least: Vec<u64>,
    profiles: BTreeMap<(u32, u32), Profile>,
    cache: Cache,
    credit: Credit,
    registered: Option<BTreeSet<ShardId>>,
    /// Caught lying, now or by an earlier scheduler: quarantined as soon as they say hello.
    convicted: BTreeSet<ShardId>,
}
