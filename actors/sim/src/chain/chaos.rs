//! The faults: which, when, and how they end.

use super::evm::Head;
use super::log::Record;
use super::shard::{Health, Honesty};
use super::world::{Checked, Event, Place, START, World};
use super::{Class, Config};
use crate::{Faults, Random};
use penstock_rules::ids::Micros;
use penstock_rules::producer::Start;
use std::collections::{BTreeMap, BTreeSet};

/// When a standby takes over after the last block, in the simulation: soon, so that it does.
const STANDBY: Micros = Micros::from_secs(3);

/// What goes wrong.
#[derive(Debug)]
pub(super) struct Chaos {
    classes: BTreeSet<Class>,
    /// A sequence of its own for each class: without one class the others stay as they are.
    randoms: BTreeMap<Class, Random>,
    /// Whether faults happen now.
    pub(super) active: bool,
    /// The shard that lies, if lies are told.
    liar: u8,
}

impl Chaos {
    pub(super) fn new(root: &Random, config: &Config, shards: usize) -> Self {
        let randoms: BTreeMap<_, _> = Class::ALL
            .into_iter()
            .map(|class| (class, root.fork(100 + class as u64)))
            .collect();
        Self {
            classes: config.faults.clone(),
            randoms,
            active: true,
            liar: root.fork(99).below(shards as u64) as u8,
        }
    }

    pub(super) fn has(&self, class: Class) -> bool {
        self.classes.contains(&class)
    }

    /// Whether a fault of this class happens here that happens in `in_million` of a million cases.
    pub(super) fn happens(&mut self, class: Class, in_million: u32) -> bool {
        let drawn = self.random(class).chance(in_million);
        drawn && self.active && self.has(class)
    }

    fn random(&mut self, class: Class) -> &mut Random {
        self.randoms.entry(class).or_insert_with(|| Random::new(0))
    }
}

impl World {
    /// Starts everything.
    pub(super) fn begin(&mut self) {
        let places = self.places();
        for place in places {
            if place != Place::Scheduler(1) {
                // Nothing was checked yet that could be broken.
                let _ = self.restart(place);
            }
        }
        for sender in 0..super::clients::Clients::senders() {
            self.agenda
                .after(Micros(sender as u64), Event::Sender(sender));
        }
        if self.chaos.has(Class::Bus) {
            self.net.faults = Faults {
                drop: 30_000,
                duplicate: 30_000,
                delay: 40_000,
                delay_max: Micros::from_millis(2_000),
                ..Faults::NONE
            };
        }
        if self.chaos.has(Class::Lies) {
            self.judge.liars.insert(self.chaos.liar);
        }
        let late = [Class::Log, Class::Forgery, Class::Producers];
        self.judge.punctual = !late.iter().any(|class| self.chaos.has(*class));
        for class in Class::ALL {
            if self.chaos.has(class) {
                self.disturb_later(class);
            }
        }
    }

    fn disturb_later(&mut self, class: Class) {
        let most = match class {
            Class::Shards => 2_500_000,
            _ => 8_000_000,
        };
        let span = Micros(self.chaos.random(class).between(200_000, most));
        self.agenda.after(span, Event::Chaos(class));
    }

