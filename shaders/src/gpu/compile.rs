//! From a plan to what a device runs: pipelines, and the parameter blocks of all dispatches.

use super::device::{BLOCK_BYTES, BUFFER_BYTES_MIN, Compiled, Device, Dispatch, Weights, buffer};
use super::kernels::Kernel;
use super::packed::Pack;
use super::params::{self, Variant, Work};
use super::programs;
use super::schedule::{Schedule, Table};
use crate::error::PrepareError;
use crate::plan::{Plan, Step};
use std::sync::Arc;

impl Device {
    fn module(&mut self, kernel: Kernel) -> wgpu::ShaderModule {
        let (device, floats) = (&self.device, self.floats);
        self.modules
            .entry(kernel)
            .or_insert_with(|| {
                let descriptor = wgpu::ShaderModuleDescriptor {
                    label: Some(kernel.name()),
                    source: wgpu::ShaderSource::Wgsl(kernel.text(floats).into()),
                };
                // SAFETY: the kernels index three bindings with offsets that the planner bounds, an invariant that its
                // tests hold, and their loops end by construction. Beyond that wgpu enables the driver's robust buffer
                // access, so a wrong index reads or writes nothing outside the buffer.
                unsafe {
                    device.create_shader_module_trusted(
                        descriptor,
                        wgpu::ShaderRuntimeChecks::unchecked(),
                    )
                }
            })
            .clone()
    }

    fn pipeline(&mut self, variant: &Variant) -> wgpu::ComputePipeline {
        if let Some(pipeline) = self.pipelines.get(variant) {
            return pipeline.clone();
        }
        let module = self.module(variant.kernel);
        let constants: Vec<(&str, f64)> = variant
            .overrides
            .iter()
            .map(|&(name, value)| (name, f64::from(value)))
            .collect();
        let pipeline = self
            .device
            .create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
                label: Some(variant.kernel.name()),
                layout: Some(&self.layout),
                module: &module,
                entry_point: Some("main"),
                compilation_options: wgpu::PipelineCompilationOptions {
                    constants: &constants,
                    ..Default::default()
                },
                cache: None,
            });
        self.pipelines.insert(variant.clone(), pipeline.clone());
        pipeline
    }

    /// A map's pipeline of its own, or that of a copy that is a map, where there is room for one.
    fn program(&mut self, step: &Step) -> Result<Option<Work>, PrepareError> {
        let moved = match step {
            Step::Copy(copy) => programs::moved(copy).map(Step::Map),
            _ => None,
        };
        let step = moved.as_ref().unwrap_or(step);
        let Step::Map(map) = step else {
            return Ok(None);
        };
        let Some(variant) = programs::variant(map).filter(|variant| self.room(variant)) else {
            return Ok(None);
        };
        let work = params::work(step, &self.table)?;
        Ok(Some(Work { variant, ..work }))
    }

    /// Whether a program has a pipeline of its own, or gets one now.
    fn room(&mut self, variant: &Variant) -> bool {
        let known = self.programs.contains(variant);
        let room = known || self.programs.len() < self.programs_max;
        if room && !known {
            self.programs.insert(variant.clone());
        }
        room
    }

    /// A layer of few rows that begins with this step, and for how many steps it stands, where such layers are run as one.
    fn layer(&mut self, plan: &Plan, at: usize) -> Result<Option<(Work, usize)>, PrepareError> {
        let (Some(subgroup), Some(Step::Contract(contract))) =
            (self.subgroup, plan.steps.get(at + 1))
        else {
            return Ok(None);
        };
        if self.table.of(contract) != Schedule::Broadcast {
            return Ok(None);
        }
        let found = params::dense::layer(plan, at, subgroup, |variant| self.room(variant))?;
        let rounds_max = self.rounds_max.unwrap_or(u64::MAX);
        let most = self.binding_bytes_max();
        let fits = |work: &Work| {
            let bytes = work.pack.map_or(0, |pack| 4 * pack.words());
            work.rounds <= rounds_max && bytes <= most
        };
        Ok(found.filter(|(work, _)| fits(work)))
    }

    /// How a step is run here. What would loop for too long in one invocation is split, or refused.
    fn work(&mut self, step: &Step) -> Result<Work, PrepareError> {
        let mut work = match self.program(step)? {
            Some(work) => work,
            None => params::work(step, &self.table)?,
        };
        if let Some(pack) = work.pack
            && 4 * pack.words() > self.binding_bytes_max()
        {
            work = params::work(step, &Table::PLAIN)?;
        }
        let Some(limit) = self.rounds_max.filter(|&most| work.rounds > most) else {
            return Ok(work);
        };
        let split = params::work(step, &Table::all(Schedule::Split))?;
        if split.rounds > limit {
            return Err(PrepareError::TooLarge {
                what: "rounds of loops in one invocation",
                found: split.rounds,
                limit,
            });
        }
        Ok(split)
    }

    /// The buffer of a pack among a model's weights.
    fn pack(&self, pack: Pack, weights: &mut Weights, words: &[u32]) -> wgpu::Buffer {
        let make = || {
            let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
            let bytes = (4 * pack.words()).max(BUFFER_BYTES_MIN);
            let made = buffer(&self.device, "packed weights", bytes, usage);
            let words = pack.packed(words);
            self.queue
                .write_buffer(&made, 0, bytemuck::cast_slice(&words));
            made
        };
        weights.packed.entry(pack).or_insert_with(make).clone()
    }

    /// Compiles a plan: pipelines, and the parameter blocks of all its dispatches. Of the model's weights, whose words are
    /// `words`, it packs what the dispatches read packed.
    pub fn compile(
        &mut self,
        plan: &Arc<Plan>,
        weights: &mut Weights,
        words: &[u32],
    ) -> Result<Compiled, PrepareError> {
        self.fits("words of the arena", u64::from(plan.arena_words))?;
        let mut works = Vec::new();
        let mut at = 0;
        while let Some(step) = plan.steps.get(at) {
            let (work, steps) = match self.layer(plan, at)? {
                Some(layer) => layer,
                None => (self.work(step)?, 1),
            };
            works.push(work);
            at += steps;
        }
        let mut blocks: Vec<u32> = Vec::new();
        let mut dispatches = Vec::new();
        let mut packs = Vec::new();
        for mut work in works {
            let bindings = match work.pack {
                None => 0,
                Some(pack) => {
                    packs.push(self.pack(pack, weights, words));
                    packs.len()
                }
            };
            let pipeline = self.pipeline(&work.variant);
            let cuts: Vec<_> = work.cuts().collect();
            for (cut, (first, end, groups)) in cuts.into_iter().enumerate() {
                work.block[0] = first;
                work.block[1] = end;
                blocks.extend(work.block);
                // WebGPU promises 65,535 workgroups per dimension.
                let rows = groups.div_ceil(65_535);
                dispatches.push(Dispatch {
                    kernel: work.variant.kernel.name(),
                    begins: cut == 0,
                    pipeline: pipeline.clone(),
                    groups: (groups.div_ceil(rows), rows),
                    bindings,
                });
            }
        }
        self.fits("words of parameters", blocks.len() as u64)?;
        let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
        let params = buffer(
            &self.device,
            "params",
            (4 * blocks.len() as u64).max(BLOCK_BYTES),
            usage,
        );
        self.queue
            .write_buffer(&params, 0, bytemuck::cast_slice(&blocks));
        self.check()?;
        self.next_plan += 1;
        Ok(Compiled {
            number: self.next_plan,
            plan: plan.clone(),
            params,
            dispatches,
            packs,
            bind_groups: None,
        })
    }
}
