//! `penstock sim`: the machines in virtual time.

mod fees;
mod html;
mod overload;

use crate::cli::{SimChainArgs, SimCommand};
use penstock_sim::chain::{Class, Config, Report, run as run_chain, shrink};
use std::collections::BTreeSet;
use std::time::Instant;

/// Simulates.
///
/// # Errors
/// Where an invariant is broken: the smallest run found that shows it, with what happened last.
pub fn run(command: SimCommand) -> eyre::Result<()> {
    match command {
        SimCommand::Chain(args) => chain(&args),
        SimCommand::Overload(args) => overload::run(&args),
        SimCommand::Fees(args) => fees::run(&args),
    }
}

fn chain(args: &SimChainArgs) -> eyre::Result<()> {
    let faults = args.faults.as_deref().map(faults).transpose()?;
    let start = Instant::now();
    println!("   seed  blocks  transactions  inferences   skipped    events  virtual");
    let mut all = Report::default();
    for seed in args.seed..args.seed.saturating_add(args.seeds) {
        let mut config = Config::new(seed, args.blocks);
        config.trace_lines = args.trace;
        config.transactions = args.transactions.unwrap_or(config.transactions);
        if let Some(faults) = &faults {
            config.faults.clone_from(faults);
        }
        match run_chain(&config) {
            Ok(report) => {
                println!("{seed:>7} {}", row(&report));
                all = all.and(&report);
            }
            Err(failure) => {
                eprintln!("{failure}");
                eprintln!("shrinking...");
                eyre::bail!(
                    "the smallest run found that shows it:\n{}",
                    shrink(*failure)
                );
            }
        }
    }
    println!("    all {}", row(&all));
    println!(
        "every invariant held; {:.1} s",
        start.elapsed().as_secs_f64()
    );
    Ok(())
}

fn row(report: &Report) -> String {
    format!(
        "{:>7} {:>13} {:>11} {:>9} {:>9} {:>6} s",
        report.blocks,
        report.transactions,
        report.inferences,
        report.skipped,
        report.events,
        report.span.as_secs(),
    )
}

/// Kinds of faults by their names.
fn faults(names: &[String]) -> eyre::Result<BTreeSet<Class>> {
    let names = names.iter().filter(|name| *name != "none");
    names
        .map(|name| {
            let mut all = Class::ALL.into_iter();
            all.find(|class| class.name() == name).ok_or_else(|| {
                let known = Class::ALL.map(Class::name).join(", ");
                eyre::eyre!("--faults {name}: unknown; there are {known}")
            })
        })
        .collect()
}