    /// A fault of this class happens.
    pub(super) fn disturb(&mut self, class: Class) {
        if !self.chaos.active {
            return;
        }
        self.disturb_later(class);
        let choice = self.chaos.random(class).below(100);
        let which = self.chaos.random(class).below(64) as usize;
        let span = Micros(self.chaos.random(class).between(100_000, 6_000_000));
        match class {
            Class::Shards => {
                let n = which % self.shards.len();
                let health = match choice {
                    0..35 => {
                        self.kill(Place::Shard(n as u8), span);
                        return;
                    }
                    35..55 => Health::Slow(10),
                    55..65 => Health::Hangs,
                    65..75 => Health::Fails,
                    _ => Health::Well,
                };
                self.note(|| format!("fault: shard {n} is now {health:?}"));
                if let Some(worker) = &mut self.shards[n].content {
                    worker.health = health;
                }
            }
            Class::Lies => {
                let honesty = match choice {
                    0..60 => Honesty::Lies,
                    60..75 => Honesty::Forges,
                    _ => Honesty::Honest,
                };
                let n = usize::from(self.chaos.liar);
                self.note(|| format!("fault: shard {n} is now {honesty:?}"));
                if let Some(worker) = &mut self.shards[n].content {
                    worker.honesty = honesty;
                }
            }
            Class::Forgery => {
                if choice < 50 {
                    self.note(|| "fault: garbage in the log".into());
                    self.log.stray(Record::Garbage);
                } else {
                    // An old block once more.
                    let head: &Head = self.judge.head();
                    let Some(block) = head.block.clone() else {
                        return;
                    };
                    self.note(|| "fault: a block once more in the log".into());
                    self.log.stray(Record::Block(block));
                }
                self.log_grew();
            }
            Class::Front => {
                let place = if choice < 70 {
                    Place::Front
                } else {
                    Place::Observer
                };
                self.kill(place, span);
            }
            Class::Schedulers => {
                let up: Vec<u8> = (0..2)
                    .filter(|n| self.is_up(Place::Scheduler(*n)))
                    .collect();
                match (up.as_slice(), choice) {
                    // The other one takes over while this one still works.
                    ([n], 50..) => {
                        let other = Place::Scheduler(1 - n);
                        self.agenda.after(Micros(0), Event::Restart(other));
                    }
                    ([.., n], _) => self.kill(Place::Scheduler(*n), span),
                    ([], _) => {}
                }
            }
            Class::Producers => self.kill(Place::Producer((which % 2) as u8), span),
            Class::Bus => {
                // A storm, or none.
                let drop = if choice < 40 { 250_000 } else { 30_000 };
                self.note(|| format!("fault: {drop} in a million messages are lost now"));
                self.net.faults.drop = drop;
            }
            Class::Log => {}
        }
    }

    /// Ends a process at once; it comes back after a span.
    fn kill(&mut self, place: Place, span: Micros) {
        if !self.is_up(place) {
            return;
        }
        self.note(|| format!("fault: {place:?} dies for {span}"));
        match place {
            Place::Front => self.front.content = None,
            Place::Scheduler(n) => self.schedulers[usize::from(n)].content = None,
            Place::Producer(n) => self.producers[usize::from(n)].content = None,
            Place::Shard(n) => self.shards[usize::from(n)].content = None,
            Place::Observer => self.observer.content = None,
        }
        self.agenda.after(span, Event::Restart(place));
    }

    /// Starts a process that is down.
    pub(super) fn restart(&mut self, place: Place) -> Checked {
        if self.is_up(place) {
            return Ok(());
        }
        self.note(|| format!("{place:?} starts"));
        match place {
            Place::Front => self.start_front(),
            Place::Scheduler(n) => self.start_scheduler(n),
            Place::Producer(n) => {
                let start = if n == 0 && self.now() == START {
                    Start::Lead
                } else {
                    Start::Standby(STANDBY)
                };
                self.start_producer(n, start)
            }
            Place::Shard(n) => self.start_shard(n),
            Place::Observer => {
                let node = self.fresh_node(Place::Observer);
                self.observer.start(node);
                self.read_on(Place::Observer);
                Ok(())
            }
        }
    }

    /// Faults end: what is down comes back, what ails gets well.
    pub(super) fn calm(&mut self) -> Checked {
        self.note(|| "faults end".into());
        self.chaos.active = false;
        self.net.faults = Faults::NONE;
        for n in 0..self.shards.len() as u8 {
            let Some(worker) = &mut self.shards[usize::from(n)].content else {
                continue;
            };
            worker.honesty = Honesty::Honest;
            // What hung has to be started anew: that is how a hang ends.
            if worker.hung {
                self.shards[usize::from(n)].content = None;
            } else {
                worker.health = Health::Well;
            }
        }
        for place in self.places() {
            let spare = place == Place::Scheduler(1) || place == Place::Scheduler(0);
            if !spare {
                self.restart(place)?;
            }
        }
        if !self.is_up(Place::Scheduler(0)) && !self.is_up(Place::Scheduler(1)) {
            self.restart(Place::Scheduler(0))?;
        }
        Ok(())
    }
}
