//! Joining requests of one model into one run, and splitting the results.

use crate::bench::StepTime;
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::onnx::{narrow_into, widen_into};
use crate::plan::{Kind, Plan};
use penstock_rules::ids::ModelHash;
use penstock_rules::model::Port;
use penstock_rules::request::{ModelError, Outcome};
use penstock_rules::tensor::{ElementType, Tensor, encode};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Runs models. One outcome per request, in order; no outcome depends on another request.
pub trait Executor: Send {
    /// What it is and where it runs, for logs and people.
    fn name(&self) -> String;
    /// Takes a model in: uploads weights, warms pipelines.
    ///
    /// # Errors
    /// Where this backend cannot hold the model.
    fn prepare(&mut self, model: &Arc<Model>) -> Result<(), PrepareError>;
    /// Answers `inputs`, each the tensors of one request.
    ///
    /// # Errors
    /// Where the backend failed: this says nothing about the requests, which may be tried elsewhere.
    fn run(
        &mut self,
        model: &ModelHash,
        inputs: &[Vec<Tensor>],
    ) -> Result<Vec<Outcome>, EngineError>;
    /// Runs one request, and tells how long each step took; nothing where this cannot be known.
    ///
    /// # Errors
    /// Where the backend failed, or does not take the request.
    fn profile(
        &mut self,
        model: &ModelHash,
        input: &[Tensor],
    ) -> Result<Vec<StepTime>, EngineError> {
        let _ = (model, input);
        Ok(Vec::new())
    }
}

/// What a backend has to do: run a plan.
pub trait Backend: Send {
    /// What it is and where it runs.
    fn name(&self) -> String;
    /// Makes a model's weights resident.
    ///
    /// # Errors
    /// Where this backend cannot hold the model.
    fn load(&mut self, model: &Arc<Model>) -> Result<(), PrepareError>;
    /// Rows that a run of `rows` rows should have: at least as many. Rows of zeros fill it up. A backend to which a new
    /// plan is dear names few sizes.
    fn bucket(&self, rows: u32) -> u32 {
        rows
    }
    /// Runs `plan` of `model`. `inputs` has the words of each of [`Plan::inputs`]; the words of each of
    /// [`Plan::outputs`] are put into `outputs`, whose vectors are cleared first and keep their capacity.
    ///
    /// # Errors
    /// Where the backend failed.
    fn execute(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError>;
    /// As [`Backend::execute`], and tells how long each step took; nothing where this cannot be known.
    ///
    /// # Errors
    /// Where the backend failed.
    fn profile(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<Vec<StepTime>, EngineError>;
}

/// An [`Executor`] over a [`Backend`]: checks inputs, joins requests of one shape along the batch, runs, splits.
pub struct Batcher<B> {
    backend: B,
    models: BTreeMap<ModelHash, Arc<Model>>,
    inputs: Vec<Vec<u32>>,
    outputs: Vec<Vec<u32>>,
}

impl<B: Backend> Batcher<B> {
    /// Batches for `backend`.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            models: BTreeMap::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
        }
    }

    /// Lays the requests' tensors out as the plan reads them.
    fn join_inputs(&mut self, plan: &Plan, requests: &[&[Tensor]]) {
        self.inputs.resize_with(plan.inputs.len(), Vec::new);
        self.outputs.resize_with(plan.outputs.len(), Vec::new);
        for (number, (slot, words)) in plan.inputs.iter().zip(&mut self.inputs).enumerate() {
            words.clear();
            for request in requests {
                let tensor = &request[number];
                widen_into(tensor.element, &tensor.data, words);
            }
            words.resize(slot.len as usize * slot.kind.words() as usize, 0);
        }
    }

    /// Runs requests that share a plan, rows of each after the other; `run` says what each has of the run.
    fn run_joined(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        requests: &[&[Tensor]],
        run: Run<'_>,
    ) -> Result<Vec<Outcome>, EngineError> {
        self.join_inputs(plan, requests);
        self.backend
            .execute(model, plan, &self.inputs, &mut self.outputs)?;
        let ports = &model.signature().outputs;
        let (rows, total) = match run {
            Run::Alone => (&[1][..], 1),
            Run::Shared { rows, total } => (rows, total),
        };
        let mut start = 0;
        Ok(rows
            .iter()
            .map(|&count| {
                let share = Share {
                    start,
                    count,
                    total,
                };
                start += count;
                outcome(ports, plan, &self.outputs, share)
            })
            .collect())
    }
}

/// Whose a run is.
#[derive(Clone, Copy)]
enum Run<'a> {
    /// One request's.
    Alone,
    /// Several requests', with the rows of each; of `total` rows, those beyond are filled up.
    Shared { rows: &'a [u32], total: u32 },
}

/// A request's part of each output: `count` of `total` equal parts.
#[derive(Clone, Copy)]
struct Share {
    start: u32,
    count: u32,
    total: u32,
}

impl Share {
    fn of(self, whole: usize) -> std::ops::Range<usize> {
        let per = whole / self.total as usize;
        self.start as usize * per..(self.start + self.count) as usize * per
    }
}

