//! The problem that a plan solves, and the plan.
//!
//! The problem is flat, and the machine keeps it up to date as events come: a full plan over 100,000 gangs must not
//! first copy them. Slots (of gangs, keys, shards, models, senders) are positions in its tables. They depend on the
//! order of arrival, so **no decision may depend on a slot's number**: ties go by hash.

use super::limits::PRICE_ONE;
use super::policy::{Board, Index, Outbid, Said};
use super::{Policy, Tuning};
use crate::ids::{Height, Micros, ModelHash, RequestKey, ShardId};
use crate::message::Class;
use crate::tx::Reason;
use alloy_primitives::{B256, Keccak256};
use std::collections::{BTreeMap, VecDeque};

/// A slot that is none.
pub const NONE: u32 = u32::MAX;

/// All that a plan depends on.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Problem {
    /// Now.
    pub now: Micros,
    /// The block that is built next.
    pub height: Height,
    /// When answers for that block must be here, and for the one after it.
    pub deadlines: [Micros; 2],
    /// In which order.
    pub policy: Policy,
    /// By which numbers.
    pub tuning: Tuning,
    /// Shards.
    pub shards: Vec<Lane>,
    /// Models.
    pub models: Vec<ModelHash>,
    /// What a model costs on a shard: `costs[model * shards.len() + shard]`.
    pub costs: Vec<Cost>,
    /// Requests.
    pub keys: Vec<KeyState>,
    /// Gangs.
    pub gangs: Vec<Candidate>,
    /// Per sender: its gangs that wait for a block, by ascending nonce.
    pub lanes: Vec<Vec<u32>>,
    /// Per sender: inference units that what it paid covers, beyond what it has unpaid.
    pub rooms: Vec<u64>,
    /// Per sender: microseconds that were given to it for this block already.
    pub used: Vec<u64>,
    /// Requests of those who were promised a block, and the set of shards on which the last plan had them: there they
    /// have a place that is known to fit, and elsewhere one is to be found.
    pub homes: BTreeMap<u32, u128>,
    /// Microseconds that were given for this block to those without cover.
    pub used_uncovered: u64,
}

/// A shard, as a plan sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lane {
    /// Who.
    pub id: ShardId,
    /// It may be given work.
    pub live: bool,
    /// When it will be done with what it has.
    pub free_at: Micros,
    /// Variance of that, in square microseconds.
    pub variance: u64,
    /// It works on something longer than a slot.
    pub long: bool,
    /// Requests per batch.
    pub batch_max: u32,
    /// Shadow price of its time, in units of 1/[`PRICE_ONE`].
    pub price: u64,
}

/// What a batch of a model takes on a shard: `base + each * requests`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    /// The shard has the model.
    pub hosted: bool,
    /// Per batch, in microseconds.
    pub base: u64,
    /// Per request, in microseconds.
    pub each: u64,
    /// Variance of a batch's time, in square microseconds.
    pub variance: u64,
    /// Mean time of one request in the batches that were seen, in microseconds: what ranking uses.
    pub mean: u64,
}

impl KeyState {
    /// One execution that any shard of the model may have, of something that nobody began.
    #[must_use]
    pub const fn plain(model: u32) -> Self {
        Self {
            model,
            copies: 1,
            ready_at: Micros(0),
            variance: 0,
            barred: 0,
        }
    }

    /// Whether it is that.
    #[must_use]
    pub const fn is_plain(&self) -> bool {
        self.copies == 1 && self.barred == 0 && self.ready_at.0 == 0 && self.variance == 0
    }

    /// Microseconds beyond `ready_at` within which what is under way will be done, as far as its noise is known: so many
    /// deviations of it.
    #[must_use]
    pub const fn margin(&self, sigmas: u64) -> u64 {
        sigmas.saturating_mul(self.variance.isqrt())
    }
}

impl Cost {
    /// Expected time of a batch.
    #[must_use]
    pub const fn batch(&self, requests: u64) -> u64 {
        self.base.saturating_add(self.each.saturating_mul(requests))
    }
}

/// A request, as a plan sees it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyState {
    /// Its model's slot.
    pub model: u32,
    /// Executions that are to be started still.
    pub copies: u32,
    /// When those under way will be done.
    pub ready_at: Micros,
    /// Variance of that, in square microseconds.
    pub variance: u64,
    /// Shards that may not be given it: they hold it, answered it, or failed at it.
    pub barred: u128,
}

