//! Tensors while a plan is made: strided views on buffers or constants, so that most reshaping moves nothing.

use crate::graph::{Constant, kind_of};
use crate::plan::{Kind, Refuse};
use penstock_rules::tensor::ElementType;
use std::sync::Arc;

/// Where a tensor's elements stand.
#[derive(Clone, Debug)]
pub(crate) enum Place {
    /// In the builder's buffer of this number.
    Virtual(u32),
    /// In a constant.
    Const(Arc<Constant>),
}

/// A view on elements.
#[derive(Clone, Debug)]
pub(crate) struct Tensor {
    pub(crate) element: ElementType,
    pub(crate) dims: Vec<u32>,
    /// Element at index (0, 0, …).
    pub(crate) start: i64,
    pub(crate) strides: Vec<i64>,
    pub(crate) place: Place,
}

/// Number of elements.
pub(crate) fn count(dims: &[u32]) -> u64 {
    dims.iter()
        .fold(1u64, |n, &d| n.saturating_mul(u64::from(d)))
}

/// Row-major strides. Where there is no element they are 1: the other dimensions are bounded by no limit then.
pub(crate) fn contiguous_strides(dims: &[u32]) -> Vec<i64> {
    let mut strides = vec![1; dims.len()];
    if dims.contains(&0) {
        return strides;
    }
    for axis in (1..dims.len()).rev() {
        strides[axis - 1] = strides[axis] * i64::from(dims[axis]);
    }
    strides
}

impl Tensor {
    /// All of a constant.
    pub(crate) fn constant(constant: &Arc<Constant>) -> Self {
        Self {
            element: constant.element,
            dims: constant.dims.clone(),
            start: 0,
            strides: contiguous_strides(&constant.dims),
            place: Place::Const(constant.clone()),
        }
    }

    pub(crate) fn kind(&self) -> Kind {
        kind_of(self.element).expect("strings are refused at the door")
    }

    pub(crate) fn rank(&self) -> usize {
        self.dims.len()
    }

    pub(crate) fn len(&self) -> u64 {
        count(&self.dims)
    }

    pub(crate) fn is_const(&self) -> bool {
        matches!(self.place, Place::Const(_))
    }

    /// Whether it was computed from the shape of an input.
    pub(crate) fn of_shape(&self) -> bool {
        matches!(&self.place, Place::Const(c) if c.of_shape)
    }

    /// Whether its elements stand row-major, one after another.
    pub(crate) fn is_contiguous(&self) -> bool {
        let expect = contiguous_strides(&self.dims);
        self.dims
            .iter()
            .zip(self.strides.iter().zip(&expect))
            .all(|(&dim, (a, b))| dim <= 1 || a == b)
    }

    /// Whether it is the whole of its place: contiguous and from the first element.
    pub(crate) fn is_whole(&self) -> bool {
        self.start == 0 && self.is_contiguous()
    }

    /// The bits of each element, where it is a constant.
    pub(crate) fn bits(&self) -> Option<Vec<u64>> {
        let Place::Const(constant) = &self.place else {
            return None;
        };
        let mut out = Vec::new();
        walk(&self.dims, &self.strides, |offset| {
            out.push(constant.bits((self.start + offset) as usize));
        });
        Some(out)
    }

    /// The elements as integers, where it is a constant of integers.
    pub(crate) fn integers(&self) -> Option<Vec<i64>> {
        let kind = self.kind();
        self.bits()?
            .into_iter()
            .map(|bits| match kind {
                Kind::I32 => Some(i64::from(bits as i32)),
                Kind::U32 => Some(bits as i64 & 0xffff_ffff),
                Kind::I64 => Some(bits as i64),
                Kind::F32 => None,
            })
            .collect()
    }

    /// The elements as floats, where it is a constant of floats.
    pub(crate) fn floats(&self) -> Option<Vec<f32>> {
        (self.kind() == Kind::F32).then_some(())?;
        let bits = self.bits()?;
        Some(bits.into_iter().map(|b| f32::from_bits(b as u32)).collect())
    }

    /// Seen with axes in another order.
    pub(crate) fn permuted(&self, perm: &[usize]) -> Self {
        Self {
            dims: perm.iter().map(|&p| self.dims[p]).collect(),
            strides: perm.iter().map(|&p| self.strides[p]).collect(),
            ..self.clone()
        }
    }

