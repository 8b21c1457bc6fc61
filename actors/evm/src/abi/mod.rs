//! OpenGradient's ABI at the border of the EVM: calldata to requests, outcomes to return data.
//!
//! ```text
//! calldata --decode_request--> InferenceCall --to_request--> Request, units      (the key, the price)
//! Outcome::Output --tensor::decode--> tensors --encode_output--> return data     (ModelOutput v2)
//!                                             \-inference_event-> log data       (ModelInferenceEvent)
//! anything else --Revert::encode--> revert data                                  (typed Solidity errors)
//! ```
//!
//! **Invariant:** calldata come from anybody. No input panics, and nothing is allocated beyond the size of the input.

mod call;
mod convert;
mod decimal;
mod output;
mod reader;
mod revert;
mod types;

pub use call::{
    AbiError, InferenceCall, NumberTensor, StringTensor, decode_price_feed_call, decode_request,
};
pub use convert::to_request;
pub use decimal::Number;
pub use output::{encode_output, inference_event};
pub use revert::Revert;
pub use types::solidity;

pub(crate) use call::read_numbers;
pub(crate) use reader::{Budget, Malformed, Reader};

#[cfg(test)]
mod tests;
