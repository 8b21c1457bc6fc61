//! `penstock model bench`: how long a model takes.

use super::explore::UNVERIFIED;
use crate::cli::RunBackend;
use eyre::{WrapErr, bail};
use penstock_rules::request::Outcome;
use penstock_shaders::bench::{StepTime, Timing, measure};
use penstock_shaders::{Model, fast};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// How results are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// One JSON object per line.
    Json,
}

/// Times a model, of this id.
///
/// # Errors
/// Names the backend, and what is wrong; backends whose bits differ are an error, in the mode `fast` those whose answers are
/// far apart.
pub fn run(
    (cid, model): (&str, &Arc<Model>),
    backend: RunBackend,
    batch: &[u32],
    budget: Duration,
    format: Format,
) -> eyre::Result<()> {
    let mode = model.mode();
    if !mode.is_exact() && format == Format::Table {
        println!("{UNVERIFIED}");
    }
    let fixed = model
        .signature()
        .inputs
        .iter()
        .all(|port| port.shape.first() != Some(&0));
    let batch = if fixed { &[1][..] } else { batch };
    let mut outcomes: BTreeMap<u32, Outcome> = BTreeMap::new();
    for mut executor in super::model::executors(backend)? {
        let name = executor.name();
        executor
            .prepare(model)
            .wrap_err_with(|| format!("{name} can't hold the model"))?;
        for &rows in batch {
            let timing = measure(&mut *executor, model, rows, budget)
                .wrap_err_with(|| format!("{name} failed"))?;
            match format {
                Format::Table => table(&name, &timing),
                Format::Json => json(cid, mode.name(), &name, &timing),
            }
            let first = outcomes
                .entry(rows)
                .or_insert_with(|| timing.outcome.clone());
            if mode.is_exact() && *first != timing.outcome {
                bail!("backends differ at {rows} rows");
            }
            if let Err(why) = fast::distance(first, &timing.outcome) {
                bail!("backends differ at {rows} rows: {why}");
            }
        }
    }
    Ok(())
}

/// Steps by kernel: how many, and their time together.
fn by_kernel(steps: &[StepTime]) -> BTreeMap<&'static str, (usize, Duration)> {
    let mut kernels: BTreeMap<&'static str, (usize, Duration)> = BTreeMap::new();
    for step in steps {
        let (count, time) = kernels.entry(step.kernel).or_default();
        *count += 1;
        *time += step.time;
    }
    kernels
}

fn micros(time: Duration) -> f64 {
    time.as_secs_f64() * 1e6
}

fn table(name: &str, timing: &Timing) {
    println!(
        "{name}: {} rows, {:.1} us (least {:.1} us of {} runs)",
        timing.rows,
        micros(timing.median),
        micros(timing.least),
        timing.runs
    );
    for (kernel, (count, time)) in by_kernel(&timing.steps) {
        println!("  {kernel:<10} {count:>4} steps {:>12.1} us", micros(time));
    }
}

fn json(cid: &str, mode: &str, name: &str, timing: &Timing) {
    let kernels: serde_json::Map<_, _> = by_kernel(&timing.steps)
        .into_iter()
        .map(|(kernel, (_, time))| (kernel.to_owned(), (time.as_nanos() as u64).into()))
        .collect();
    let line = serde_json::json!({
        "model": cid,
        "mode": mode,
        "backend": name,
        "rows": timing.rows,
        "runs": timing.runs,
        "least_ns": timing.least.as_nanos() as u64,
        "median_ns": timing.median.as_nanos() as u64,
        "kernels_ns": kernels,
    });
    println!("{line}");
}
