//! A device: adapter, buffers, and what goes wrong with them.

use super::kernels::{Floats, Kernel};
use super::packed::{BROADCAST, Pack};
use super::params::{BLOCK_WORDS, Variant};
use super::schedule::{Schedule, Table};
use super::{AdapterReport, GpuError, adapter};
use crate::error::{EngineError, PrepareError};
use crate::plan::Plan;
use parking_lot::Mutex;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

/// Longest wait for one submission. A plan at the limits' multiplications takes minutes on a software adapter; a real
/// device that needs longer than this hangs.
pub(super) const SUBMISSION_TIMEOUT: Duration = Duration::from_secs(300);

/// Bytes of a parameter block.
pub(super) const BLOCK_BYTES: u64 = 4 * BLOCK_WORDS as u64;

/// Buffers are never smaller, so that none is empty.
pub(super) const BUFFER_BYTES_MIN: u64 = 256;

/// Dispatches of one submission. 4,096 at 100 ms at most each bound a submission well below [`SUBMISSION_TIMEOUT`] on
/// real devices, and keep command buffers small.
pub(super) const SUBMISSION_DISPATCHES_MAX: usize = 4096;

/// Rounds of loops, over all loops of one invocation, after which llvmpipe leaves them with whatever they have: 65,535,
/// less what is not counted here.
const LLVMPIPE_ROUNDS_MAX: u64 = 65_000;

/// What times of single dispatches take; asked for where the adapter has it.
pub(super) const TIMESTAMPS: wgpu::Features =
    wgpu::Features::TIMESTAMP_QUERY.union(wgpu::Features::TIMESTAMP_QUERY_INSIDE_PASSES);

/// What kernels with broadcasts take.
const BROADCASTS: wgpu::Features = wgpu::Features::SHADER_INT64.union(wgpu::Features::SUBGROUP);

/// What went wrong on the device since the last look.
#[derive(Default)]
struct Faults {
    lost: Option<String>,
    error: Option<String>,
    out_of_memory: Option<String>,
}

/// A device with what is resident on it.
pub struct Device {
    report: AdapterReport,
    pub(super) device: wgpu::Device,
    pub(super) queue: wgpu::Queue,
    pub(super) layout: wgpu::PipelineLayout,
    pub(super) bindings: wgpu::BindGroupLayout,
    /// How its kernels compute with floats.
    pub(super) floats: Floats,
    pub(super) modules: BTreeMap<Kernel, wgpu::ShaderModule>,
    pub(super) pipelines: BTreeMap<Variant, wgpu::ComputePipeline>,
    pub(super) arena: wgpu::Buffer,
    pub(super) staging: wgpu::Buffer,
    /// Grows with each new arena: bind groups of older ones are stale.
    pub(super) arena_generation: u64,
    /// Number of the plan whose locals stand in the arena.
    pub(super) resident: Option<u64>,
    pub(super) next_plan: u64,
    /// How contractions are shared out.
    pub(super) table: Table,
    /// Invocations of a subgroup at least, where kernels may broadcast.
    pub(super) subgroup: Option<u32>,
    /// Element-wise programs that have pipelines of their own, and how many may.
    pub(super) programs: BTreeSet<Variant>,
    pub(super) programs_max: usize,
    /// Rounds of loops that the driver runs in one invocation before it leaves them, if it counts.
    pub(super) rounds_max: Option<u64>,
    faults: Arc<Mutex<Faults>>,
}

/// A model's weights on the device.
pub struct Weights {
    /// As the model has them.
    pub(super) words: wgpu::Buffer,
    /// Those that kernels read packed.
    pub(super) packed: BTreeMap<Pack, wgpu::Buffer>,
}

/// A plan, ready to run on one device with one model's weights.
pub struct Compiled {
    pub(super) number: u64,
    pub(super) plan: Arc<Plan>,
    pub(super) params: wgpu::Buffer,
    pub(super) dispatches: Vec<Dispatch>,
    /// Packed weights that dispatches read.
    pub(super) packs: Vec<wgpu::Buffer>,
    /// Bindings without packed weights, then with each of `packs`, for one arena.
    pub(super) bind_groups: Option<(u64, Arc<[wgpu::BindGroup]>)>,
}

