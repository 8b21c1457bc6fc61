//! Operators that read between elements, at places that are computed: each place becomes its neighbours' numbers and
//! weights, one [`crate::plan::Take`] reads all of them, and their weighted sum is a fold over a last axis.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid, linear};
use crate::plan::{Arg, Component, Kind, MapOp, Program, ReduceOp, Tensor, count, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "GridSample" => grid_sample(cx)?,
        "AffineGrid" => affine_grid(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// Which elements around a place have a say.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Kernel {
    /// The nearest, ties to even.
    Nearest,
    /// Two per axis, by distance.
    Linear,
    /// Four per axis, by Keys' cubic convolution with `a = -0.75`.
    Cubic,
}

impl Kernel {
    /// Elements per axis, and how far before the place the first stands.
    const fn reach(self) -> (u32, i32) {
        match self {
            Self::Nearest => (1, 0),
            Self::Linear => (2, 0),
            Self::Cubic => (4, 1),
        }
    }
}

/// What stands outside the input.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Outside {
    /// Zeros.
    Zeros,
    /// The last element inside.
    Border,
    /// What stands mirrored at the edge, which is the middle of the last element, or its end.
    Mirror { middle: bool },
}

/// Places along one axis, in elements, the first element's middle being 0; the last axis has extent 1.
pub(super) struct Places {
    pub(super) at: Tensor,
    pub(super) extent: u32,
}

/// A whole number as an argument of an `I32` instruction.
const fn whole(value: i32) -> Arg {
    Arg::Imm(value as u32 as u64)
}

/// `x` mirrored at both edges until it lies between them.
fn mirrored(p: &mut Program, x: Arg, extent: u32, middle: bool) -> Arg {
    let (low, span) = if middle {
        (0.0, extent as f32 - 1.0)
    } else {
        (-0.5, extent as f32)
    };
    if span == 0.0 {
        return imm(0.0);
    }
    let from_low = p.f32(MapOp::Sub, &[x, imm(low)]);
    let distance = p.f32(MapOp::Abs, &[from_low]);
    let periods = p.f32(MapOp::Div, &[distance, imm(2.0 * span)]);
    let periods = p.f32(MapOp::Floor, &[periods]);
    let behind = p.f32(MapOp::Mul, &[periods, imm(2.0 * span)]);
    let rest = p.f32(MapOp::Sub, &[distance, behind]);
    let on_the_way_back = p.f32(MapOp::Less, &[imm(span), rest]);
    let back = p.f32(MapOp::Sub, &[imm(2.0 * span), rest]);
    let folded = p.f32(MapOp::Select, &[on_the_way_back, back, rest]);
    p.f32(MapOp::Add, &[folded, imm(low)])
}

