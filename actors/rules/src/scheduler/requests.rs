//! Requests: who waits for an answer, which copies are to be started, and what becomes of them once it is there.

use super::leases::Lease;
use super::model::KeyState;
use super::{Effect, Scheduler};
use crate::ids::{Igas, LeaseId, Micros, ModelHash, RequestKey, ShardId};
use crate::message::{Answer, GangRequest};
use crate::request::Mode;
use alloy_primitives::{B256, Bytes};
use std::collections::{BTreeMap, BTreeSet};

/// A request that someone waits for, or that is under way.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    pub(super) key: RequestKey,
    pub(super) mode: Mode,
    pub(super) input: Bytes,
    pub(super) igas: Igas,
    /// Equal answers that settle it.
    pub(super) quorum: u8,
    /// Gangs that wait.
    pub(super) waiters: BTreeSet<u32>,
    /// Answers, one per shard.
    pub(super) answers: BTreeMap<ShardId, Answer>,
    /// Leases under way.
    pub(super) leases: BTreeSet<LeaseId>,
    /// Shards that failed at it, as a set of slots.
    pub(super) failed: u128,
    /// One more copy than needed may be under way.
    pub(super) hedged: bool,
    /// What the certificate has of it.
    pub(super) charged: Option<Charge>,
    /// Some answer came from a shard that this scheduler had not given it to, or not any more.
    pub(super) elsewhere: bool,
    /// It was settled, and a later answer differs: it runs again to tell who lied.
    pub(super) judged: bool,
}

/// A request's least time in the certificate: that of who asked for it first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Charge {
    /// The gang.
    pub(super) whose: B256,
    /// Microseconds, of all copies that are needed.
    pub(super) time: u64,
    /// It was handed out.
    pub(super) begun: bool,
}

impl Entry {
    /// Leases that can bring a word from a shard that gave none yet: late answers make others useless.
    pub(super) fn useful(&self, leases: &BTreeMap<LeaseId, Lease>) -> usize {
        let shard = |id: &LeaseId| leases.get(id).map(|lease| lease.assignment.shard);
        let shards = self.leases.iter().filter_map(shard);
        shards
            .filter(|shard| !self.answers.contains_key(shard))
            .count()
    }

    /// The most shards that agree.
    pub(super) fn agreed(&self) -> usize {
        let mut counts: BTreeMap<B256, usize> = BTreeMap::new();
        for answer in self.answers.values() {
            *counts.entry(answer.outcome.hash()).or_default() += 1;
        }
        counts.into_values().max().unwrap_or(0)
    }
}

impl Scheduler {
    /// The slot of a request, new or known.
    pub(super) fn entry(&mut self, request: &GangRequest) -> u32 {
        if let Some(&slot) = self.by_key.get(&request.key) {
            return slot;
        }
        let model = self.model(request.model, request.igas);
        let quorum = self.config.quorum.of(request.mode).max(1);
        let entry = Entry {
            key: request.key,
            mode: request.mode,
            input: request.input.clone(),
            igas: request.igas,
            quorum,
            waiters: BTreeSet::new(),
            answers: BTreeMap::new(),
            leases: BTreeSet::new(),
            failed: 0,
            hedged: false,
            charged: None,
            elsewhere: false,
            judged: false,
        };
        let state = KeyState {
            model,
            copies: u32::from(quorum),
            ready_at: Micros(0),
            variance: 0,
            barred: 0,
        };
        let slot = self.free_keys.pop().unwrap_or_else(|| {
            self.entries.push(None);
            self.problem.keys.push(KeyState::default());
            self.entries.len() as u32 - 1
        });
        self.entries[slot as usize] = Some(entry);
        self.problem.keys[slot as usize] = state;
        self.by_key.insert(request.key, slot);
        self.asked[model as usize] += 1;
        slot
    }

