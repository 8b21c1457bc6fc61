//! What each sender has of a plan in the making.

use crate::scheduler::model::Problem;

/// Per sender: time that this plan gives it, and inference units; with all changes, so that they can be taken back.
#[derive(Clone, Debug, Default)]
pub(super) struct Purse {
    given: Vec<u64>,
    exposed: Vec<u64>,
    /// Time for those without cover.
    uncovered: u64,
    changes: Vec<(u32, u64, u64, u64)>,
}

impl Purse {
    /// Nobody has anything.
    pub(super) fn clear(&mut self, p: &Problem) {
        self.back_to(0);
        self.uncovered = p.used_uncovered;
        self.given.resize(p.lanes.len(), 0);
        self.exposed.resize(p.lanes.len(), 0);
    }

    /// A moment to go back to.
    pub(super) const fn moment(&self) -> usize {
        self.changes.len()
    }

    /// Takes back what was given since.
    pub(super) fn back_to(&mut self, moment: usize) {
        while self.changes.len() > moment {
            if let Some((sender, given, exposed, uncovered)) = self.changes.pop() {
                self.given[sender as usize] = given;
                self.exposed[sender as usize] = exposed;
                self.uncovered = uncovered;
            }
        }
    }

    /// Time that a sender has of this block, by this plan and before it.
    pub(super) fn spent(&self, p: &Problem, sender: u32) -> u64 {
        let before = p.used.get(sender as usize).copied().unwrap_or(0);
        before.saturating_add(self.given[sender as usize])
    }

    /// Time for those without cover.
    pub(super) const fn uncovered(&self) -> u64 {
        self.uncovered
    }

    /// Whether a sender's credit covers so many units beside what it has by this plan.
    pub(super) fn covers(&self, p: &Problem, sender: u32, igas: u64) -> bool {
        let exposed = self.exposed[sender as usize];
        exposed.saturating_add(igas) <= p.rooms[sender as usize]
    }

    /// Gives a sender time for so many units.
    pub(super) fn give(&mut self, p: &Problem, sender: u32, time: u64, igas: u64) {
        let covered = self.covers(p, sender, igas);
        let (given, exposed) = (
            &mut self.given[sender as usize],
            &mut self.exposed[sender as usize],
        );
        self.changes
            .push((sender, *given, *exposed, self.uncovered));
        *given = given.saturating_add(time);
        *exposed = exposed.saturating_add(igas);
        if !covered {
            self.uncovered = self.uncovered.saturating_add(time);
        }
    }
}
