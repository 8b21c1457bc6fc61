//! The GPU backend.

use crate::batch::Executor;

/// Why there is no GPU executor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// No adapter matches.
    #[error("no adapter matches {0:?}")]
    NoAdapter(String),
}

/// An adapter of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AdapterReport {
    /// Name, as the driver gives it.
    pub name: String,
}

/// The GPU executor on the adapter whose name holds `selector`, or on the best one.
///
/// # Errors
/// Where there is no such adapter.
pub fn gpu(selector: Option<&str>) -> Result<Box<dyn Executor>, GpuError> {
    Err(GpuError::NoAdapter(selector.unwrap_or("any").into()))
}

/// The adapters of this machine.
#[must_use]
pub fn adapters() -> Vec<AdapterReport> {
    Vec::new()
}