/// The neighbours of places along several axes, outermost first: their row-major numbers (`I32`) and their weights, along
/// the last axis. An element outside has the number of one inside; under [`Outside::Zeros`] its weight is 0.
pub(super) fn neighbours(
    cx: &mut Cx<'_, '_>,
    places: &[Places],
    kernel: Kernel,
    outside: Outside,
) -> Result<(Tensor, Tensor)> {
    let (per_axis, before) = kernel.reach();
    let taps = per_axis.pow(places.len() as u32);
    let mut both: Option<(Tensor, Tensor)> = None;
    for (axis, places) in places.iter().enumerate() {
        let extent = places.extent;
        if extent == 0 || extent > 1 << 23 {
            return invalid(format!("extent {extent} of a sampled axis"));
        }
        let last = extent as f32 - 1.0;
        let behind = (places_behind(axis, taps, per_axis)) as i64;
        let offsets: Vec<f32> = (0..i64::from(taps))
            .map(|tap| (tap / behind % i64::from(per_axis)) as f32 - before as f32)
            .collect();
        let offsets = cx.const_f32(&[taps], &offsets);
        let x = &places.at;
        let at = cx.b.zip(ElementType::F32, &[x, &offsets], |p, a| {
            let first = p.f32(MapOp::Floor, &[a[0]]);
            p.f32(MapOp::Add, &[first, a[1]])
        })?;
        let number = cx.b.map(ElementType::I32, &at.dims, &[&at], |p, a| {
            let inside = match outside {
                Outside::Mirror { middle } => mirrored(p, a[0], extent, middle),
                Outside::Zeros | Outside::Border => a[0],
            };
            let from_start = p.f32(MapOp::Max, &[inside, imm(0.0)]);
            let held = p.f32(MapOp::Min, &[from_start, imm(last)]);
            p.f32(MapOp::ToI32, &[held])
        })?;
        let weight = weight(cx, x, &at, kernel)?;
        let weight = if outside == Outside::Zeros {
            cx.b.map(ElementType::F32, &at.dims, &[&at, &weight], |p, a| {
                let from_start = p.f32(MapOp::LessEqual, &[imm(0.0), a[0]]);
                let to_end = p.f32(MapOp::LessEqual, &[a[0], imm(last)]);
                let inside = p.op(MapOp::And, Kind::U32, &[from_start, to_end]);
                p.f32(MapOp::Select, &[inside, a[1], imm(0.0)])
            })?
        } else {
            weight
        };
        both = Some(match both {
            None => (number, weight),
            Some((numbers, weights)) => (
                cx.b.zip(ElementType::I32, &[&numbers, &number], |p, a| {
                    let row = p.op(MapOp::Mul, Kind::I32, &[a[0], whole(extent as i32)]);
                    p.op(MapOp::Add, Kind::I32, &[row, a[1]])
                })?,
                cx.b.op(MapOp::Mul, &[&weights, &weight])?,
            ),
        });
    }
    both.map_or_else(|| invalid("there is no spatial dimension"), Ok)
}

/// Taps between two that differ along `axis` alone.
const fn places_behind(axis: usize, taps: u32, per_axis: u32) -> u32 {
    taps / per_axis.pow(axis as u32 + 1)
}

/// The weight of the elements `at` for the places `x`.
fn weight(cx: &mut Cx<'_, '_>, x: &Tensor, at: &Tensor, kernel: Kernel) -> Result<Tensor> {
    let distance = |p: &mut Program, a: &[Arg]| {
        let apart = p.f32(MapOp::Sub, &[a[0], a[1]]);
        p.f32(MapOp::Abs, &[apart])
    };
    let dims = at.dims.clone();
    match kernel {
        Kernel::Nearest => {
            cx.b.filled(ElementType::F32, &dims, u64::from(1f32.to_bits()))
        }
        Kernel::Linear => cx.b.map(ElementType::F32, &dims, &[x, at], |p, a| {
            let d = distance(p, a);
            p.f32(MapOp::Sub, &[imm(1.0), d])
        }),
        Kernel::Cubic => {
            const A: f32 = -0.75;
            cx.b.map(ElementType::F32, &dims, &[x, at], |p, a| {
                use MapOp::{Add, LessEqual, Mul, Select, Sub};
                let d = distance(p, a);
                let inner = p.f32(Mul, &[imm(A + 2.0), d]);
                let inner = p.f32(Sub, &[inner, imm(A + 3.0)]);
                let inner = p.f32(Mul, &[inner, d]);
                let inner = p.f32(Mul, &[inner, d]);
                let inner = p.f32(Add, &[inner, imm(1.0)]);
                let outer = p.f32(Mul, &[imm(A), d]);
                let outer = p.f32(Sub, &[outer, imm(5.0 * A)]);
                let outer = p.f32(Mul, &[outer, d]);
                let outer = p.f32(Add, &[outer, imm(8.0 * A)]);
                let outer = p.f32(Mul, &[outer, d]);
                let outer = p.f32(Sub, &[outer, imm(4.0 * A)]);
                let near = p.f32(LessEqual, &[d, imm(1.0)]);
                p.f32(Select, &[near, inner, outer])
            })
        }
    }
}

