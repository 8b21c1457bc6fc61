//! The inference engine: ONNX models, with the same bits on the CPU and on every GPU.
//!
//! ```text
//!  ONNX bytes --onnx--> file, within limits --graph--> typed graph, symbolic dimensions
//!                                                        |
//!                          concrete input shapes --plan--+--> Plan: steps over an arena   + weights, quantised once
//!                                                                |                             |
//!   requests --batch--> joined rows --words--> Backend::execute(plan): cpu | gpu  <------------+
//!                                                                |
//!   outcomes <--batch-- split rows <--words----------------------+
//! ```
//!
//! What a model's answer is, bit for bit, is the definition `exact24` (`shaders/README.md`): tensors are IEEE 754
//! binary32; products of matrices are sums of integers, so their order does not matter; everything else is arithmetic in
//! a fixed order, with elementary functions of our own ([`num`]). A plan is a list of such steps, and every backend runs
//! the same list.
//!
//! One mode is not exact: `fast`, in native floats, for exploring a model on a machine of one's own ([`fast`]).
//!
//! **Invariant:** the outcome of a request depends on the model and the request alone, never on the backend, on its
//! neighbours in a batch, or on what ran before: in every mode that a file can choose.

pub mod error;
pub mod limits;

pub mod num;

pub mod graph;
pub mod onnx;

pub mod plan;

mod ops;

pub mod batch;
pub mod bench;
mod cost;
pub mod fast;
pub mod memory;
pub mod model;
pub mod survey;
pub mod verify;

pub mod cpu;
pub mod gpu;

mod fallback;

pub use batch::{Backend, Batcher, Executor};
pub use cpu::{cpu, cpu_forms, cpu_portable};
pub use error::{EngineError, LoadError, PrepareError};
pub use fallback::with_fallback;
pub use gpu::{AdapterReport, Floats, GpuError, adapters, gpu, gpu_with};
pub use limits::Limits;
pub use memory::Memory;
pub use model::{Model, Report};
pub use num::Mode;
