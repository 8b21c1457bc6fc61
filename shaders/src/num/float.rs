//! Order, extremes and the one NaN, by bit patterns.

/// The one NaN that leaves the engine: quiet, positive, no payload.
pub const CANONICAL_NAN: u32 = 0x7fc0_0000;

/// `x`, with any NaN replaced by [`CANONICAL_NAN`].
#[inline]
#[must_use]
pub fn canonical(x: f32) -> f32 {
    if x.is_nan() {
        f32::from_bits(CANONICAL_NAN)
    } else {
        x
    }
}

/// An integer that orders floats: `order_key(a) < order_key(b)` where `a < b`, and `-0` stands just below `+0`.
/// Infinities have their places; a NaN has none, and callers look for it first.
#[inline]
#[must_use]
pub const fn order_key(x: f32) -> i32 {
    let bits = x.to_bits() as i32;
    bits ^ (((bits >> 31) as u32) >> 1) as i32
}

/// The float of an order key.
#[inline]
#[must_use]
pub const fn from_order_key(key: i32) -> f32 {
    f32::from_bits((key ^ (((key >> 31) as u32) >> 1) as i32) as u32)
}

/// The larger by order key; NaN where one of them is NaN.
#[inline]
#[must_use]
pub fn max(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        f32::from_bits(CANONICAL_NAN)
    } else if order_key(a) >= order_key(b) {
        a
    } else {
        b
    }
}

/// The smaller by order key; NaN where one of them is NaN.
#[inline]
#[must_use]
pub fn min(a: f32, b: f32) -> f32 {
    if a.is_nan() || b.is_nan() {
        f32::from_bits(CANONICAL_NAN)
    } else if order_key(a) <= order_key(b) {
        a
    } else {
        b
    }
}

/// The value of a binary16 pattern, which binary32 holds exactly. A NaN is canonical.
#[must_use]
pub const fn from_half(half: u16) -> f32 {
    let sign = (half as u32 >> 15) << 31;
    let (field, fraction) = (half as u32 >> 10 & 0x1f, half as u32 & 0x3ff);
    let magnitude = match (field, fraction) {
        (0, 0) => 0,
        // A subnormal: its leading one becomes the hidden bit.
        (0, _) => {
            let left = fraction.leading_zeros() - 21;
            (113 - left) << 23 | (fraction << left & 0x3ff) << 13
        }
        (0x1f, 0) => 0x7f80_0000,
        (0x1f, _) => return f32::from_bits(CANONICAL_NAN),
        _ => (field + 112) << 23 | fraction << 13,
    };
    f32::from_bits(sign | magnitude)
}

/// `x` rounded to the nearest value of binary16, ties to even; from 65,520 on infinity. NaN stays NaN.
#[must_use]
pub const fn to_half(x: f32) -> f32 {
    let bits = x.to_bits();
    let (sign, magnitude) = (bits & 0x8000_0000, bits & 0x7fff_ffff);
    let field = magnitude >> 23;
    if magnitude > 0x7f80_0000 {
        return f32::from_bits(CANONICAL_NAN);
    }
    let rounded = if field >= 113 {
        // A carry goes into the exponent.
        (magnitude + 0xfff + (magnitude >> 13 & 1)) & !0x1fff
    } else {
        // Multiples of 2^-24: at a shift of 25 or more a 24-bit mantissa is below half of one.
        let shift = if field < 101 { 25 } else { 126 - field };
        let mantissa = magnitude & 0x7f_ffff | 0x80_0000;
        let count = (mantissa + (1 << (shift - 1)) - 1 + (mantissa >> shift & 1)) >> shift;
        if count == 0 {
            0
        } else {
            (count as f32).to_bits() - (24 << 23)
        }
    };
    let held = if rounded >= 0x4780_0000 {
        0x7f80_0000
    } else {
        rounded
    };
    f32::from_bits(sign | held)
}

/// `max(x, +0)`: `-0` gives `+0`, NaN stays NaN.
#[inline]
#[must_use]
pub fn relu(x: f32) -> f32 {
    max(x, 0.0)
}

