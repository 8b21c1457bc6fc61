//! What is asked for: models, transactions, and when they come.

use super::Workload;
use super::draw::{ONE, ratio};
use crate::Random;
use penstock_rules::ids::Micros;

/// Models of the fleet.
pub(super) const MODELS: usize = 12;

/// Requests that an engine joins in one batch at most.
pub(super) const BATCH_MAX: u64 = 32;

/// What a model costs: a batch takes `base + each * requests` microseconds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Model {
    pub(super) base: u64,
    pub(super) each: u64,
    /// How often it is asked for, relative to the others.
    pub(super) weight: u64,
}

impl Model {
    /// The least that a request can cost: its share of a full batch.
    pub(super) const fn least(&self) -> u64 {
        self.each + self.base / BATCH_MAX
    }

    /// Its static cost, as a registry would have it: its share of a batch of 8.
    pub(super) const fn igas(&self) -> u64 {
        self.each + self.base / 8
    }
}

/// Twelve models, 36 times apart in cost per request and 20 times per batch, by a Zipf law of exponent 0.9.
pub(super) fn models(workload: Workload, random: &mut Random) -> Vec<Model> {
    // 1,000,000 / rank^0.9.
    const ZIPF: [u64; MODELS] = [
        1_000_000, 535_887, 372_041, 287_175, 234_925, 199_372, 173_544, 153_893, 138_414, 125_893,
        115_544, 106_842,
    ];
    // 0.5 to 18 ms a request and 3 to 60 ms a batch, in equal ratios; popularity says nothing of size.
    const EACH: [u64; MODELS] = [
        500, 693, 959, 1_329, 1_840, 2_549, 3_531, 4_890, 6_774, 9_382, 12_995, 18_000,
    ];
    const BASE: [u64; MODELS] = [
        3_000, 3_939, 5_172, 6_791, 8_917, 11_708, 15_373, 20_185, 26_503, 34_799, 45_692, 60_000,
    ];
    let mut size: Vec<usize> = (0..MODELS).collect();
    for i in (1..MODELS).rev() {
        size.swap(i, random.below(i as u64 + 1) as usize);
    }
    let hot = workload == Workload::W6;
    let rest: u64 = ZIPF[1..].iter().sum();
    (0..MODELS)
        .map(|n| Model {
            base: BASE[size[n]],
            each: EACH[size[n]],
            weight: if hot && n == 0 { 4 * rest } else { ZIPF[n] },
        })
        .collect()
}

/// What its sender is after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Intent {
    /// Inclusion.
    Honest,
    /// That shards work for nothing: it bids much, comes from a fresh identity, and leaves when its answers are there.
    Cancels,
    /// The same by replacement: it asks for something else in every block.
    Churns,
}

/// A transaction.
#[derive(Clone, Debug)]
pub(super) struct Job {
    pub(super) arrival: Micros,
    /// Wei.
    pub(super) value: u128,
    /// Blocks after which it leaves.
    pub(super) life: u64,
    pub(super) intent: Intent,
    /// Keys, wave by wave: a later wave is known when the earlier one is answered.
    pub(super) waves: Vec<Vec<u32>>,
    /// The least that its requests can cost, without those that an earlier transaction asked for.
    pub(super) cost: u64,
}

/// All that is asked for in a run.
#[derive(Clone, Debug)]
pub(super) struct Demand {
    /// By arrival.
    pub(super) jobs: Vec<Job>,
    /// Each key's model.
    pub(super) keys: Vec<u8>,
}

/// Wei per microsecond at the median.
const MEDIAN_VALUE: i64 = 1_000_000;

/// Transactions of which a duplicate is one, in [`Workload::W8`].
const RECENT: usize = 2_000;

impl Demand {
    /// Transactions whose least costs are together `time`, arriving over a span. In [`Workload::W9`] so many of a million
    /// are attackers'.
    pub(super) fn new(
        workload: Workload,
        models: &[Model],
        time: u64,
        (span, attackers): (Micros, u32),
        random: &Random,
    ) -> Self {
        let mut shapes = random.fork(1);
        let mut demand = Self {
            jobs: Vec::new(),
            keys: Vec::new(),
        };
        let mut sum = 0;
        while sum < time {
            let job = demand.job((workload, attackers), models, &mut shapes);
            if job.intent == Intent::Honest {
                sum += job.cost.max(1);
            }
            demand.jobs.push(job);
        }
        let mut times = random.fork(2);
        let gaps = gaps(workload, demand.jobs.len(), &mut times);
        let total: i128 = gaps.iter().map(|&gap| i128::from(gap)).sum::<i128>().max(1);
        let mut passed = 0i128;
        for (job, gap) in demand.jobs.iter_mut().zip(gaps) {
            passed += i128::from(gap);
            job.arrival = Micros((passed * i128::from(span.0) / total) as u64);
        }
        demand
    }

