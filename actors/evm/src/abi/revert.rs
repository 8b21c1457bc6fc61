//! Typed errors: how F4, F5 and F6 say no. Solidity declares them in `IInferenceErrors`.

use super::solidity;
use alloy_primitives::Bytes;
use alloy_sol_types::SolError;
use penstock_rules::request::ModelError;

/// Why a precompile reverts. All are deterministic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Revert {
    /// No such model is registered.
    UnknownModel(String),
    /// The model has no output for this input.
    ModelFailed(ModelError),
    /// The function exists in OpenGradient's interface, but not here (language models, price feeds).
    Unsupported,
    /// The calldata are no call of a function of the interface.
    BadRequest,
    /// A result of F6 does not fit `int128`.
    Overflow,
    /// A result of F6 is not defined for this input (the mean of nothing, say).
    Undefined,
    /// An input of F6 is past its limits.
    TooLarge,
}

impl Revert {
    /// The revert data.
    #[must_use]
    pub fn encode(&self) -> Bytes {
        match self {
            Self::UnknownModel(cid) => solidity::UnknownModel { cid: cid.clone() }.abi_encode(),
            Self::ModelFailed(reason) => solidity::ModelFailed {
                reason: *reason as u8,
            }
            .abi_encode(),
            Self::Unsupported => solidity::Unsupported {}.abi_encode(),
            Self::BadRequest => solidity::BadRequest {}.abi_encode(),
            Self::Overflow => solidity::Overflow {}.abi_encode(),
            Self::Undefined => solidity::Undefined {}.abi_encode(),
            Self::TooLarge => solidity::TooLarge {}.abi_encode(),
        }
        .into()
    }
}
