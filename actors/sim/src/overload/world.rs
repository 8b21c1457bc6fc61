//! The run: what happens when, and who takes which time.

use super::demand::{self, Demand, Intent, Job, Model};
use super::fleet::{LOAD, Running, Worker, batch_time, model_hash, residency, shard_id};
use super::report::{Report, Spent};
use super::{Config, SLOT, Workload};
use crate::{Agenda, Random};
use alloy_primitives::{Address, B256, Bytes};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Height, Igas, Micros, RequestKey};
use penstock_rules::message::{
    Answer, AssignedRequest, AssignmentDone, Class, Gang, GangRequest, Prefetch, Withdraw,
};
use penstock_rules::producer::BUILD_LEAD_MAX;
use penstock_rules::request::{Attestation, Mode, Outcome};
use penstock_rules::scheduler::{self, Decision, Effect, Event, Included, Scheduler, Slot};
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
const PAID: Igas = Igas(1_000_000_000);

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
            Micros(warm_time),
            &seed.fork(12),
        );
        world.take_in(warm, START);
        let span = until.saturating_sub(from);
        let capacity = shards * span.0;
        let demand = Demand::new(
            config.workload,
            &world.models,
            capacity * config.load_percent / 100,
            span,
            &seed.fork(13),
        );
        world.report.capacity = capacity;
        (world.report.bound, world.last) = demand::bound(&demand.jobs, capacity);
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

    fn arrive(&mut self, n: u32) -> Result<(), String> {
        let job = self.jobs[n as usize].clone();
        let sender = if job.intent == Intent::Honest {
            match self.free_senders.pop() {
                Some(sender) => sender,
                None => {
                    let sender = self.senders.len() as u32;
                    let mut address = Address::repeat_byte(0x11);
                    address[..4].copy_from_slice(&sender.to_be_bytes());
                    self.senders.push(address);
                    self.tell(Event::Included(Included {
                        id: B256::ZERO,
                        sender: address,
                        igas: PAID,
                        keys: Vec::new(),
                    }))?;
                    sender
                }
            }
        } else {
            self.strangers += 1;
            u32::MAX
        };
        let mut id = B256::ZERO;
        for word in id.0.chunks_mut(8) {
            word.copy_from_slice(&self.random.next().to_be_bytes());
        }
        id[28..].copy_from_slice(&n.to_be_bytes());
        let measured = self.now() >= self.from;
        if measured {
            self.report.asked(&job);
        }
        // It leaves after a block that it is not in.
        let blocks = self.now().0 / SLOT.0 + 1 + job.life;
        self.agenda
            .at(Micros(blocks * SLOT.0 + 1), Happens::Leave(n));
        let live = Live {
            id,
            sender,
            nonce: self.strangers,
            arrival: self.head,
            wave: 0,
            open: BTreeSet::new(),
            done: Vec::new(),
            measured,
            job,
        };
        self.live.insert(n, live);
        self.next_wave(n)
    }

    /// Asks for the next wave; without one, the transaction is ready.
    fn next_wave(&mut self, n: u32) -> Result<(), String> {
        let Some(live) = self.live.get_mut(&n) else {
            return Ok(());
        };
        let Some(wave) = live.job.waves.get(live.wave) else {
            if live.job.intent == Intent::Honest {
                self.ready.insert(n);
                return Ok(());
            }
            return self.leave(n);
        };
        live.wave += 1;
        live.open = wave.iter().copied().collect();
        for &key in wave {
            self.keys[key as usize].waiters.push(n);
        }
        self.submit(n)
    }

    fn submit(&mut self, n: u32) -> Result<(), String> {
        let Some(live) = self.live.get(&n) else {
            return Ok(());
        };
        let request = |&key: &u32| {
            let model = self.keys[key as usize].model;
            GangRequest {
                key: request_key(key),
                model: model_hash(model),
                mode: Mode::Vanilla,
                input: Bytes::new(),
                igas: Igas(self.models[usize::from(model)].igas()),
                certain: true,
            }
        };
        let gang = Gang {
            id: live.id,
            sender: self.address(live),
            nonce: live.nonce,
            value: live.job.value,
            class: Class::Block,
            round: live.wave as u32,
            arrival: live.arrival,
            deadline: None,
            requests: live.open.iter().map(request).collect(),
        };
        self.tell(Event::Submit(gang))
    }

    fn address(&self, live: &Live) -> Address {
        match self.senders.get(live.sender as usize) {
            Some(address) => *address,
            None => {
                let mut address = Address::repeat_byte(0x66);
                address[..8].copy_from_slice(&live.nonce.to_be_bytes());
                address
            }
        }
    }

    fn leave(&mut self, n: u32) -> Result<(), String> {
        self.ready.remove(&n);
        let Some(live) = self.live.remove(&n) else {
            return Ok(());
        };
        let id = live.id;
        self.gone(live);
        self.tell(Event::Withdraw(Withdraw { id }))
    }

    fn gone(&mut self, live: Live) {
        if live.job.intent == Intent::Honest {
            self.free_senders.push(live.sender);
        }
    }

    fn seen(&mut self, n: u32) -> Result<(), String> {
        let done = self.live.get(&n).is_some_and(|live| live.open.is_empty());
        if done && !self.ready.contains(&n) {
            self.next_wave(n)?;
        }
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

    /// The block takes who is ready.
    fn cutoff(&mut self) {
        for n in std::mem::take(&mut self.ready) {
            if let Some(live) = self.live.remove(&n) {
                for &key in &live.done {
                    self.keys[key as usize].consumed = true;
                }
                if live.measured {
                    let (value, cost) = self.last;
                    if live.job.value * u128::from(cost) < value * u128::from(live.job.cost) {
                        self.report.below += live.job.value;
                    }
                    self.report.least_cost += live.job.cost;
                    self.report
                        .included(&live.job, self.head.0.saturating_sub(live.arrival.0));
                }
                self.built.push(live);
            }
        }
    }

    fn block(&mut self) -> Result<(), String> {
        self.head = self.head.next();
        for live in std::mem::take(&mut self.built) {
            let igas = |&key: &u32| self.models[usize::from(self.keys[key as usize].model)].igas();
            let included = Included {
                id: live.id,
                sender: self.address(&live),
                igas: Igas(live.done.iter().map(igas).sum()),
                keys: live.done.iter().map(|&key| request_key(key)).collect(),
            };
            self.gone(live);
            self.tell(Event::Included(included))?;
        }
        self.tell_slot()?;
        self.scheduler.check()?;
        // Some that are partly computed find another state than the one that they were computed for.
        let partly: Vec<u32> = self
            .live
            .iter()
            .filter(|(_, live)| !live.done.is_empty() || live.job.intent == Intent::Churns)
            .map(|(n, _)| *n)
            .collect();
        for n in partly {
            let churns = self.live[&n].job.intent == Intent::Churns;
            if churns || self.random.chance(STALE_IN_MILLION) {
                self.changes(n)?;
            }
        }
        Ok(())
    }

    /// One of a transaction's inputs is another now.
    fn changes(&mut self, n: u32) -> Result<(), String> {
        let fresh = self.keys.len() as u32;
        let Some(live) = self.live.get_mut(&n) else {
            return Ok(());
        };
        let old = if live.done.is_empty() {
            live.open.pop_first()
        } else {
            let at = self.random.below(live.done.len() as u64) as usize;
            Some(live.done.swap_remove(at))
        };
        let Some(old) = old else {
            return Ok(());
        };
        live.open.insert(fresh);
        self.ready.remove(&n);
        let key = &mut self.keys[old as usize];
        key.stale = true;
        key.waiters.retain(|&other| other != n);
        let model = key.model;
        self.keys.push(Key {
            model,
            waiters: vec![n],
            ..Key::default()
        });
        self.submit(n)
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

    fn send_shard(&mut self, n: u8, event: shard::Event) {
        let life = self.workers[usize::from(n)].incarnation;
        self.agenda
            .after(HOP, Happens::Shard(n, life, Box::new(event)));
    }

    fn settled(&mut self, key: u32) {
        let entry = &mut self.keys[key as usize];
        entry.settled = true;
        for n in std::mem::take(&mut entry.waiters) {
            if let Some(live) = self.live.get_mut(&n)
                && live.open.remove(&key)
            {
                live.done.push(key);
                if live.open.is_empty() {
                    self.agenda.after(SETTLE, Happens::Seen(n));
                }
            }
        }
    }

    fn tell_shard(&mut self, n: u8, event: shard::Event) -> Result<(), String> {
        let (now, life) = (self.now(), self.workers[usize::from(n)].incarnation);
        let Some(machine) = &mut self.workers[usize::from(n)].machine else {
            return Ok(());
        };
        let mut effects = Vec::new();
        machine.apply(now, event, &mut effects);
        machine.check()?;
        for effect in effects {
            match effect {
                shard::Effect::Load(model) => {
                    self.report.loads += u64::from(now >= self.from);
                    let loaded = Box::new(shard::Event::Loaded(model));
                    self.agenda.after(LOAD, Happens::Shard(n, life, loaded));
                }
                shard::Effect::Run {
                    batch,
                    model,
                    requests,
                } => self.start(n, batch, model.0[0] - 1, &requests),
                shard::Effect::Answer(answers) => {
                    let shard = shard_id(n);
                    let answer = |(key, outcome)| Answer {
                        key,
                        outcome,
                        attestation: Attestation {
                            shard,
                            signature: Bytes::new(),
                        },
                    };
                    let done = Event::Done(AssignmentDone {
                        shard,
                        lease: answers.lease,
                        epoch: answers.epoch,
                        answers: answers.outcomes.into_iter().map(answer).collect(),
                        ran: answers.ran,
                        batch: answers.batch,
                    });
                    self.agenda.after(HOP, Happens::Scheduler(Box::new(done)));
                }
                shard::Effect::Refuse(refused) => {
                    self.report.refused(refused.reason);
                    let event = Box::new(Event::Refused(refused));
                    self.agenda.after(HOP, Happens::Scheduler(event));
                }
                shard::Effect::Hello(hello) => {
                    let event = Box::new(Event::Hello(hello));
                    self.agenda.after(HOP, Happens::Scheduler(event));
                }
                shard::Effect::Unload(_) | shard::Effect::Drained => {}
            }
        }
        Ok(())
    }

    fn start(&mut self, n: u8, batch: BatchId, model: u8, requests: &[AssignedRequest]) {
        let now = self.now();
        let worker = &mut self.workers[usize::from(n)];
        let took = batch_time(
            &self.models[usize::from(model)],
            requests.len() as u64,
            worker.slow,
            self.config.stragglers_in_million,
            &mut self.random,
        );
        let running = Running {
            since: now,
            took,
            keys: requests.iter().map(|r| key_number(&r.key)).collect(),
        };
        worker.running.insert(batch, running);
        let life = worker.incarnation;
        self.agenda.after(took, Happens::Ran(n, life, batch));
    }

    fn ran(&mut self, n: u8, batch: BatchId) -> Result<(), String> {
        let Some(running) = self.workers[usize::from(n)].running.remove(&batch) else {
            return Ok(());
        };
        self.ran_for(&running);
        let outcome = |&key: &u32| Outcome::Output(Bytes::copy_from_slice(&key.to_be_bytes()));
        let event = shard::Event::Ran {
            batch,
            outcomes: running.keys.iter().map(outcome).collect(),
            took: running.took,
        };
        self.tell_shard(n, event)
    }

    /// A batch's time, as far as it is measured, goes to its requests in equal parts.
    fn ran_for(&mut self, running: &Running) {
        let from = running.since.max(self.from);
        let until = self.now().min(self.until);
        let share = until.saturating_sub(from).0 / running.keys.len().max(1) as u64;
        for &key in &running.keys {
            let key = &mut self.keys[key as usize];
            if key.settled || key.first > 0 {
                key.again += share;
            } else {
                key.first = share;
            }
        }
        self.report.batches += u64::from(from < until);
        self.report.batched += if from < until {
            running.keys.len() as u64
        } else {
            0
        };
    }

    /// What all the time was good for.
    fn account(&mut self) {
        for n in 0..self.workers.len() {
            let left: Vec<Running> = std::mem::take(&mut self.workers[n].running)
                .into_values()
                .collect();
            for running in left {
                self.ran_for(&running);
            }
        }
        let pending: BTreeSet<u32> = self
            .live
            .values()
            .flat_map(|live| live.done.iter().chain(&live.open))
            .copied()
            .collect();
        for (n, key) in (0u32..).zip(&self.keys) {
            let what = if key.consumed {
                Spent::Useful
            } else if pending.contains(&n) {
                Spent::Pending
            } else if key.stale {
                Spent::Stale
            } else {
                Spent::Wasted
            };
            self.report.spend(what, key.first);
            self.report.spend(Spent::Wasted, key.again);
        }
        let before = self.report.figures;
        self.report.figures = self.scheduler.figures().since(&before);
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
