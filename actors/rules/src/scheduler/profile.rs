//! What a model costs on a shard, learned from its last runs.

use super::limits::{PRIOR_BASE, PROFILE_RUNS};
use super::model::Cost;
use std::collections::VecDeque;

/// Requests per batch that are assumed before the first run: igas are calibrated at this size.
const PRIOR_BATCH: u64 = 8;

/// What a shard says beyond this is nonsense, and must not overflow a sum of squares.
const REQUESTS_MAX: u64 = 1 << 20;

/// Runs from which on the slowest is left out as a straggler: fewer say nothing about what is usual.
const STRAGGLER_RUNS: usize = 5;

/// The last runs of one model on one shard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Static cost of a request, in microseconds: one igas is one on the reference shard.
    prior_each: u64,
    /// Requests and microseconds.
    runs: VecDeque<(u64, u64)>,
}

impl Profile {
    pub(crate) fn new(prior_each: u64) -> Self {
        Self {
            prior_each: prior_each.max(1),
            runs: VecDeque::new(),
        }
    }

    pub(crate) fn record(&mut self, requests: u64, micros: u64) {
        if self.runs.len() == PROFILE_RUNS {
            self.runs.pop_front();
        }
        let micros = micros.min(super::limits::LEASE_MAX.0);
        self.runs
            .push_back((requests.clamp(1, REQUESTS_MAX), micros));
    }

    fn prior(&self, requests: u64) -> u64 {
        PRIOR_BASE
            .0
            .saturating_add(self.prior_each.saturating_mul(requests))
    }

    /// Least squares over the last runs without the slowest; where these do not tell base and slope apart, the prior
    /// scaled to their mean.
    pub(crate) fn cost(&self) -> Cost {
        let mut runs: Vec<(u64, u64)> = self.runs.iter().copied().collect();
        if runs.len() >= STRAGGLER_RUNS {
            let slowness = |&(b, t): &(u64, u64)| u128::from(t) * 1_000 / u128::from(self.prior(b));
            if let Some(slowest) = (0..runs.len()).max_by_key(|&i| slowness(&runs[i])) {
                runs.remove(slowest);
            }
        }
        let count = runs.len() as i128;
        if count == 0 {
            return Cost {
                hosted: true,
                base: PRIOR_BASE.0,
                each: self.prior_each,
                variance: (PRIOR_BASE.0 / 2).pow(2),
                mean: PRIOR_BASE.0 / PRIOR_BATCH + self.prior_each,
            };
        }
        let sum = |f: &dyn Fn(i128, i128) -> i128| -> i128 {
            runs.iter()
                .map(|&(b, t)| f(i128::from(b), i128::from(t)))
                .sum()
        };
        let (sb, st) = (sum(&|b, _| b), sum(&|_, t| t));
        let (sbb, sbt) = (sum(&|b, _| b * b), sum(&|b, t| b * t));
        let spread = count * sbb - sb * sb;
        let slope = count * sbt - sb * st;
        let (base, each) = if spread > 0 && slope > 0 && st * spread >= slope * sb {
            ((st - slope * sb / spread) / count, slope / spread)
        } else {
            let prior: i128 = runs.iter().map(|&(b, _)| i128::from(self.prior(b))).sum();
            (
                i128::from(PRIOR_BASE.0) * st / prior,
                i128::from(self.prior_each) * st / prior,
            )
        };
        let narrow = |x: i128| u64::try_from(x).unwrap_or(u64::MAX >> 8);
        let (base, each) = (narrow(base), narrow(each).max(1));
        let square = |b: i128, t: i128| {
            let off = t - i128::from(base) - i128::from(each) * b;
            off * off
        };
        let batch = narrow(sb / count).max(1);
        Cost {
            hosted: true,
            base,
            each,
            variance: narrow(sum(&square) / count),
            mean: (base / batch).saturating_add(each),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(runs: &[(u64, u64)]) -> Cost {
        let mut profile = Profile::new(1_000);
        for &(b, t) in runs {
            profile.record(b, t);
        }
        profile.cost()
    }

    #[test]
    fn a_line_is_found_and_its_noise_is_none() {
        let cost = of(&[(1, 5_500), (4, 7_000), (8, 9_000), (16, 13_000)]);
        assert_eq!((cost.base, cost.each, cost.variance), (5_000, 500, 0));
    }

    #[test]
    fn batches_of_one_size_scale_the_prior() {
        let cost = of(&[(8, 20_000), (8, 20_000)]);
        assert_eq!((cost.base, cost.each), (4_000, 2_000));
    }

    #[test]
    fn one_straggler_changes_nothing() {
        let mut runs = vec![(1, 5_500), (4, 7_000), (8, 9_000), (16, 13_000)];
        let before = of(&runs);
        runs.push((4, 60_000));
        assert_eq!(of(&runs), before);
    }

    #[test]
    fn old_runs_are_forgotten() {
        let mut runs = vec![(1, 1_000_000); 20];
        runs.extend([(1, 2_000); PROFILE_RUNS]);
        assert!(of(&runs).batch(1) < 4_000);
    }

    #[test]
    fn nonsense_from_a_shard_does_not_overflow() {
        let cost = of(&[
            (1, u64::MAX),
            (u64::MAX, 0),
            (u64::from(u32::MAX), u64::MAX),
        ]);
        assert!(cost.batch(8) > 0);
    }
}
