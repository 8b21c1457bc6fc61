//! Why a model is refused, and why a backend gives up.

use penstock_rules::ids::ModelHash;

/// Why a model is refused at load. It names the culprit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LoadError {
    /// The bytes are not a protobuf message of the ONNX schema.
    #[error("not an onnx file: {0}")]
    Malformed(String),
    /// A limit is passed.
    #[error("{what} is {found}, the limit is {limit}")]
    Limit {
        /// What is limited, with its unit.
        what: &'static str,
        /// The model's figure.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// An operator set that the engine does not know.
    #[error("operator set {domain:?} version {version} is not supported")]
    Opset {
        /// Domain; empty for ONNX's own.
        domain: String,
        /// Version asked.
        version: i64,
    },
    /// An operator, or a use of it, that the engine does not have.
    #[error("operator {op} (node {node:?}) is not supported: {reason}")]
    Unsupported {
        /// Operator.
        op: String,
        /// Node's name, or its first output.
        node: String,
        /// What about it.
        reason: String,
    },
    /// A node that breaks its operator's rules.
    #[error("operator {op} (node {node:?}) is invalid: {reason}")]
    Invalid {
        /// Operator.
        op: String,
        /// Node's name, or its first output.
        node: String,
        /// What about it.
        reason: String,
    },
    /// A numeric mode that the engine does not have. `fast` (native floats) is one: its bits are the device's, so it has no
    /// place in a chain's state.
    #[error("unsupported: mode {0:?}; there are exact24, exact16 and int8")]
    Mode(String),
    /// A value that breaks the graph's rules.
    #[error("value {name:?} is invalid: {reason}")]
    Value {
        /// Name of the value.
        name: String,
        /// What about it.
        reason: String,
    },
}

/// Why a backend cannot hold a model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PrepareError {
    /// Something of the model is larger than the backend allows.
    #[error("{what} is {found}, this backend's limit is {limit}")]
    TooLarge {
        /// What is limited, with its unit.
        what: &'static str,
        /// The model's figure.
        found: u64,
        /// The limit.
        limit: u64,
    },
    /// A step that the backend does not have.
    #[error("this backend has no kernel {0}")]
    NoKernel(&'static str),
    /// The backend failed.
    #[error(transparent)]
    Engine(#[from] EngineError),
}

/// Why a backend gave no outcome. It says nothing about the request: another backend may answer it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EngineError {
    /// The model was not prepared here.
    #[error("model {0} is not prepared")]
    NotPrepared(ModelHash),
    /// The device is gone, or failed.
    #[error("device failed: {0}")]
    Device(String),
    /// The device has no memory left.
    #[error("device is out of memory: {0}")]
    OutOfMemory(String),
}
