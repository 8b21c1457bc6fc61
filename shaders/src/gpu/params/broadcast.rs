//! Contractions and convolutions whose rows are broadcast within a subgroup (`kernels/lib/broadcast.wgsl`).

use super::contract::{narrow, one_space};
use super::{Override, Work, count, fits, window_words};
use crate::error::PrepareError;
use crate::gpu::kernels::Kernel;
use crate::gpu::packed::{BROADCAST, Pack};
use crate::num::Width;
use crate::plan::{Contract, Conv, Kind, RANK_MAX, Space};

/// Most invocations of a workgroup: more columns than that are tiles of their own.
const LANES_MAX: u32 = 64;

/// Invocations of a workgroup.
pub(super) fn lanes(subgroup: u32) -> u32 {
    subgroup.min(LANES_MAX)
}

/// Columns of a tile, and the overrides of `lib/broadcast.wgsl` that make it.
fn tile(n: u32, subgroup: u32, width: Width) -> (u32, Vec<Override>) {
    let lanes = lanes(subgroup);
    let fours = if n > 4 * lanes { 2 } else { 1 };
    let overrides = vec![narrow(width), ("LANES", lanes), ("FOURS", fours)];
    (4 * fours * lanes, overrides)
}

/// A contraction, in workgroups of `subgroup` invocations.
pub(super) fn contract(contract: &Contract, subgroup: u32) -> Result<Work, PrepareError> {
    fits(
        "batch dimensions of a contraction",
        contract.batch.len(),
        RANK_MAX,
    )?;
    let rows = contract.m.min(BROADCAST).next_power_of_two();
    let (columns, mut overrides) = tile(contract.n, subgroup, contract.width);
    let pack = Pack::of_contract(contract);
    let (a, b) = (&contract.a, &contract.b);
    overrides.extend([
        ("A_SPACE", one_space(a.q.space, a.exponent.space)?),
        ("B_SPACE", one_space(b.q.space, b.exponent.space)?),
        ("ROWS", rows),
        ("PACKED", u32::from(pack.is_some())),
    ]);
    let tiles = count(&contract.batch)
        * u64::from(contract.m.div_ceil(rows))
        * u64::from(contract.n.div_ceil(columns));
    let k = u64::from(contract.k);
    let cost = k * u64::from(rows) * u64::from(columns) * 2;
    let mut work = Work::new(Kernel::ContractBroadcast, overrides, tiles, cost)?;
    work.items_per_group = 1;
    work.pack = pack;
    // A round for each broadcast, and for each row's element in it.
    let steps = u64::from(BROADCAST / rows);
    work.rounds = k.div_ceil(steps) * (1 + steps) + 16;
    let header = [
        contract.m,
        contract.n,
        contract.k,
        a.q.offset,
        a.exponent.offset,
        b.q.offset,
        b.exponent.offset,
        contract.out.offset,
        contract.batch.len() as u32,
        2 * contract.width.unit() as u32,
        u32::from(contract.out.kind != Kind::F32),
        pack.map_or(1, |pack| pack.fours()),
        pack.map_or(0, |pack| pack.matrix()),
    ];
    work.set(2, header);
    work.set(16, contract.batch.iter().copied());
    work.set(24, a.batch.iter().copied());
    work.set(32, b.batch.iter().copied());
    Ok(work)
}

/// Output channels of a group from which broadcasting pays: with fewer, most invocations have none.
const CHANNELS_MIN: u32 = 8;

/// A convolution, in workgroups of `subgroup` invocations; `None` where its weights are no weights of the model, or its
/// channels are few.
pub(super) fn conv(conv: &Conv, subgroup: u32) -> Result<Option<Work>, PrepareError> {
    let Some(pack) = Pack::of_conv(conv).filter(|_| conv.cout >= CHANNELS_MIN) else {
        return Ok(None);
    };
    let constant = [conv.input_q, conv.input_exponent].map(|b| b.space != Space::Arena);
    if constant.contains(&true) || conv.weight_exponent.space != Space::Weights {
        return Ok(None);
    }
    let (columns, overrides) = tile(conv.cout, subgroup, conv.width);
    let positions = count(&conv.window.output);
    let taps = u64::from(conv.cin) * count(&conv.window.kernel);
    let tiles = u64::from(conv.samples)
        * u64::from(conv.groups)
        * positions.div_ceil(u64::from(BROADCAST))
        * u64::from(conv.cout.div_ceil(columns));
    let cost = taps * u64::from(BROADCAST) * u64::from(columns) * 2;
    let mut work = Work::new(Kernel::ConvBroadcast, overrides, tiles, cost)?;
    work.items_per_group = 1;
    work.pack = Some(pack);
    work.rounds = taps + 16;
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
        pack.fours(),
        pack.matrix(),
    ];
    work.set(2, header);
    work.set(16, window_words(&conv.window));
    Ok(Some(work))
}
