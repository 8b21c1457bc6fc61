//! The run: what happens when, and who takes which time.

mod senders;
mod shards;

use super::demand::{self, Demand, Job, Model};
use super::fleet::{Running, Worker, model_hash, residency, shard_id};
use super::report::Report;
use super::{Config, SLOT, Workload};
use crate::{Agenda, Random};
use alloy_primitives::{Address, B256, Bytes};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Height, Igas, Micros, RequestKey};
use penstock_rules::message::{GangRequest, Prefetch};
use penstock_rules::producer::BUILD_LEAD_MAX;
use penstock_rules::request::Mode;
use penstock_rules::scheduler::{self, Decision, Effect, Event, Scheduler, Slot};
use penstock_rules::shard::{self, BatchId, HEARTBEAT};
use std::collections::{BTreeMap, BTreeSet};

/// Time starts here: zero is "never".
const START: Micros = Micros::from_secs(100);
/// Blocks in which the scheduler learns what models cost, at 80 % of the capacity; then two in which all gets idle.
const WARM_BLOCKS: u64 = 6;
const QUIET_BLOCKS: u64 = 2;
const WARM_PERCENT: u64 = 80;
/// How often the machine is told the time, as in the shell.
const TICK: Micros = Micros::from_millis(5);
/// How often the cut-offs are told anew, as in the shell.
const SLOT_REFRESH: Micros = Micros::from_millis(250);
/// From scheduler to shard, or back.
const HOP: Micros = Micros(300);
/// From an answer at the scheduler to a transaction that is ready, or that asks for its next wave.
const SETTLE: Micros = Micros::from_millis(5);
/// A partly computed transaction's input changes with a block, in a million.
const STALE_IN_MILLION: u32 = 50_000;
/// What each honest sender paid before: as much as credit counts.
pub(super) const PAID: Igas = Igas(1_000_000_000);

/// What happens.
#[derive(Debug)]
enum Happens {
    Arrive(u32),
    Leave(u32),
    /// A job's answers were seen by who asked.
    Seen(u32),
    Scheduler(Box<Event>),
    Shard(u8, u64, Box<shard::Event>),
    Ran(u8, u64, BatchId),
    Beat(u8),
    Tick,
    Refresh,
    Cutoff,
    Block,
    Measure,
    Kill(u8),
    Revive(u8),
    Pace(u8, u64),
}

/// A key: who waits for it, and what it took.
#[derive(Debug, Default)]
struct Key {
    model: u8,
    settled: bool,
    stale: bool,
    consumed: bool,
    waiters: Vec<u32>,
    /// Time of its first run and of all others, within what is measured.
    first: u64,
    again: u64,
}

/// A transaction that is under way.
#[derive(Debug)]
struct Live {
    job: Job,
    id: B256,
    sender: u32,
    nonce: u64,
    arrival: Height,
    wave: usize,
    /// Keys of this wave that are not answered; those of all waves that are.
    open: BTreeSet<u32>,
    done: Vec<u32>,
    measured: bool,
}

pub(super) struct World {
    config: Config,
    agenda: Agenda<Happens>,
    random: Random,
    models: Vec<Model>,
    scheduler: Scheduler,
    workers: Vec<Worker>,
    keys: Vec<Key>,
    jobs: Vec<Job>,
    live: BTreeMap<u32, Live>,
    ready: BTreeSet<u32>,
    built: Vec<Live>,
    senders: Vec<Address>,
    free_senders: Vec<u32>,
    strangers: u64,
    head: Height,
    from: Micros,
    until: Micros,
    /// Per honest transaction that is measured: its value, and the blocks that it waited once it is included.
    outcomes: BTreeMap<u32, (u128, Option<u64>)>,
    /// Per sender: the least cost of what it asked for, and of what is in blocks of that.
    served: Vec<(u64, u64)>,
    /// Value and cost of the least dense transaction that the bound has.
    last: (u128, u64),
    report: Report,
}

