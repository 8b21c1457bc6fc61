//! Rounding, once, of exact fractions and of their square roots.

use super::DECIMALS;
use crate::abi::{Number, Revert};
use num_bigint::{BigInt, BigUint, Sign};

/// 10 to this power.
pub(super) fn power_of_ten(exponent: u32) -> BigInt {
    BigInt::from(10).pow(exponent)
}

/// `numerator / denominator`, rounded half to even to [`DECIMALS`] decimals. The denominator is positive.
pub(super) fn fraction(numerator: &BigInt, denominator: &BigInt) -> Result<Number, Revert> {
    let scaled = numerator.magnitude() * power_of_ten(DECIMALS).magnitude();
    let quotient = &scaled / denominator.magnitude();
    let rest = scaled - &quotient * denominator.magnitude();
    let rounded = round(quotient, &(rest << 1u32), denominator.magnitude());
    number(numerator.sign(), rounded)
}

/// The square root of `numerator / denominator`, with the sign given, rounded half to even to [`DECIMALS`] decimals.
/// Both are magnitudes, and the denominator is positive.
///
/// With r the root rounded down (of the scaled fraction q = n/d), r + 1 is nearer if q > (r + 1/2)², that is, if
/// 4n > d(2r + 1)²: no digit of an approximation is needed.
pub(super) fn root(
    sign: Sign,
    numerator: &BigUint,
    denominator: &BigUint,
) -> Result<Number, Revert> {
    let scaled = numerator * power_of_ten(2 * DECIMALS).magnitude();
    let floor = (&scaled / denominator).sqrt();
    let middle = (&floor << 1u32) + 1u32;
    let rounded = round(floor, &(scaled << 2u32), &(denominator * &middle * &middle));
    number(sign, rounded)
}

/// `floor`, or one more where `rest` is above `half`, or equal and `floor` odd.
fn round(floor: BigUint, rest: &BigUint, half: &BigUint) -> BigUint {
    match rest.cmp(half) {
        std::cmp::Ordering::Greater => floor + 1u32,
        std::cmp::Ordering::Equal if floor.bit(0) => floor + 1u32,
        _ => floor,
    }
}

/// A result of [`DECIMALS`] decimals as a canonical number.
fn number(sign: Sign, mut magnitude: BigUint) -> Result<Number, Revert> {
    if magnitude == BigUint::ZERO {
        return Ok(Number::whole(0));
    }
    let mut decimals = i128::from(DECIMALS);
    while decimals > 0 && (&magnitude % 10u32) == BigUint::ZERO {
        magnitude /= 10u32;
        decimals -= 1;
    }
    let value = BigInt::from_biguint(sign, magnitude);
    let value = i128::try_from(value).map_err(|_| Revert::Overflow)?;
    Ok(Number { value, decimals })
}
