//! Pooling, and the geometry of sliding windows.

use super::shape::reshaped;
use super::{Cx, Result, invalid, unsupported};
use crate::plan::{MapOp, PoolOp, ReduceOp, Tensor, Window};

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
        "MaxPool" | "AveragePool" => pooled(cx)?,
        "GlobalMaxPool" => global(cx, ReduceOp::Max)?,
        "GlobalAveragePool" => global(cx, ReduceOp::Sum)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

fn pooled(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    if cx.node.outputs.iter().skip(1).any(Option::is_some) {
        return unsupported("indices of the largest elements");
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
    let op = match (cx.node.op.as_str(), attrs.int("count_include_pad", 0)) {
        ("MaxPool", _) => PoolOp::Max,
        (_, 0) => PoolOp::Average,
        _ => PoolOp::AverageWithPad,
    };
    if attrs.int("storage_order", 0) != 0 {
        return unsupported("column-major storage");
    }
    let spatial = x.rank() - 2;
    let window = window(cx, &x.dims[2..], &kernel, ceil)?;
    let planes = x.dims[0]
        .checked_mul(x.dims[1])
        .map_or_else(|| invalid("too many planes"), Ok)?;
    let out = cx.b.pool(op, &x, planes, window)?;
    let mut dims = x.dims[..2].to_vec();
    dims.extend(&window.output[3 - spatial..]);
    reshaped(cx, &out, &dims)
}

fn global(cx: &mut Cx<'_, '_>, op: ReduceOp) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let spatial = x.rank() - 2;
    let mut out = cx.b.reduce(op, &x, spatial)?;
    if op == ReduceOp::Sum {
        let extent = crate::plan::count(&x.dims[2..]);
        out = cx.b.op_imm(MapOp::Div, &out, extent as f32)?;
    }
    let mut dims = x.dims[..2].to_vec();
    dims.extend(vec![1; spatial]);
    reshaped(cx, &out, &dims)
}
