//! Steps that move, fold, pool or contract elements.

use super::{Buffer, View};
use crate::num::Width;

/// Copies elements: `to` at `i` = `from` at `i` for every index `i` of `dims`. Both views have one kind.
///
/// Only here does a step write a part of a buffer (a concatenation is one copy per part, padding a [`Map`](crate::plan::Map) that fills and
/// a copy on top). The places written are all different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Dimensions, outermost first; 1 to [`RANK_MAX`](crate::plan::RANK_MAX).
    pub dims: Vec<u32>,
    /// What is read.
    pub from: View,
    /// What is written, in the arena.
    pub to: View,
}

/// `out[i] = data at i, moved by indices read from a tensor`, for every index `i` of `dims`, row-major.
///
/// For component `c`, the index is read from `index` at `i`, `c * component_stride` elements further. A negative index
/// counts from the end. Outside `-extent..extent` there is no element: the result is NaN for floats and 0 for integers.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Take {
    /// Dimensions, outermost first; 1 to [`RANK_MAX`](crate::plan::RANK_MAX).
    pub dims: Vec<u32>,
    /// Where reading begins for each output index.
    pub data: View,
    /// Indices, `I32` or `I64`.
    pub index: View,
    /// Distance between an index's components, in elements of `index`.
    pub component_stride: i32,
    /// Components, at least one.
    pub components: Vec<Component>,
    /// Result, contiguous over `dims`.
    pub out: Buffer,
}

/// One indexed axis of a [`Take`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Component {
    /// Extent of the axis.
    pub extent: u32,
    /// Elements of `data` per index.
    pub stride: i32,
}

/// `out[r] = fold of input over all columns`, for every row `r` of `rows`, row-major.
///
/// The order of floats' sums and products is that of [`crate::num::sum`] over the columns' row-major index.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Reduce {
    /// The fold.
    pub op: ReduceOp,
    /// Dimensions that stay; may be empty (one row).
    pub rows: Vec<u32>,
    /// Dimensions that are folded; at least one.
    pub cols: Vec<u32>,
    /// Input; strides over `rows`, then `cols`.
    pub input: View,
    /// Result; `I64` for the `Arg` operations, else of the input's kind.
    pub out: Buffer,
}

/// Folds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum ReduceOp {
    /// Sum.
    Sum = 0,
    /// Product.
    Prod = 1,
    /// Smallest, as [`MapOp::Min`](crate::plan::MapOp::Min).
    Min = 2,
    /// Largest, as [`MapOp::Max`](crate::plan::MapOp::Max).
    Max = 3,
    /// Index of the first smallest; a NaN counts as smallest.
    ArgMin = 4,
    /// Index of the first largest; a NaN counts as largest.
    ArgMax = 5,
    /// Index of the last smallest.
    ArgMinLast = 6,
    /// Index of the last largest.
    ArgMaxLast = 7,
}

/// Floats to fixed point, by [`crate::num::fixed`]: `x ≈ q * 2^(exponent - unit)` with one exponent per row.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Quantise {
    /// Width of the integers: [`Width::Bits24`] or [`Width::Bits16`].
    pub width: Width,
    /// Dimensions of the rows; may be empty (one row).
    pub rows: Vec<u32>,
    /// Dimensions of a row's elements; at least one.
    pub cols: Vec<u32>,
    /// Floats; strides over `rows`, then `cols`.
    pub input: View,
    /// `I32`, contiguous over `rows`, then `cols`.
    pub q: Buffer,
    /// `I32`, one per row, contiguous. A row that holds NaN or an infinity has [`crate::num::Exponent::NOT_FINITE`].
    pub exponent: Buffer,
}

/// Fixed-point rows: where they stand, and how the batch walks over them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Rows {
    /// `I32`, rows of `k` elements each, contiguous.
    pub q: Buffer,
    /// `I32`, one per row.
    pub exponent: Buffer,
    /// Rows per step of each batch dimension; 0 repeats.
    pub batch: Vec<u32>,
}

