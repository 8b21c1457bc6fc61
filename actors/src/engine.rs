//! Models on an executor, as shards and whoever computes their answers again run them.

use penstock_rules::ids::ModelHash;
use penstock_rules::request::{ModelError, Outcome};
use penstock_rules::tensor;
use penstock_shaders::{Executor, Limits, Model};

/// Makes a model ready to run.
///
/// # Errors
/// Where the file is none, is not the one that was asked for, or the executor can't hold it.
pub(crate) fn load(
    executor: &mut dyn Executor,
    hash: ModelHash,
    bytes: &[u8],
) -> Result<(), String> {
    let model = Model::load(bytes, &Limits::default()).map_err(|e| e.to_string())?;
    if model.hash() != hash {
        return Err(format!("its content is {}", model.hash()));
    }
    executor.prepare(&model).map_err(|e| e.to_string())
}

/// One outcome per input. Bytes that are no tensors are an outcome too, the same everywhere.
///
/// # Errors
/// Where the executor failed, which says nothing of the inputs.
pub(crate) fn run<'a>(
    executor: &mut dyn Executor,
    model: ModelHash,
    inputs: impl Iterator<Item = &'a [u8]>,
) -> Result<Vec<Outcome>, String> {
    let decoded: Vec<_> = inputs.map(|input| tensor::decode(input).ok()).collect();
    let inputs: Vec<_> = decoded.iter().flatten().cloned().collect();
    let mut outcomes = executor
        .run(&model, &inputs)
        .map_err(|e| e.to_string())?
        .into_iter();
    decoded
        .iter()
        .map(|input| match input {
            None => Ok(Outcome::Failed(ModelError::WrongInput)),
            Some(_) => outcomes
                .next()
                .ok_or_else(|| "fewer outcomes than requests".to_owned()),
        })
        .collect()
}