impl World {
    pub(super) fn new(config: &Config) -> Self {
        let seed = Random::new(config.seed);
        let models = demand::models(config.workload, &mut seed.fork(10));
        let lead = Self::lead();
        let from = START.saturating_add(Micros((WARM_BLOCKS + QUIET_BLOCKS) * SLOT.0));
        let until = from
            .saturating_add(Micros(config.blocks * SLOT.0))
            .saturating_sub(lead);
        let mut world = Self {
            config: *config,
            agenda: Agenda::new(START),
            random: seed.fork(11),
            scheduler: Scheduler::new(scheduler::Config {
                policy: config.policy,
                decision_log: config.decision_log,
                tuning: config.tuning,
                ..scheduler::Config::default()
            }),
            workers: (0..config.shards).map(Worker::new).collect(),
            keys: Vec::new(),
            jobs: Vec::new(),
            live: BTreeMap::new(),
            ready: BTreeSet::new(),
            built: Vec::new(),
            senders: Vec::new(),
            free_senders: Vec::new(),
            strangers: 0,
            head: Height(1),
            from,
            until,
            outcomes: BTreeMap::new(),
            served: Vec::new(),
            last: (0, 1),
            report: Report::default(),
            models,
        };
        let warm_time = WARM_BLOCKS * SLOT.0;
        let shards = u64::from(config.shards);
        let warm = Demand::new(
            Workload::W1,
            &world.models,
            shards * warm_time * WARM_PERCENT / 100,
            (Micros(warm_time), 0),
            &seed.fork(12),
        );
        world.take_in(warm, START);
        let span = until.saturating_sub(from);
        let capacity = shards * span.0;
        let demand = Demand::new(
            config.workload,
            &world.models,
            capacity * config.load_percent / 100,
            (span, config.attackers_in_million),
            &seed.fork(13),
        );
        world.report.capacity = capacity;
        (world.report.bound, world.last) = demand::bound(&demand.jobs, capacity);
        world.report.tips = demand::tips(&demand.jobs, capacity);
        world.take_in(demand, from);
        world
    }

    /// How long before its slot a block stops taking results.
    const fn lead() -> Micros {
        let fifth = SLOT.0 / 5;
        if fifth < BUILD_LEAD_MAX.0 {
            Micros(fifth)
        } else {
            BUILD_LEAD_MAX
        }
    }

    fn take_in(&mut self, demand: Demand, from: Micros) {
        let first = self.keys.len() as u32;
        self.keys.extend(demand.keys.into_iter().map(|model| Key {
            model,
            ..Key::default()
        }));
        for mut job in demand.jobs {
            for key in job.waves.iter_mut().flatten() {
                *key += first;
            }
            job.arrival = job.arrival.saturating_add(from);
            if self.config.delivery.before() > 0 {
                // It asks when its first transaction is in a block.
                job.arrival = Micros((job.arrival.0 / SLOT.0 + 1) * SLOT.0 + 1);
            }
            self.agenda
                .at(job.arrival, Happens::Arrive(self.jobs.len() as u32));
            self.jobs.push(job);
        }
    }

    pub(super) fn run(mut self) -> Result<Report, String> {
        self.set_up()?;
        while let Some(happens) = self.agenda.pop() {
            if self.now() >= self.until && matches!(happens, Happens::Block) {
                break;
            }
            self.step(happens)?;
        }
        self.account();
        Ok(self.report)
    }

    fn set_up(&mut self) -> Result<(), String> {
        self.tell(Event::TookOver { epoch: Epoch(1) })?;
        self.tell_slot()?;
        for (n, models) in (0..).zip(residency(&self.models, self.config.shards)) {
            for model in models {
                let model = model_hash(model);
                let prefetch = Prefetch {
                    shard: shard_id(n),
                    epoch: Epoch(1),
                    model,
                };
                self.tell_shard(n, shard::Event::Prefetch(prefetch))?;
                self.tell_shard(n, shard::Event::Loaded(model))?;
            }
            self.agenda.after(HEARTBEAT, Happens::Beat(n));
        }
        self.agenda.after(TICK, Happens::Tick);
        self.agenda.after(SLOT_REFRESH, Happens::Refresh);
        self.agenda.at(self.from, Happens::Measure);
        let slots = WARM_BLOCKS + QUIET_BLOCKS + self.config.blocks;
        for n in 1..=slots {
            let at = START.saturating_add(Micros(n * SLOT.0));
            self.agenda
                .at(at.saturating_sub(Self::lead()), Happens::Cutoff);
            self.agenda.at(at, Happens::Block);
        }
        if self.config.workload == Workload::W10 {
            let at = |blocks: u64| self.from.saturating_add(Micros(blocks * SLOT.0 + 317_000));
            for (when, what) in [
                (at(4), Happens::Pace(1, 6)),
                (at(10), Happens::Pace(1, 1)),
                (at(13), Happens::Kill(2)),
                (at(17), Happens::Revive(2)),
                (at(21), Happens::Kill(0)),
                (at(23), Happens::Revive(0)),
            ] {
                self.agenda.at(when, what);
            }
        }
        Ok(())
    }

    const fn now(&self) -> Micros {
        self.agenda.now()
    }

