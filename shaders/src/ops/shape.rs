//! Operators that move, view or make elements.

use super::{Cx, Result, elementwise, invalid, resolve_axis, unsupported};
use crate::graph::{Constant, kind_of};
use crate::plan::{Arg, Kind, MapOp, Place, Tensor, count};
use penstock_rules::tensor::ElementType;
use std::sync::Arc;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Constant" => constant(cx)?,
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
        "Pad" => pad(cx)?,
        "CenterCropPad" => center(cx)?,
        "ConstantOfShape" => constant_of_shape(cx)?,
        "Range" => range(cx)?,
        "EyeLike" => eye_like(cx)?,
        "Trilu" => trilu(cx)?,
        "DepthToSpace" => depth_to_space(cx)?,
        "SpaceToDepth" => space_to_depth(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

fn constant(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let attrs = &cx.node.attrs;
    if let Some(value) = attrs.tensor("value") {
        return Ok(Tensor::constant(value));
    }
    let one = |c: Constant| Ok(c);
    let made = if attrs.has("value_float") {
        one(Constant::from_f32(
            vec![],
            &[attrs.float("value_float", 0.0)],
        ))
    } else if attrs.has("value_int") {
        one(Constant::from_i64(vec![], &[attrs.int("value_int", 0)]))
    } else if let Some(values) = attrs.floats("value_floats") {
        one(Constant::from_f32(vec![values.len() as u32], values))
    } else if let Some(values) = attrs.ints("value_ints") {
        one(Constant::from_i64(vec![values.len() as u32], values))
    } else {
        unsupported("a constant of this type")
    }?;
    Ok(cx.b.constant(made))
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

fn dim(value: i64) -> Result<u32> {
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

fn pad(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let old = cx.node.version < 11;
    let pads = if old {
        cx.node.attrs.ints("pads").map(<[i64]>::to_vec)
    } else {
        cx.known(1)?
    };
    let Some(pads) = pads else {
        return invalid("pads are missing");
    };
    let axes: Vec<usize> = match cx.known(3)? {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return invalid("two pads per axis are needed");
    }
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (i, &axis) in axes.iter().enumerate() {
        before[axis] = pads[i];
        after[axis] = pads[axes.len() + i];
    }
    let value = if old {
        let value = cx.node.attrs.float("value", 0.0);
        Some(cx.const_f32(&[], &[value]))
    } else {
        cx.optional(2)
    };
    let mode = cx.node.attrs.str("mode", "constant").to_owned();
    padded(cx, &x, &before, &after, value.as_ref(), &mode)
}

/// Cut or padded with zeros to known extents, around the middle.
fn center(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let extents = dims_of(&cx.must_know(1)?)?;
    let axes: Vec<usize> = match cx.node.attrs.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).collect(),
    };
    if axes.len() != extents.len() {
        return invalid("one extent per axis is needed");
    }
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (&axis, &extent) in axes.iter().zip(&extents) {
        let more = i64::from(extent) - i64::from(x.dims[axis]);
        // What is odd goes to the end, of a pad as of a cut.
        before[axis] = more / 2;
        after[axis] = more - more / 2;
    }
    padded(cx, &x, &before, &after, None, "constant")
}

/// A tensor with elements added (or, where a pad is negative, cut off) at its ends.
pub(super) fn padded(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    before: &[i64],
    after: &[i64],
    value: Option<&Tensor>,
    mode: &str,
) -> Result<Tensor> {
    let mut x = x.clone();
    let (mut before, mut after) = (before.to_vec(), after.to_vec());
    for axis in 0..x.rank() {
        let extent = i64::from(x.dims[axis]);
        let cut = [before[axis].min(0), after[axis].min(0)];
        let left = extent + cut[0] + cut[1];
        if left < 0 || left > extent {
            return invalid("pads cut more than there is");
        }
        x = x.sliced(axis, -cut[0], 1, left as u32);
        before[axis] = before[axis].max(0);
        after[axis] = after[axis].max(0);
    }
    if before.iter().chain(&after).all(|&p| p == 0) {
        return Ok(x);
    }
    if mode == "constant" {
        let dims = (0..x.rank())
            .map(|a| {
                dim(i64::from(x.dims[a])
                    .saturating_add(before[a])
                    .saturating_add(after[a]))
            })
            .collect::<Result<Vec<_>>>()?;
        let zero = cx.b.constant(Constant::new(
            x.element,
            vec![],
            vec![0; kind_of(x.element).map_or(1, |k| k.words() as usize)],
        ));
        let value = match value {
            Some(value) if value.len() == 1 => reshaped(cx, value, &[])?,
            Some(_) => return invalid("the pad value must be one element"),
            None => zero,
        };
        if value.element != x.element {
            return invalid("the pad value has another type");
        }
        let out = cx.b.map(x.element, &dims, &[&value], |_, a| a[0])?;
        let mut place = out.clone();
        for (axis, (&skipped, &extent)) in before.iter().zip(&x.dims).enumerate() {
            place = place.sliced(axis, skipped, 1, extent);
        }
        cx.b.copy_into(&x, &place)?;
        return Ok(out);
    }
    // The other modes repeat elements, axis after axis.
    for axis in 0..x.rank() {
        if before[axis] == 0 && after[axis] == 0 {
            continue;
        }
        let n = i64::from(x.dims[axis]);
        let source = |i: i64| match mode {
            "edge" => Some(i.clamp(0, n - 1)),
            "wrap" => Some(i.rem_euclid(n)),
            "reflect" if n == 1 => Some(0),
            "reflect" => {
                let period = 2 * (n - 1);
                let at = i.rem_euclid(period);
                Some(if at < n { at } else { period - at })
            }
            _ => None,
        };
        let total = n + before[axis] + after[axis];
        if n == 0 || total > i64::from(u32::MAX) || total as u64 > cx.b.limits.elements_max {
            return invalid("nothing to repeat, or too much");
        }
        let mut parts = vec![];
        for side in [-before[axis]..0, n..n + after[axis]] {
            for i in side {
                match source(i) {
                    Some(at) => parts.push(x.sliced(axis, at, 1, 1)),
                    None => return unsupported(format!("pad mode {mode:?}")),
                }
            }
            if parts.len() as i64 == before[axis] {
                parts.push(x.clone());
            }
        }
        x = joined(cx, &parts, axis)?;
    }
    Ok(x)
}

fn constant_of_shape(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let dims = dims_of(&cx.must_know(0)?)?;
    let value = match cx.node.attrs.tensor("value") {
        Some(value) if value.len() == 1 => Tensor::constant(value),
        Some(_) => return invalid("the value must be one element"),
        None => cx.const_f32(&[1], &[0.0]),
    };
    if count(&dims) > cx.b.limits.elements_max {
        return invalid("too many elements");
    }
    reshaped(cx, &value, &[])?.broadcast(&dims)
}

fn range(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (start, limit, delta) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let Some(bits) = [&start, &limit, &delta]
        .iter()
        .map(|t| t.bits().filter(|b| b.len() == 1).map(|b| b[0]))
        .collect::<Option<Vec<u64>>>()
    else {
        return unsupported("a range that depends on data");
    };
    let most = cx.b.limits.elements_max;
    let made = if start.kind() == Kind::F32 {
        let v: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b as u32)).collect();
        let steps = ((v[1] - v[0]) / v[2]).ceil().max(0.0);
        if !steps.is_finite() || steps as u64 > most {
            return invalid("the range has no end");
        }
        let values: Vec<f32> = (0..steps as u32).map(|i| v[0] + i as f32 * v[2]).collect();
        Constant::from_f32(vec![values.len() as u32], &values)
    } else {
        let v: Vec<i64> = [&start, &limit, &delta]
            .iter()
            .filter_map(|t| t.integers().map(|i| i[0]))
            .collect();
        let distance = i128::from(v[1]) - i128::from(v[0]);
        let step = i128::from(v[2]);
        if step == 0 {
            return invalid("a step of 0");
        }
        let steps = if (distance > 0) == (step > 0) {
            distance.unsigned_abs().div_ceil(step.unsigned_abs())
        } else {
            0
        };
        if steps > u128::from(most) {
            return invalid("the range is too long");
        }
        let values: Vec<i64> = (0..steps as i64).map(|i| v[0] + i * v[2]).collect();
        let wide = Tensor::constant(&Arc::new(Constant::from_i64(
            vec![values.len() as u32],
            &values,
        )));
        return elementwise::cast(cx, &wide, start.element);
    };
    Ok(cx.b.constant(made))
}

