//! Windows of signal processing: `a - b * cos(2 pi n / m) + c * cos(4 pi n / m)`.

use super::{Cx, Result, elementwise, invalid};
use crate::plan::{MapOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let [a, b, c] = match cx.node.op.as_str() {
        "HannWindow" => [0.5, 0.5, 0.0],
        "HammingWindow" => [0.543_478_25, 0.456_521_75, 0.0],
        "BlackmanWindow" => [0.42, 0.5, 0.08],
        _ => return Ok(None),
    };
    let &[size] = &cx.must_know(0)?[..] else {
        return invalid("the size must be one number");
    };
    if !(1..=1 << 20).contains(&size) {
        return invalid(format!("size {size}"));
    }
    let element = elementwise::element(cx.node.attrs.int("output_datatype", 1))?;
    let periodic = cx.node.attrs.int("periodic", 1) != 0;
    let period = if periodic { size } else { (size - 1).max(1) };
    let angles: Vec<f32> = (0..size)
        .map(|n| (std::f64::consts::TAU * n as f64 / period as f64) as f32)
        .collect();
    let angle = cx.const_f32(&[size as u32], &angles);
    let out = cx.b.map(ElementType::F32, &angle.dims, &[&angle], |p, x| {
        let once = p.f32(MapOp::Cos, &[x[0]]);
        let double = p.f32(MapOp::Add, &[x[0], x[0]]);
        let twice = p.f32(MapOp::Cos, &[double]);
        let first = p.f32(MapOp::Mul, &[imm(b), once]);
        let second = p.f32(MapOp::Mul, &[imm(c), twice]);
        let less = p.f32(MapOp::Sub, &[imm(a), first]);
        p.f32(MapOp::Add, &[less, second])
    })?;
    Ok(Some(vec![elementwise::cast(cx, &out, element)?]))
}
