//! The CPU backend: the definition, in Rust. Every other backend is held against it.
//!
//! `scalar` says what an element-wise operation gives; `map` runs programs of them over blocks; `rows` folds and
//! quantises; `pool` and `trees` do what they say; `contract` multiplies, over the integer register tiles of `kernel` or
//! the plain dot products of `dot`; `float` multiplies in the mode `fast`. Loops are compiled in several forms (portable,
//! AVX2, AVX-512), one of which is chosen when the executor is made.
//!
//! **Invariant:** a step reads nothing that it writes: each gets the part of the arena that it writes, and the rest.

mod arena;
mod contract;
mod dot;
mod float;
mod kernel;
mod map;
mod moves;
mod pool;
mod rows;
mod scalar;
mod trees;

use crate::batch::{Backend, Batcher, Executor};
use crate::bench::StepTime;
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::num::float::environment_is_ieee;
use crate::plan::{Buffer, Plan, Space, Step};
use arena::{Words, split};
use contract::Kept;
pub(crate) use contract::packed_words;
use kernel::Form;
use penstock_rules::ids::ModelHash;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// The CPU executor, with the fastest forms of its loops that this processor has.
#[must_use]
pub fn cpu() -> Box<dyn Executor> {
    Box::new(Batcher::new(Cpu::new(Form::detect())))
}

/// The CPU executor in plain Rust, without vector instructions of its own: for comparisons.
#[must_use]
pub fn cpu_portable() -> Box<dyn Executor> {
    Box::new(Batcher::new(Cpu::new(Form::Portable)))
}

/// A CPU executor for each form of the loops that this processor has, plain Rust first: for comparisons.
#[must_use]
pub fn cpu_forms() -> Vec<Box<dyn Executor>> {
    Form::all()
        .into_iter()
        .map(|form| -> Box<dyn Executor> { Box::new(Batcher::new(Cpu::new(form))) })
        .collect()
}

/// Runs plans on the CPU, on the caller's thread.
pub(crate) struct Cpu {
    core: Core,
    /// Packed weights of each model.
    kept: BTreeMap<ModelHash, Kept>,
}

/// What runs a plan, whosever it is.
struct Core {
    form: Form,
    arena: Words,
    scratch: Scratch,
}

/// Memory that steps use while they run.
#[derive(Default)]
struct Scratch {
    registers: map::Registers,
    row: Vec<u32>,
    exponents: Vec<u32>,
    contract: contract::Scratch,
}

impl Cpu {
    pub(crate) fn new(form: Form) -> Self {
        let core = Core {
            form,
            arena: Words::default(),
            scratch: Scratch::default(),
        };
        Self {
            core,
            kept: BTreeMap::new(),
        }
    }

    /// The fastest form.
    pub(crate) fn detect() -> Self {
        Self::new(Form::detect())
    }

    /// Runs `plan`, which reads no weights.
    pub(crate) fn interpret(&mut self, plan: &Plan, inputs: &[Vec<u32>], outputs: &mut [Vec<u32>]) {
        self.core
            .run(plan, &[], &mut Kept::default(), inputs, outputs, |_| ());
    }
}

impl Core {
    /// Runs `plan` on `weights`, of which `kept` are packed; `after` is told of each step that is done.
    fn run(
        &mut self,
        plan: &Plan,
        weights: &[u32],
        kept: &mut Kept,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
        mut after: impl FnMut(&Step),
    ) {
        let arena = self.arena.at_least(plan.arena_words as usize);
        arena[..plan.locals.len()].copy_from_slice(&plan.locals);
        for (slot, words) in plan.inputs.iter().zip(inputs) {
            words_of(arena, slot).copy_from_slice(words);
        }
        for step in &plan.steps {
            run(self.form, step, weights, arena, &mut self.scratch, kept);
            after(step);
        }
        for (slot, words) in plan.outputs.iter().zip(outputs) {
            words.clear();
            match slot.space {
                Space::Arena => words.extend_from_slice(words_of(arena, slot)),
                Space::Weights => {
                    let start = slot.offset as usize;
                    let len = slot.len as usize * slot.kind.words() as usize;
                    words.extend_from_slice(&weights[start..start + len]);
                }
            }
        }
    }
}

fn words_of<'a>(arena: &'a mut [u32], slot: &Buffer) -> &'a mut [u32] {
    let start = slot.offset as usize;
    &mut arena[start..start + slot.len as usize * slot.kind.words() as usize]
}

fn run(
    form: Form,
    step: &Step,
    weights: &[u32],
    arena: &mut [u32],
    scratch: &mut Scratch,
    kept: &mut Kept,
) {
    match step {
        Step::Map(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            map::run(form, s, &sources, out, &mut scratch.registers);
        }
        Step::Copy(s) => moves::copy(s, weights, arena),
        Step::Take(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            moves::take(s, &sources, out);
        }
        Step::Reduce(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            rows::reduce(form, s, &sources, out, &mut scratch.row);
        }
        Step::Quantise(s) => {
            let Scratch { row, exponents, .. } = scratch;
            rows::quantise(form, s, weights, arena, row, exponents);
        }
        Step::Contract(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            contract::contract(form, s, &sources, out, &mut scratch.contract, kept);
        }
        Step::Conv(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            contract::conv(form, s, &sources, out, &mut scratch.contract, kept);
        }
        Step::Pool(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            pool::pool(s, &sources, out);
        }
        Step::Trees(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            trees::trees(s, &sources, out);
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("cpu {}", self.core.form.name())
    }

    fn load(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
        self.kept.remove(&model.hash());
        if environment_is_ieee() {
            Ok(())
        } else {
            Err(PrepareError::Engine(EngineError::Device(
                "this thread flushes subnormals or does not round to nearest".into(),
            )))
        }
    }

    fn execute(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        let kept = self.kept.entry(model.hash()).or_default();
        self.core
            .run(plan, model.weights(), kept, inputs, outputs, |_| ());
        Ok(())
    }

    fn profile(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<Vec<StepTime>, EngineError> {
        let kept = self.kept.entry(model.hash()).or_default();
        let mut steps = Vec::with_capacity(plan.steps.len());
        let mut start = Instant::now();
        let after = |step: &Step| {
            let end = Instant::now();
            steps.push(StepTime {
                kernel: step.kernel(),
                time: end - start,
            });
            start = end;
        };
        self.core
            .run(plan, model.weights(), kept, inputs, outputs, after);
        Ok(steps)
    }
}
