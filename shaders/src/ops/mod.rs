//! Operators: each turns its node, with its inputs' shapes known, into steps.
//!
//! An operator sees tensors (views on buffers or constants) and gives tensors. What can be said by a view (a transpose, a
//! slice, a broadcast) costs no step. What needs a value while shapes are worked out (a `Reshape`'s target) asks for a
//! constant; constants that follow from shapes are folded before, so most exporters' shape arithmetic is gone by then.

mod arcs;
mod columns;
mod control;
mod einsum;
mod elementwise;
mod index;
mod linear;
mod loss;
mod make;
mod matrix;
mod ml;
mod norm;
mod order;
mod pad;
mod pool;
mod quantised;
mod recurrent;
mod reduce;
mod region;
mod resize;
mod sample;
mod scan;
mod scatter;
mod shape;
mod signal;

use crate::graph::{Constant, Node, ValueId};
use crate::limits::Limits;
use crate::num::Mode;
use crate::plan::{Access, Builder, Prepared, Refuse, Tensor};
pub(crate) use control::{Keep, Refused, lower_nodes};
use penstock_rules::tensor::ElementType;

/// Result of an operator.
pub(crate) type Result<T> = std::result::Result<T, Refuse>;

/// An operator's node, with what it needs.
pub(crate) struct Cx<'c, 'a> {
    pub(crate) b: &'c mut Builder<'a>,
    pub(crate) node: &'c Node,
    pub(crate) inputs: Vec<Option<Tensor>>,
}

/// A refusal for a use that is against the operator's rules.
pub(crate) fn invalid<T>(reason: impl Into<String>) -> Result<T> {
    Err(Refuse::Invalid(reason.into()))
}

/// A refusal for a use that the engine does not have.
pub(crate) fn unsupported<T>(reason: impl Into<String>) -> Result<T> {
    Err(Refuse::Unsupported(reason.into()))
}

impl Cx<'_, '_> {
    /// Input `i`, which must be there.
    pub(crate) fn input(&self, i: usize) -> Result<Tensor> {
        match self.inputs.get(i) {
            Some(Some(tensor)) => Ok(tensor.clone()),
            _ => invalid(format!("input {i} is missing")),
        }
    }

    /// Input `i`, if it is there.
    pub(crate) fn optional(&self, i: usize) -> Option<Tensor> {
        self.inputs.get(i).cloned().flatten()
    }

    /// Input `i`, which must be there and hold floats.
    pub(crate) fn floats(&self, i: usize) -> Result<Tensor> {
        let tensor = self.input(i)?;
        if matches!(tensor.element, ElementType::F32 | ElementType::F64) {
            Ok(tensor)
        } else {
            invalid(format!("input {i} must hold floats"))
        }
    }

    /// The integers of input `i`, which must be known; `None` where it is left out.
    pub(crate) fn known(&self, i: usize) -> Result<Option<Vec<i64>>> {
        match self.optional(i) {
            None => Ok(None),
            Some(tensor) => match tensor.integers() {
                Some(values) => Ok(Some(values)),
                None if tensor.is_const() => invalid(format!("input {i} must hold integers")),
                None => unsupported(format!("input {i} depends on data")),
            },
        }
    }

    /// As [`Cx::known`], for an input that must be there.
    pub(crate) fn must_know(&self, i: usize) -> Result<Vec<i64>> {
        match self.known(i)? {
            Some(values) => Ok(values),
            None => invalid(format!("input {i} is missing")),
        }
    }

    /// Integers that older versions have as attribute `name`, and newer ones as input `i`.
    pub(crate) fn ints(&self, name: &str, i: usize) -> Result<Option<Vec<i64>>> {
        match self.node.attrs.ints(name) {
            Some(values) => Ok(Some(values.to_vec())),
            None => self.known(i),
        }
    }

    /// The value of output 0: the key of constants that belong to this node.
    pub(crate) fn key(&self) -> ValueId {
        self.node
            .outputs
            .iter()
            .flatten()
            .next()
            .copied()
            .unwrap_or(usize::MAX)
    }

    /// A constant of floats.
    pub(crate) fn const_f32(&mut self, dims: &[u32], values: &[f32]) -> Tensor {
        self.b.constant(Constant::from_f32(dims.to_vec(), values))
    }

    /// A constant of 64-bit integers.
    pub(crate) fn const_i64(&mut self, dims: &[u32], values: &[i64]) -> Tensor {
        self.b.constant(Constant::from_i64(dims.to_vec(), values))
    }
}

pub(crate) fn resolve_axis(axis: i64, rank: usize) -> Result<usize> {
    let bound = rank as i64;
    if !(-bound..bound).contains(&axis) {
        return invalid(format!("axis {axis} is outside rank {rank}"));
    }
    Ok(axis.rem_euclid(bound) as usize)
}

/// The refusal of an operator that no family has.
const NO_OPERATOR: &str = "no such operator here";

/// Whether there is an operator of this name, whatever may be said of a use of it.
pub(crate) fn has(domain: &str, name: &str) -> bool {
    if domain.is_empty() && matches!(name, "If" | "Loop" | "Scan") {
        return true;
    }
    let node = Node {
        op: name.to_owned(),
        domain: domain.to_owned(),
        version: 22,
        name: String::new(),
        inputs: Vec::new(),
        outputs: Vec::new(),
        attrs: crate::graph::Attrs::default(),
    };
    // A node without inputs is refused by the family that has it, with other words.
    let (limits, empty) = (Limits::default(), Prepared::default());
    let mut cx = Cx {
        b: &mut Builder::new(&limits, Access::Frozen(&empty), Mode::default()),
        node: &node,
        inputs: Vec::new(),
    };
    let domains = ["", "ai.onnx.ml"];
    let unknown = Refuse::Unsupported(NO_OPERATOR.to_owned());
    domains.contains(&domain) && lower(&mut cx).err() != Some(unknown)
}

/// Turns a node into steps; gives its outputs.
pub(crate) fn lower(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    if cx.node.domain == "ai.onnx.ml" {
        return ml::lower(cx);
    }
    let families = [
        elementwise::lower,
        shape::lower,
        pad::lower,
        make::lower,
        linear::lower,
        reduce::lower,
        norm::lower,
        pool::lower,
        index::lower,
        resize::lower,
        quantised::lower,
        recurrent::lower,
        arcs::lower,
        order::lower,
        scatter::lower,
        einsum::lower,
        loss::lower,
        signal::lower,
        sample::lower,
        region::lower,
        columns::lower,
        matrix::lower,
    ];
    for family in families {
        if let Some(outputs) = family(cx)? {
            return Ok(outputs);
        }
    }
    unsupported(NO_OPERATOR)
}
