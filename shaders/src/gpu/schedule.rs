//! How contractions are shared out over a device's invocations. All schedules give the same bits, since sums of integers
//! have no order, so a device takes the fastest: a software adapter by a table that was measured once (its shared memory
//! is slow, its registers are not), any other by a measurement when it is opened.

use super::GpuError;
use super::device::Device;
use super::selftest::{place, words};
use crate::error::EngineError;
use crate::num::Width;
use crate::plan::{Contract, Kind, Plan, Rows, Step};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// A way to share out a contraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Schedule {
    /// Each invocation makes up to 4 by 4 results, and keeps all it reads in registers.
    Register,
    /// Each invocation makes up to 8 by 8 results.
    Large,
    /// Each workgroup makes 32 by 32 results, and shares what it reads.
    Shared,
    /// Each workgroup makes up to 4 by 4 results; its invocations split their sums.
    Split,
    /// Each workgroup makes up to 8 rows; its invocations broadcast to each other what they read of these, and have columns
    /// of their own. It needs 64-bit integers and subgroups.
    Broadcast,
}

impl Schedule {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Register,
        Self::Large,
        Self::Shared,
        Self::Split,
        Self::Broadcast,
    ];
}

/// Contractions that one schedule suits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// One row of results: what a model of dense layers asks for alone.
    Row = 0,
    /// At most eight rows.
    Few = 1,
    /// More rows, short sums.
    Shallow = 2,
    /// More rows, long sums.
    Deep = 3,
}

/// Rows up to which a contraction is [`Class::Few`].
const FEW_ROWS: u32 = 8;

/// Terms from which a sum is long: two slabs of shared memory and more.
const LONG: u32 = 48;

impl Class {
    /// All of them, by number.
    pub const ALL: [Self; 4] = [Self::Row, Self::Few, Self::Shallow, Self::Deep];

    /// The class of a contraction.
    #[must_use]
    pub const fn of(contract: &Contract) -> Self {
        match (contract.m, contract.k) {
            (1, _) => Self::Row,
            (2..=FEW_ROWS, _) => Self::Few,
            (_, ..LONG) => Self::Shallow,
            _ => Self::Deep,
        }
    }

    /// Rows, columns and terms that stand for the class in a measurement.
    const fn sample(self) -> [u32; 3] {
        match self {
            Self::Row => [1, 1024, 1024],
            Self::Few => [8, 512, 512],
            Self::Shallow => [512, 512, 32],
            Self::Deep => [256, 256, 256],
        }
    }
}

/// The schedule of each class.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Table {
    classes: [Schedule; Class::ALL.len()],
    /// Invocations of a workgroup that broadcasts; `None` where none may.
    subgroup: Option<u32>,
}

impl Table {
    /// Until more is known: the kernel that is compiled soonest, which counts on a driver that takes seconds for it.
    pub const PLAIN: Self = Self::all(Schedule::Register);

    /// Measured on lavapipe 22.3 (`PENSTOCK_CALIBRATE=1`, test `schedules_are_measured`).
    pub const LLVMPIPE: Self = Self {
        classes: [
            Schedule::Register,
            Schedule::Large,
            Schedule::Large,
            Schedule::Large,
        ],
        subgroup: None,
    };

    /// One schedule for all.
    #[must_use]
    pub const fn all(schedule: Schedule) -> Self {
        Self {
            classes: [schedule; Class::ALL.len()],
            subgroup: None,
        }
    }

    /// The same on a device with subgroups of so many invocations at least. Convolutions broadcast where they may.
    #[must_use]
    pub const fn with_subgroup(self, invocations: Option<u32>) -> Self {
        Self {
            subgroup: invocations,
            ..self
        }
    }

    /// Invocations of a workgroup that broadcasts, where one may.
    #[must_use]
    pub const fn subgroup(&self) -> Option<u32> {
        self.subgroup
    }

    /// The schedule of a contraction.
    #[must_use]
    pub const fn of(&self, contract: &Contract) -> Schedule {
        self.classes[Class::of(contract) as usize]
    }
}

/// Runs of a sample that are timed; the fastest counts.
const RUNS: usize = 5;

/// Times by class, then by schedule.
pub type Times = [[Duration; Schedule::ALL.len()]; Class::ALL.len()];

