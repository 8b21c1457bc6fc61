//! A scheduler, its shards and the mail between them, in virtual time, under faults.

use super::*;
use crate::scheduler::dice::Dice;

/// One in how many: 0 is never.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Faults {
    pub(super) drop: u64,
    pub(super) double: u64,
    pub(super) crash: u64,
    pub(super) engine: u64,
    pub(super) straggle: u64,
}

#[derive(Clone, Debug)]
pub(super) enum Mail {
    Scheduler(Box<Event>),
    Shard(usize, u64, Box<shard::Event>),
    Restart(usize),
}

pub(super) struct World {
    pub(super) now: u64,
    pub(super) scheduler: Scheduler,
    pub(super) shards: Vec<Option<Shard>>,
    pub(super) incarnations: Vec<u64>,
    pub(super) liars: Vec<usize>,
    pub(super) mail: BTreeMap<(u64, u64), Mail>,
    pub(super) letters: u64,
    pub(super) dice: Dice,
    pub(super) faults: Faults,
    pub(super) settled: BTreeMap<RequestKey, Settled>,
    pub(super) deferred: Vec<Deferral>,
    pub(super) evidence: Vec<Evidence>,
    pub(super) executions: BTreeMap<RequestKey, u32>,
    pub(super) cancels: u32,
    pub(super) decisions: Vec<Decision>,
    pub(super) height: u64,
    pub(super) fenced: bool,
}

impl World {
    pub(super) fn new(shards: usize, seed: u64, faults: Faults) -> Self {
        let mut world = Self {
            now: START,
            scheduler: Scheduler::new(Config {
                decision_log: DecisionLog::Plans,
                ..Config::default()
            }),
            shards: (0..shards).map(|_| None).collect(),
            incarnations: vec![0; shards],
            liars: Vec::new(),
            mail: BTreeMap::new(),
            letters: 0,
            dice: Dice(seed),
            faults,
            settled: BTreeMap::new(),
            deferred: Vec::new(),
            evidence: Vec::new(),
            executions: BTreeMap::new(),
            cancels: 0,
            decisions: Vec::new(),
            height: 0,
            fenced: false,
        };
        world.tell(Event::TookOver { epoch: Epoch(1) });
        world.head();
        for n in 0..shards {
            world.restart(n);
        }
        world
    }

    pub(super) fn head(&mut self) {
        self.height += 1;
        self.tell(Event::Head(Slot {
            height: Height(self.height),
            cutoff: Micros(self.now + SLOT),
            next_cutoff: Micros(self.now + 2 * SLOT),
        }));
    }

    pub(super) fn post(&mut self, delay: u64, mail: Mail) {
        self.letters += 1;
        self.mail.insert((self.now + delay, self.letters), mail);
    }

    /// Over the bus: lost, doubled, late.
    pub(super) fn send(&mut self, mail: Mail) {
        if self.dice.one_in(self.faults.drop) {
            return;
        }
        if self.dice.one_in(self.faults.double) {
            let delay = self.dice.below(50 * MS);
            self.post(delay, mail.clone());
        }
        let delay = 200
            + self
                .dice
                .below(if self.faults.drop > 0 { 20 * MS } else { 500 });
        self.post(delay, mail);
    }

    pub(super) fn restart(&mut self, n: usize) {
        self.incarnations[n] += 1;
        let shard = Shard::new(shard::Config {
            shard: shard_id(n),
            incarnation: self.incarnations[n],
            backend: "cpu".into(),
            batch_max: 8,
            queue_max: 2,
            models_max: 8,
            engines: 1,
        });
        self.shards[n] = Some(shard);
        self.tell_shard(n, shard::Event::Tick);
    }

    pub(super) fn tell(&mut self, event: Event) {
        let planned = matches!(event, Event::Tick);
        let mut effects = Vec::new();
        self.scheduler.apply(Micros(self.now), event, &mut effects);
        self.scheduler.check().unwrap_or_else(|e| panic!("{e}"));
        if planned {
            self.scheduler
                .check_plan()
                .unwrap_or_else(|e| panic!("{e}"));
        }
        for effect in effects {
            match effect {
                Effect::Assign(assignment) => {
                    let n = self.place(assignment.shard);
                    self.send(Mail::Shard(
                        n,
                        0,
                        Box::new(shard::Event::Assign(assignment)),
                    ));
                }
                Effect::Cancel(cancel) => {
                    self.cancels += 1;
                    let n = self.place(cancel.shard);
                    self.send(Mail::Shard(n, 0, Box::new(shard::Event::Cancel(cancel))));
                }
                Effect::Prefetch(prefetch) => {
                    let n = self.place(prefetch.shard);
                    self.send(Mail::Shard(
                        n,
                        0,
                        Box::new(shard::Event::Prefetch(prefetch)),
                    ));
                }
                Effect::Settle(settled) => {
                    let key = settled.key;
                    assert!(
                        self.settled.insert(key, settled).is_none(),
                        "{key} settled twice"
                    );
                }
                Effect::Resend(settled) => {
                    assert_eq!(self.settled.get(&settled.key), Some(&settled));
                }
                Effect::Defer(deferral) => self.deferred.push(deferral),
                Effect::Congestion(_) => {}
                Effect::Quarantine(evidence) => self.evidence.push(*evidence),
                Effect::Fenced => self.fenced = true,
                Effect::Log(record) => self.decisions.push(record.decision),
            }
        }
    }

