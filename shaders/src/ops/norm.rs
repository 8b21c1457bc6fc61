//! Normalisations and softmax, as compositions: their order of operations is their definition.

use super::reduce::{fold, mean};
use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, resolve_axis, unsupported};
use crate::plan::{Arg, Kind, MapOp, ReduceOp, Tensor, count, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Softmax" | "LogSoftmax" | "Hardmax" => soft(cx)?,
        "BatchNormalization" => batch_norm(cx)?,
        "LayerNormalization" => return layer_norm(cx).map(Some),
        "InstanceNormalization" => instance_norm(cx)?,
        "GroupNormalization" => group_norm(cx)?,
        "LpNormalization" => lp_norm(cx)?,
        "MeanVarianceNormalization" => mean_variance(cx)?,
        "LRN" => local_response(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// `exp(x - max) / sum`, along one axis.
pub(super) fn softmax(cx: &mut Cx<'_, '_>, x: &Tensor, axis: usize) -> Result<Tensor> {
    let top = fold(cx, ReduceOp::Max, x, &[axis])?;
    let powers = cx.b.zip(x.element, &[x, &top], |p, a| {
        let below = p.f32(MapOp::Sub, a);
        p.f32(MapOp::Exp, &[below])
    })?;
    let sum = fold(cx, ReduceOp::Sum, &powers, &[axis])?;
    cx.b.op(MapOp::Div, &[&powers, &sum])
}

/// `(x - max) - log(sum of exp(x - max))`, along one axis.
pub(super) fn log_softmax(cx: &mut Cx<'_, '_>, x: &Tensor, axis: usize) -> Result<Tensor> {
    let top = fold(cx, ReduceOp::Max, x, &[axis])?;
    let below = cx.b.op(MapOp::Sub, &[x, &top])?;
    let powers = cx.b.op(MapOp::Exp, &[&below])?;
    let sum = fold(cx, ReduceOp::Sum, &powers, &[axis])?;
    let log = cx.b.op(MapOp::Log, &[&sum])?;
    cx.b.op(MapOp::Sub, &[&below, &log])
}

fn soft(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let old = cx.node.version < 13;
    let axis = resolve_axis(
        cx.node.attrs.int("axis", if old { 1 } else { -1 }),
        x.rank(),
    )?;
    // Old versions see a matrix, split at the axis.
    let (view, along) = if old {
        let side = |dims: &[u32]| count(dims) as u32;
        let dims = [side(&x.dims[..axis]), side(&x.dims[axis..])];
        (reshaped(cx, &x, &dims)?, 1)
    } else {
        (x.clone(), axis)
    };
    let out = match cx.node.op.as_str() {
        "Softmax" => softmax(cx, &view, along)?,
        "LogSoftmax" => log_softmax(cx, &view, along)?,
        _ => {
            let best = fold(cx, ReduceOp::ArgMax, &view, &[along])?;
            let mut dims = vec![1; view.rank()];
            dims[along] = view.dims[along];
            let numbers: Vec<i64> = (0..i64::from(view.dims[along])).collect();
            let index = cx.const_i64(&dims, &numbers);
            let hot = cx.b.op(MapOp::Equal, &[&best, &index])?;
            elementwise::cast(cx, &hot, x.element)?
        }
    };
    reshaped(cx, &out, &x.dims)
}

/// One value per channel, so that it broadcasts over `rank` dimensions.
fn per_channel(cx: &mut Cx<'_, '_>, value: &Tensor, channels: u32, rank: usize) -> Result<Tensor> {
    if value.len() != u64::from(channels) {
        return invalid("one value per channel is needed");
    }
    let mut dims = vec![1; rank.saturating_sub(1).max(1)];
    dims[0] = channels;
    reshaped(cx, value, &dims)
}

/// `(x - mean) / sqrt(variance + epsilon) * scale + bias`, in this order.
fn normalised(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    mean: &Tensor,
    variance: &Tensor,
    epsilon: f32,
    affine: Option<(&Tensor, Option<&Tensor>)>,
) -> Result<Tensor> {
    let deviation =
        cx.b.map(variance.element, &variance.dims, &[variance], |p, a| {
            let moved = p.f32(MapOp::Add, &[a[0], imm(epsilon)]);
            p.f32(MapOp::Sqrt, &[moved])
        })?;
    let dims = x.dims.clone();
    let mut out = cx.b.map(x.element, &dims, &[x, mean, &deviation], |p, a| {
        let moved = p.f32(MapOp::Sub, &[a[0], a[1]]);
        p.f32(MapOp::Div, &[moved, a[2]])
    })?;
    if let Some((scale, bias)) = affine {
        out = cx.b.map(x.element, &dims, &[&out, scale], |p, a| {
            p.f32(MapOp::Mul, a)
        })?;
        if let Some(bias) = bias {
            out =
                cx.b.map(x.element, &dims, &[&out, bias], |p, a| p.f32(MapOp::Add, a))?;
        }
    }
    Ok(out)
}

fn batch_norm(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if cx.node.attrs.int("training_mode", 0) != 0 {
        return unsupported("training");
    }
    if x.rank() < 2 {
        return invalid("there are no channels");
    }
    let mut parts = Vec::new();
    for i in 1..5 {
        let part = cx.floats(i)?;
        parts.push(per_channel(cx, &part, x.dims[1], x.rank())?);
    }
    let epsilon = cx.node.attrs.float("epsilon", 1e-5);
    normalised(
        cx,
        &x,
        &parts[2],
        &parts[3],
        epsilon,
        Some((&parts[0], Some(&parts[1]))),
    )
}

/// Mean and variance (the mean of squared differences) over axes.
fn moments(cx: &mut Cx<'_, '_>, x: &Tensor, axes: &[usize]) -> Result<(Tensor, Tensor)> {
    let centre = mean(cx, x, axes)?;
    let squares = cx.b.zip(x.element, &[x, &centre], |p, a| {
        let moved = p.f32(MapOp::Sub, a);
        p.f32(MapOp::Mul, &[moved, moved])
    })?;
    let variance = mean(cx, &squares, axes)?;
    Ok((centre, variance))
}

fn layer_norm(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let x = cx.floats(0)?;
    let axis = resolve_axis(cx.node.attrs.int("axis", -1), x.rank())?;
    let axes: Vec<usize> = (axis..x.rank()).collect();
    let epsilon = cx.node.attrs.float("epsilon", 1e-5);
    let (centre, variance) = moments(cx, &x, &axes)?;
    let (scale, bias) = (cx.floats(1)?, cx.optional(2));
    let out = normalised(
        cx,
        &x,
        &centre,
        &variance,
        epsilon,
        Some((&scale, bias.as_ref())),
    )?;
    let inverse =
        cx.b.map(variance.element, &variance.dims, &[&variance], |p, a| {
            let moved = p.f32(MapOp::Add, &[a[0], imm(epsilon)]);
            let root = p.f32(MapOp::Sqrt, &[moved]);
            p.f32(MapOp::Div, &[imm(1.0), root])
        })?;
    Ok(vec![out, centre, inverse])
}

fn instance_norm(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let axes: Vec<usize> = (2..x.rank()).collect();
    let (centre, variance) = moments(cx, &x, &axes)?;
    let (scale, bias) = (cx.floats(1)?, cx.floats(2)?);
    let scale = per_channel(cx, &scale, x.dims[1], x.rank())?;
    let bias = per_channel(cx, &bias, x.dims[1], x.rank())?;
    let epsilon = cx.node.attrs.float("epsilon", 1e-5);
    normalised(
        cx,
        &x,
        &centre,
        &variance,
        epsilon,
        Some((&scale, Some(&bias))),
    )
}

fn group_norm(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let groups = u32::try_from(cx.node.attrs.int("num_groups", 0)).unwrap_or(0);
    if x.rank() < 2 || groups == 0 || x.dims[1] % groups != 0 {
        return invalid("channels do not divide by groups");
    }
    let mut dims = vec![x.dims[0], groups, x.dims[1] / groups];
    dims.extend(&x.dims[2..]);
    let grouped = reshaped(cx, &x, &dims)?;
    let axes: Vec<usize> = (2..grouped.rank()).collect();
    let (centre, variance) = moments(cx, &grouped, &axes)?;
    let epsilon = cx.node.attrs.float("epsilon", 1e-5);
    let out = normalised(cx, &grouped, &centre, &variance, epsilon, None)?;
    let out = reshaped(cx, &out, &x.dims)?;
    let (scale, bias) = (cx.floats(1)?, cx.floats(2)?);
    // Before version 21 there was one scale per group.
    let mut affine = Vec::new();
    for part in [scale, bias] {
        let part = if part.len() == u64::from(groups) && groups != x.dims[1] {
            let column = reshaped(cx, &part, &[groups, 1])?;
            let wide = column.broadcast(&[groups, x.dims[1] / groups])?;
            reshaped(cx, &wide, &[x.dims[1]])?
        } else {
            part
        };
        affine.push(per_channel(cx, &part, x.dims[1], x.rank())?);
    }
    cx.b.map(
        x.element,
        &x.dims,
        &[&out, &affine[0], &affine[1]],
        |p, a| {
            let scaled = p.f32(MapOp::Mul, &[a[0], a[1]]);
            p.f32(MapOp::Add, &[scaled, a[2]])
        },
    )
}

fn lp_norm(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let axis = resolve_axis(cx.node.attrs.int("axis", -1), x.rank())?;
    let norm = if cx.node.attrs.int("p", 2) == 1 {
        "l1"
    } else {
        "l2"
    };
    by_norm(cx, &x, axis, norm)
}

/// `x` divided by its norm along an axis; rows of zeros stay.
pub(super) fn by_norm(cx: &mut Cx<'_, '_>, x: &Tensor, axis: usize, norm: &str) -> Result<Tensor> {
    let size = match norm {
        "l1" => {
            let sizes = cx.b.op(MapOp::Abs, &[x])?;
            fold(cx, ReduceOp::Sum, &sizes, &[axis])?
        }
        "l2" => {
            let squares = cx.b.op(MapOp::Mul, &[x, x])?;
            let sum = fold(cx, ReduceOp::Sum, &squares, &[axis])?;
            cx.b.op(MapOp::Sqrt, &[&sum])?
        }
        "max" => {
            let sizes = cx.b.op(MapOp::Abs, &[x])?;
            fold(cx, ReduceOp::Max, &sizes, &[axis])?
        }
        other => return unsupported(format!("norm {other:?}")),
    };
    cx.b.zip(ElementType::F32, &[x, &size], |p, a| {
        let zero = p.op(MapOp::Equal, Kind::F32, &[a[1], Arg::Imm(0)]);
        let divisor = p.f32(MapOp::Select, &[zero, imm(1.0), a[1]]);
        p.f32(MapOp::Div, &[a[0], divisor])
    })
}

fn mean_variance(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let axes = cx.node.attrs.ints("axes").unwrap_or(&[0, 2, 3]);
    let axes = axes
        .iter()
        .map(|&a| resolve_axis(a, x.rank()))
        .collect::<Result<Vec<_>>>()?;
    let (centre, variance) = moments(cx, &x, &axes)?;
    cx.b.map(x.element, &x.dims, &[&x, &centre, &variance], |p, a| {
        let moved = p.f32(MapOp::Sub, &[a[0], a[1]]);
        let root = p.f32(MapOp::Sqrt, &[a[2]]);
        let divisor = p.f32(MapOp::Add, &[root, imm(1e-9)]);
        p.f32(MapOp::Div, &[moved, divisor])
    })
}

fn local_response(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 {
        return invalid("there is no spatial dimension");
    }
    let attrs = &cx.node.attrs;
    let size = attrs.int("size", 0);
    if !(1..=1 << 10).contains(&size) {
        return invalid(format!("size {size}"));
    }
    let (alpha, beta, bias) = (
        attrs.float("alpha", 1e-4),
        attrs.float("beta", 0.75),
        attrs.float("bias", 1.0),
    );
    let squares = cx.b.op(MapOp::Mul, &[&x, &x])?;
    // The window over channels, by a sum of shifted copies: zeros stand outside.
    let (before, after) = ((size - 1) / 2, size - 1 - (size - 1) / 2);
    let (mut low, mut high) = (vec![0; x.rank()], vec![0; x.rank()]);
    low[1] = before;
    high[1] = after;
    let wide = super::pad::padded(cx, &squares, &low, &high, None, "constant")?;
    let mut sum = wide.sliced(1, 0, 1, x.dims[1]);
    for shift in 1..size {
        let next = wide.sliced(1, shift, 1, x.dims[1]);
        sum = cx.b.op(MapOp::Add, &[&sum, &next])?;
    }
    cx.b.map(x.element, &x.dims, &[&x, &sum], |p, a| {
        let scaled = p.f32(MapOp::Mul, &[imm(alpha / size as f32), a[1]]);
        let moved = p.f32(MapOp::Add, &[imm(bias), scaled]);
        let power = p.f32(MapOp::Pow, &[moved, imm(beta)]);
        p.f32(MapOp::Div, &[a[0], power])
    })
}