/// A gang, as a plan sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Candidate {
    /// The transaction's hash, or a call's id.
    pub id: B256,
    /// Sender's slot.
    pub sender: u32,
    /// Sender's nonce.
    pub nonce: u64,
    /// Wei.
    pub value: u128,
    /// Head when it came.
    pub arrival: Height,
    /// For calls.
    pub deadline: Option<Micros>,
    /// The slot holds a gang.
    pub live: bool,
    /// `Class::Call`.
    pub call: bool,
    /// A promise was made, and work has begun.
    pub committed: bool,
    /// Some of it is computed, or under way: the rest makes use of it.
    pub started: bool,
    /// Inference units that it has yet to pay for.
    pub igas: u64,
    /// It holds a ticket that is due with this block.
    pub due: Option<Height>,
    /// Keys that it waits for.
    pub needs: Vec<u32>,
}

impl Candidate {
    /// How urgent it is.
    #[must_use]
    pub const fn class(&self) -> Class {
        if self.call { Class::Call } else { Class::Block }
    }
}

/// Which block a batch is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Pass {
    /// Longer than a slot, and waited long enough: ahead of all.
    Aged = 0,
    /// The block that is built next.
    This = 1,
    /// The block after it.
    Next = 2,
    /// Longer than a slot: when there is nothing else to do.
    Long = 3,
}

/// Number of passes.
pub const PASSES: usize = 4;

/// Which of a shard's batches for a block goes first: the greater, field by field.
///
/// All of them are done in time, as planned. But what is promised comes to be more while a block's time passes, and a
/// ticket that waited behind it would find none of it left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Urgency {
    /// Somebody's ticket is served by it.
    pub due: bool,
    /// Somebody's promise is kept by it.
    pub committed: bool,
    /// The best density, as [`super::policy`] has it.
    pub rank: u64,
}

impl Urgency {
    /// Of somebody with no claim but its rank.
    #[must_use]
    pub const fn of(rank: u64) -> Self {
        Self {
            due: false,
            committed: false,
            rank,
        }
    }

    /// Of a batch that serves both.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            due: self.due || other.due,
            committed: self.committed || other.committed,
            rank: self.rank.max(other.rank),
        }
    }
}

/// Requests of one model for one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Batch {
    /// The shard's slot.
    pub shard: u32,
    /// The model's slot.
    pub model: u32,
    /// For which block.
    pub pass: Pass,
    /// Keys, in the order in which they were placed.
    pub keys: Vec<u32>,
    /// Urgency within the pass.
    pub urgency: Urgency,
    /// Id of the gang that opened it: the tie-break.
    pub opener: B256,
}

/// What a plan says of a gang.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// The slot is empty, or the gang has nothing left to wait for.
    #[default]
    Nothing,
    /// All that it waits for is under way, or placed by this plan, for this pass.
    Placed(Pass),
    /// It waits.
    Deferred(Reason),
}

/// It waits, and nobody looked at it: [`Plan::verdict`] says what it is told.
pub(crate) const BLANK: Verdict = Verdict::Deferred(Reason::Outbid(0));

/// Microseconds of a request, or of several.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Time {
    /// At the least mean over the shards that serve it.
    pub(crate) plain: u64,
    /// At shadow prices.
    pub(crate) priced: u64,
}

/// What is to be done, in which order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// All batches, and what they add up to.
    pub(crate) board: Board,
    /// Per shard: batches in the order in which they are to run.
    pub queues: Vec<VecDeque<u32>>,
    /// Per gang, as far as gangs were looked at one by one: `Plan::verdict` knows the rest. All of them where a plan
    /// was made anew by [`super::policy::plan`].
    pub verdicts: Vec<Verdict>,
    /// The same, as the full plan said it.
    pub(crate) said: Vec<Said>,
    /// What the full plan said that stands in the verdicts still; none where somebody was told otherwise since. A plan
    /// writes those that change alone: they are much larger.
    pub(crate) told: Vec<Option<Said>>,
    /// Gangs that were given a verdict, some of them more than once.
    pub(crate) decided: Vec<u32>,
    /// Per gang: its rank, and microseconds that it asks for; `Plan::standing` where this is empty.
    pub ranks: Vec<(u64, u64)>,
    /// Per shape of the index that it was made with: the time that such a gang has left.
    pub(crate) times: Vec<Time>,
    /// What gangs are told at which nobody looked.
    pub(crate) outbid: Outbid,
    /// Rank and time of gangs that came after it.
    pub(crate) inserted: BTreeMap<u32, (u64, u64)>,
    /// Per model: the least density that got a place in open competition; the greatest number where none did.
    pub clearing: Vec<u64>,
    /// Per shard: the shadow price that the next plan starts from.
    pub prices: Vec<u64>,
    /// The density from which on work is worth the shards' time; zero where nothing is contended.
    pub bar: u64,
    /// Gangs that were placed.
    pub placed: u32,
    /// Gangs that wait.
    pub deferred: u32,
    /// Per model: microseconds of work that all candidates ask for.
    pub wanted: Vec<u64>,
    /// Microseconds of work that all candidates ask for.
    pub demand: u64,
    /// Microseconds of work that the shards can do for this block.
    pub capacity: u64,
}

