//! F6: statistics over decimals, exact.
//!
//! ```text
//! calldata --gas--> charge --reader--> Number[] --Column--> integers at one scale --statistics--> Rounded --> Number
//! ```
//!
//! Everything is computed in integers and rounded once, at the end: half to even, to 18 decimals, without trailing
//! zeros. `min`, `max` and an odd count's `median` are one of the inputs, as it was given (the first of equals).
//! Variance and standard deviation are those of the population (divided by n), as for a window that is all there is.
//! Where all elements are equal, `standardize` and `normalize` give zeros, and `correlation` is undefined.

mod exact;
mod statistics;

use crate::abi::{Budget, Malformed, Number, Reader, Revert, read_numbers, solidity};
use alloy_primitives::Bytes;
use alloy_sol_types::{SolCall, SolValue};
use statistics::Column;

/// Decimals of a rounded result: those of a wei, which contracts compute in.
pub const DECIMALS: u32 = 18;

/// Decimals of an input at most, either way. OpenGradient's SDK writes up to 38; beyond 64 the integers of the exact
/// arithmetic would grow past 1,200 bits and the gas formula no longer cover them.
pub const DECIMALS_MAX: i128 = 64;

/// Gas of a call, whatever its size: about that of the cheaper precompiles.
pub const GAS_BASE: u64 = 500;
/// Gas per element for the functions that give one number: some big-integer additions and products, about 1 µs.
pub const GAS_PER_ELEMENT: u64 = 100;
/// Gas per element for `standardize`, `normalize`: a division and a square root for each, about 4 µs.
pub const GAS_PER_ELEMENT_EACH: u64 = 400;
/// Bytes of an element in calldata: two words.
const ELEMENT_BYTES: usize = 64;

/// A call of F6 that has a result.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Preprocessed {
    /// Gas to charge.
    pub gas: u64,
    /// Return data.
    pub output: Bytes,
}

/// A call of F6 that reverts.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("preprocessing reverts: {why:?}")]
pub struct PreprocessError {
    /// Gas to charge.
    pub gas: u64,
    /// Why.
    pub why: Revert,
}

impl PreprocessError {
    /// The revert data.
    #[must_use]
    pub fn revert(&self) -> Bytes {
        self.why.encode()
    }
}

/// The nine functions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Function {
    Min,
    Max,
    Mean,
    StdDev,
    Variance,
    Median,
    Standardize,
    Normalize,
    Correlation,
}

impl Function {
    fn of(selector: [u8; 4]) -> Option<Self> {
        Some(match selector {
            solidity::minCall::SELECTOR => Self::Min,
            solidity::maxCall::SELECTOR => Self::Max,
            solidity::meanCall::SELECTOR => Self::Mean,
            solidity::stdDevCall::SELECTOR => Self::StdDev,
            solidity::varianceCall::SELECTOR => Self::Variance,
            solidity::medianCall::SELECTOR => Self::Median,
            solidity::standardizeCall::SELECTOR => Self::Standardize,
            solidity::normalizeCall::SELECTOR => Self::Normalize,
            solidity::correlationCall::SELECTOR => Self::Correlation,
            _ => return None,
        })
    }

    const fn gas_per_element(self) -> u64 {
        match self {
            Self::Standardize | Self::Normalize => GAS_PER_ELEMENT_EACH,
            _ => GAS_PER_ELEMENT,
        }
    }
}

/// What a call costs, from selector and size alone: known before anything is decoded. Elements are counted as bytes of
/// arguments over 64, rounded up, so that an array's head counts as one more.
#[must_use]
pub fn gas(calldata: &[u8]) -> u64 {
    let Some((selector, arguments)) = calldata.split_first_chunk::<4>() else {
        return GAS_BASE;
    };
    let elements = arguments.len().div_ceil(ELEMENT_BYTES) as u64;
    Function::of(*selector).map_or(GAS_BASE, |function| {
        GAS_BASE.saturating_add(elements.saturating_mul(function.gas_per_element()))
    })
}

/// Runs a call of F6. Callers charge [`gas`] first.
///
/// # Errors
/// Typed reverts; see [`Revert`].
pub fn run(calldata: &[u8]) -> Result<Preprocessed, PreprocessError> {
    let gas = gas(calldata);
    answer(calldata)
        .map(|output| Preprocessed { gas, output })
        .map_err(|why| PreprocessError { gas, why })
}

fn answer(calldata: &[u8]) -> Result<Bytes, Revert> {
    let (selector, arguments) = calldata
        .split_first_chunk::<4>()
        .ok_or(Revert::BadRequest)?;
    let function = Function::of(*selector).ok_or(Revert::BadRequest)?;
    let (first, second) = arrays(arguments, function).map_err(|_| Revert::BadRequest)?;
    let column = Column::new(&first)?;
    let number = match function {
        Function::Min => column.min().map(|index| first[index]),
        Function::Max => column.max().map(|index| first[index]),
        Function::Mean => column.mean(),
        Function::StdDev => column.std_dev(),
        Function::Variance => column.variance(),
        Function::Median => column.median(&first),
        Function::Correlation => column.correlation(&Column::new(&second)?),
        Function::Standardize => return Ok(encode_all(&column.standardize()?)),
        Function::Normalize => return Ok(encode_all(&column.normalize()?)),
    }?;
    Ok(solidity::Number::from(number).abi_encode().into())
}

fn arrays(arguments: &[u8], function: Function) -> Result<(Vec<Number>, Vec<Number>), Malformed> {
    let budget = &mut Budget::of(arguments);
    let mut reader = Reader::new(arguments);
    let first = read_numbers(&mut reader, budget)?;
    let second = match function {
        Function::Correlation => read_numbers(&mut reader, budget)?,
        _ => Vec::new(),
    };
    Ok((first, second))
}

fn encode_all(numbers: &[Number]) -> Bytes {
    numbers
        .iter()
        .map(|number| solidity::Number::from(*number))
        .collect::<Vec<_>>()
        .abi_encode()
        .into()
}

#[cfg(test)]
mod tests;
