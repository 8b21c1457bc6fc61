//! Elementary functions as fixed sequences of IEEE additions, multiplications, divisions and comparisons.
//!
//! The coefficients are minimax fits of our own, rounded to `f32` one after another; they stand as bit patterns, so
//! that no decimal conversion has a say.
//! Each function says its largest error against the true value, which a test holds.
//! `kernels/lib/elementary.wgsl` and `exponential.wgsl` repeat each sequence on `u32` words, and `exponential_soft.wgsl` does
//! without what is known of its steps: whoever changes one changes all, and [`super::NUMERIC_VERSION`].

mod power;
mod trigonometric;

pub use power::pow;
pub use trigonometric::{cos, sin};

use super::float::CANONICAL_NAN;

const fn bits(word: u32) -> f32 {
    f32::from_bits(word)
}

/// The NaN that functions return.
const NAN: f32 = bits(CANONICAL_NAN);

/// `1 / ln 2`.
pub(super) const LOG2_E: f32 = bits(0x3fb8_aa3b);
/// The upper 15 bits of `ln 2`: a product with an integer below `2^9` is exact.
pub(super) const LN2_HIGH: f32 = bits(0x3f31_7200);
/// `ln 2 - LN2_HIGH`.
pub(super) const LN2_LOW: f32 = bits(0x35bf_be8e);
/// `1.5 * 2^23`: adding it rounds a small number to an integer, which then stands in the lowest bits.
const TO_INTEGER: f32 = bits(0x4b40_0000);

/// Above this `exp` is infinite (`e^89 > 2^128`), and the rounded multiple of `ln 2` would leave the exponent field.
const EXP_TOP: f32 = 89.0;
/// Below this `exp` is zero: `e^-104` is less than half of the least subnormal.
const EXP_BOTTOM: f32 = -104.0;

/// `(e^r - 1 - r) / r^2` for `|r| <= ln(2) / 2`, lowest power first; relative error `2^-28`.
const EXP: [f32; 5] = [
    bits(0x3eff_fffe),
    bits(0x3e2a_aa47),
    bits(0x3d2a_ac51),
    bits(0x3c09_1e3f),
    bits(0x3ab5_30ca),
];

/// Horner's rule: one multiplication and one addition per power.
#[inline(always)]
pub(super) fn horner<const N: usize>(x: f32, coefficients: &[f32; N]) -> f32 {
    let mut value = coefficients[N - 1];
    let mut i = N - 1;
    while i > 0 {
        i -= 1;
        value = value * x + coefficients[i];
    }
    value
}

/// `2^n` for `-126 <= n <= 127`.
#[inline(always)]
fn power_of_two(n: i32) -> f32 {
    f32::from_bits((n.wrapping_add(127) as u32) << 23)
}

/// `e^(x + tail)` for a finite `x` within the clamps and a `tail` far below `x`.
#[inline(always)]
pub(super) fn exp_within(x: f32, tail: f32) -> f32 {
    let shifted = x * LOG2_E + TO_INTEGER;
    let n = (shifted.to_bits() as i32).wrapping_sub(TO_INTEGER.to_bits() as i32);
    let whole = shifted - TO_INTEGER;
    let r = (x - whole * LN2_HIGH) - whole * LN2_LOW;
    let r = r + tail;
    let y = 1.0 + (r + (r * r) * horner(r, &EXP));
    // Two steps, so that neither power leaves the exponent field; the first product is exact, the second rounds once
    // where the result is subnormal.
    let first = n >> 1;
    (y * power_of_two(first)) * power_of_two(n.wrapping_sub(first))
}

/// `e^x`, within 1 ulp. Subnormal results are kept.
#[inline]
#[must_use]
pub fn exp(x: f32) -> f32 {
    let clamped = if x > EXP_TOP { EXP_TOP } else { x };
    let clamped = if clamped < EXP_BOTTOM {
        EXP_BOTTOM
    } else {
        clamped
    };
    let y = exp_within(clamped, 0.0);
    if x.is_nan() { NAN } else { y }
}

/// `log((1 + s) / (1 - s)) / s - 2`, over `z = s^2`, for a mantissa in `[sqrt(1/2), sqrt(2))`; relative error `2^-35`.
pub(super) const LOG: [f32; 4] = [
    bits(0x3f2a_aaaa),
    bits(0x3ecc_cdeb),
    bits(0x3e91_f880),
    bits(0x3e76_1b2e),
];

/// `sqrt(1/2)`: mantissas are taken from here to `sqrt(2)`.
const SQRT_HALF: u32 = 0x3f35_04f3;

