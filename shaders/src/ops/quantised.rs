//! Linear quantisation.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, resolve_axis, unsupported};
use crate::plan::{Kind, MapOp, ReduceOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    Ok(Some(match cx.node.op.as_str() {
        "QuantizeLinear" => vec![quantise(cx)?],
        "DequantizeLinear" => vec![dequantise(cx)?],
        "DynamicQuantizeLinear" => dynamic(cx)?,
        _ => return Ok(None),
    }))
}

/// Least and largest value of an 8-bit type.
fn range(element: ElementType) -> Result<(f32, f32)> {
    match element {
        ElementType::U8 => Ok((0.0, 255.0)),
        ElementType::I8 => Ok((-128.0, 127.0)),
        other => unsupported(format!("quantisation to {other:?}")),
    }
}

/// Scale and zero point, so that they broadcast against `x`.
fn parameter(cx: &mut Cx<'_, '_>, x: &Tensor, value: &Tensor) -> Result<Tensor> {
    if cx.node.attrs.int("block_size", 0) != 0 {
        return unsupported("blocked quantisation");
    }
    if value.len() == 1 {
        return reshaped(cx, value, &[]);
    }
    let axis = resolve_axis(cx.node.attrs.int("axis", 1), x.rank())?;
    if value.rank() != 1 || value.dims[0] != x.dims[axis] {
        return invalid("one scale per element of the axis is needed");
    }
    let mut dims = vec![1; x.rank() - axis];
    dims[0] = value.dims[0];
    reshaped(cx, value, &dims)
}

fn quantise(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, scale) = (cx.input(0)?, cx.floats(1)?);
    let x = elementwise::cast(cx, &x, ElementType::F32)?;
    let zero = cx.optional(2);
    let element = zero.as_ref().map_or(ElementType::U8, |z| z.element);
    let (least, most) = range(element)?;
    let scale = parameter(cx, &x, &scale)?;
    let zero = match zero {
        Some(zero) => {
            let zero = parameter(cx, &x, &zero)?;
            elementwise::cast(cx, &zero, ElementType::F32)?
        }
        None => cx.const_f32(&[], &[0.0]),
    };
    quantised(cx, &x, &scale, &zero, element, least, most)
}

fn quantised(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    scale: &Tensor,
    zero: &Tensor,
    element: ElementType,
    least: f32,
    most: f32,
) -> Result<Tensor> {
    let held =
        cx.b.map(ElementType::F32, &x.dims, &[x, scale, zero], |p, a| {
            let scaled = p.f32(MapOp::Div, &[a[0], a[1]]);
            let near = p.f32(MapOp::Round, &[scaled]);
            let moved = p.f32(MapOp::Add, &[near, a[2]]);
            let low = p.f32(MapOp::Max, &[moved, imm(least)]);
            p.f32(MapOp::Min, &[low, imm(most)])
        })?;
    elementwise::cast(cx, &held, element)
}

fn dequantise(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, scale) = (cx.input(0)?, cx.floats(1)?);
    if x.kind() == Kind::F32 {
        return invalid("input 0 must hold integers");
    }
    let scale = parameter(cx, &x, &scale)?;
    let wide = elementwise::cast(cx, &x, ElementType::I32)?;
    let moved = match cx.optional(2) {
        Some(zero) => {
            let zero = parameter(cx, &x, &zero)?;
            let zero = elementwise::cast(cx, &zero, ElementType::I32)?;
            cx.b.op(MapOp::Sub, &[&wide, &zero])?
        }
        None => wide,
    };
    let float = elementwise::cast(cx, &moved, ElementType::F32)?;
    cx.b.op(MapOp::Mul, &[&float, &scale])
}

fn dynamic(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let x = cx.floats(0)?;
    let rank = x.rank();
    // The range always holds zero.
    let low = cx.b.reduce(ReduceOp::Min, &x, rank)?;
    let low = cx.b.op_imm(MapOp::Min, &low, 0.0)?;
    let high = cx.b.reduce(ReduceOp::Max, &x, rank)?;
    let high = cx.b.op_imm(MapOp::Max, &high, 0.0)?;
    let scale = cx.b.zip(ElementType::F32, &[&high, &low], |p, a| {
        let span = p.f32(MapOp::Sub, a);
        p.f32(MapOp::Div, &[span, imm(255.0)])
    })?;
    let zero = cx.b.zip(ElementType::F32, &[&low, &scale], |p, a| {
        let ratio = p.f32(MapOp::Div, a);
        let negative = p.f32(MapOp::Sub, &[imm(0.0), ratio]);
        let low = p.f32(MapOp::Max, &[negative, imm(0.0)]);
        let held = p.f32(MapOp::Min, &[low, imm(255.0)]);
        p.f32(MapOp::Round, &[held])
    })?;
    let y = quantised(cx, &x, &scale, &zero, ElementType::U8, 0.0, 255.0)?;
    let zero = elementwise::cast(cx, &zero, ElementType::U8)?;
    Ok(vec![y, scale, zero])
}
