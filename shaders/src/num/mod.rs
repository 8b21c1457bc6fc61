//! The definition of the numerics, as executable Rust.
//!
//! ```text
//! f32 in --+-- float:      order, max, min, canonical NaN          (bit patterns)
//!          +-- elementary: exp, log, tanh, erf, sigmoid, pow, ...  (fixed sequences of IEEE operations)
//!          +-- reduce:     sums over a fixed tree                  (IEEE additions)
//!          +-- fixed:      contractions                            (f32 -> 24 or 16-bit integers -> i64 -> f32)
//! ```
//!
//! Every executor gives the bits of these functions: the CPU calls them or vectorises them, the GPU repeats them in
//! `u32` operations (`kernels/lib/*.wgsl`).
//! `shaders/README.md` has the same in prose.
//!
//! What "IEEE" means here: binary32, each operation rounded once to nearest with ties to even, subnormals kept, nothing
//! fused or reordered.
//! Rust gives that on x86-64 and AArch64 for `+ - * /` and `sqrt`, as long as nobody sets flush-to-zero: see
//! [`float::environment_is_ieee`].
//! NaN is one value: no operation sees its sign or payload, and what leaves the engine is canonical.
//!
//! **Invariant:** no function here calls the platform's mathematical library.

pub mod float;
pub mod reduce;

pub mod elementary;
pub mod fixed;

pub use elementary::{cos, erf, exp, log, log1p, pow, sigmoid, sin, softplus, tanh};
pub use fixed::{Exponent, Quantised, Width};
pub use float::{canonical, from_half, max, min, order_key, relu, to_half};
pub use reduce::{max_by, sum, sum_by};

/// How a model's contractions are computed. A file chooses by its metadata (`penstock.mode`), so that the choice is a part
/// of the model's hash.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Mode {
    /// Operands of 24 bits: as good as `f32`, or better.
    #[default]
    Exact24,
    /// Operands of 16 bits: between half precision and `f32`, and faster.
    Exact16,
    /// As [`Mode::Exact24`], but a contraction of two dequantised tensors is one of their 8-bit integers.
    Int8,
    /// Native floats in the order that is fastest here: for exploring a model, since nobody else need get the same bits. No
    /// file chooses it, and nothing that a shard serves is computed in it: see [`crate::Model::load_fast`].
    Fast,
}

impl Mode {
    /// Key of the metadata that chooses a mode.
    pub const KEY: &'static str = "penstock.mode";

    /// Its name in metadata and on the command line.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Exact24 => "exact24",
            Self::Exact16 => "exact16",
            Self::Int8 => "int8",
            Self::Fast => "fast",
        }
    }

    /// Whether its answers are the same bits everywhere, so that others can verify them.
    #[must_use]
    pub const fn is_exact(self) -> bool {
        !matches!(self, Self::Fast)
    }

    /// The mode of this name that a file may choose.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        [Self::Exact24, Self::Exact16, Self::Int8]
            .into_iter()
            .find(|mode| mode.name() == name)
    }
}

/// Version of this definition: it is a part of every request key, so that answers of two definitions never meet.
/// Raise it with every change of a result bit.
pub const NUMERIC_VERSION: u32 = 1;
