//! The CPU backend.

use crate::batch::{Backend, Batcher, Executor};
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::plan::Plan;
use std::sync::Arc;

/// The CPU executor.
#[must_use]
pub fn cpu() -> Box<dyn Executor> {
    Box::new(Batcher::new(Cpu))
}

struct Cpu;

impl Backend for Cpu {
    fn name(&self) -> String {
        "cpu".into()
    }

    fn load(&mut self, _model: &Arc<Model>) -> Result<(), PrepareError> {
        Ok(())
    }

    fn execute(
        &mut self,
        _model: &Arc<Model>,
        plan: &Arc<Plan>,
        _inputs: &[Vec<u32>],
        _outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        match plan.steps.first() {
            None => Ok(()),
            Some(step) => Err(EngineError::Device(format!("no kernel {}", step.kernel()))),
        }
    }
}
