//! `penstock model run --mode fast`: a model in native floats, beside the exact answer.

use super::model::print_outcome;
use crate::models::LoadedModel;
use eyre::{WrapErr, bail, eyre};
use penstock_rules::request::Outcome;
use penstock_rules::tensor::Tensor;
use penstock_shaders::{Executor, Limits, Model, cpu, fast};
use std::sync::Arc;

/// What is said of every answer in this mode.
pub(super) const UNVERIFIED: &str =
    "mode      fast: native floats, unverified; no devnet gives such answers";

/// One request's outcome on an executor.
pub(super) fn outcome(
    executor: &mut dyn Executor,
    model: &Arc<Model>,
    tensors: &[Tensor],
) -> eyre::Result<Outcome> {
    let name = executor.name();
    executor
        .prepare(model)
        .wrap_err_with(|| format!("{name} can't hold the model"))?;
    let mut outcomes = executor
        .run(&model.hash(), &[tensors.to_vec()])
        .wrap_err_with(|| format!("{name} failed"))?;
    outcomes
        .pop()
        .ok_or_else(|| eyre!("{name} gave no outcome"))
}

/// Runs one request in native floats on each of `executors`, and says how far each is from the exact answer.
///
/// # Errors
/// Where an executor fails, or is further from the exact answer than [`fast::NEAR`].
pub(super) fn run(
    loaded: &LoadedModel,
    tensors: &[Tensor],
    executors: Vec<Box<dyn Executor>>,
) -> eyre::Result<()> {
    println!("{UNVERIFIED}");
    let model = Model::load_fast(&loaded.bytes, &Limits::default())?;
    let exact = outcome(&mut *cpu(), &loaded.model, tensors)?;
    let mut far = Vec::new();
    for (number, mut executor) in executors.into_iter().enumerate() {
        let name = executor.name();
        let found = outcome(&mut *executor, &model, tensors)?;
        if number == 0 {
            print_outcome(&found)?;
        }
        match fast::distance(&exact, &found) {
            Ok(most) => println!(
                "distance  {most:.1e} at most from {} ({name})",
                loaded.model.mode().name()
            ),
            Err(why) => far.push(format!("{name}: {why}")),
        }
    }
    if !far.is_empty() {
        bail!("far from the exact answer: {}", far.join("; "));
    }
    Ok(())
}
