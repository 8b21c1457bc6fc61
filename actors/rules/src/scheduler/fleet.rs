//! The shards: who lives, who is trusted, who has which model.

use super::leases::Lease;
use super::limits::{
    ASSIGNMENTS_PER_SHARD, ASSIGNMENTS_SHORT, BREAKER_OPEN, BREAKER_STRIKES, BREAKER_WINDOW,
    LEASE_MAX, LEASE_MIN, LEASE_UNSEEN_MAX, PREFETCH_AGAIN, PRICE_ONE, REPLICAS_MIN,
    REPLICAS_OF_SHARE, ROUND_TRIP, SHARD_SILENCE_MAX, SHARDS_MAX,
};
use super::model::{Cost, Lane};
use super::profile::Profile;
use super::{Decision, Effect, Released, Scheduler};
use crate::ids::{LeaseId, Micros, ModelHash, ShardId};
use crate::message::{Prefetch, ShardHello};
use crate::request::ENGINE_VERSION;
use alloy_primitives::keccak256;
use std::collections::{BTreeMap, VecDeque};

/// What is known of a shard.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) hello: ShardHello,
    pub(super) last_seen: Micros,
    /// Leases in the order in which they were given.
    pub(super) leases: VecDeque<LeaseId>,
    pub(super) strikes: VecDeque<Micros>,
    /// The breaker is open until then; after it, one assignment tries.
    pub(super) open_until: Option<Micros>,
    /// It said that it has no room until about then.
    pub(super) busy_until: Micros,
    pub(super) quarantined: bool,
    pub(super) lost: bool,
    /// When it was told to load which model.
    pub(super) told: BTreeMap<ModelHash, Micros>,
}

/// What a shard has, in its order, with when each will be done as it looks now: it works on one lease after the other,
/// and on the first from a time on.
fn timetable<'a>(
    leases: &'a BTreeMap<LeaseId, Lease>,
    member: &'a Member,
    now: Micros,
    mut free: Micros,
) -> impl Iterator<Item = (&'a Lease, Micros)> {
    let held = member.leases.iter().enumerate();
    held.filter_map(move |(at, lease)| {
        let lease = leases.get(lease)?;
        free = lease.ends(now, (at > 0).then_some(free));
        Some((lease, free))
    })
}

impl Scheduler {
    /// Whether a shard is given one more assignment: it has less than two, or less than four that are all done shortly.
    pub(super) fn takes_more(&self, now: Micros, member: &Member) -> bool {
        let held = member.leases.len();
        if held > member.hello.queue_max as usize || held > 0 && member.open_until.is_some() {
            return false;
        }
        let soon = now.saturating_add(ROUND_TRIP);
        held < ASSIGNMENTS_PER_SHARD
            || held < ASSIGNMENTS_SHORT
                && timetable(&self.leases, member, now, now).all(|(_, end)| end < soon)
    }

    pub(super) fn hello(&mut self, now: Micros, hello: ShardHello, effects: &mut Vec<Effect>) {
        let Some(slot) = self.shard_slot(now, &hello) else {
            return;
        };
        let member = &mut self.members[slot as usize];
        let restarted = member.hello.incarnation != hello.incarnation;
        let changed = restarted
            || member.lost
            || member.hello.models != hello.models
            || member.hello.draining != hello.draining
            || member.hello.batch_max != hello.batch_max;
        let held = hello.held.clone();
        member.hello = hello;
        member.last_seen = now;
        member.lost = false;
        if restarted {
            // It has forgotten what it had.
            member.told.clear();
            for lease in member.leases.clone() {
                self.release(now, lease, Released::Lost, effects);
            }
        }
        let member = &self.members[slot as usize];
        for lease in member.leases.clone() {
            let Some(entry) = self.leases.get_mut(&lease) else {
                continue;
            };
            if held.contains(&lease) {
                let expected = Micros(entry.expected.saturating_mul(2)).max(LEASE_MIN);
                let last = entry.issued.saturating_add(LEASE_MAX);
                entry.expires = entry.expires.max(now.saturating_add(expected).min(last));
            } else if entry.cancelled || now >= entry.issued.saturating_add(LEASE_UNSEEN_MAX) {
                self.release(now, lease, Released::Lost, effects);
            }
        }
        if changed {
            self.costs_changed = true;
            self.urgent = true;
        }
        self.refresh(now);
    }

