//! What a model costs on a shard, learned from its last runs.

use super::limits::{PRIOR_BASE, PROFILE_RUNS};
use super::model::Cost;
use std::collections::VecDeque;

/// Requests per batch that are assumed before the first run: igas are calibrated at this size.
const PRIOR_BATCH: u64 = 8;

/// What a shard says beyond this is nonsense, and must not overflow a sum of squares.
const REQUESTS_MAX: u64 = 1 << 20;

/// Runs from which on one may be left out as a straggler: fewer say nothing about what is usual.
const STRAGGLER_RUNS: usize = 5;

/// While fewer runs than that are known, a batch's time is taken to vary by this part of it at least.
const NOISE_UNKNOWN: u64 = 20;

/// Each run counts 1/64 less with each that follows: the shape of a cost changes with the model alone.
const SHAPE_RUNS: i128 = 64;

/// Fraction bits of the decayed sums.
const SUM_BITS: u32 = 16;

/// A run this many times as slow as expected says nothing of the shape.
const OUTLIER: u64 = 2;

/// Decayed sums over runs: count, requests, time, requests squared, requests times time.
type Sums = [i128; 5];

/// What one model costs on one shard: the shape (base to slope) from many runs, the scale from the last ones.
///
/// A shard that is busy runs batches of nearly one size. The last ten alone then tell base and slope apart by their
/// noise, and a plan's small batches cost anything.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Profile {
    /// Static cost of a request, in microseconds: one igas is one on the reference shard.
    prior_each: u64,
    /// Requests and microseconds.
    runs: VecDeque<(u64, u64)>,
    sums: Sums,
    /// Base and slope, in microseconds.
    shape: (u64, u64),
    /// The shape was measured: until then it is a guess.
    shaped: bool,
    /// Decayed sums over runs: count, and by how much what was expected of each was missed, squared.
    missed: [i128; 2],
}

impl Profile {
    pub(crate) fn new(prior_each: u64) -> Self {
        let prior_each = prior_each.max(1);
        Self {
            prior_each,
            runs: VecDeque::new(),
            sums: [0; 5],
            shape: (PRIOR_BASE.0, prior_each),
            shaped: false,
            missed: [0; 2],
        }
    }

    pub(crate) fn record(&mut self, requests: u64, micros: u64) {
        let requests = requests.clamp(1, REQUESTS_MAX);
        let micros = micros.min(super::limits::LEASE_MAX.0);
        let expected = self.cost().batch(requests);
        let usual = micros <= expected.saturating_mul(OUTLIER)
            && expected <= micros.saturating_mul(OUTLIER);
        if self.shaped && usual {
            let off = i128::from(micros.abs_diff(expected));
            for (sum, x) in self.missed.iter_mut().zip([1, off * off]) {
                *sum += (x << SUM_BITS) - *sum / SHAPE_RUNS;
            }
        }
        if self.runs.len() == PROFILE_RUNS {
            self.runs.pop_front();
        }
        self.runs.push_back((requests, micros));
        // What is far from a guess is no outlier: the guess is wrong.
        if usual || !self.shaped || self.runs.len() < STRAGGLER_RUNS {
            self.learn_shape(requests, micros);
        }
    }

    /// The least that a request takes, once batches of different sizes told base and slope apart: its share of a full
    /// batch, less one part in 16 for what an estimate is off.
    pub(crate) fn least(&self, batch_max: u32) -> Option<u64> {
        let cost = self.cost();
        let share = cost
            .each
            .saturating_add(cost.base / u64::from(batch_max.max(1)));
        self.shaped.then(|| share - share.div_ceil(16))
    }

    fn learn_shape(&mut self, requests: u64, micros: u64) {
        let (b, t) = (i128::from(requests), i128::from(micros));
        for (sum, x) in self.sums.iter_mut().zip([1, b, t, b * b, b * t]) {
            *sum += (x << SUM_BITS) - *sum / SHAPE_RUNS;
        }
        let [n, sb, st, sbb, sbt] = self.sums;
        let spread = n * sbb - sb * sb;
        let slope = n * sbt - sb * st;
        // Batches have to differ by an eighth of their size at least, or noise would draw the line.
        if 64 * spread >= sb * sb && slope > 0 && st * spread >= slope * sb {
            let each = slope / spread;
            let base = (st - slope * sb / spread) / n;
            self.shape = (narrow(base), narrow(each).max(1));
            self.shaped = true;
        }
    }

    /// The slowest of the last runs, where it took [`OUTLIER`] times as long as the others tell, or longer. One that is
    /// merely the slowest counts: without it the rest would seem faster, and more alike, than they are.
    fn straggler(&self) -> Option<usize> {
        if self.runs.len() < STRAGGLER_RUNS {
            return None;
        }
        let expected = |b: u64| u128::from(self.shape.0) + u128::from(self.shape.1) * u128::from(b);
        let slowness = |i: &usize| {
            let (b, t) = self.runs[*i];
            u128::from(t) * 1_000 / expected(b).max(1)
        };
        let slowest = (0..self.runs.len()).max_by_key(slowness)?;
        let others = self.runs.iter().enumerate().filter(|(i, _)| *i != slowest);
        let (sum, took) = others.fold((0, 0), |(sum, took), (_, &(b, t))| {
            (sum + expected(b), took + u128::from(t))
        });
        let (b, t) = self.runs[slowest];
        let far = u128::from(t) * sum >= u128::from(OUTLIER) * took * expected(b);
        far.then_some(slowest)
    }

