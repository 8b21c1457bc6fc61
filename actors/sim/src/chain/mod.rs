//! The chain simulator: all machines together, from submission to head, under faults.
//!
//! ```text
//!  senders --> FRONT (mempool, extractor) <--> SCHEDULER(S) <--> SHARDS
//!                 |  ready                        | settled: to all
//!                 v                               v
//!              PRODUCERS (one leads) --append--> LOG --> followers: front, schedulers, producers, observer
//! ```
//!
//! The machines are the real ones. Around them stand models of what shells and libraries do: the bus loses, doubles,
//! delays and reorders; log and queues are durable and fenced as `penstock-wire` promises; processes die and come back
//! from disk, log and queues as the shells do; execution is a small deterministic model (`evm.rs`).
//!
//! After every event the machine that took it is checked, and a judge that sees all processes checks what spans them.
//! After the faults end, everything that was accepted must get into a block.

mod attest;
mod chaos;
mod clients;
mod evm;
mod front;
mod judge;
mod log;
mod node;
mod producer;
mod scheduler;
mod shard;
mod world;

use penstock_rules::ids::{Height, Micros};
use penstock_rules::invariants::{ACCEPTED_STAYS, LEASED, PROGRESS, Violation};
use std::collections::BTreeSet;
use std::fmt;
use world::{START, World};

/// After the faults, everything has this long to get into a block. The longest waits of the machines are a lease
/// (5 s), a breaker (5 s), a repeat of a gang (8 s), a look at a held transaction (10 s) and a standby's patience
/// (10 s), and a few of them may follow each other.
const PROGRESS_MAX: Micros = Micros::from_secs(90);

/// After everything is in a block, the machines have this long to put their books in order.
const SETTLE: Micros = Micros::from_secs(20);

/// Heads that a follower may be behind at the end: reading, verifying and storing takes 12 ms at most, a slot 200 ms.
const HEADS_BEHIND_MAX: u64 = 1;

/// Events of a run at most, some twenty times what the longest takes: beyond it the machines run in circles.
const EVENTS_MAX: u64 = 20_000_000;

/// Lines of the trace that a failure shows, as a rule.
const TRACE_LINES: usize = 60;

/// A kind of fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// Messages are lost, doubled, late, and overtake each other.
    Bus,
    /// Shards crash, are slow, hang, and their engines fail.
    Shards,
    /// One shard lies, or forges signatures.
    Lies,
    /// Appends are lost, late, or of unknown fate; log readers skip and repeat; the queue fails.
    Log,
    /// Entries in the log that are no valid next block.
    Forgery,
    /// Mempool and extractor die, or lag behind the head. So does an observer.
    Front,
    /// Schedulers die, and take over from one that still works.
    Schedulers,
    /// Producers die, and the other takes over.
    Producers,
}

impl Class {
    /// All of them.
    pub const ALL: [Self; 8] = [
        Self::Bus,
        Self::Shards,
        Self::Lies,
        Self::Log,
        Self::Forgery,
        Self::Front,
        Self::Schedulers,
        Self::Producers,
    ];
}

impl Class {
    /// Its name on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Bus => "bus",
            Self::Shards => "shards",
            Self::Lies => "lies",
            Self::Log => "log",
            Self::Forgery => "forgery",
            Self::Front => "front",
            Self::Schedulers => "schedulers",
            Self::Producers => "producers",
        }
    }
}

/// A fault in the rules themselves, planted to see that the simulator finds it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Mutant {
    /// A scheduler settles a request again when a late copy of its answer comes.
    SettlesAgain,
    /// A scheduler never ends a lease: each heartbeat is read as if the shard held all that it was ever given.
    LeasesNeverEnd,
    /// Followers don't compare a block's witness with its execution, nor check who stands for it.
    WitnessUnchecked,
    /// A producer takes a transaction with the answers of its discovery, though it asks for others at its place.
    StaleInputTaken,
    /// A request's key leaves the mode out, so an answer of one shard serves for a quorum.
    ModeNotInKey,
    /// A producer's block waits until no shard works on anything.
    BuilderWaits,
    /// An engine's answer depends on what else is in its batch.
    BatchInOutput,
}