    /// The slot of a shard, new or known; none where there are too many.
    fn shard_slot(&mut self, now: Micros, hello: &ShardHello) -> Option<u32> {
        if let Some(&slot) = self.by_shard.get(&hello.shard) {
            return Some(slot);
        }
        let member = Member {
            hello: hello.clone(),
            last_seen: now,
            leases: VecDeque::new(),
            strikes: VecDeque::new(),
            open_until: None,
            busy_until: Micros(0),
            quarantined: self.convicted.contains(&hello.shard),
            lost: false,
            told: BTreeMap::new(),
        };
        self.costs_changed = true;
        self.urgent = true;
        if self.members.len() < SHARDS_MAX {
            let slot = self.members.len() as u32;
            self.members.push(member);
            self.problem.shards.push(Lane::idle(hello.shard, 1));
            self.by_shard.insert(hello.shard, slot);
            self.refresh_costs();
            return Some(slot);
        }
        // A slot of one that is gone: no request may bar the new one in its stead.
        let gone = |m: &Member| m.lost && !m.quarantined && m.leases.is_empty();
        let slot = self.members.iter().position(gone)?;
        self.by_shard.remove(&self.members[slot].hello.shard);
        self.by_shard.insert(hello.shard, slot as u32);
        self.members[slot] = member;
        self.problem.shards[slot] = Lane {
            price: PRICE_ONE,
            ..Lane::idle(hello.shard, 1)
        };
        for key in 0..self.entries.len() {
            if let Some(entry) = &mut self.entries[key] {
                entry.failed &= !(1 << slot);
                self.recount(key as u32);
            }
        }
        Some(slot as u32)
    }

    fn lives(&self, now: Micros, slot: usize) -> bool {
        let member = &self.members[slot];
        let trying = |until: Micros| now >= until && member.leases.is_empty();
        !member.lost
            && !member.quarantined
            && !member.hello.draining
            && member.hello.engine_version == ENGINE_VERSION
            && member.open_until.is_none_or(trying)
            && self
                .registered
                .as_ref()
                .is_none_or(|set| set.contains(&member.hello.shard))
    }

    /// Brings the problem's shards up to date: who lives, and when each will be free.
    pub(super) fn refresh(&mut self, now: Micros) {
        let slot_time = self.problem.slot();
        for slot in 0..self.members.len() {
            let live = self.lives(now, slot);
            let member = &self.members[slot];
            let (mut free, mut variance, mut long) = (now.max(member.busy_until), 0u64, false);
            for (lease, end) in timetable(&self.leases, member, now, free) {
                free = end;
                variance = variance.saturating_add(lease.variance);
                long |= lease.expected > slot_time;
            }
            let lane = &mut self.problem.shards[slot];
            let came_back = !lane.live && live;
            *lane = Lane {
                id: member.hello.shard,
                live,
                free_at: free,
                variance,
                long,
                batch_max: member.hello.batch_max.max(1),
                price: lane.price,
            };
            if came_back {
                self.urgent = true;
            }
        }
        self.certificate.shards(self.busy_count());
    }

    /// Shards that may be given work, or have some: one that drains ends what it has.
    pub(super) fn busy_count(&self) -> u64 {
        let shards = self.problem.shards.iter().zip(&self.members);
        shards
            .filter(|(lane, member)| lane.live || !member.leases.is_empty())
            .count() as u64
    }

