//! What is executed: steps over one arena, the same list for every backend.
//!
//! ```text
//!  Graph --bind(concrete input shapes)--> Plan { inputs, locals, steps, outputs }
//!                                           |
//!                        cpu: steps over one slice      gpu: steps over one storage buffer
//! ```
//!
//! A plan knows two spaces of 32-bit words. The **arena** belongs to the plan: it begins with [`Plan::locals`], constants
//! that depend on the shapes, which a backend writes once when it makes the arena and which no step overwrites; behind
//! them are inputs, intermediates and outputs, at offsets that the planner chose so that those that live at the same
//! time do not overlap. The **weights** ([`crate::Model::weights`]) belong to the model, are read only, and never change
//! after loading.
//!
//! Elements are held in words: [`Kind::F32`], [`Kind::I32`] and [`Kind::U32`] in one, [`Kind::I64`] in two (low word
//! first). Booleans are `U32` 0 or 1; 8-bit integers are widened and wrapped by [`MapOp::WrapU8`] and [`MapOp::WrapI8`].
//!
//! **Invariants**, which the planner keeps and its tests hold: steps run in order; the buffers that a step writes do not
//! overlap those that it reads; every offset is a multiple of [`ALIGN_WORDS`] where it is a [`Buffer`]'s (a [`View`] may
//! begin anywhere); no index that a step can form lies outside its space; dimensions and their products fit 32 bits; no
//! step has a dimension of zero (steps without work are left out).

mod alloc;
mod bind;
mod build;
mod finish;
mod join;
mod prepared;
mod tensor;

pub(crate) use bind::{Bound, bind};
pub(crate) use build::{Builder, Dequantised, Program, Refuse, imm};
pub(crate) use join::joins;
pub(crate) use prepared::{Access, Form, Prepared};
pub(crate) use tensor::{Place, Tensor, broadcast_dims, contiguous_strides, count};

use crate::num::Width;
use std::fmt;

/// Alignment of buffers, in words: 256 bytes, the largest `min_storage_buffer_offset_alignment` that WebGPU allows.
pub const ALIGN_WORDS: u32 = 64;

/// Most dimensions of a step, after the planner merged those that can be walked as one.
pub const RANK_MAX: usize = 8;

/// Most operands of a [`Map`]. WebGPU promises eight storage bindings; operands share two, so this bounds the parameters.
pub const LOADS_MAX: usize = 4;

/// Most instructions of a [`Map`]: what a GPU thread can keep in registers as intermediate results.
pub const PROGRAM_MAX: usize = 16;

/// How an element is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Kind {
    /// IEEE 754 binary32 in one word.
    F32 = 0,
    /// Two's complement in one word.
    I32 = 1,
    /// Unsigned in one word; booleans too, as 0 and 1.
    U32 = 2,
    /// Two's complement in two words, the low one first.
    I64 = 3,
}

impl Kind {
    /// Words of one element.
    #[must_use]
    pub const fn words(self) -> u32 {
        match self {
            Self::F32 | Self::I32 | Self::U32 => 1,
            Self::I64 => 2,
        }
    }
}

/// Where words stand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Space {
    /// The plan's arena.
    Arena = 0,
    /// The model's weights: read only.
    Weights = 1,
}

/// A contiguous, row-major run of elements.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Buffer {
    /// Space in which it stands. Always the arena where a step writes.
    pub space: Space,
    /// How its elements are held.
    pub kind: Kind,
    /// First word, a multiple of [`ALIGN_WORDS`].
    pub offset: u32,
    /// Elements.
    pub len: u32,
}

/// A strided view of elements, over the dimensions of the step that holds it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct View {
    /// Space in which it stands.
    pub space: Space,
    /// How its elements are held.
    pub kind: Kind,
    /// Word at which the element of index (0, 0, …) begins.
    pub offset: u32,
    /// Step per dimension, in elements (not words). Zero repeats, negative walks back.
    pub strides: Vec<i32>,
}

/// One step.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Step {
    /// Element-wise arithmetic.
    Map(Map),
    /// Strided copy.
    Copy(Copy),
    /// Reads at computed indices.
    Take(Take),
    /// Folds rows to one value each.
    Reduce(Reduce),
    /// Floats to fixed point, one exponent per row.
    Quantise(Quantise),
    /// Dot products of fixed-point rows.
    Contract(Contract),
    /// Convolution of fixed-point planes.
    Conv(Conv),
    /// Pooling windows.
    Pool(Pool),
    /// Tree ensembles.
    Trees(Trees),
}

