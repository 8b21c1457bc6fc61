//! Where operands stand: forms of constants, views, and contiguous buffers.

use super::{Builder, Ref, Refuse, Result};
use crate::graph::Constant;
use crate::num::Width;
use crate::plan::{Access, Buffer, Form, Place, Space, Tensor, View, contiguous_strides};

impl Builder<'_> {
    /// Where a form of a constant stands.
    pub(super) fn form(
        &mut self,
        tensor: &Tensor,
        constant: &Constant,
        rows: Option<(usize, Width)>,
    ) -> Result<Ref> {
        let form = Form::of(tensor, constant, rows);
        if let Some(offset) = self.access.pool().find(&form) {
            return Ok(Ref::Weights(offset));
        }
        if let Some(offset) = self.locals.find(&form) {
            return Ok(Ref::Local(offset));
        }
        let too_large = |what, limit| Refuse::Limit {
            what,
            found: tensor.len(),
            limit,
        };
        match &mut self.access {
            Access::Open(pool) if !constant.of_shape => {
                let most = self.limits.weight_words_max;
                let offset = pool.add(form, constant, most);
                offset
                    .map(Ref::Weights)
                    .ok_or_else(|| too_large("words of weights", most))
            }
            _ => {
                let most = self.limits.arena_words_max;
                if constant.of_shape {
                    let bits = tensor.bits().unwrap_or_default();
                    let one = bits.first().filter(|b| bits.iter().all(|c| c == *b));
                    self.of_shape.push(one.copied());
                }
                let offset = self.locals.add(form, constant, most);
                offset
                    .map(Ref::Local)
                    .ok_or_else(|| too_large("words of the arena", most))
            }
        }
    }

    /// A place and a relative word offset for a strided view.
    pub(super) fn view(&mut self, tensor: &Tensor, dims: &[u32]) -> Result<(View, Ref)> {
        let kind = tensor.kind();
        let make = |start: i64, strides: &[i64]| -> Result<View> {
            let narrow = |v: i64| {
                i32::try_from(v).map_err(|_| Refuse::Invalid("stride is out of range".into()))
            };
            Ok(View {
                space: Space::Arena,
                kind,
                offset: u32::try_from(start * i64::from(kind.words()))
                    .map_err(|_| Refuse::Invalid("offset is out of range".into()))?,
                strides: strides.iter().map(|&s| narrow(s)).collect::<Result<_>>()?,
            })
        };
        debug_assert_eq!(tensor.strides.len(), dims.len(), "views have a step's rank");
        match &tensor.place {
            Place::Virtual(id) => Ok((make(tensor.start, &tensor.strides)?, Ref::Virtual(*id))),
            Place::Const(constant) => {
                // What a broadcast repeats is not repeated in memory: dimensions of stride 0 stay one element.
                let tight: Vec<u32> = tensor
                    .dims
                    .iter()
                    .zip(&tensor.strides)
                    .map(|(&d, &s)| if s == 0 { 1 } else { d })
                    .collect();
                let tight = tensor.viewed(tight, tensor.strides.clone());
                let place = self.form(&tight, constant, None)?;
                let strides: Vec<i64> = contiguous_strides(&tight.dims)
                    .into_iter()
                    .zip(&tensor.strides)
                    .map(|(new, old)| if *old == 0 { 0 } else { new })
                    .collect();
                Ok((make(0, &strides)?, place))
            }
        }
    }

    /// A view whose place is the whole of its constant or buffer: reading goes beyond the view's own elements.
    pub(super) fn whole_view(&mut self, tensor: &Tensor) -> Result<(View, Ref)> {
        match &tensor.place {
            Place::Virtual(_) => self.view(tensor, &tensor.dims),
            Place::Const(constant) => {
                let place = self.form(&Tensor::constant(constant), constant, None)?;
                let kind = tensor.kind();
                let narrow = |v: i64| {
                    i32::try_from(v).map_err(|_| Refuse::Invalid("stride is out of range".into()))
                };
                let view = View {
                    space: Space::Arena,
                    kind,
                    offset: u32::try_from(tensor.start * i64::from(kind.words()))
                        .map_err(|_| Refuse::Invalid("offset is out of range".into()))?,
                    strides: tensor
                        .strides
                        .iter()
                        .map(|&s| narrow(s))
                        .collect::<Result<_>>()?,
                };
                Ok((view, place))
            }
        }
    }

    /// A contiguous buffer of a tensor's elements; copies where they stand otherwise.
    pub(super) fn buffer(&mut self, tensor: &Tensor) -> Result<(Buffer, Ref)> {
        let make = |kind| Buffer {
            space: Space::Arena,
            kind,
            offset: 0,
            len: tensor.len() as u32,
        };
        match &tensor.place {
            Place::Const(constant) => {
                let place = self.form(tensor, constant, None)?;
                Ok((make(tensor.kind()), place))
            }
            Place::Virtual(id) if tensor.is_whole() => Ok((make(tensor.kind()), Ref::Virtual(*id))),
            Place::Virtual(_) => {
                let copy = self.copied(tensor)?;
                self.buffer(&copy)
            }
        }
    }
}

impl Tensor {
    /// The bits of a constant that has one element, however often it is repeated.
    pub(super) fn bits_if_single(&self) -> Option<u64> {
        let Place::Const(constant) = &self.place else {
            return None;
        };
        let single = self
            .dims
            .iter()
            .zip(&self.strides)
            .all(|(&d, &s)| d == 1 || s == 0);
        single.then(|| constant.bits(self.start as usize))
    }
}
