//! `penstock sim overload`: tables of revenue, waste and promises, and a report with plots.

use super::html;
use crate::cli::SimOverloadArgs;
use eyre::WrapErr;
use parking_lot::Mutex;
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Report, Workload, run as simulate, table};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Blocks and loads (in percent) of a short look.
const SHORT: (u64, [u64; 2]) = (8, [100, 200]);

/// Loads that are simulated, in percent: below a tenth nothing waits, above a hundred times the pool is full.
const LOADS: std::ops::RangeInclusive<f64> = 0.1..=100.0;

/// One kind of run, over its seeds.
pub(super) type Runs = BTreeMap<(Workload, u64, Policy), Vec<Report>>;

/// Simulates overload.
///
/// # Errors
/// An unknown workload or policy, a rule of a machine that is broken, a report that can't be written.
pub(super) fn run(args: &SimOverloadArgs) -> eyre::Result<()> {
    let start = Instant::now();
    let configs = configs(args)?;
    println!("{}", table(None));
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads.min(configs.len()) {
            scope.spawn(|| {
                while let Some(config) = configs.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let result = simulate(config);
                    if let Ok(report) = &result {
                        println!("{}", table(Some((config, report))));
                    }
                    done.lock().push((*config, result));
                }
            });
        }
    });
    let mut runs = Runs::new();
    let mut done = done.into_inner();
    done.sort_by_key(|(config, _)| config.seed);
    for (config, result) in done {
        let report = result.map_err(|broken| eyre::eyre!("{config:?}: {broken}"))?;
        runs.entry((config.workload, config.load_percent, config.policy))
            .or_default()
            .push(report);
    }
    println!("\n{}", summary(&runs));
    if let Some(file) = &args.html {
        let page = html::page(&runs)?;
        std::fs::write(file, page).wrap_err_with(|| format!("--html {}", file.display()))?;
        println!("report: {}", file.display());
    }
    println!("{:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

fn configs(args: &SimOverloadArgs) -> eyre::Result<Vec<Config>> {
    let workloads = match &args.workload {
        None => Workload::ALL.to_vec(),
        Some(names) => named("workload", names, &Workload::ALL)?,
    };
    let policies = named("policy", &args.policy, &Policy::ALL)?;
    let mut loads = Vec::new();
    for load in &args.load {
        eyre::ensure!(
            LOADS.contains(load),
            "--load {load}: not between {} and {}",
            LOADS.start(),
            LOADS.end()
        );
        loads.push((load * 100.0).round() as u64);
    }
    let mut blocks = args.blocks.max(1);
    if args.short {
        (blocks, loads) = (SHORT.0, SHORT.1.to_vec());
    }
    eyre::ensure!(
        args.shards > 2 || !workloads.contains(&Workload::W10),
        "--shards {}: in W10 the third one dies",
        args.shards
    );
    let mut configs = Vec::new();
    for &workload in &workloads {
        for &load in &loads {
            for &policy in &policies {
                for seed in args.seed..args.seed.saturating_add(args.seeds) {
                    let mut config = Config::new(workload, policy, load, seed);
                    config.blocks = blocks;
                    config.shards = args.shards;
                    if let Some(stragglers) = args.stragglers {
                        config.stragglers_in_million = stragglers;
                    }
                    configs.push(config);
                }
            }
        }
    }
    Ok(configs)
}

/// Those with these names, whatever their case.
fn named<T: Copy + std::fmt::Debug>(
    option: &str,
    names: &[String],
    all: &[T],
) -> eyre::Result<Vec<T>> {
    let same = |one: &T, name: &str| format!("{one:?}").eq_ignore_ascii_case(name);
    names
        .iter()
        .map(|name| {
            all.iter()
                .copied()
                .find(|one| same(one, name))
                .ok_or_else(|| {
                    let known: Vec<String> = all.iter().map(|one| format!("{one:?}")).collect();
                    eyre::eyre!("--{option} {name}: unknown; there are {}", known.join(", "))
                })
        })
        .collect()
}

/// The mean of a figure over runs.
pub(super) fn mean(runs: &[Report], figure: impl Fn(&Report) -> u64) -> f64 {
    let sum: u64 = runs.iter().map(figure).sum();
    sum as f64 / 100_000.0 / runs.len().max(1) as f64
}

/// Per workload and load: ours, and how it compares.
pub(super) fn summary(runs: &Runs) -> String {
    let mut text = String::from(
        "workload   load  revenue/bound  tips, no waste   over tip over queue  over fifo   useful  waste+stale  broken promises  late tickets",
    );
    for ((workload, load, policy), ours) in runs {
        if *policy != Policy::Value {
            continue;
        }
        let revenue = mean(ours, Report::revenue_share);
        let over = |policy| {
            runs.get(&(*workload, *load, policy)).map_or_else(
                || "-".into(),
                |other| {
                    format!(
                        "{:.2}x",
                        revenue / mean(other, Report::revenue_share).max(1e-9)
                    )
                },
            )
        };
        let lost = mean(ours, |r| r.of_capacity(r.wasted + r.stale));
        let late: u64 = ours.iter().map(|r| r.figures.late).sum();
        let tickets: u64 = ours.iter().map(|r| r.figures.tickets).sum();
        text.push_str(&format!(
            "\n{:<8} {:>5.1}x {:>14.4} {:>15.4} {:>10} {:>10} {:>10} {:>8.4} {:>11.2}% {:>15.3}% {:>8} of {}",
            format!("{workload:?}"),
            *load as f64 / 100.0,
            revenue,
            mean(ours, Report::tips_share),
            over(Policy::Tip),
            over(Policy::Queue),
            over(Policy::Fifo),
            mean(ours, |r| r.of_capacity(r.useful)),
            lost * 100.0,
            mean(ours, Report::broken_share) * 100.0,
            late,
            tickets,
        ));
    }
    text
}
