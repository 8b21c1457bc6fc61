//! The typed graph: nodes over values, each written once, in an order in which they can run.
//!
//! Names are gone; a subgraph ([`Attr::Graph`]) shares its graph's table of values, so that what it captures from outside
//! is an index like any other.

mod attr;

pub use attr::{Attr, Attrs};

use crate::num::Mode;
use crate::plan::Kind;
use penstock_rules::tensor::ElementType;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Index of a value in [`Graph::values`].
pub type ValueId = usize;

/// How an element type is held in words; `None` for strings.
#[must_use]
pub const fn kind_of(element: ElementType) -> Option<Kind> {
    Some(match element {
        // A double is rounded to a float at the border: tensors are binary32 by definition.
        ElementType::F32 | ElementType::F64 => Kind::F32,
        ElementType::I8 | ElementType::I32 => Kind::I32,
        ElementType::U8 | ElementType::U32 | ElementType::Bool => Kind::U32,
        ElementType::I64 => Kind::I64,
        ElementType::String => return None,
    })
}

/// A constant tensor, contiguous, in the words of its kind.
#[derive(Debug)]
pub struct Constant {
    /// Unique in this process: the key under which prepared forms are kept.
    pub id: u64,
    /// Type of the elements.
    pub element: ElementType,
    /// How they are held.
    pub kind: Kind,
    /// Dimensions.
    pub dims: Vec<u32>,
    /// Words.
    pub words: Vec<u32>,
    /// Whether it was computed from the shape of an input: it may differ from run to run.
    pub of_shape: bool,
}

static CONSTANTS: AtomicU64 = AtomicU64::new(0);

impl Constant {
    /// A constant of these words, which must fit.
    ///
    /// # Panics
    /// Where `element` is a string: callers refuse those.
    #[must_use]
    pub fn new(element: ElementType, dims: Vec<u32>, words: Vec<u32>) -> Self {
        Self {
            id: CONSTANTS.fetch_add(1, Ordering::Relaxed),
            element,
            kind: kind_of(element).expect("strings are refused at the door"),
            dims,
            words,
            of_shape: false,
        }
    }

    /// Integers of 64 bits.
    #[must_use]
    pub fn from_i64(dims: Vec<u32>, values: &[i64]) -> Self {
        let words = values
            .iter()
            .flat_map(|&v| [v as u32, (v >> 32) as u32])
            .collect();
        Self::new(ElementType::I64, dims, words)
    }

    /// Floats.
    #[must_use]
    pub fn from_f32(dims: Vec<u32>, values: &[f32]) -> Self {
        let words = values.iter().map(|v| v.to_bits()).collect();
        Self::new(ElementType::F32, dims, words)
    }

    /// The same, marked as computed from a shape.
    #[must_use]
    pub fn marked(mut self, of_shape: bool) -> Self {
        self.of_shape = of_shape;
        self
    }

    /// Number of elements.
    #[must_use]
    pub fn len(&self) -> usize {
        self.words.len() / self.kind.words() as usize
    }

    /// Whether there are no elements.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.words.is_empty()
    }

    /// Element `i` in the low bits: one word zero-extended, or both.
    #[must_use]
    pub fn bits(&self, i: usize) -> u64 {
        match self.kind {
            Kind::I64 => u64::from(self.words[2 * i]) | u64::from(self.words[2 * i + 1]) << 32,
            _ => u64::from(self.words[i]),
        }
    }

    /// The elements as integers; `None` for floats.
    #[must_use]
    pub fn integers(&self) -> Option<Vec<i64>> {
        let value = |i: usize| match self.kind {
            Kind::I32 => Some(i64::from(self.words[i] as i32)),
            Kind::U32 => Some(i64::from(self.words[i])),
            Kind::I64 => Some(self.bits(i) as i64),
            Kind::F32 => None,
        };
        (0..self.len()).map(value).collect()
    }

    /// The elements as floats; `None` for integers.
    #[must_use]
    pub fn floats(&self) -> Option<Vec<f32>> {
        (self.kind == Kind::F32).then(|| self.words.iter().map(|&w| f32::from_bits(w)).collect())
    }
}

/// An operator at work.
#[derive(Debug)]
pub struct Node {
    /// Operator.
    pub op: String,
    /// Domain; empty for ONNX's own.
    pub domain: String,
    /// Version of the domain's operator set.
    pub version: i64,
    /// Name, or the name of the first output: for messages.
    pub name: String,
    /// Inputs; `None` where an optional one is left out.
    pub inputs: Vec<Option<ValueId>>,
    /// Outputs; `None` where nobody wants one.
    pub outputs: Vec<Option<ValueId>>,
    /// Attributes.
    pub attrs: Attrs,
}

/// A subgraph of `If` or `Loop`.
#[derive(Debug)]
pub struct Subgraph {
    /// Inputs.
    pub inputs: Vec<ValueId>,
    /// Nodes, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Outputs.
    pub outputs: Vec<ValueId>,
}

/// A dimension of an input.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Dim {
    /// Always this.
    Fixed(u32),
    /// The caller's choice; inputs that share the name share the extent.
    Symbol(String),
    /// The caller's choice.
    Free,
}

/// An input of the graph.
#[derive(Clone, Debug)]
pub struct Input {
    /// Name.
    pub name: String,
    /// Value that it gives.
    pub value: ValueId,
    /// Type of the elements.
    pub element: ElementType,
    /// Dimensions.
    pub dims: Vec<Dim>,
}

/// An output of the graph.
#[derive(Clone, Debug)]
pub struct Output {
    /// Name.
    pub name: String,
    /// Value that it shows.
    pub value: ValueId,
}

/// A graph.
#[derive(Debug, Default)]
pub struct Graph {
    /// How contractions are computed.
    pub mode: Mode,
    /// For each value, its constant if it has one.
    pub values: Vec<Option<Arc<Constant>>>,
    /// Inputs, without those that have an initialiser.
    pub inputs: Vec<Input>,
    /// Nodes, in an order in which they can run.
    pub nodes: Vec<Node>,
    /// Outputs.
    pub outputs: Vec<Output>,
}
