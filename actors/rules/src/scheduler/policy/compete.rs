//! Open competition, and the caps that keep somebody back in it.

use super::order::{self, Order, Turn};
use super::{Caps, Planner};
use crate::scheduler::Policy;
use crate::scheduler::limits::{FAILURES_MAX, SENDER_PERCENT, UNCOVERED_PERCENT};
use crate::scheduler::model::{Pass, Verdict};
use crate::tx::Reason;
use std::hint::black_box;
use std::ops::Range;

/// Turns that are read ahead: as many as a core waits for at a time, about.
const AHEAD: usize = 16;

impl Planner<'_> {
    /// All that is left of a part of the order, by rank, until the pass is full. Who is over a cap is kept back.
    pub(super) fn compete(&mut self, order: &mut Order<'_>, pass: Pass, part: Range<usize>) {
        let p = self.p;
        let (mut at, mut failures, mut read) = (part.start, 0, part.start);
        let caps = if self.contended() {
            Caps::Bind
        } else {
            Caps::Lifted
        };
        while at < part.end && failures < FAILURES_MAX && !self.board.all_full(pass) {
            if at >= read {
                read = at + AHEAD;
                self.read_ahead(order, at..read.min(part.end));
            }
            let Some(turn) = order.get(at, self) else {
                break;
            };
            let item = turn.item;
            at += 1;
            if self.is_placed(item.gang) || p.policy == Policy::Value && self.is_long(item.gang) {
                continue;
            }
            if let Some(reason) = self.capped(&turn, pass, caps) {
                self.say(item.gang, Verdict::Deferred(reason));
                self.kept_back.push(item);
            } else if self.try_place(item, pass, (false, false, item.rank)) {
                failures = 0;
                self.cleared(item.gang);
            } else {
                failures += 1;
            }
        }
    }

    /// Reads what placing the next in the order will, in one go: then it is at hand, and the waits for memory overlap.
    fn read_ahead(&self, order: &mut Order<'_>, part: Range<usize>) {
        let mut copies = 0;
        for at in part {
            let Some(turn) = order.get(at, self) else {
                break;
            };
            if !self.is_placed(turn.item.gang) {
                let needs = self.p.gangs[turn.item.gang as usize].needs.iter();
                let keys = needs.map(|&key| self.p.keys[key as usize].copies);
                copies += keys.sum::<u32>();
            }
        }
        black_box(copies);
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
                    self.say(item.gang, before);
                }
            }
        }
    }

    /// Why a gang is kept back until all others had their chance.
    pub(super) fn capped(&self, turn: &Turn, pass: Pass, caps: Caps) -> Option<Reason> {
        if caps == Caps::Lifted {
            return None;
        }
        let cost = self.times[turn.facts.shape as usize].plain;
        // A part of a whole slot, whatever is left of it: what was given in it counts.
        let slots = if pass == Pass::Next { 2 } else { 1 };
        let capacity = self.per_slot * slots;
        let cap = |percent: u64| capacity / 100 * percent;
        if !self.purse.covers(turn)
            && self.purse.uncovered().saturating_add(cost) > cap(UNCOVERED_PERCENT)
        {
            return Some(Reason::UnbondedCap);
        }
        let spent = self.purse.spent(turn);
        (spent > 0 && spent.saturating_add(cost) > cap(SENDER_PERCENT)).then_some(Reason::SenderCap)
    }

    /// Counts a gang against the caps.
    pub(super) fn charge(&mut self, turn: &Turn) {
        let time = self.times[turn.facts.shape as usize].plain;
        self.purse.give(turn, time);
    }

    fn cleared(&mut self, gang: u32) {
        let density = order::density(self.p.gangs[gang as usize].value, self.time(gang).plain);
        for &key in &self.p.gangs[gang as usize].needs {
            let least = &mut self.clearing[self.p.keys[key as usize].model as usize];
            *least = (*least).min(density);
        }
    }
}
