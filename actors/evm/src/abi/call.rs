//! Calldata of F4 and F5 to what they ask for.

use super::decimal::Number;
use super::reader::{Budget, Malformed, Reader};
use super::{Revert, solidity};
use alloy_sol_types::SolCall;
use penstock_rules::request::Mode;

/// A number tensor as a contract writes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberTensor {
    /// Name of the model's input.
    pub name: String,
    /// Row-major elements.
    pub values: Vec<Number>,
    /// Dimensions, outermost first.
    pub shape: Vec<u32>,
}

/// A string tensor as a contract writes it. It has no shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringTensor {
    /// Name of the model's input.
    pub name: String,
    /// Row-major elements.
    pub values: Vec<String>,
}

/// A call of `runModelInference`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceCall {
    /// How the answer is to be trusted.
    pub mode: Mode,
    /// The model.
    pub cid: String,
    /// Inputs of numbers.
    pub numbers: Vec<NumberTensor>,
    /// Inputs of strings.
    pub strings: Vec<StringTensor>,
}

/// Why calldata are not a call that F4 or F5 serves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AbiError {
    /// A function of OpenGradient's interface that this devnet does not have.
    #[error("function {0:#010x} is not supported here")]
    Unsupported(u32),
    /// No function of the interface has this selector, or the calldata are shorter than one.
    #[error("no function of the interface has this selector")]
    UnknownFunction,
    /// The arguments do not decode.
    #[error("arguments of an inference call do not decode")]
    Malformed,
}

impl AbiError {
    /// How the precompile reverts on it.
    #[must_use]
    pub const fn revert(&self) -> Revert {
        match self {
            Self::Unsupported(_) => Revert::Unsupported,
            Self::UnknownFunction | Self::Malformed => Revert::BadRequest,
        }
    }
}

impl From<Malformed> for AbiError {
    fn from(_: Malformed) -> Self {
        Self::Malformed
    }
}

/// Splits calldata into selector and arguments.
pub(super) fn selector(calldata: &[u8]) -> Option<([u8; 4], &[u8])> {
    calldata
        .split_first_chunk::<4>()
        .map(|(head, rest)| (*head, rest))
}

/// Reads a call of F4.
///
/// # Errors
/// The language-model functions are [`AbiError::Unsupported`], whatever their arguments.
pub fn decode_request(calldata: &[u8]) -> Result<InferenceCall, AbiError> {
    let (selector, arguments) = selector(calldata).ok_or(AbiError::UnknownFunction)?;
    match selector {
        solidity::runModelInferenceCall::SELECTOR => Ok(inference_call(arguments)?),
        solidity::runLLMCompletionCall::SELECTOR | solidity::runLLMChatCall::SELECTOR => {
            Err(AbiError::Unsupported(u32::from_be_bytes(selector)))
        }
        _ => Err(AbiError::UnknownFunction),
    }
}

/// Reads a call of F5. It never succeeds: the devnet has no price feed.
#[must_use]
pub fn decode_price_feed_call(calldata: &[u8]) -> AbiError {
    match selector(calldata) {
        Some((
            selector @ (solidity::runInferenceOnPriceFeedCall::SELECTOR
            | solidity::queryHistoricalCandlesCall::SELECTOR),
            _,
        )) => AbiError::Unsupported(u32::from_be_bytes(selector)),
        _ => AbiError::UnknownFunction,
    }
}

fn inference_call(arguments: &[u8]) -> Result<InferenceCall, Malformed> {
    let budget = &mut Budget::of(arguments);
    let mut request = Reader::new(arguments).follow(budget)?;
    let mode = Mode::from_u8(request.u8(budget)?).ok_or(Malformed)?;
    let cid = request.string(budget)?;
    let mut input = request.follow(budget)?;
    let (count, mut heads) = input.array(1, budget)?;
    let mut numbers = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tensor = heads.follow(budget)?;
        numbers.push(NumberTensor {
            name: tensor.string(budget)?,
            values: read_numbers(&mut tensor, budget)?,
            shape: read_shape(&mut tensor, budget)?,
        });
    }
    let (count, mut heads) = input.array(1, budget)?;
    let mut strings = Vec::with_capacity(count);
    for _ in 0..count {
        let mut tensor = heads.follow(budget)?;
        let name = tensor.string(budget)?;
        let (count, mut heads) = tensor.array(1, budget)?;
        let values = (0..count)
            .map(|_| heads.string(budget))
            .collect::<Result<_, _>>()?;
        strings.push(StringTensor { name, values });
    }
    Ok(InferenceCall {
        mode,
        cid,
        numbers,
        strings,
    })
}

/// A `Number[]`.
pub(crate) fn read_numbers(
    reader: &mut Reader<'_>,
    budget: &mut Budget,
) -> Result<Vec<Number>, Malformed> {
    let (count, mut words) = reader.array(2, budget)?;
    (0..count)
        .map(|_| {
            Ok(Number {
                value: words.i128(budget)?,
                decimals: words.i128(budget)?,
            })
        })
        .collect()
}

fn read_shape(reader: &mut Reader<'_>, budget: &mut Budget) -> Result<Vec<u32>, Malformed> {
    let (count, mut words) = reader.array(1, budget)?;
    (0..count).map(|_| words.u32(budget)).collect()
}
