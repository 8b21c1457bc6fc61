//! One run of a compiled plan: what it reads goes up, one pass, what it gives comes back.

use super::device::{
    ARENA, BLOCK_BYTES, Compiled, Device, STAGING, SUBMISSION_DISPATCHES_MAX, SUBMISSION_TIMEOUT,
    Weights, buffer,
};
use crate::error::EngineError;
use crate::plan::{Buffer, Plan, Space};
use std::sync::Arc;

impl Device {
    /// Makes the arena and the staging buffer large enough.
    fn reserve(&mut self, arena_words: u32, staging_bytes: u64) -> Result<(), EngineError> {
        let bytes = 4 * u64::from(arena_words);
        if self.arena.size() < bytes {
            self.arena.destroy();
            self.arena = buffer(&self.device, "arena", bytes, ARENA);
            self.arena_generation += 1;
            self.resident = None;
        }
        if self.staging.size() < staging_bytes {
            self.staging.destroy();
            self.staging = buffer(&self.device, "staging", staging_bytes, STAGING);
        }
        self.check()
    }

    fn bind_group(
        &self,
        compiled: &Compiled,
        weights: &Weights,
        packed: &wgpu::Buffer,
    ) -> wgpu::BindGroup {
        self.device.create_bind_group(&wgpu::BindGroupDescriptor {
            label: Some("step"),
            layout: &self.bindings,
            entries: &[
                wgpu::BindGroupEntry {
                    binding: 0,
                    resource: self.arena.as_entire_binding(),
                },
                wgpu::BindGroupEntry {
                    binding: 1,
                    resource: weights.words.as_entire_binding(),
                },
                wgpu::BindGroupEntry {
                    binding: 2,
                    resource: wgpu::BindingResource::Buffer(wgpu::BufferBinding {
                        buffer: &compiled.params,
                        offset: 0,
                        size: std::num::NonZeroU64::new(BLOCK_BYTES),
                    }),
                },
                wgpu::BindGroupEntry {
                    binding: 3,
                    resource: packed.as_entire_binding(),
                },
            ],
        })
    }

    /// Makes room for a run and writes what it reads: gives the bindings, and the bytes of the outputs.
    pub(super) fn ready(
        &mut self,
        compiled: &mut Compiled,
        weights: &Weights,
        inputs: &[Vec<u32>],
    ) -> Result<(Arc<[wgpu::BindGroup]>, u64), EngineError> {
        let plan = compiled.plan.clone();
        let bytes = |buffer: &Buffer| 4 * u64::from(buffer.len) * u64::from(buffer.kind.words());
        let staging_bytes: u64 = plan.outputs.iter().map(bytes).sum();
        self.reserve(plan.arena_words, staging_bytes)?;
        let bind_groups = match &compiled.bind_groups {
            Some((generation, groups)) if *generation == self.arena_generation => groups.clone(),
            _ => {
                // What reads no packed weights has the others in their place.
                let groups: Arc<[wgpu::BindGroup]> = std::iter::once(&weights.words)
                    .chain(&compiled.packs)
                    .map(|packed| self.bind_group(compiled, weights, packed))
                    .collect();
                compiled.bind_groups = Some((self.arena_generation, groups.clone()));
                groups
            }
        };
        if self.resident != Some(compiled.number) {
            self.queue
                .write_buffer(&self.arena, 0, bytemuck::cast_slice(&plan.locals));
            self.resident = Some(compiled.number);
        }
        for (place, words) in plan.inputs.iter().zip(inputs) {
            self.queue.write_buffer(
                &self.arena,
                4 * u64::from(place.offset),
                bytemuck::cast_slice(words),
            );
        }
        Ok((bind_groups, staging_bytes))
    }

    /// Runs a compiled plan: `inputs` are the words of each input, `outputs` get those of each output.
    pub fn run(
        &mut self,
        compiled: &mut Compiled,
        weights: &Weights,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        let plan = compiled.plan.clone();
        let (bind_groups, staging_bytes) = self.ready(compiled, weights, inputs)?;
        for (n, slice) in compiled
            .dispatches
            .chunks(SUBMISSION_DISPATCHES_MAX)
            .enumerate()
        {
            let mut encoder = self.device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            for (number, dispatch) in slice.iter().enumerate() {
                let number = n * SUBMISSION_DISPATCHES_MAX + number;
                dispatch.record(&mut pass, &bind_groups, number);
            }
            drop(pass);
            if (n + 1) * SUBMISSION_DISPATCHES_MAX < compiled.dispatches.len() {
                self.queue.submit([encoder.finish()]);
                continue;
            }
            self.read_back(encoder, &plan, weights, staging_bytes);
        }
        if compiled.dispatches.is_empty() {
            let encoder = self.device.create_command_encoder(&Default::default());
            self.read_back(encoder, &plan, weights, staging_bytes);
        }
        self.collect(&plan, staging_bytes, outputs)
    }

    /// Copies the outputs into the staging buffer, and submits.
    fn read_back(
        &self,
        mut encoder: wgpu::CommandEncoder,
        plan: &Plan,
        weights: &Weights,
        staging_bytes: u64,
    ) {
        let mut at = 0;
        for output in &plan.outputs {
            let from = match output.space {
                Space::Arena => &self.arena,
                Space::Weights => &weights.words,
            };
            let bytes = 4 * u64::from(output.len) * u64::from(output.kind.words());
            encoder.copy_buffer_to_buffer(
                from,
                4 * u64::from(output.offset),
                &self.staging,
                at,
                bytes,
            );
            at += bytes;
        }
        self.queue.submit([encoder.finish()]);
        if staging_bytes > 0 {
            self.staging
                .map_async(wgpu::MapMode::Read, ..staging_bytes, |_| {});
        }
    }

    /// Waits, and takes the outputs out of the staging buffer.
    fn collect(
        &self,
        plan: &Plan,
        staging_bytes: u64,
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        let wait = self.device.poll(wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(SUBMISSION_TIMEOUT),
        });
        self.check()?;
        wait.map_err(|e| EngineError::Device(e.to_string()))?;
        if staging_bytes == 0 {
            outputs.iter_mut().for_each(Vec::clear);
            return Ok(());
        }
        let view = self
            .staging
            .get_mapped_range(..staging_bytes)
            .map_err(|e| EngineError::Device(e.to_string()))?;
        let words: &[u32] = bytemuck::cast_slice(&view);
        let mut at = 0;
        for (place, words_out) in plan.outputs.iter().zip(outputs) {
            let count = (place.len * place.kind.words()) as usize;
            words_out.clear();
            words_out.extend_from_slice(&words[at..at + count]);
            at += count;
        }
        drop(view);
        self.staging.unmap();
        Ok(())
    }
}
