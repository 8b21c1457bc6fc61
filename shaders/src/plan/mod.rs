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

mod map;
mod steps;
mod trees;

mod alloc;
mod bind;
mod build;
mod finish;
mod join;
mod prepared;
mod tensor;

pub use map::{Arg, Instr, Map, MapOp};
pub use steps::{
    Component, Contract, Conv, Copy, Pool, PoolOp, Quantise, Reduce, ReduceOp, Rows, Take, Window,
};
pub use trees::{TREE_LEAF, TREE_NODE_WORDS, TreeFold, TreeMode, Trees};

pub(crate) use bind::{Bound, bind};
pub(crate) use build::{Builder, Dequantised, Program, Refuse, imm};
pub(crate) use join::joins;
pub(crate) use prepared::{Access, Form, Prepared};
pub(crate) use tensor::{Place, Tensor, broadcast_dims, contiguous_strides, count};

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
