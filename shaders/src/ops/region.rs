//! Operators that sample around places which other inputs give: regions, and convolutions with offsets.

use super::sample::{Kernel, Outside, Places, neighbours, one_dim, weighted, widened};
use super::shape::{joined, reshaped};
use super::{Cx, Result, elementwise, index, invalid, linear, pool, unsupported};
use crate::plan::{Component, Kind, MapOp, ReduceOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "RoiAlign" => roi_align(cx)?,
        "DeformConv" => deform_conv(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// Regions of the input, each pooled to one size. The number of samples per cell must be given: by default it follows
/// from the size of a region, which is data.
fn roi_align(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, rois, batch) = (cx.floats(0)?, cx.floats(1)?, cx.input(2)?);
    let regions = rois.dims.first().copied().unwrap_or(0);
    if x.rank() != 4 || rois.dims != [regions, 4] || batch.dims != [regions] || regions == 0 {
        return invalid(format!("regions {:?} of {:?}", rois.dims, x.dims));
    }
    let attrs = &cx.node.attrs;
    let extent = |name: &str| match u32::try_from(attrs.int(name, 1)) {
        Ok(extent) if extent > 0 => Ok(extent),
        _ => invalid(format!("{name} must be positive")),
    };
    let cells = [extent("output_height")?, extent("output_width")?];
    let samples = match u32::try_from(attrs.int("sampling_ratio", 0)) {
        Ok(0) => return unsupported("a number of samples that depends on data"),
        Ok(samples) if samples <= 1 << 10 => samples,
        _ => return invalid("sampling_ratio is out of range"),
    };
    let found = u64::from(cells[0].max(cells[1])) * u64::from(samples);
    if found > cx.b.limits.elements_max {
        return invalid(format!("{cells:?} cells of {samples} samples"));
    }
    let scale = attrs.float("spatial_scale", 1.0);
    let default = if cx.node.version < 16 {
        "output_half_pixel"
    } else {
        "half_pixel"
    };
    let half = match attrs.str("coordinate_transformation_mode", default) {
        "half_pixel" => true,
        "output_half_pixel" => false,
        other => return invalid(format!("coordinate_transformation_mode {other:?}")),
    };
    let op = match attrs.str("mode", "avg") {
        "avg" => ReduceOp::Sum,
        "max" => ReduceOp::Max,
        other => return invalid(format!("mode {other:?}")),
    };
    let extents = [x.dims[2], x.dims[3]];
    // Axes: region, cell down, cell across, sample down, sample across, neighbour.
    let mut places = Vec::new();
    let mut inside: Option<Tensor> = None;
    for axis in 0..2 {
        let end = |cx: &mut Cx<'_, '_>, column: i64| {
            let part = rois.sliced(1, column, 1, 1);
            cx.b.map(ElementType::F32, &part.dims, &[&part], |p, a| {
                let scaled = p.f32(MapOp::Mul, &[a[0], imm(scale)]);
                p.f32(MapOp::Sub, &[scaled, imm(if half { 0.5 } else { 0.0 })])
            })
        };
        // A region is left, top, right, bottom.
        let first = end(cx, 1 - axis as i64)?;
        let behind = end(cx, 3 - axis as i64)?;
        let step =
            cx.b.map(ElementType::F32, &first.dims, &[&first, &behind], |p, a| {
                let size = p.f32(MapOp::Sub, &[a[1], a[0]]);
                let size = if half {
                    size
                } else {
                    p.f32(MapOp::Max, &[size, imm(1.0)])
                };
                p.f32(MapOp::Div, &[size, imm(cells[axis] as f32)])
            })?;
        let mut dims = vec![1; 5];
        dims[axis] = cells[axis];
        dims[2 + axis] = samples;
        let parts = (0..cells[axis]).flat_map(|cell| {
            (0..samples).map(move |sample| {
                (f64::from(cell) + (f64::from(sample) + 0.5) / f64::from(samples)) as f32
            })
        });
        let parts: Vec<f32> = parts.collect();
        let parts = cx.const_f32(&dims, &parts);
        let wide = |t: &Tensor| {
            t.viewed(vec![regions, 1, 1, 1, 1, 1], {
                let mut strides = vec![0; 6];
                strides[0] = t.strides[0];
                strides
            })
        };
        let (first, step) = (wide(&first), wide(&step));
        let raw =
            cx.b.zip(ElementType::F32, &[&first, &step, &parts], |p, a| {
                let reach = p.f32(MapOp::Mul, &[a[1], a[2]]);
                p.f32(MapOp::Add, &[a[0], reach])
            })?;
        let n = extents[axis] as f32;
        let seen = cx.b.map(ElementType::U32, &raw.dims, &[&raw], |p, a| {
            let from_start = p.f32(MapOp::LessEqual, &[imm(-1.0), a[0]]);
            let to_end = p.f32(MapOp::LessEqual, &[a[0], imm(n)]);
            p.op(MapOp::And, Kind::U32, &[from_start, to_end])
        })?;
        inside = Some(match inside {
            None => seen,
            Some(other) => cx.b.op(MapOp::And, &[&other, &seen])?,
        });
        let at = cx.b.map(ElementType::F32, &raw.dims, &[&raw], |p, a| {
            let from_start = p.f32(MapOp::Max, &[a[0], imm(0.0)]);
            p.f32(MapOp::Min, &[from_start, imm(n - 1.0)])
        })?;
        places.push(Places {
            at,
            extent: extents[axis],
        });
    }
    let (at, weights) = neighbours(cx, &places, Kernel::Linear, Outside::Border)?;
    let Some(inside) = inside else {
        return invalid("there is no spatial dimension");
    };
    let weights = cx.b.zip(ElementType::F32, &[&inside, &weights], |p, a| {
        p.f32(MapOp::Select, &[a[0], a[1], imm(0.0)])
    })?;
    // Two numbers per element: its sample, and its place in a plane.
    let channels = x.dims[1];
    let batch = elementwise::cast(cx, &batch, ElementType::I32)?;
    let batch = batch.viewed(vec![regions, 1, 1, 1, 1, 1], {
        let mut strides = vec![0; 6];
        strides[0] = batch.strides[0];
        strides
    });
    let batch = batch.broadcast(&at.dims)?;
    let both = joined(cx, &[widened(&batch, 0), widened(&at, 0)], 0)?;
    let volume = one_dim(&extents)?;
    let flat = reshaped(cx, &x, &[x.dims[0], channels, volume])?;
    let mut dims = vec![regions, channels];
    dims.extend(&at.dims[1..]);
    let mut strides = vec![0; dims.len()];
    strides[1] = flat.strides[1];
    let view = flat.viewed(dims.clone(), strides);
    let mut index_strides = both.strides[1..].to_vec();
    index_strides.insert(1, 0);
    let indices = both.viewed(dims.clone(), index_strides);
    let components = [(x.dims[0], flat.strides[0]), (volume, flat.strides[2])]
        .into_iter()
        .map(|(extent, stride)| {
            let stride = index::stride(stride)?;
            Ok(Component { extent, stride })
        })
        .collect::<Result<Vec<_>>>()?;
    let reach = u64::from(x.dims[0]) * u64::from(volume);
    let values =
        cx.b.take(&view, &indices, both.strides[0], components, reach)?;
    let weights = widened(&weights, 1);
    let values =
        cx.b.map(ElementType::F32, &dims, &[&values, &weights], |p, a| {
            p.f32(MapOp::Mul, a)
        })?;
    let out = cx.b.reduce(op, &values, 3)?;
    let out = if op == ReduceOp::Sum {
        cx.b.op_imm(MapOp::Div, &out, (samples * samples) as f32)?
    } else {
        out
    };
    elementwise::cast(cx, &out, x.element)
}

/// A convolution whose window's elements are moved by data: each element under the window is read between elements, and
/// the rest is a product of matrices.
fn deform_conv(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, w, offset) = (cx.floats(0)?, cx.floats(1)?, cx.floats(2)?);
    if x.rank() != 4 || w.rank() != 4 || offset.rank() != 4 {
        return unsupported("other than two spatial dimensions");
    }
    let attrs = &cx.node.attrs;
    let part = |name: &str| u32::try_from(attrs.int(name, 1)).unwrap_or(0);
    let (groups, offset_groups) = (part("group"), part("offset_group"));
    let (n, c, m) = (x.dims[0], x.dims[1], w.dims[0]);
    let fits = groups > 0
        && offset_groups > 0
        && c % groups == 0
        && m % groups == 0
        && c % offset_groups == 0
        && w.dims[1] == c / groups;
    if !fits {
        return invalid(format!(
            "{:?} with {:?} in {groups} groups, moved in {offset_groups}",
            x.dims, w.dims
        ));
    }
    let window = pool::window(cx, &x.dims[2..], &w.dims[2..], pool::Ceil::No)?;
    let taps = one_dim(&w.dims[2..])?;
    let points = one_dim(&window.output)?;
    let moves = offset_groups.checked_mul(taps);
    let expect = [n, moves.unwrap_or(0), window.output[1], window.output[2]];
    let pairs = expect[1].checked_mul(2).unwrap_or(0);
    if offset.dims != [n, pairs, expect[2], expect[3]] {
        return invalid(format!("offsets {:?} for the window", offset.dims));
    }
    if u64::from(taps) * u64::from(points) > cx.b.limits.elements_max {
        return invalid("too many elements under windows");
    }
    // Axes: sample, group of offsets, element of the window, window, neighbour.
    let offset = reshaped(cx, &offset, &[n, offset_groups, taps, 2, points])?;
    let mut places = Vec::new();
    for axis in 0..2 {
        let moved = offset
            .sliced(3, axis as i64, 1, 1)
            .permuted(&[0, 1, 2, 4, 3]);
        let mut base = Vec::with_capacity((taps * points) as usize);
        let a = axis + 1;
        for tap in 0..taps {
            let k = if axis == 0 {
                tap / w.dims[3]
            } else {
                tap % w.dims[3]
            };
            for point in 0..points {
                let (rows, columns) = (point / window.output[2], point % window.output[2]);
                let at = if axis == 0 { rows } else { columns };
                let start =
                    i64::from(at) * i64::from(window.stride[a]) - i64::from(window.pad_begin[a]);
                base.push((start + i64::from(k) * i64::from(window.dilation[a])) as f32);
            }
        }
        let base = cx.const_f32(&[taps, points, 1], &base);
        let at = cx.b.op(MapOp::Add, &[&moved, &base])?;
        places.push(Places {
            at,
            extent: x.dims[2 + axis],
        });
    }
    let (at, weights) = neighbours(cx, &places, Kernel::Linear, Outside::Zeros)?;
    let volume = one_dim(&x.dims[2..])?;
    let per_move = c / offset_groups;
    let flat = reshaped(cx, &x, &[n, offset_groups, per_move, volume])?;
    let near = at.dims[4];
    let (at, weights) = (widened(&at, 2), widened(&weights, 2));
    let values = weighted(cx, &flat, &at, &weights, &[taps, points, near])?;
    let mut under = cx.b.reduce(ReduceOp::Sum, &values, 1)?;
    if let Some(mask) = cx.optional(4) {
        if mask.dims != expect {
            return invalid(format!("mask {:?} for the window", mask.dims));
        }
        let mask = reshaped(cx, &mask, &[n, offset_groups, 1, taps, points])?;
        under = cx.b.op(MapOp::Mul, &[&under, &mask])?;
    }
    let rows = (c / groups)
        .checked_mul(taps)
        .map_or_else(|| invalid("too many rows"), Ok)?;
    let under = reshaped(cx, &under, &[n, groups, rows, points])?;
    let w = reshaped(cx, &w, &[1, groups, m / groups, rows])?;
    let out = linear::matmul(cx, &w, &under)?;
    let mut out = reshaped(cx, &out, &[n, m, expect[2], expect[3]])?;
    if let Some(bias) = cx.optional(3) {
        let bias = reshaped(cx, &bias, &[m, 1, 1])?;
        out = cx.b.op(MapOp::Add, &[&out, &bias])?;
    }
    elementwise::cast(cx, &out, x.element)
}
