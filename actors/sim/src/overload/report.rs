//! What a run came to.

use super::Config;
use super::demand::{Intent, Job};
use alloy_primitives::{B256, keccak256};
use penstock_rules::message::RefuseReason;
use penstock_rules::scheduler::Figures;
use penstock_rules::tx::Reason;
use std::collections::BTreeMap;
use std::fmt::Write;

/// What time of a shard was good for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Spent {
    /// A block took the result.
    Useful,
    /// The transaction is pending at the end, with this result.
    Pending,
    /// The input changed after it was computed.
    Stale,
    /// Nobody used it: its transaction left, or it was computed twice.
    Wasted,
}

/// Transactions of one kind: how many were asked for, and how many got into a block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Share {
    /// Asked for.
    pub asked: u64,
    /// Included.
    pub included: u64,
}

/// Parts of the transactions by value: the least tenth first.
pub const DECILES: usize = 10;

/// A tenth of the honest transactions, by value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tenth {
    /// Asked for.
    pub asked: u64,
    /// Included, by the blocks that they waited beyond the first.
    pub waits: BTreeMap<u64, u64>,
}

/// What a run came to. Times in microseconds of shards, values in wei.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Time of all shards that is measured.
    pub capacity: u64,
    /// Value that no schedule can exceed.
    pub bound: u128,
    /// Value that an order by value alone would bring if it wasted nothing: as the bound, but for the order.
    pub tips: u128,
    /// Value that honest transactions in blocks brought.
    pub revenue: u128,
    /// Value in blocks that the bound does not have: it was taken in the place of better.
    pub below: u128,
    /// The least that what is in blocks could have cost.
    pub least_cost: u64,
    /// Time whose results are in blocks.
    pub useful: u64,
    /// Time whose results wait with their transactions at the end.
    pub pending: u64,
    /// Time whose results were of an input that changed.
    pub stale: u64,
    /// Time that was good for nothing.
    pub wasted: u64,
    /// Honest transactions.
    pub all: Share,
    /// The same, by number of requests.
    pub by_width: BTreeMap<usize, Share>,
    /// Included transactions by the blocks that they waited beyond the first.
    pub waits: BTreeMap<u64, u64>,
    /// Per tenth by value.
    pub tenths: [Tenth; DECILES],
    /// What the scheduler certified after each block that is measured, in a hundred thousand of its bound.
    pub certified: Vec<u64>,
    /// Jain's index of fairness over senders with credit, in a hundred thousand: of the part of each one's work (at its
    /// least cost) that is in blocks.
    pub fairness: u64,
    /// What the scheduler counted.
    pub figures: Figures,
    /// Deferrals that were told, by reason.
    pub reasons: BTreeMap<String, u64>,
    /// Refusals of shards, by reason.
    pub refusals: BTreeMap<String, u64>,
    /// Leases that ran out.
    pub leases_expired: u64,
    /// Models that were loaded while it was measured.
    pub loads: u64,
    /// Batches, and requests in them.
    pub batches: u64,
    /// See `batches`.
    pub batched: u64,
    /// keccak256 over the digests of all full plans, in their order; zero where they are not logged.
    pub plans: B256,
}

impl Report {
    pub(super) fn planned(&mut self, digest: B256) {
        self.plans = keccak256([self.plans, digest].concat());
    }

    pub(super) fn asked(&mut self, job: &Job) {
        if job.intent == Intent::Honest {
            self.all.asked += 1;
            let width = job.waves.iter().map(Vec::len).sum();
            self.by_width.entry(width).or_default().asked += 1;
        }
    }

    pub(super) fn included(&mut self, job: &Job, waited: u64) {
        self.revenue += job.value;
        self.all.included += 1;
        let width = job.waves.iter().map(Vec::len).sum();
        self.by_width.entry(width).or_default().included += 1;
        *self.waits.entry(waited).or_default() += 1;
    }

    /// Counts transactions by tenths: their values, and the blocks that they waited where they were included.
    pub(super) fn by_value(&mut self, mut outcomes: Vec<(u128, Option<u64>)>) {
        outcomes.sort_unstable();
        let all = outcomes.len().max(1);
        for (n, (_, waited)) in outcomes.into_iter().enumerate() {
            let tenth = &mut self.tenths[n * DECILES / all];
            tenth.asked += 1;
            if let Some(waited) = waited {
                *tenth.waits.entry(waited).or_default() += 1;
            }
        }
    }

    /// Finds the index of fairness of senders: what each asked for, and what it got.
    pub(super) fn fair(&mut self, senders: impl Iterator<Item = (u64, u64)>) {
        let parts = senders.filter(|(asked, _)| *asked > 0);
        let parts = parts.map(|(asked, got)| u128::from(got) * 100_000 / u128::from(asked));
        let (mut count, mut sum, mut squares) = (0u128, 0u128, 0u128);
        for part in parts {
            (count, sum, squares) = (count + 1, sum + part, squares + part * part);
        }
        self.fairness = (sum * sum * 100_000 / (count * squares).max(1)) as u64;
    }

    pub(super) fn deferred(&mut self, reason: Reason) {
        let name = match reason {
            Reason::Outbid(_) => "Outbid".into(),
            other => format!("{other:?}"),
        };
        *self.reasons.entry(name).or_default() += 1;
    }

    pub(super) fn refused(&mut self, reason: RefuseReason) {
        *self.refusals.entry(format!("{reason:?}")).or_default() += 1;
    }