/// Elements of `data` `[lead…, extent]` at the numbers `at`, which broadcast to `[lead…, tail…]`, times `weights`, which do
/// so, too.
pub(super) fn weighted(
    cx: &mut Cx<'_, '_>,
    data: &Tensor,
    at: &Tensor,
    weights: &Tensor,
    tail: &[u32],
) -> Result<Tensor> {
    let lead = data.rank() - 1;
    let mut dims = data.dims[..lead].to_vec();
    dims.extend(tail);
    let mut strides = data.strides[..lead].to_vec();
    strides.extend(vec![0; tail.len()]);
    let component = Component {
        extent: data.dims[lead],
        stride: index::stride(data.strides[lead])?,
    };
    let view = data.viewed(dims.clone(), strides);
    let at = at.broadcast(&dims)?;
    let reach = u64::from(component.extent);
    let values = cx.b.take(&view, &at, 0, vec![component], reach)?;
    cx.b.map(ElementType::F32, &dims, &[&values, weights], |p, a| {
        p.f32(MapOp::Mul, a)
    })
}

/// Seen with axes of extent 1 put in at `axis`.
pub(super) fn widened(x: &Tensor, axis: usize) -> Tensor {
    let (mut dims, mut strides) = (x.dims.clone(), x.strides.clone());
    dims.insert(axis, 1);
    strides.insert(axis, 0);
    x.viewed(dims, strides)
}

/// As many elements as `dims` have, which a dimension holds.
pub(super) fn one_dim(dims: &[u32]) -> Result<u32> {
    u32::try_from(count(dims)).map_or_else(|_| invalid("too many elements"), Ok)
}

fn grid_sample(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, grid) = (cx.floats(0)?, cx.floats(1)?);
    let spatial = x.rank().saturating_sub(2);
    let fits = (1..=3).contains(&spatial)
        && grid.rank() == x.rank()
        && grid.dims[0] == x.dims[0]
        && grid.dims[spatial + 1] as usize == spatial;
    if !fits {
        return invalid(format!("{:?} at the places {:?}", x.dims, grid.dims));
    }
    let attrs = &cx.node.attrs;
    let kernel = match attrs.str("mode", "linear") {
        "linear" | "bilinear" => Kernel::Linear,
        "cubic" | "bicubic" => Kernel::Cubic,
        "nearest" => Kernel::Nearest,
        other => return invalid(format!("mode {other:?}")),
    };
    let corners = attrs.int("align_corners", 0) != 0;
    let outside = match attrs.str("padding_mode", "zeros") {
        "zeros" => Outside::Zeros,
        "border" => Outside::Border,
        "reflection" => Outside::Mirror { middle: corners },
        other => return invalid(format!("padding_mode {other:?}")),
    };
    let points = one_dim(&grid.dims[1..=spatial])?;
    let mut dims = x.dims[..2].to_vec();
    dims.extend(&grid.dims[1..=spatial]);
    if count(&dims) == 0 {
        return cx.b.alloc(x.element, &dims);
    }
    let (n, k) = (x.dims[0], spatial as u32);
    let flat_grid = reshaped(cx, &grid, &[n, points, k])?;
    let mut places = Vec::new();
    for axis in 0..spatial {
        let extent = x.dims[2 + axis];
        // The innermost axis comes first in a place.
        let part = flat_grid.sliced(2, (spatial - 1 - axis) as i64, 1, 1);
        let at = cx.b.map(ElementType::F32, &part.dims, &[&part], |p, a| {
            let place = denormalised(p, a[0], extent, corners);
            let place = if kernel == Kernel::Nearest {
                p.f32(MapOp::Round, &[place])
            } else {
                place
            };
            match outside {
                Outside::Zeros => place,
                Outside::Border => held(p, place, extent, corners),
                Outside::Mirror { middle } => mirrored(p, place, extent, middle),
            }
        })?;
        places.push(Places { at, extent });
    }
    let (at, weights) = neighbours(cx, &places, kernel, outside)?;
    let volume = one_dim(&x.dims[2..])?;
    let flat = reshaped(cx, &x, &[n, x.dims[1], volume])?;
    let taps = at.dims[2];
    let (at, weights) = (widened(&at, 1), widened(&weights, 1));
    let values = weighted(cx, &flat, &at, &weights, &[points, taps])?;
    let out = cx.b.reduce(ReduceOp::Sum, &values, 1)?;
    let out = reshaped(cx, &out, &dims)?;
    elementwise::cast(cx, &out, x.element)
}