/// `out[i] = program(loads at i)` for every index `i` of `dims`, row-major.
///
/// The program runs over registers: instruction `n` writes register `n`; the last one's result is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Dimensions, outermost first; 1 to [`RANK_MAX`].
    pub dims: Vec<u32>,
    /// Operands, at most [`LOADS_MAX`]; each has as many strides as there are dimensions.
    pub loads: Vec<View>,
    /// Instructions, 1 to [`PROGRAM_MAX`].
    pub program: Vec<Instr>,
    /// Result, contiguous over `dims`.
    pub out: Buffer,
}

/// One instruction of a [`Map`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Instr {
    /// What is done.
    pub op: MapOp,
    /// The kind in which it computes (that of its arguments; [`MapOp::Select`]'s condition is `U32` always).
    pub kind: Kind,
    /// Arguments; those beyond the operation's arity are [`Arg::None`].
    pub args: [Arg; 3],
}

/// Where an instruction finds an argument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arg {
    /// Nothing.
    None,
    /// Operand of this number.
    Load(u8),
    /// Result of the instruction of this number, an earlier one.
    Reg(u8),
    /// These bits: one word in the low half, or an `I64`.
    Imm(u64),
}

/// Element-wise operations. The result has the instruction's kind where nothing else is said.
///
/// Floats are IEEE 754 binary32, rounded to nearest even, subnormals kept; the elementary functions are those of
/// [`crate::num`]. Integers wrap. What a NaN's payload is cannot be seen by any operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum MapOp {
    /// `a`. Any kind.
    Move = 0,
    /// `a + b`. Any kind.
    Add = 1,
    /// `a - b`. Any kind.
    Sub = 2,
    /// `a * b`. Any kind.
    Mul = 3,
    /// `a / b`. Integers round towards zero; division by zero gives 0, and the smallest value by -1 wraps. Any kind.
    Div = 4,
    /// Remainder with the sign of the divisor (`a - b * floor(a / b)`); by zero gives 0. Integers.
    Mod = 5,
    /// Remainder with the sign of the dividend. Integers by zero give 0; floats as C's `fmod`, exact. Any kind.
    Rem = 6,
    /// The smaller; NaN where either is, -0 below +0. Any kind.
    Min = 7,
    /// The larger; NaN where either is, +0 above -0. Any kind.
    Max = 8,
    /// `a` to the power `b`, by `num::pow`. `F32`.
    Pow = 9,
    /// `-a` (sign bit flipped for floats). Any kind but `U32`.
    Neg = 10,
    /// Absolute value. Any kind but `U32`.
    Abs = 11,
    /// -1, 0 or 1 (NaN for NaN, 0 for both zeros). Any kind.
    Sign = 12,
    /// Largest integer not above. `F32`.
    Floor = 13,
    /// Smallest integer not below. `F32`.
    Ceil = 14,
    /// Nearest integer, ties to even. `F32`.
    Round = 15,
    /// Square root. `F32`.
    Sqrt = 16,
    /// `num::exp`. `F32`.
    Exp = 17,
    /// `num::log`. `F32`.
    Log = 18,
    /// `num::tanh`. `F32`.
    Tanh = 19,
    /// `num::sigmoid`. `F32`.
    Sigmoid = 20,
    /// `num::erf`. `F32`.
    Erf = 21,
    /// `num::sin`. `F32`.
    Sin = 22,
    /// `num::cos`. `F32`.
    Cos = 23,
    /// `a == b`: `U32` 0 or 1, from any kind. NaN equals nothing.
    Equal = 24,
    /// `a < b`: `U32` 0 or 1, from any kind. False with a NaN.
    Less = 25,
    /// `a <= b`: `U32` 0 or 1, from any kind. False with a NaN.
    LessEqual = 26,
    /// Whether `a` is NaN: `U32` 0 or 1, from `F32`.
    IsNan = 27,
    /// Whether `a` is an infinity: `U32` 0 or 1, from `F32`.
    IsInf = 28,
    /// Bitwise and. Integers.
    And = 29,
    /// Bitwise or. Integers.
    Or = 30,
    /// Bitwise exclusive or. Integers.
    Xor = 31,
    /// `a << b`, 0 where `b` is not below the width. `U32`.
    Shl = 32,
    /// `a >> b`, 0 where `b` is not below the width. `U32`.
    Shr = 33,
    /// `b` where `a` (a `U32`) is not 0, else `c`. Any kind.
    Select = 34,
    /// From the instruction's kind to `F32`, rounded to nearest even.
    ToF32 = 35,
    /// From the instruction's kind to `I32`: floats towards zero, NaN to 0, beyond the range to its end; integers wrap.
    ToI32 = 36,
    /// From the instruction's kind to `U32`: as [`MapOp::ToI32`], with the range of `U32`.
    ToU32 = 37,
    /// From the instruction's kind to `I64`: as [`MapOp::ToI32`], with the range of `I64`.
    ToI64 = 38,
    /// The low 8 bits, zero-extended. `U32`.
    WrapU8 = 39,
    /// The low 8 bits, sign-extended. `I32`.
    WrapI8 = 40,
    /// `num::softplus`. `F32`.
    Softplus = 41,
}

