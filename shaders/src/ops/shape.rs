//! Operators that move, view or make elements.

use super::{Cx, Result, invalid, resolve_axis};
use crate::graph::Constant;
use crate::plan::{Place, Tensor, count};
use std::sync::Arc;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Shape" => shape(cx)?,
        "Size" => {
            let x = cx.input(0)?;
            let moving = !x.is_const() || x.of_shape();
            let size = Constant::from_i64(vec![], &[x.len() as i64]);
            Tensor::constant(&Arc::new(size.marked(moving)))
        }
        "Reshape" => reshape(cx)?,
        "Flatten" => flatten(cx)?,
        "Squeeze" => squeeze(cx)?,
        "Unsqueeze" => unsqueeze(cx)?,
        "Transpose" => transpose(cx)?,
        "Expand" => expand(cx)?,
        "Concat" => concat(cx)?,
        "Slice" => slice(cx)?,
        "Split" => return split(cx).map(Some),
        "Tile" => tile(cx)?,
        "DepthToSpace" => depth_to_space(cx)?,
        "SpaceToDepth" => space_to_depth(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

fn shape(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let rank = x.rank() as i64;
    let bound = |name: &str, default: i64| {
        let at = cx.node.attrs.int(name, default);
        (if at < 0 { at + rank } else { at }).clamp(0, rank) as usize
    };
    let (start, end) = (bound("start", 0), bound("end", rank));
    let dims: Vec<i64> = x.dims[start..end.max(start)]
        .iter()
        .map(|&d| i64::from(d))
        .collect();
    let moving = !x.is_const() || x.of_shape();
    let constant = Constant::from_i64(vec![dims.len() as u32], &dims).marked(moving);
    Ok(Tensor::constant(&Arc::new(constant)))
}

/// Another shape for the same elements, with a copy where views cannot say it.
pub(super) fn reshaped(cx: &mut Cx<'_, '_>, x: &Tensor, dims: &[u32]) -> Result<Tensor> {
    if count(dims) != x.len() {
        return invalid(format!("{:?} does not reshape to {dims:?}", x.dims));
    }
    if let Some(view) = x.reshaped(dims) {
        return Ok(view);
    }
    let contiguous = match &x.place {
        Place::Const(constant) => Tensor::constant(&cx.b.access.flat(x, constant)),
        Place::Virtual(_) => cx.b.copied(x)?,
    };
    contiguous
        .reshaped(dims)
        .map_or_else(|| invalid("what is contiguous reshapes"), Ok)
}

pub(super) fn dim(value: i64) -> Result<u32> {
    u32::try_from(value).map_or_else(|_| invalid(format!("dimension {value}")), Ok)
}

/// A list of dimensions.
pub(super) fn dims_of(values: &[i64]) -> Result<Vec<u32>> {
    values.iter().map(|&v| dim(v)).collect()
}

fn reshape(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let target = cx.must_know(1)?;
    let keep_zero = cx.node.attrs.int("allowzero", 0) != 0;
    let mut dims = Vec::with_capacity(target.len());
    let mut open = None;
    for (axis, &value) in target.iter().enumerate() {
        match value {
            -1 if open.is_none() => {
                open = Some(axis);
                dims.push(1);
            }
            0 if !keep_zero => match x.dims.get(axis) {
                Some(&d) => dims.push(d),
                None => return invalid("a 0 in the shape has no dimension to keep"),
            },
            value => dims.push(dim(value)?),
        }
    }
    if let Some(axis) = open {
        let known = count(&dims);
        if known == 0 || x.len() % known != 0 {
            return invalid(format!("{:?} does not reshape to {target:?}", x.dims));
        }
        dims[axis] = dim((x.len() / known) as i64)?;
    }
    reshaped(cx, &x, &dims)
}

fn flatten(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let axis = cx.node.attrs.int("axis", 1);
    let rank = x.rank() as i64;
    if !(-rank..=rank).contains(&axis) {
        return invalid(format!("axis {axis} is outside rank {rank}"));
    }
    let axis = (if axis < 0 { axis + rank } else { axis }) as usize;
    let side = |dims: &[u32]| dim(count(dims) as i64);
    let dims = [side(&x.dims[..axis])?, side(&x.dims[axis..])?];
    reshaped(cx, &x, &dims)
}

fn squeeze(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let axes = match cx.ints("axes", 1)? {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<Vec<_>>>()?,
        None => (0..x.rank()).filter(|&a| x.dims[a] == 1).collect(),
    };
    if axes.iter().any(|&a| x.dims[a] != 1) {
        return invalid(format!("axes {axes:?} of {:?} are not 1", x.dims));
    }
    let kept: Vec<usize> = (0..x.rank()).filter(|a| !axes.contains(a)).collect();
    Ok(x.permuted(&kept))
}

fn unsqueeze(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let Some(axes) = cx.ints("axes", 1)? else {
        return invalid("axes are missing");
    };
    let rank = x.rank() + axes.len();
    let axes = axes
        .iter()
        .map(|&a| resolve_axis(a, rank))
        .collect::<Result<Vec<_>>>()?;
    let (mut dims, mut strides) = (Vec::new(), Vec::new());
    let mut next = 0;
    for axis in 0..rank {
        if axes.contains(&axis) {
            dims.push(1);
            strides.push(0);
        } else if next < x.rank() {
            dims.push(x.dims[next]);
            strides.push(x.strides[next]);
            next += 1;
        } else {
            return invalid("axes are given twice");
        }
    }
    Ok(x.viewed(dims, strides))
}

fn transpose(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let perm: Vec<usize> = match cx.node.attrs.ints("perm") {
        Some(perm) => perm
            .iter()
            .map(|&p| resolve_axis(p, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).rev().collect(),
    };
    let mut sorted = perm.clone();
    sorted.sort_unstable();
    if sorted.iter().copied().ne(0..x.rank()) {
        return invalid(format!("{perm:?} is no permutation"));
    }
    Ok(x.permuted(&perm))
}

fn expand(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let target = dims_of(&cx.must_know(1)?)?;
    let rank = x.rank().max(target.len());
    let from_end = |dims: &[u32], i: usize| {
        let missing = rank - dims.len();
        if i < missing { 1 } else { dims[i - missing] }
    };
    let dims: Vec<u32> = (0..rank)
        .map(|i| match (from_end(&x.dims, i), from_end(&target, i)) {
            (1, t) => t,
            (d, 1) => d,
            (d, _) => d,
        })
        .collect();
    let fits = (0..rank).all(|i| {
        let (d, t) = (from_end(&x.dims, i), from_end(&target, i));
        d == t || d == 1 || t == 1
    });
    if !fits {
        return invalid(format!("{:?} does not expand to {target:?}", x.dims));
    }
    if count(&dims) > cx.b.limits.elements_max {
        return Err(crate::plan::Refuse::Limit {
            what: "elements of a tensor",
            found: count(&dims),
            limit: cx.b.limits.elements_max,
        });
    }
    x.broadcast(&dims)
}

/// Joins along an axis.
pub(super) fn joined(cx: &mut Cx<'_, '_>, parts: &[Tensor], axis: usize) -> Result<Tensor> {
    let first = &parts[0];
    let mut dims = first.dims.clone();
    let mut total = 0u64;
    for part in parts {
        let fits = part.rank() == dims.len()
            && part.element == first.element
            && (0..dims.len()).all(|a| a == axis || part.dims[a] == dims[a]);
        if !fits {
            return invalid(format!(
                "{:?} and {:?} cannot be joined along axis {axis}",
                first.dims, part.dims
            ));
        }
        total += u64::from(part.dims[axis]);
    }
    let live: Vec<&Tensor> = parts.iter().filter(|p| p.len() > 0).collect();
    if live.len() == 1 {
        return Ok(live[0].clone());
    }
    dims[axis] = u32::try_from(total).map_or_else(|_| invalid("too long"), Ok)?;
    let out = cx.b.alloc(first.element, &dims)?;
    let mut start = 0;
    for part in live {
        let place = out.sliced(axis, start, 1, part.dims[axis]);
        cx.b.copy_into(part, &place)?;
        start += i64::from(part.dims[axis]);
    }
    Ok(out)
}

fn concat(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let parts = (0..cx.inputs.len())
        .map(|i| cx.input(i))
        .collect::<Result<Vec<_>>>()?;
    let Some(first) = parts.first() else {
        return invalid("nothing to join");
    };
    let axis = resolve_axis(cx.node.attrs.int("axis", 0), first.rank())?;
    joined(cx, &parts, axis)
}

fn slice(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let mut x = cx.input(0)?;
    let (Some(starts), Some(ends)) = (cx.ints("starts", 1)?, cx.ints("ends", 2)?) else {
        return invalid("starts or ends are missing");
    };
    let axes = match cx.ints("axes", 3)? {
        Some(axes) => axes,
        None => (0..starts.len() as i64).collect(),
    };
    let steps = cx.known(4)?.unwrap_or_else(|| vec![1; starts.len()]);
    if [ends.len(), axes.len(), steps.len()] != [starts.len(); 3] {
        return invalid("starts, ends, axes and steps differ in length");
    }
    for i in 0..starts.len() {
        let axis = resolve_axis(axes[i], x.rank())?;
        let (start, extent) = slice_range(starts[i], ends[i], steps[i], x.dims[axis])?;
        x = x.sliced(axis, start, steps[i], extent);
    }
    Ok(x)
}

/// First index and number of elements of a slice, as numpy has it.
fn slice_range(start: i64, end: i64, step: i64, extent: u32) -> Result<(i64, u32)> {
    let n = i64::from(extent);
    let wrap = |v: i64| if v < 0 { v.saturating_add(n) } else { v };
    if step == 0 {
        return invalid("a step of 0");
    }
    let (start, end) = if step > 0 {
        (wrap(start).clamp(0, n), wrap(end).clamp(0, n))
    } else {
        (wrap(start).clamp(-1, n - 1), wrap(end).clamp(-1, n - 1))
    };
    let span = if step > 0 { end - start } else { start - end };
    let size = step.unsigned_abs();
    let extent = if span <= 0 {
        0
    } else {
        (span as u64).div_ceil(size)
    };
    Ok((if extent == 0 { 0 } else { start }, extent as u32))
}

fn split(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let x = cx.input(0)?;
    let axis = resolve_axis(cx.node.attrs.int("axis", 0), x.rank())?;
    let extent = i64::from(x.dims[axis]);
    let sizes = match cx.ints("split", 1)? {
        Some(sizes) => sizes,
        None => {
            let parts = cx
                .node
                .attrs
                .int("num_outputs", cx.node.outputs.len() as i64);
            if parts <= 0 {
                return invalid("no outputs");
            }
            let size = (extent + parts - 1) / parts;
            (0..parts)
                .map(|i| (extent - i * size).clamp(0, size))
                .collect()
        }
    };
    if sizes.iter().any(|&s| s < 0) || sizes.iter().sum::<i64>() != extent {
        return invalid(format!("parts {sizes:?} do not make {extent}"));
    }
    let mut start = 0;
    let mut out = Vec::new();
    for size in sizes {
        out.push(x.sliced(axis, start, 1, size as u32));
        start += size;
    }
    Ok(out)
}

fn tile(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let repeats = dims_of(&cx.must_know(1)?)?;
    if repeats.len() != x.rank() {
        return invalid("one repeat per axis is needed");
    }
    let mut out = x;
    for (axis, &times) in repeats.iter().enumerate() {
        if times == 1 {
            continue;
        }
        // Repeated by a new axis of stride 0 in front, which then melts into the axis.
        let (mut dims, mut strides) = (out.dims.clone(), out.strides.clone());
        dims.insert(axis, times);
        strides.insert(axis, 0);
        let mut target = out.dims.clone();
        target[axis] = target[axis]
            .checked_mul(times)
            .map_or_else(|| invalid("too long"), Ok)?;
        if count(&target) > cx.b.limits.elements_max {
            return invalid("too many elements");
        }
        let view = out.viewed(dims, strides);
        out = reshaped(cx, &view, &target)?;
    }
    Ok(out)
}

fn depth_to_space(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let block = dim(cx.node.attrs.int("blocksize", 0))?;
    let &[n, c, h, w] = &x.dims[..] else {
        return invalid("four dimensions are needed");
    };
    let square = block.saturating_mul(block);
    if block == 0 || c % square != 0 {
        return invalid("channels do not divide by the block");
    }
    let depth = c / square;
    let (dims, perm) = if cx.node.attrs.str("mode", "DCR") == "CRD" {
        ([n, depth, block, block, h, w], [0, 1, 4, 2, 5, 3])
    } else {
        ([n, block, block, depth, h, w], [0, 3, 4, 1, 5, 2])
    };
    let view = reshaped(cx, &x, &dims)?.permuted(&perm);
    reshaped(cx, &view, &[n, depth, h * block, w * block])
}

fn space_to_depth(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let block = dim(cx.node.attrs.int("blocksize", 0))?;
    let &[n, c, h, w] = &x.dims[..] else {
        return invalid("four dimensions are needed");
    };
    if block == 0 || h % block != 0 || w % block != 0 {
        return invalid("extents do not divide by the block");
    }
    let dims = [n, c, h / block, block, w / block, block];
    let view = reshaped(cx, &x, &dims)?.permuted(&[0, 3, 5, 1, 2, 4]);
    reshaped(cx, &view, &[n, c * block * block, h / block, w / block])
}
