//! `pow`: a logarithm in two words, so that a large product with the exponent does not lose the result's bits.

use super::{LN2_HIGH, LN2_LOW, LOG, NAN, exp_within, horner, split_exponent};

/// Integer exponents to this magnitude are powers by squaring: at most four squarings and four products.
const WHOLE_MAX: f32 = 16.0;

/// The error of `a * b = p`, exact where nothing underflows: both factors are cut into 12 bits each.
#[inline(always)]
fn product_error(a: f32, b: f32, p: f32) -> f32 {
    let high = |x: f32| f32::from_bits(x.to_bits() & 0xffff_f000);
    let (a_high, b_high) = (high(a), high(b));
    let (a_low, b_low) = (a - a_high, b - b_high);
    (((a_high * b_high - p) + a_high * b_low) + a_low * b_high) + a_low * b_low
}

/// `log(x)` of a positive, finite `x` as `(high, low)`, with about 34 bits.
#[inline(always)]
fn log_in_two(x: f32) -> (f32, f32) {
    let (e, f) = split_exponent(x);
    let d = 2.0 + f;
    let d_low = f - (d - 2.0);
    let s = f / d;
    let sd = s * d;
    let s_low = (((f - sd) - product_error(s, d, sd)) - s * d_low) / d;
    let z = s * s;
    let cubic = (s * z) * horner(z, &LOG);
    let whole = e * LN2_HIGH;
    let twice = s + s;
    // The larger addend first: `whole` is zero or above any `twice`.
    let sum = whole + twice;
    let sum_low = if e == 0.0 { 0.0 } else { twice - (sum - whole) };
    let rest = sum_low + (((s_low + s_low) + cubic) + e * LN2_LOW);
    let high = sum + rest;
    (high, rest - (high - sum))
}

/// Whether `y` is an integer, and whether it is odd.
#[inline(always)]
fn parity(y: f32) -> (bool, bool) {
    let magnitude = y.abs();
    if magnitude >= 16_777_216.0 {
        // 2^24 and above: all are even integers.
        return (true, false);
    }
    let whole = magnitude as u32;
    let is_whole = whole as f32 == magnitude;
    (is_whole, is_whole && whole & 1 == 1)
}

/// `x^y` as IEEE 754's `pow` has it in special cases, within 2 ulp (small integer exponents: within 1 ulp for each
/// multiplication that they need).
#[must_use]
pub fn pow(x: f32, y: f32) -> f32 {
    if y == 0.0 || x == 1.0 {
        return 1.0;
    }
    if x.is_nan() || y.is_nan() {
        return NAN;
    }
    let a = x.abs();
    let (whole, odd) = parity(y);
    if y.is_infinite() {
        return if a == 1.0 {
            1.0
        } else if (a > 1.0) == (y > 0.0) {
            f32::INFINITY
        } else {
            0.0
        };
    }
    if a == 0.0 || a == f32::INFINITY {
        let y_positive = y > 0.0;
        let magnitude = if (a == 0.0) == y_positive {
            0.0
        } else {
            f32::INFINITY
        };
        return if odd && x.is_sign_negative() {
            -magnitude
        } else {
            magnitude
        };
    }
    if x < 0.0 && !whole {
        return NAN;
    }
    if y == 0.5 {
        return x.sqrt();
    }
    let magnitude = if whole && y.abs() <= WHOLE_MAX {
        let value = whole_power(a, y.abs() as u32);
        if y < 0.0 { 1.0 / value } else { value }
    } else {
        real_power(a, y)
    };
    if odd && x < 0.0 {
        -magnitude
    } else {
        magnitude
    }
}

/// `a^n` by squaring, from the lowest bit of `n` up.
#[inline(always)]
fn whole_power(a: f32, n: u32) -> f32 {
    let mut value = 1.0f32;
    let mut square = a;
    let mut n = n;
    while n > 0 {
        if n & 1 == 1 {
            value *= square;
        }
        n >>= 1;
        if n > 0 {
            square *= square;
        }
    }
    value
}

/// `a^y` for a positive, finite `a` and a finite `y`.
#[inline(always)]
fn real_power(a: f32, y: f32) -> f32 {
    let (high, low) = log_in_two(a);
    let p = y * high;
    // Far outside the range of `exp`, before the errors of huge products turn into NaN.
    if p > 89.0 {
        return f32::INFINITY;
    }
    if p < -104.5 {
        return 0.0;
    }
    let tail = product_error(y, high, p) + y * low;
    exp_within(p, tail)
}
