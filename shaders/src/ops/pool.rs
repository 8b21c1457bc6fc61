//! Pooling, and the geometry of sliding windows.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid, unsupported};
use crate::graph::Constant;
use crate::plan::{Component, MapOp, PoolOp, ReduceOp, Tensor, Window, count, imm};
use penstock_rules::tensor::ElementType;

/// Whether the number of windows is rounded up.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ceil {
    /// Windows stand inside the padded input.
    No,
    /// The last window may stand over its end.
    Yes,
}

/// Longest stride, dilation, pad or kernel. 2^20: beyond it nothing real happens, and products stay far from overflow.
const GEOMETRY_MAX: i64 = 1 << 20;

/// The window of a node with attributes `strides`, `dilations`, `pads`, `auto_pad`.
pub(super) fn window(cx: &Cx<'_, '_>, input: &[u32], kernel: &[u32], ceil: Ceil) -> Result<Window> {
    let attrs = &cx.node.attrs;
    let n = input.len();
    let list = |name: &str, default: i64, len: usize| {
        attrs
            .ints(name)
            .map_or_else(|| vec![default; len], <[i64]>::to_vec)
    };
    let strides = list("strides", 1, n);
    let dilations = list("dilations", 1, n);
    let pads = list("pads", 0, 2 * n);
    if strides.len() != n || dilations.len() != n || pads.len() != 2 * n || kernel.len() != n {
        return invalid("strides, dilations, pads and kernel must fit the spatial dimensions");
    }
    let (mut begin, mut end) = (pads[..n].to_vec(), pads[n..].to_vec());
    let auto = attrs.str("auto_pad", "NOTSET");
    match auto {
        "NOTSET" | "" => {}
        "VALID" => {
            begin.fill(0);
            end.fill(0);
        }
        "SAME_UPPER" | "SAME_LOWER" => {
            for axis in 0..n {
                let (extent, stride) = (i64::from(input[axis]), strides[axis].max(1));
                let windows = (extent + stride - 1) / stride;
                let reach = (i64::from(kernel[axis]) - 1) * dilations[axis] + 1;
                let total = ((windows - 1) * stride + reach - extent).max(0);
                let (less, more) = (total / 2, total - total / 2);
                (begin[axis], end[axis]) = if auto == "SAME_UPPER" {
                    (less, more)
                } else {
                    (more, less)
                };
            }
        }
        other => return invalid(format!("auto_pad {other:?}")),
    }
    geometry(input, kernel, &strides, &dilations, (&begin, &end), ceil)
}

/// A window from its parts, each one per spatial dimension, at most three.
pub(super) fn geometry(
    input: &[u32],
    kernel: &[u32],
    strides: &[i64],
    dilations: &[i64],
    pads: (&[i64], &[i64]),
    ceil: Ceil,
) -> Result<Window> {
    let n = input.len();
    if n > 3 {
        return unsupported("more than three spatial dimensions");
    }
    let mut w = Window {
        input: [1; 3],
        output: [1; 3],
        kernel: [1; 3],
        stride: [1; 3],
        dilation: [1; 3],
        pad_begin: [0; 3],
        pad_end: [0; 3],
    };
    for axis in 0..n {
        let parts = [
            i64::from(kernel[axis]),
            strides[axis],
            dilations[axis],
            pads.0[axis],
            pads.1[axis],
        ];
        let positive = parts[..3].iter().all(|&v| v > 0);
        if !positive || parts.iter().any(|&v| !(0..=GEOMETRY_MAX).contains(&v)) {
            return invalid(format!("window {parts:?}"));
        }
        let [k, stride, dilation, before, after] = parts;
        let extent = i64::from(input[axis]);
        let reach = (k - 1) * dilation + 1;
        let room = extent + before + after - reach;
        if room < 0 || extent == 0 {
            return invalid("the window is larger than the input");
        }
        let mut windows = match ceil {
            Ceil::No => room / stride + 1,
            Ceil::Yes => (room + stride - 1) / stride + 1,
        };
        // A window that would begin behind the input and its first padding is left out.
        if ceil == Ceil::Yes && (windows - 1) * stride >= extent + before {
            windows -= 1;
        }
        let at = 3 - n + axis;
        w.input[at] = input[axis];
        w.output[at] = windows as u32;
        w.kernel[at] = kernel[axis];
        w.stride[at] = stride as u32;
        w.dilation[at] = dilation as u32;
        w.pad_begin[at] = before as u32;
        w.pad_end[at] = after as u32;
    }
    Ok(w)
}

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "MaxPool" if cx.node.outputs.iter().skip(1).any(Option::is_some) => {
            return max_with_indices(cx).map(Some);
        }
        "MaxPool" | "AveragePool" => pooled(cx)?,
        "LpPool" => lp(cx)?,
        "GlobalLpPool" => global_lp(cx)?,
        "GlobalMaxPool" => global(cx, ReduceOp::Max)?,
        "GlobalAveragePool" => global(cx, ReduceOp::Sum)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// The window of a pooling node over `x`.
