//! The GPU backend: every step of a plan in WGSL integers, with the bits of the CPU.
//!
//! ```text
//!  Plan --params, compile--> parameter blocks + pipelines (kernels: table of files) --run--> one pass, one submission
//!                                                                  |
//!                                       selftest: refuses a device whose integers are wrong
//! ```
//!
//! WGSL fixes integer arithmetic exactly and leaves floats open, so the kernels (`shaders/kernels/`) compute floats on
//! their bit patterns. The reference of each is in [`crate::num`] and [`mod@crate::cpu`].
//! A device of a known driver whose own floats pass the self-test, operation by operation, computes with these instead
//! ([`Floats`]): contractions stay integers, and no operation is seen by the driver together with another.
//!
//! Contractions have several kernels ([`schedule`]), of which a device takes the fastest for each class of shapes.
//! Element-wise programs have pipelines of their own (`programs`) as long as there is room for them, and are interpreted else.
//!
//! The weights of a model stay on the device; activations live in one arena, which all plans share and which grows to
//! the largest; a run writes the inputs, records one compute pass, and reads the outputs back.
//! The environment variable `VK_DRIVER_FILES` says to Vulkan's loader which drivers there are.
//!
//! When the device is lost (a driver reset, a hang), the backend opens it anew, tests it again, uploads weights again
//! and replays the run, once; if that fails too, the run ends with [`EngineError::Device`], and the caller may go on with
//! the CPU, whose bits are the same.
//!
//! **Invariant:** no step is computed elsewhere than on the device. What a kernel does not cover is refused by name.

mod adapter;
mod compile;
mod device;
pub mod kernels;
mod packed;
pub mod params;
mod profile;
mod programs;
mod run;
pub mod schedule;
mod selftest;

pub(crate) use packed::packed_words;

#[cfg(test)]
mod tests;

use crate::batch::{Backend, Batcher, Executor};
use crate::bench::StepTime;
use crate::error::{EngineError, PrepareError};
use crate::model::Model;
use crate::num::Width;
use crate::plan::Plan;
use device::{Compiled, Device, Weights};
pub use kernels::Floats;
use penstock_rules::ids::ModelHash;
use schedule::{Schedule, Table};
use std::collections::BTreeMap;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use tracing::{info, warn};

/// Plans that stay compiled per model. A model has one per set of input shapes: batch sizes, in the main.
const PLANS_MAX: usize = 128;

/// Why there is no GPU executor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// No adapter matches. There is none at all where no Vulkan driver is installed.
    #[error("no adapter matches {0:?} (is a vulkan driver installed?)")]
    NoAdapter(String),
    /// What the environment asks for is no way to compute with floats.
    #[error("{FLOATS} is {0:?}; there are auto, soft and native")]
    Floats(String),
    /// The driver refused to open the device.
    #[error("adapter {adapter} cannot be opened: {reason}")]
    Open {
        /// Name of the adapter.
        adapter: String,
        /// The driver's words.
        reason: String,
    },
    /// The self-test found wrong bits.
    #[error("adapter {adapter} computes {what} wrongly: {found:#010x} for {expect:#010x}")]
    WrongBits {
        /// Name of the adapter.
        adapter: String,
        /// Operation.
        what: String,
        /// The device's word.
        found: u32,
        /// The definition's word.
        expect: u32,
    },
    /// The self-test could not run.
    #[error("adapter {adapter} failed its self-test: {reason}")]
    SelfTest {
        /// Name of the adapter.
        adapter: String,
        /// What happened.
        reason: String,
    },
}

/// What an adapter is, best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AdapterKind {
    /// A card of its own.
    Discrete,
    /// A part of the processor.
    Integrated,
    /// A share of a GPU in a virtual machine.
    Virtual,
    /// Unknown to the driver.
    Other,
    /// Vulkan on the CPU (lavapipe, SwiftShader): right, but slower than the CPU backend. For tests.
    Software,
}

/// An adapter of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterReport {
    /// Name, as the driver gives it.
    pub name: String,
    /// Driver and its version.
    pub driver: String,
    /// Interface: Vulkan, Metal or DX12.
    pub backend: String,
    /// What it is.
    pub kind: AdapterKind,
}

/// The GPU executor on the adapter whose name or driver holds `selector`, or on the best one. Software adapters count:
/// who wants real GPUs alone looks at [`adapters`] first.
///
/// # Errors
/// Where there is no such adapter, it cannot be opened, or it fails the self-test.
pub fn gpu(selector: Option<&str>) -> Result<Box<dyn Executor>, GpuError> {
    Ok(Box::new(Batcher::new(Gpu::open(selector, None)?)))
}

