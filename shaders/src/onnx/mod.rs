//! Reading ONNX files: untrusted bytes to a [`Graph`], within [`Limits`].
//!
//! Three gates, each cheap for what the next one would cost: `scan` counts messages and depth on the wire before
//! anything is allocated for them; `prost` decodes; `import` resolves names, checks types and sizes, and copies
//! constants. External data are refused: a model is one file.

mod import;
mod scan;
mod tensor;

pub(crate) use import::import;
pub use tensor::read_tensor;
pub(crate) use tensor::{FLOAT16, held};
pub(crate) use tensor::{narrow_into, widen, widen_into};

use crate::error::LoadError;
use crate::graph::{Constant, Graph};
use crate::limits::Limits;
use bytes::Bytes;
use prost::Message;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Types of the vendored schema (`proto/onnx-ml.proto`), made at build time.
#[allow(missing_docs, clippy::all, clippy::pedantic, rustdoc::all)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}

/// Inputs with a value that never changes, by name.
pub type Fixed = BTreeMap<String, Arc<Constant>>;

/// Reads a file; inputs that are in `fixed` become constants.
///
/// # Errors
/// Names what is malformed, unsupported or beyond a limit.
pub fn read(file: &[u8], limits: &Limits, fixed: &Fixed) -> Result<Graph, LoadError> {
    import(&decode(file, limits)?, limits, fixed)
}

/// The messages of a file, counted before they are decoded.
pub(crate) fn decode(file: &[u8], limits: &Limits) -> Result<proto::ModelProto, LoadError> {
    if file.len() > limits.file_bytes_max {
        return Err(limit(
            "bytes of the file",
            file.len(),
            limits.file_bytes_max,
        ));
    }
    scan::scan(file, limits)?;
    proto::ModelProto::decode(Bytes::copy_from_slice(file))
        .map_err(|e| LoadError::Malformed(e.to_string()))
}

fn limit(what: &'static str, found: usize, limit: usize) -> LoadError {
    LoadError::Limit {
        what,
        found: found as u64,
        limit: limit as u64,
    }
}
