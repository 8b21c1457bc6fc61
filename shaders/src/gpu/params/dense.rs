//! Layers of few rows in one dispatch: rows are quantised, contracted with packed weights, and run through an element-wise
//! program. Neither the integers nor the sums are seen by other steps, so they are not written.

use super::contract::narrow;
use super::{Work, flattened, map_work};
use crate::error::PrepareError;
use crate::gpu::kernels::Kernel;
use crate::gpu::packed::{BROADCAST, Pack};
use crate::gpu::programs;
use crate::plan::{Buffer, Contract, Kind, LOADS_MAX, Map, Plan, Quantise, Space, Step, View};
use std::ops::Range;

/// Most rows: with more, kernels that keep tiles in registers are better.
const ROWS_MAX: u32 = 2;

/// Longest rows. Every workgroup looks at all of them for their exponents; these are read from a cache.
const DEPTH_MAX: u32 = 4_096;

/// Where the layout begins that is not the program's: `M` of `dense.wgsl`.
const LAYER: usize = 80;

/// A layer: two or three steps of a plan.
struct Layer<'a> {
    quantise: &'a Quantise,
    contract: &'a Contract,
    /// The program, and the number of the load that is the contraction's result.
    map: Option<(&'a Map, usize)>,
    pack: Pack,
}

/// The layer that begins at the step `at` of a plan, in workgroups of `subgroup` invocations, and how many steps it stands
/// for; `None` where there is none. `room` says whether a program may have a pipeline of its own.
pub(in crate::gpu) fn layer(
    plan: &Plan,
    at: usize,
    subgroup: u32,
    mut room: impl FnMut(&super::Variant) -> bool,
) -> Result<Option<(Work, usize)>, PrepareError> {
    let Some(layer) = Layer::find(plan, at) else {
        return Ok(None);
    };
    if let Some((map, load)) = layer.map
        && let Some(work) = layer.work(subgroup, Some((map, load)))?
        && room(&work.variant)
    {
        return Ok(Some((work, 3)));
    }
    if !layer.apart(&layer.contract.out) {
        return Ok(None);
    }
    Ok(layer.work(subgroup, None)?.map(|work| (work, 2)))
}

/// The arena's words of a buffer.
fn words(buffer: &Buffer) -> Range<u64> {
    let start = u64::from(buffer.offset);
    start..start + u64::from(buffer.len) * u64::from(buffer.kind.words())
}

/// Whether no step behind `last` reads what stands in this buffer after it.
fn is_private(plan: &Plan, last: usize, buffer: &Buffer) -> bool {
    let own = words(buffer);
    // Buffers that live at one time do not overlap: a reference into one begins within its words.
    for step in &plan.steps[last + 1..] {
        let mut step = step.clone();
        let mut written = false;
        for touch in step.touches() {
            if *touch.space == Space::Arena && own.contains(&u64::from(*touch.offset)) {
                if !touch.write {
                    return false;
                }
                written = true;
            }
        }
        if written {
            return true;
        }
    }
    let seen =
        |output: &Buffer| output.space == Space::Arena && own.contains(&u64::from(output.offset));
    !plan.outputs.iter().any(seen)
}

/// Whether a view reads all of `dims` in order.
fn in_order(view: &View, dims: &[u32]) -> bool {
    let mut next = 1i64;
    dims.iter().zip(&view.strides).rev().all(|(&dim, &stride)| {
        let fits = dim == 1 || i64::from(stride) == next;
        next *= i64::from(dim);
        fits
    })
}

impl<'a> Layer<'a> {
    fn find(plan: &'a Plan, at: usize) -> Option<Self> {
        let (Some(Step::Quantise(quantise)), Some(Step::Contract(contract))) =
            (plan.steps.get(at), plan.steps.get(at + 1))
        else {
            return None;
        };
        let pack = Pack::of_contract(contract)?;
        let own = contract.a.q == quantise.q && contract.a.exponent == quantise.exponent;
        let small = contract.m <= ROWS_MAX && contract.k <= DEPTH_MAX && contract.batch.is_empty();
        let rows = quantise.rows.len() <= 1
            && quantise.rows.iter().product::<u32>() == contract.m
            && quantise.q.len == contract.m * contract.k
            && quantise.input.space == Space::Arena;
        let private = [&quantise.q, &quantise.exponent].map(|b| is_private(plan, at + 1, b));
        let fits = contract.b.exponent.space == Space::Weights && contract.out.kind == Kind::F32;
        if !(own && small && rows && fits) || private.contains(&false) {
            return None;
        }
        let mut layer = Self {
            quantise,
            contract,
            map: None,
            pack,
        };
        layer.map = layer.program(plan, at + 2);
        Some(layer)
    }

