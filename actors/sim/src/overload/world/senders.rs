//! Transactions: they arrive, ask wave by wave, find another state, get into a block, or leave.

use super::super::SLOT;
use super::super::demand::Intent;
use super::{Happens, Key, Live, PAID, SETTLE, STALE_IN_MILLION, World, request, request_key};
use alloy_primitives::{Address, B256};
use penstock_rules::ids::{Igas, Micros};
use penstock_rules::message::{Class, Gang, Withdraw};
use penstock_rules::scheduler::{Event, Included};
use std::collections::BTreeSet;

impl World {
    pub(super) fn arrive(&mut self, n: u32) -> Result<(), String> {
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
            if job.intent == Intent::Honest {
                self.outcomes.insert(n, (job.value, None));
                let places = self.served.len().max(sender as usize + 1);
                self.served.resize(places, (0, 0));
                self.served[sender as usize].0 += job.cost;
            }
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
        let request = |&key: &u32| request(key, self.keys[key as usize].model, &self.models);
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

    pub(super) fn leave(&mut self, n: u32) -> Result<(), String> {
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

    pub(super) fn seen(&mut self, n: u32) -> Result<(), String> {
        let done = self.live.get(&n).is_some_and(|live| live.open.is_empty());
        if done && !self.ready.contains(&n) {
            self.next_wave(n)?;
        }
        Ok(())
    }

    /// The block takes who is ready.
    pub(super) fn cutoff(&mut self) {
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
                    let delivery = self.config.delivery;
                    let waited = self.head.0.saturating_sub(live.arrival.0);
                    let waited = waited + delivery.before() + delivery.after();
                    self.report.included(&live.job, waited);
                    if let Some(outcome) = self.outcomes.get_mut(&n) {
                        outcome.1 = Some(waited);
                    }
                    if let Some(served) = self.served.get_mut(live.sender as usize) {
                        served.1 += live.job.cost;
                    }
                }
                self.built.push(live);
            }
        }
    }

    pub(super) fn block(&mut self) -> Result<(), String> {
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
        if self.now() > self.from {
            let certified = self.scheduler.certificate().map(|window| window.share());
            self.report.certified.extend(certified);
        }
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

    pub(super) fn settled(&mut self, key: u32) {
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
}
