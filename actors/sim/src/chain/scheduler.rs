//! A scheduler's process, as its shell runs it.

use super::attest;
use super::node::Node;
use super::world::{Checked, Message, Own, Place, World};
use super::{Class, Mutant};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Igas, LeaseId, Micros, RequestKey, ShardId};
use penstock_rules::invariants::{LEASED, SETTLED_ONCE};
use penstock_rules::message::AssignmentDone;
use penstock_rules::producer::{BUILD_LEAD_MAX, Timetable};
use penstock_rules::request::Settled;
use penstock_rules::scheduler::{Config, Effect, Event, Included, Scheduler, Slot};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// How often the machine is told the time. The shell does it every 5 ms; twice that decides the same, in half the time.
const TICK: Micros = Micros::from_millis(10);
/// How often the cut-offs are told anew, as in the shell.
const SLOT_REFRESH: Micros = Micros::from_millis(250);
/// How far plans look ahead where blocks have no timetable, as in the shell.
const AT_ONCE_WINDOW: Micros = Micros::from_millis(1_000);

/// What a scheduler's process has in memory.
#[derive(Debug)]
pub(super) struct Planner {
    pub(super) node: Node,
    pub(super) machine: Scheduler,
    /// Keys that it settled in this life.
    settled: BTreeSet<RequestKey>,
    /// Leases that it gave and that a mutant says the shards hold.
    given: BTreeMap<ShardId, BTreeSet<LeaseId>>,
    burst: bool,
}

impl World {
    pub(super) fn start_scheduler(&mut self, n: u8) -> Checked {
        let node = self.fresh_node(Place::Scheduler(n));
        self.schedulers[usize::from(n)].start(Planner {
            node,
            machine: Scheduler::new(Config::default()),
            settled: BTreeSet::new(),
            given: BTreeMap::new(),
            burst: false,
        });
        self.read_on(Place::Scheduler(n));
        self.tell_slot(n)?;
        for (_, settled) in self.results.replay() {
            self.schedule(n, Event::Recovered(Settled::clone(&settled)))?;
        }
        let epoch = Epoch(self.now().0);
        self.schedule(n, Event::TookOver { epoch })?;
        self.later(Place::Scheduler(n), TICK, Own::PlanTick);
        self.later(Place::Scheduler(n), SLOT_REFRESH, Own::Slot);
        Ok(())
    }

    fn planner(&mut self, n: u8) -> Option<&mut Planner> {
        self.schedulers[usize::from(n)].content.as_mut()
    }

    pub(super) fn scheduler_hears(&mut self, n: u8, message: Message) -> Checked {
        let event = match message {
            Message::Gang(gang) => Event::Submit(gang),
            Message::Withdraw(withdraw) => Event::Withdraw(withdraw),
            Message::Hello(hello) => Event::Hello(hello),
            Message::Refused(refused) => Event::Refused(refused),
            Message::Done(done) if is_genuine(&done) => Event::Done(done),
            Message::Done(done) => Event::Forged { shard: done.shard },
            _ => return Ok(()),
        };
        self.schedule(n, event)?;
        if let Some(planner) = self.planner(n)
            && !planner.burst
        {
            planner.burst = true;
            self.later(Place::Scheduler(n), Micros(0), Own::Burst);
        }
        Ok(())
    }

