//! Decimals as OpenGradient has them, and their exact conversions.
//!
//! A [`Number`] is `value / 10^decimals`. To an element of a model it converts correctly rounded (floats) or exactly or
//! not at all (integers). Back, a float becomes the shortest decimal that gives the same float again, in one canonical
//! form: no trailing zeros behind the point, `decimals` at least 0, and only where the value would not fit `int128`
//! (from about 1.7e38), the shortest value with negative `decimals`. Negative zero becomes 0.

use std::fmt::LowerExp;
use std::str::FromStr;

/// A decimal number: `value / 10^decimals`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Number {
    /// Digits, with the sign.
    pub value: i128,
    /// Digits behind the point; negative for zeros before it.
    pub decimals: i128,
}

/// Decimal exponents past this are infinity or zero in every float type, whatever the 39 digits of the value (f64 ends
/// at 1.8e308 and 4.9e-324), so longer ones are cut to it before they are written out.
const EXPONENT_MAX: i128 = 1_000;

/// More decimal places than `int128` has digits: below it every power of ten fits.
const DIGITS_MAX: u32 = 38;

impl Number {
    /// A whole number.
    #[must_use]
    pub const fn whole(value: i128) -> Self {
        Self { value, decimals: 0 }
    }

    /// The nearest float (ties to even); `None` where that is infinite.
    #[must_use]
    pub fn to_f32(self) -> Option<f32> {
        self.parse::<f32>().filter(|value| value.is_finite())
    }

    /// The nearest float (ties to even); `None` where that is infinite.
    #[must_use]
    pub fn to_f64(self) -> Option<f64> {
        self.parse::<f64>().filter(|value| value.is_finite())
    }

    /// Rust's decimal parser rounds correctly, so writing the number out is exact.
    fn parse<F: FromStr>(self) -> Option<F> {
        let exponent = -self.decimals.clamp(-EXPONENT_MAX, EXPONENT_MAX);
        format!("{}e{exponent}", self.value).parse().ok()
    }

    /// The whole number that this is; `None` where it has a fraction or does not fit.
    #[must_use]
    pub fn to_whole(self) -> Option<i128> {
        if self.value == 0 {
            return Some(0);
        }
        let places = u32::try_from(self.decimals.unsigned_abs()).ok()?;
        if places > DIGITS_MAX {
            return None;
        }
        let power = 10i128.pow(places);
        if self.decimals < 0 {
            self.value.checked_mul(power)
        } else {
            (self.value % power == 0).then(|| self.value / power)
        }
    }

    /// The shortest decimal that gives back this float; `None` for NaN and infinities.
    #[must_use]
    pub fn from_f32(value: f32) -> Option<Self> {
        value.is_finite().then(|| Self::shortest(value))?
    }

    /// The shortest decimal that gives back this float; `None` for NaN and infinities.
    #[must_use]
    pub fn from_f64(value: f64) -> Option<Self> {
        value.is_finite().then(|| Self::shortest(value))?
    }

