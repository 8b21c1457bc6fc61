//! What a file uses and what the engine has of it, before anything is loaded: for people whose model is refused.

use crate::error::LoadError;
use crate::limits::Limits;
use crate::num::Mode;
use crate::onnx::proto::{GraphProto, ModelProto, StringStringEntryProto};
use crate::ops;
use prost::Message;
use std::collections::BTreeMap;

/// An operator that a file uses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Operator {
    /// Domain; empty for ONNX's own.
    pub domain: String,
    /// Name.
    pub name: String,
    /// Nodes of it, those of subgraphs included.
    pub count: usize,
    /// Whether the engine has it. A use of it may be refused even so: loading says which, and why.
    pub known: bool,
}

/// The operators of a file, by domain and name.
///
/// # Errors
/// Where the file is malformed or beyond a limit.
pub fn operators(onnx: &[u8], limits: &Limits) -> Result<Vec<Operator>, LoadError> {
    let model = crate::onnx::decode(onnx, limits)?;
    let mut counts = BTreeMap::new();
    if let Some(graph) = &model.graph {
        walk(graph, &mut counts);
    }
    Ok(counts
        .into_iter()
        .map(|((domain, name), count)| Operator {
            known: ops::has(&domain, &name),
            domain,
            name,
            count,
        })
        .collect())
}

/// Counts nodes. The depth of graphs was checked when the file was decoded.
fn walk(graph: &GraphProto, counts: &mut BTreeMap<(String, String), usize>) {
    for node in &graph.node {
        let domain = match node.domain() {
            "ai.onnx" => "",
            other => other,
        };
        let key = (domain.to_owned(), node.op_type().to_owned());
        *counts.entry(key).or_default() += 1;
        for attribute in &node.attribute {
            for inner in attribute.g.iter().chain(&attribute.graphs) {
                walk(inner, counts);
            }
        }
    }
}

/// The file with `mode` written into its metadata, which is the last word on it. Its content hash is another.
#[must_use]
pub fn with_mode(onnx: &[u8], mode: Mode) -> Vec<u8> {
    // Messages of one type that stand one behind the other are one message: repeated fields are joined.
    with_mode_named(onnx, mode.name())
}

fn with_mode_named(onnx: &[u8], name: &str) -> Vec<u8> {
    let addition = ModelProto {
        metadata_props: vec![StringStringEntryProto {
            key: Some(Mode::KEY.to_owned()),
            value: Some(name.to_owned()),
        }],
        ..ModelProto::default()
    };
    [onnx, &addition.encode_to_vec()].concat()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes_without_defined_bits_are_refused_by_name() {
        let file = include_bytes!("../tests/fixtures/mlp/model.onnx");
        for name in ["fast", "exact32", ""] {
            let refusal = crate::Model::load(&with_mode_named(file, name), &Limits::default());
            assert_eq!(refusal.err(), Some(LoadError::Mode(name.to_owned())));
        }
        for mode in [Mode::Exact24, Mode::Exact16, Mode::Int8] {
            let model = crate::Model::load(&with_mode(file, mode), &Limits::default());
            assert_eq!(model.map(|m| m.mode()), Ok(mode));
        }
    }

    #[test]
    fn what_the_engine_has_is_told_from_what_it_has_not() {
        for (domain, name) in [
            ("", "Gemm"),
            ("", "If"),
            ("", "Loop"),
            ("", "ReduceSum"),
            ("", "TopK"),
            ("ai.onnx.ml", "Scaler"),
        ] {
            assert!(ops::has(domain, name), "{name}");
        }
        for (domain, name) in [("", "NonZero"), ("", "ReduceNothing"), ("my", "Gemm")] {
            assert!(!ops::has(domain, name), "{name}");
        }
    }
}
