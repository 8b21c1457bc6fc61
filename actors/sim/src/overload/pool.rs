//! A scheduler whose pool is full: what a full plan takes can be measured on it.

use super::demand::{self, BATCH_MAX, Demand, Model};
use super::fleet::{model_hash, residency, shard_id};
use super::world::{PAID, request};
use super::{SLOT, Workload};
use crate::Random;
use alloy_primitives::{Address, B256};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Height, Micros};
use penstock_rules::message::{Class, Gang, ShardHello, Withdraw};
use penstock_rules::request::ENGINE_VERSION;
use penstock_rules::scheduler::limits::REPLAN_MAX;
use penstock_rules::scheduler::{Config, Event, Included, Scheduler, Slot};
use std::collections::VecDeque;

/// A scheduler with shards that never answer and transactions that wait, of [`Workload::W1`].
pub struct Pool {
    scheduler: Scheduler,
    now: Micros,
    models: Vec<Model>,
    demand: Demand,
    random: Random,
    senders: u64,
    waiting: VecDeque<B256>,
}

impl Pool {
    /// So many wait, for so many shards.
    #[must_use]
    pub fn new(pending: usize, shards: u8, seed: u64) -> Self {
        let seed = Random::new(seed);
        let mut pool = Self {
            scheduler: Scheduler::new(Config::default()),
            now: Micros::from_secs(100),
            models: demand::models(Workload::W1, &mut seed.fork(10)),
            demand: Demand {
                jobs: Vec::new(),
                keys: Vec::new(),
            },
            random: seed.fork(11),
            senders: 0,
            waiting: VecDeque::new(),
        };
        pool.tell(Event::TookOver { epoch: Epoch(1) });
        pool.slot();
        for (n, models) in (0..).zip(residency(&pool.models, shards)) {
            pool.tell(Event::Hello(ShardHello {
                shard: shard_id(n),
                incarnation: 1,
                backend: "none".into(),
                engine_version: ENGINE_VERSION,
                models: models.into_iter().map(model_hash).collect(),
                batch_max: BATCH_MAX as u32,
                queue_max: 2,
                draining: false,
                held: Vec::new(),
            }));
        }
        for _ in 0..pending {
            pool.comes();
        }
        pool
    }

    /// So many leave, those that came first, and as many others come.
    pub fn change(&mut self, count: usize) {
        for _ in 0..count {
            if let Some(id) = self.waiting.pop_front() {
                self.tell(Event::Withdraw(Withdraw { id }));
            }
            self.comes();
        }
    }

    /// Time passes until a full plan is due.
    pub fn wait(&mut self) {
        self.now = self.now.saturating_add(REPLAN_MAX);
        self.slot();
    }

    /// What the scheduler does when it is told the time: a full plan, and all that follows from it. How many effects that
    /// has is given.
    pub fn tick(&mut self) -> usize {
        let mut effects = Vec::new();
        self.scheduler.apply(self.now, Event::Tick, &mut effects);
        effects.len()
    }

    /// Both cut-offs are as far away as ever.
    fn slot(&mut self) {
        let cutoff = self.now.saturating_add(SLOT);
        self.tell(Event::Head(Slot {
            height: Height(1),
            cutoff,
            next_cutoff: cutoff.saturating_add(SLOT),
        }));
    }

    fn comes(&mut self) {
        let job = self
            .demand
            .job((Workload::W1, 0), &self.models, &mut self.random);
        let mut id = B256::ZERO;
        for word in id.0.chunks_mut(8) {
            word.copy_from_slice(&self.random.next().to_be_bytes());
        }
        let mut sender = Address::repeat_byte(0x11);
        sender[..8].copy_from_slice(&self.senders.to_be_bytes());
        self.senders += 1;
        self.tell(Event::Included(Included {
            id: B256::ZERO,
            sender,
            igas: PAID,
            keys: Vec::new(),
        }));
        let request = |&key: &u32| request(key, self.demand.keys[key as usize], &self.models);
        let gang = Gang {
            id,
            sender,
            nonce: 0,
            value: job.value,
            class: Class::Block,
            round: 1,
            arrival: Height(1),
            deadline: None,
            requests: job.waves.iter().flatten().map(request).collect(),
        };
        self.waiting.push_back(id);
        self.tell(Event::Submit(gang));
    }

    /// What it has others do is not done.
    fn tell(&mut self, event: Event) {
        self.scheduler.apply(self.now, event, &mut Vec::new());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tick_that_is_due_plans_and_one_that_is_not_does_nothing() {
        let mut pool = Pool::new(3_000, 4, 1);
        assert!(pool.tick() > 4, "work for each shard, and reasons");
        pool.change(100);
        assert_eq!(pool.tick(), 0, "too early");
        pool.wait();
        assert!(pool.tick() > 0, "reasons of those who came");
    }
}
