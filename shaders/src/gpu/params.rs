//! From a step of a plan to dispatches: which kernel with which overrides, its parameter block, and how many work items.
//! The layouts of the blocks are written in the headers of the kernels.

mod broadcast;
mod contract;
pub(super) mod dense;
mod map;

pub(super) use map::special;

use super::kernels::Kernel;
use super::packed::Pack;
use super::schedule::{Schedule, Table};
use crate::error::PrepareError;
use crate::num::Width;
use crate::plan::{
    Copy, Kind, Pool, Quantise, RANK_MAX, Reduce, ReduceOp, Step, Take, Trees, View, Window,
};
use contract::{contract_work, conv_work, float_contract_work, float_conv_work};
use map::map_work;

/// Words of a parameter block: what the largest layout needs (a map's), and a multiple of the 256 bytes to which dynamic
/// offsets are aligned.
pub const BLOCK_WORDS: usize = 256;

/// Invocations of a workgroup: `WORKGROUP` of `lib/step.wgsl`.
pub const WORKGROUP: u32 = 64;

/// Cost of a dispatch at most, in integer multiplications or the like. A software adapter does about `2^33` of them a
/// second, so that none runs beyond 100 ms: drivers reset a device on which one runs for seconds.
const DISPATCH_COST_MAX: u64 = 1 << 29;

/// A constant of a pipeline.
pub type Override = (&'static str, u32);

/// What a pipeline is made from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Variant {
    /// The file.
    pub kernel: Kernel,
    /// Values of its overrides.
    pub overrides: Vec<Override>,
}

/// A step, ready to be cut into dispatches.
#[derive(Clone, Debug)]
pub struct Work {
    /// Pipeline.
    pub variant: Variant,
    /// Parameter block; the first two words are filled per dispatch.
    pub block: [u32; BLOCK_WORDS],
    /// Work items in all.
    pub items: u32,
    /// Work items of a workgroup.
    pub items_per_group: u32,
    /// Cost of a work item, in integer multiplications.
    pub item_cost: u64,
    /// Rounds of all loops of one invocation whose length the step decides, at most. To find that a loop is at its end is a
    /// round, too.
    pub rounds: u64,
    /// Weights that it reads packed.
    pub pack: Option<Pack>,
}

impl Work {
    fn new(
        kernel: Kernel,
        overrides: Vec<Override>,
        items: u64,
        item_cost: u64,
    ) -> Result<Self, PrepareError> {
        let items = u32::try_from(items).map_err(|_| PrepareError::TooLarge {
            what: "work items of a step",
            found: items,
            limit: u64::from(u32::MAX),
        })?;
        Ok(Self {
            variant: Variant { kernel, overrides },
            block: [0; BLOCK_WORDS],
            items,
            items_per_group: WORKGROUP,
            item_cost: item_cost.max(1),
            rounds: 0,
            pack: None,
        })
    }

    fn set(&mut self, at: usize, words: impl IntoIterator<Item = u32>) {
        for (place, word) in self.block[at..].iter_mut().zip(words) {
            *place = word;
        }
    }

    fn set_view(&mut self, at: usize, view: &View) {
        self.set(at, [view.space as u32, view.kind.words(), view.offset]);
        self.set(at + 3, view.strides.iter().map(|&s| s as u32));
    }

    /// Dispatches: first item, item behind the last, workgroups.
    pub fn cuts(&self) -> impl Iterator<Item = (u32, u32, u32)> {
        let per_group = u64::from(self.items_per_group);
        let items = (DISPATCH_COST_MAX / self.item_cost / per_group).max(1) * per_group;
        // 2^22 workgroups fit two dimensions of at most 65,535, whatever the split.
        let items = items.min(per_group << 22);
        let all = u64::from(self.items);
        (0..all.div_ceil(items)).map(move |cut| {
            let first = cut * items;
            let end = all.min(first + items);
            (
                first as u32,
                end as u32,
                (end - first).div_ceil(per_group) as u32,
            )
        })
    }
}