    /// The shape, scaled to the last runs without a straggler.
    pub(crate) fn cost(&self) -> Cost {
        let mut runs: Vec<(u64, u64)> = self.runs.iter().copied().collect();
        if let Some(straggler) = self.straggler() {
            runs.remove(straggler);
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
        let (base, each) = (i128::from(self.shape.0), i128::from(self.shape.1));
        let guess = (count * base + each * sb).max(1);
        let (base, each) = if !self.shaped && st > guess {
            // A shard that is slower than its model is priced, and batches of one size so far: a large batch that was taken
            // to cost what a small one does would keep the shard for many blocks.
            (narrow(base), narrow((st - count * base) / sb).max(1))
        } else {
            (narrow(base * st / guess), narrow(each * st / guess).max(1))
        };
        let square = |b: i128, t: i128| {
            let off = t - i128::from(base) - i128::from(each) * b;
            off * off
        };
        let batch = narrow(sb / count).max(1);
        // A few runs that agree say little of how much the next may differ.
        let least = if runs.len() < STRAGGLER_RUNS {
            (base.saturating_add(each.saturating_mul(batch)) / NOISE_UNKNOWN).saturating_pow(2)
        } else {
            0
        };
        // Ten runs tell a deviation to a quarter of it, and a margin has to hold when they are alike by chance.
        let missed = narrow(self.missed[1] / self.missed[0].max(1));
        Cost {
            hosted: true,
            base,
            each,
            variance: narrow(sum(&square) / count).max(least).max(missed),
            mean: (base / batch).saturating_add(each),
        }
    }
}

fn narrow(x: i128) -> u64 {
    u64::try_from(x).unwrap_or(u64::MAX >> 8)
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
        let runs = [1, 4, 8, 16, 2, 12].map(|b| (b, 5_000 + 500 * b));
        let cost = of(&runs);
        assert!(
            cost.base.abs_diff(5_000) <= 2 && cost.each == 500 && cost.variance <= 4,
            "{cost:?}"
        );
    }

    #[test]
    fn batches_of_one_size_scale_the_prior() {
        let cost = of(&[(8, 5_000), (8, 5_000)]);
        assert_eq!((cost.base, cost.each), (1_000, 500));
        // What is slower than its price is slow in every request, as far as is known.
        let cost = of(&[(8, 20_000), (8, 20_000)]);
        assert_eq!((cost.base, cost.each), (PRIOR_BASE.0, 2_250));
    }

    /// A shard ninety times slower than the price, that had been given single requests: batches of 64 were taken to last
    /// a tenth of a second, lasted six, and were called outliers.
    #[test]
    fn a_first_large_batch_is_believed_when_the_price_was_wrong() {
        let time = |b: u64| 10_000 + 90_000 * b;
        let mut runs = vec![(1, time(1)); 12];
        let single = of(&runs);
        assert!(single.batch(64) >= 64 * 90_000, "{single:?}");
        runs.push((3, time(3)));
        let cost = of(&runs);
        assert!(
            cost.batch(64).abs_diff(time(64)) < time(64) / 20,
            "{cost:?}"
        );
    }

    /// Under load all batches are about equally large: the last ten drew a line through their noise.
    #[test]
    fn the_shape_is_kept_while_batches_are_of_one_size() {
        let time = |b: u64| 60_000 + 18_000 * b;
        let mut runs: Vec<(u64, u64)> = [1, 3, 6, 10, 13].map(|b| (b, time(b))).into();
        let noise = [98, 104, 97, 101, 100, 96, 103, 105, 99, 102, 97];
        for percent in noise.into_iter().cycle().take(60) {
            let b = 15 + u64::from(percent > 100);
            runs.push((b, time(b) / 100 * percent));
        }
        let cost = of(&runs);
        for b in [1, 4, 16] {
            assert!(
                cost.batch(b).abs_diff(time(b)) < time(b) / 5,
                "{b}: {} for {}",
                cost.batch(b),
                time(b)
            );
        }
    }

    #[test]
    fn one_straggler_changes_nothing() {
        let mut runs = vec![(1, 5_500), (4, 7_000), (8, 9_000), (16, 13_000)];
        let before = of(&runs);
        runs.push((4, 60_000));
        assert_eq!(of(&runs), before);
    }

    /// The slowest of ten was left out whatever it took: a batch was thought a sixth of a deviation faster than it is, and
    /// the deviation an eighth smaller. Over the eight batches of a slot the three deviations of the margin were two.
    #[test]
    fn the_slowest_of_usual_runs_counts() {
        let percent = [94, 97, 98, 99, 100, 100, 101, 102, 103, 106];
        let runs: Vec<(u64, u64)> = percent.map(|p| (8, 1_000 * p)).into();
        let cost = of(&runs);
        let variance =
            percent.map(|p| (p as i64 - 100).pow(2)).iter().sum::<i64>() as u64 * 100_000;
        assert!(cost.batch(8).abs_diff(100_000) < 100, "{cost:?}");
        assert!(
            cost.variance.abs_diff(variance) < variance / 50,
            "{cost:?} {variance}"
        );
    }

    /// Ten runs that were alike by chance left no margin: the next that was as late as many before broke a promise.
    #[test]
    fn runs_that_are_alike_by_chance_do_not_make_a_model_exact() {
        let time = |b: u64| 60_000 + 18_000 * b;
        let mut runs: Vec<(u64, u64)> = [1, 3, 6, 10, 13].map(|b| (b, time(b))).into();
        let noise = [95, 104, 97, 105, 100, 96, 103];
        runs.extend((0..70).map(|n| (16, time(16) / 100 * noise[n % noise.len()])));
        runs.extend([(16, time(16)); PROFILE_RUNS]);
        let deviation = of(&runs).variance.isqrt();
        // 3.7 % of 348 ms are 13.
        assert!((10_000..18_000).contains(&deviation), "{deviation}");
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
