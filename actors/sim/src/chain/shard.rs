//! A shard's process: the machine, and an engine that may be slow, hang, fail or lie.

use super::attest;
use super::evm::{infer, run_time};
use super::world::{Checked, Message, Own, Place, World};
use super::{Class, Mutant};
use alloy_primitives::{Address, Bytes};
use penstock_rules::Machine;
use penstock_rules::ids::{Micros, ShardId};
use penstock_rules::invariants::LEASED;
use penstock_rules::message::{Answer, AssignmentDone};
use penstock_rules::request::Outcome;
use penstock_rules::shard::{Config, Effect, Event, HEARTBEAT, Shard};

/// What ails a shard.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Health {
    /// Nothing.
    Well,
    /// It takes this many times as long.
    Slow(u64),
    /// A batch that starts never ends.
    Hangs,
    /// Its engine fails on every batch.
    Fails,
}

/// Whether a shard says what its engine says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Honesty {
    /// It does.
    Honest,
    /// It signs lies now and then.
    Lies,
    /// What it sends has signatures that are not its own.
    Forges,
}

/// What a shard's process has in memory.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) machine: Shard,
    pub(super) health: Health,
    pub(super) honesty: Honesty,
    /// A batch started that never ends.
    pub(super) hung: bool,
}

impl Worker {
    /// The id of the shard with this number.
    pub(super) fn id(n: u8) -> ShardId {
        ShardId(Address::repeat_byte(n + 1))
    }
}

impl World {
    pub(super) fn start_shard(&mut self, n: u8) -> Checked {
        let config = Config {
            shard: Worker::id(n),
            incarnation: self.now().0,
            backend: "model".into(),
            batch_max: 4,
            queue_max: 2,
            models_max: 3,
            engines: 1,
        };
        self.shards[usize::from(n)].start(Worker {
            machine: Shard::new(config),
            health: Health::Well,
            honesty: Honesty::Honest,
            hung: false,
        });
        self.later(Place::Shard(n), HEARTBEAT, Own::Heartbeat);
        self.shard_takes(n, Event::Tick)
    }

    pub(super) fn shard_hears(&mut self, n: u8, message: Message) -> Checked {
        let event = match message {
            Message::Assign(work) => Event::Assign(work),
            Message::Cancel(cancel) => Event::Cancel(cancel),
            Message::Prefetch(prefetch) => Event::Prefetch(prefetch),
            _ => return Ok(()),
        };
        self.shard_takes(n, event)
    }

    pub(super) fn shard_own(&mut self, n: u8, own: Own) -> Checked {
        let event = match own {
            Own::Heartbeat => {
                self.later(Place::Shard(n), HEARTBEAT, Own::Heartbeat);
                Event::Tick
            }
            Own::Loaded(model, true) => Event::Loaded(model),
            Own::Loaded(model, false) => Event::LoadFailed(model),
            Own::Ran(batch, Some(outcomes), took) => Event::Ran {
                batch,
                outcomes,
                took,
            },
            Own::Ran(batch, None, _) => Event::RunFailed { batch },
            _ => return Ok(()),
        };
        self.shard_takes(n, event)
    }

    fn shard_takes(&mut self, n: u8, event: Event) -> Checked {
        let now = self.now();
        let Some(worker) = &mut self.shards[usize::from(n)].content else {
            return Ok(());
        };
        let mut effects = Vec::new();
        worker.machine.apply(now, event, &mut effects);
        worker
            .machine
            .check()
            .map_err(|broken| super::judge::named(LEASED, format!("shard {n}: {broken}")))?;
        for effect in effects {
            self.perform_shard(n, effect)?;
        }
        Ok(())
    }

    fn perform_shard(&mut self, n: u8, effect: Effect) -> Checked {
        let place = Place::Shard(n);
        let Some(worker) = &mut self.shards[usize::from(n)].content else {
            return Ok(());
        };
        worker.hung |= worker.health == Health::Hangs && matches!(effect, Effect::Run { .. });
        let (health, honesty, id) = (worker.health, worker.honesty, Worker::id(n));
        match effect {
            Effect::Load(model) => {
                let well = !self.chaos.happens(Class::Shards, 100_000);
                let span = self.span(5_000, 300_000);
                self.later(place, span, Own::Loaded(model, well));
            }
            Effect::Run {
                batch,
                model,
                requests,
            } => {
                self.judge.runs(&requests);
                let noise = self.span(0, 1_000);
                let took = run_time(model, requests.len()).saturating_add(noise);
                let took = match health {
                    Health::Slow(times) => Micros(took.0 * times),
                    Health::Hangs => return Ok(()),
                    Health::Well | Health::Fails => took,
                };
                let lies = honesty == Honesty::Lies && self.chaos.happens(Class::Lies, 500_000);
                let mixes = self.config.mutant == Some(Mutant::BatchInOutput);
                let outcomes = requests.iter().map(|request| {
                    if mixes && requests.len() > 1 {
                        Outcome::Output(Bytes::copy_from_slice(&[requests.len() as u8]))
                    } else if lies {
                        attest::lie(id, model, &request.input)
                    } else {
                        infer(model, &request.input)
                    }
                });
                let outcomes = (health != Health::Fails).then(|| outcomes.collect());
                self.later(place, took, Own::Ran(batch, outcomes, took));
            }
            Effect::Answer(answers) => {
                let mut signed = Vec::new();
                for (key, outcome) in answers.outcomes {
                    let hash = outcome.hash();
                    let attestation = if honesty == Honesty::Forges {
                        attest::forge(id)
                    } else {
                        attest::sign(id, key, hash)
                    };
                    self.judge.answered(n, key, hash)?;
                    signed.push(Answer {
                        key,
                        outcome,
                        attestation,
                    });
                }
                self.publish(Message::Done(AssignmentDone {
                    shard: id,
                    lease: answers.lease,
                    epoch: answers.epoch,
                    answers: signed,
                    ran: answers.ran,
                    batch: answers.batch,
                }));
            }
            Effect::Refuse(refused) => self.publish(Message::Refused(refused)),
            Effect::Hello(hello) => self.publish(Message::Hello(hello)),
            Effect::Unload(_) | Effect::Drained => {}
        }
        Ok(())
    }
}
