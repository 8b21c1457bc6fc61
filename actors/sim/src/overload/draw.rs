//! Draws from distributions, in fixed point: a run is the same on every machine.

use crate::Random;

/// Fraction bits of a number here.
const BITS: u32 = 32;

/// 1.0.
pub(super) const ONE: i64 = 1 << BITS;

/// ln 2 with 60 fraction bits.
const LN_2: i128 = 799_144_290_325_165_979;

/// The product of two numbers.
const fn mul(a: i64, b: i64) -> i64 {
    ((a as i128 * b as i128) >> BITS) as i64
}

/// The quotient of two whole numbers.
pub(super) const fn ratio(of: i64, to: i64) -> i64 {
    (((of as i128) << BITS) / to as i128) as i64
}

/// The binary logarithm of a positive number, bit by bit.
fn log2(x: i64) -> i64 {
    let whole = 63 - i64::from(x.leading_zeros()) - i64::from(BITS);
    // Between 1 and 2, with 62 fraction bits; squared, its magnitude is the next bit.
    let mut rest = (x as u128) << (i64::from(BITS + 30) - (whole + i64::from(BITS)));
    let mut fraction = 0;
    for _ in 0..BITS {
        rest = (rest * rest) >> 62;
        fraction <<= 1;
        if rest >> 63 != 0 {
            rest >>= 1;
            fraction |= 1;
        }
    }
    (whole << BITS) | fraction
}

/// The natural logarithm of a positive number.
pub(super) fn ln(x: i64) -> i64 {
    ((i128::from(log2(x)) * LN_2) >> 60) as i64
}

/// e to the power of a number below 20: the series for what is left beside a power of two.
pub(super) fn exp(x: i64) -> i64 {
    let scaled = (i128::from(x) << 60) / LN_2;
    let whole = (scaled >> BITS) as i64;
    let left = ((scaled - (i128::from(whole) << BITS)) * LN_2) >> BITS;
    let (mut sum, mut term) = (1i128 << 60, 1i128 << 60);
    for n in 1..20 {
        term = ((term * left) >> 60) / n;
        sum += term;
    }
    let shift = i64::from(60 - BITS) - whole;
    if shift >= 127 {
        0
    } else if shift >= 0 {
        (sum >> shift) as i64
    } else {
        (sum << -shift).min(i128::from(i64::MAX)) as i64
    }
}

impl Random {
    /// Uniform between 0 and 1, neither included.
    fn uniform(&mut self) -> i64 {
        (self.next() >> BITS) as i64 | 1
    }

    /// Normal, of mean 0 and variance 1: the sum of twelve uniforms, whose tails end at 6.
    pub(super) fn normal(&mut self) -> i64 {
        let sum: i64 = (0..12).map(|_| self.uniform()).sum();
        sum - 6 * ONE
    }

    /// Exponential, of mean 1.
    pub(super) fn exponential(&mut self) -> i64 {
        -ln(self.uniform())
    }

    /// e to the power of a normal of this deviation: its median is 1.
    pub(super) fn lognormal(&mut self, deviation: i64) -> i64 {
        exp(mul(self.normal(), deviation))
    }

    /// At least 1, and more than x with probability `x^-shape`; at most a million.
    pub(super) fn pareto(&mut self, shape: i64) -> i64 {
        let power = (i128::from(self.exponential()) << BITS) / i128::from(shape);
        exp((power as i64).min(13 * ONE))
    }

    /// Gamma, of mean 1 and this coefficient of variation (Marsaglia and Tsang 2000).
    pub(super) fn gamma(&mut self, variation: i64) -> i64 {
        // Its shape is 1 / CV^2; for shapes below 1 that of one more, times a power of a uniform.
        let square = mul(variation, variation);
        let shape = ratio(ONE, square);
        let d = shape + ONE - ONE / 3;
        let c = ratio(ONE, root(9 * d));
        let whole = loop {
            let x = self.normal();
            let v = ONE + mul(c, x);
            if v <= 0 {
                continue;
            }
            let v = mul(mul(v, v), v).max(1);
            let bound = mul(x, x) / 2 + d - mul(d, v) + mul(d, ln(v));
            if ln(self.uniform()) < bound {
                break mul(d, v);
            }
        };
        let power = mul(self.exponential(), square);
        // For a mean of 1 the draw is divided by its shape.
        mul(mul(whole, exp(-power.min(40 * ONE))), square)
    }
}

/// The square root.
fn root(x: i64) -> i64 {
    ((x as u128) << BITS).isqrt() as i64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: i64, wanted: i64, per_mille: i64) {
        let off = (found - wanted).abs();
        assert!(
            off <= wanted.abs() / 1_000 * per_mille + 4,
            "{found} for {wanted}"
        );
    }

    #[test]
    fn logarithm_and_exponential_are_those_of_the_tables() {
        near(ln(10 * ONE), ratio(2_302_585_093, 1_000_000_000), 0);
        near(ln(ONE / 1_024), ratio(-6_931_471_806, 1_000_000_000), 0);
        near(exp(ONE), ratio(2_718_281_828, 1_000_000_000), 0);
        near(exp(-3 * ONE), ratio(49_787_068, 1_000_000_000), 0);
        assert_eq!(exp(-60 * ONE), 0);
        for x in [1, 7, 1_000, 123_456].map(|x| x * ONE / 100) {
            near(exp(ln(x)), x, 1);
        }
    }

    #[test]
    fn draws_have_their_means_and_variances() {
        const COUNT: i64 = 100_000;
        let mut random = Random::new(3);
        let mut mean = |mut draw: Box<dyn FnMut(&mut Random) -> i64>| {
            let draws = (0..COUNT).map(|_| i128::from(draw(&mut random)));
            (draws.sum::<i128>() / i128::from(COUNT)) as i64
        };
        assert!(mean(Box::new(Random::normal)).abs() < ONE / 100);
        near(
            mean(Box::new(|r| {
                let x = r.normal();
                mul(x, x)
            })),
            ONE,
            15,
        );
        near(mean(Box::new(Random::exponential)), ONE, 15);
        // Of a lognormal: e^(s^2/2); of a Pareto: a/(a-1).
        near(
            mean(Box::new(|r| r.lognormal(ONE * 6 / 5))),
            exp(ratio(72, 100)),
            40,
        );
        near(mean(Box::new(|r| r.pareto(3 * ONE))), ONE * 3 / 2, 15);
        for variation in [1, 2, 4] {
            let variation = variation * ONE;
            near(mean(Box::new(move |r| r.gamma(variation))), ONE, 60);
            let square = mean(Box::new(move |r| {
                let x = r.gamma(variation);
                mul(x, x)
            }));
            near(square, ONE + mul(variation, variation), 120);
        }
    }
}
