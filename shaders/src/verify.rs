//! ONNX's own test cases: a model, inputs and expected outputs, each a protobuf file.

use crate::batch::Executor;
use crate::error::LoadError;
use crate::graph::Constant;
use crate::limits::Limits;
use crate::model::Model;
use crate::onnx::proto::{ModelProto, TensorProto};
use crate::onnx::{narrow_into, read_tensor};
use crate::plan::Kind;
use penstock_rules::request::{ModelError, Outcome};
use penstock_rules::tensor::{Tensor, decode};
use prost::Message;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// How far an output may be from the expected one: `|a - b| <= absolute + relative * |b|`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Tolerance {
    /// Per magnitude.
    pub relative: f64,
    /// Beside it.
    pub absolute: f64,
    /// What is asked of the largest value.
    pub arg_max: ArgMax,
}

/// Whether the largest value along the last axis must be the expected one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ArgMax {
    /// It must.
    Kept,
    /// It may be another: outputs of a test may be all equal.
    Any,
}

impl Default for Tolerance {
    /// The ONNX suite's own.
    fn default() -> Self {
        Self {
            relative: 1e-3,
            absolute: 1e-7,
            arg_max: ArgMax::Any,
        }
    }
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Outputs are as expected, and every backend gave the same bits. Holds the outcome's hash.
    Passed(alloy_primitives::B256),
    /// An expected output is not finite, and every backend refused the request for that.
    NotFinite,
    /// An output differs, or backends differ, or one gave no answer.
    Failed(String),
    /// The engine does not take the case, for this reason.
    Skipped(String),
}

/// A case: files as they stand in a folder.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Case {
    /// The model.
    pub model: Vec<u8>,
    /// A `TensorProto` for each input that has no initialiser.
    pub inputs: Vec<Vec<u8>>,
    /// A `TensorProto` for each expected output.
    pub outputs: Vec<Vec<u8>>,
}

impl Case {
    /// The folders below `root`, itself included, that hold a `model.onnx`, by name.
    ///
    /// # Errors
    /// Where a folder cannot be read.
    pub fn folders(root: &Path) -> std::io::Result<Vec<PathBuf>> {
        if root.join("model.onnx").is_file() {
            return Ok(vec![root.to_owned()]);
        }
        let mut found = Vec::new();
        for entry in std::fs::read_dir(root)? {
            let path = entry?.path();
            if path.join("model.onnx").is_file() {
                found.push(path);
            }
        }
        found.sort();
        Ok(found)
    }

    /// Reads `model.onnx`, and `input_*.pb` and `output_*.pb` from `test_data_set_0` or beside it.
    ///
    /// # Errors
    /// Where a file cannot be read.
    pub fn read(folder: &Path) -> std::io::Result<Self> {
        let set = folder.join("test_data_set_0");
        let set = if set.is_dir() { set } else { folder.to_owned() };
        let parts = |prefix: &str| -> std::io::Result<Vec<Vec<u8>>> {
            (0..)
                .map(|i| set.join(format!("{prefix}_{i}.pb")))
                .take_while(|path| path.exists())
                .map(std::fs::read)
                .collect()
        };
        Ok(Self {
            model: std::fs::read(folder.join("model.onnx"))?,
            inputs: parts("input")?,
            outputs: parts("output")?,
        })
    }
}

impl Case {
    /// A case for a model with one input of floats: its elements are `0 / n, 1 / n, …`, as ONNX's runner makes them for
    /// models without inputs. `None` where the model has another signature.
    #[must_use]
    pub fn of_ramp(model: Vec<u8>, output: Vec<u8>, limits: &Limits) -> Option<Self> {
        let loaded = Model::load(&model, limits).ok()?;
        let [port] = &loaded.signature().inputs[..] else {
            return None;
        };
        let count: u32 = port.shape.iter().map(|&d| d.max(1)).product();
        let ramp = |i: u32| (f64::from(i) / f64::from(count)) as f32;
        let input = TensorProto {
            dims: port.shape.iter().map(|&d| i64::from(d.max(1))).collect(),
            data_type: Some(port.element as i32),
            float_data: (0..count).map(ramp).collect(),
            ..TensorProto::default()
        };
        Some(Self {
            model,
            inputs: vec![input.encode_to_vec()],
            outputs: vec![output],
        })
    }

    /// Input `i` as a tensor of this name; `None` where there is none, or none that the engine holds.
    #[must_use]
    pub fn tensor(&self, i: usize, name: &str) -> Option<Tensor> {
        let constant = read(self.inputs.get(i)?, &Limits::default()).ok()?;
        Some(tensor(name, &constant))
    }
}

fn tensor(name: &str, constant: &Constant) -> Tensor {
    let mut data = Vec::new();
    narrow_into(constant.element, &constant.words, &mut data);
    Tensor {
        name: name.to_owned(),
        element: constant.element,
        shape: constant.dims.clone(),
        data: data.into(),
    }
}

