//! Which positions were written here: as runs, which are few where one process writes for long.

use std::collections::BTreeMap;

/// Runs that are remembered, in number. An older one is forgotten: what stands in it is read again.
const RUNS_MAX: usize = 1_024;

/// Positions, as the first and the last of each run.
#[derive(Debug, Default)]
pub(super) struct Runs(BTreeMap<u64, u64>);

impl Runs {
    /// Adds a position that is after all that were added.
    pub(super) fn push(&mut self, position: u64) {
        match self.0.last_entry() {
            Some(mut run) if *run.get() + 1 == position => *run.get_mut() = position,
            _ => {
                self.0.insert(position, position);
                if self.0.len() > RUNS_MAX {
                    self.0.pop_first();
                }
            }
        }
    }

    /// The first position from `from` on that is in no run. Runs that end before it are forgotten.
    pub(super) fn skip(&mut self, from: u64) -> u64 {
        while let Some(run) = self.0.first_entry() {
            if *run.get() < from {
                run.remove();
            } else if *run.key() <= from {
                return *run.get() + 1;
            } else {
                break;
            }
        }
        from
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_a_run_is_skipped_and_the_rest_is_not() {
        let mut runs = Runs::default();
        for position in [2, 3, 4, 7, 8, 10] {
            runs.push(position);
        }
        assert_eq!(runs.skip(1), 1);
        assert_eq!(runs.skip(3), 5);
        assert_eq!(runs.skip(3), 5);
        assert_eq!(runs.skip(5), 5);
        assert_eq!(runs.skip(7), 9);
        runs.push(11);
        assert_eq!(runs.skip(9), 9);
        assert_eq!(runs.skip(10), 12);
        runs.push(12);
        runs.push(13);
        assert_eq!(runs.skip(12), 14);
        assert_eq!(runs.skip(20), 20);
        assert!(runs.0.is_empty());
    }

    #[test]
    fn the_oldest_of_too_many_runs_is_forgotten() {
        let mut runs = Runs::default();
        (0..=RUNS_MAX as u64).for_each(|n| runs.push(2 * n));
        assert_eq!(runs.0.len(), RUNS_MAX);
        assert_eq!(runs.skip(0), 0);
        assert_eq!(runs.skip(2), 3);
    }
}
