//! What a gang is to a plan, looked up in the problem.

use super::{BESIDE, Bid, Class, Facts, NO_FACTS, prefix};
use crate::scheduler::model::{NONE, Problem};
use std::cmp::Reverse;

/// A gang: in one line of the cache.
#[derive(Clone, Copy, Debug)]
#[repr(align(64))]
pub(super) struct Row {
    pub(super) class: Class,
    /// The lists that it stands in, as bits: `Index::list` moves it from one to the other.
    pub(super) lists: u8,
    pub(super) bid: Bid,
    /// With which block its ticket is due, where it competes.
    pub(super) due: Option<u64>,
}

/// Of a slot without a gang.
pub(super) const EMPTY: Row = Row {
    class: Class::Empty,
    lists: 0,
    bid: Bid {
        value: Reverse(0),
        prefix: 0,
        gang: NONE,
        next: NONE,
    },
    due: None,
};

/// A list of [`Row::lists`].
pub(super) const UNDER_WAY: u8 = 1;
pub(super) const CALLS: u8 = 2;
pub(super) const BOUND: u8 = 4;
pub(super) const STARTED: u8 = 8;
pub(super) const SILENT: u8 = 16;

/// What a gang is to the next plan; what it asks for comes to stand in `pairs` and, but for its shape, in `facts`.
pub(super) fn look(p: &Problem, gang: u32, pairs: &mut Vec<(u32, u32)>, facts: &mut Facts) -> Row {
    pairs.clear();
    let candidate = &p.gangs[gang as usize];
    let lane = p.lanes.get(candidate.sender as usize);
    let lane = lane.map_or(&[][..], Vec::as_slice);
    let at = lane.iter().position(|&other| other == gang);
    let first = at == Some(0);
    let next = at.and_then(|at| lane.get(at + 1));
    facts.next = next.copied().unwrap_or(NONE);
    // Who has nothing to compete for is looked up for the sake of those that follow.
    let silent = if first && lane.len() > 1 { SILENT } else { 0 };
    if !candidate.live || candidate.needs.is_empty() {
        return Row {
            lists: silent,
            ..EMPTY
        };
    }
    let mut plain = candidate.needs.len() <= BESIDE && candidate.deadline.is_none();
    for (n, &key) in candidate.needs.iter().enumerate() {
        let state = &p.keys[key as usize];
        pairs.push((state.model, state.copies));
        plain &= state.is_plain() && state.model <= u32::from(u8::MAX);
        if plain {
            facts.keys[n] = key;
            facts.models[n] = state.model as u8;
        }
    }
    if pairs.iter().all(|pair| pair.1 == 0) {
        pairs.clear();
        return Row {
            class: Class::UnderWay,
            lists: UNDER_WAY | silent,
            ..EMPTY
        };
    }
    pairs.sort_unstable();
    let (class, lists) = match candidate {
        c if c.call => (Class::Call, CALLS),
        c if c.committed => (Class::Bound, BOUND | if first { SILENT } else { 0 }),
        c => {
            let lists = if c.started { STARTED } else { 0 };
            if first || at.is_none() {
                (Class::First, lists)
            } else {
                (Class::Next, lists)
            }
        }
    };
    (facts.value, facts.igas) = (candidate.value, candidate.igas);
    facts.sender = candidate.sender;
    facts.class = class;
    if plain {
        let spread = facts.spread.iter_mut().zip(candidate.id.0);
        spread.for_each(|(to, byte)| *to = byte);
        facts.count = candidate.needs.len() as u8;
    } else {
        (facts.keys, facts.models) = (NO_FACTS.keys, NO_FACTS.models);
    }
    let due = match class {
        Class::First | Class::Next => candidate.due.map(|due| due.0),
        _ => None,
    };
    let bid = Bid {
        value: Reverse(candidate.value),
        prefix: prefix(p, gang),
        gang,
        next: if class == Class::First {
            facts.next
        } else {
            NONE
        },
    };
    Row {
        class,
        lists,
        bid,
        due,
    }
}

impl Row {
    /// Its place among the firsts of its shape.
    pub(super) fn firsts_bid(&self) -> Option<Bid> {
        (self.class == Class::First).then_some(self.bid)
    }

    pub(super) fn due_key(&self, gang: u32) -> Option<(u64, u64, u32)> {
        self.due.map(|due| (due, self.bid.prefix, gang))
    }
}