fn pool_window(cx: &Cx<'_, '_>, x: &Tensor) -> Result<Window> {
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let attrs = &cx.node.attrs;
    let Some(kernel) = attrs.ints("kernel_shape") else {
        return invalid("kernel_shape is missing");
    };
    let kernel = super::shape::dims_of(kernel)?;
    let ceil = if attrs.int("ceil_mode", 0) != 0 {
        Ceil::Yes
    } else {
        Ceil::No
    };
    window(cx, &x.dims[2..], &kernel, ceil)
}

/// Dimensions of a pooled `x`.
fn pooled_dims(x: &Tensor, window: &Window) -> Vec<u32> {
    let mut dims = x.dims[..2].to_vec();
    dims.extend(&window.output[5 - x.rank()..]);
    dims
}

/// The elements under each window, which stand along the last of the axes planes, windows, positions; and for each
/// position its element of the plane, or `None` outside. Outside stands `outside`.
fn patches(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    w: &Window,
    outside: f32,
) -> Result<(Tensor, Vec<Option<i64>>)> {
    let planes = count(&x.dims[..2]);
    let (windows, positions) = (count(&w.output), count(&w.kernel));
    let elements = windows.saturating_mul(positions);
    if elements.saturating_mul(planes) > cx.b.limits.elements_max {
        return invalid("too many elements under windows");
    }
    let mut places = Vec::new();
    let axis = |a: usize, at: u32, k: u32| {
        let place = i64::from(at) * i64::from(w.stride[a])
            + i64::from(k) * i64::from(w.dilation[a])
            - i64::from(w.pad_begin[a]);
        (0..i64::from(w.input[a])).contains(&place).then_some(place)
    };
    let split = |number: u64, dims: &[u32; 3]| {
        let [_, y, z] = dims.map(u64::from);
        [number / (y * z), number / z % y, number % z].map(|v| v as u32)
    };
    for window in 0..windows {
        let at = split(window, &w.output);
        for position in 0..positions {
            let k = split(position, &w.kernel);
            let place = (0..3).try_fold(0i64, |sum, a| {
                Some(sum * i64::from(w.input[a]) + axis(a, at[a], k[a])?)
            });
            places.push(place);
        }
    }
    let flat = reshaped(cx, x, &[planes as u32, count(&w.input) as u32])?;
    let numbers: Vec<i64> = places.iter().map(|p| p.unwrap_or(0)).collect();
    let index = cx.const_i64(&[windows as u32, positions as u32], &numbers);
    let under = index::gather(cx, &flat, &index, 1)?;
    if places.iter().all(Option::is_some) {
        return Ok((under, places));
    }
    let mask: Vec<u32> = places.iter().map(|p| u32::from(p.is_some())).collect();
    let dims = vec![windows as u32, positions as u32];
    let mask = cx.b.constant(Constant::new(ElementType::Bool, dims, mask));
    let held =
        cx.b.map(ElementType::F32, &under.dims, &[&mask, &under], |p, a| {
            p.f32(MapOp::Select, &[a[0], a[1], imm(outside)])
        })?;
    Ok((held, places))
}

/// Where each plane begins in the whole tensor, along the first of `dims`. A sample's planes begin elsewhere in another
/// batch, so the numbers follow from the shape.
pub(super) fn plane_starts(cx: &mut Cx<'_, '_>, dims: &[u32], size: i64) -> Tensor {
    let starts: Vec<i64> = (0..i64::from(dims[0])).map(|p| p * size).collect();
    let starts = Constant::from_i64(dims.to_vec(), &starts);
    cx.b.constant(starts.marked(true))
}

