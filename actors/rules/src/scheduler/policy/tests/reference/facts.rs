//! What the problem says.

use super::Slow;
use crate::scheduler::limits::{BATCH_SLOT_PERCENT, MARGIN_SIGMAS, PRICE_ONE};
use crate::scheduler::model::{Pass, Verdict};
use crate::scheduler::policy::density;
use std::cmp::Reverse;

impl<'p> Slow<'p> {
    pub(super) fn hosts(&self, model: u32) -> Vec<u32> {
        let set = self.p.hosts(model);
        let mut hosts: Vec<u32> = (0..self.p.shards.len() as u32)
            .filter(|s| set & 1 << s != 0)
            .collect();
        hosts.sort_by_key(|&s| self.p.shards[s as usize].id);
        hosts
    }

    pub(super) fn live(&self) -> u64 {
        self.p.shards.iter().filter(|s| s.live).count() as u64
    }

    fn short(&self, model: u32, shard: u32) -> bool {
        let cost = self.p.cost(model, shard);
        cost.batch(1) + (cost.variance.isqrt() + 1) * MARGIN_SIGMAS <= self.p.slot()
    }

    fn long_model(&self, model: u32) -> bool {
        let hosts = self.hosts(model);
        !hosts.is_empty() && !hosts.iter().any(|&s| self.short(model, s))
    }

    fn long_key(&self, key: u32) -> bool {
        let state = &self.p.keys[key as usize];
        let open = |s: &&u32| state.barred & 1 << **s == 0;
        let hosts = self.hosts(state.model);
        let all = hosts.iter().filter(open).count() as u32;
        let short = hosts.iter().filter(open);
        let short = short.filter(|&&s| self.short(state.model, s)).count() as u32;
        state.copies > 0
            && (self.long_model(state.model) || short < state.copies && all >= state.copies)
    }

    pub(super) fn is_long(&self, gang: u32) -> bool {
        self.needs(gang).iter().any(|&key| self.long_key(key))
    }

    pub(super) fn cap(&self, model: u32, shard: u32) -> u64 {
        let most = u64::from(self.p.shards[shard as usize].batch_max.max(1));
        if self.long_model(model) {
            return most;
        }
        let cost = self.p.cost(model, shard);
        let time = (self.p.slot() * BATCH_SLOT_PERCENT / 100).saturating_sub(cost.base);
        (time / cost.each.max(1)).clamp(1, most)
    }

    fn mean(&self, model: u32) -> u64 {
        let hosts = self.hosts(model);
        let means = hosts.iter().map(|&s| self.p.cost(model, s).mean);
        means.min().unwrap_or(1)
    }

    pub(super) fn needs(&self, gang: u32) -> &'p [u32] {
        &self.p.gangs[gang as usize].needs
    }

    fn time(&self, key: u32) -> u64 {
        let state = &self.p.keys[key as usize];
        self.mean(state.model) * u64::from(state.copies)
    }

    pub(super) fn plain(&self, gang: u32) -> u64 {
        self.needs(gang).iter().map(|&key| self.time(key)).sum()
    }

    fn priced(&self, gang: u32) -> u64 {
        let priced = self.needs(gang).iter().map(|&key| {
            let model = self.p.keys[key as usize].model;
            let hosts = self.hosts(model);
            let price = hosts.iter().map(|&s| self.p.shards[s as usize].price);
            self.time(key) * price.min().unwrap_or(PRICE_ONE)
        });
        priced.sum::<u64>() / PRICE_ONE
    }

    /// Gangs before this one in its sender's lane, itself included.
    pub(super) fn chain(&self, gang: u32) -> &'p [u32] {
        let lane = &self.p.lanes[self.p.gangs[gang as usize].sender as usize];
        match lane.iter().position(|&g| g == gang) {
            Some(at) => &lane[..=at],
            None => &[],
        }
    }

    fn competes(&self, gang: u32) -> bool {
        self.under_way(gang).is_none()
    }

    /// The least, over the way to it, of value per time of all up to there.
    pub(super) fn rank(&self, gang: u32) -> u64 {
        let alone = || density(self.p.gangs[gang as usize].value, self.priced(gang));
        let chain = self.chain(gang);
        if self.p.gangs[gang as usize].call || chain.len() < 2 && self.lane_of(gang).len() < 2 {
            return alone();
        }
        (1..=chain.len())
            .map(|n| {
                let value = chain[..n].iter().map(|&g| self.p.gangs[g as usize].value);
                let cost = chain[..n].iter().filter(|&&g| self.competes(g));
                density(value.sum(), cost.map(|&g| self.priced(g)).sum())
            })
            .min()
            .unwrap_or_else(alone)
    }

    fn lane_of(&self, gang: u32) -> &'p [u32] {
        &self.p.lanes[self.p.gangs[gang as usize].sender as usize]
    }

    pub(super) fn order(&self, gang: u32) -> impl Ord + use<> {
        let candidate = &self.p.gangs[gang as usize];
        let head = self.chain(gang).first().copied().unwrap_or(gang);
        (
            Reverse(self.rank(gang)),
            self.p.gangs[head as usize].id,
            candidate.nonce,
            candidate.id,
        )
    }

    pub(super) fn under_way(&self, gang: u32) -> Option<Verdict> {
        let candidate = &self.p.gangs[gang as usize];
        let states = candidate.needs.iter().map(|&k| &self.p.keys[k as usize]);
        if states.clone().any(|state| state.copies > 0) {
            return None;
        }
        let margin = |s: &crate::scheduler::model::KeyState| {
            if candidate.committed {
                0
            } else {
                s.margin(MARGIN_SIGMAS)
            }
        };
        let ready = states.map(|s| s.ready_at.0 + margin(s)).max()?;
        Some(Verdict::Placed(match self.p.deadlines {
            [this, _] if ready <= this.0 => Pass::This,
            [_, next] if ready <= next.0 => Pass::Next,
            _ => Pass::Long,
        }))
    }
}