    fn step(&mut self, happens: Happens) -> Result<(), String> {
        match happens {
            Happens::Arrive(n) => self.arrive(n)?,
            Happens::Leave(n) => self.leave(n)?,
            Happens::Seen(n) => self.seen(n)?,
            Happens::Scheduler(event) => self.tell(*event)?,
            Happens::Shard(n, life, event) => {
                if life == self.workers[usize::from(n)].incarnation {
                    self.tell_shard(n, *event)?;
                }
            }
            Happens::Ran(n, life, batch) => {
                if life == self.workers[usize::from(n)].incarnation {
                    self.ran(n, batch)?;
                }
            }
            Happens::Beat(n) => {
                self.agenda.after(HEARTBEAT, Happens::Beat(n));
                self.tell_shard(n, shard::Event::Tick)?;
            }
            Happens::Tick => {
                self.agenda.after(TICK, Happens::Tick);
                self.tell(Event::Tick)?;
            }
            Happens::Refresh => {
                self.agenda.after(SLOT_REFRESH, Happens::Refresh);
                self.tell_slot()?;
            }
            Happens::Cutoff => self.cutoff(),
            Happens::Block => self.block()?,
            Happens::Measure => self.measure()?,
            Happens::Kill(n) => {
                let worker = &mut self.workers[usize::from(n)];
                worker.machine = None;
                let lost: Vec<Running> =
                    std::mem::take(&mut worker.running).into_values().collect();
                for running in lost {
                    self.ran_for(&running);
                }
            }
            Happens::Revive(n) => {
                self.workers[usize::from(n)].start(n);
                self.tell_shard(n, shard::Event::Tick)?;
            }
            Happens::Pace(n, slow) => self.workers[usize::from(n)].slow = slow,
        }
        Ok(())
    }

    /// What came before is forgotten: from now on it counts.
    fn measure(&mut self) -> Result<(), String> {
        let left: Vec<u32> = self.live.keys().copied().collect();
        for n in left {
            self.leave(n)?;
        }
        self.report.figures = self.scheduler.figures();
        Ok(())
    }

    /// Says when the next two blocks stop taking results, as the shell does.
    fn tell_slot(&mut self) -> Result<(), String> {
        let lead = Self::lead();
        let next = (self.now().saturating_add(lead).0 / SLOT.0 + 1) * SLOT.0;
        let cutoff = Micros(next).saturating_sub(lead);
        self.tell(Event::Head(Slot {
            height: self.head,
            cutoff,
            next_cutoff: cutoff.saturating_add(SLOT),
        }))
    }

    fn tell(&mut self, event: Event) -> Result<(), String> {
        let mut effects = Vec::new();
        self.scheduler.apply(self.now(), event, &mut effects);
        for effect in effects {
            match effect {
                Effect::Assign(work) => {
                    self.send_shard(work.shard.0[0], shard::Event::Assign(work));
                }
                Effect::Cancel(cancel) => {
                    self.send_shard(cancel.shard.0[0], shard::Event::Cancel(cancel));
                }
                Effect::Prefetch(prefetch) => {
                    self.send_shard(prefetch.shard.0[0], shard::Event::Prefetch(prefetch));
                }
                Effect::Settle(settled) | Effect::Resend(settled) => {
                    self.settled(key_number(&settled.key));
                }
                Effect::Defer(deferral) => self.report.deferred(deferral.reason),
                Effect::Congestion(_) => {}
                Effect::Quarantine(evidence) => {
                    return Err(format!("{} is called a liar", evidence.shard));
                }
                Effect::Fenced => return Err("the only scheduler is fenced".into()),
                Effect::Log(record) => match record.decision {
                    Decision::LeaseExpired(_) => self.report.leases_expired += 1,
                    Decision::Planned { digest, .. } => self.report.planned(digest),
                    Decision::BreakerOpened(_) | Decision::PromiseBroken { .. } => {}
                },
            }
        }
        Ok(())
    }
}

/// What a gang asks for by a key's number and its model's.
pub(super) fn request(key: u32, model: u8, models: &[Model]) -> GangRequest {
    GangRequest {
        key: request_key(key),
        model: model_hash(model),
        mode: Mode::Vanilla,
        input: Bytes::new(),
        igas: Igas(models[usize::from(model)].igas()),
        certain: true,
    }
}

/// A key of 32 bytes that differ, with its number at the end.
fn request_key(n: u32) -> RequestKey {
    let mut random = Random::new(u64::from(n)).fork(77);
    let mut key = B256::ZERO;
    for word in key.0.chunks_mut(8) {
        word.copy_from_slice(&random.next().to_be_bytes());
    }
    key[28..].copy_from_slice(&n.to_be_bytes());
    RequestKey(key)
}

fn key_number(key: &RequestKey) -> u32 {
    u32::from_be_bytes([key.0[28], key.0[29], key.0[30], key.0[31]])
}