impl Mutant {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::SettlesAgain,
        Self::LeasesNeverEnd,
        Self::WitnessUnchecked,
        Self::StaleInputTaken,
        Self::ModeNotInKey,
        Self::BuilderWaits,
        Self::BatchInOutput,
    ];
}

/// A run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Everything follows from it.
    pub seed: u64,
    /// Blocks at least.
    pub blocks: u64,
    /// Transactions at most; the senders stop earlier when there are enough blocks.
    pub transactions: u64,
    /// What goes wrong.
    pub faults: BTreeSet<Class>,
    /// A fault in the rules, for tests of the simulator.
    pub mutant: Option<Mutant>,
    /// Lines of what happened last that a failure shows.
    pub trace_lines: usize,
}

impl Config {
    /// A run with all faults.
    #[must_use]
    pub fn new(seed: u64, blocks: u64) -> Self {
        Self {
            seed,
            blocks,
            transactions: u64::MAX,
            faults: Class::ALL.into(),
            mutant: None,
            trace_lines: TRACE_LINES,
        }
    }
}

/// What a run came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Blocks.
    pub blocks: u64,
    /// Transactions in them.
    pub transactions: u64,
    /// Answers in their witnesses.
    pub inferences: u64,
    /// Entries of the log that followers passed as no valid next block, over all followers.
    pub skipped: u64,
    /// Events.
    pub events: u64,
    /// Virtual time.
    pub span: Micros,
}

impl Report {
    /// Both together.
    #[must_use]
    pub const fn and(&self, other: &Self) -> Self {
        Self {
            blocks: self.blocks + other.blocks,
            transactions: self.transactions + other.transactions,
            inferences: self.inferences + other.inferences,
            skipped: self.skipped + other.skipped,
            events: self.events + other.events,
            span: self.span.saturating_add(other.span),
        }
    }
}

/// A run that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub struct Failure {
    /// The run that shows it.
    pub config: Config,
    /// Virtual time since the start.
    pub at: Micros,
    /// What is broken.
    pub violation: Violation,
    /// What happened last.
    pub trace: Vec<String>,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.trace {
            writeln!(f, "{line}")?;
        }
        let Config {
            seed,
            blocks,
            transactions,
            ref faults,
            mutant,
            trace_lines: _,
        } = self.config;
        write!(f, "seed {seed}, {blocks} blocks")?;
        if transactions != u64::MAX {
            write!(f, ", {transactions} transactions")?;
        }
        let names: Vec<_> = faults.iter().map(|class| class.name()).collect();
        let names = if names.is_empty() {
            "none".into()
        } else {
            names.join(",")
        };
        write!(f, ", faults {names}")?;
        if let Some(mutant) = mutant {
            write!(f, ", mutant {mutant:?}")?;
        }
        write!(f, ", after {}: {}", self.at, self.violation)
    }
}

/// Runs the whole chain.
///
/// # Errors
/// Where an invariant is broken, with the last events.
pub fn run(config: &Config) -> Result<Report, Box<Failure>> {
    let mut world = World::new(config.clone(), false);
    let Err((at, violation)) = world.run() else {
        return Ok(world.report());
    };
    // The same again, this time with its trace.
    let mut world = World::new(config.clone(), true);
    let _ = world.run();
    Err(Box::new(Failure {
        config: config.clone(),
        at,
        violation,
        trace: world.trace.unwrap_or_default().into(),
    }))
}

/// Looks for a smaller run that breaks the same invariant: with fewer kinds of faults, blocks and transactions.
#[must_use]
pub fn shrink(failure: Failure) -> Failure {
    let mut best = failure;
    let wanted = best.violation.invariant.id;
    let attempt = |config: Config| {
        run(&config)
            .err()
            .filter(|failure| failure.violation.invariant.id == wanted)
    };
    for class in Class::ALL {
        let mut config = best.config.clone();
        if config.faults.remove(&class)
            && let Some(smaller) = attempt(config)
        {
            best = *smaller;
        }
    }
    while best.config.blocks > 1 {
        let mut config = best.config.clone();
        config.blocks /= 2;
        let Some(smaller) = attempt(config) else {
            break;
        };
        best = *smaller;
    }
    let mut transactions = best.config.transactions.min(256);
    while transactions > 1 {
        transactions /= 2;
        let mut config = best.config.clone();
        config.transactions = transactions;
        let Some(smaller) = attempt(config) else {
            break;
        };
        best = *smaller;
    }
    best
}

