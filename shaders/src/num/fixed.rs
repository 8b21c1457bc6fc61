//! Contractions (Gemm, `MatMul`, Conv, ...) in integers: the modes `exact24`, `exact16` and `int8`.
//!
//! A row (of activations, or a channel of weights) gets one power-of-two scale from its largest exponent; each value
//! becomes an integer `q` of at most 24 bits; products and sums are integers, so no order of summation can matter; the
//! 64-bit sum becomes an `f32` with one rounding.
//!
//! With `e` the largest biased exponent in the row (a subnormal or zero counts as 1), `q = rne(x * 2^(149 - e))`, hence
//! `x ~ q * 2^(e - 149)` and `|q| <= 2^23`.
//! The sum of a row `a` and a row `b` is `f32(sum(qa * qb) * 2^(ea + eb - 298))`, rounded to nearest even, subnormals
//! kept, infinity on overflow.
//! A row with an infinity or a NaN is [`Exponent::NOT_FINITE`]: every result that it takes part in is NaN.
//! That is [`Width::Bits24`]. [`Width::Bits16`] has 141 in the place of 149, and `q` saturates at `2^15 - 1`.
//! [`Width::Whole`] takes integers as they are, with [`Exponent::UNIT`] for every row.
//!
//! Kernels with 16-bit multipliers use balanced digits, `q = 4096 * high + low` with `|high| <= 2048` and
//! `-2048 <= low <= 2047`.

use super::float::CANONICAL_NAN;

/// How wide the integers of a contraction are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Width {
    /// `exact24`: `|q| <= 2^23`.
    Bits24 = 0,
    /// `exact16`: `|q| <= 2^15 - 1`.
    Bits16 = 1,
    /// Integers that stand for themselves: 8-bit values less their zero point, `|q| <= 255`.
    Whole = 2,
    /// No integers: floats as they are, in the mode `fast`.
    Float = 3,
}

impl Width {
    /// Lowest bits of a 24-bit mantissa that a row's largest value loses.
    #[must_use]
    pub const fn dropped(self) -> u32 {
        match self {
            Self::Bits24 | Self::Whole | Self::Float => 1,
            Self::Bits16 => 9,
        }
    }

    /// The exponent at which a unit is 1: `q` stands for `q * 2^(e - unit)`.
    #[must_use]
    pub const fn unit(self) -> i32 {
        // A mantissa's last bit is worth 2^(e - 150).
        150 - self.dropped() as i32
    }

    /// Largest `|q|`; what rounds beyond it saturates.
    #[must_use]
    pub const fn most(self) -> i32 {
        match self {
            Self::Bits24 => QUANTISED_MAX,
            Self::Bits16 => i16::MAX as i32,
            Self::Whole => 255,
            Self::Float => 0,
        }
    }
}

/// Largest `|q|`: a value with the row's largest exponent has 24 bits, of which the last is rounded away.
pub const QUANTISED_MAX: i32 = 1 << 23;

/// Longest contraction, in products. `2^16 * 2^23 * 2^23 = 2^62`, so that a sum and a bias of one more term fit `i64`.
pub const DEPTH_MAX: usize = 1 << 16;

/// Bits of the lower digit.
pub const DIGIT_BITS: u32 = 12;

/// Products whose digit sums fit `i32`: the mixed sum `high * low + low * high` gains at most `2 * 2^11 * 2^11 = 2^23`
/// a product, `2^30` in 128.
pub const DIGIT_CHUNK: usize = 128;

const _: () =
    assert!(DEPTH_MAX as i128 * (QUANTISED_MAX as i128) * (QUANTISED_MAX as i128) <= 1 << 62);
const _: () = assert!(DIGIT_CHUNK as i64 * 2 * (1 << (2 * (DIGIT_BITS - 1))) < i32::MAX as i64);

/// The scale of a row: its largest biased exponent, 1 to 254; 255 where the row is not finite.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Exponent(pub u8);

impl Exponent {
    /// A row of zeros and subnormals.
    pub const LEAST: Self = Self(1);
    /// A row that holds an infinity or a NaN.
    pub const NOT_FINITE: Self = Self(255);
    /// A row of integers that stand for themselves.
    pub const UNIT: Self = Self(149);

    /// The scale of a row.
    #[inline]
    #[must_use]
    pub fn of(row: &[f32]) -> Self {
        // Magnitude bits order as magnitudes do: the largest has the largest exponent.
        let most = row
            .iter()
            .fold(0u32, |m, x| m.max(x.to_bits() & 0x7fff_ffff));
        Self::of_magnitude(most)
    }

