//! What actors say to each other over the bus. `wire` gives each message a subject and a versioned encoding.
//!
//! Messages over the bus may be lost, doubled and late. Machines repeat what matters, and take it twice unharmed.

use crate::ids::{Epoch, Height, Igas, LeaseId, Micros, ModelHash, RequestKey, ShardId, TxHash};
use crate::request::{Attestation, Mode, Outcome};
use crate::tx::{Reason, Refusal};
use alloy_primitives::{Address, B256, Bytes};
use serde::{Deserialize, Serialize};

/// Gateway to mempool (request, answered by [`SubmitReply`]): a signed transaction.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Submit {
    /// EIP-2718 envelope.
    pub raw: Bytes,
}

/// Mempool to gateway: accepted (in the durable stream), or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SubmitReply {
    /// The hash, or the refusal.
    pub result: Result<TxHash, Refusal>,
}

/// Gateway to mempool (request, answered by [`DiscardReply`]): these are to leave the pool.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Discard {
    /// Which; none stands for all.
    pub hashes: Option<Vec<TxHash>>,
}

/// Mempool to gateway: these were in the pool, and are not any more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiscardReply {
    /// Which.
    pub gone: Vec<TxHash>,
}

/// How urgent a gang is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Class {
    /// A pending transaction.
    Block,
    /// `eth_call` and its kin: low priority, with a quota and a deadline.
    Call,
}

/// One request of a gang.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GangRequest {
    /// Its identity.
    pub key: RequestKey,
    /// The model.
    pub model: ModelHash,
    /// How the answer is to be trusted.
    pub mode: Mode,
    /// Canonical input.
    pub input: Bytes,
    /// Static cost.
    pub igas: Igas,
    /// False: found behind a placeholder, so perhaps not what the true execution asks for.
    pub certain: bool,
}

/// Extractor to scheduler: all requests that a transaction waits for in one round. Sent again as a whole when it
/// changes; the last one counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Gang {
    /// The transaction, or a call's random id.
    pub id: B256,
    /// Who asks.
    pub sender: Address,
    /// Its nonce: a lane is served in order.
    pub nonce: u64,
    /// Wei to the producer if it is included: what it is worth.
    pub value: u128,
    /// How urgent.
    pub class: Class,
    /// 1 for the first.
    pub round: u32,
    /// Head when the transaction came.
    pub arrival: Height,
    /// No use after this time; for calls.
    pub deadline: Option<Micros>,
    /// Requests, in order of discovery. Never empty.
    pub requests: Vec<GangRequest>,
}

/// Extractor to scheduler: nobody waits for this gang any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withdraw {
    /// The gang's id.
    pub id: B256,
}

/// Scheduler to extractor and gateways: a gang is not computed now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Deferral {
    /// The gang's id.
    pub id: B256,
    /// Why.
    pub reason: Reason,
    /// Estimated blocks until it is; 0 where unknown.
    pub blocks: u32,
}

/// Shard to scheduler, at start, on change and as a heartbeat.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardHello {
    /// Who.
    pub shard: ShardId,
    /// Random at each start: a shard that restarted has forgotten its work.
    pub incarnation: u64,
    /// `cpu`, or the adapter's name.
    pub backend: String,
    /// Numeric version of its engine ([`crate::request::ENGINE_VERSION`]).
    pub engine_version: u32,
    /// Models that are loaded and warm.
    pub models: Vec<ModelHash>,
    /// Requests that it joins in one batch at most.
    pub batch_max: u32,
    /// Assignments that it takes beside the one that runs.
    pub queue_max: u32,
    /// It takes no new work.
    pub draining: bool,
    /// Leases that it holds, of the newest scheduler that it knows, the running ones first. A lease that is missing
    /// here long after it was given was lost on the way, there or back.
    pub held: Vec<LeaseId>,
}

/// Scheduler to one shard: this model will be asked for soon, or again; have it loaded.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Prefetch {
    /// To whom.
    pub shard: ShardId,
    /// Of which scheduler.
    pub epoch: Epoch,
    /// The model.
    pub model: ModelHash,
}

/// One request of an assignment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignedRequest {
    /// Its identity.
    pub key: RequestKey,
    /// How the answer is to be trusted.
    pub mode: Mode,
    /// Canonical input.
    pub input: Bytes,
}