/// The largest element under each window, and its place in the whole input.
fn max_with_indices(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let x = cx.floats(0)?;
    let w = pool_window(cx, &x)?;
    let (under, places) = patches(cx, &x, &w, f32::NEG_INFINITY)?;
    let best = cx.b.reduce(ReduceOp::Max, &under, 1)?;
    let position = cx.b.reduce(ReduceOp::ArgMax, &under, 1)?;
    // From the position under a window to the place in the plane, and on to the place in the input.
    let (windows, positions) = (under.dims[1], under.dims[2]);
    let spatial = x.rank() - 2;
    let column_major = cx.node.attrs.int("storage_order", 0) != 0;
    let turned = |place: i64| {
        if !column_major || spatial != 2 {
            return place;
        }
        let [_, rows, columns] = w.input.map(i64::from);
        place % columns * rows + place / columns
    };
    let table: Vec<i64> = places.iter().map(|p| turned(p.unwrap_or(0))).collect();
    let table = cx.const_i64(&[windows, positions], &table);
    let view = table.viewed(position.dims.clone(), vec![0, table.strides[0]]);
    let component = Component {
        extent: positions,
        stride: index::stride(table.strides[1])?,
    };
    let place =
        cx.b.take(&view, &position, 0, vec![component], u64::from(positions))?;
    let size = count(&w.input) as i64;
    let starts = plane_starts(cx, &[under.dims[0], 1], size);
    let place = cx.b.op(MapOp::Add, &[&place, &starts])?;
    let dims = pooled_dims(&x, &w);
    Ok(vec![
        reshaped(cx, &best, &dims)?,
        reshaped(cx, &place, &dims)?,
    ])
}

/// `(sum of |x|^p)^(1/p)` under each window.
fn lp(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let w = pool_window(cx, &x)?;
    let (under, _) = patches(cx, &x, &w, 0.0)?;
    let out = norm_of_rows(cx, &under, 1)?;
    let dims = pooled_dims(&x, &w);
    reshaped(cx, &out, &dims)
}

fn global_lp(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let spatial = x.rank() - 2;
    let out = norm_of_rows(cx, &x, spatial)?;
    let mut dims = x.dims[..2].to_vec();
    dims.extend(vec![1; spatial]);
    reshaped(cx, &out, &dims)
}

fn norm_of_rows(cx: &mut Cx<'_, '_>, x: &Tensor, cols: usize) -> Result<Tensor> {
    let power = match cx.node.attrs.int("p", 2) {
        power @ 1..=64 => power as f32,
        other => return invalid(format!("p {other}")),
    };
    let powers = cx.b.map(ElementType::F32, &x.dims, &[x], |p, a| {
        let size = p.f32(MapOp::Abs, &[a[0]]);
        p.f32(MapOp::Pow, &[size, imm(power)])
    })?;
    let sum = cx.b.reduce(ReduceOp::Sum, &powers, cols)?;
    cx.b.op_imm(MapOp::Pow, &sum, 1.0 / power)
}

fn pooled(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let given = cx.input(0)?;
    let narrow = matches!(given.element, ElementType::U8 | ElementType::I8);
    if narrow && cx.node.op == "AveragePool" {
        return unsupported("averages of integers");
    }
    // An 8-bit integer is a float exactly.
    let x = if narrow {
        elementwise::cast(cx, &given, ElementType::F32)?
    } else {
        cx.floats(0)?
    };
    let attrs = &cx.node.attrs;
    let op = match (cx.node.op.as_str(), attrs.int("count_include_pad", 0)) {
        ("MaxPool", _) => PoolOp::Max,
        (_, 0) => PoolOp::Average,
        _ => PoolOp::AverageWithPad,
    };
    let window = pool_window(cx, &x)?;
    let planes = x.dims[0]
        .checked_mul(x.dims[1])
        .map_or_else(|| invalid("too many planes"), Ok)?;
    let out = cx.b.pool(op, &x, planes, window)?;
    let dims = pooled_dims(&x, &window);
    let out = reshaped(cx, &out, &dims)?;
    elementwise::cast(cx, &out, given.element)
}

fn global(cx: &mut Cx<'_, '_>, op: ReduceOp) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let spatial = x.rank() - 2;
    let mut out = cx.b.reduce(op, &x, spatial)?;
    if op == ReduceOp::Sum {
        let extent = count(&x.dims[2..]);
        out = cx.b.op_imm(MapOp::Div, &out, extent as f32)?;
    }
    let mut dims = x.dims[..2].to_vec();
    dims.extend(vec![1; spatial]);
    reshaped(cx, &out, &dims)
}
