//! Losses.

use super::reduce::fold;
use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid, norm};
use crate::plan::{Arg, Component, Kind, MapOp, ReduceOp, Tensor};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    match cx.node.op.as_str() {
        "NegativeLogLikelihoodLoss" => {
            let x = cx.floats(0)?;
            Ok(Some(vec![likelihood(cx, &x)?]))
        }
        "SoftmaxCrossEntropyLoss" => {
            let x = cx.floats(0)?;
            if x.rank() < 2 {
                return invalid("there are no classes");
            }
            let log = norm::log_softmax(cx, &x, 1)?;
            Ok(Some(vec![likelihood(cx, &log)?, log]))
        }
        _ => Ok(None),
    }
}

/// `-x[target] * weight[target]`, over classes on axis 1; what is ignored counts neither above nor below.
fn likelihood(cx: &mut Cx<'_, '_>, x: &Tensor) -> Result<Tensor> {
    let target = cx.input(1)?;
    let mut places = x.dims.clone();
    if x.rank() < 2 {
        return invalid("there are no classes");
    }
    let classes = places.remove(1);
    if target.dims != places {
        return invalid(format!("targets {:?} for {:?}", target.dims, x.dims));
    }
    let target = elementwise::cast(cx, &target, ElementType::I64)?;
    let ignored = match cx.node.attrs.has("ignore_index") {
        true => Some(cx.node.attrs.int("ignore_index", 0)),
        false => None,
    };
    let mut strides = x.strides.clone();
    let stride = strides.remove(1);
    let data = x.viewed(places.clone(), strides);
    let chosen = at_class(cx, &data, stride, classes, &target)?;
    let one = cx.const_f32(&[], &[1.0]);
    let weight = match cx.optional(2) {
        Some(weight) if weight.dims == [classes] => {
            let data = weight.viewed(places.clone(), vec![0; places.len()]);
            at_class(cx, &data, weight.strides[0], classes, &target)?
        }
        Some(weight) => return invalid(format!("weights {:?}", weight.dims)),
        None => one.broadcast(&places)?,
    };
    let held = |cx: &mut Cx<'_, '_>, value: &Tensor| match ignored {
        None => Ok(value.clone()),
        Some(ignored) => {
            cx.b.map(ElementType::F32, &places, &[value, &target], |p, a| {
                let out = p.op(MapOp::Equal, Kind::I64, &[a[1], Arg::Imm(ignored as u64)]);
                p.f32(MapOp::Select, &[out, Arg::Imm(0), a[0]])
            })
        }
    };
    let (chosen, weight) = (held(cx, &chosen)?, held(cx, &weight)?);
    let loss =
        cx.b.map(ElementType::F32, &places, &[&chosen, &weight], |p, a| {
            let negative = p.f32(MapOp::Neg, &[a[0]]);
            p.f32(MapOp::Mul, &[negative, a[1]])
        })?;
    let reduction = cx.node.attrs.str("reduction", "mean").to_owned();
    if reduction == "none" {
        return Ok(loss);
    }
    let axes: Vec<usize> = (0..places.len()).collect();
    let sum = fold(cx, ReduceOp::Sum, &loss, &axes)?;
    let out = match reduction.as_str() {
        "sum" => sum,
        "mean" => {
            let total = fold(cx, ReduceOp::Sum, &weight, &axes)?;
            cx.b.op(MapOp::Div, &[&sum, &total])?
        }
        other => return invalid(format!("reduction {other:?}")),
    };
    reshaped(cx, &out, &[])
}

/// Elements of `data`, moved by the target's class.
fn at_class(
    cx: &mut Cx<'_, '_>,
    data: &Tensor,
    stride: i64,
    classes: u32,
    target: &Tensor,
) -> Result<Tensor> {
    let component = Component {
        extent: classes,
        stride: index::stride(stride)?,
    };
    cx.b.take(data, target, 0, vec![component], u64::from(classes))
}