/// Scheduler to one shard: compute these, for one model, in one batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Assignment {
    /// To whom.
    pub shard: ShardId,
    /// The shard's incarnation that the scheduler knows.
    pub incarnation: u64,
    /// Number of the lease.
    pub lease: LeaseId,
    /// Epoch of the scheduler.
    pub epoch: Epoch,
    /// The model.
    pub model: ModelHash,
    /// The batch.
    pub requests: Vec<AssignedRequest>,
    /// The shard refuses it after this time.
    pub must_start_by: Micros,
    /// The scheduler gives the work to another after this time.
    pub expires: Micros,
}

/// Scheduler to one shard: don't start this any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CancelAssignment {
    /// To whom.
    pub shard: ShardId,
    /// Which lease.
    pub lease: LeaseId,
    /// Of which epoch.
    pub epoch: Epoch,
}

/// One answer of a batch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Answer {
    /// The request.
    pub key: RequestKey,
    /// What it came to.
    pub outcome: Outcome,
    /// The shard's signature.
    pub attestation: Attestation,
}

/// Shard to scheduler: an assignment is done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentDone {
    /// Who.
    pub shard: ShardId,
    /// Which lease.
    pub lease: LeaseId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// One per request.
    pub answers: Vec<Answer>,
    /// How long the batch ran.
    pub ran: Micros,
    /// Requests in that batch: the shard joins assignments of one model.
    pub batch: u32,
}

/// Why a shard does not take an assignment. None of these reaches the chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum RefuseReason {
    /// It came after `must_start_by`.
    Late,
    /// The queue is full.
    Busy,
    /// The model is not here, or did not load.
    NoModel,
    /// The shard drains.
    Draining,
    /// Another incarnation was meant.
    OtherIncarnation,
    /// An older scheduler sent it.
    StaleEpoch,
    /// The engine failed (device lost, out of memory).
    EngineFailed,
}

/// Shard to scheduler: an assignment is not taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AssignmentRefused {
    /// Who.
    pub shard: ShardId,
    /// Which lease.
    pub lease: LeaseId,
    /// Of which epoch.
    pub epoch: Epoch,
    /// Why.
    pub reason: RefuseReason,
}

/// Producer to extractor: left out of a block that was built.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Withheld {
    /// Which.
    pub hash: TxHash,
    /// Why.
    pub reason: Reason,
    /// For the block of this height.
    pub height: Height,
}

/// Follower to all: the head that is verified, stored and served. Carries heights and hashes, never truth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeadAnnounced {
    /// Height.
    pub height: Height,
    /// Block hash.
    pub hash: B256,
}

/// What a process of a devnet can be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Serves JSON-RPC.
    Gateway,
    /// Takes transactions and finds out what they wait for. One at a time leads, others stand by.
    Mempool,
    /// Gives inference to shards. One at a time leads, others stand by.
    Scheduler,
    /// Makes blocks. One at a time leads, others stand by.
    Producer,
    /// Verifies and stores blocks. Every node does.
    Follower,
    /// Runs models.
    Shard,
}

impl Role {
    /// Its name, as configuration and displays have it.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Gateway => "gateway",
            Self::Mempool => "mempool",
            Self::Scheduler => "scheduler",
            Self::Producer => "producer",
            Self::Follower => "follower",
            Self::Shard => "shard",
        }
    }
}

/// That a node leads a role.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Leads {
    /// Which.
    pub role: Role,
    /// Since when, by its clock.
    pub since: Micros,
}

/// Node to all, every [`crate::lead::BEAT`] and on change: what it runs and how far it is. Carries no truth.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeBeat {
    /// Name, for people.
    pub node: String,
    /// Random at each start.
    pub incarnation: u64,
    /// What it runs.
    pub roles: Vec<Role>,
    /// What it leads, mempool and scheduler alone: who produces is in the block log.
    pub leads: Vec<Leads>,
    /// Fencing token of its producer, where that leads.
    pub epoch: Option<Epoch>,
    /// Its head.
    pub height: Height,
    /// Hash of its head.
    pub hash: B256,
    /// Entries of the log that it has not taken in; none where it can't tell.
    pub lag: Option<u64>,
    /// It takes nothing new.
    pub draining: bool,
}
