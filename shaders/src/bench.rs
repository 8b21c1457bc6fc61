//! How long a model takes on a backend: whole runs, and the steps of one.

use crate::batch::Executor;
use crate::error::EngineError;
use crate::model::Model;
use penstock_rules::model::Port;
use penstock_rules::request::Outcome;
use penstock_rules::tensor::{ElementType, Tensor};
use std::time::{Duration, Instant};

/// Runs before the clock starts: caches, pipelines and the processor's clock are warm then.
const WARM_RUNS: usize = 3;

/// Most runs that are timed: more say nothing new.
const RUNS_MAX: usize = 10_000;

/// How long one step of a plan took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StepTime {
    /// The kernel that ran it.
    pub kernel: &'static str,
    /// What it took.
    pub time: Duration,
}

/// How long runs took.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Rows of a run.
    pub rows: u32,
    /// Runs that were timed.
    pub runs: usize,
    /// The fastest.
    pub least: Duration,
    /// The middle one.
    pub median: Duration,
    /// Steps of one more run, where the backend can tell.
    pub steps: Vec<StepTime>,
    /// What came out.
    pub outcome: Outcome,
}

/// Times runs of `model`, which `executor` has prepared, on one request of `rows` rows, for about `budget`.
///
/// # Errors
/// Where the backend fails.
pub fn measure(
    executor: &mut dyn Executor,
    model: &Model,
    rows: u32,
    budget: Duration,
) -> Result<Timing, EngineError> {
    let input = inputs(&model.signature().inputs, rows);
    let mut run = || {
        let start = Instant::now();
        let outcomes = executor.run(&model.hash(), std::slice::from_ref(&input))?;
        Ok((start.elapsed(), outcomes))
    };
    let mut outcome = None;
    for _ in 0..WARM_RUNS {
        outcome = run()?.1.pop();
    }
    let start = Instant::now();
    let mut times = Vec::new();
    while times.is_empty() || (start.elapsed() < budget && times.len() < RUNS_MAX) {
        times.push(run()?.0);
    }
    times.sort_unstable();
    Ok(Timing {
        rows,
        runs: times.len(),
        least: times[0],
        median: times[times.len() / 2],
        steps: executor.profile(&model.hash(), &input)?,
        outcome: outcome.ok_or_else(|| EngineError::Device("no outcome".into()))?,
    })
}

/// Tensors for the ports: floats between -1 and 1 that look random, integers 0 and 1. Dimensions that the caller chooses are
/// `rows` where they come first, and 1 else.
fn inputs(ports: &[Port], rows: u32) -> Vec<Tensor> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut next = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    ports
        .iter()
        .map(|port| {
            let shape: Vec<u32> = port
                .shape
                .iter()
                .enumerate()
                .map(|(axis, &d)| match d {
                    0 if axis == 0 => rows,
                    d => d.max(1),
                })
                .collect();
            let count: usize = shape.iter().map(|&d| d as usize).product();
            let mut data = Vec::new();
            for _ in 0..count {
                let bits = next();
                match port.element {
                    ElementType::F32 => {
                        let value = (bits >> 40) as f32 / (1u32 << 23) as f32 - 1.0;
                        data.extend(value.to_le_bytes());
                    }
                    ElementType::F64 => {
                        let value = (bits >> 40) as f64 / f64::from(1u32 << 23) - 1.0;
                        data.extend(value.to_le_bytes());
                    }
                    element => {
                        let size = element.size().unwrap_or(0);
                        data.extend(((bits >> 63).to_le_bytes()).iter().take(size));
                    }
                }
            }
            Tensor {
                name: port.name.clone(),
                element: port.element,
                shape,
                data: data.into(),
            }
        })
        .collect()
}
