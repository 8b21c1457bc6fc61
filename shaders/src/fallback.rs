//! The CPU behind a GPU: what the device cannot do any more, the processor does, with the same bits.

use crate::batch::Executor;
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use penstock_rules::ids::ModelHash;
use penstock_rules::request::Outcome;
use penstock_rules::tensor::Tensor;
use std::collections::BTreeSet;
use std::sync::Arc;
use tracing::warn;

/// `first`, and `second` for models that it cannot hold and for everything once it has failed. The first already tried to
/// open its device anew, so a failure that comes out of it is final.
#[must_use]
pub fn with_fallback(first: Box<dyn Executor>, second: Box<dyn Executor>) -> Box<dyn Executor> {
    Box::new(Fallback {
        first: Some(first),
        second,
        held: BTreeSet::new(),
    })
}

struct Fallback {
    /// Gone once it failed.
    first: Option<Box<dyn Executor>>,
    second: Box<dyn Executor>,
    /// Models that the first holds.
    held: BTreeSet<ModelHash>,
}

impl Executor for Fallback {
    fn name(&self) -> String {
        match &self.first {
            Some(first) => first.name(),
            None => format!("{} (in place of a failed device)", self.second.name()),
        }
    }

    fn prepare(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
        self.second.prepare(model)?;
        if let Some(first) = &mut self.first {
            match first.prepare(model) {
                Ok(()) => {
                    self.held.insert(model.hash());
                }
                Err(error) => {
                    warn!(model = %model.hash(), %error, "the device cannot hold the model, the cpu runs it");
                }
            }
        }
        Ok(())
    }

    fn run(
        &mut self,
        model: &ModelHash,
        inputs: &[Vec<Tensor>],
    ) -> Result<Vec<Outcome>, EngineError> {
        if let Some(first) = self.first.as_mut().filter(|_| self.held.contains(model)) {
            match first.run(model, inputs) {
                Ok(outcomes) => return Ok(outcomes),
                Err(error @ EngineError::OutOfMemory(_)) => {
                    warn!(%model, %error, "the device is out of memory, the cpu runs the model");
                    self.held.remove(model);
                }
                Err(error) => {
                    warn!(%error, "the device failed for good, the cpu goes on");
                    self.first = None;
                }
            }
        }
        self.second.run(model, inputs)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::limits::Limits;

    /// A device that takes models and then fails.
    struct Failing(EngineError);

    impl Executor for Failing {
        fn name(&self) -> String {
            "failing".into()
        }

        fn prepare(&mut self, _: &Arc<Model>) -> Result<(), PrepareError> {
            Ok(())
        }

        fn run(&mut self, _: &ModelHash, _: &[Vec<Tensor>]) -> Result<Vec<Outcome>, EngineError> {
            Err(self.0.clone())
        }
    }

    fn check(error: EngineError, name: &str) {
        let file = include_bytes!("../tests/fixtures/mlp/model.onnx");
        let model = Model::load(file, &Limits::default()).expect("it loads");
        let input = Tensor::from_f32_bits("x", &[1, 64], (0..64).map(|i| (i as f32).to_bits()));
        let mut alone = crate::cpu();
        alone.prepare(&model).expect("it fits");
        let expect = alone.run(&model.hash(), &[vec![input.clone()]]);
        let mut both = with_fallback(Box::new(Failing(error)), crate::cpu());
        both.prepare(&model).expect("it fits");
        for _ in 0..2 {
            assert_eq!(both.run(&model.hash(), &[vec![input.clone()]]), expect);
        }
        assert!(both.name().contains(name), "{}", both.name());
    }

    #[test]
    fn a_failed_device_is_replaced_by_the_cpu_with_the_same_outcomes() {
        check(EngineError::Device("gone".into()), "in place of");
    }

    #[test]
    fn a_device_without_memory_for_one_model_stays() {
        check(EngineError::OutOfMemory("full".into()), "failing");
    }
}