/// How a step is run, on a device whose contractions follow `table`.
///
/// # Errors
/// Names the step where no kernel covers it.
pub fn work(step: &Step, table: &Table) -> Result<Work, PrepareError> {
    match step {
        Step::Map(map) => map_work(map),
        Step::Copy(copy) => copy_work(copy),
        Step::Take(take) => take_work(take),
        Step::Reduce(reduce) => reduce_work(reduce),
        Step::Quantise(quantise) => quantise_work(quantise, table.subgroup()),
        Step::Contract(contract) if contract.width == Width::Float => float_contract_work(contract),
        Step::Conv(conv) if conv.width == Width::Float => float_conv_work(conv),
        Step::Contract(contract) => match (table.of(contract), table.subgroup()) {
            (Schedule::Broadcast, Some(subgroup)) => broadcast::contract(contract, subgroup),
            (schedule, _) => contract_work(contract, schedule),
        },
        Step::Conv(conv) => {
            let work = table.subgroup().map(|least| broadcast::conv(conv, least));
            match work.transpose()?.flatten() {
                Some(work) => Ok(work),
                None => conv_work(conv),
            }
        }
        Step::Pool(pool) => pool_work(pool),
        Step::Trees(trees) => trees_work(trees),
    }
}

fn count(dims: &[u32]) -> u64 {
    dims.iter().map(|&d| u64::from(d)).product()
}

/// Refuses what a block has no room for.
fn fits(what: &'static str, found: usize, limit: usize) -> Result<(), PrepareError> {
    if found > limit {
        return Err(PrepareError::TooLarge {
            what,
            found: found as u64,
            limit: limit as u64,
        });
    }
    Ok(())
}

fn copy_work(copy: &Copy) -> Result<Work, PrepareError> {
    fits("dimensions of a copy", copy.dims.len(), RANK_MAX)?;
    let mut work = Work::new(Kernel::Copy, vec![], count(&copy.dims), 16)?;
    work.set(2, [copy.dims.len() as u32]);
    work.set(3, copy.dims.iter().copied());
    work.set_view(11, &copy.from);
    work.set_view(22, &copy.to);
    Ok(work)
}

fn take_work(take: &Take) -> Result<Work, PrepareError> {
    fits("dimensions of a take", take.dims.len(), RANK_MAX)?;
    fits("components of a take", take.components.len(), 64)?;
    let mut work = Work::new(Kernel::Take, vec![], count(&take.dims), 32)?;
    work.set(2, [take.dims.len() as u32]);
    work.set(3, take.dims.iter().copied());
    work.set_view(11, &take.data);
    work.set_view(22, &take.index);
    let outside = if take.data.kind == Kind::F32 {
        crate::num::float::CANONICAL_NAN
    } else {
        0
    };
    let tail = [
        take.component_stride as u32,
        take.components.len() as u32,
        take.out.offset,
        outside,
    ];
    work.set(33, tail);
    work.set(
        40,
        take.components
            .iter()
            .flat_map(|c| [c.extent, c.stride as u32]),
    );
    Ok(work)
}

fn reduce_work(reduce: &Reduce) -> Result<Work, PrepareError> {
    let (cols, strides) = flattened(reduce.rows.len(), &reduce.cols, &reduce.input);
    let dims: Vec<u32> = reduce.rows.iter().chain(&cols).copied().collect();
    fits("dimensions of a reduction", dims.len(), RANK_MAX)?;
    let columns = count(&reduce.cols);
    let tree =
        reduce.input.kind == Kind::F32 && matches!(reduce.op, ReduceOp::Sum | ReduceOp::Prod);
    let flat = ("FLAT", u32::from(cols.len() == 1));
    let (kernel, overrides) = if tree {
        let product = u32::from(reduce.op == ReduceOp::Prod);
        (Kernel::Fold, vec![("PRODUCT", product), flat])
    } else {
        let kind = reduce.input.kind as u32;
        (
            Kernel::Pick,
            vec![("KIND", kind), ("FOLD", reduce.op as u32), flat],
        )
    };
    let mut work = Work::new(kernel, overrides, count(&reduce.rows), columns * 100)?;
    // Each column is found by a walk over the dimensions.
    work.rounds = columns * (1 + dims.len() as u64) + 2 * columns.div_ceil(512);
    let header = [dims.len() as u32, columns as u32, reduce.out.offset];
    work.set(2, header);
    work.set(8, dims);
    let input = View {
        strides,
        ..reduce.input.clone()
    };
    work.set_view(16, &input);
    Ok(work)
}

/// Elements of a row for each invocation up to which a workgroup of one subgroup takes it. More are shared out among more
/// invocations.
const SUBGROUP_ELEMENTS: u32 = 64;