impl Batch {
    /// Batches of a shard run by ascending service order: this block first, the urgent first, ties by hash.
    #[must_use]
    pub fn service_order(&self, problem: &Problem) -> impl Ord + use<> {
        (
            self.pass,
            std::cmp::Reverse(self.urgency),
            self.opener,
            problem.models[self.model as usize],
        )
    }
}

impl Plan {
    /// All batches; those that went to their shard are empty.
    #[must_use]
    pub fn batches(&self) -> &[Batch] {
        &self.board.batches
    }

    /// Gives a gang a verdict between two full plans, where the plan has a place for it.
    pub(crate) fn tell(&mut self, gang: u32, verdict: Verdict) {
        if let Some(place) = self.verdicts.get_mut(gang as usize) {
            *place = verdict;
        }
        if let Some(told) = self.told.get_mut(gang as usize) {
            *told = None;
        }
    }

    /// Whether the verdicts are what is known of them.
    pub(crate) fn tells_true(&self) -> bool {
        let known = self.verdicts.iter().zip(&self.told);
        known
            .filter_map(|(verdict, told)| Some((*verdict, (*told)?)))
            .all(|(verdict, told)| verdict == told.into())
    }

    /// Puts a new batch in its place of its shard's queue.
    pub(crate) fn enqueue(&mut self, problem: &Problem, batch: u32) {
        let batches = &self.board.batches;
        let entry = &batches[batch as usize];
        let order = entry.service_order(problem);
        let queue = &mut self.queues[entry.shard as usize];
        let at = queue.partition_point(|&b| batches[b as usize].service_order(problem) <= order);
        queue.insert(at, batch);
    }

    /// Fills in what gangs are told at which nobody looked, and all ranks.
    pub(crate) fn complete(&mut self, problem: &Problem, index: &Index) {
        let gangs = 0..self.verdicts.len() as u32;
        let verdicts = gangs
            .clone()
            .map(|gang| self.verdict(index, gang))
            .collect();
        self.ranks = gangs.map(|g| self.standing(problem, index, g)).collect();
        self.verdicts = verdicts;
        self.told.fill(None);
    }

    /// keccak256 of the plan in terms of hashes alone: equal for equal snapshots, however they came about.
    #[must_use]
    pub fn digest(&self, problem: &Problem, name: impl Fn(u32) -> RequestKey) -> B256 {
        let mut hasher = Keccak256::new();
        let mut shards: Vec<u32> = (0..self.queues.len() as u32).collect();
        shards.sort_by_key(|&s| problem.shards[s as usize].id);
        for shard in shards {
            hasher.update(problem.shards[shard as usize].id.0);
            hasher.update(self.prices[shard as usize].to_be_bytes());
            for &batch in &self.queues[shard as usize] {
                let batch = &self.board.batches[batch as usize];
                hasher.update([batch.pass as u8, 1]);
                hasher.update(problem.models[batch.model as usize].0);
                hasher.update((batch.keys.len() as u64).to_be_bytes());
                for &key in &batch.keys {
                    hasher.update(name(key).0);
                }
            }
        }
        let mut gangs: Vec<u32> = (0..self.verdicts.len() as u32)
            .filter(|&g| self.verdicts[g as usize] != Verdict::Nothing)
            .collect();
        gangs.sort_by_key(|&g| problem.gangs[g as usize].id);
        for gang in gangs {
            hasher.update(problem.gangs[gang as usize].id);
            match self.verdicts[gang as usize] {
                Verdict::Nothing => {}
                Verdict::Placed(pass) => hasher.update([pass as u8]),
                Verdict::Deferred(reason) => hasher.update(format!("{reason:?}")),
            }
        }
        hasher.finalize()
    }
}

impl Problem {
    /// What `model` costs on `shard`.
    #[must_use]
    pub fn cost(&self, model: u32, shard: u32) -> &Cost {
        &self.costs[model as usize * self.shards.len() + shard as usize]
    }

    /// Length of a slot, in microseconds.
    #[must_use]
    pub fn slot(&self) -> u64 {
        self.deadlines[1].saturating_sub(self.deadlines[0]).0.max(1)
    }

    /// Shards that can be given work of `model`, as a set of slots.
    #[must_use]
    pub fn hosts(&self, model: u32) -> u128 {
        (0..self.shards.len() as u32)
            .filter(|&s| self.shards[s as usize].live && self.cost(model, s).hosted)
            .fold(0, |set, s| set | 1 << s)
    }
}

impl Lane {
    /// A shard that is idle at price one.
    #[must_use]
    pub const fn idle(id: ShardId, batch_max: u32) -> Self {
        Self {
            id,
            live: true,
            free_at: Micros(0),
            variance: 0,
            long: false,
            batch_max,
            price: PRICE_ONE,
        }
    }
}