/// How long each schedule takes for each class with operands of `width`, on `device`, which passed its self-test.
///
/// # Errors
/// Where the device fails, or a schedule gives other bits than the one that the self-test ran.
pub fn measure(device: &mut Device, width: Width) -> Result<Times, GpuError> {
    let adapter = device.report().name.clone();
    let chosen = device.table;
    let mut times = [[Duration::MAX; Schedule::ALL.len()]; Class::ALL.len()];
    for class in Class::ALL {
        let (plan, inputs) = sample(class.sample(), width);
        let mut first: Option<Vec<u32>> = None;
        for schedule in device.schedules() {
            device.table = Table::all(schedule).with_subgroup(device.subgroup);
            let timed = timed(device, &plan, &inputs);
            device.table = chosen;
            let (time, found) = timed.map_err(|error| GpuError::SelfTest {
                adapter: adapter.clone(),
                reason: error.to_string(),
            })?;
            let expect = first.get_or_insert_with(|| found.clone());
            if let Some((found, expect)) = found.iter().zip(&*expect).find(|(a, b)| a != b) {
                return Err(GpuError::WrongBits {
                    adapter,
                    what: format!("a contraction, {schedule:?}"),
                    found: *found,
                    expect: *expect,
                });
            }
            times[class as usize][schedule as usize] = time;
        }
    }
    Ok(times)
}

/// The fastest of each class.
pub fn fastest(times: &Times) -> Table {
    let classes = times.map(|of| {
        let least = Schedule::ALL.into_iter().min_by_key(|s| of[*s as usize]);
        least.unwrap_or(Schedule::Register)
    });
    Table {
        classes,
        subgroup: None,
    }
}

/// The fastest of [`RUNS`] runs of a plan without weights, and its output.
fn timed(
    device: &mut Device,
    plan: &Arc<Plan>,
    inputs: &[Vec<u32>],
) -> Result<(Duration, Vec<u32>), EngineError> {
    let mut weights = device.upload(&[]).map_err(super::engine_error)?;
    let mut compiled = device
        .compile(plan, &mut weights, &[])
        .map_err(super::engine_error)?;
    let mut outputs = vec![Vec::new()];
    // The first run has the driver compile the pipeline.
    device.run(&mut compiled, &weights, inputs, &mut outputs)?;
    let mut least = Duration::MAX;
    for _ in 0..RUNS {
        let start = Instant::now();
        device.run(&mut compiled, &weights, inputs, &mut outputs)?;
        least = least.min(start.elapsed());
    }
    Ok((least, outputs.swap_remove(0)))
}

/// A plan of one contraction, and its operands, which reach the ends of their width.
pub fn sample([m, n, k]: [u32; 3], width: Width) -> (Arc<Plan>, Vec<Vec<u32>>) {
    let mut top = 0;
    let mut rows = |count: u32| Rows {
        q: place(&mut top, Kind::I32, count * k),
        exponent: place(&mut top, Kind::I32, count),
        batch: vec![],
    };
    let (a, b) = (rows(m), rows(n));
    let out = place(&mut top, Kind::F32, m * n);
    let mut next = words(0x5c4ed);
    let mut integers = |count: u32| -> Vec<u32> {
        (0..count)
            .map(|i| {
                let most = width.most();
                let any = (next() % (2 * most as u32 + 1)) as i32 - most;
                // Ends of the range more often than chance has it.
                (match (i + next() % 3) % 8 {
                    0 => most,
                    1 => -most,
                    _ => any,
                }) as u32
            })
            .collect()
    };
    let inputs = vec![
        integers(m * k),
        (0..m).map(|i| 120 + i % 9).collect(),
        integers(n * k),
        (0..n).map(|i| 125 + i % 7).collect(),
    ];
    let plan = Arc::new(Plan {
        inputs: vec![a.q, a.exponent, b.q, b.exponent],
        outputs: vec![out],
        output_shapes: vec![vec![m, n]],
        locals: vec![],
        arena_words: top,
        steps: vec![Step::Contract(Contract {
            width,
            batch: vec![],
            m,
            n,
            k,
            a,
            b,
            out,
        })],
        macs: 0,
        touched: 0,
    });
    (plan, inputs)
}
