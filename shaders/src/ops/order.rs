//! Operators that order, accumulate or select along an axis.

use super::reduce::fold;
use super::shape::{dims_of, reshaped};
use super::{Cx, Result, elementwise, index, invalid, resolve_axis};
use crate::graph::Constant;
use crate::plan::{Arg, Component, Kind, MapOp, ReduceOp, Tensor};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    Ok(Some(match cx.node.op.as_str() {
        "TopK" => top_k(cx)?,
        "CumSum" => vec![cumulated(cx)?],
        "ReverseSequence" => vec![reversed(cx)?],
        "Compress" => vec![compressed(cx)?],
        _ => return Ok(None),
    }))
}

/// `x` with `axis` last, and the order of axes that undoes it.
fn last(x: &Tensor, axis: usize) -> (Tensor, Vec<usize>) {
    let mut order: Vec<usize> = (0..x.rank()).filter(|a| *a != axis).collect();
    order.push(axis);
    let mut back = vec![0; x.rank()];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    (x.permuted(&order), back)
}

/// Seen with an axis of extent 1 put in.
fn widened(x: &Tensor, axis: usize) -> Tensor {
    let (mut dims, mut strides) = (x.dims.clone(), x.strides.clone());
    dims.insert(axis, 1);
    strides.insert(axis, 0);
    x.viewed(dims, strides)
}

/// Numbers along the last or the last but one of `rank` axes.
fn numbers(cx: &mut Cx<'_, '_>, extent: u32, behind: usize) -> Tensor {
    let mut dims = vec![extent];
    dims.extend(vec![1; behind]);
    let constant = Constant::new(ElementType::U32, dims, (0..extent).collect());
    cx.b.constant(constant)
}

/// The rank of an element is the number of elements before it, by value and then by place; result `r` is the element of
/// rank `r`. No order of work matters.
fn top_k(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let x = cx.input(0)?;
    let axis = resolve_axis(cx.node.attrs.int("axis", -1), x.rank())?;
    let wanted = match cx.node.attrs.has("k") {
        true => vec![cx.node.attrs.int("k", 0)],
        false => cx.must_know(1)?,
    };
    let &[wanted] = &dims_of(&wanted)?[..] else {
        return invalid("k must be one number");
    };
    let extent = x.dims[axis];
    if wanted == 0 || wanted > extent {
        return invalid(format!("k {wanted} of {extent}"));
    }
    let largest = cx.node.attrs.int("largest", 1) != 0;
    let (x, back) = last(&x, axis);
    let kind = x.kind();
    let rank = x.rank();
    // Element i along the last but one axis, element j along the last.
    let (mine, other) = (widened(&x, rank), widened(&x, rank - 1));
    let (i, j) = (numbers(cx, extent, 1), numbers(cx, extent, 0));
    let before =
        cx.b.zip(ElementType::U32, &[&mine, &other, &i, &j], |p, a| {
            let pair = if largest { [a[0], a[1]] } else { [a[1], a[0]] };
            let ahead = p.op(MapOp::Less, kind, &pair);
            let equal = p.op(MapOp::Equal, kind, &[a[0], a[1]]);
            let earlier = p.op(MapOp::Less, Kind::U32, &[a[3], a[2]]);
            let tied = p.op(MapOp::And, Kind::U32, &[equal, earlier]);
            p.op(MapOp::Or, Kind::U32, &[ahead, tied])
        })?;
    let ranks = cx.b.reduce(ReduceOp::Sum, &before, 1)?;
    let place = numbers(cx, wanted, 1);
    let ranks = widened(&ranks, rank - 1);
    let hits = cx.b.zip(ElementType::U32, &[&ranks, &place], |p, a| {
        p.op(MapOp::Equal, Kind::U32, a)
    })?;
    let indices = cx.b.reduce(ReduceOp::ArgMax, &hits, 1)?;
    let component = Component {
        extent,
        stride: index::stride(x.strides[rank - 1])?,
    };
    let mut strides = x.strides.clone();
    strides[rank - 1] = 0;
    let view = x.viewed(indices.dims.clone(), strides);
    let values =
        cx.b.take(&view, &indices, 0, vec![component], u64::from(extent))?;
    Ok(vec![values.permuted(&back), indices.permuted(&back)])
}