    pub(super) const fn spend(&mut self, what: Spent, time: u64) {
        match what {
            Spent::Useful => self.useful += time,
            Spent::Pending => self.pending += time,
            Spent::Stale => self.stale += time,
            Spent::Wasted => self.wasted += time,
        }
    }

    /// Revenue over the bound, in a hundred thousand.
    #[must_use]
    pub fn revenue_share(&self) -> u64 {
        (self.revenue * 100_000 / self.bound.max(1)) as u64
    }

    /// What tips without waste would bring over the bound, in a hundred thousand.
    #[must_use]
    pub fn tips_share(&self) -> u64 {
        (self.tips * 100_000 / self.bound.max(1)) as u64
    }

    /// A part of the capacity, in a hundred thousand.
    #[must_use]
    pub const fn of_capacity(&self, time: u64) -> u64 {
        let capacity = if self.capacity == 0 { 1 } else { self.capacity };
        (time as u128 * 100_000 / capacity as u128) as u64
    }

    /// Promises that were broken, in a hundred thousand.
    #[must_use]
    pub fn broken_share(&self) -> u64 {
        self.figures.broken * 100_000 / self.figures.promised.max(1)
    }
}

/// A number of a hundred thousand, as `0.98765`.
fn share(of_100_000: u64) -> String {
    format!("{}.{:05}", of_100_000 / 100_000, of_100_000 % 100_000)
}

/// The head of a table of runs, or with a run its line.
#[must_use]
pub fn table(run: Option<(&Config, &Report)>) -> String {
    let Some((config, report)) = run else {
        return "workload policy   load seed  revenue  useful pending  wasted   stale    idle  broken promises  late of tickets  loads batch   below  packed".into();
    };
    let mut line = String::new();
    let spent = report.useful + report.pending + report.wasted + report.stale;
    let tenths = report.batched * 10 / report.batches.max(1);
    // Writing to a string can't fail.
    let _ = write!(
        line,
        "{:<8} {:<7} {:>4}% {:>4}  {} {} {} {} {} {} {} {:>8} {:>5} {:>9} {:>6} {:>3}.{} {} {}",
        format!("{:?}", config.workload),
        format!("{:?}", config.policy),
        config.load_percent,
        config.seed,
        share(report.revenue_share()),
        share(report.of_capacity(report.useful)),
        share(report.of_capacity(report.pending)),
        share(report.of_capacity(report.wasted)),
        share(report.of_capacity(report.stale)),
        share(report.of_capacity(report.capacity.saturating_sub(spent))),
        share(report.broken_share()),
        report.figures.promised,
        report.figures.late,
        report.figures.tickets,
        report.loads,
        tenths / 10,
        tenths % 10,
        share((report.below * 100_000 / report.bound.max(1)) as u64),
        share(report.least_cost * 100_000 / report.useful.max(1)),
    );
    line + &varied(config)
}

/// What is other in a run than in every run of its workload.
fn varied(config: &Config) -> String {
    let usual = Config::new(
        config.workload,
        config.policy,
        config.load_percent,
        config.seed,
    );
    let (is, was) = (&config.tuning, &usual.tuning);
    let numbers = [
        ("margin", is.margin_sigmas, was.margin_sigmas),
        ("tickets %", is.ticket_percent, was.ticket_percent),
        ("ticket blocks", is.ticket_blocks, was.ticket_blocks),
        ("doubling %", is.hedge_percent, was.hedge_percent),
        (
            "stragglers",
            config.stragglers_in_million.into(),
            usual.stragglers_in_million.into(),
        ),
        (
            "attackers",
            config.attackers_in_million.into(),
            usual.attackers_in_million.into(),
        ),
    ];
    let mut text: String = numbers
        .into_iter()
        .filter(|(_, is, was)| is != was)
        .map(|(name, is, _)| format!("  {name} {is}"))
        .collect();
    if config.delivery != usual.delivery {
        text += &format!("  {:?}", config.delivery);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::overload::{Delivery, Workload};
    use penstock_rules::scheduler::Policy;

    #[test]
    fn tenths_go_by_value() {
        let mut report = Report::default();
        // The dearer half is included, after as many blocks as its place says.
        let outcomes = (0..20).map(|n| (n, (n >= 10).then_some(n as u64)));
        report.by_value(outcomes.rev().collect());
        assert!(report.tenths.iter().all(|tenth| tenth.asked == 2));
        assert!(
            report.tenths[..5]
                .iter()
                .all(|tenth| tenth.waits.is_empty())
        );
        assert_eq!(report.tenths[9].waits, BTreeMap::from([(18, 1), (19, 1)]));
    }

    #[test]
    fn a_line_says_what_is_varied() {
        let mut config = Config::new(Workload::W9, Policy::Value, 200, 3);
        assert_eq!(varied(&config), "");
        config.tuning.margin_sigmas = 0;
        config.attackers_in_million = 400_000;
        config.delivery = Delivery::Oracle;
        assert_eq!(varied(&config), "  margin 0  attackers 400000  Oracle");
        let line = table(Some((&config, &Report::default())));
        assert!(line.ends_with("  Oracle"), "{line}");
    }

    /// One when all get the same part, and one of n when a single one gets anything.
    #[test]
    fn fairness_is_jains_index() {
        let of = |senders: &[(u64, u64)]| {
            let mut report = Report::default();
            report.fair(senders.iter().copied());
            report.fairness
        };
        assert_eq!(of(&[(10, 5), (400, 200), (0, 0), (2, 1)]), 100_000);
        assert_eq!(of(&[(10, 10), (10, 0), (10, 0), (10, 0)]), 25_000);
        assert_eq!(of(&[(10, 0)]), 0);
    }
}
