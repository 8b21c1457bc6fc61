//! Contractions and convolutions whose rows are broadcast within a subgroup (`kernels/lib/broadcast.wgsl`).

use super::contract::{contract_block, conv_block, narrow, one_space};
use super::{Override, Work, count, fits};
use crate::error::PrepareError;
use crate::gpu::kernels::Kernel;
use crate::gpu::packed::{BROADCAST, Pack};
use crate::num::Width;
use crate::plan::{Contract, Conv, RANK_MAX, Space};

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
    // A round for each two broadcasts, and for each row's element in one of them.
    let steps = u64::from(BROADCAST / rows);
    work.rounds = k.div_ceil(2 * steps) * (1 + steps) + 16;
    contract_block(&mut work, contract);
    let layout = [
        pack.map_or(1, |pack| pack.fours()),
        pack.map_or(0, |pack| pack.matrix()),
    ];
    work.set(13, layout);
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
    work.rounds = taps.div_ceil(2) + 16;
    conv_block(&mut work, conv);
    work.set(12, [pack.fours(), pack.matrix()]);
    Ok(Some(work))
}
