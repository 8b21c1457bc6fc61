//! Reductions.

use super::shape::reshaped;
use super::{Cx, Result, invalid, resolve_axis};
use crate::plan::{Kind, MapOp, ReduceOp, Tensor, count};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let name = cx.node.op.clone();
    let out = match name.as_str() {
        "ArgMax" | "ArgMin" => arg(cx)?,
        _ => match name.strip_prefix("Reduce") {
            Some(fold) => match reduced(cx, fold)? {
                Some(out) => out,
                None => return Ok(None),
            },
            None => return Ok(None),
        },
    };
    Ok(Some(vec![out]))
}

/// `x` with `axes` last, and how the result's dimensions look with them kept as 1.
pub(super) fn to_end(x: &Tensor, axes: &[usize]) -> (Tensor, Vec<u32>) {
    let mut order: Vec<usize> = (0..x.rank()).filter(|a| !axes.contains(a)).collect();
    let mut sorted = axes.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    order.extend(&sorted);
    let kept = (0..x.rank())
        .map(|a| if axes.contains(&a) { 1 } else { x.dims[a] })
        .collect();
    (x.permuted(&order), kept)
}

/// Folds axes and keeps them as 1.
pub(super) fn fold(
    cx: &mut Cx<'_, '_>,
    op: ReduceOp,
    x: &Tensor,
    axes: &[usize],
) -> Result<Tensor> {
    let (moved, kept) = to_end(x, axes);
    let cols = x.rank() - kept_count(axes, x.rank());
    let out = cx.b.reduce(op, &moved, cols)?;
    reshaped(cx, &out, &kept)
}

fn kept_count(axes: &[usize], rank: usize) -> usize {
    (0..rank).filter(|a| !axes.contains(a)).count()
}

/// The mean over axes, kept as 1: the sum divided by the count.
pub(super) fn mean(cx: &mut Cx<'_, '_>, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let sum = fold(cx, ReduceOp::Sum, x, axes)?;
    let (moved, _) = to_end(x, axes);
    let extent = count(&moved.dims[kept_count(axes, x.rank())..]);
    if x.kind() == Kind::F32 {
        return cx.b.op_imm(MapOp::Div, &sum, extent as f32);
    }
    let kind = x.kind();
    cx.b.map(x.element, &sum.dims, &[&sum], |p, a| {
        p.op(MapOp::Div, kind, &[a[0], crate::plan::Arg::Imm(extent)])
    })
}

fn reduced(cx: &mut Cx<'_, '_>, name: &str) -> Result<Option<Tensor>> {
    const FOLDS: [&str; 10] = [
        "Sum",
        "Prod",
        "Max",
        "Min",
        "Mean",
        "SumSquare",
        "L1",
        "L2",
        "LogSum",
        "LogSumExp",
    ];
    if !FOLDS.contains(&name) {
        return Ok(None);
    }
    let x = cx.input(0)?;
    let float_only = matches!(name, "LogSum" | "LogSumExp" | "L2");
    if float_only && x.kind() != Kind::F32 {
        return invalid("input 0 must hold floats");
    }
    let axes = cx.ints("axes", 1)?.filter(|a| !a.is_empty());
    let axes = match axes {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<Vec<_>>>()?,
        None if cx.node.attrs.int("noop_with_empty_axes", 0) != 0 => return Ok(Some(x)),
        None => (0..x.rank()).collect(),
    };
    let square = |cx: &mut Cx<'_, '_>, x: &Tensor| cx.b.op(MapOp::Mul, &[x, x]);
    let out = match name {
        "Sum" => fold(cx, ReduceOp::Sum, &x, &axes)?,
        "Prod" => fold(cx, ReduceOp::Prod, &x, &axes)?,
        "Max" => fold(cx, ReduceOp::Max, &x, &axes)?,
        "Min" => fold(cx, ReduceOp::Min, &x, &axes)?,
        "Mean" => mean(cx, &x, &axes)?,
        "SumSquare" => {
            let squares = square(cx, &x)?;
            fold(cx, ReduceOp::Sum, &squares, &axes)?
        }
        "L1" => {
            let sizes = match x.kind() {
                Kind::U32 => x,
                _ => cx.b.op(MapOp::Abs, &[&x])?,
            };
            fold(cx, ReduceOp::Sum, &sizes, &axes)?
        }
        "L2" => {
            let squares = square(cx, &x)?;
            let sum = fold(cx, ReduceOp::Sum, &squares, &axes)?;
            cx.b.op(MapOp::Sqrt, &[&sum])?
        }
        "LogSum" => {
            let sum = fold(cx, ReduceOp::Sum, &x, &axes)?;
            cx.b.op(MapOp::Log, &[&sum])?
        }
        "LogSumExp" => {
            let top = fold(cx, ReduceOp::Max, &x, &axes)?;
            let below = cx.b.op(MapOp::Sub, &[&x, &top])?;
            let powers = cx.b.op(MapOp::Exp, &[&below])?;
            let sum = fold(cx, ReduceOp::Sum, &powers, &axes)?;
            let log = cx.b.op(MapOp::Log, &[&sum])?;
            cx.b.op(MapOp::Add, &[&log, &top])?
        }
        _ => return Ok(None),
    };
    if cx.node.attrs.int("keepdims", 1) != 0 {
        return Ok(Some(out));
    }
    without(cx, &out, &axes).map(Some)
}

/// Drops axes of extent 1.
fn without(cx: &mut Cx<'_, '_>, x: &Tensor, axes: &[usize]) -> Result<Tensor> {
    let dims: Vec<u32> = (0..x.rank())
        .filter(|a| !axes.contains(a))
        .map(|a| x.dims[a])
        .collect();
    reshaped(cx, x, &dims)
}

fn arg(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let axis = resolve_axis(cx.node.attrs.int("axis", 0), x.rank())?;
    let last = cx.node.attrs.int("select_last_index", 0) != 0;
    let op = match (cx.node.op.as_str(), last) {
        ("ArgMax", false) => ReduceOp::ArgMax,
        ("ArgMax", true) => ReduceOp::ArgMaxLast,
        (_, false) => ReduceOp::ArgMin,
        (_, true) => ReduceOp::ArgMinLast,
    };
    let (moved, kept) = to_end(&x, &[axis]);
    let out = cx.b.reduce(op, &moved, 1)?;
    debug_assert_eq!(out.element, ElementType::I64, "indices are 64 bits wide");
    if cx.node.attrs.int("keepdims", 1) != 0 {
        reshaped(cx, &out, &kept)
    } else {
        Ok(out)
    }
}