    /// The scale of a row whose largest `bits & 0x7fff_ffff` is `most`.
    #[inline]
    #[must_use]
    pub const fn of_magnitude(most: u32) -> Self {
        let exponent = (most >> 23) as u8;
        if exponent == 0 {
            Self::LEAST
        } else {
            Self(exponent)
        }
    }

    /// `x` as an integer at this scale, rounded to nearest even. Only for finite rows that this exponent bounds.
    #[inline]
    #[must_use]
    pub const fn quantise(self, x: f32, width: Width) -> i32 {
        let bits = x.to_bits();
        let field = (bits >> 23) & 0xff;
        let (exponent, mantissa) = if field == 0 {
            (1, bits & 0x7f_ffff)
        } else {
            (field, bits & 0x7f_ffff | 0x80_0000)
        };
        // At a shift of 25 or more a 24-bit mantissa is below half a unit.
        let shift = width.dropped() + (self.0 as u32).saturating_sub(exponent);
        let shift = if shift > 25 { 25 } else { shift };
        let kept = mantissa >> shift;
        let odd = kept & 1;
        let rounded = ((mantissa + ((1 << (shift - 1)) - 1) + odd) >> shift) as i32;
        let held = if rounded > width.most() {
            width.most()
        } else {
            rounded
        };
        if bits >> 31 == 0 { held } else { -held }
    }

    /// The exponent of a unit: a quantised value `q` stands for `q * 2^power`.
    #[inline]
    #[must_use]
    pub const fn power(self, width: Width) -> i32 {
        self.0 as i32 - width.unit()
    }

    /// The `f32` of a sum of products of a row at this scale with one at `other`'s.
    #[inline]
    #[must_use]
    pub fn rescale(self, other: Self, sum: i64, width: Width) -> f32 {
        if self == Self::NOT_FINITE || other == Self::NOT_FINITE {
            f32::from_bits(CANONICAL_NAN)
        } else {
            sum_to_f32(sum, self.power(width) + other.power(width))
        }
    }
}

/// A quantised row.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quantised {
    /// Its scale.
    pub exponent: Exponent,
    /// Its values; zeros where the row is not finite.
    pub values: Vec<i32>,
}

impl Quantised {
    /// Quantises a row.
    #[must_use]
    pub fn of(row: &[f32], width: Width) -> Self {
        let mut values = vec![0; row.len()];
        let exponent = quantise_into(row, &mut values, width);
        Self { exponent, values }
    }
}

/// Quantises `row` into `values` and tells the scale.
///
/// # Panics
/// Where the lengths differ.
pub fn quantise_into(row: &[f32], values: &mut [i32], width: Width) -> Exponent {
    assert_eq!(row.len(), values.len(), "one integer per value");
    let exponent = Exponent::of(row);
    if exponent == Exponent::NOT_FINITE {
        values.fill(0);
    } else {
        for (q, &x) in values.iter_mut().zip(row) {
            *q = exponent.quantise(x, width);
        }
    }
    exponent
}

/// The balanced digits `(high, low)` of a quantised value: `q = 4096 * high + low`.
#[inline]
#[must_use]
pub const fn digits(q: i32) -> (i16, i16) {
    let high = (q + 2048) >> DIGIT_BITS;
    (high as i16, (q - (high << DIGIT_BITS)) as i16)
}

/// Both digits in a word, `low` in the lower half: the form in which kernels read them.
#[inline]
#[must_use]
pub const fn pack_digits(q: i32) -> u32 {
    let (high, low) = digits(q);
    (high as u16 as u32) << 16 | low as u16 as u32
}

/// The sum of products of two quantised rows, in the plainest form.
#[must_use]
pub fn dot(a: &[i32], b: &[i32]) -> i64 {
    a.iter()
        .zip(b)
        .map(|(&a, &b)| i64::from(a) * i64::from(b))
        .sum()
}

/// `sum * 2^power`, rounded once to nearest even; subnormals are kept, overflow is infinity, zero is `+0`.
#[inline]
#[must_use]
pub fn sum_to_f32(sum: i64, power: i32) -> f32 {
    // The conversion rounds once; scaling by a power of two is exact where the result is normal or infinite.
    if (-126..=127).contains(&power) {
        let scaled = (sum as f32) * f32::from_bits(((power + 127) as u32) << 23);
        if scaled.abs() >= f32::MIN_POSITIVE {
            return scaled;
        }
    }
    sum_to_f32_by_bits(sum, power)
}

