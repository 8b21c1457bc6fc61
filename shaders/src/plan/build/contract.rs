//! Fixed-point rows, and the steps that contract them.

use super::{Builder, Ref, Refuse, Result};
use crate::cost::{GATHER_TOUCHES, RESULT_TOUCHES};
use crate::graph::Constant;
use crate::num::{Exponent, Mode, Width, fixed::DEPTH_MAX};
use crate::plan::prepared::align;
use crate::plan::{
    Buffer, Contract, Conv, Kind, Place, Quantise, Rows, Space, Step, Tensor, Window, count,
};
use penstock_rules::tensor::ElementType;

/// Fixed-point rows.
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    width: Width,
    q: (Ref, u32),
    exponent: (Ref, u32),
}

/// Rows of a tensor in a buffer. An operator reads what others have finished, so that they never change.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct RowsOf {
    buffer: u32,
    start: i64,
    dims: Vec<u32>,
    strides: Vec<i64>,
    rows: usize,
    width: Width,
}

impl Builder<'_> {
    /// Fixed-point rows of floats, or of integers that stand for themselves: the first `rows` dimensions are rows.
    pub(crate) fn quantise(&mut self, input: &Tensor, rows: usize) -> Result<Quantised> {
        if input.kind() != Kind::F32 {
            return self.whole(input, rows);
        }
        let width = match self.mode {
            Mode::Exact24 | Mode::Int8 => Width::Bits24,
            Mode::Exact16 => Width::Bits16,
            Mode::Fast => return self.as_they_are(input),
        };
        let row_count = count(&input.dims[..rows]);
        if let Place::Const(constant) = &input.place {
            let constant = constant.clone();
            let place = self.form(input, &constant, Some((rows, width)))?;
            return Ok(Quantised {
                width,
                q: (place, 0),
                exponent: (place, align(input.len()) as u32),
            });
        }
        let rows_of = match input.place {
            Place::Virtual(buffer) => Some(RowsOf {
                buffer,
                start: input.start,
                dims: input.dims.clone(),
                strides: input.strides.clone(),
                rows,
                width,
            }),
            Place::Const(_) => None,
        };
        if let Some(found) = rows_of.as_ref().and_then(|of| self.quantised.get(of)) {
            return Ok(found.clone());
        }
        let q = self.alloc(ElementType::I32, &input.dims)?;
        let exponent = self.alloc(ElementType::I32, &[row_count as u32])?;
        let (view, place) = self.view(input, &input.dims)?;
        let (q_buffer, q_ref) = self.buffer(&q)?;
        let (e_buffer, e_ref) = self.buffer(&exponent)?;
        let step = Step::Quantise(Quantise {
            width,
            rows: input.dims[..rows].to_vec(),
            cols: input.dims[rows..].to_vec(),
            input: view,
            q: q_buffer,
            exponent: e_buffer,
        });
        self.push(step, vec![place, q_ref, e_ref], input.len())?;
        let made = Quantised {
            width,
            q: (q_ref, 0),
            exponent: (e_ref, 0),
        };
        if let Some(of) = rows_of {
            self.quantised.insert(of, made.clone());
        }
        Ok(made)
    }

    /// Rows of floats. Nothing reads their exponents.
    fn as_they_are(&mut self, input: &Tensor) -> Result<Quantised> {
        let place = (self.buffer(input)?.1, 0);
        Ok(Quantised {
            width: Width::Float,
            q: place,
            exponent: place,
        })
    }

    /// Rows of `I32`, each at the exponent of a unit.
    fn whole(&mut self, input: &Tensor, rows: usize) -> Result<Quantised> {
        debug_assert_eq!(input.kind(), Kind::I32, "8-bit integers are widened first");
        let count = count(&input.dims[..rows]) as u32;
        let unit = u32::from(Exponent::UNIT.0);
        // Both stand in one space: constants with constants, buffers with buffers.
        let exponent = if input.is_const() {
            let words = vec![unit; count as usize];
            let constant = Constant::new(ElementType::I32, vec![count], words);
            self.constant(constant.marked(input.of_shape()))
        } else {
            self.filled(ElementType::I32, &[count], u64::from(unit))?
        };
        let q = self.buffer(input)?.1;
        let exponent = self.buffer(&exponent)?.1;
        Ok(Quantised {
            width: Width::Whole,
            q: (q, 0),
            exponent: (exponent, 0),
        })
    }

    fn fixed(part: (Ref, u32), len: u64) -> Buffer {
        Buffer {
            space: Space::Arena,
            kind: Kind::I32,
            offset: part.1,
            len: len as u32,
        }
    }

    /// `out[batch, m, n]`: dot products of the rows of `a` `[batch_a, m, k]` and of `b` `[batch_b, n, k]`.
    /// `batch_*` are rows per step of each batch dimension. The result is `F32`, or the sums themselves as `I32`.
    pub(crate) fn contract(
        &mut self,
        element: ElementType,
        batch: &[u32],
        mnk: [u32; 3],
        a: (&Quantised, Vec<u32>),
        b: (&Quantised, Vec<u32>),
        rows: (u64, u64),
    ) -> Result<Tensor> {
        let [m, n, k] = mnk;
        check_depth(u64::from(k))?;
        let mut dims = batch.to_vec();
        dims.extend([m, n]);
        let out = self.alloc(element, &dims)?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (buffer, to) = self.buffer(&out)?;
        let side = |side: (&Quantised, Vec<u32>), rows: u64| Rows {
            q: Self::fixed(side.0.q, rows * u64::from(k)),
            exponent: Self::fixed(side.0.exponent, rows),
            batch: side.1,
        };
        let refs = vec![a.0.q.0, a.0.exponent.0, b.0.q.0, b.0.exponent.0, to];
        debug_assert_eq!(a.0.width, b.0.width, "both operands are of one width");
        let step = Step::Contract(Contract {
            width: a.0.width,
            batch: batch.to_vec(),
            m,
            n,
            k,
            a: side(a, rows.0),
            b: side(b, rows.1),
            out: buffer,
        });
        self.work(out.len().saturating_mul(u64::from(k)))?;
        self.push(step, refs, out.len().saturating_mul(RESULT_TOUCHES))?;
        Ok(out)
    }

    /// A convolution; `out` has samples, channels, and the window's output extents as three dimensions. Its element is as
    /// [`Builder::contract`]'s.
    pub(crate) fn conv(
        &mut self,
        element: ElementType,
        [samples, groups, cin, cout]: [u32; 4],
        window: Window,
        input: &Quantised,
        weight: &Quantised,
    ) -> Result<Tensor> {
        let volume = |extents: &[u32; 3]| count(extents);
        let depth = u64::from(cin).saturating_mul(volume(&window.kernel));
        check_depth(depth)?;
        let [x, y, z] = window.output;
        let channels = groups
            .checked_mul(cout)
            .ok_or_else(|| Refuse::Invalid("too many channels".into()))?;
        let out = self.alloc(element, &[samples, channels, x, y, z])?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (buffer, to) = self.buffer(&out)?;
        let planes = u64::from(samples) * u64::from(groups);
        debug_assert_eq!(input.width, weight.width, "both operands are of one width");
        let step = Step::Conv(Conv {
            width: input.width,
            samples,
            groups,
            cin,
            cout,
            window,
            input_q: Self::fixed(input.q, planes * u64::from(cin) * volume(&window.input)),
            input_exponent: Self::fixed(input.exponent, planes),
            weight_q: Self::fixed(weight.q, u64::from(channels) * depth),
            weight_exponent: Self::fixed(weight.exponent, u64::from(channels)),
            out: buffer,
        });
        self.work(out.len().saturating_mul(depth))?;
        let refs = vec![
            input.q.0,
            input.exponent.0,
            weight.q.0,
            weight.exponent.0,
            to,
        ];
        let gathered = (out.len() / u64::from(cout.max(1))).saturating_mul(depth);
        let work = out.len().saturating_mul(RESULT_TOUCHES);
        let work = work.saturating_add(gathered.saturating_mul(GATHER_TOUCHES));
        self.push(step, refs, work)?;
        Ok(out)
    }
}

fn check_depth(depth: u64) -> Result<()> {
    if depth > DEPTH_MAX as u64 {
        return Err(Refuse::Limit {
            what: "terms of a dot product",
            found: depth,
            limit: DEPTH_MAX as u64,
        });
    }
    if depth == 0 {
        return Err(Refuse::Invalid("nothing to contract".into()));
    }
    Ok(())
}
