//! Times of single steps, by the device's own clock.

use super::device::{Compiled, Device, SUBMISSION_TIMEOUT, TIMESTAMPS, Weights, buffer};
use crate::bench::StepTime;
use crate::error::EngineError;
use std::time::Duration;

/// Most timestamps of a query set: WebGPU's limit.
const TIMESTAMPS_MAX: usize = 4_096;

impl Device {
    /// Runs a compiled plan, and tells how long each step took; nothing where the device has no timestamps inside passes, or
    /// the plan has too many dispatches for one set of them.
    pub fn profile(
        &mut self,
        compiled: &mut Compiled,
        weights: &Weights,
        inputs: &[Vec<u32>],
    ) -> Result<Vec<StepTime>, EngineError> {
        let count = compiled.dispatches.len() + 1;
        if !self.device.features().contains(TIMESTAMPS) || count > TIMESTAMPS_MAX {
            return Ok(Vec::new());
        }
        let (bind_groups, _) = self.ready(compiled, weights, inputs)?;
        let queries = self.device.create_query_set(&wgpu::QuerySetDescriptor {
            label: Some("times of steps"),
            ty: wgpu::QueryType::Timestamp,
            count: count as u32,
        });
        let bytes = 8 * count as u64;
        let usages = wgpu::BufferUsages::QUERY_RESOLVE | wgpu::BufferUsages::COPY_SRC;
        let resolved = buffer(&self.device, "times", bytes, usages);
        let usages = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
        let read = buffer(&self.device, "times to read", bytes, usages);
        let mut encoder = self.device.create_command_encoder(&Default::default());
        let mut pass = encoder.begin_compute_pass(&Default::default());
        for (number, dispatch) in compiled.dispatches.iter().enumerate() {
            pass.write_timestamp(&queries, number as u32);
            dispatch.record(&mut pass, &bind_groups, number);
        }
        pass.write_timestamp(&queries, compiled.dispatches.len() as u32);
        drop(pass);
        encoder.resolve_query_set(&queries, 0..count as u32, &resolved, 0);
        encoder.copy_buffer_to_buffer(&resolved, 0, &read, 0, bytes);
        self.queue.submit([encoder.finish()]);
        read.map_async(wgpu::MapMode::Read, .., |_| {});
        let wait = self.device.poll(wgpu::PollType::Wait {
            submission_index: None,
            timeout: Some(SUBMISSION_TIMEOUT),
        });
        self.check()?;
        wait.map_err(|e| EngineError::Device(e.to_string()))?;
        let view = read
            .get_mapped_range(..)
            .map_err(|e| EngineError::Device(e.to_string()))?;
        let ticks: Vec<u64> = view
            .as_chunks::<8>()
            .0
            .iter()
            .map(|bytes| u64::from_le_bytes(*bytes))
            .collect();
        let period = f64::from(self.queue.get_timestamp_period());
        let mut steps: Vec<StepTime> = Vec::new();
        for (dispatch, pair) in compiled.dispatches.iter().zip(ticks.windows(2)) {
            let nanos = pair[1].saturating_sub(pair[0]) as f64 * period;
            let time = Duration::from_nanos(nanos as u64);
            match steps.last_mut() {
                Some(step) if !dispatch.begins => step.time += time,
                _ => steps.push(StepTime {
                    kernel: dispatch.kernel,
                    time,
                }),
            }
        }
        Ok(steps)
    }
}
