//! Reading ONNX files.

/// Types of the vendored schema (`proto/onnx-ml.proto`), made at build time.
#[allow(missing_docs, clippy::all, clippy::pedantic)]
pub mod proto {
    include!(concat!(env!("OUT_DIR"), "/onnx.rs"));
}