/// `x = 2^e * m` with `m` in `[sqrt(1/2), sqrt(2))`, of a positive, finite `x`: `(e, m - 1)`, both exact.
#[inline(always)]
pub(super) fn split_exponent(x: f32) -> (f32, f32) {
    // A subnormal is made normal first, by an exact product with 2^25.
    let subnormal = x < f32::MIN_POSITIVE;
    let word = if subnormal {
        (x * bits(0x4c00_0000)).to_bits()
    } else {
        x.to_bits()
    } as i32;
    let e = word.wrapping_sub(SQRT_HALF as i32) >> 23;
    let m = f32::from_bits(word.wrapping_sub(e << 23) as u32);
    let e = if subnormal { e - 25 } else { e };
    (e as f32, m - 1.0)
}

/// The natural logarithm, within 1 ulp. `log(0)` is minus infinity, of a negative number NaN.
#[inline]
#[must_use]
pub fn log(x: f32) -> f32 {
    if x.is_nan() || x < 0.0 {
        return NAN;
    }
    if x == 0.0 {
        return f32::NEG_INFINITY;
    }
    if x == f32::INFINITY {
        return x;
    }
    let (e, f) = split_exponent(x);
    let s = f / (2.0 + f);
    let z = s * s;
    let r = z * horner(z, &LOG);
    let half_square = (0.5 * f) * f;
    (((s * (half_square + r) + e * LN2_LOW) - half_square) + f) + e * LN2_HIGH
}

/// `log(1 + x)`, within 2 ulp also near zero.
#[inline]
#[must_use]
pub fn log1p(x: f32) -> f32 {
    let u = 1.0 + x;
    if x.is_nan() || u < 0.0 {
        return NAN;
    }
    if u == 0.0 || u == f32::INFINITY {
        return log(u);
    }
    // What the addition lost, to first order.
    let lost = (x - (u - 1.0)) / u;
    let y = log(u) + lost;
    // The sum above turns -0 into +0.
    if x == 0.0 { x } else { y }
}

/// `log(1 + e^x)` without overflow, within 3 ulp.
#[inline]
#[must_use]
pub fn softplus(x: f32) -> f32 {
    let tail = log1p(exp(-x.abs()));
    if x > 0.0 { x + tail } else { tail }
}

/// `1 / (1 + e^-x)`, within 2.5 ulp; small results keep their relative precision.
#[inline]
#[must_use]
pub fn sigmoid(x: f32) -> f32 {
    let e = exp(-x.abs());
    let numerator = if x < 0.0 { e } else { 1.0 };
    let y = numerator / (1.0 + e);
    if x.is_nan() { NAN } else { y }
}

/// Below this `tanh` is a polynomial.
const TANH_SPLIT: f32 = 0.625;

/// `(tanh(x) / x - 1) / x^2` over `x^2`, below [`TANH_SPLIT`]; relative error `2^-27`.
const TANH: [f32; 5] = [
    bits(0xbeaa_aa9a),
    bits(0x3e08_83b1),
    bits(0xbd5c_21cd),
    bits(0x3ca9_2994),
    bits(0xbbbb_4efc),
];

/// The hyperbolic tangent, within 2 ulp.
#[inline]
#[must_use]
pub fn tanh(x: f32) -> f32 {
    let a = x.abs();
    let z = a * a;
    let small = a + (a * z) * horner(z, &TANH);
    let large = 1.0 - 2.0 / (exp(a + a) + 1.0);
    let y = if a < TANH_SPLIT { small } else { large };
    if x.is_nan() { NAN } else { y.copysign(x) }
}

/// Below this `erf` is a polynomial.
const ERF_SPLIT: f32 = bits(0x3f6d_8000);

/// `erf(x) / x - 1` over `x^2`, below [`ERF_SPLIT`] (0.927734375); relative error `2^-25`.
const ERF_SMALL: [f32; 6] = [
    bits(0x3e03_75d3),
    bits(0xbec0_9374),
    bits(0x3de7_0d45),
    bits(0xbcdb_44f0),
    bits(0x3ba3_927a),
    bits(0xba1c_c6d4),
];

/// `-log(1 - erf(x))` from [`ERF_SPLIT`] to 4; absolute error in `erf` `2^-29`.
const ERF_LARGE: [f32; 7] = [
    bits(0x3959_12e6),
    bits(0x3f90_5618),
    bits(0x3f23_23da),
    bits(0x3dd4_b29d),
    bits(0xbcb5_c732),
    bits(0x3b46_d065),
    bits(0xb94c_692a),
];

/// The error function, within 2 ulp.
#[inline]
#[must_use]
pub fn erf(x: f32) -> f32 {
    let a = x.abs();
    // From 4 on the result rounds to one.
    let a = if a > 4.0 { 4.0 } else { a };
    let small = a + a * horner(a * a, &ERF_SMALL);
    let large = 1.0 - exp(-horner(a, &ERF_LARGE));
    let y = if a < ERF_SPLIT { small } else { large };
    if x.is_nan() { NAN } else { y.copysign(x) }
}

#[cfg(test)]
mod tests;