    pub(super) fn job(
        &mut self,
        (workload, attackers): (Workload, u32),
        models: &[Model],
        random: &mut Random,
    ) -> Job {
        // 1, 2, 3, 4 and 8 requests in 60, 20, 10, 7 and 3 of a hundred.
        let width = match (workload, random.below(100)) {
            (Workload::W7, _) => 1 << random.below(6),
            (_, 0..60) => 1,
            (_, 60..80) => 2,
            (_, 80..90) => 3,
            (_, 90..97) => 4,
            _ => 8,
        };
        let count = if workload == Workload::W7 {
            1 + random.below(3)
        } else {
            1
        };
        let (mut cost, mut plain) = (0, 0);
        let mut waves = Vec::new();
        for _ in 0..count {
            let mut wave = Vec::new();
            for _ in 0..width {
                let known = self.keys.len();
                if workload == Workload::W8 && known > 0 && random.chance(300_000) {
                    let back = random.below(known.min(RECENT) as u64) as usize;
                    let key = (known - 1 - back) as u32;
                    if !wave.contains(&key) {
                        plain += models[usize::from(self.keys[key as usize])].least();
                        wave.push(key);
                    }
                    continue;
                }
                let model = pick(models, random);
                cost += models[model].least();
                plain += models[model].least();
                wave.push(known as u32);
                self.keys.push(model as u8);
            }
            if !wave.is_empty() {
                waves.push(wave);
            }
        }
        let mut density = if workload == Workload::W5 {
            random.pareto(ratio(3, 2))
        } else {
            random.lognormal(ratio(6, 5))
        };
        let mut intent = Intent::Honest;
        if workload == Workload::W9 && random.chance(attackers) {
            density = density.saturating_mul(6);
            intent = if random.chance(500_000) {
                Intent::Cancels
            } else {
                Intent::Churns
            };
        }
        let value = (u128::from(plain) * density as u128 * MEDIAN_VALUE as u128) >> 32;
        Job {
            arrival: Micros(0),
            value,
            life: random.between(3, 12),
            intent,
            waves,
            cost,
        }
    }
}

fn pick(models: &[Model], random: &mut Random) -> usize {
    let total = models.iter().map(|model| model.weight).sum();
    let mut at = random.below(total);
    for (n, model) in models.iter().enumerate() {
        if at < model.weight {
            return n;
        }
        at -= model.weight;
    }
    0
}

/// Times between arrivals, up to a common factor.
fn gaps(workload: Workload, count: usize, random: &mut Random) -> Vec<i64> {
    // A rate that changes stretches the gaps; so many arrivals make a second of the run, about.
    let second = (count / 30).max(1);
    let (mut rate, mut left) = (ONE, 0i64);
    let mut state = random.below(2);
    (0..count)
        .map(|n| {
            let gap = match workload {
                Workload::W3 => random.gamma(4 * ONE),
                _ => random.exponential(),
            };
            match workload {
                // Two states: 2.8 times the mean for 1.5 s, 0.4 times for 4.5 s.
                Workload::W2 if left <= 0 => {
                    state ^= 1;
                    rate = if state == 1 {
                        ratio(14, 5)
                    } else {
                        ratio(2, 5)
                    };
                    let sojourn = if state == 1 { 3 } else { 9 };
                    let time = random.exponential() / 2 * sojourn;
                    left = ((i128::from(time) * i128::from(rate) * second as i128) >> 64) as i64;
                }
                // A day in 12 seconds, and minutes that differ: what function traces look like.
                Workload::W4 if n % (second / 4).max(1) == 0 => {
                    let hour = (n / (second / 4).max(1)) % 48;
                    let day = if hour < 24 { hour } else { 48 - hour } as i64;
                    let spike = random.lognormal(ratio(7, 10));
                    rate = (spike / 24 * (6 + day)).max(ONE / 20);
                }
                // Up and down between a quarter and four times the mean, every 10 seconds.
                Workload::W11 => {
                    rate = if (n / (5 * second)).is_multiple_of(2) {
                        ratio(2, 5)
                    } else {
                        ratio(8, 5)
                    };
                }
                _ => {}
            }
            left -= 1;
            ((i128::from(gap) << 32) / i128::from(rate)) as i64
        })
        .collect()
}

/// The value that nobody can exceed: whole transactions and one part of one, by value per least cost, in the shards'
/// whole time; any model on any shard, every batch full, the future known. With the value and cost of the last one that
/// has a part in it.
pub(super) fn bound(jobs: &[Job], capacity: u64) -> (u128, (u128, u64)) {
    let mut honest = honest(jobs);
    honest.sort_by(|a, b| (b.value * u128::from(a.cost)).cmp(&(a.value * u128::from(b.cost))));
    fill(&honest, capacity)
}

/// What an order by value alone comes to under the same conditions: tips, and nothing wasted.
pub(super) fn tips(jobs: &[Job], capacity: u64) -> u128 {
    let mut honest = honest(jobs);
    honest.sort_by_key(|job| std::cmp::Reverse(job.value));
    fill(&honest, capacity).0
}

fn honest(jobs: &[Job]) -> Vec<&Job> {
    let honest = jobs.iter().filter(|job| job.intent == Intent::Honest);
    honest.collect()
}

fn fill(jobs: &[&Job], capacity: u64) -> (u128, (u128, u64)) {
    let (mut left, mut sum) = (capacity, 0);
    for job in jobs {
        if job.cost > left {
            let part = job.value * u128::from(left) / u128::from(job.cost);
            return (sum + part, (job.value, job.cost));
        }
        left -= job.cost;
        sum += job.value;
    }
    (sum, (0, 1))
}
