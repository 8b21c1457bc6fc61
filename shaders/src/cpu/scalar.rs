//! Element-wise operations on one element: the reference of [`MapOp`].

use crate::num;
use crate::plan::{Kind, MapOp};

fn f(bits: u64) -> f32 {
    f32::from_bits(bits as u32)
}

fn bits(value: f32) -> u64 {
    u64::from(value.to_bits())
}

/// `op` in `kind`. A word is in the low half, zero-extended.
pub(crate) fn eval(op: MapOp, kind: Kind, a: u64, b: u64, c: u64) -> u64 {
    match op {
        MapOp::Move => a,
        MapOp::Select => {
            if a as u32 != 0 {
                b
            } else {
                c
            }
        }
        _ => match kind {
            Kind::F32 => float(op, f(a), f(b)),
            Kind::I32 => {
                let wide = integer(op, i64::from(a as i32), i64::from(b as i32), kind);
                narrow(op, kind, wide)
            }
            Kind::U32 => {
                let wide = integer(op, i64::from(a as u32), i64::from(b as u32), kind);
                narrow(op, kind, wide)
            }
            Kind::I64 => narrow(op, kind, integer(op, a as i64, b as i64, kind)),
        },
    }
}

/// Keeps the words of the result's kind.
fn narrow(op: MapOp, kind: Kind, value: i64) -> u64 {
    match op.result(kind) {
        Kind::I64 => value as u64,
        _ => value as u64 & 0xffff_ffff,
    }
}

fn float(op: MapOp, a: f32, b: f32) -> u64 {
    let truth = |value: bool| u64::from(value);
    bits(match op {
        MapOp::Add => a + b,
        MapOp::Sub => a - b,
        MapOp::Mul => a * b,
        MapOp::Div => a / b,
        MapOp::Rem => fmod(a, b),
        MapOp::Min => num::min(a, b),
        MapOp::Max => num::max(a, b),
        MapOp::Pow => num::pow(a, b),
        MapOp::Neg => -a,
        MapOp::Abs => a.abs(),
        MapOp::Sign => sign(a),
        MapOp::Floor => floor(a),
        MapOp::Ceil => -floor(-a),
        MapOp::Round => round(a),
        MapOp::Sqrt => a.sqrt(),
        MapOp::Exp => num::exp(a),
        MapOp::Log => num::log(a),
        MapOp::Tanh => num::tanh(a),
        MapOp::Sigmoid => num::sigmoid(a),
        MapOp::Erf => num::erf(a),
        MapOp::Sin => num::sin(a),
        MapOp::Cos => num::cos(a),
        MapOp::Softplus => num::softplus(a),
        MapOp::ToHalf => num::to_half(a),
        MapOp::Equal => return truth(a == b),
        MapOp::Less => return truth(a < b),
        MapOp::LessEqual => return truth(a <= b),
        MapOp::IsNan => return truth(a.is_nan()),
        MapOp::IsInf => return truth(a.is_infinite()),
        // Rust's `as` goes towards zero, holds at the ends of the range, and makes NaN zero.
        MapOp::ToI32 => return u64::from(a as i32 as u32),
        MapOp::ToU32 => return u64::from(a as u32),
        MapOp::ToI64 => return a as i64 as u64,
        _ => a,
    })
}

/// -1, 0 or 1, NaN for NaN.
#[inline]
pub(crate) fn sign(a: f32) -> f32 {
    if a > 0.0 {
        1.0
    } else if a < 0.0 {
        -1.0
    } else if a.is_nan() {
        f32::NAN
    } else {
        0.0
    }
}

/// From here on every float is an integer.
pub(crate) const INTEGRAL: f32 = 8_388_608.0;

/// Nearest integer, ties to even, by the rounding of an addition; the sign of a zero stays.
#[inline]
pub(crate) fn round(a: f32) -> f32 {
    let magnitude = a.abs();
    if magnitude < INTEGRAL {
        ((magnitude + INTEGRAL) - INTEGRAL).copysign(a)
    } else {
        a
    }
}

/// Largest integer not above; the sign of a zero stays.
#[inline]
pub(crate) fn floor(a: f32) -> f32 {
    let near = round(a);
    let below = if near > a { near - 1.0 } else { near };
    if a == 0.0 { a } else { below }
}

/// C's `fmod`: exact, by subtracting the divisor shifted down bit by bit.
fn fmod(a: f32, b: f32) -> f32 {
    // Rust defines `%` on floats as fmod, and computes it exactly on every target.
    a % b
}

fn integer(op: MapOp, a: i64, b: i64, kind: Kind) -> i64 {
    let truth = |value: bool| i64::from(value);
    let width = 32u64;
    match op {
        MapOp::Add => a.wrapping_add(b),
        MapOp::Sub => a.wrapping_sub(b),
        MapOp::Mul => a.wrapping_mul(b),
        MapOp::Div if b == 0 => 0,
        MapOp::Div => a.wrapping_div(b),
        MapOp::Mod | MapOp::Rem if b == 0 => 0,
        MapOp::Mod => {
            let rest = a.wrapping_rem(b);
            if rest != 0 && (rest < 0) != (b < 0) {
                rest.wrapping_add(b)
            } else {
                rest
            }
        }
        MapOp::Rem => a.wrapping_rem(b),
        MapOp::Min => a.min(b),
        MapOp::Max => a.max(b),
        MapOp::Neg => a.wrapping_neg(),
        MapOp::Abs => a.wrapping_abs(),
        MapOp::Sign => a.signum(),
        MapOp::Equal => truth(a == b),
        MapOp::Less => truth(a < b),
        MapOp::LessEqual => truth(a <= b),
        MapOp::And => a & b,
        MapOp::Or => a | b,
        MapOp::Xor => a ^ b,
        MapOp::Shl if (b as u64) < width => a << b,
        MapOp::Shr if (b as u64) < width => a >> b,
        MapOp::Shl | MapOp::Shr => 0,
        MapOp::ToF32 => match kind {
            // Rust rounds integers to nearest even.
            Kind::U32 => i64::from((a as u32 as f32).to_bits()),
            _ => i64::from((a as f32).to_bits()),
        },
        MapOp::WrapU8 => a & 0xff,
        MapOp::WrapI8 => i64::from(a as i8),
        _ => a,
    }
}