fn cumulated(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let &[axis] = &cx.must_know(1)?[..] else {
        return invalid("the axis must be one number");
    };
    let axis = resolve_axis(axis, x.rank())?;
    let exclusive = cx.node.attrs.int("exclusive", 0) != 0;
    let reverse = cx.node.attrs.int("reverse", 0) != 0;
    let (x, back) = last(&x, axis);
    let extent = x.dims[x.rank() - 1];
    let kind = x.kind();
    // Result i along the last but one axis, element j along the last.
    let (i, j) = (numbers(cx, extent, 1), numbers(cx, extent, 0));
    let other = widened(&x, x.rank() - 1);
    let op = if exclusive {
        MapOp::Less
    } else {
        MapOp::LessEqual
    };
    let taken = cx.b.zip(x.element, &[&other, &i, &j], |p, a| {
        let pair = if reverse { [a[1], a[2]] } else { [a[2], a[1]] };
        let inside = p.op(op, Kind::U32, &pair);
        p.op(MapOp::Select, kind, &[inside, a[0], Arg::Imm(0)])
    })?;
    let axis = taken.rank() - 1;
    let sums = fold(cx, ReduceOp::Sum, &taken, &[axis])?;
    let sums = reshaped(cx, &sums, &x.dims)?;
    Ok(sums.permuted(&back))
}

fn reversed(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, lengths) = (cx.input(0)?, cx.input(1)?);
    let batch_axis = resolve_axis(cx.node.attrs.int("batch_axis", 1), x.rank())?;
    let time_axis = resolve_axis(cx.node.attrs.int("time_axis", 0), x.rank())?;
    if batch_axis == time_axis || lengths.dims != [x.dims[batch_axis]] {
        return invalid("one length per sequence is needed");
    }
    let time = x.dims[time_axis];
    let mut batch_dims = vec![1; x.rank()];
    batch_dims[batch_axis] = x.dims[batch_axis];
    let mut time_dims = vec![1; x.rank()];
    time_dims[time_axis] = time;
    let lengths = elementwise::cast(cx, &lengths, ElementType::I64)?;
    let lengths = reshaped(cx, &lengths, &batch_dims)?;
    let steps: Vec<i64> = (0..i64::from(time)).collect();
    let steps = cx.const_i64(&time_dims, &steps);
    let places =
        cx.b.map(ElementType::I64, &x.dims, &[&steps, &lengths], |p, a| {
            let inside = p.op(MapOp::Less, Kind::I64, &[a[0], a[1]]);
            let last = p.op(MapOp::Sub, Kind::I64, &[a[1], Arg::Imm(1)]);
            let mirrored = p.op(MapOp::Sub, Kind::I64, &[last, a[0]]);
            p.op(MapOp::Select, Kind::I64, &[inside, mirrored, a[0]])
        })?;
    let component = Component {
        extent: time,
        stride: index::stride(x.strides[time_axis])?,
    };
    let mut strides = x.strides.clone();
    strides[time_axis] = 0;
    let view = x.viewed(x.dims.clone(), strides);
    cx.b.take(&view, &places, 0, vec![component], u64::from(time))
}

/// The slices whose condition, which must be known, is true.
fn compressed(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let places: Vec<i64> = cx
        .must_know(1)?
        .iter()
        .zip(0..)
        .filter(|(c, _)| **c != 0)
        .map(|(_, place)| place)
        .collect();
    let (x, axis) = if cx.node.attrs.has("axis") {
        let axis = resolve_axis(cx.node.attrs.int("axis", 0), x.rank())?;
        (x, axis)
    } else {
        let all = u32::try_from(x.len()).map_or_else(|_| invalid("too many elements"), Ok)?;
        (reshaped(cx, &x, &[all])?, 0)
    };
    let extent = i64::from(x.dims[axis]);
    if places.is_empty() || places.iter().any(|&p| p >= extent) {
        return invalid("the condition keeps nothing, or more than there is");
    }
    let index = cx.const_i64(&[places.len() as u32], &places);
    index::gather(cx, &x, &index, axis)
}