    /// When what is under way will be done, as it looks now: each shard works on one lease after the other, and the
    /// noise of all of them adds up.
    pub(super) fn refresh_ready(&mut self, now: Micros) {
        let keys = &mut self.problem.keys;
        let slots: Vec<(u32, bool)> = self
            .leases
            .values()
            .flat_map(|lease| &lease.assignment.requests)
            .filter_map(|request| self.by_key.get(&request.key).copied())
            .map(|slot| (slot, keys[slot as usize].is_plain()))
            .collect();
        for &(slot, _) in &slots {
            let state = &mut keys[slot as usize];
            (state.ready_at, state.variance) = (Micros(0), 0);
        }
        for member in &self.members {
            let mut variance = 0u64;
            for (lease, end) in timetable(&self.leases, member, now, now) {
                variance = variance.saturating_add(lease.variance);
                for request in &lease.assignment.requests {
                    if let Some(&slot) = self.by_key.get(&request.key) {
                        let state = &mut self.problem.keys[slot as usize];
                        state.ready_at = state.ready_at.max(end);
                        state.variance = state.variance.max(variance);
                    }
                }
            }
        }
        // The index has what is plain beside its gangs. A lease that was given up may still run.
        for (slot, was_plain) in slots {
            if self.problem.keys[slot as usize].is_plain() != was_plain
                && let Some(entry) = &self.entries[slot as usize]
            {
                let waiters = entry.waiters.iter();
                waiters.for_each(|&gang| self.index.touch(gang));
            }
        }
    }

    /// The table of costs, after shards, models or profiles changed.
    pub(super) fn refresh_costs(&mut self) {
        if !std::mem::take(&mut self.costs_changed) {
            return;
        }
        self.dirty = true;
        let shards = self.members.len();
        self.problem.costs.clear();
        self.least.clear();
        for (m, model) in self.problem.models.iter().enumerate() {
            let mut least = None;
            for (s, member) in self.members.iter().enumerate().take(shards) {
                let hosted = member.hello.models.contains(model);
                let profile = self.profiles.get(&(m as u32, s as u32));
                let cost = profile
                    .map_or_else(|| self.family_cost(m as u32, self.priors[m]), Profile::cost);
                self.problem.costs.push(Cost { hosted, ..cost });
                if let Some(share) = profile.and_then(|p| p.least(member.hello.batch_max)) {
                    least = Some(least.map_or(share, |other: u64| other.min(share)));
                }
            }
            self.least.push(least.unwrap_or(0));
        }
    }

    /// What to expect of a model on a shard that never ran it: what others measured, or the registry's figure.
    fn family_cost(&self, model: u32, prior: u64) -> Cost {
        self.profiles
            .range((model, 0)..=(model, u32::MAX))
            .map(|(_, profile)| profile.cost())
            .max_by_key(|cost| (cost.batch(1), cost.each))
            .unwrap_or_else(|| Profile::new(prior).cost())
    }

    /// Shards that were silent too long are lost, with all that they had.
    pub(super) fn expire_shards(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        for slot in 0..self.members.len() {
            let member = &mut self.members[slot];
            if member.lost || now < member.last_seen.saturating_add(SHARD_SILENCE_MAX) {
                continue;
            }
            member.lost = true;
            self.urgent = true;
            self.costs_changed = true;
            for lease in self.members[slot].leases.clone() {
                self.release(now, lease, Released::Lost, effects);
            }
        }
    }

    /// Notes a failure. Enough of them in a short time, and the shard is left alone for a while.
    pub(super) fn strike(&mut self, now: Micros, slot: u32, effects: &mut Vec<Effect>) {
        let member = &mut self.members[slot as usize];
        member.strikes.push_back(now);
        while member
            .strikes
            .front()
            .is_some_and(|&s| now > s.saturating_add(BREAKER_WINDOW))
        {
            member.strikes.pop_front();
        }
        // While it is on probation, one failure is enough.
        if member.strikes.len() < BREAKER_STRIKES && member.open_until.is_none() {
            return;
        }
        member.open_until = Some(now.saturating_add(BREAKER_OPEN));
        member.strikes.clear();
        let shard = member.hello.shard;
        self.urgent = true;
        self.log(now, Decision::BreakerOpened(shard), effects);
        for lease in self.members[slot as usize].leases.clone() {
            self.release(now, lease, Released::Lost, effects);
        }
    }