/// `out[b, i, j] = Σ_k a[b, i, k] * b[b, j, k]`, exact in 64 bits, then scaled and rounded once to `F32`; where the result
/// is `I32` it is the low 32 bits of the sum instead, and exponents do not matter.
///
/// Both operands are rows: the second is transposed against ONNX's matrix product, and weights stand that way already.
/// Where either row is poisoned the result is NaN.
///
/// Of [`Width::Float`] the rows are floats, exponents do not matter, and the sum is one of floats in any order.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Contract {
    /// Width of both operands' integers.
    pub width: Width,
    /// Batch dimensions, outermost first; may be empty.
    pub batch: Vec<u32>,
    /// Rows of `a` per batch.
    pub m: u32,
    /// Rows of `b` per batch.
    pub n: u32,
    /// Elements per row.
    pub k: u32,
    /// First operand.
    pub a: Rows,
    /// Second operand.
    pub b: Rows,
    /// `F32` or `I32`, contiguous over batch, `m`, `n`.
    pub out: Buffer,
}

impl Contract {
    /// The first row of each batch, in `a` and in `b`.
    pub(crate) fn batches(&self) -> impl Iterator<Item = [usize; 2]> + '_ {
        let count = self.batch.iter().map(|&extent| extent as usize).product();
        (0..count).map(|number| {
            let (mut rest, mut rows) = (number, [0; 2]);
            for (axis, &extent) in self.batch.iter().enumerate().rev() {
                let step = rest % extent as usize;
                rest /= extent as usize;
                rows[0] += step * self.a.batch[axis] as usize;
                rows[1] += step * self.b.batch[axis] as usize;
            }
            rows
        })
    }
}

/// Convolution over up to three spatial dimensions (missing ones have extent, kernel and stride 1):
/// `out[s, g, c, p] = Σ_{i, w} input[s, g, i, p * stride + w * dilation - pad] * weight[g, c, i, w]`, positions outside
/// counting as 0, exact in 64 bits, then scaled by both exponents and rounded once to `F32`, or as [`Contract`] has it for
/// `I32`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Conv {
    /// Width of both operands' integers.
    pub width: Width,
    /// Samples.
    pub samples: u32,
    /// Groups.
    pub groups: u32,
    /// Input channels per group.
    pub cin: u32,
    /// Output channels per group.
    pub cout: u32,
    /// Spatial geometry.
    pub window: Window,
    /// `I32` over samples, groups, `cin`, input extents.
    pub input_q: Buffer,
    /// `I32` over samples, groups.
    pub input_exponent: Buffer,
    /// `I32` over groups, `cout`, `cin`, kernel extents.
    pub weight_q: Buffer,
    /// `I32` over groups, `cout`.
    pub weight_exponent: Buffer,
    /// `F32` or `I32` over samples, groups, `cout`, output extents.
    pub out: Buffer,
}

/// Geometry of a sliding window over three spatial dimensions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Window {
    /// Input extents.
    pub input: [u32; 3],
    /// Output extents.
    pub output: [u32; 3],
    /// Window extents.
    pub kernel: [u32; 3],
    /// Steps between windows.
    pub stride: [u32; 3],
    /// Steps inside a window.
    pub dilation: [u32; 3],
    /// Positions before the input's first.
    pub pad_begin: [u32; 3],
    /// Positions behind the input's last.
    pub pad_end: [u32; 3],
}

/// Pooling of `F32` planes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pool {
    /// What becomes of a window.
    pub op: PoolOp,
    /// Planes (samples times channels).
    pub planes: u32,
    /// Spatial geometry.
    pub window: Window,
    /// `F32` over planes, input extents.
    pub input: Buffer,
    /// `F32` over planes, output extents.
    pub out: Buffer,
}

/// What becomes of a pooling window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum PoolOp {
    /// The largest element inside the input, by [`MapOp::Max`](crate::plan::MapOp::Max), begun with the first; -infinity where there is none.
    Max = 0,
    /// Sum of the elements inside the input, from +0, in ascending order, divided by their number (0 / 0 is NaN).
    Average = 1,
    /// As [`PoolOp::Average`], divided by the number of positions inside input and padding.
    AverageWithPad = 2,
}
