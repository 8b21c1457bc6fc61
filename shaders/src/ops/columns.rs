//! Operators that put elements back where windows took them from.

use super::shape::{dims_of, reshaped};
use super::{Cx, Result, elementwise, index, invalid, pool, scatter, unsupported};
use crate::graph::Constant;
use crate::plan::{Kind, MapOp, ReduceOp, Refuse, Tensor, count, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Col2Im" => col2im(cx)?,
        "MaxUnpool" => max_unpool(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// Most elements of a window times positions of the image: the table of what lies where.
const TABLE_MAX: u64 = 1 << 24;

/// A list attribute, with one value as default.
fn list(cx: &Cx<'_, '_>, name: &str, default: i64, len: usize) -> Result<Vec<i64>> {
    let found = cx.node.attrs.ints(name);
    let values = found.map_or_else(|| vec![default; len], <[i64]>::to_vec);
    let plain = |v: &i64| (0..1 << 20).contains(v);
    if values.len() == len && values.iter().all(plain) {
        Ok(values)
    } else {
        invalid(format!("{name} {values:?}"))
    }
}

/// Sums of what windows hold, at the places of an image that they stood over: each place looks for the elements that
/// name it, in ascending order of the window's elements.
fn col2im(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let image = dims_of(&cx.must_know(1)?)?;
    let block = dims_of(&cx.must_know(2)?)?;
    let spatial = image.len();
    if spatial == 0 || block.len() != spatial || x.rank() != 3 {
        return invalid(format!("{:?} as blocks {block:?} of {image:?}", x.dims));
    }
    let dilations = list(cx, "dilations", 1, spatial)?;
    let strides = list(cx, "strides", 1, spatial)?;
    let pads = list(cx, "pads", 0, 2 * spatial)?;
    let (positions, elements) = (count(&image), count(&block));
    if positions == 0 || elements == 0 {
        return invalid("the image or the block is empty");
    }
    let found = positions.saturating_mul(elements);
    let limit = TABLE_MAX.min(cx.b.limits.elements_max);
    if found > limit {
        return Err(Refuse::Limit {
            what: "elements of windows at the places of an image",
            found,
            limit,
        });
    }
    if strides.contains(&0) || dilations.contains(&0) {
        return invalid("strides and dilations must be positive");
    }
    let mut windows = Vec::new();
    for axis in 0..spatial {
        let reach = dilations[axis] * (i64::from(block[axis]) - 1) + 1;
        let room = i64::from(image[axis]) + pads[axis] + pads[spatial + axis] - reach;
        if room < 0 {
            return invalid("the block is larger than the image");
        }
        windows.push((room / strides[axis] + 1) as u32);
    }
    let (n, columns) = (x.dims[0], x.dims[1]);
    let elements = elements as u32;
    if columns % elements != 0 || count(&windows) != u64::from(x.dims[2]) {
        return invalid(format!("{:?} as blocks {block:?} of {image:?}", x.dims));
    }
    // Which window has the image's position under its element, along one axis.
    let window = |axis: usize, position: u32, element: u32| {
        let from_first = i64::from(position) + pads[axis] - i64::from(element) * dilations[axis];
        let number = from_first / strides[axis];
        let there =
            from_first >= 0 && from_first % strides[axis] == 0 && number < i64::from(windows[axis]);
        there.then_some(number)
    };
    let split = |number: u64, dims: &[u32]| {
        let mut rest = number;
        let mut parts = vec![0u32; dims.len()];
        for axis in (0..dims.len()).rev() {
            parts[axis] = (rest % u64::from(dims[axis])) as u32;
            rest /= u64::from(dims[axis]);
        }
        parts
    };
    let (mut places, mut there) = (Vec::new(), Vec::new());
    for position in 0..positions {
        let at = split(position, &image);
        for element in 0..elements {
            let k = split(u64::from(element), &block);
            let number = (0..spatial).try_fold(0i64, |sum, axis| {
                Some(sum * i64::from(windows[axis]) + window(axis, at[axis], k[axis])?)
            });
            let place = number.map(|number| i64::from(element) * i64::from(x.dims[2]) + number);
            places.push(place.unwrap_or(0));
            there.push(u32::from(place.is_some()));
        }
    }
    let channels = columns / elements;
    let flat = reshaped(cx, &x, &[n, channels, elements * x.dims[2]])?;
    let table = [positions as u32, elements];
    let places = cx.const_i64(&table, &places);
    let under = index::gather(cx, &flat, &places, 2)?;
    let there = Constant::new(ElementType::Bool, table.to_vec(), there);
    let there = cx.b.constant(there);
    let held =
        cx.b.map(ElementType::F32, &under.dims, &[&there, &under], |p, a| {
            p.f32(MapOp::Select, &[a[0], a[1], imm(0.0)])
        })?;
    let sums = cx.b.reduce(ReduceOp::Sum, &held, 1)?;
    let mut dims = vec![n, channels];
    dims.extend(&image);
    let out = reshaped(cx, &sums, &dims)?;
    elementwise::cast(cx, &out, x.element)
}

/// The largest elements, put back where `MaxPool` found them, among zeros. An index that names a place of another plane
/// than its own is dropped; of several that name one place the last counts.
fn max_unpool(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, places) = (cx.floats(0)?, cx.input(1)?);
    let spatial = x.rank().saturating_sub(2);
    if spatial == 0 || places.dims != x.dims || places.kind() != Kind::I64 {
        return invalid(format!("{:?} at {:?}", x.dims, places.dims));
    }
    let Some(kernel) = cx.node.attrs.ints("kernel_shape").map(<[i64]>::to_vec) else {
        return invalid("kernel_shape is missing");
    };
    let strides = list(cx, "strides", 1, spatial)?;
    let pads = list(cx, "pads", 0, 2 * spatial)?;
    if kernel.len() != spatial || kernel.iter().any(|k| !(1..1 << 20).contains(k)) {
        return invalid(format!("kernel_shape {kernel:?}"));
    }
    let mut dims = x.dims[..2].to_vec();
    for axis in 0..spatial {
        let extent = (i64::from(x.dims[2 + axis]) - 1) * strides[axis] + kernel[axis]
            - pads[axis]
            - pads[spatial + axis];
        match u32::try_from(extent) {
            Ok(extent) if extent > 0 => dims.push(extent),
            _ => return invalid(format!("extent {extent} of the output")),
        }
    }
    let narrow = |n: u64| u32::try_from(n).map_or_else(|_| invalid("too many elements"), Ok);
    let planes = narrow(count(&dims[..2]))?;
    let (size, names) = (narrow(count(&dims[2..]))?, narrow(count(&x.dims[2..]))?);
    if planes == 0 || names == 0 {
        return unsupported("an empty input");
    }
    // Axes: plane, place, update.
    let updates = reshaped(cx, &x, &[planes, 1, names])?;
    let places = reshaped(cx, &places, &[planes, 1, names])?;
    let starts = pool::plane_starts(cx, &[planes, 1, 1], i64::from(size));
    let own = cx.b.op(MapOp::Sub, &[&places, &starts])?;
    let numbers: Vec<i64> = (0..i64::from(size)).collect();
    let numbers = cx.const_i64(&[size, 1], &numbers);
    let hits = cx.b.zip(ElementType::U32, &[&own, &numbers], |p, a| {
        p.op(MapOp::Equal, Kind::I64, a)
    })?;
    let zeros = cx.b.filled(ElementType::F32, &[planes, size, 1], 0)?;
    let found = scatter::latest(cx, &zeros, &hits, &updates)?;
    let out = reshaped(cx, &found, &dims)?;
    let out = elementwise::cast(cx, &out, x.element)?;
    let Some(wanted) = cx.known(2)? else {
        return Ok(out);
    };
    let wanted = dims_of(&wanted)?;
    let fits = wanted.len() == dims.len()
        && wanted[..2] == dims[..2]
        && wanted.iter().zip(&dims).all(|(w, d)| w >= d);
    if !fits {
        return invalid(format!("output_shape {wanted:?} of {dims:?}"));
    }
    // What is wanted beyond stands behind.
    let after: Vec<i64> = wanted
        .iter()
        .zip(&dims)
        .map(|(w, d)| i64::from(w - d))
        .collect();
    let before = vec![0; dims.len()];
    super::pad::padded(cx, &out, &before, &after, None, "constant")
}