fn quantise_work(quantise: &Quantise, subgroup: Option<u32>) -> Result<Work, PrepareError> {
    let (cols, strides) = flattened(quantise.rows.len(), &quantise.cols, &quantise.input);
    let dims: Vec<u32> = quantise.rows.iter().chain(&cols).copied().collect();
    fits("dimensions of a quantisation", dims.len(), RANK_MAX)?;
    let columns = count(&quantise.cols);
    let mut overrides = vec![
        ("FLAT", u32::from(cols.len() == 1)),
        ("SPACE", quantise.input.space as u32),
    ];
    let lanes = subgroup
        .map(broadcast::lanes)
        .filter(|&lanes| columns <= u64::from(SUBGROUP_ELEMENTS * lanes));
    let kernel = match lanes {
        Some(lanes) => {
            overrides.push(("LANES", lanes));
            Kernel::QuantiseSubgroup
        }
        None => Kernel::Quantise,
    };
    let mut work = Work::new(kernel, overrides, count(&quantise.rows), columns * 32)?;
    work.items_per_group = 1;
    let lanes = u64::from(lanes.unwrap_or(WORKGROUP));
    work.rounds = 2 * columns.div_ceil(lanes) * (1 + dims.len() as u64);
    let header = [
        quantise.rows.len() as u32,
        dims.len() as u32,
        columns as u32,
        quantise.q.offset,
        quantise.exponent.offset,
        quantise.width.dropped(),
    ];
    work.set(2, header);
    work.set(30, [quantise.width.most() as u32]);
    work.set(8, dims);
    let input = View {
        strides,
        ..quantise.input.clone()
    };
    work.set_view(16, &input);
    Ok(work)
}

/// The dimensions of a row's elements, those that stand as one joined, and the strides of rows (`rank` of them) and
/// elements.
fn flattened(rank: usize, cols: &[u32], input: &View) -> (Vec<u32>, Vec<i32>) {
    let mut cols = cols.to_vec();
    let mut strides = input.strides.clone();
    let mut axis = cols.len();
    while axis > 1 {
        axis -= 1;
        let inner = i64::from(cols[axis]) * i64::from(strides[rank + axis]);
        if inner == i64::from(strides[rank + axis - 1]) {
            cols[axis - 1] *= cols[axis];
            strides[rank + axis - 1] = strides[rank + axis];
            cols.remove(axis);
            strides.remove(rank + axis);
        }
    }
    (cols, strides)
}

fn window_words(w: &Window) -> impl Iterator<Item = u32> {
    [
        w.input,
        w.output,
        w.kernel,
        w.stride,
        w.dilation,
        w.pad_begin,
        w.pad_end,
    ]
    .into_iter()
    .flatten()
}

fn pool_work(pool: &Pool) -> Result<Work, PrepareError> {
    let items = u64::from(pool.planes) * count(&pool.window.output);
    let cost = count(&pool.window.kernel) * 100;
    let mut work = Work::new(Kernel::Pool, vec![], items, cost)?;
    work.rounds = count(&pool.window.kernel);
    work.set(
        2,
        [
            pool.input.offset,
            pool.input.space as u32,
            pool.out.offset,
            pool.op as u32,
        ],
    );
    work.set(16, window_words(&pool.window));
    Ok(work)
}

fn trees_work(trees: &Trees) -> Result<Work, PrepareError> {
    let items = u64::from(trees.rows) * u64::from(trees.targets);
    let cost = u64::from(trees.trees) * (u64::from(trees.depth) * 32 + 100);
    let mut work = Work::new(Kernel::Trees, vec![], items, cost)?;
    // No leaf's weights are another's.
    work.rounds =
        u64::from(trees.trees) * (u64::from(trees.depth) + 3) + u64::from(trees.weights.len / 2);
    let buffers = [trees.input, trees.roots, trees.nodes, trees.weights];
    work.set(
        2,
        [
            trees.features,
            trees.targets,
            trees.trees,
            trees.depth,
            trees.fold as u32,
        ],
    );
    work.set(7, buffers.iter().map(|b| b.offset));
    work.set(11, [trees.out.offset]);
    work.set(12, buffers.iter().map(|b| b.space as u32));
    Ok(work)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_steps_are_cut_into_dispatches_that_cover_every_item_once() {
        for (items, cost) in [
            (1u64, 1u64),
            (64, 1),
            (65, 1 << 40),
            (1 << 20, 1 << 12),
            (1 << 30, 1),
            (1000, 1 << 22),
        ] {
            let work = Work::new(Kernel::Copy, vec![], items, cost).expect("fits");
            let mut next = 0;
            for (first, end, groups) in work.cuts() {
                assert_eq!(first, next);
                assert!(end > first && groups <= 1 << 22);
                assert!(u64::from(groups) * u64::from(WORKGROUP) >= u64::from(end - first));
                assert!(groups == 1 || u64::from(end - first) * cost <= DISPATCH_COST_MAX);
                next = end;
            }
            assert_eq!(u64::from(next), items);
        }
    }
}
