//! Shards: what they are told, how long they run, and what their time was good for.

use super::super::fleet::{LOAD, Running, batch_time, shard_id};
use super::super::report::Spent;
use super::{HOP, Happens, World, key_number};
use alloy_primitives::Bytes;
use penstock_rules::Machine;
use penstock_rules::message::{Answer, AssignedRequest, AssignmentDone};
use penstock_rules::request::{Attestation, Outcome};
use penstock_rules::scheduler::Event;
use penstock_rules::shard::{self, BatchId};
use std::collections::BTreeSet;

impl World {
    pub(super) fn send_shard(&mut self, n: u8, event: shard::Event) {
        let life = self.workers[usize::from(n)].incarnation;
        self.agenda
            .after(HOP, Happens::Shard(n, life, Box::new(event)));
    }

    pub(super) fn tell_shard(&mut self, n: u8, event: shard::Event) -> Result<(), String> {
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

    pub(super) fn ran(&mut self, n: u8, batch: BatchId) -> Result<(), String> {
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
    pub(super) fn ran_for(&mut self, running: &Running) {
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
    pub(super) fn account(&mut self) {
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
        let outcomes = std::mem::take(&mut self.outcomes);
        self.report.by_value(outcomes.into_values().collect());
        self.report.fair(self.served.iter().copied());
        let before = self.report.figures;
        self.report.figures = self.scheduler.figures().since(&before);
    }
}