    /// Reads the shortest digits from Rust's float formatter, which are those of Grisu and Ryu: `-1.25e-7`.
    fn shortest(value: impl LowerExp) -> Option<Self> {
        let text = format!("{value:e}");
        let (mantissa, exponent) = text.split_once('e')?;
        let exponent: i128 = exponent.parse().ok()?;
        let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, ""));
        let digits: i128 = format!("{whole}{fraction}").parse().ok()?;
        let number = Self {
            value: digits,
            decimals: i128::try_from(fraction.len()).ok()? - exponent,
        };
        Some(number.canonical())
    }

    /// The canonical form of the same number, as the module describes.
    #[must_use]
    pub fn canonical(self) -> Self {
        let Self {
            mut value,
            mut decimals,
        } = self;
        if value == 0 {
            return Self::whole(0);
        }
        while value % 10 == 0 && decimals > i128::MIN {
            value /= 10;
            decimals -= 1;
        }
        if decimals < 0
            && let Some(whole) = (Self { value, decimals }).to_whole()
        {
            return Self::whole(whole);
        }
        Self { value, decimals }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn number(value: i128, decimals: i128) -> Number {
        Number { value, decimals }
    }

    #[test]
    fn floats_become_their_shortest_decimal_in_canonical_form() {
        let check = |value: f32, expect: Number| assert_eq!(Number::from_f32(value), Some(expect));
        check(0.0, number(0, 0));
        check(-0.0, number(0, 0));
        check(0.1, number(1, 1));
        check(-1.25e-7, number(-125, 9));
        check(1_500.0, number(1_500, 0));
        check(1e-45, number(1, 45));
        check(16_777_216.0, number(16_777_216, 0));
        check(1e38, number(10i128.pow(38), 0));
        check(f32::MAX, number(34_028_235, -31));
        check(f32::MIN, number(-34_028_235, -31));
        assert_eq!(Number::from_f32(f32::NAN), None);
        assert_eq!(Number::from_f32(f32::INFINITY), None);
    }

    #[test]
    fn extreme_decimals_are_zero_infinite_or_not_whole() {
        for decimals in [i128::MAX, i128::MIN, 400, -400] {
            let one = number(1, decimals);
            assert_eq!(one.to_f32(), (decimals > 0).then_some(0.0));
            assert_eq!(one.to_whole(), None);
            assert_eq!(number(0, decimals).to_whole(), Some(0));
            assert_eq!(number(0, decimals).to_f64(), Some(0.0));
        }
        assert_eq!(number(i128::MIN, 0).to_whole(), Some(i128::MIN));
        assert_eq!(number(i128::MIN, -1).to_whole(), None);
        assert_eq!(number(10, i128::MIN).canonical(), number(10, i128::MIN));
    }

    #[test]
    fn whole_numbers_must_have_no_fraction() {
        assert_eq!(number(1_500, 2).to_whole(), Some(15));
        assert_eq!(number(1_501, 2).to_whole(), None);
        assert_eq!(number(-3, -2).to_whole(), Some(-300));
    }

    #[test]
    fn a_halfway_decimal_rounds_to_even() {
        // 1 + 2^-24 lies half-way between 1 and the next float: to even is down. A digit more goes up.
        assert_eq!(
            number(1_000_000_059_604_644_775_390_625, 24).to_f32(),
            Some(1.0)
        );
        assert_eq!(
            number(10_000_000_596_046_447_753_906_251, 25).to_f32(),
            Some(1.000_000_1)
        );
    }

    proptest! {
        #[test]
        fn every_finite_float_comes_back(bits: u32) {
            let value = f32::from_bits(bits);
            if let Some(decimal) = Number::from_f32(value) {
                let back = decimal.to_f32().expect("finite");
                prop_assert!(back == value && (value == 0.0 || back.to_bits() == bits));
                prop_assert_eq!(decimal.canonical(), decimal);
                prop_assert!(decimal.decimals >= 0 || value.abs() > 1.7e38);
            } else {
                prop_assert!(!value.is_finite());
            }
        }

        #[test]
        fn every_finite_double_comes_back(bits: u64) {
            let value = f64::from_bits(bits);
            if let Some(decimal) = Number::from_f64(value) {
                prop_assert_eq!(decimal.to_f64(), Some(value));
            } else {
                prop_assert!(!value.is_finite());
            }
        }

        #[test]
        fn no_shorter_decimal_gives_the_same_float(bits in 0x0080_0000u32..0x7f80_0000) {
            let value = f32::from_bits(bits);
            let decimal = Number::from_f32(value).expect("finite");
            let digits = decimal.value.to_string().trim_end_matches('0').len();
            if digits > 1 {
                let shorter: f32 = format!("{value:.*e}", digits - 2).parse().expect("a float");
                prop_assert_ne!(shorter, value);
            }
        }

        #[test]
        fn canonical_keeps_the_number(value: i128, decimals in -40i128..40) {
            let number = number(value, decimals);
            prop_assert_eq!(number.to_f64(), number.canonical().to_f64());
        }
    }
}
