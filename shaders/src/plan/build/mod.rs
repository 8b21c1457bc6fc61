//! Making a plan: operators ask the builder for steps, by tensors; places come later (`finish`).

mod contract;
mod map;
mod place;
mod steps;

pub(crate) use map::{Program, imm};

use contract::{Quantised, RowsOf};

use crate::graph::{Constant, ValueId, kind_of};
use crate::limits::Limits;
use crate::num::Mode;
use crate::plan::{
    Access, Buffer, Place, Prepared, RANK_MAX, Step, Tensor, contiguous_strides, count,
};
use penstock_rules::tensor::ElementType;
use std::collections::HashMap;
use std::sync::Arc;

/// Why an operator cannot be turned into steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    /// The engine does not have it.
    Unsupported(String),
    /// It breaks the operator's rules.
    Invalid(String),
    /// A limit is passed.
    Limit {
        what: &'static str,
        found: u64,
        limit: u64,
    },
}

/// Shorthand.
pub(crate) type Result<T> = std::result::Result<T, Refuse>;

/// Where a step's reference points to before places are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ref {
    /// A buffer of the builder.
    Virtual(u32),
    /// A word of the model's weights.
    Weights(u32),
    /// A word of the plan's locals.
    Local(u32),
}

/// A step whose offsets are relative to `refs`, in the order of [`Step::touches`].
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) step: Step,
    pub(crate) refs: Vec<Ref>,
}

/// A tensor of 8-bit integers with its scale and zero point, as `DequantizeLinear` reads them.
#[derive(Clone, Debug)]
pub(crate) struct Dequantised {
    /// Values less the zero point, `I32`.
    pub(crate) whole: Tensor,
    /// One scale, or one per index of `axis`.
    pub(crate) scale: Tensor,
    /// Axis of the scales.
    pub(crate) axis: usize,
}

/// Turns operators' wishes into steps.
pub(crate) struct Builder<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) mode: Mode,
    /// In the mode `int8`: what was dequantised to give a value.
    pub(crate) dequantised: HashMap<ValueId, Dequantised>,
    /// Rows that were quantised: what one reads, others may read, too.
    quantised: HashMap<RowsOf, Quantised>,
    pub(crate) access: Access<'a>,
    pub(crate) locals: Prepared,
    /// Constants computed from shapes that a step reads: their one value, or `None` where they have several.
    pub(crate) of_shape: Vec<Option<u64>>,
    /// Words of each buffer.
    pub(crate) virtuals: Vec<u64>,
    pub(crate) steps: Vec<Pending>,
    /// Nodes that were turned into steps, those of loops in each round.
    pub(crate) lowered: u64,
    pub(crate) macs: u64,
    pub(crate) touched: u64,
}

impl<'a> Builder<'a> {
    pub(crate) fn new(limits: &'a Limits, access: Access<'a>, mode: Mode) -> Self {
        Self {
            limits,
            mode,
            dequantised: HashMap::new(),
            quantised: HashMap::new(),
            access,
            locals: Prepared::default(),
            of_shape: Vec::new(),
            virtuals: Vec::new(),
            steps: Vec::new(),
            lowered: 0,
            macs: 0,
            touched: 0,
        }
    }

    /// A new buffer for a tensor.
    pub(crate) fn alloc(&mut self, element: ElementType, dims: &[u32]) -> Result<Tensor> {
        let kind =
            kind_of(element).ok_or_else(|| Refuse::Unsupported("tensors of strings".to_owned()))?;
        let elements = count(dims);
        if elements > self.limits.elements_max {
            return Err(Refuse::Limit {
                what: "elements of a tensor",
                found: elements,
                limit: self.limits.elements_max,
            });
        }
        if dims.len() > RANK_MAX {
            return Err(Refuse::Limit {
                what: "rank of a tensor",
                found: dims.len() as u64,
                limit: RANK_MAX as u64,
            });
        }
        self.virtuals.push(elements * u64::from(kind.words()));
        Ok(Tensor {
            element,
            dims: dims.to_vec(),
            start: 0,
            strides: contiguous_strides(dims),
            place: Place::Virtual((self.virtuals.len() - 1) as u32),
        })
    }

    /// A constant of our own making.
    pub(crate) fn constant(&mut self, constant: Constant) -> Tensor {
        Tensor::constant(&self.access.intern(constant))
    }

    /// A constant that is made once per model, for the value `key.0`.
    pub(crate) fn memo(
        &mut self,
        key: (ValueId, u32),
        make: impl FnOnce() -> Result<Constant>,
    ) -> Result<Tensor> {
        if let Some(found) = self.access.memo(key) {
            return Ok(Tensor::constant(&found));
        }
        let constant = Arc::new(make()?);
        self.access.remember(key, &constant);
        Ok(Tensor::constant(&constant))
    }

    fn push(&mut self, step: Step, refs: Vec<Ref>, work: u64) -> Result<()> {
        self.touched = self.touched.saturating_add(work);
        if self.steps.len() >= self.limits.steps_max {
            return Err(Refuse::Limit {
                what: "steps of a plan",
                found: self.steps.len() as u64 + 1,
                limit: self.limits.steps_max as u64,
            });
        }
        self.steps.push(Pending { step, refs });
        Ok(())
    }

    /// Counts the work of constants that are computed while the plan is made.
    pub(crate) fn spend(&mut self, macs: u64, touched: u64) -> Result<()> {
        let limit = self.limits.macs_max;
        let found = macs.max(touched);
        if found > limit {
            return Err(Refuse::Limit {
                what: "work on constants",
                found,
                limit,
            });
        }
        Ok(())
    }

    fn work(&mut self, macs: u64) -> Result<()> {
        self.macs = self.macs.saturating_add(macs);
        if self.macs > self.limits.macs_max {
            return Err(Refuse::Limit {
                what: "multiplications of a run",
                found: self.macs,
                limit: self.limits.macs_max,
            });
        }
        Ok(())
    }

    /// Where an output's elements stand.
    pub(crate) fn output(&mut self, tensor: &Tensor) -> Result<(Buffer, Ref)> {
        self.buffer(tensor)
    }
}