/// As [`gpu`], computing with these floats where the device's self-test lets it.
///
/// # Errors
/// As [`gpu`].
pub fn gpu_with(selector: Option<&str>, floats: Floats) -> Result<Box<dyn Executor>, GpuError> {
    Ok(Box::new(Batcher::new(Gpu::open(selector, Some(floats))?)))
}

/// The adapters of this machine, best first; none where no driver is installed.
#[must_use]
pub fn adapters() -> Vec<AdapterReport> {
    adapter::adapters()
}

/// The backend.
pub struct Gpu {
    selector: Option<String>,
    floats: Option<Floats>,
    /// It passed its self-test, as every device that took the place of a lost one: only [`tested`] gives them.
    device: Tested,
    models: BTreeMap<ModelHash, Resident>,
}

/// A model on the device.
struct Resident {
    model: Arc<Model>,
    weights: Weights,
    /// By address of the plan, which the compiled form keeps alive.
    plans: BTreeMap<usize, Compiled>,
}

impl Gpu {
    /// Opens and tests a device, as [`gpu`] does.
    ///
    /// # Errors
    /// As [`gpu`].
    pub fn open(selector: Option<&str>, floats: Option<Floats>) -> Result<Self, GpuError> {
        Ok(Self {
            selector: selector.map(str::to_owned),
            floats,
            device: tested(selector, floats)?,
            models: BTreeMap::new(),
        })
    }

    /// A new device in place of a lost one. Weights and plans follow when they are asked for.
    fn recover(&mut self) -> Result<(), EngineError> {
        warn!(adapter = %self.device.report().name, "device lost, opening it anew");
        self.device = tested(self.selector.as_deref(), self.floats)
            .map_err(|e| EngineError::Device(e.to_string()))?;
        for resident in self.models.values_mut() {
            resident.weights = self
                .device
                .upload(resident.model.weights())
                .map_err(engine_error)?;
            resident.plans.clear();
        }
        Ok(())
    }

    /// The device, and a plan of a model compiled for it with the model's weights.
    fn compiled(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
    ) -> Result<(&mut Device, &mut Compiled, &Weights), EngineError> {
        let missing = EngineError::NotPrepared(model.hash());
        let Some(resident) = self.models.get_mut(&model.hash()) else {
            return Err(missing);
        };
        let address = Arc::as_ptr(plan) as usize;
        if !resident.plans.contains_key(&address) {
            if resident.plans.len() >= PLANS_MAX {
                resident.plans.clear();
            }
            let compiled = self
                .device
                .compile(plan, &mut resident.weights, model.weights())
                .map_err(engine_error)?;
            resident.plans.insert(address, compiled);
        }
        let compiled = resident.plans.get_mut(&address).ok_or(missing)?;
        Ok((&mut *self.device, compiled, &resident.weights))
    }

    fn try_load(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
        let mut weights = self.device.upload(model.weights())?;
        let mut plans = BTreeMap::new();
        // One plan is compiled at once: it warms the pipelines, and says whether all steps are covered.
        let least: Vec<Vec<u32>> = model
            .signature()
            .inputs
            .iter()
            .map(|port| port.shape.iter().map(|&d| d.max(1)).collect())
            .collect();
        if let Ok(plan) = model.plan(&least) {
            let compiled = self.device.compile(&plan, &mut weights, model.weights())?;
            plans.insert(Arc::as_ptr(&plan) as usize, compiled);
        }
        let model = model.clone();
        self.models.insert(
            model.hash(),
            Resident {
                model,
                weights,
                plans,
            },
        );
        Ok(())
    }

    fn try_execute(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        let (device, compiled, weights) = self.compiled(model, plan)?;
        device.run(compiled, weights, inputs, outputs)
    }
}

/// A device that passed its self-test.
struct Tested(Device);

impl Deref for Tested {
    type Target = Device;

    fn deref(&self) -> &Device {
        &self.0
    }
}

impl DerefMut for Tested {
    fn deref_mut(&mut self) -> &mut Device {
        &mut self.0
    }
}

/// Drivers whose floats every test of the kernels, the golden data among them, compares with the definition. On others the
/// self-test alone would vouch for them, so they are asked for by name ([`FLOATS`]).
const NATIVE_DRIVERS: [&str; 1] = ["llvmpipe"];

/// The environment variable that says with which floats kernels compute: `soft`, `native` where the self-test finds the
/// device's right, or `auto`, which is `native` for drivers that are known.
pub const FLOATS: &str = "PENSTOCK_GPU_FLOATS";