pub(super) struct Dispatch {
    pub(super) kernel: &'static str,
    pub(super) pipeline: wgpu::ComputePipeline,
    pub(super) groups: (u32, u32),
    /// Which of the plan's bindings it takes.
    pub(super) bindings: usize,
    /// Whether it begins a step, or goes on with a step that was cut.
    pub(super) begins: bool,
}

impl Dispatch {
    /// Puts it into a pass; its parameter block is `number`th of the plan.
    pub(super) fn record(
        &self,
        pass: &mut wgpu::ComputePass<'_>,
        bind_groups: &[wgpu::BindGroup],
        number: usize,
    ) {
        pass.set_pipeline(&self.pipeline);
        let bind_group = &bind_groups[self.bindings];
        pass.set_bind_group(0, bind_group, &[(number as u64 * BLOCK_BYTES) as u32]);
        pass.dispatch_workgroups(self.groups.0, self.groups.1, 1);
    }
}

impl Device {
    /// Opens the best adapter whose name or driver holds `selector`.
    pub fn open(selector: Option<&str>) -> Result<Self, GpuError> {
        Self::on(&adapter::best(selector)?)
    }

    fn on(adapter: &wgpu::Adapter) -> Result<Self, GpuError> {
        let report = adapter::report(adapter);
        let limits = adapter.limits();
        let request = wgpu::DeviceDescriptor {
            label: Some("penstock"),
            required_features: adapter.features() & (TIMESTAMPS | BROADCASTS),
            required_limits: wgpu::Limits {
                max_buffer_size: limits.max_buffer_size,
                max_storage_buffer_binding_size: limits.max_storage_buffer_binding_size,
                ..wgpu::Limits::downlevel_defaults()
            },
            ..Default::default()
        };
        let (device, queue) =
            pollster::block_on(adapter.request_device(&request)).map_err(|e| GpuError::Open {
                adapter: report.name.clone(),
                reason: e.to_string(),
            })?;
        let faults = Arc::new(Mutex::new(Faults::default()));
        let on_lost = faults.clone();
        device.set_device_lost_callback(move |reason, message| {
            on_lost.lock().lost = Some(format!("{reason:?}: {message}"));
        });
        let on_error = faults.clone();
        device.on_uncaptured_error(Arc::new(move |error: wgpu::Error| {
            let mut faults = on_error.lock();
            let place = match error {
                wgpu::Error::OutOfMemory { .. } => &mut faults.out_of_memory,
                _ => &mut faults.error,
            };
            place.get_or_insert_with(|| error.to_string());
        }));
        let storage = |binding, read_only, dynamic, size| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty: wgpu::BufferBindingType::Storage { read_only },
                has_dynamic_offset: dynamic,
                min_binding_size: std::num::NonZeroU64::new(size),
            },
            count: None,
        };
        let bindings = device.create_bind_group_layout(&wgpu::BindGroupLayoutDescriptor {
            label: Some("step"),
            entries: &[
                storage(0, false, false, 4),
                storage(1, true, false, 4),
                storage(2, true, true, BLOCK_BYTES),
                storage(3, true, false, 16),
            ],
        });
        let layout = device.create_pipeline_layout(&wgpu::PipelineLayoutDescriptor {
            label: Some("step"),
            bind_group_layouts: &[Some(&bindings)],
            immediate_size: 0,
        });
        let counts = report.name.contains("llvmpipe") || report.driver.contains("llvmpipe");
        let rounds_max = counts.then_some(LLVMPIPE_ROUNDS_MAX);
        let subgroup = device
            .features()
            .contains(BROADCASTS)
            .then(|| adapter.get_info().subgroup_min_size)
            .filter(|&least| least >= BROADCAST);
        let arena = buffer(&device, "arena", BUFFER_BYTES_MIN, ARENA);
        let staging = buffer(&device, "staging", BUFFER_BYTES_MIN, STAGING);
        Ok(Self {
            report,
            device,
            queue,
            layout,
            bindings,
            floats: Floats::Soft,
            modules: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            arena,
            staging,
            arena_generation: 0,
            resident: None,
            next_plan: 0,
            table: match (subgroup, counts) {
                (Some(_), true) => Table::all(Schedule::Broadcast).with_subgroup(subgroup),
                (None, true) => Table::LLVMPIPE,
                (_, false) => Table::PLAIN,
            },
            subgroup,
            programs: BTreeSet::new(),
            programs_max: 0,
            rounds_max,
            faults,
        })
    }

    /// How its kernels compute with floats.
    pub fn floats(&self) -> Floats {
        self.floats
    }

    /// Kernels of plans that are compiled from now on compute with floats in this way.
    pub fn set_floats(&mut self, floats: Floats) {
        if floats != self.floats {
            self.floats = floats;
            self.modules.clear();
            self.pipelines.clear();
        }
    }

    /// The schedules that it has.
    pub fn schedules(&self) -> impl Iterator<Item = Schedule> + use<> {
        let broadcasts = self.subgroup.is_some();
        let has = move |schedule: &Schedule| broadcasts || *schedule != Schedule::Broadcast;
        Schedule::ALL.into_iter().filter(has)
    }

    /// What it runs on.
    pub fn report(&self) -> &AdapterReport {
        &self.report
    }

    /// Whether the device is gone for good.
    pub fn is_lost(&self) -> bool {
        // The loss is told during a poll, which a run that failed early has not reached.
        let _ = self.device.poll(wgpu::PollType::Poll);
        self.faults.lock().lost.is_some()
    }

    /// As if no program had a pipeline yet, of which there may be `most` from now on.
    #[cfg(test)]
    pub fn forget_programs(&mut self, most: usize) {
        self.programs.clear();
        self.programs_max = most;
    }

    /// Takes the device away, as a driver reset does.
    #[cfg(test)]
    pub fn destroy(&self) {
        self.device.destroy();
    }

    /// The first fault since the last call, if any. A lost device stays lost.
    pub(super) fn check(&self) -> Result<(), EngineError> {
        let mut faults = self.faults.lock();
        if let Some(reason) = &faults.lost {
            return Err(EngineError::Device(reason.clone()));
        }
        if let Some(reason) = faults.out_of_memory.take() {
            return Err(EngineError::OutOfMemory(reason));
        }
        match faults.error.take() {
            Some(reason) => Err(EngineError::Device(reason)),
            None => Ok(()),
        }
    }

    /// Largest binding, in bytes.
    pub(super) fn binding_bytes_max(&self) -> u64 {
        let limits = self.device.limits();
        limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
    }

    pub(super) fn fits(&self, what: &'static str, words: u64) -> Result<(), PrepareError> {
        let limit = self.binding_bytes_max() / 4;
        if words > limit {
            return Err(PrepareError::TooLarge {
                what,
                found: words,
                limit,
            });
        }
        Ok(())
    }

    /// Uploads weights.
    pub fn upload(&self, words: &[u32]) -> Result<Weights, PrepareError> {
        self.fits("words of weights", words.len() as u64)?;
        let usage = wgpu::BufferUsages::STORAGE
            | wgpu::BufferUsages::COPY_DST
            | wgpu::BufferUsages::COPY_SRC;
        let bytes = (4 * words.len() as u64).max(BUFFER_BYTES_MIN);
        let weights = buffer(&self.device, "weights", bytes, usage);
        self.queue
            .write_buffer(&weights, 0, bytemuck::cast_slice(words));
        self.check()?;
        Ok(Weights {
            words: weights,
            packed: BTreeMap::new(),
        })
    }
}

pub(super) const ARENA: wgpu::BufferUsages = wgpu::BufferUsages::STORAGE
    .union(wgpu::BufferUsages::COPY_DST)
    .union(wgpu::BufferUsages::COPY_SRC);
pub(super) const STAGING: wgpu::BufferUsages =
    wgpu::BufferUsages::MAP_READ.union(wgpu::BufferUsages::COPY_DST);

pub(super) fn buffer(
    device: &wgpu::Device,
    label: &str,
    size: u64,
    usage: wgpu::BufferUsages,
) -> wgpu::Buffer {
    device.create_buffer(&wgpu::BufferDescriptor {
        label: Some(label),
        size,
        usage,
        mapped_at_creation: false,
    })
}
