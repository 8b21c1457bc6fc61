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
