//! The CPU backend: the definition, in Rust. Every other backend is held against it.
//!
//! `scalar` says what an element-wise operation gives; `map` runs programs of them over blocks; `rows` folds, quantises,
//! pools and walks trees; `contract` multiplies, over the integer dot products of `dot`, which alone has several forms
//! (portable, AVX2), chosen when the executor is made.
//!
//! **Invariant:** a step reads nothing that it writes: each gets the part of the arena that it writes, and the rest.

mod arena;
mod contract;
mod dot;
mod map;
mod moves;
mod rows;
mod scalar;

use crate::batch::{Backend, Batcher, Executor};
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::num::float::environment_is_ieee;
use crate::plan::{Buffer, Plan, Space, Step};
use arena::{Words, split};
use dot::Dot;
use std::sync::Arc;

/// The CPU executor, with the fastest forms of its loops that this processor has.
#[must_use]
pub fn cpu() -> Box<dyn Executor> {
    Box::new(Batcher::new(Cpu::new(Dot::detect())))
}

/// The CPU executor in plain Rust, without vector instructions of its own: for comparisons.
#[must_use]
pub fn cpu_portable() -> Box<dyn Executor> {
    Box::new(Batcher::new(Cpu::new(Dot::Portable)))
}

/// Runs plans on the CPU, on the caller's thread.
pub(crate) struct Cpu {
    dot: Dot,
    arena: Words,
    scratch: Scratch,
}

/// Memory that steps use while they run.
#[derive(Default)]
struct Scratch {
    registers: map::Registers,
    row: Vec<u32>,
    exponents: Vec<u32>,
    panel: Vec<i32>,
}

impl Cpu {
    pub(crate) fn new(dot: Dot) -> Self {
        Self {
            dot,
            arena: Words::default(),
            scratch: Scratch::default(),
        }
    }

    /// The fastest form.
    pub(crate) fn detect() -> Self {
        Self::new(Dot::detect())
    }

    /// Runs `plan` on `weights`.
    pub(crate) fn interpret(
        &mut self,
        plan: &Plan,
        weights: &[u32],
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) {
        let arena = self.arena.at_least(plan.arena_words as usize);
        arena[..plan.locals.len()].copy_from_slice(&plan.locals);
        for (slot, words) in plan.inputs.iter().zip(inputs) {
            words_of(arena, slot).copy_from_slice(words);
        }
        for step in &plan.steps {
            run(step, weights, arena, self.dot, &mut self.scratch);
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

fn run(step: &Step, weights: &[u32], arena: &mut [u32], dot: Dot, scratch: &mut Scratch) {
    match step {
        Step::Map(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            map::run(s, &sources, out, &mut scratch.registers);
        }
        Step::Copy(s) => moves::copy(s, weights, arena),
        Step::Take(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            moves::take(s, &sources, out);
        }
        Step::Reduce(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            rows::reduce(s, &sources, out, &mut scratch.row);
        }
        Step::Quantise(s) => {
            let Scratch { row, exponents, .. } = scratch;
            rows::quantise(s, weights, arena, row, exponents);
        }
        Step::Contract(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            contract::contract(s, &sources, out, dot);
        }
        Step::Conv(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            contract::conv(s, &sources, out, dot, &mut scratch.panel);
        }
        Step::Pool(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            rows::pool(s, &sources, out);
        }
        Step::Trees(s) => {
            let (out, sources) = split(arena, weights, &s.out);
            rows::trees(s, &sources, out);
        }
    }
}

impl Backend for Cpu {
    fn name(&self) -> String {
        format!("cpu {}", self.dot.name())
    }

    fn load(&mut self, _model: &Arc<Model>) -> Result<(), PrepareError> {
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
        self.interpret(plan, model.weights(), inputs, outputs);
        Ok(())
    }
}
