//! What each sender has of a plan in the making.

use super::order::Turn;
use crate::scheduler::model::{NONE, Problem};

/// Per sender: time that this plan gives it, and inference units; with all changes, so that they can be taken back.
///
/// Senders stand in the order in which they were met: a plan comes to few, and those together.
#[derive(Clone, Debug, Default)]
pub(super) struct Purse {
    given: Vec<Given>,
    /// Per sender: its place in `given`, or [`NONE`].
    places: Vec<u32>,
    /// Per place: the sender.
    senders: Vec<u32>,
    /// Time for those without cover.
    uncovered: u64,
    changes: Vec<(u32, Given, u64)>,
}

/// Microseconds, and inference units.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Given {
    time: u64,
    igas: u64,
}

impl Purse {
    /// Nobody has anything.
    pub(super) fn clear(&mut self, p: &Problem) {
        for sender in self.senders.drain(..) {
            self.places[sender as usize] = NONE;
        }
        self.given.clear();
        self.changes.clear();
        self.uncovered = p.used_uncovered;
        let senders = p.lanes.len().max(p.rooms.len());
        self.places.resize(senders, NONE);
    }

    /// A sender's place.
    pub(super) fn place(&mut self, sender: u32) -> u32 {
        let place = &mut self.places[sender as usize];
        if *place == NONE {
            *place = self.senders.len() as u32;
            self.senders.push(sender);
            self.given.push(Given::default());
        }
        *place
    }

    /// A moment to go back to.
    pub(super) const fn moment(&self) -> usize {
        self.changes.len()
    }

    /// Takes back what was given since.
    pub(super) fn back_to(&mut self, moment: usize) {
        while self.changes.len() > moment {
            if let Some((place, given, uncovered)) = self.changes.pop() {
                self.given[place as usize] = given;
                self.uncovered = uncovered;
            }
        }
    }

    /// Time that a gang's sender has of this block, by this plan and before it.
    pub(super) fn spent(&self, turn: &Turn) -> u64 {
        let given = self.given[turn.place as usize].time;
        turn.used.saturating_add(given)
    }

    /// Time for those without cover.
    pub(super) const fn uncovered(&self) -> u64 {
        self.uncovered
    }

    /// Whether its sender's credit covers a gang beside what the sender has by this plan.
    pub(super) fn covers(&self, turn: &Turn) -> bool {
        let exposed = self.given[turn.place as usize].igas;
        exposed.saturating_add(turn.facts.igas) <= turn.room
    }

    /// Gives a gang's sender so much time for it.
    pub(super) fn give(&mut self, turn: &Turn, time: u64) {
        let covered = self.covers(turn);
        let given = &mut self.given[turn.place as usize];
        self.changes.push((turn.place, *given, self.uncovered));
        given.time = given.time.saturating_add(time);
        given.igas = given.igas.saturating_add(turn.facts.igas);
        if !covered {
            self.uncovered = self.uncovered.saturating_add(time);
        }
    }
}
