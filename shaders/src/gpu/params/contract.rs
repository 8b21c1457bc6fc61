//! Contractions and convolutions whose operands stand as the plan has them.

use super::{Override, Variant, WORKGROUP, Work, count, fits, window_words};
use crate::error::PrepareError;
use crate::gpu::kernels::Kernel;
use crate::gpu::schedule::Schedule;
use crate::num::Width;
use crate::plan::{Contract, Conv, Kind, RANK_MAX, Space};

/// Operands and exponents must stand in one space: a kernel reads both by one binding.
pub(super) fn one_space(q: Space, exponent: Space) -> Result<u32, PrepareError> {
    if q == exponent {
        Ok(q as u32)
    } else {
        Err(PrepareError::NoKernel(
            "contract (exponents apart from their rows)",
        ))
    }
}

/// The override of `lib/tile.wgsl` that says whether values have at most 16 bits.
pub(super) const fn narrow(width: Width) -> Override {
    let is_narrow = match width {
        Width::Bits24 | Width::Float => 0,
        Width::Bits16 | Width::Whole => 1,
    };
    ("NARROW", is_narrow)
}

/// Rows and columns of a workgroup's results: `TILE` of `contract_shared.wgsl`.
const SHARED_TILE: u32 = 32;

/// Elements of a row that stand in shared memory at a time: `SLAB` of `contract_shared.wgsl`.
const SHARED_SLAB: u64 = 16;

/// Rows, at most, and columns of an invocation's results: of `contract_float.wgsl`.
const FLOAT_TILE: u32 = 8;

/// Products whose digits are summed in 32 bits: `CHUNK` of `lib/tile.wgsl`.
const CHUNK: u64 = 128;

/// Writes what all kernels of contractions read (`lib/operands.wgsl`).
pub(super) fn contract_block(work: &mut Work, contract: &Contract) {
    let header = [
        contract.m,
        contract.n,
        contract.k,
        contract.a.q.offset,
        contract.a.exponent.offset,
        contract.b.q.offset,
        contract.b.exponent.offset,
        contract.out.offset,
        contract.batch.len() as u32,
        2 * contract.width.unit() as u32,
        u32::from(contract.out.kind != Kind::F32),
    ];
    work.set(2, header);
    work.set(16, contract.batch.iter().copied());
    work.set(24, contract.a.batch.iter().copied());
    work.set(32, contract.b.batch.iter().copied());
}

/// Writes what all kernels of convolutions read (`conv.wgsl`).
pub(super) fn conv_block(work: &mut Work, conv: &Conv) {
    let header = [
        conv.groups,
        conv.cin,
        conv.cout,
        conv.input_q.offset,
        conv.input_exponent.offset,
        conv.weight_q.offset,
        conv.weight_exponent.offset,
        conv.out.offset,
        2 * conv.width.unit() as u32,
        u32::from(conv.out.kind != Kind::F32),
    ];
    work.set(2, header);
    work.set(16, window_words(&conv.window));
}

/// A contraction, by one of the schedules that do not broadcast.
pub(super) fn contract_work(contract: &Contract, schedule: Schedule) -> Result<Work, PrepareError> {
    fits(
        "batch dimensions of a contraction",
        contract.batch.len(),
        RANK_MAX,
    )?;
    // Few sizes of tiles, so that few pipelines are compiled.
    let rows = |most: u32| contract.m.min(most).next_power_of_two();
    let (kernel, tile) = match schedule {
        Schedule::Register | Schedule::Broadcast => (Kernel::Contract, [rows(4), 4]),
        Schedule::Large => (Kernel::ContractLarge, [rows(8), 8]),
        Schedule::Shared => (Kernel::ContractShared, [SHARED_TILE; 2]),
        Schedule::Split => (Kernel::ContractSplit, [rows(4), 4]),
    };
    let tiles = count(&contract.batch)
        * u64::from(contract.m.div_ceil(tile[0]))
        * u64::from(contract.n.div_ceil(tile[1]));
    let mut overrides = vec![
        narrow(contract.width),
        (
            "A_SPACE",
            one_space(contract.a.q.space, contract.a.exponent.space)?,
        ),
        (
            "B_SPACE",
            one_space(contract.b.q.space, contract.b.exponent.space)?,
        ),
    ];
    if schedule != Schedule::Shared {
        overrides.push(("ROWS", tile[0]));
    }
    let cost = u64::from(contract.k) * u64::from(tile[0]) * u64::from(tile[1]) * 4;
    let mut work = Work::new(kernel, overrides, tiles, cost)?;
    if matches!(schedule, Schedule::Shared | Schedule::Split) {
        work.items_per_group = 1;
    }
    let k = u64::from(contract.k);
    work.rounds = match schedule {
        Schedule::Register | Schedule::Broadcast | Schedule::Large => k + 2 * k.div_ceil(CHUNK),
        // A slab is one round, two to bring it, and one for each of its elements.
        Schedule::Shared => k.div_ceil(SHARED_SLAB) * (SHARED_SLAB + 5),
        Schedule::Split => k.div_ceil(u64::from(WORKGROUP)) + 2 * k.div_ceil(CHUNK) + 32,
    };
    contract_block(&mut work, contract);
    Ok(work)
}

/// A contraction of floats.
pub(super) fn float_contract_work(contract: &Contract) -> Result<Work, PrepareError> {
    fits(
        "batch dimensions of a contraction",
        contract.batch.len(),
        RANK_MAX,
    )?;
    let rows = contract.m.min(FLOAT_TILE).next_power_of_two();
    let tiles = count(&contract.batch)
        * u64::from(contract.m.div_ceil(rows))
        * u64::from(contract.n.div_ceil(FLOAT_TILE));
    let overrides = vec![
        ("ROWS", rows),
        ("A_SPACE", contract.a.q.space as u32),
        ("B_SPACE", contract.b.q.space as u32),
    ];
    let k = u64::from(contract.k);
    let cost = k * u64::from(FLOAT_TILE * FLOAT_TILE);
    let mut work = Work::new(Kernel::ContractFloat, overrides, tiles, cost)?;
    work.rounds = k + 8;
    contract_block(&mut work, contract);
    Ok(work)
}

/// A convolution of floats.
pub(super) fn float_conv_work(conv: &Conv) -> Result<Work, PrepareError> {
    let mut work = conv_work(conv)?;
    work.variant = Variant {
        kernel: Kernel::ConvFloat,
        overrides: vec![("WEIGHT_SPACE", conv.weight_q.space as u32)],
    };
    Ok(work)
}

/// A convolution.
pub(super) fn conv_work(conv: &Conv) -> Result<Work, PrepareError> {
    let positions = count(&conv.window.output);
    let taps = u64::from(conv.cin) * count(&conv.window.kernel);
    let tiles = u64::from(conv.samples)
        * u64::from(conv.groups)
        * positions.div_ceil(4)
        * u64::from(conv.cout.div_ceil(4));
    if conv.input_q.space != Space::Arena || conv.input_exponent.space != Space::Arena {
        return Err(PrepareError::NoKernel("conv (of a constant input)"));
    }
    let space = one_space(conv.weight_q.space, conv.weight_exponent.space)?;
    let mut work = Work::new(
        Kernel::Conv,
        vec![narrow(conv.width), ("WEIGHT_SPACE", space)],
        tiles,
        taps * 64,
    )?;
    work.rounds = taps + 2 * taps.div_ceil(CHUNK);
    conv_block(&mut work, conv);
    Ok(work)
}