impl World {
    /// Runs to the end.
    fn run(&mut self) -> Result<Report, (Micros, Violation)> {
        let mut events = 0;
        let result = self.phases(&mut events);
        self.events = events;
        match result {
            Ok(()) => Ok(self.report()),
            Err(violation) => Err((self.now().saturating_sub(START), violation)),
        }
    }

    fn report(&self) -> Report {
        Report {
            blocks: self.height().0,
            transactions: self.judge.transactions,
            inferences: self.judge.inferences,
            skipped: self.judge.skipped,
            events: self.events,
            span: self.now().saturating_sub(START),
        }
    }

    fn until(
        &mut self,
        events: &mut u64,
        end: Micros,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Violation> {
        while !done(self) {
            if self.agenda.next_at().is_none_or(|at| at > end) {
                return Ok(false);
            }
            *events += 1;
            self.step()?;
            PROGRESS.require(*events < EVENTS_MAX, || "time stands still".into())?;
        }
        Ok(true)
    }

    fn phases(&mut self, events: &mut u64) -> Result<(), Violation> {
        let (blocks, few) = (self.config.blocks, self.config.transactions != u64::MAX);
        // Faults, for most of the blocks: with few transactions, or none that get through, for a while.
        let longest = Micros(blocks.saturating_mul(2_000_000).max(20_000_000));
        let end = START.saturating_add(longest);
        let most = Height(blocks * 4 / 5);
        self.until(events, end, |world| world.height() >= most)?;
        self.calm()?;
        // The rest of the blocks without faults, then no new transactions.
        let calm = self.now();
        let end = calm.saturating_add(PROGRESS_MAX);
        if !few {
            let enough = |world: &Self| world.height().0 >= blocks;
            let reached = self.until(events, end, enough)?;
            PROGRESS.require(reached, || {
                format!("height is {} after the faults", self.height())
            })?;
        }
        self.clients.finish();
        let end = self.now().saturating_add(PROGRESS_MAX);
        let done = self.until(events, end, Self::all_included)?;
        PROGRESS.require(done, || {
            let nonce = |sender| self.judge.nonce(sender);
            let open = self.clients.open(nonce);
            format!("front {:?}; {}", self.front_load(), open.join("; "))
        })?;
        let end = self.now().saturating_add(SETTLE);
        self.until(events, end, |_| false)?;
        self.nothing_left()
    }

    fn all_included(&self) -> bool {
        let empty = self.front_load().is_some_and(|load| load.0 == 0);
        empty && self.clients.open(|s| self.judge.nonce(s)).is_empty()
    }

    /// At the end nobody holds anything for anybody, and all have the same head.
    fn nothing_left(&mut self) -> Result<(), Violation> {
        let load = self.front_load();
        ACCEPTED_STAYS.require(matches!(load, Some((0, 0, _))), || {
            format!("the front still has {load:?}")
        })?;
        for planner in self.schedulers.iter().filter_map(|s| s.content.as_ref()) {
            let (gangs, leases, _) = planner.machine.load();
            LEASED.require(gangs == 0 && leases == 0, || {
                format!("a scheduler still has {gangs} gangs and {leases} leases")
            })?;
        }
        for (n, worker) in self.shards.iter().enumerate() {
            let load = worker.content.as_ref().map(|w| w.machine.load());
            LEASED.require(load == Some((0, 0)), || {
                format!("shard {n} still has {load:?}")
            })?;
        }
        // Blocks may still be on their way, a few where slots are short.
        let least = self.height().0.saturating_sub(HEADS_BEHIND_MAX);
        for place in self.places() {
            if self.is_up(place)
                && let Some(node) = self.node(place)
            {
                let has = node.head.height;
                PROGRESS.require(has.0 >= least, || {
                    format!("{place:?} has height {has}, the chain {least} and more")
                })?;
            }
        }
        if self.config.faults.is_empty() {
            self.judge.single_flight()?;
        }
        Ok(())
    }
}