    /// Microseconds that a request takes at least, where this gang is who it is charged to: who asked for it first.
    pub(super) fn charge(&mut self, slot: u32, id: B256) -> u64 {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return 0;
        };
        if entry.waiters.is_empty() && entry.leases.is_empty() && entry.answers.is_empty() {
            let model = self.problem.keys[slot as usize].model as usize;
            let least = self.least.get(model).copied().unwrap_or(0);
            entry.charged = Some(Charge {
                whose: id,
                time: least.saturating_mul(u64::from(entry.quorum)),
                begun: false,
            });
        }
        match entry.charged {
            Some(charge) if charge.whose == id && !charge.begun => charge.time,
            _ => 0,
        }
    }

    /// The slot of a model. Its first request says what to expect of it.
    pub(super) fn model(&mut self, hash: ModelHash, igas: Igas) -> u32 {
        if let Some(&slot) = self.by_model.get(&hash) {
            return slot;
        }
        let slot = self.problem.models.len() as u32;
        self.problem.models.push(hash);
        self.by_model.insert(hash, slot);
        self.asked.push(0);
        self.priors.push(igas.0);
        self.costs_changed = true;
        self.refresh_costs();
        slot
    }

    /// Drops a request that nobody waits for and nobody computes; takes back what only such requests are in.
    pub(super) fn unwanted(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        let Some(entry) = &self.entries[slot as usize] else {
            return;
        };
        if !entry.waiters.is_empty() {
            return;
        }
        // No more copies are started for nobody.
        self.problem.keys[slot as usize].copies = 0;
        if entry.leases.is_empty() {
            self.free_key(slot);
        } else {
            for lease in entry.leases.clone() {
                self.cancel_if_unwanted(lease, effects);
            }
        }
    }

    /// Forgets a request. Its slot is used again after the next full plan, which has it nowhere.
    pub(super) fn free_key(&mut self, slot: u32) {
        if let Some(entry) = self.entries[slot as usize].take() {
            self.by_key.remove(&entry.key);
            let state = std::mem::take(&mut self.problem.keys[slot as usize]);
            self.asked[state.model as usize] -= 1;
            self.freed_keys.push(slot);
        }
    }

    /// Copies to be started, and shards that may not have them, after anything about a request changed.
    pub(super) fn recount(&mut self, slot: u32) {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        let state = &mut self.problem.keys[slot as usize];
        let wanted = !entry.waiters.is_empty();
        let needed = usize::from(entry.quorum).saturating_sub(entry.agreed());
        let useful = entry.useful(&self.leases);
        // What is doubled has to be under way: a copy more than needed of nothing would ask for a shard too many.
        entry.hedged &= useful > 0;
        let needed = needed + usize::from(entry.hedged);
        let copies = if wanted {
            needed.saturating_sub(useful)
        } else {
            0
        };
        let mut barred = 0u128;
        for shard in entry.answers.keys() {
            if let Some(&shard) = self.by_shard.get(shard) {
                barred |= 1 << shard;
            }
        }
        let (mut ready, mut variance) = (Micros(0), 0);
        for lease in &entry.leases {
            if let Some(lease) = self.leases.get(lease) {
                barred |= 1 << lease.shard;
                ready = ready.max(lease.done_at());
                variance = variance.max(lease.variance);
            }
        }
        let hosts = self.problem.shards.len();
        let all: u128 = (0..hosts as u32)
            .filter(|&s| self.problem.shards[s as usize].live)
            .fold(0, |set, s| set | 1 << s);
        if copies > 0 && (all & !(barred | entry.failed)).count_ones() < copies as u32 {
            // Whoever failed may try again: there is nobody else.
            entry.failed = 0;
        }
        let before = (state.copies, state.is_plain());
        state.copies = copies as u32;
        state.barred = barred | entry.failed;
        state.ready_at = ready;
        state.variance = variance;
        if before != (state.copies, state.is_plain()) {
            let waiters = entry.waiters.iter();
            waiters.for_each(|&gang| self.index.touch(gang));
        }
    }

    /// A key is settled: its waiters need it no more, and gangs that need nothing more are done.
    pub(super) fn satisfy(&mut self, slot: u32, effects: &mut Vec<Effect>) {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        let waiters = std::mem::take(&mut entry.waiters);
        let leases = std::mem::take(&mut entry.leases);
        if entry.elsewhere
            && let Some(Charge { whose, time, .. }) = entry.charged
        {
            self.certificate.elsewhere(whose, time);
        }
        self.free_key(slot);
        for gang in waiters {
            let needs = &mut self.problem.gangs[gang as usize].needs;
            needs.retain(|&key| key != slot);
            self.index.touch(gang);
            if needs.is_empty() {
                self.park(gang);
                self.drop_gang(gang, effects);
            }
        }
        for lease in leases {
            self.cancel_if_unwanted(lease, effects);
        }
        self.dirty = true;
    }
}
