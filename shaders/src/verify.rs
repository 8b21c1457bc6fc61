//! ONNX's own test cases: a model, inputs and expected outputs, each a protobuf file.

use crate::batch::Executor;
use crate::error::LoadError;
use crate::graph::Constant;
use crate::limits::Limits;
use crate::model::Model;
use crate::onnx::{narrow_into, proto::TensorProto, read_tensor};
use penstock_rules::request::Outcome;
use penstock_rules::tensor::{Tensor, decode};
use prost::Message;

/// How far an output may be from the expected one: `|a - b| <= absolute + relative * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Per magnitude.
    pub relative: f64,
    /// Beside it.
    pub absolute: f64,
}

impl Default for Tolerance {
    /// The ONNX suite's own.
    fn default() -> Self {
        Self {
            relative: 1e-3,
            absolute: 1e-7,
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs are as expected, and every backend gave the same bits. Holds the outcome's hash.
    Passed(alloy_primitives::B256),
    /// An output differs, or backends differ, or one gave no answer.
    Failed(String),
    /// The engine does not take the case, for this reason.
    Skipped(String),
}

/// Runs a case on every executor.
pub fn case(
    model: &[u8],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
    limits: &Limits,
    tolerance: Tolerance,
    executors: &mut [Box<dyn Executor>],
) -> Verdict {
    match run(model, inputs, outputs, limits, tolerance, executors) {
        Ok(verdict) | Err(verdict) => verdict,
    }
}

fn read(bytes: &[u8], limits: &Limits) -> Result<Constant, Verdict> {
    let skip = |e: String| Verdict::Skipped(e);
    let proto = TensorProto::decode(bytes).map_err(|e| skip(format!("no tensor: {e}")))?;
    read_tensor(&proto, limits).map_err(|e| skip(e.to_string()))
}

fn run(
    model: &[u8],
    inputs: &[Vec<u8>],
    outputs: &[Vec<u8>],
    limits: &Limits,
    tolerance: Tolerance,
    executors: &mut [Box<dyn Executor>],
) -> Result<Verdict, Verdict> {
    let model = Model::load(model, limits).map_err(|e| {
        Verdict::Skipped(match e {
            LoadError::Unsupported { op, reason, .. } => format!("{op}: {reason}"),
            LoadError::Invalid { op, reason, .. } => format!("{op} is invalid: {reason}"),
            other => other.to_string(),
        })
    })?;
    let ports = &model.signature().inputs;
    if ports.len() != inputs.len() {
        return Ok(Verdict::Skipped("inputs are left out".into()));
    }
    let mut tensors = Vec::new();
    for (port, bytes) in ports.iter().zip(inputs) {
        let constant = read(bytes, limits)?;
        let mut data = Vec::new();
        narrow_into(constant.element, &constant.words, &mut data);
        tensors.push(Tensor {
            name: port.name.clone(),
            element: constant.element,
            shape: constant.dims.clone(),
            data: data.into(),
        });
    }
    let expected = outputs
        .iter()
        .map(|bytes| read(bytes, limits))
        .collect::<Result<Vec<_>, _>>()?;
    let not_finite = expected
        .iter()
        .filter_map(Constant::floats)
        .flatten()
        .any(|x| !x.is_finite());
    if not_finite {
        return Ok(Verdict::Skipped("an expected output is not finite".into()));
    }
    let mut first: Option<Outcome> = None;
    for executor in executors {
        let name = executor.name();
        let failed = |what: String| Verdict::Failed(format!("{name}: {what}"));
        executor
            .prepare(&model)
            .map_err(|e| failed(e.to_string()))?;
        let outcome = executor
            .run(&model.hash(), std::slice::from_ref(&tensors))
            .map_err(|e| failed(e.to_string()))?
            .pop()
            .ok_or_else(|| failed("no outcome".into()))?;
        match &first {
            None => {
                let Outcome::Output(bytes) = &outcome else {
                    return Ok(failed(format!("{outcome:?}")));
                };
                compare(bytes, &expected, tolerance).map_err(failed)?;
                first = Some(outcome);
            }
            Some(first) if *first != outcome => {
                return Ok(failed("other bits than the first backend".into()));
            }
            Some(_) => {}
        }
    }
    Ok(first.map_or_else(
        || Verdict::Skipped("no backend".into()),
        |outcome| Verdict::Passed(outcome.hash()),
    ))
}

fn compare(bytes: &[u8], expected: &[Constant], tolerance: Tolerance) -> Result<(), String> {
    let found = decode(bytes).map_err(|e| e.to_string())?;
    if found.len() < expected.len() {
        return Err(format!("{} outputs for {}", found.len(), expected.len()));
    }
    for (tensor, constant) in found.iter().zip(expected) {
        let name = &tensor.name;
        if tensor.shape != constant.dims {
            return Err(format!(
                "{name}: shape {:?} for {:?}",
                tensor.shape, constant.dims
            ));
        }
        if tensor.element != constant.element {
            return Err(format!(
                "{name}: type {:?} for {:?}",
                tensor.element, constant.element
            ));
        }
        let words = crate::onnx::widen(tensor.element, &tensor.data);
        let Some(floats) = constant.floats() else {
            if words != constant.words {
                return Err(format!("{name}: other integers"));
            }
            continue;
        };
        for (i, (word, want)) in words.iter().zip(floats).enumerate() {
            let (have, want) = (f64::from(f32::from_bits(*word)), f64::from(want));
            if (have - want).abs() > tolerance.absolute + tolerance.relative * want.abs() {
                return Err(format!("{name}[{i}]: {have} for {want}"));
            }
        }
    }
    Ok(())
}