/// Numbers of the rows and of the columns of matrices in `x`, as constants that broadcast. Where rows are samples, a sample has another number in
/// another batch: then they follow from the shape.
fn row_and_column(cx: &mut Cx<'_, '_>, x: &Tensor, rows: u32, columns: u32) -> (Tensor, Tensor) {
    let numbers = |n: u32| (0..i64::from(n)).collect::<Vec<i64>>();
    let moving = x.rank() == 2 && !x.is_const();
    let row = Constant::from_i64(vec![rows, 1], &numbers(rows));
    let row = cx.b.constant(row.marked(moving));
    (row, cx.const_i64(&[1, columns], &numbers(columns)))
}

fn eye_like(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let &[rows, columns] = &x.dims[..] else {
        return invalid("a matrix is needed");
    };
    let element = match cx.node.attrs.int("dtype", 0) {
        0 => x.element,
        number => elementwise::element(number)?,
    };
    let offset = cx.node.attrs.int("k", 0);
    let (row, column) = row_and_column(cx, &x, rows, columns);
    let ones = cx.b.zip(ElementType::Bool, &[&row, &column], |p, a| {
        let moved = p.op(MapOp::Add, Kind::I64, &[a[0], Arg::Imm(offset as u64)]);
        p.op(MapOp::Equal, Kind::I64, &[moved, a[1]])
    })?;
    elementwise::cast(cx, &ones, element)
}

fn trilu(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let offset = cx.known(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = cx.node.attrs.int("upper", 1) != 0;
    let &[.., rows, columns] = &x.dims[..] else {
        return invalid("a matrix is needed");
    };
    let (row, column) = row_and_column(cx, &x, rows, columns);
    let kind = x.kind();
    let out = cx.b.map(x.element, &x.dims, &[&x, &row, &column], |p, a| {
        let moved = p.op(MapOp::Add, Kind::I64, &[a[1], Arg::Imm(offset as u64)]);
        let pair = if upper { [moved, a[2]] } else { [a[2], moved] };
        let inside = p.op(MapOp::LessEqual, Kind::I64, &pair);
        p.op(MapOp::Select, kind, &[inside, a[0], Arg::Imm(0)])
    })?;
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