/// [`sum_to_f32`] in integers alone, as the GPU does it.
#[must_use]
pub const fn sum_to_f32_by_bits(sum: i64, power: i32) -> f32 {
    if sum == 0 {
        return 0.0;
    }
    let sign = if sum < 0 { 0x8000_0000 } else { 0 };
    let magnitude = sum.unsigned_abs();
    let zeros = magnitude.leading_zeros() as i32;
    // The leading one goes to bit 63; the value is then normalised * 2^(power - zeros), in [2^(e), 2^(e+1)) of
    // e = power + 63 - zeros.
    let normalised = magnitude << zeros;
    let biased = power + 63 - zeros + 127;
    if biased > 254 {
        return f32::from_bits(sign | 0x7f80_0000);
    }
    // 24 bits stay of a normal result, fewer of a subnormal one, none below half of the least.
    let dropped = 40 + if biased < 1 { 1 - biased } else { 0 };
    if dropped > 64 {
        return f32::from_bits(sign);
    }
    let (kept, rest) = if dropped == 64 {
        (0, normalised)
    } else {
        (normalised >> dropped, normalised << (64 - dropped))
    };
    let half = 1u64 << 63;
    let up = rest > half || (rest == half && kept & 1 == 1);
    let mantissa = kept as u32 + up as u32;
    // The hidden bit adds one to the exponent field; a carry out of the mantissa adds one more.
    let field = if biased < 1 { 0 } else { biased as u32 - 1 };
    f32::from_bits(sign | ((field << 23) + mantissa))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BITS: Width = Width::Bits24;

    /// Any finite float.
    fn finite() -> impl Strategy<Value = f32> {
        any::<u32>()
            .prop_map(f32::from_bits)
            .prop_filter("finite", |x| x.is_finite())
    }

    #[test]
    fn the_largest_value_of_a_binade_and_the_least_subnormal_are_within_bounds() {
        let top = f32::from_bits(0x3fff_ffff);
        assert_eq!(Exponent::of(&[top]).quantise(top, BITS), QUANTISED_MAX);
        assert_eq!(Exponent::of(&[-top]).quantise(-top, BITS), -QUANTISED_MAX);
        assert_eq!(digits(QUANTISED_MAX), (2048, 0));
        assert_eq!(digits(-QUANTISED_MAX), (-2048, 0));
        assert_eq!(digits(2047), (0, 2047));
        assert_eq!(digits(2048), (1, -2048));
        let least = f32::from_bits(1);
        assert_eq!(Exponent::of(&[least]), Exponent::LEAST);
        assert_eq!(Exponent::LEAST.quantise(least, BITS), 0, "a half, to even");
        assert_eq!(
            Exponent::LEAST.quantise(f32::from_bits(3), BITS),
            2,
            "one and a half, to even"
        );
        assert_eq!(Exponent::of(&[0.0, -0.0]), Exponent::LEAST);
    }

    #[test]
    fn sixteen_bits_saturate_where_twenty_four_round_up() {
        let bits = Width::Bits16;
        let top = f32::from_bits(0x3fff_ffff);
        let row = Quantised::of(&[top, -top, 1.0, 0.0, 2f32.powi(-15)], bits);
        // A unit is 2^-14 here: half of one goes to even.
        assert_eq!(row.values, [32_767, -32_767, 1 << 14, 0, 0]);
        assert_eq!(row.exponent.power(bits), -14);
        let one = Quantised::of(&[1.0], bits);
        assert_eq!(
            row.exponent
                .rescale(one.exponent, i64::from(row.values[2]) << 14, bits),
            1.0
        );
    }

    #[test]
    fn whole_numbers_are_scaled_by_one() {
        assert_eq!(
            Exponent::UNIT.rescale(Exponent::UNIT, -77, Width::Whole),
            -77.0
        );
    }

    #[test]
    fn a_row_with_infinity_or_nan_makes_every_result_nan() {
        for hostile in [f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN] {
            let row = Quantised::of(&[1.0, hostile, 2.0], BITS);
            assert_eq!(row.exponent, Exponent::NOT_FINITE);
            assert_eq!(row.values, [0; 3]);
            assert_eq!(
                row.exponent.rescale(Exponent(127), 5, BITS).to_bits(),
                CANONICAL_NAN
            );
            assert_eq!(
                Exponent(127).rescale(row.exponent, 0, BITS).to_bits(),
                CANONICAL_NAN
            );
        }
    }

    #[test]
    fn small_integers_contract_exactly() {
        let a = Quantised::of(&[1.0, -2.0, 3.0], BITS);
        let b = Quantised::of(&[0.5, 4.0, -8.0], BITS);
        let result = a
            .exponent
            .rescale(b.exponent, dot(&a.values, &b.values), BITS);
        assert_eq!(result, 0.5 - 8.0 - 24.0);
    }

    #[test]
    fn sums_at_the_edges_of_the_format_round_once() {
        let check = |sum: i64, power: i32, bits: u32| {
            assert_eq!(sum_to_f32(sum, power).to_bits(), bits, "{sum} * 2^{power}");
            assert_eq!(
                sum_to_f32_by_bits(sum, power).to_bits(),
                bits,
                "{sum} * 2^{power}, by bits"
            );
        };
        check(0, 100, 0);
        check(1, -149, 1);
        check(1, -150, 0);
        check(3, -150, 2);
        check(3, -151, 1);
        check(-3, -151, 0x8000_0001);
        check(1, -296, 0);
        check(1, 127, 0x7f00_0000);
        check(1, 128, 0x7f80_0000);
        check(-1, 128, 0xff80_0000);
        check(0x1ff_ffff, 103, 0x7f80_0000);
        check(0xff_ffff, 104, 0x7f7f_ffff);
        check(i64::MIN, 0, 0xdf00_0000);
        check((1 << 24) + 1, 0, 0x4b80_0000);
        check((1 << 24) + 3, 0, 0x4b80_0002);
        // Rounding first to 24 bits and then to a subnormal would give 2.
        check((1 << 40) + (1 << 39) - 1, -189, 1);
    }

    proptest! {
        #[test]
        fn quantising_is_within_half_a_unit_and_digits_come_back(
            row in proptest::collection::vec(finite(), 1..40),
        ) {
            let quantised = Quantised::of(&row, BITS);
            let unit = 2f64.powi(quantised.exponent.power(BITS));
            for (&x, &q) in row.iter().zip(&quantised.values) {
                prop_assert!(q.abs() <= QUANTISED_MAX);
                let error = (f64::from(x) / unit - f64::from(q)).abs();
                prop_assert!(error <= 0.5);
                let (high, low) = digits(q);
                prop_assert_eq!(i32::from(high) * 4096 + i32::from(low), q);
                prop_assert!((-2048..=2048).contains(&high) && (-2048..=2047).contains(&low));
                prop_assert_eq!(pack_digits(q), (high as u16 as u32) << 16 | low as u16 as u32);
            }
        }

        #[test]
        fn both_forms_of_the_conversion_agree(sum in any::<i64>(), cut in 0u32..64, power in -296i32..210) {
            let sum = sum >> cut;
            prop_assert_eq!(
                sum_to_f32(sum, power).to_bits(),
                sum_to_f32_by_bits(sum, power).to_bits()
            );
        }

        #[test]
        fn the_conversion_is_exact_where_f64_can_tell(sum in -(1i64 << 53)..1 << 53, power in -290i32..120) {
            // Scaling a 53-bit integer in f64 is exact here, and the cast to f32 rounds once.
            let expect = (sum as f64 * 2f64.powi(power)) as f32;
            prop_assert_eq!(sum_to_f32(sum, power).to_bits(), expect.to_bits());
        }

        #[test]
        fn a_contraction_is_closer_to_the_truth_than_f32_would_be(
            pairs in proptest::collection::vec((-10f32..10.0, -10f32..10.0), 1..300),
        ) {
            let (a, b): (Vec<f32>, Vec<f32>) = pairs.iter().copied().unzip();
            let (qa, qb) = (Quantised::of(&a, BITS), Quantised::of(&b, BITS));
            let got = qa.exponent.rescale(qb.exponent, dot(&qa.values, &qb.values), BITS);
            let truth: f64 = pairs.iter().map(|&(a, b)| f64::from(a) * f64::from(b)).sum();
            let top = |v: &[f32]| v.iter().fold(0f64, |m, &x| m.max(f64::from(x.abs())));
            // Half a unit on each side of each product, a unit being at most 2^-22 of the row's largest value.
            let bound = pairs.len() as f64 * top(&a) * top(&b) * 2f64.powi(-22) + truth.abs() * 2f64.powi(-24);
            prop_assert!((f64::from(got) - truth).abs() <= bound);
        }
    }
}
