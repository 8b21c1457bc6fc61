//! The inference market's state: the multiplier, and what the last block used.
//!
//! Slot 0 of the predeploy is the multiplier `m`, in gas per igas, which contracts read. The slots behind it, and `m`
//! itself, are written by each block after its last transaction, without the EVM, so that price and base fee of the next
//! block follow from the state alone:
//!
//! | slot | what |
//! |---|---|
//! | 0 | multiplier of the next block |
//! | 1 | gas that the block's transactions paid for inference: the next base fee leaves it out |
//! | 2 | igas that they paid for |
//! | 3 | exponent of the multiplier, in units of 1/[`EXPONENT_SCALE`] |
//!
//! Rule (`scheduling.md` 5): with limit `L`, target `T = 0.85 L` and used igas `U`, the excess is
//! `x = (U - T) / (L - T)` above the target and `(U - T) / T` below, so it is 1 for a full block and -1 for an empty
//! one, whatever the target; `m` grows by `exp(x / 8)`, and never falls below its least value.

use crate::overlay::{Backend, BackendError, Changes};
use crate::predeploys::{INFERENCE_MARKET, MULTIPLIER_INITIAL, MULTIPLIER_SLOT};
use crate::state::State;
use alloy_primitives::U256;
use penstock_rules::ids::Igas;

/// Gas per igas, at least: that of genesis.
pub const MULTIPLIER_MIN: u64 = MULTIPLIER_INITIAL;
/// Slot of the gas that the last block's transactions paid for inference.
pub const INFERENCE_GAS_SLOT: U256 = U256::from_limbs([1, 0, 0, 0]);
/// Slot of the inference units that they paid for.
pub const IGAS_SLOT: U256 = U256::from_limbs([2, 0, 0, 0]);
/// Slot of the exponent.
pub const EXPONENT_SLOT: U256 = U256::from_limbs([3, 0, 0, 0]);

/// Steps of the exponent per full block: fine enough that a block a millionth above its target still counts.
pub const EXPONENT_SCALE: u64 = 1 << 20;
/// Full blocks until the price is e times as high. 8, as EIP-1559: 13 % a block.
const BLOCKS_PER_E: u64 = 8;
/// Largest exponent: the price has then grown by e^30, past what any account can pay, and [`exponential`] still fits.
const EXPONENT_MAX: u64 = 30 * BLOCKS_PER_E * EXPONENT_SCALE;
/// The target's share of the limit, in percent.
const TARGET_PERCENT: u64 = 85;

/// Gas that the last block's transactions paid for inference.
#[must_use]
pub fn inference_gas(state: &State) -> u64 {
    state
        .slot_at(INFERENCE_MARKET, INFERENCE_GAS_SLOT)
        .saturating_to()
}

/// The exponent after a block that used `used` of `limit`.
const fn next_exponent(exponent: u64, used: u64, limit: u64) -> u64 {
    let target = (limit as u128 * TARGET_PERCENT as u128 / 100) as u64;
    let scale = EXPONENT_SCALE as u128;
    if used > target {
        // A block can't use more than its limit; a limit that was lowered could make it seem so.
        let room = limit.saturating_sub(target);
        let step = if used >= limit || room == 0 {
            EXPONENT_SCALE
        } else {
            ((used - target) as u128 * scale / room as u128) as u64
        };
        let next = exponent.saturating_add(step);
        if next > EXPONENT_MAX {
            EXPONENT_MAX
        } else {
            next
        }
    } else if target == 0 {
        exponent
    } else {
        exponent.saturating_sub(((target - used) as u128 * scale / target as u128) as u64)
    }
}

/// `factor * e^(numerator / denominator)`, by the series of EIP-4844.
fn exponential(factor: u64, numerator: u64, denominator: u64) -> u64 {
    let (numerator, denominator) = (u128::from(numerator), u128::from(denominator));
    let mut term = u128::from(factor) * denominator;
    let mut sum = 0u128;
    let mut index = 1u128;
    while term > 0 {
        sum += term;
        term = term * numerator / (denominator * index);
        index += 1;
    }
    u64::try_from(sum / denominator).unwrap_or(u64::MAX)
}

/// What a block makes of the price that used `used` of `limit` at this exponent: the next exponent, and the multiplier of
/// the next block, in gas per igas.
#[must_use]
pub fn next_price(exponent: u64, used: Igas, limit: Igas) -> (u64, u64) {
    let exponent = next_exponent(exponent, used.0, limit.0);
    let multiplier = exponential(MULTIPLIER_MIN, exponent, BLOCKS_PER_E * EXPONENT_SCALE);
    (exponent, multiplier)
}

