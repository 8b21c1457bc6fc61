//! Open competition, and the caps that keep somebody back in it.

use super::order::{self, Order, Turn};
use super::{Caps, Planner, Said};
use crate::scheduler::Policy;
use crate::scheduler::limits::{FAILURES_MAX, SENDER_PERCENT, UNCOVERED_PERCENT};
use crate::scheduler::model::{Pass, Urgency};
use std::ops::Range;

impl Planner<'_> {
    /// All that is left of a part of the order, by rank, until the pass is full. Who is over a cap is kept back.
    pub(super) fn compete(&mut self, order: &mut Order<'_>, pass: Pass, part: Range<usize>) {
        let p = self.p;
        let (mut at, mut failures) = (part.start, 0);
        let caps = if self.contended() {
            Caps::Bind
        } else {
            Caps::Lifted
        };
        while at < part.end && failures < FAILURES_MAX && !self.board.all_full(pass) {
            let Some(gang) = order.gang(at, self) else {
                break;
            };
            at += 1;
            if self.is_placed(gang) || p.policy == Policy::Value && self.is_long(gang) {
                continue;
            }
            let turn = order.turn(at - 1);
            let item = turn.item;
            if let Some(cap) = self.capped(turn, pass, caps) {
                self.say(gang, cap);
                self.kept_back.push(item);
            } else if self.try_place(turn, pass, Urgency::of(item.rank)) {
                failures = 0;
                self.cleared(turn);
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
            let before = self.said[item.gang as usize];
            if self.waits(item.gang) {
                let turn = self.turn(item);
                if self.try_place(&turn, pass, Urgency::of(item.rank)) {
                    failures = 0;
                } else {
                    failures += 1;
                    self.say(item.gang, before);
                }
            }
        }
    }

    /// Why a gang is kept back until all others had their chance.
    pub(super) fn capped(&self, turn: &Turn, pass: Pass, caps: Caps) -> Option<Said> {
        if caps == Caps::Lifted {
            return None;
        }
        let cost = self.times[turn.facts.shape as usize].plain;
        // A part of a whole slot, whatever is left of it: what was given in it counts.
        let slots = if pass == Pass::Next { 2 } else { 1 };
        let capacity = self.per_slot * slots;
        let cap = |percent: u64| capacity / 100 * percent;
        if !self.scratch.purse.covers(turn)
            && self.scratch.purse.uncovered().saturating_add(cost) > cap(UNCOVERED_PERCENT)
        {
            return Some(Said::UnbondedCap);
        }
        let spent = self.scratch.purse.spent(turn);
        (spent > 0 && spent.saturating_add(cost) > cap(SENDER_PERCENT)).then_some(Said::SenderCap)
    }

    /// Counts a gang against the caps.
    pub(super) fn charge(&mut self, turn: &Turn) {
        let time = self.times[turn.facts.shape as usize].plain;
        self.scratch.purse.give(turn, time);
    }

    fn cleared(&mut self, turn: &Turn) {
        let facts = &turn.facts;
        let density = order::density(facts.value, self.times[facts.shape as usize].plain);
        for &(model, _) in &self.index.shapes[facts.shape as usize].pairs {
            let least = &mut self.clearing[model as usize];
            *least = (*least).min(density);
        }
    }
}
