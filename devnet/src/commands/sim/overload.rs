//! `penstock sim overload`: tables of revenue, waste and promises, and a report with plots.
//!
//! ```text
//!  workloads x loads x policies --\
//!                                  runs (each once, on all cores) --> tables, targets, plots
//!  experiments -------------------/
//! ```

mod curves;
mod experiments;
mod plans;
mod targets;

pub(super) use curves::{by_width, waits};
pub(super) use experiments::Lines;
pub(super) use plans::Planned;

use super::{fees, html};
use crate::cli::SimOverloadArgs;
use experiments::Experiment;
use eyre::WrapErr;
use parking_lot::Mutex;
use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Report, Workload, run as simulate, table};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

/// Blocks and loads (in percent) of a short look.
const SHORT: (u64, [u64; 2]) = (8, [100, 200]);

/// Loads that are simulated, in percent: below a tenth nothing waits, above a hundred times the pool is full.
const LOADS: std::ops::RangeInclusive<f64> = 0.1..=100.0;

/// One kind of run, over its seeds.
pub(super) type Runs = BTreeMap<(Workload, u64, Policy), Vec<Report>>;

/// All runs: by their configuration, with the first seed.
pub(super) struct Results {
    first_seed: u64,
    runs: BTreeMap<Config, Vec<Report>>,
}

impl Results {
    /// Runs each once, on all cores, and prints a line for each as it ends.
    fn run(kinds: &BTreeSet<Config>, seeds: u64) -> eyre::Result<Self> {
        let first_seed = kinds.first().map_or(0, |config| config.seed);
        let each = kinds.iter().flat_map(|&kind| {
            let seeds = kind.seed..kind.seed + seeds;
            seeds.map(move |seed| Config { seed, ..kind })
        });
        let configs: Vec<Config> = each.collect();
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
        let mut runs: BTreeMap<Config, Vec<Report>> = BTreeMap::new();
        let mut done = done.into_inner();
        done.sort_by_key(|(config, _)| config.seed);
        for (config, result) in done {
            let report = result.map_err(|broken| eyre::eyre!("{config:?}: {broken}"))?;
            let kind = Config {
                seed: first_seed,
                ..config
            };
            runs.entry(kind).or_default().push(report);
        }
        Ok(Self { first_seed, runs })
    }

    /// No run.
    #[cfg(test)]
    pub(super) const fn none() -> Self {
        Self {
            first_seed: 0,
            runs: BTreeMap::new(),
        }
    }

    /// Those of one kind, whatever its seed; none where there are none.
    fn find(&self, config: &Config) -> Option<&[Report]> {
        let kind = Config {
            seed: self.first_seed,
            ..*config
        };
        self.runs.get(&kind).map(Vec::as_slice)
    }

    /// The same where there must be some.
    fn of(&self, config: &Config) -> &[Report] {
        self.find(config).unwrap_or(&[])
    }
}

/// What experiments came to.
pub(super) struct Studied {
    pub(super) experiments: Vec<Experiment>,
    pub(super) steps: Vec<fees::Step>,
    pub(super) plans: Vec<Planned>,
    tables: String,
    targets: String,
}

/// Steps of demand that are shown, in multiples of a block's capacity.
const STEPS: [f64; 4] = [2.0, 5.0, 10.0, 30.0];

impl Studied {
    /// All experiments, by themselves.
    #[cfg(test)]
    pub(super) fn all(base: &Config, short: bool, seeds: u64) -> eyre::Result<(Self, Results)> {
        let experiments = experiments::all(base, short);
        let kinds = experiments.iter().flat_map(Experiment::configs).collect();
        let results = Results::run(&kinds, seeds)?;
        let studied = Self::new(base, experiments, &results, short);
        Ok((studied, results))
    }

    fn new(base: &Config, experiments: Vec<Experiment>, results: &Results, short: bool) -> Self {
        let steps = STEPS.map(|times| fees::step(times, base.seed)).to_vec();
        let plans = plans::measure(short);
        let tables = experiments.iter().map(|one| one.tables(results)).collect();
        let targets = targets::table(base, results, &steps, &plans);
        Self {
            experiments,
            steps,
            plans,
            tables,
            targets,
        }
    }

    /// Tables of the experiments, and what was wanted.
    pub(super) fn text(&self) -> String {
        let mut text = self.tables.clone();
        text.push_str("\nfull plans on this machine, median and slowest\n");
        for plan in &self.plans {
            text.push_str(&format!(
                "{:>9} pending on {:>2} shards {:>9.1?} {:>9.1?}\n",
                plan.pending, plan.shards, plan.median, plan.most
            ));
        }
        text.push('\n');
        text.push_str(&fees::table(&self.steps));
        text.push('\n');
        text.push_str(&self.targets);
        text
    }
}

/// Simulates overload.
///
/// # Errors
/// An unknown workload or policy, a rule of a machine that is broken, a report that can't be written.
pub(super) fn run(args: &SimOverloadArgs) -> eyre::Result<()> {
    let start = Instant::now();
    let configs = configs(args)?;
    // What can't be written is said before minutes of simulation, not after.
    let open =
        |path: &PathBuf| File::create(path).wrap_err_with(|| format!("--html {}", path.display()));
    let report = args.html.as_ref().map(open).transpose()?;
    let base = Config {
        blocks: configs.first().map_or(args.blocks, |config| config.blocks),
        shards: args.shards,
        ..Config::new(Workload::W1, Policy::Value, 200, args.seed)
    };
    // Where all is asked for, single things are varied too.
    let experiments = match args.workload {
        None => experiments::all(&base, args.short),
        Some(_) => Vec::new(),
    };
    let more = experiments.iter().flat_map(Experiment::configs);
    let kinds: BTreeSet<Config> = configs.iter().copied().chain(more).collect();
    let results = Results::run(&kinds, args.seeds)?;
    let mut runs = Runs::new();
    for config in &configs {
        let kind = (config.workload, config.load_percent, config.policy);
        runs.insert(kind, results.of(config).to_vec());
    }
    println!("\n{}", summary(&runs));
    let studied =
        (!experiments.is_empty()).then(|| Studied::new(&base, experiments, &results, args.short));
    if let Some(studied) = &studied {
        println!("{}", studied.text());
    }
    if let Some((path, mut file)) = args.html.as_ref().zip(report) {
        let page = html::page(&runs, studied.as_ref(), &results)?;
        let written = file.write_all(page.as_bytes());
        written.wrap_err_with(|| format!("--html {}", path.display()))?;
        println!("report: {}", path.display());
    }
    println!("{:.1} s", start.elapsed().as_secs_f64());
    Ok(())
}

/// The runs of all workloads, loads and policies that are asked for, each with the first seed.
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
        args.seed.checked_add(args.seeds).is_some(),
        "--seed {} --seeds {}: beyond the greatest seed",
        args.seed,
        args.seeds
    );
    eyre::ensure!(
        args.shards > 2 || !workloads.contains(&Workload::W10),
        "--shards {}: in W10 the third one dies",
        args.shards
    );
    let mut configs = Vec::new();
    for &workload in &workloads {
        for &load in &loads {
            for &policy in &policies {
                let mut config = Config::new(workload, policy, load, args.seed);
                config.blocks = blocks;
                config.shards = args.shards;
                if let Some(stragglers) = args.stragglers {
                    config.stragglers_in_million = stragglers;
                }
                configs.push(config);
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