    pub(super) fn scheduler_own(&mut self, n: u8, own: Own) -> Checked {
        match own {
            Own::PlanTick => {
                self.later(Place::Scheduler(n), TICK, Own::PlanTick);
                self.schedule(n, Event::Tick)
            }
            Own::Burst => {
                if let Some(planner) = self.planner(n) {
                    planner.burst = false;
                }
                self.schedule(n, Event::Tick)
            }
            Own::Slot => {
                self.later(Place::Scheduler(n), SLOT_REFRESH, Own::Slot);
                self.tell_slot(n)
            }
            Own::Keep(settled) => {
                for settled in settled {
                    self.results.append(settled);
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Says when the next two blocks stop taking results.
    fn tell_slot(&mut self, n: u8) -> Checked {
        let at = self.now();
        let (cutoff, next_cutoff) = match self.timetable {
            Timetable::AtOnce | Timetable::Manual => {
                let cutoff = at.saturating_add(AT_ONCE_WINDOW);
                (cutoff, cutoff.saturating_add(AT_ONCE_WINDOW))
            }
            Timetable::Slots(slot) => {
                let lead = Micros((slot.0 / 5).min(BUILD_LEAD_MAX.0));
                let next = (at.saturating_add(lead).0 / slot.0 + 1) * slot.0;
                let cutoff = Micros(next).saturating_sub(lead);
                (cutoff, cutoff.saturating_add(slot))
            }
        };
        let Some(planner) = self.planner(n) else {
            return Ok(());
        };
        let height = planner.node.head.height;
        let slot = Slot {
            height,
            cutoff,
            next_cutoff,
        };
        self.schedule(n, Event::Head(slot))
    }

    pub(super) fn scheduler_block(&mut self, n: u8) -> Checked {
        // A reader that lags loses some: then the books are put right by decay alone.
        if !self.chaos.happens(Class::Schedulers, 20_000)
            && let Some(planner) = self.planner(n)
            && let Some(block) = planner.node.head.block.clone()
        {
            let mut keys: Vec<_> = block.witness.iter().map(|e| e.key).collect();
            for tx in &block.txs {
                let included = Included {
                    id: tx.hash,
                    sender: tx.sender,
                    igas: Igas(1_000),
                    keys: std::mem::take(&mut keys),
                };
                self.schedule(n, Event::Included(included))?;
            }
        }
        self.tell_slot(n)
    }

    /// Has the machine take an event, and does what it wants done.
    fn schedule(&mut self, n: u8, mut event: Event) -> Checked {
        let (now, mutant) = (self.now(), self.config.mutant);
        let Some(planner) = self.planner(n) else {
            return Ok(());
        };
        if let Event::Hello(hello) = &mut event
            && mutant == Some(Mutant::LeasesNeverEnd)
            && let Some(given) = planner.given.get(&hello.shard)
        {
            hello.held = given.iter().copied().collect();
        }
        let again = match &event {
            Event::Done(done) if mutant == Some(Mutant::SettlesAgain) => done.answers.clone(),
            _ => Vec::new(),
        };
        let mut effects = Vec::new();
        planner.machine.apply(now, event, &mut effects);
        planner
            .machine
            .check()
            .map_err(|broken| super::judge::named(LEASED, broken))?;
        for answer in again {
            if planner.settled.contains(&answer.key) {
                effects.push(Effect::Settle(Settled {
                    key: answer.key,
                    outcome: answer.outcome,
                    attestations: vec![answer.attestation],
                }));
            }
        }
        let mut settled = Vec::new();
        for effect in effects {
            self.perform_scheduler(n, effect, &mut settled)?;
        }
        if !settled.is_empty() {
            let span = self.span(200, 4_000);
            self.later(Place::Scheduler(n), span, Own::Keep(settled));
        }
        Ok(())
    }

    fn perform_scheduler(
        &mut self,
        n: u8,
        effect: Effect,
        settled: &mut Vec<Arc<Settled>>,
    ) -> Checked {
        match effect {
            Effect::Assign(work) => {
                if let Some(planner) = self.planner(n) {
                    let given = planner.given.entry(work.shard).or_default();
                    given.insert(work.lease);
                }
                self.publish(Message::Assign(work));
            }
            Effect::Cancel(cancel) => self.publish(Message::Cancel(cancel)),
            Effect::Prefetch(prefetch) => self.publish(Message::Prefetch(prefetch)),
            Effect::Settle(answer) => {
                let life = self.life(Place::Scheduler(n));
                let Some(planner) = self.planner(n) else {
                    return Ok(());
                };
                SETTLED_ONCE.require(planner.settled.insert(answer.key), || {
                    format!(
                        "scheduler {n} in its life {life} settles {} again",
                        answer.key
                    )
                })?;
                self.judge.settled(&answer)?;
                let answer = Arc::new(answer);
                self.publish(Message::Settled(Arc::clone(&answer)));
                settled.push(answer);
            }
            Effect::Resend(answer) => self.publish(Message::Settled(Arc::new(answer))),
            Effect::Defer(deferral) => self.publish(Message::Deferral(deferral)),
            // For clients alone.
            Effect::Congestion(_) => {}
            Effect::Quarantine(evidence) => {
                self.note(|| format!("scheduler {n}: {} is quarantined", evidence.shard));
                self.judge.quarantined(evidence.shard)?;
            }
            Effect::Fenced => {
                self.note(|| format!("scheduler {n} is fenced and stops"));
                self.schedulers[usize::from(n)].content = None;
            }
            Effect::Log(record) => self.note(|| format!("scheduler {n}: {:?}", record.decision)),
        }
        Ok(())
    }
}

fn is_genuine(done: &AssignmentDone) -> bool {
    done.answers.iter().all(|answer| {
        answer.attestation.shard == done.shard
            && attest::is_genuine(&answer.attestation, answer.key, answer.outcome.hash())
    })
}
