//! What is wanted of the policy, and what these runs came to.

use super::curves::median_wait;
use super::experiments::{STRAGGLERS, lost, useful};
use super::plans::Planned;
use super::{Results, mean};
use crate::commands::sim::fees;
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Delivery, Report, Workload};
use std::fmt::Write;

/// A line of the table.
struct Line {
    wanted: String,
    /// None where these runs do not say.
    found: Option<(String, bool)>,
}

/// Loads up to which ours is looked at, in percent.
const LOADS: [u64; 7] = [50, 100, 150, 200, 500, 1_000, 2_000];

/// The table, as far as there are runs.
pub(super) fn table(
    base: &Config,
    results: &Results,
    steps: &[fees::Step],
    plans: &[Planned],
) -> String {
    let mut lines = Vec::new();
    let at = |load_percent| Config {
        load_percent,
        ..*base
    };
    let runs = |config: Config| results.find(&config);
    let revenue = |config: Config| Some(mean(runs(config)?, Report::revenue_share));
    for (load, wanted) in [(200, 0.95), (1_000, 0.92)] {
        let found = revenue(at(load));
        lines.push(Line {
            wanted: format!("revenue at {}x at least {wanted} of the bound", load / 100),
            found: found.map(|share| (format!("{share:.4}"), share >= wanted)),
        });
    }
    for (policy, name, load, wanted) in [
        (Policy::Queue, "a queue of tips", 200, 1.4),
        (Policy::Queue, "a queue of tips", 1_000, 1.6),
        (Policy::Fifo, "order of arrival", 1_000, 5.0),
    ] {
        let other = revenue(Config { policy, ..at(load) });
        let found = revenue(at(load))
            .zip(other)
            .map(|(ours, other)| ours / other);
        lines.push(Line {
            wanted: format!("{wanted} times {name} at {}x", load / 100),
            found: found.map(|times| (format!("{times:.2}x"), times >= wanted)),
        });
    }
    let over = |least: u64, figure: fn(&[Report]) -> f64| -> Vec<f64> {
        let loads = LOADS.into_iter().filter(|load| *load >= least);
        loads
            .filter_map(|load| Some(figure(runs(at(load))?)))
            .collect()
    };
    let spread = |figures: &[f64]| {
        let least = figures.iter().copied().fold(f64::INFINITY, f64::min);
        let most = figures.iter().copied().fold(0.0, f64::max);
        (!figures.is_empty()).then_some((least, most))
    };
    lines.push(Line {
        wanted: "useful time at least .98 from 1x to 20x".into(),
        found: spread(&over(100, useful))
            .map(|(least, most)| (format!("{least:.4} to {most:.4}"), least >= 0.98)),
    });
    lines.push(Line {
        wanted: "waste and stale below 1 % from 1.5x on".into(),
        found: spread(&over(150, lost)).map(|(_, most)| {
            let percent = 100.0 * most;
            (format!("at most {percent:.2} %"), most < 0.01)
        }),
    });
    promises(&mut lines, base, results);
    let loads = LOADS.into_iter().filter_map(|load| runs(at(load)));
    let tickets = loads.flatten().map(|r| (r.figures.late, r.figures.tickets));
    let (late, all) = tickets.fold((0, 0), |sum, of| (sum.0 + of.0, sum.1 + of.1));
    lines.push(Line {
        wanted: "no ticket late".into(),
        found: (all > 0).then(|| (format!("{late} of {all}"), late == 0)),
    });
    lines.extend(steps.iter().find(|step| step.times == 10.0).map(step));
    let honest = |share: u32| {
        revenue(Config {
            workload: Workload::W9,
            attackers_in_million: share,
            ..at(200)
        })
    };
    lines.push(Line {
        wanted: "20 % attackers cost the others at most 2 points at 2x".into(),
        found: honest(0).zip(honest(200_000)).map(|(without, with)| {
            let points = 100.0 * (without - with);
            (format!("{points:.1}"), points <= 2.0)
        }),
    });
    for (pending, shards, median, most) in [(100_000, 32, Some(10), 25), (1_000_000, 64, None, 75)]
    {
        let found = plans
            .iter()
            .find(|p| (p.pending, p.shards) == (pending, shards));
        let wanted = median.map_or_else(String::new, |ms| format!("{ms} ms at the median, "));
        lines.push(Line {
            wanted: format!("a plan for {pending} on {shards} shards: {wanted}{most} ms at most"),
            found: found.map(|p| {
                let met =
                    median.is_none_or(|ms| p.median.as_millis() < ms) && p.most.as_millis() < most;
                (format!("{:.1?}, {:.1?}", p.median, p.most), met)
            }),
        });
    }
    for (delivery, wanted) in [(Delivery::Same, 0.0), (Delivery::Oracle, 1.0)] {
        let found = runs(Config {
            delivery,
            ..at(200)
        })
        .map(median_wait);
        let same = delivery == Delivery::Same;
        let name = if same { "ours" } else { "an oracle's" };
        let bound = if same { "none" } else { "at least one" };
        lines.push(Line {
            wanted: format!("extra blocks at 2x, median: {name} {bound}"),
            found: found.map(|blocks| {
                let met = if same {
                    blocks <= wanted
                } else {
                    blocks >= wanted
                };
                (format!("{blocks}"), met)
            }),
        });
    }
    let mut text = format!("{:<64} {:>26}  met", "wanted", "measured");
    for line in lines {
        let (found, met) = line.found.map_or(("not run".into(), "-"), |(found, met)| {
            (found, if met { "yes" } else { "no" })
        });
        // Writing to a string can't fail.
        let _ = write!(text, "\n{:<64} {found:>26}  {met}", line.wanted);
    }
    text
}

/// Promises that may break, without faults and with stragglers, in percent.
fn promises(lines: &mut Vec<Line>, base: &Config, results: &Results) {
    for (name, stragglers_in_million, wanted) in [
        ("without faults", 0, 0.01),
        ("where 2 of 1,000 batches straggle", STRAGGLERS, 0.05),
    ] {
        let percents: Vec<f64> = LOADS
            .into_iter()
            .filter_map(|load_percent| {
                let config = Config {
                    load_percent,
                    stragglers_in_million,
                    ..*base
                };
                Some(100.0 * mean(results.find(&config)?, Report::broken_share))
            })
            .collect();
        let most = percents.iter().copied().fold(0.0, f64::max);
        lines.push(Line {
            wanted: format!("broken promises at most {wanted} %, {name}"),
            found: (!percents.is_empty()).then(|| (format!("at most {most:.4} %"), most <= wanted)),
        });
    }
}

/// How the price takes a step of demand.
fn step(fees: &fees::Step) -> Line {
    let met = fees.cleared.is_some_and(|blocks| blocks <= 45)
        && (0.75..=0.85).contains(&fees.used)
        && fees.variation <= 0.05;
    let cleared = fees.cleared.map_or("never".into(), |n| n.to_string());
    Line {
        wanted: "a step to 10x clears in 45 blocks, .75 to .85 used, 5 % deviation".into(),
        found: Some((
            format!(
                "{cleared}, {:.2}, {:.1} %",
                fees.used,
                100.0 * fees.variation
            ),
            met,
        )),
    }
}
