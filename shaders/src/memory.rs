//! What a plan asks of a backend's memory.

use crate::plan::Plan;
use crate::{cpu, gpu};

/// Words of 32 bits that a model takes on one backend while a plan runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Memory {
    /// Prepared weights.
    pub weights: u64,
    /// Some of the weights again, as kernels read them: on the backend that packs most.
    pub packed: u64,
    /// The plan's arena.
    pub arena: u64,
}

impl Memory {
    /// Of a plan of a model with so many words of weights. It is the same on every machine: what is refused by it is refused
    /// by all.
    pub(crate) fn of(plan: &Plan, weights: u64) -> Self {
        Self {
            weights,
            packed: gpu::packed_words(plan).max(cpu::packed_words(plan)),
            arena: u64::from(plan.arena_words),
        }
    }

    /// All of them.
    #[must_use]
    pub const fn words(&self) -> u64 {
        self.weights
            .saturating_add(self.packed)
            .saturating_add(self.arena)
    }
}

#[cfg(test)]
mod tests {
    use crate::{Limits, LoadError, Model};

    #[test]
    fn a_model_whose_packed_weights_pass_the_limit_is_refused_with_both_numbers() {
        let file = include_bytes!("../tests/fixtures/mlp/model.onnx");
        let model = Model::load(file, &Limits::default()).expect("it loads");
        let memory = model.report().expect("it has a plan").memory;
        // One word per weight at least, and the last layer's one column takes more.
        assert!(memory.packed > memory.weights, "{memory:?}");
        let with = |memory_words_max| {
            let limits = Limits {
                memory_words_max,
                ..Limits::default()
            };
            Model::load(file, &limits).map(|model| model.hash())
        };
        assert_eq!(with(memory.words()), Ok(model.hash()));
        assert_eq!(
            with(memory.words() - 1),
            Err(LoadError::Limit {
                what: "words of weights, packed weights and the arena",
                found: memory.words(),
                limit: memory.words() - 1,
            })
        );
    }
}
