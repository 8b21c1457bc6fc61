//! The nine functions over a column of integers.

use super::DECIMALS_MAX;
use super::exact::{fraction, power_of_ten, root};
use crate::abi::{Number, Revert};
use num_bigint::BigInt;

/// Decimals brought to one scale: element i is `integers[i] / 10^scale`.
pub(super) struct Column {
    integers: Vec<BigInt>,
    scale: u32,
}

impl Column {
    /// Brings `numbers` to their largest number of decimals.
    pub(super) fn new(numbers: &[Number]) -> Result<Self, Revert> {
        if numbers
            .iter()
            .any(|number| number.decimals.unsigned_abs() > DECIMALS_MAX.unsigned_abs())
        {
            return Err(Revert::TooLarge);
        }
        let scale = numbers
            .iter()
            .map(|number| number.decimals)
            .max()
            .unwrap_or(0)
            .max(0);
        let places =
            |number: &Number| u32::try_from(scale - number.decimals).map_err(|_| Revert::TooLarge);
        let integers = numbers
            .iter()
            .map(|number| Ok(BigInt::from(number.value) * power_of_ten(places(number)?)))
            .collect::<Result<_, Revert>>()?;
        Ok(Self {
            integers,
            scale: u32::try_from(scale).map_err(|_| Revert::TooLarge)?,
        })
    }

    fn count(&self) -> BigInt {
        BigInt::from(self.integers.len())
    }

    fn sum(&self) -> BigInt {
        self.integers.iter().sum()
    }

    /// n·Σxy - Σx·Σy: n² times the covariance, in units of both scales.
    fn spread_with(&self, other: &Self) -> BigInt {
        let products: BigInt = self
            .integers
            .iter()
            .zip(&other.integers)
            .map(|(x, y)| x * y)
            .sum();
        self.count() * products - self.sum() * other.sum()
    }

    /// n² times the variance. Never negative.
    fn spread(&self) -> BigInt {
        self.spread_with(self)
    }

    fn not_empty(&self) -> Result<(), Revert> {
        if self.integers.is_empty() {
            Err(Revert::Undefined)
        } else {
            Ok(())
        }
    }

    /// Index of the smallest element, the first of equals.
    pub(super) fn min(&self) -> Result<usize, Revert> {
        (0..self.integers.len())
            .min_by_key(|index| &self.integers[*index])
            .ok_or(Revert::Undefined)
    }

    /// Index of the largest element, the first of equals.
    pub(super) fn max(&self) -> Result<usize, Revert> {
        (0..self.integers.len())
            .rev()
            .max_by_key(|index| &self.integers[*index])
            .ok_or(Revert::Undefined)
    }

    pub(super) fn mean(&self) -> Result<Number, Revert> {
        self.not_empty()?;
        fraction(&self.sum(), &(self.count() * power_of_ten(self.scale)))
    }

    /// n² and the square of the scale, which [`Self::spread`] has too much.
    fn spread_denominator(&self) -> BigInt {
        self.count().pow(2) * power_of_ten(2 * self.scale)
    }

    pub(super) fn variance(&self) -> Result<Number, Revert> {
        self.not_empty()?;
        fraction(&self.spread(), &self.spread_denominator())
    }

    pub(super) fn std_dev(&self) -> Result<Number, Revert> {
        self.not_empty()?;
        let spread = self.spread();
        root(
            spread.sign(),
            spread.magnitude(),
            self.spread_denominator().magnitude(),
        )
    }

    /// The middle one of `given`, from which this column was made, or the mean of the middle two.
    pub(super) fn median(&self, given: &[Number]) -> Result<Number, Revert> {
        self.not_empty()?;
        let mut order: Vec<usize> = (0..self.integers.len()).collect();
        order.sort_by_key(|index| &self.integers[*index]);
        let middle = order[order.len() / 2];
        if order.len() % 2 == 1 {
            return Ok(given[middle]);
        }
        let below = order[order.len() / 2 - 1];
        fraction(
            &(&self.integers[below] + &self.integers[middle]),
            &(power_of_ten(self.scale) * 2),
        )
    }

    /// (x - mean) / standard deviation: the root of (nx - Σx)² / spread, with the sign of nx - Σx.
    pub(super) fn standardize(&self) -> Result<Vec<Number>, Revert> {
        let (count, sum, spread) = (self.count(), self.sum(), self.spread());
        if spread == BigInt::ZERO {
            return Ok(vec![Number::whole(0); self.integers.len()]);
        }
        self.integers
            .iter()
            .map(|x| {
                let distance = &count * x - &sum;
                root(
                    distance.sign(),
                    distance.pow(2).magnitude(),
                    spread.magnitude(),
                )
            })
            .collect()
    }

    /// (x - min) / (max - min).
    pub(super) fn normalize(&self) -> Result<Vec<Number>, Revert> {
        let (Some(min), Some(max)) = (self.integers.iter().min(), self.integers.iter().max())
        else {
            return Ok(Vec::new());
        };
        let range = max - min;
        if range == BigInt::ZERO {
            return Ok(vec![Number::whole(0); self.integers.len()]);
        }
        self.integers
            .iter()
            .map(|x| fraction(&(x - min), &range))
            .collect()
    }

    /// Pearson's coefficient: the root of spread(x, y)² / (spread(x) spread(y)), with the sign of spread(x, y).
    pub(super) fn correlation(&self, other: &Self) -> Result<Number, Revert> {
        if self.integers.len() != other.integers.len() {
            return Err(Revert::Undefined);
        }
        let denominator = self.spread() * other.spread();
        if denominator == BigInt::ZERO {
            return Err(Revert::Undefined);
        }
        let together = self.spread_with(other);
        root(
            together.sign(),
            together.pow(2).magnitude(),
            denominator.magnitude(),
        )
    }
}
