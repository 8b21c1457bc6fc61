//! A device: adapter, pipelines, buffers, and one run of a compiled plan.

use super::kernels::{Floats, Kernel};
use super::packed::{BROADCAST, Pack};
use super::params::{self, BLOCK_WORDS, Variant, Work};
use super::programs;
use super::schedule::{Schedule, Table};
use super::{AdapterReport, GpuError, adapter};
use crate::error::{EngineError, PrepareError};
use crate::plan::{Plan, Step};
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
const BUFFER_BYTES_MIN: u64 = 256;

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
    layout: wgpu::PipelineLayout,
    pub(super) bindings: wgpu::BindGroupLayout,
    /// How its kernels compute with floats.
    floats: Floats,
    modules: BTreeMap<Kernel, wgpu::ShaderModule>,
    pipelines: BTreeMap<Variant, wgpu::ComputePipeline>,
    pub(super) arena: wgpu::Buffer,
    pub(super) staging: wgpu::Buffer,
    /// Grows with each new arena: bind groups of older ones are stale.
    pub(super) arena_generation: u64,
    /// Number of the plan whose locals stand in the arena.
    pub(super) resident: Option<u64>,
    next_plan: u64,
    /// How contractions are shared out.
    pub(super) table: Table,
    /// Invocations of a subgroup at least, where kernels may broadcast.
    pub(super) subgroup: Option<u32>,
    /// Element-wise programs that have pipelines of their own, and how many may.
    programs: BTreeSet<Variant>,
    pub(super) programs_max: usize,
    /// Rounds of loops that the driver runs in one invocation before it leaves them, if it counts.
    rounds_max: Option<u64>,
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
    fn binding_bytes_max(&self) -> u64 {
        let limits = self.device.limits();
        limits
            .max_storage_buffer_binding_size
            .min(limits.max_buffer_size)
    }

    fn fits(&self, what: &'static str, words: u64) -> Result<(), PrepareError> {
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