impl MapOp {
    /// All of them, by number.
    pub const ALL: [Self; 42] = {
        use MapOp::*;
        [
            Move, Add, Sub, Mul, Div, Mod, Rem, Min, Max, Pow, Neg, Abs, Sign, Floor, Ceil, Round,
            Sqrt, Exp, Log, Tanh, Sigmoid, Erf, Sin, Cos, Equal, Less, LessEqual, IsNan, IsInf,
            And, Or, Xor, Shl, Shr, Select, ToF32, ToI32, ToU32, ToI64, WrapU8, WrapI8, Softplus,
        ]
    };

    /// The kinds in which it computes.
    #[must_use]
    pub const fn kinds(self) -> &'static [Kind] {
        use Kind::{F32, I32, I64, U32};
        match self {
            Self::Pow
            | Self::Floor
            | Self::Ceil
            | Self::Round
            | Self::Sqrt
            | Self::Exp
            | Self::Log
            | Self::Tanh
            | Self::Sigmoid
            | Self::Erf
            | Self::Sin
            | Self::Cos
            | Self::IsNan
            | Self::IsInf
            | Self::Softplus => &[F32],
            Self::Mod | Self::And | Self::Or | Self::Xor => &[I32, U32, I64],
            Self::Neg | Self::Abs => &[F32, I32, I64],
            Self::Shl | Self::Shr | Self::WrapU8 => &[U32],
            Self::WrapI8 => &[I32],
            _ => &[F32, I32, U32, I64],
        }
    }

    /// How many arguments it takes.
    #[must_use]
    pub const fn arity(self) -> usize {
        match self {
            Self::Select => 3,
            Self::Add
            | Self::Sub
            | Self::Mul
            | Self::Div
            | Self::Mod
            | Self::Rem
            | Self::Min
            | Self::Max
            | Self::Pow
            | Self::Equal
            | Self::Less
            | Self::LessEqual
            | Self::And
            | Self::Or
            | Self::Xor
            | Self::Shl
            | Self::Shr => 2,
            _ => 1,
        }
    }

    /// Kind of the result where it computes in `kind`.
    #[must_use]
    pub const fn result(self, kind: Kind) -> Kind {
        match self {
            Self::Equal | Self::Less | Self::LessEqual | Self::IsNan | Self::IsInf => Kind::U32,
            Self::ToF32 => Kind::F32,
            Self::ToI32 => Kind::I32,
            Self::ToU32 => Kind::U32,
            Self::ToI64 => Kind::I64,
            _ => kind,
        }
    }
}

/// Copies elements: `to` at `i` = `from` at `i` for every index `i` of `dims`. Both views have one kind.
///
/// Only here does a step write a part of a buffer (a concatenation is one copy per part, padding a [`Map`] that fills and
/// a copy on top). The places written are all different.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Copy {
    /// Dimensions, outermost first; 1 to [`RANK_MAX`].
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
    /// Dimensions, outermost first; 1 to [`RANK_MAX`].
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
    /// Smallest, as [`MapOp::Min`].
    Min = 2,
    /// Largest, as [`MapOp::Max`].
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
    /// The largest element inside the input, by [`MapOp::Max`], begun with the first; -infinity where there is none.
    Max = 0,
    /// Sum of the elements inside the input, from +0, in ascending order, divided by their number (0 / 0 is NaN).
    Average = 1,
    /// As [`PoolOp::Average`], divided by the number of positions inside input and padding.
    AverageWithPad = 2,
}

/// Tree ensembles: for each row of features, each tree is walked to a leaf, and leaves' weights are folded per target in
/// the order of the trees (a sum begins with +0 and adds in `F32`).
///
/// A node is [`TREE_NODE_WORDS`] words: `feature | mode << 24`, threshold (`F32` bits), and the numbers of the nodes taken
/// when the comparison is true and false. Mode bits 0 to 2 are a [`TreeMode`]; bit 3 says that a NaN feature counts as true. A leaf has
/// mode [`TREE_LEAF`]; its two last words are the first and the number of its weights.
/// A weight is two words: target, and weight (`F32` bits).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Trees {
    /// Rows.
    pub rows: u32,
    /// Features per row.
    pub features: u32,
    /// Outputs per row.
    pub targets: u32,
    /// Trees.
    pub trees: u32,
    /// Comparisons on the longest way from a root to a leaf.
    pub depth: u32,
    /// Fold over trees.
    pub fold: TreeFold,
    /// `F32` over rows, features.
    pub input: Buffer,
    /// `U32`: root node of each tree.
    pub roots: Buffer,
    /// `U32`: nodes.
    pub nodes: Buffer,
    /// `U32`: weights.
    pub weights: Buffer,
    /// `F32` over rows, targets.
    pub out: Buffer,
}