/// From -1 to 1 over the input to elements.
fn denormalised(p: &mut Program, x: Arg, extent: u32, corners: bool) -> Arg {
    let from_start = p.f32(MapOp::Add, &[x, imm(1.0)]);
    if corners {
        return p.f32(MapOp::Mul, &[from_start, imm((extent as f32 - 1.0) * 0.5)]);
    }
    let ends = p.f32(MapOp::Mul, &[from_start, imm(extent as f32)]);
    let twice = p.f32(MapOp::Sub, &[ends, imm(1.0)]);
    p.f32(MapOp::Mul, &[twice, imm(0.5)])
}

/// A place outside the input moved to its first or last element.
fn held(p: &mut Program, x: Arg, extent: u32, corners: bool) -> Arg {
    let last = extent as f32 - 1.0;
    let (low, high) = if corners {
        (0.0, last)
    } else {
        (-0.5, last + 0.5)
    };
    let before = p.f32(MapOp::Less, &[x, imm(low)]);
    let behind = p.f32(MapOp::Less, &[imm(high), x]);
    let outside = p.op(MapOp::Or, Kind::U32, &[before, behind]);
    let from_start = p.f32(MapOp::Max, &[x, imm(0.0)]);
    let to_end = p.f32(MapOp::Min, &[from_start, imm(last)]);
    p.f32(MapOp::Select, &[outside, to_end, x])
}

/// The places of a regular grid, from -1 to 1 per axis, under an affine map.
fn affine_grid(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let theta = cx.floats(0)?;
    let size = super::shape::dims_of(&cx.must_know(1)?)?;
    let corners = cx.node.attrs.int("align_corners", 0) != 0;
    let spatial = size.len().saturating_sub(2);
    let k = spatial as u32;
    if !(2..=3).contains(&spatial) || theta.dims != [size[0], k, k + 1] {
        return invalid(format!("{:?} for the size {size:?}", theta.dims));
    }
    let extents = &size[2..];
    let points = one_dim(extents)?;
    if u64::from(points) * u64::from(k + 1) > cx.b.limits.elements_max || points == 0 {
        return invalid("the size is out of range");
    }
    let along = |i: u32, extent: u32| {
        let (i, n) = (f64::from(i), f64::from(extent));
        match (corners, extent) {
            (true, 1) => -1.0,
            (true, _) => 2.0 * i / (n - 1.0) - 1.0,
            (false, _) => (2.0 * i + 1.0) / n - 1.0,
        }
    };
    let mut base = Vec::with_capacity(points as usize * (spatial + 1));
    for point in 0..points {
        let mut rest = point;
        // The innermost axis comes first in a place, and a 1 behind the last.
        for &extent in extents.iter().rev() {
            base.push(along(rest % extent, extent) as f32);
            rest /= extent;
        }
        base.push(1.0);
    }
    let base = cx.const_f32(&[1, points, k + 1], &base);
    let out = linear::matmul(cx, &base, &theta.permuted(&[0, 2, 1]))?;
    let mut dims = vec![size[0]];
    dims.extend(extents);
    dims.push(k);
    let out = reshaped(cx, &out, &dims)?;
    elementwise::cast(cx, &out, theta.element)
}