/// The floats that a device may compute with, by what `asked` has of [`FLOATS`] or by its driver.
fn floats_allowed(report: &AdapterReport, asked: Option<&str>) -> Result<Floats, GpuError> {
    let known = |driver: &&str| report.name.contains(driver) || report.driver.contains(driver);
    match asked.unwrap_or("auto") {
        "soft" => Ok(Floats::Soft),
        "native" => Ok(Floats::Native),
        "auto" if NATIVE_DRIVERS.iter().any(known) => Ok(Floats::Native),
        "auto" => Ok(Floats::Soft),
        other => Err(GpuError::Floats(other.to_owned())),
    }
}

/// Opens a device, tests it, and finds its schedules. Without `floats` it computes with those that its driver may.
fn tested(selector: Option<&str>, floats: Option<Floats>) -> Result<Tested, GpuError> {
    let mut device = Device::open(selector)?;
    let floats = match floats {
        Some(floats) => floats,
        None => floats_allowed(device.report(), std::env::var(FLOATS).ok().as_deref())?,
    };
    device.set_floats(floats);
    let passed = selftest::run(&mut device);
    if device.floats() == Floats::Soft {
        passed?;
    } else if !right(passed, "the device's floats are not used")? {
        device.set_floats(Floats::Soft);
        selftest::run(&mut device)?;
    }
    // The self-test had some programs compiled and some interpreted; from here on as many as there is room for are compiled.
    device.programs_max = programs::PROGRAMS_MAX;
    if device.report().kind != AdapterKind::Software {
        find_schedules(&mut device, selftest::run)?;
    }
    info!(
        adapter = %device.report().name,
        driver = %device.report().driver,
        floats = ?device.floats(),
        schedules = ?device.table,
        "gpu passed its self-test"
    );
    Ok(Tested(device))
}

/// Whether a test found the right bits; where it did not, the log says so, and what follows.
fn right(tested: Result<(), GpuError>, follows: &str) -> Result<bool, GpuError> {
    match tested {
        Err(GpuError::WrongBits {
            what,
            found,
            expect,
            adapter,
        }) => {
            warn!(
                adapter,
                what,
                found = format!("{found:#010x}"),
                expect = format!("{expect:#010x}"),
                "{follows}"
            );
            Ok(false)
        }
        result => result.map(|()| true),
    }
}

/// Finds the schedules of a device that passed its test without broadcasts: software adapters broadcast from the start. It
/// computes without them where their kernels do not pass `test`.
fn find_schedules(
    device: &mut Device,
    test: impl FnOnce(&mut Device) -> Result<(), GpuError>,
) -> Result<(), GpuError> {
    if device.subgroup.is_some() {
        let plain = device.table;
        device.table = Table::all(Schedule::Broadcast).with_subgroup(device.subgroup);
        if !right(test(device), "kernels with broadcasts are not used")? {
            (device.table, device.subgroup) = (plain, None);
        }
        device.programs_max = programs::PROGRAMS_MAX;
    }
    let times = schedule::measure(device, Width::Bits24)?;
    device.table = schedule::fastest(&times).with_subgroup(device.subgroup);
    Ok(())
}

fn engine_error(error: PrepareError) -> EngineError {
    match error {
        PrepareError::Engine(error) => error,
        other => EngineError::OutOfMemory(other.to_string()),
    }
}

impl Backend for Gpu {
    fn name(&self) -> String {
        let report = self.device.report();
        let floats = match self.device.floats() {
            Floats::Soft => "",
            Floats::Native => ", native floats",
        };
        format!(
            "gpu: {} ({}, {}{floats})",
            report.name, report.backend, report.driver
        )
    }

    fn load(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
        if self.models.contains_key(&model.hash()) {
            return Ok(());
        }
        match self.try_load(model) {
            Err(error) if self.device.is_lost() => {
                warn!(%error, "the device was lost before it took a model in");
                self.recover()?;
                self.try_load(model)
            }
            result => result,
        }
    }

    fn execute(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<(), EngineError> {
        match self.try_execute(model, plan, inputs, outputs) {
            Err(error) if self.device.is_lost() => {
                warn!(%error, "run failed with the device");
                self.recover()?;
                self.try_execute(model, plan, inputs, outputs)
            }
            result => result,
        }
    }

    fn profile(
        &mut self,
        model: &Arc<Model>,
        plan: &Arc<Plan>,
        inputs: &[Vec<u32>],
        outputs: &mut [Vec<u32>],
    ) -> Result<Vec<StepTime>, EngineError> {
        self.execute(model, plan, inputs, outputs)?;
        let (device, compiled, weights) = self.compiled(model, plan)?;
        device.profile(compiled, weights, inputs)
    }
}