/// Words of a tree's node.
pub const TREE_NODE_WORDS: u32 = 4;

/// Mode of a leaf. Its place in a node's first word is bits 24 to 31.
pub const TREE_LEAF: u32 = 0xff;

/// How a tree's node compares `feature` with `threshold`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TreeMode {
    /// `feature <= threshold`
    LessEqual = 0,
    /// `feature < threshold`
    Less = 1,
    /// `feature >= threshold`
    GreaterEqual = 2,
    /// `feature > threshold`
    Greater = 3,
    /// `feature == threshold`
    Equal = 4,
    /// `feature != threshold`
    NotEqual = 5,
}

/// How trees' leaves become one value per target.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum TreeFold {
    /// Sum.
    Sum = 0,
    /// Smallest; +0 for a target that no leaf names.
    Min = 1,
    /// Largest; +0 for a target that no leaf names.
    Max = 2,
}

/// Steps for one set of input shapes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// Where each input is put, in the signature's order. No two overlap.
    pub inputs: Vec<Buffer>,
    /// Where each output is found afterwards, in the signature's order. May be an input, a weight or a local.
    pub outputs: Vec<Buffer>,
    /// Dimensions of each output.
    pub output_shapes: Vec<Vec<u32>>,
    /// First words of the arena: constants of these shapes.
    pub locals: Vec<u32>,
    /// Words of the arena, locals included.
    pub arena_words: u32,
    /// What is done, in order.
    pub steps: Vec<Step>,
    /// Multiplications of fixed-point numbers, for the cost.
    pub macs: u64,
    /// Elements that the other steps touch, for the cost.
    pub touched: u64,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::F32 => "f32",
            Self::I32 => "i32",
            Self::U32 => "u32",
            Self::I64 => "i64",
        })
    }
}

/// A reference of a step into a space.
pub(crate) struct Touch<'a> {
    pub(crate) space: &'a mut Space,
    pub(crate) offset: &'a mut u32,
    pub(crate) write: bool,
}

impl Step {
    /// Every reference into a space, in a fixed order.
    pub(crate) fn touches(&mut self) -> Vec<Touch<'_>> {
        fn view(v: &mut View, write: bool) -> Touch<'_> {
            Touch {
                space: &mut v.space,
                offset: &mut v.offset,
                write,
            }
        }
        fn buffer(b: &mut Buffer, write: bool) -> Touch<'_> {
            Touch {
                space: &mut b.space,
                offset: &mut b.offset,
                write,
            }
        }
        match self {
            Self::Map(s) => s
                .loads
                .iter_mut()
                .map(|v| view(v, false))
                .chain([buffer(&mut s.out, true)])
                .collect(),
            Self::Copy(s) => vec![view(&mut s.from, false), view(&mut s.to, true)],
            Self::Take(s) => vec![
                view(&mut s.data, false),
                view(&mut s.index, false),
                buffer(&mut s.out, true),
            ],
            Self::Reduce(s) => vec![view(&mut s.input, false), buffer(&mut s.out, true)],
            Self::Quantise(s) => vec![
                view(&mut s.input, false),
                buffer(&mut s.q, true),
                buffer(&mut s.exponent, true),
            ],
            Self::Contract(s) => vec![
                buffer(&mut s.a.q, false),
                buffer(&mut s.a.exponent, false),
                buffer(&mut s.b.q, false),
                buffer(&mut s.b.exponent, false),
                buffer(&mut s.out, true),
            ],
            Self::Conv(s) => vec![
                buffer(&mut s.input_q, false),
                buffer(&mut s.input_exponent, false),
                buffer(&mut s.weight_q, false),
                buffer(&mut s.weight_exponent, false),
                buffer(&mut s.out, true),
            ],
            Self::Pool(s) => vec![buffer(&mut s.input, false), buffer(&mut s.out, true)],
            Self::Trees(s) => vec![
                buffer(&mut s.input, false),
                buffer(&mut s.roots, false),
                buffer(&mut s.nodes, false),
                buffer(&mut s.weights, false),
                buffer(&mut s.out, true),
            ],
        }
    }

    /// The kernel that runs it.
    #[must_use]
    pub const fn kernel(&self) -> &'static str {
        match self {
            Self::Map(_) => "map",
            Self::Copy(_) => "copy",
            Self::Take(_) => "take",
            Self::Reduce(_) => "reduce",
            Self::Quantise(_) => "quantise",
            Self::Contract(_) => "contract",
            Self::Conv(_) => "conv",
            Self::Pool(_) => "pool",
            Self::Trees(_) => "trees",
        }
    }
}