    /// The program that alone reads the contraction's results, one by one.
    fn program(&self, plan: &'a Plan, at: usize) -> Option<(&'a Map, usize)> {
        let Some(Step::Map(map)) = plan.steps.get(at) else {
            return None;
        };
        let out = &self.contract.out;
        let own = words(out);
        let mut of_result = map.loads.iter().enumerate().filter(|(_, load)| {
            load.space == Space::Arena && own.contains(&u64::from(load.offset))
        });
        let (number, load) = of_result.next()?;
        let all = load.offset == out.offset
            && in_order(load, &map.dims)
            && map.dims.iter().product::<u32>() == out.len;
        let alone = of_result.next().is_none() && is_private(plan, at, out);
        (all && alone && self.apart(&map.out)).then_some((map, number))
    }

    /// Whether a buffer that the layer writes is apart from the floats that it reads: its workgroups run in any order.
    fn apart(&self, out: &Buffer) -> bool {
        let input = &self.quantise.input;
        let dims = self.quantise.rows.iter().chain(&self.quantise.cols);
        let mut reach = 0u64;
        for (&dim, &stride) in dims.zip(&input.strides) {
            let Ok(stride) = u64::try_from(stride) else {
                return false;
            };
            reach += u64::from(dim - 1) * stride;
        }
        let first = u64::from(input.offset);
        let out = words(out);
        first + reach < out.start || out.end <= first
    }

    /// The layer's work; `None` where no kernel has room for the program.
    fn work(
        &self,
        subgroup: u32,
        map: Option<(&Map, usize)>,
    ) -> Result<Option<Work>, PrepareError> {
        let contract = self.contract;
        let quantise = self.quantise;
        let (cols, strides) = flattened(quantise.rows.len(), &quantise.cols, &quantise.input);
        if cols.len() != 1 {
            return Ok(None);
        }
        let (m, n, k) = (contract.m, contract.n, contract.k);
        let rows = m.next_power_of_two();
        let lanes = super::broadcast::lanes(subgroup);
        let mut overrides = vec![
            narrow(contract.width),
            ("LANES", lanes),
            ("FOURS", 1),
            ("ROWS", rows),
        ];
        let mut block = None;
        let mut out = contract.out.offset;
        let load = map.map_or(LOADS_MAX, |(_, load)| load);
        overrides.push(("RESULT_LOAD", load as u32));
        if let Some((map, load)) = map {
            let Some(program) = programs::dense(map, load) else {
                return Ok(None);
            };
            overrides.extend(program);
            block = Some(map_work(map)?.block);
            out = map.out.offset;
        }
        let columns = 4 * lanes;
        let cost = u64::from(k) * u64::from(rows) * u64::from(columns) * 2;
        let tiles = u64::from(n.div_ceil(columns));
        let mut work = Work::new(Kernel::Dense, overrides, tiles, cost)?;
        work.items_per_group = 1;
        work.pack = Some(self.pack);
        let steps = u64::from(BROADCAST / rows);
        work.rounds = u64::from(k).div_ceil(steps) * (2 + steps) + 32;
        if let Some(block) = block {
            work.block = block;
        }
        // One row has no distance to another.
        let apart = if strides.len() == 2 { strides[0] } else { 0 };
        let header = [
            m,
            n,
            k,
            self.quantise.input.offset,
            apart as u32,
            strides[strides.len() - 1] as u32,
            contract.b.exponent.offset,
            2 * contract.width.unit() as u32,
            contract.width.dropped(),
            contract.width.most() as u32,
            self.pack.fours(),
            out,
        ];
        work.set(LAYER, header);
        Ok(Some(work))
    }
}