    pub(super) fn place(&self, id: ShardId) -> usize {
        (0..self.shards.len())
            .find(|&n| shard_id(n) == id)
            .expect("a shard of ours")
    }

    pub(super) fn truth(key: RequestKey) -> Outcome {
        Outcome::Output(Bytes::copy_from_slice(&key.0[..8]))
    }

    pub(super) fn tell_shard(&mut self, n: usize, event: shard::Event) {
        let Some(machine) = &mut self.shards[n] else {
            return;
        };
        let mut effects = Vec::new();
        machine.apply(Micros(self.now), event, &mut effects);
        machine.check().unwrap_or_else(|e| panic!("{e}"));
        let incarnation = self.incarnations[n];
        for effect in effects {
            match effect {
                shard::Effect::Load(model) => {
                    self.post(
                        20 * MS,
                        Mail::Shard(n, incarnation, Box::new(shard::Event::Loaded(model))),
                    );
                }
                shard::Effect::Run {
                    batch, requests, ..
                } => {
                    for request in &requests {
                        *self.executions.entry(request.key).or_default() += 1;
                    }
                    self.run(n, batch, &requests);
                }
                shard::Effect::Answer(answers) => {
                    let lies = self.liars.contains(&n);
                    let answers_signed =
                        answers.outcomes.into_iter().map(|(key, outcome)| Answer {
                            key,
                            outcome: if lies {
                                Outcome::Output(Bytes::from_static(b"lie"))
                            } else {
                                outcome
                            },
                            attestation: Attestation {
                                shard: shard_id(n),
                                signature: Bytes::new(),
                            },
                        });
                    let done = AssignmentDone {
                        shard: shard_id(n),
                        lease: answers.lease,
                        epoch: answers.epoch,
                        answers: answers_signed.collect(),
                        ran: answers.ran,
                        batch: answers.batch,
                    };
                    self.send(Mail::Scheduler(Box::new(Event::Done(done))));
                }
                shard::Effect::Refuse(refused) => {
                    self.send(Mail::Scheduler(Box::new(Event::Refused(refused))))
                }
                shard::Effect::Hello(hello) => {
                    self.send(Mail::Scheduler(Box::new(Event::Hello(hello))))
                }
                shard::Effect::Unload(_) | shard::Effect::Drained => {}
            }
        }
    }

    pub(super) fn run(
        &mut self,
        n: usize,
        batch: BatchId,
        requests: &[crate::message::AssignedRequest],
    ) {
        let mut took = 2 * MS + MS * requests.len() as u64;
        if self.dice.one_in(self.faults.straggle) {
            took *= 50;
        }
        let event = if self.dice.one_in(self.faults.engine) {
            shard::Event::RunFailed { batch }
        } else {
            let outcomes = requests.iter().map(|r| Self::truth(r.key)).collect();
            shard::Event::Ran {
                batch,
                outcomes,
                took: Micros(took),
            }
        };
        let incarnation = self.incarnations[n];
        if self.dice.one_in(self.faults.crash) {
            self.shards[n] = None;
            self.post(SLOT, Mail::Restart(n));
        } else {
            self.post(took, Mail::Shard(n, incarnation, Box::new(event)));
        }
    }

    /// Lets time pass: mail in order, ticks every 5 ms, heads every slot.
    pub(super) fn pass(&mut self, time: u64) {
        let until = self.now + time;
        while self.now < until {
            let step = (self.now + 5 * MS).min(until);
            while let Some(entry) = self.mail.first_entry() {
                let at = entry.key().0;
                if at > step {
                    break;
                }
                let mail = entry.remove();
                self.now = self.now.max(at);
                match mail {
                    Mail::Scheduler(event) => self.tell(*event),
                    Mail::Shard(n, incarnation, event) => {
                        if incarnation == 0 || incarnation == self.incarnations[n] {
                            self.tell_shard(n, *event);
                        }
                    }
                    Mail::Restart(n) => self.restart(n),
                }
            }
            self.now = step;
            if (self.now - START).is_multiple_of(SLOT) {
                self.head();
            }
            for n in 0..self.shards.len() {
                self.tell_shard(n, shard::Event::Tick);
            }
            self.tell(Event::Tick);
        }
    }

    pub(super) fn reasons(&self, id: u64) -> Vec<Reason> {
        let id = B256::left_padding_from(&id.to_be_bytes());
        self.deferred
            .iter()
            .filter(|d| d.id == id)
            .map(|d| d.reason)
            .collect()
    }
}