/// Runs a case on every executor.
pub fn case(
    case: &Case,
    limits: &Limits,
    tolerance: Tolerance,
    executors: &mut [Box<dyn Executor>],
) -> Verdict {
    let Case {
        model,
        inputs,
        outputs,
    } = case;
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
    let names = names(model)?;
    if names.len() != inputs.len() {
        return Ok(Verdict::Skipped("inputs are left out".into()));
    }
    let inputs = inputs
        .iter()
        .map(|bytes| read(bytes, limits).map(Arc::new))
        .collect::<Result<Vec<_>, _>>()?;
    let model = load(model, &names, &inputs, limits)?;
    let ports = &model.signature().inputs;
    let mut tensors = Vec::new();
    for port in ports {
        let place = names.iter().position(|name| *name == port.name);
        let constant = place
            .and_then(|i| inputs.get(i))
            .ok_or_else(|| Verdict::Failed(format!("input {:?} has no value", port.name)))?;
        if constant.is_empty() {
            return Ok(Verdict::Skipped("an input is empty".into()));
        }
        tensors.push(tensor(&port.name, constant));
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
                match &outcome {
                    Outcome::Output(bytes) => {
                        compare(bytes, &expected, tolerance).map_err(failed)?;
                    }
                    // An answer that is not finite is a failure by definition.
                    Outcome::Failed(ModelError::NotFinite) if not_finite => {}
                    Outcome::Failed(_) => return Ok(failed(format!("{outcome:?}"))),
                }
                first = Some(outcome);
            }
            Some(first) if *first != outcome => {
                return Ok(failed("other bits than the first backend".into()));
            }
            Some(_) => {}
        }
    }
    Ok(match first {
        None => Verdict::Skipped("no backend".into()),
        Some(Outcome::Failed(_)) => Verdict::NotFinite,
        Some(outcome) => Verdict::Passed(outcome.hash()),
    })
}

/// Names of the inputs that have no initialiser.
fn names(model: &[u8]) -> Result<Vec<String>, Verdict> {
    let skip = |reason: &str| Verdict::Skipped(reason.into());
    let proto = ModelProto::decode(model).map_err(|_| skip("no model"))?;
    let graph = proto.graph.ok_or_else(|| skip("no graph"))?;
    let initialised = |name: &str| graph.initializer.iter().any(|t| t.name() == name);
    Ok(graph
        .input
        .iter()
        .map(|info| info.name().to_owned())
        .filter(|name| !initialised(name))
        .collect())
}

/// Loads a case's model. Where shapes depend on the values of inputs (the axes of a reduction, the sizes of a resize),
/// the suite's values of them become constants: first of short integers, then of all short inputs, then of all.
fn load(
    model: &[u8],
    names: &[String],
    inputs: &[Arc<Constant>],
    limits: &Limits,
) -> Result<Arc<Model>, Verdict> {
    let refusal = match Model::load(model, limits) {
        Ok(model) => return Ok(model),
        Err(refusal) => refusal,
    };
    let of_values =
        matches!(&refusal, LoadError::Unsupported { reason, .. } if reason.contains("depend"));
    let short = |c: &Constant| c.dims.len() < 2;
    let choices: [&dyn Fn(&Constant) -> bool; 3] =
        [&|c| short(c) && c.kind != Kind::F32, &short, &|_| true];
    for choice in choices.iter().filter(|_| of_values) {
        let fixed = names
            .iter()
            .zip(inputs)
            .filter(|(_, constant)| choice(constant))
            .map(|(name, constant)| (name.clone(), constant.clone()))
            .collect();
        if let Ok(model) = Model::load_fixed(model, limits, &fixed) {
            return Ok(model);
        }
    }
    Err(Verdict::Skipped(match refusal {
        LoadError::Unsupported { op, reason, .. } => format!("{op}: {reason}"),
        LoadError::Invalid { op, reason, .. } => format!("{op} is invalid: {reason}"),
        other => other.to_string(),
    }))
}

/// Place of the largest value.
fn largest(row: &[f32]) -> Option<usize> {
    (0..row.len()).max_by(|&a, &b| row[a].total_cmp(&row[b]))
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
        let found: Vec<f32> = words.iter().map(|&w| f32::from_bits(w)).collect();
        let last = constant.dims.last().map_or(1, |&d| d as usize).max(1);
        let kept = |(a, b): (&[f32], &[f32])| largest(a) == largest(b);
        if tolerance.arg_max == ArgMax::Kept
            && !found.chunks(last).zip(floats.chunks(last)).all(kept)
        {
            return Err(format!("{name}: another value is the largest"));
        }
        for (i, (word, want)) in words.iter().zip(floats).enumerate() {
            let (have, want) = (f64::from(f32::from_bits(*word)), f64::from(want));
            if (have - want).abs() > tolerance.absolute + tolerance.relative * want.abs() {
                return Err(format!("{name}[{i}]: {have} for {want}"));
            }
        }
    }
    Ok(())
}
