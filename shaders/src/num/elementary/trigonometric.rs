//! `sin` and `cos`, with an argument reduction in integers that is as good for `1e38` as for 1.

use super::{NAN, bits, horner};

/// The binary digits of `2 / pi` after the point, 32 a word. A finite `f32` reaches at most word 6.
const TWO_OVER_PI: [u32; 7] = [
    0xa2f9_836e,
    0x4e44_1529,
    0xfc27_57d1,
    0xf534_ddc0,
    0xdb62_9599,
    0x3c43_9041,
    0xfe51_63ab,
];

/// `pi / 2`.
const HALF_PI: f32 = bits(0x3fc9_0fdb);
/// `pi / 4`, rounded down: below it nothing is reduced.
const QUARTER_PI: f32 = bits(0x3f49_0fda);

/// `(sin(x) / x - 1) / x^2` over `x^2`, to `pi / 4`; relative error `2^-32`.
const SIN: [f32; 4] = [
    bits(0xbe2a_aaab),
    bits(0x3c08_88b3),
    bits(0xb950_2535),
    bits(0x363c_2f81),
];

/// `(cos(x) - 1 + x^2 / 2) / x^4` over `x^2`, to `pi / 4`; absolute error `2^-33`.
const COS: [f32; 3] = [bits(0x3d2a_aaa5), bits(0xbab6_0615), bits(0x37cc_f46c)];

/// 32 bits of `2 / pi`, from bit `at` on (bit 1 is the first after the point; below that are zeros).
#[inline(always)]
fn window(at: i32) -> u32 {
    let bit = at - 1;
    let word = |i: i32| {
        if (0..7).contains(&i) {
            TWO_OVER_PI[i as usize]
        } else {
            0
        }
    };
    let (index, shift) = (bit >> 5, (bit & 31) as u32);
    if shift == 0 {
        word(index)
    } else {
        word(index) << shift | word(index + 1) >> (32 - shift)
    }
}

/// The quadrant and the rest, `x = quadrant * pi/2 + r` with `|r| <= pi/4`, of a positive, finite `x`.
#[inline(always)]
fn reduce(x: f32) -> (u32, f32) {
    if x <= QUARTER_PI {
        return (0, x);
    }
    let word = x.to_bits();
    let mantissa = u64::from(word & 0x7f_ffff | 0x80_0000);
    let e = (word >> 23) as i32 - 150;
    // x = mantissa * 2^e. Digits of 2/pi before bit `e - 1` only add multiples of four quadrants.
    let (w0, w1, w2) = (window(e - 1), window(e + 31), window(e + 63));
    // mantissa * (w0, w1, w2), modulo 2^96: the two uppermost bits are the quadrant, 62 bits of the rest are kept.
    let low = mantissa * u64::from(w2);
    let middle = mantissa * u64::from(w1) + (low >> 32);
    let top = (mantissa * u64::from(w0) + (middle >> 32)) as u32;
    let product = u64::from(top) << 32 | middle & 0xffff_ffff;
    let fraction = (product << 2) as i64;
    // As a signed number the fraction is in [-1/2, 1/2), and a set sign carries into the quadrant.
    let quadrant = (top >> 30).wrapping_add(u32::from(fraction < 0)) & 3;
    let turn = super::super::fixed::sum_to_f32(fraction, -64);
    (quadrant, turn * HALF_PI)
}

#[inline(always)]
fn sin_within(r: f32) -> f32 {
    let z = r * r;
    r + (r * z) * horner(z, &SIN)
}

#[inline(always)]
fn cos_within(r: f32) -> f32 {
    let z = r * r;
    (1.0 - 0.5 * z) + (z * z) * horner(z, &COS)
}

/// The sine of an angle in radians, within 2.5 ulp; NaN for infinities.
#[must_use]
pub fn sin(x: f32) -> f32 {
    if !x.is_finite() {
        return NAN;
    }
    let (quadrant, r) = reduce(x.abs());
    let y = if quadrant & 1 == 0 {
        sin_within(r)
    } else {
        cos_within(r)
    };
    let y = if quadrant & 2 == 0 { y } else { -y };
    if x.is_sign_negative() { -y } else { y }
}

/// The cosine of an angle in radians, within 2.5 ulp; NaN for infinities.
#[must_use]
pub fn cos(x: f32) -> f32 {
    if !x.is_finite() {
        return NAN;
    }
    let (quadrant, r) = reduce(x.abs());
    let y = if quadrant & 1 == 0 {
        cos_within(r)
    } else {
        sin_within(r)
    };
    if (quadrant + 1) & 2 == 0 { y } else { -y }
}
