//! What became of the transactions of runs, as points of lines.

use super::Lines;
use penstock_sim::overload::Report;
use std::collections::BTreeMap;

/// The part of a tenth that was included after at most so many blocks.
pub(super) fn tenth(reports: &[Report], n: usize) -> Vec<(f64, f64)> {
    let asked: u64 = reports.iter().map(|r| r.tenths[n].asked).sum();
    let waits = reports.iter().flat_map(|r| &r.tenths[n].waits);
    cumulated(waits, asked)
}

/// From counts by blocks: the part of `all` up to each.
fn cumulated<'r>(waits: impl Iterator<Item = (&'r u64, &'r u64)>, all: u64) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<u64, u64> = BTreeMap::new();
    for (blocks, count) in waits {
        *sums.entry(*blocks).or_default() += count;
    }
    let mut passed = 0;
    sums.into_iter()
        .map(|(blocks, count)| {
            passed += count;
            (blocks as f64, passed as f64 / all.max(1) as f64)
        })
        .collect()
}

/// The part of the included that waited at most so many blocks.
pub(in crate::commands::sim) fn waits(reports: &[Report]) -> Vec<(f64, f64)> {
    let all = reports.iter().flat_map(|r| r.waits.values()).sum();
    cumulated(reports.iter().flat_map(|r| &r.waits), all)
}

/// The part of the transactions of each width that got into a block.
pub(in crate::commands::sim) fn by_width(reports: &[Report]) -> Vec<(f64, f64)> {
    let mut sums: BTreeMap<usize, (u64, u64)> = BTreeMap::new();
    for (width, share) in reports.iter().flat_map(|r| &r.by_width) {
        let sum = sums.entry(*width).or_default();
        *sum = (sum.0 + share.asked, sum.1 + share.included);
    }
    sums.into_iter()
        .map(|(width, (asked, included))| (width as f64, included as f64 / asked.max(1) as f64))
        .collect()
}

/// What the scheduler certified after each block, in the mean.
pub(super) fn certified(line: &str, reports: &[Report]) -> Lines {
    let blocks = reports.iter().map(|r| r.certified.len()).min().unwrap_or(0);
    let at = |n: usize| {
        let sum: u64 = reports.iter().map(|r| r.certified[n]).sum();
        sum as f64 / 100_000.0 / reports.len().max(1) as f64
    };
    let points = (0..blocks).map(|n| (n as f64 + 1.0, at(n))).collect();
    Lines::from([(line.to_owned(), points)])
}

/// The block after which half of the included are in, beyond the first.
pub(super) fn median_wait(reports: &[Report]) -> f64 {
    let waits = waits(reports);
    let half = waits.iter().find(|point| point.1 >= 0.5);
    half.map_or(f64::NAN, |point| point.0)
}