/// One request's outcome from its part of each output.
fn outcome(ports: &[Port], plan: &Plan, outputs: &[Vec<u32>], share: Share) -> Outcome {
    let mut tensors = Vec::with_capacity(ports.len());
    for (number, port) in ports.iter().enumerate() {
        let words = &outputs[number];
        let words = &words[share.of(words.len())];
        if plan.outputs[number].kind == Kind::F32 && words.iter().any(|&w| not_finite(w)) {
            return Outcome::Failed(ModelError::NotFinite);
        }
        let mut data = Vec::with_capacity(words.len() * 4);
        narrow_into(port.element, words, &mut data);
        let mut shape = plan.output_shapes[number].clone();
        if let Some(first) = shape.first_mut()
            && share.total > 1
        {
            *first = *first / share.total * share.count;
        }
        tensors.push(Tensor {
            name: port.name.clone(),
            element: port.element,
            shape,
            data: data.into(),
        });
    }
    Outcome::Output(encode(&tensors).into())
}

/// Whether a word is an infinity or a NaN.
const fn not_finite(word: u32) -> bool {
    word >> 23 & 0xff == 0xff
}

/// Whether tensors have the names, types and sizes of the ports.
fn fits(ports: &[Port], tensors: &[Tensor]) -> bool {
    ports.len() == tensors.len()
        && ports.iter().zip(tensors).all(|(port, tensor)| {
            let bytes = tensor
                .len()
                .zip(tensor.element.size())
                .and_then(|(n, size)| n.checked_mul(size));
            port.name == tensor.name
                && port.element == tensor.element
                && port.element != ElementType::String
                && bytes == Some(tensor.data.len())
        })
}

impl<B: Backend> Executor for Batcher<B> {
    fn name(&self) -> String {
        self.backend.name()
    }

    fn prepare(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
        self.backend.load(model)?;
        self.models.insert(model.hash(), model.clone());
        Ok(())
    }

    fn run(
        &mut self,
        model: &ModelHash,
        inputs: &[Vec<Tensor>],
    ) -> Result<Vec<Outcome>, EngineError> {
        let model = self
            .models
            .get(model)
            .ok_or(EngineError::NotPrepared(*model))?
            .clone();
        let mut outcomes: Vec<Option<Outcome>> = vec![None; inputs.len()];
        // Requests by the shapes that must be equal to share a run.
        let mut groups: BTreeMap<Vec<Vec<u32>>, Vec<usize>> = BTreeMap::new();
        for (number, tensors) in inputs.iter().enumerate() {
            if !fits(&model.signature().inputs, tensors) {
                outcomes[number] = Some(Outcome::Failed(ModelError::WrongInput));
                continue;
            }
            let shapes: Vec<Vec<u32>> = tensors.iter().map(|t| t.shape.clone()).collect();
            // Whether a request is answered is decided by its own shapes, never by the batch's.
            let plan = match model.plan(&shapes) {
                Ok(plan) => plan,
                Err(error) => {
                    outcomes[number] = Some(Outcome::Failed(error));
                    continue;
                }
            };
            if inputs.len() > 1 && model.batch_max() > 1 && model.joins(&shapes) {
                let tails = shapes.iter().map(|s| s[1..].to_vec()).collect();
                groups.entry(tails).or_default().push(number);
            } else {
                let mut one = self.run_joined(&model, &plan, &[tensors], Run::Alone)?;
                outcomes[number] = one.pop();
            }
        }
        for (tails, members) in groups {
            let rows_of = |number: usize| inputs[number][0].shape[0];
            let mut rest = &members[..];
            while !rest.is_empty() {
                // As many as fit the batch, at least one.
                let mut rows = 0u32;
                let count = rest
                    .iter()
                    .take_while(|&&n| {
                        rows = rows.saturating_add(rows_of(n));
                        rows <= model.batch_max()
                    })
                    .count()
                    .max(1);
                let (now, later) = rest.split_at(count);
                rest = later;
                let rows: Vec<u32> = now.iter().map(|&n| rows_of(n)).collect();
                let total = self.backend.bucket(rows.iter().sum());
                let shapes: Vec<Vec<u32>> =
                    tails.iter().map(|t| [&[total], &t[..]].concat()).collect();
                let requests: Vec<&[Tensor]> = now.iter().map(|&n| &inputs[n][..]).collect();
                if let Ok(plan) = model.plan(&shapes) {
                    let run = Run::Shared { rows: &rows, total };
                    let joined = self.run_joined(&model, &plan, &requests, run)?;
                    for (&number, outcome) in now.iter().zip(joined) {
                        outcomes[number] = Some(outcome);
                    }
                    continue;
                }
                // Together they are too large: one after the other.
                for &number in now {
                    let shapes: Vec<Vec<u32>> =
                        inputs[number].iter().map(|t| t.shape.clone()).collect();
                    outcomes[number] = match model.plan(&shapes) {
                        Ok(plan) => self
                            .run_joined(&model, &plan, &[&inputs[number]], Run::Alone)?
                            .pop(),
                        Err(error) => Some(Outcome::Failed(error)),
                    };
                }
            }
        }
        Ok(outcomes
            .into_iter()
            .map(|o| o.unwrap_or(Outcome::Failed(ModelError::WrongInput)))
            .collect())
    }

    fn profile(
        &mut self,
        model: &ModelHash,
        input: &[Tensor],
    ) -> Result<Vec<StepTime>, EngineError> {
        let model = self
            .models
            .get(model)
            .ok_or(EngineError::NotPrepared(*model))?
            .clone();
        let shapes: Vec<Vec<u32>> = input.iter().map(|t| t.shape.clone()).collect();
        let plan = match model.plan(&shapes) {
            Ok(plan) if fits(&model.signature().inputs, input) => plan,
            _ => return Ok(Vec::new()),
        };
        self.join_inputs(&plan, &[input]);
        self.backend
            .profile(&model, &plan, &self.inputs, &mut self.outputs)
    }
}
