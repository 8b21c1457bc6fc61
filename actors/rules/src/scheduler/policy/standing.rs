//! What a plan says of a gang at which it did not look.

use super::index::Index;
use super::order::{Way, density, place_in_lane};
use crate::scheduler::model::{BLANK, NONE, Plan, Problem, Time, Verdict};
use crate::tx::Reason;

/// A gang's rank under [`crate::scheduler::Policy::Value`], and those before it in its lane.
pub(super) fn rank(p: &Problem, gang: u32, time: impl Fn(u32) -> Time) -> (u64, &[u32]) {
    let candidate = &p.gangs[gang as usize];
    match place_in_lane(p, gang) {
        Some((lane, at)) if !candidate.call => {
            let mut way = Way::START;
            for &g in &lane[..=at] {
                way.step(p.gangs[g as usize].value, time(g).priced);
            }
            (way.least, &lane[..at])
        }
        _ => (density(candidate.value, time(gang).priced), &[]),
    }
}

impl Plan {
    /// What is said of a gang. The index is the one that the plan was made with.
    pub(crate) fn verdict(&self, index: &Index, gang: u32) -> Verdict {
        let verdict = self.verdicts[gang as usize];
        let shape = index.shape(gang);
        if verdict != BLANK || shape == NONE || self.inserted.contains_key(&gang) {
            return verdict;
        }
        let pairs = &index.shapes[shape as usize].pairs;
        Verdict::Deferred(self.outbid.reason(pairs))
    }

    /// Microseconds that a gang asked for when it was planned.
    pub(crate) fn asks(&self, index: &Index, gang: u32) -> u64 {
        let known = self
            .inserted
            .get(&gang)
            .or_else(|| self.ranks.get(gang as usize));
        known.map_or_else(|| self.time(index, gang).plain, |(_, time)| *time)
    }

    /// A gang's rank, and microseconds that it asked for when it was planned.
    pub(crate) fn standing(&self, p: &Problem, index: &Index, gang: u32) -> (u64, u64) {
        if let Some(&standing) = self.inserted.get(&gang) {
            return standing;
        }
        if let Some(&standing) = self.ranks.get(gang as usize) {
            return standing;
        }
        let time = |g| self.time(index, g);
        (rank(p, gang, time).0, time(gang).plain)
    }

    fn time(&self, index: &Index, gang: u32) -> Time {
        match index.shape(gang) {
            NONE => Time::default(),
            shape => self.times[shape as usize],
        }
    }

    /// Gangs that wait for a model that too few shards serve, in the order of their slots.
    pub(crate) fn unserved(&self, index: &Index) -> Vec<u32> {
        let none = Verdict::Deferred(Reason::NoShard);
        let shapes = index.shapes.iter();
        let shapes = shapes.filter(|shape| self.outbid.reason(&shape.pairs) == Reason::NoShard);
        let blank = shapes.flat_map(super::index::Shape::gangs);
        let mut found: Vec<u32> = self.decided.iter().copied().chain(blank).collect();
        found.retain(|&gang| self.verdict(index, gang) == none);
        found.sort_unstable();
        found.dedup();
        found
    }
}