    /// Seen with other dimensions of the same count, where that needs no copy.
    pub(crate) fn reshaped(&self, dims: &[u32]) -> Option<Self> {
        debug_assert_eq!(count(dims), self.len(), "a reshape keeps the count");
        if self.is_contiguous() {
            return Some(Self {
                dims: dims.to_vec(),
                strides: contiguous_strides(dims),
                ..self.clone()
            });
        }
        // Axes of extent 1 come and go freely.
        let ours: Vec<(u32, i64)> = self
            .dims
            .iter()
            .copied()
            .zip(self.strides.iter().copied())
            .filter(|(d, _)| *d != 1)
            .collect();
        let theirs: Vec<u32> = dims.iter().copied().filter(|d| *d != 1).collect();
        if ours.iter().map(|(d, _)| *d).ne(theirs) {
            return None;
        }
        let mut rest = ours.iter();
        let strides = dims
            .iter()
            .map(|&d| {
                if d == 1 {
                    0
                } else {
                    rest.next().map_or(0, |s| s.1)
                }
            })
            .collect();
        Some(Self {
            dims: dims.to_vec(),
            strides,
            ..self.clone()
        })
    }

    /// Seen as `dims`, repeated along axes of extent 1, as ONNX broadcasts.
    pub(crate) fn broadcast(&self, dims: &[u32]) -> Result<Self, Refuse> {
        let missing = dims.len().checked_sub(self.rank());
        let fits = missing.is_some_and(|missing| {
            self.dims
                .iter()
                .zip(&dims[missing..])
                .all(|(a, b)| a == b || *a == 1)
        });
        let Some(missing) = missing.filter(|_| fits) else {
            return Err(Refuse::Invalid(format!(
                "{:?} does not broadcast to {dims:?}",
                self.dims
            )));
        };
        let mut strides = vec![0; missing];
        for (axis, &stride) in self.strides.iter().enumerate() {
            let repeated = self.dims[axis] == 1 && dims[missing + axis] != 1;
            strides.push(if repeated { 0 } else { stride });
        }
        Ok(Self {
            dims: dims.to_vec(),
            strides,
            ..self.clone()
        })
    }

    /// A part along one axis: from `start`, every `step`, `extent` elements.
    pub(crate) fn sliced(&self, axis: usize, start: i64, step: i64, extent: u32) -> Self {
        let mut out = self.clone();
        out.start += start * self.strides[axis];
        out.strides[axis] *= step;
        out.dims[axis] = extent;
        out
    }

    /// With the axes' extents and strides replaced.
    pub(crate) fn viewed(&self, dims: Vec<u32>, strides: Vec<i64>) -> Self {
        Self {
            dims,
            strides,
            ..self.clone()
        }
    }
}

/// The shape to which all broadcast.
pub(crate) fn broadcast_dims(shapes: &[&[u32]]) -> Result<Vec<u32>, Refuse> {
    let rank = shapes.iter().map(|s| s.len()).max().unwrap_or(0);
    let mut out = vec![1u32; rank];
    for shape in shapes {
        let missing = rank - shape.len();
        for (axis, &dim) in shape.iter().enumerate() {
            let have = &mut out[missing + axis];
            if *have == 1 {
                *have = dim;
            } else if dim != 1 && dim != *have {
                return Err(Refuse::Invalid(format!(
                    "shapes {shapes:?} do not broadcast"
                )));
            }
        }
    }
    Ok(out)
}

/// Calls `visit` with the offset of each index of `dims`, row-major.
pub(crate) fn walk(dims: &[u32], strides: &[i64], mut visit: impl FnMut(i64)) {
    if dims.contains(&0) {
        return;
    }
    let mut index = vec![0u32; dims.len()];
    let mut offset = 0i64;
    loop {
        visit(offset);
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            offset += strides[axis];
            if index[axis] < dims[axis] {
                break;
            }
            offset -= strides[axis] * i64::from(dims[axis]);
            index[axis] = 0;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Found by an hour of fuzzing: a constant without elements whose other dimensions were huge.
    #[test]
    fn strides_of_no_elements_do_not_overflow() {
        let huge = [0, u32::MAX, u32::MAX, u32::MAX];
        assert_eq!(contiguous_strides(&huge), [1; 4]);
        assert_eq!(contiguous_strides(&[2, 3, 4]), [12, 4, 1]);
    }
}
