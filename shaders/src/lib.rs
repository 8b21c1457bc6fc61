//! The inference engine: ONNX models, bit-exact on the CPU and on any GPU.

pub mod num;