/// Whether this thread rounds to nearest and keeps subnormals, by trying it. A library that sets flush-to-zero or
/// denormals-are-zero in a thread would change results: executors check once per thread.
#[must_use]
pub fn environment_is_ieee() -> bool {
    let tiny = std::hint::black_box(f32::from_bits(0x0080_0000));
    let half = std::hint::black_box(0.5f32);
    let subnormal = std::hint::black_box(f32::from_bits(1));
    let one = std::hint::black_box(1.0f32);
    let below_half_ulp = std::hint::black_box(f32::from_bits(0x3300_0000));
    (tiny * half).to_bits() == 0x0040_0000
        && (subnormal + subnormal).to_bits() == 2
        && (one + below_half_ulp).to_bits() == 0x3f80_0000
        && (-one - below_half_ulp).to_bits() == 0xbf80_0000
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn this_thread_rounds_to_nearest_and_keeps_subnormals() {
        assert!(environment_is_ieee());
    }

    #[test]
    fn extremes_know_signed_zeros_infinities_and_nan() {
        let nan = f32::from_bits(0xffc0_1234);
        assert_eq!(max(-0.0, 0.0).to_bits(), 0);
        assert_eq!(max(0.0, -0.0).to_bits(), 0);
        assert_eq!(min(0.0, -0.0).to_bits(), 0x8000_0000);
        assert_eq!(max(f32::NEG_INFINITY, -1.0), -1.0);
        assert_eq!(min(f32::INFINITY, f32::MAX), f32::MAX);
        for other in [0.0, f32::INFINITY, nan] {
            assert_eq!(max(nan, other).to_bits(), CANONICAL_NAN);
            assert_eq!(max(other, nan).to_bits(), CANONICAL_NAN);
            assert_eq!(min(nan, other).to_bits(), CANONICAL_NAN);
            assert_eq!(min(other, nan).to_bits(), CANONICAL_NAN);
        }
        assert_eq!(relu(-0.0).to_bits(), 0);
        assert_eq!(canonical(nan).to_bits(), CANONICAL_NAN);
        assert_eq!(canonical(-1.5), -1.5);
    }

    /// All positive values, up to the one that would follow the largest.
    fn halves() -> impl Iterator<Item = (u16, f32)> {
        (0..0x7c00u16).map(|half| (half, from_half(half)))
    }

    #[test]
    fn every_half_is_a_float_and_itself_when_rounded() {
        for (half, value) in halves() {
            assert_eq!(to_half(value).to_bits(), value.to_bits(), "{half:#06x}");
            assert_eq!(from_half(half | 0x8000).to_bits(), (-value).to_bits());
            assert_eq!(to_half(-value).to_bits(), (-value).to_bits());
        }
        assert_eq!(from_half(1), 2f32.powi(-24));
        assert_eq!(from_half(0x03ff), 1023.0 * 2f32.powi(-24));
        assert_eq!(from_half(0x0400), 2f32.powi(-14));
        assert_eq!(from_half(0x3c00), 1.0);
        assert_eq!(from_half(0x7bff), 65_504.0);
        assert_eq!(from_half(0x7c00), f32::INFINITY);
        assert_eq!(from_half(0xfe01).to_bits(), CANONICAL_NAN);
        assert_eq!(to_half(f32::NAN).to_bits(), CANONICAL_NAN);
        assert_eq!(to_half(f32::NEG_INFINITY), f32::NEG_INFINITY);
    }

    #[test]
    fn between_two_halves_the_nearer_is_taken_and_the_even_of_two() {
        let above = halves().skip(1).chain([(0x7c00, 65_536.0)]);
        for ((low, a), (_, b)) in halves().zip(above) {
            let b_or_infinity = if b == 65_536.0 { f32::INFINITY } else { b };
            let middle = (a + b) / 2.0;
            let even = if low % 2 == 0 { a } else { b_or_infinity };
            assert_eq!(to_half(middle), even, "between {a} and {b}");
            assert_eq!(to_half(middle.next_down()), a, "below {middle}");
            assert_eq!(to_half(middle.next_up()), b_or_infinity, "above {middle}");
        }
        assert_eq!(to_half(f32::from_bits(1)).to_bits(), 0);
        assert_eq!(to_half(f32::MAX), f32::INFINITY);
    }

    proptest! {
        #[test]
        fn keys_order_as_floats_do_and_come_back(a in any::<u32>(), b in any::<u32>()) {
            let (x, y) = (f32::from_bits(a), f32::from_bits(b));
            prop_assert_eq!(from_order_key(order_key(x)).to_bits(), a);
            if x < y {
                prop_assert!(order_key(x) < order_key(y));
            }
        }
    }
}
