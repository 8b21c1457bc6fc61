//! Placeholder.

pub mod abi;
pub mod predeploys;
pub mod preprocess;
