//! Element-wise steps: little programs over registers.

use super::{Buffer, Kind, View};

/// `out[i] = program(loads at i)` for every index `i` of `dims`, row-major.
///
/// The program runs over registers: instruction `n` writes register `n`; the last one's result is stored.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Map {
    /// Dimensions, outermost first; 1 to [`RANK_MAX`](crate::plan::RANK_MAX).
    pub dims: Vec<u32>,
    /// Operands, at most [`LOADS_MAX`](crate::plan::LOADS_MAX); each has as many strides as there are dimensions.
    pub loads: Vec<View>,
    /// Instructions, 1 to [`PROGRAM_MAX`](crate::plan::PROGRAM_MAX).
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
    /// `num::to_half`: the nearest value of IEEE 754 binary16. `F32`.
    ToHalf = 42,
}

impl MapOp {
    /// All of them, by number.
    pub const ALL: [Self; 43] = {
        use MapOp::*;
        [
            Move, Add, Sub, Mul, Div, Mod, Rem, Min, Max, Pow, Neg, Abs, Sign, Floor, Ceil, Round,
            Sqrt, Exp, Log, Tanh, Sigmoid, Erf, Sin, Cos, Equal, Less, LessEqual, IsNan, IsInf,
            And, Or, Xor, Shl, Shr, Select, ToF32, ToI32, ToU32, ToI64, WrapU8, WrapI8, Softplus,
            ToHalf,
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
            | Self::Softplus
            | Self::ToHalf => &[F32],
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
