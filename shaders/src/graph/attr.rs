//! Attributes of nodes.

use super::{Constant, Subgraph};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Value of an attribute.
#[derive(Clone, Debug)]
pub enum Attr {
    /// Integer.
    Int(i64),
    /// Integers.
    Ints(Vec<i64>),
    /// Float.
    Float(f32),
    /// Floats.
    Floats(Vec<f32>),
    /// String.
    Str(String),
    /// Strings.
    Strs(Vec<String>),
    /// Tensor.
    Tensor(Arc<Constant>),
    /// Subgraph.
    Graph(Arc<Subgraph>),
}

/// Attributes by name.
#[derive(Clone, Debug, Default)]
pub struct Attrs(pub BTreeMap<String, Attr>);

impl Attrs {
    /// Whether there is one of this name.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// An integer, or `default` where it is absent or of another type.
    #[must_use]
    pub fn int(&self, name: &str, default: i64) -> i64 {
        match self.0.get(name) {
            Some(Attr::Int(v)) => *v,
            _ => default,
        }
    }

    /// A float, or `default`.
    #[must_use]
    pub fn float(&self, name: &str, default: f32) -> f32 {
        match self.0.get(name) {
            Some(Attr::Float(v)) => *v,
            _ => default,
        }
    }

    /// A string, or `default`.
    #[must_use]
    pub fn str<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        match self.0.get(name) {
            Some(Attr::Str(v)) => v,
            _ => default,
        }
    }

    /// Integers, if there are.
    #[must_use]
    pub fn ints(&self, name: &str) -> Option<&[i64]> {
        match self.0.get(name) {
            Some(Attr::Ints(v)) => Some(v),
            _ => None,
        }
    }

    /// Floats, if there are.
    #[must_use]
    pub fn floats(&self, name: &str) -> Option<&[f32]> {
        match self.0.get(name) {
            Some(Attr::Floats(v)) => Some(v),
            _ => None,
        }
    }

    /// Strings, if there are.
    #[must_use]
    pub fn strs(&self, name: &str) -> Option<&[String]> {
        match self.0.get(name) {
            Some(Attr::Strs(v)) => Some(v),
            _ => None,
        }
    }

    /// A tensor, if there is.
    #[must_use]
    pub fn tensor(&self, name: &str) -> Option<&Arc<Constant>> {
        match self.0.get(name) {
            Some(Attr::Tensor(v)) => Some(v),
            _ => None,
        }
    }

    /// A subgraph, if there is.
    #[must_use]
    pub fn graph(&self, name: &str) -> Option<&Arc<Subgraph>> {
        match self.0.get(name) {
            Some(Attr::Graph(v)) => Some(v),
            _ => None,
        }
    }
}