/// Writes what the block used, and the multiplier of the next.
pub(crate) fn settle(
    changes: &mut Changes,
    below: &dyn Backend,
    used: Igas,
    limit: Igas,
    inference_gas: u64,
) -> Result<(), BackendError> {
    let exponent = changes
        .slot(below, INFERENCE_MARKET, EXPONENT_SLOT)?
        .saturating_to();
    let (exponent, multiplier) = next_price(exponent, used, limit);
    for (slot, value) in [
        (MULTIPLIER_SLOT, multiplier),
        (INFERENCE_GAS_SLOT, inference_gas),
        (IGAS_SLOT, used.0),
        (EXPONENT_SLOT, exponent),
    ] {
        changes.write(below, INFERENCE_MARKET, slot, U256::from(value))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: u64 = 4_000_000;

    fn after(blocks: u64, used: u64, mut exponent: u64) -> (u64, u64) {
        for _ in 0..blocks {
            exponent = next_exponent(exponent, used, LIMIT);
        }
        let m = exponential(MULTIPLIER_MIN, exponent, BLOCKS_PER_E * EXPONENT_SCALE);
        (exponent, m)
    }

    #[test]
    fn eight_full_blocks_raise_the_price_by_e_and_eight_empty_ones_lower_it_again() {
        let (exponent, m) = after(8, LIMIT, 0);
        assert_eq!(m, 271);
        assert_eq!(after(8, 0, exponent), (0, MULTIPLIER_MIN));
    }

    #[test]
    fn the_target_moves_nothing_and_the_price_never_falls_below_its_least() {
        let exponent = 5 * EXPONENT_SCALE;
        assert_eq!(next_exponent(exponent, LIMIT / 100 * 85, LIMIT), exponent);
        assert_eq!(after(100, 0, 0).1, MULTIPLIER_MIN);
    }

    #[test]
    fn a_full_chain_ends_at_a_price_that_still_fits() {
        let (exponent, m) = after(1_000, LIMIT, 0);
        assert_eq!(exponent, EXPONENT_MAX);
        // 100 * e^30 is 1.0686e15.
        assert_eq!(m / 10_000_000_000_000, 106);
    }

    /// From exponent, used and limit to the next exponent.
    type Rule = fn(u64, u64, u64) -> u64;

    fn price(exponent: u64) -> u64 {
        exponential(MULTIPLIER_MIN, exponent, BLOCKS_PER_E * EXPONENT_SCALE)
    }

    /// I13, for two blocks that use more and less: more use never gives a lower price, a price moves by an eighth of an
    /// octave of e at most and not at all at the target, it stays above its floor, and no input overflows.
    fn follows_use(rule: Rule, exponent: u64, uses: [u64; 2], limit: u64) -> Result<(), String> {
        let [less, more] = [uses[0].min(uses[1]), uses[0].max(uses[1])];
        let next = [less, more].map(|used| rule(exponent, used, limit));
        if next[0] > next[1] || price(next[0]) > price(next[1]) {
            return Err(format!("{more} of {limit} is cheaper than {less}"));
        }
        for (used, next) in [less, more].into_iter().zip(next) {
            if next > EXPONENT_MAX || next.abs_diff(exponent) > EXPONENT_SCALE {
                return Err(format!("{exponent} becomes {next} for {used} of {limit}"));
            }
            if price(next) < MULTIPLIER_MIN {
                return Err(format!("{} is below the floor", price(next)));
            }
        }
        let target = (u128::from(limit) * u128::from(TARGET_PERCENT) / 100) as u64;
        let at_target = rule(exponent, target, limit);
        // Without a limit there is no target.
        if limit > 0 && at_target != exponent {
            return Err(format!("{exponent} becomes {at_target} at the target"));
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn the_price_follows_use(
            exponent in 0..=EXPONENT_MAX, a in any::<u64>(), b in any::<u64>(), limit in any::<u64>(),
        ) {
            follows_use(next_exponent, exponent, [a, b], limit).map_err(TestCaseError::fail)?;
        }

        /// Within the limit, where both branches are.
        #[test]
        fn the_price_follows_use_within_the_limit(
            exponent in 0..=EXPONENT_MAX, limit in any::<u64>(), a in 0..=100u64, b in 0..=100u64,
        ) {
            let part = |percent: u64| (u128::from(limit) * u128::from(percent) / 100) as u64;
            follows_use(next_exponent, exponent, [part(a), part(b)], limit)
                .map_err(TestCaseError::fail)?;
        }
    }

    /// Each mutant of the rule breaks the property, for the reason that it was made for.
    #[test]
    fn a_rule_that_is_not_the_rule_is_caught() {
        let twice: Rule = |exponent, used, limit| {
            let once = next_exponent(exponent, used, limit);
            next_exponent(once, used, limit)
        };
        let backwards: Rule =
            |exponent, used, limit| next_exponent(exponent, limit.saturating_sub(used), limit);
        let half: Rule = |exponent, used, limit| {
            // A target of the half: the plain EIP-1559 rule.
            let target = limit / 2;
            if used > target {
                next_exponent(exponent, limit, limit)
            } else {
                next_exponent(exponent, 0, limit)
            }
        };
        let endless: Rule = |exponent, used, limit| {
            let next = next_exponent(exponent, used, limit);
            if used >= limit {
                exponent + EXPONENT_SCALE
            } else {
                next
            }
        };
        for (mutant, exponent, breaks) in [
            (twice, 0, "becomes"),
            (backwards, EXPONENT_SCALE, "is cheaper than"),
            (half, EXPONENT_SCALE, "at the target"),
            (endless, EXPONENT_MAX, "becomes"),
        ] {
            assert_eq!(
                follows_use(next_exponent, exponent, [0, LIMIT], LIMIT),
                Ok(())
            );
            let broken = follows_use(mutant, exponent, [0, LIMIT], LIMIT);
            let broken = broken.expect_err("the mutant is not caught");
            assert!(broken.contains(breaks), "{broken}");
        }
    }
}
