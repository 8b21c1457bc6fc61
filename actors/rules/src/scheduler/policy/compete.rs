//! Open competition, and the caps that keep somebody back in it.

use super::order::{self, Order};
use super::{Caps, Planner};
use crate::scheduler::Policy;
use crate::scheduler::limits::{FAILURES_MAX, SENDER_PERCENT, UNCOVERED_PERCENT};
use crate::scheduler::model::{Pass, Verdict};
use crate::tx::Reason;
use std::ops::Range;

impl Planner<'_> {
    /// All that is left of a part of the order, by rank, until the pass is full. Who is over a cap is kept back.
    pub(super) fn compete(&mut self, order: &mut Order, pass: Pass, part: Range<usize>) {
        let p = self.p;
        let (mut at, mut failures) = (part.start, 0);
        let caps = if self.contended() {
            Caps::Bind
        } else {
            Caps::Lifted
        };
        while at < part.end && failures < FAILURES_MAX && !self.board.all_full(pass) {
            let heads = &self.heads;
            let Some(item) = order.get(at, |a, b| order::compare(p, heads, a, b)) else {
                break;
            };
            at += 1;
            if !self.waits(item.gang) || p.policy == Policy::Value && self.is_long(item.gang) {
                continue;
            }
            if let Some(reason) = self.capped(item.gang, pass, caps) {
                self.verdicts[item.gang as usize] = Verdict::Deferred(reason);
                self.kept_back.push(item);
            } else if self.try_place(item, pass, (false, false, item.rank)) {
                failures = 0;
                self.cleared(item.gang);
            } else {
                failures += 1;
            }
        }
    }

    /// Those whom a cap kept back have what all others leave.
    pub(super) fn compete_last(&mut self, pass: Pass) {
        let mut failures = 0;
        for item in self.kept_back.clone() {
            if failures >= FAILURES_MAX || self.board.all_full(pass) {
                break;
            }
            let before = self.verdicts[item.gang as usize];
            if self.waits(item.gang) {
                if self.try_place(item, pass, (false, false, item.rank)) {
                    failures = 0;
                } else {
                    failures += 1;
                    self.verdicts[item.gang as usize] = before;
                }
            }
        }
    }

    /// Why a gang is kept back until all others had their chance.
    pub(super) fn capped(&self, gang: u32, pass: Pass, caps: Caps) -> Option<Reason> {
        if caps == Caps::Lifted {
            return None;
        }
        let candidate = &self.p.gangs[gang as usize];
        let cost = self.plain[gang as usize];
        // A part of a whole slot, whatever is left of it: what was given in it counts.
        let slots = if pass == Pass::Next { 2 } else { 1 };
        let capacity = self.per_slot * slots;
        let cap = |percent: u64| capacity / 100 * percent;
        if !self.covered(gang) && self.uncovered.saturating_add(cost) > cap(UNCOVERED_PERCENT) {
            return Some(Reason::UnbondedCap);
        }
        let spent = self.spent[candidate.sender as usize];
        (spent > 0 && spent.saturating_add(cost) > cap(SENDER_PERCENT)).then_some(Reason::SenderCap)
    }

    /// Whether the sender's credit covers the gang and what this plan has of the sender already.
    fn covered(&self, gang: u32) -> bool {
        let candidate = &self.p.gangs[gang as usize];
        let exposed = self.exposed[candidate.sender as usize];
        exposed.saturating_add(candidate.igas) <= self.p.rooms[candidate.sender as usize]
    }

    /// Counts a gang against the caps.
    pub(super) fn charge(&mut self, gang: u32) {
        let candidate = &self.p.gangs[gang as usize];
        let cost = self.plain[gang as usize];
        let spent = &mut self.spent[candidate.sender as usize];
        *spent = spent.saturating_add(cost);
        if !self.covered(gang) {
            self.uncovered = self.uncovered.saturating_add(cost);
        }
        let exposed = &mut self.exposed[candidate.sender as usize];
        *exposed = exposed.saturating_add(candidate.igas);
    }

    fn cleared(&mut self, gang: u32) {
        let density = order::density(self.p.gangs[gang as usize].value, self.plain[gang as usize]);
        for &key in &self.p.gangs[gang as usize].needs {
            let least = &mut self.clearing[self.p.keys[key as usize].model as usize];
            *least = (*least).min(density);
        }
    }
}
