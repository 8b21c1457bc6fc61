//! The overload simulator: the real scheduler and real shard machines under more work than they can do.
//!
//! ```text
//!  DEMAND (by seed: models, transactions, times) --gangs--> scheduler --assignments--> shards (batch time, noise)
//!     |                                                        |   <--answers-----------/
//!     | all of it, known beforehand                            | settled
//!     v                                                        v
//!   BOUND <------------ revenue ------------- BLOCKS (every slot: those whose answers were here at the cut-off)
//! ```
//!
//! No execution, no log, no bus that loses: what is simulated is who is computed when. The bound is a relaxation that no
//! schedule reaches: any model on any shard, every batch full, the future known.

mod demand;
mod draw;
mod fleet;
mod pool;
mod report;
mod world;

pub use pool::Pool;
pub use report::{DECILES, Report, Tenth, table};

use penstock_rules::ids::Micros;
use penstock_rules::scheduler::{DecisionLog, Policy, Tuning};

/// What is asked for, and what goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Workload {
    /// Independent arrivals.
    W1,
    /// Bursts: two states, 2.8 and 0.4 times the mean.
    W2,
    /// Gaps between arrivals whose deviation is four times their mean.
    W3,
    /// Shaped as traces of functions: days, and spikes within them.
    W4,
    /// Values with a heavy tail (Pareto, 1.5).
    W5,
    /// One model gets 80 % of the requests.
    W6,
    /// Wide gangs of up to 32 requests, in up to three waves of which each needs the one before.
    W7,
    /// 30 % of the requests were asked for shortly before.
    W8,
    /// A fifth of the transactions bid six times as much, from fresh identities, and leave when they were computed.
    W9,
    /// Stragglers, and shards that are slow and that die.
    W10,
    /// Demand that swings every ten seconds.
    W11,
}

impl Workload {
    /// All of them.
    pub const ALL: [Self; 11] = [
        Self::W1,
        Self::W2,
        Self::W3,
        Self::W4,
        Self::W5,
        Self::W6,
        Self::W7,
        Self::W8,
        Self::W9,
        Self::W10,
        Self::W11,
    ];

    /// What it is, in a few words.
    #[must_use]
    pub const fn says(self) -> &'static str {
        match self {
            Self::W1 => "independent arrivals",
            Self::W2 => "bursts",
            Self::W3 => "gaps of CV 4",
            Self::W4 => "days and spikes",
            Self::W5 => "heavy-tailed values",
            Self::W6 => "one hot model",
            Self::W7 => "wide gangs, chains",
            Self::W8 => "30 % duplicates",
            Self::W9 => "20 % attackers",
            Self::W10 => "faults",
            Self::W11 => "swinging demand",
        }
    }
}

/// How an answer reaches its contract.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Delivery {
    /// In the transaction that asked for it.
    #[default]
    Same,
    /// By a second transaction: the first has to be in a block before anything is computed.
    Oracle,
    /// The same, and the second is in a block after that for which its answer was ready, as where validators commit first
    /// and fulfil then.
    CommitFulfil,
}

impl Delivery {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Same, Self::Oracle, Self::CommitFulfil];

    /// Blocks before anything is computed.
    const fn before(self) -> u64 {
        match self {
            Self::Same => 0,
            Self::Oracle | Self::CommitFulfil => 1,
        }
    }

    /// Blocks after that which the answer was ready for.
    const fn after(self) -> u64 {
        match self {
            Self::Same | Self::Oracle => 0,
            Self::CommitFulfil => 1,
        }
    }
}

/// A run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Config {
    /// What is asked for.
    pub workload: Workload,
    /// In which order the scheduler plans.
    pub policy: Policy,
    /// Demand over capacity, in percent.
    pub load_percent: u64,
    /// Everything follows from it.
    pub seed: u64,
    /// Blocks that are measured; a few come before, in which the scheduler learns what models cost.
    pub blocks: u64,
    /// Shards.
    pub shards: u8,
    /// Batches that take six times as long, in a million.
    pub stragglers_in_million: u32,
    /// Of the transactions of [`Workload::W9`] those of attackers, in a million.
    pub attackers_in_million: u32,
    /// How answers reach their contracts.
    pub delivery: Delivery,
    /// The scheduler's numbers.
    pub tuning: Tuning,
    /// Whether the digests of all full plans are folded into [`Report::plans`].
    pub decision_log: DecisionLog,
}

impl Config {
    /// A run of 30 blocks on eight shards.
    #[must_use]
    pub const fn new(workload: Workload, policy: Policy, load_percent: u64, seed: u64) -> Self {
        Self {
            workload,
            policy,
            load_percent,
            seed,
            blocks: 30,
            shards: 8,
            stragglers_in_million: match workload {
                Workload::W10 => 2_000,
                _ => 0,
            },
            attackers_in_million: 200_000,
            delivery: Delivery::Same,
            tuning: Tuning::DEFAULT,
            decision_log: DecisionLog::Faults,
        }
    }
}

/// Between two blocks.
pub const SLOT: Micros = Micros::from_secs(1);

/// Runs.
///
/// # Errors
/// A rule of the scheduler or of a shard that is broken, in words.
pub fn run(config: &Config) -> Result<Report, String> {
    world::World::new(config).run()
}