    /// It did what it was asked: its breaker closes.
    pub(super) fn absolve(&mut self, slot: u32) {
        self.members[slot as usize].open_until = None;
    }

    /// The shard has no room now, whatever we think.
    pub(super) fn back_off(&mut self, now: Micros, slot: u32) {
        self.members[slot as usize].busy_until = now.saturating_add(ROUND_TRIP);
    }

    pub(super) fn quarantine(&mut self, now: Micros, shard: ShardId, effects: &mut Vec<Effect>) {
        self.convicted.insert(shard);
        let Some(&slot) = self.by_shard.get(&shard) else {
            return;
        };
        self.members[slot as usize].quarantined = true;
        self.urgent = true;
        self.dirty = true;
        for lease in self.members[slot as usize].leases.clone() {
            self.release(now, lease, Released::Lost, effects);
        }
        // What it said of other requests counts no more.
        for key in 0..self.entries.len() as u32 {
            let entry = self.entries[key as usize].as_mut();
            if entry.is_some_and(|e| e.answers.remove(&shard).is_some()) {
                self.recount(key);
            }
        }
        self.refresh(now);
    }

    /// Has models loaded that are asked for and that too few shards have.
    pub(super) fn prefetch(&mut self, now: Micros, effects: &mut Vec<Effect>) {
        let Some(epoch) = self.epoch else {
            return;
        };
        let slot_time = self.problem.slot();
        let live: Vec<u32> = (0..self.members.len() as u32)
            .filter(|&s| self.problem.shards[s as usize].live)
            .collect();
        let all_wanted = self
            .plan
            .wanted
            .iter()
            .fold(0, |sum: u64, &w| sum.saturating_add(w));
        let quorum = usize::from(self.config.quorum.zk.max(self.config.quorum.tee));
        for m in 0..self.problem.models.len() as u32 {
            if self.asked[m as usize] == 0 {
                continue;
            }
            let model = self.problem.models[m as usize];
            let has = |s: u32| self.members[s as usize].hello.models.contains(&model);
            let hosts = live.iter().filter(|&&s| has(s)).count();
            let wanted = self.plan.wanted.get(m as usize).copied().unwrap_or(0);
            // One more while the shards that have it are asked for more than two slots of work.
            // Twice its share of the work is enough: more would push out what others need.
            let share = u128::from(wanted) * live.len() as u128 * u128::from(REPLICAS_OF_SHARE);
            let fair = share.div_ceil(u128::from(all_wanted.max(1)));
            let crowded = wanted > 2 * slot_time * hosts as u64 && (hosts as u128) < fair;
            let more = usize::from(crowded || self.short.contains(&m));
            let most = REPLICAS_MIN.max(quorum).max(hosts + more);
            let told = |s: u32| {
                let told = self.members[s as usize].told.get(&model);
                told.is_some_and(|&at| now < at.saturating_add(PREFETCH_AGAIN))
            };
            let loading = live.iter().filter(|&&s| !has(s) && told(s)).count();
            let mut others: Vec<u32> = live
                .iter()
                .copied()
                .filter(|&s| !has(s) && !told(s))
                .collect();
            // Those that were never told first, then by rendezvous hash: models spread, and restarts change nothing.
            others.sort_by_cached_key(|&s| {
                let member = &self.members[s as usize];
                let pair = [&model.0[..], &member.hello.shard.0[..]].concat();
                (member.told.get(&model).copied(), keccak256(pair))
            });
            for s in others
                .into_iter()
                .take(most.saturating_sub(hosts + loading))
            {
                let member = &mut self.members[s as usize];
                member.told.insert(model, now);
                effects.push(Effect::Prefetch(Prefetch {
                    shard: member.hello.shard,
                    epoch,
                    model,
                }));
            }
        }
    }
}
