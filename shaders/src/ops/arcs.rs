//! Inverse trigonometric and hyperbolic functions, as compositions: their order of operations is their definition.

use super::{Cx, Result};
use crate::plan::{Arg, MapOp, Program, Tensor, imm};

/// `tan(pi / 8)`: below it nothing is reduced.
const TAN_EIGHTH: f32 = f32::from_bits(0x3ed4_13cd);
/// `tan(3 pi / 8)`: above it the inverse is taken.
const TAN_THREE_EIGHTHS: f32 = f32::from_bits(0x401a_827a);

/// `(atan(x) / x - 1) / x^2` over `x^2`, below [`TAN_EIGHTH`]; relative error of `atan` `2^-25`.
const ATAN: [f32; 4] = [
    f32::from_bits(0xbeaa_aa2c),
    f32::from_bits(0x3e4c_92f1),
    f32::from_bits(0xbe0e_2146),
    f32::from_bits(0x3da5_13c7),
];

/// Above this `x^2 + 1` is `x^2`, and the sum below it is `2x`.
const LARGE: f32 = 1e9;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let known = matches!(
        cx.node.op.as_str(),
        "Atan" | "Asin" | "Acos" | "Asinh" | "Acosh" | "Atanh"
    );
    if !known {
        return Ok(None);
    }
    let x = cx.floats(0)?;
    let out = match cx.node.op.as_str() {
        "Atan" => atan(cx, &x)?,
        "Asin" => {
            let tangent = on(cx, &x, |p, x| {
                let (below, above) = one_minus_plus(p, x);
                let product = p.f32(MapOp::Mul, &[below, above]);
                let root = p.f32(MapOp::Sqrt, &[product]);
                p.f32(MapOp::Div, &[x, root])
            })?;
            atan(cx, &tangent)?
        }
        "Acos" => {
            // Of half the angle: good near 1, too.
            let tangent = on(cx, &x, |p, x| {
                let (below, above) = one_minus_plus(p, x);
                let ratio = p.f32(MapOp::Div, &[below, above]);
                p.f32(MapOp::Sqrt, &[ratio])
            })?;
            let half = atan(cx, &tangent)?;
            cx.b.op(MapOp::Add, &[&half, &half])?
        }
        "Asinh" => {
            let magnitude = on(cx, &x, |p, x| {
                let a = p.f32(MapOp::Abs, &[x]);
                let square = p.f32(MapOp::Mul, &[a, a]);
                let more = p.f32(MapOp::Add, &[square, imm(1.0)]);
                let root = p.f32(MapOp::Sqrt, &[more]);
                let divisor = p.f32(MapOp::Add, &[root, imm(1.0)]);
                let rest = p.f32(MapOp::Div, &[square, divisor]);
                p.f32(MapOp::Add, &[a, rest])
            })?;
            let positive = log_of_one_plus(cx, &x, &magnitude)?;
            signed(cx, &positive, &x)?
        }
        "Acosh" => {
            let above = on(cx, &x, |p, x| {
                let t = p.f32(MapOp::Sub, &[x, imm(1.0)]);
                let s = p.f32(MapOp::Add, &[x, imm(1.0)]);
                let product = p.f32(MapOp::Mul, &[t, s]);
                let root = p.f32(MapOp::Sqrt, &[product]);
                p.f32(MapOp::Add, &[t, root])
            })?;
            log_of_one_plus(cx, &x, &above)?
        }
        _ => {
            let positive = on(cx, &x, |p, x| {
                let a = p.f32(MapOp::Abs, &[x]);
                let twice = p.f32(MapOp::Add, &[a, a]);
                let below = p.f32(MapOp::Sub, &[imm(1.0), a]);
                let u = p.f32(MapOp::Div, &[twice, below]);
                let log = log1p(p, u);
                let infinite = p.f32(MapOp::IsInf, &[u]);
                let log = p.f32(MapOp::Select, &[infinite, u, log]);
                p.f32(MapOp::Mul, &[imm(0.5), log])
            })?;
            signed(cx, &positive, &x)?
        }
    };
    Ok(Some(vec![out]))
}

fn on(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    body: impl FnOnce(&mut Program, Arg) -> Arg,
) -> Result<Tensor> {
    cx.b.map(x.element, &x.dims, &[x], |p, a| body(p, a[0]))
}

fn one_minus_plus(p: &mut Program, x: Arg) -> (Arg, Arg) {
    (
        p.f32(MapOp::Sub, &[imm(1.0), x]),
        p.f32(MapOp::Add, &[imm(1.0), x]),
    )
}

/// `magnitude` with the sign of `x`; zero where `x` is zero.
fn signed(cx: &mut Cx<'_, '_>, magnitude: &Tensor, x: &Tensor) -> Result<Tensor> {
    cx.b.map(x.element, &x.dims, &[magnitude, x], |p, a| {
        let sign = p.f32(MapOp::Sign, &[a[1]]);
        p.f32(MapOp::Mul, &[a[0], sign])
    })
}

/// `log(1 + u)`: what the addition loses is put right by the ratio of `u` to what was added.
fn log1p(p: &mut Program, u: Arg) -> Arg {
    let w = p.f32(MapOp::Add, &[imm(1.0), u]);
    let added = p.f32(MapOp::Sub, &[w, imm(1.0)]);
    let ratio = p.f32(MapOp::Div, &[u, added]);
    let log = p.f32(MapOp::Log, &[w]);
    let product = p.f32(MapOp::Mul, &[log, ratio]);
    let none = p.f32(MapOp::Equal, &[w, imm(1.0)]);
    p.f32(MapOp::Select, &[none, u, product])
}

/// `log(1 + u)`, and `log(2 |x|)` where `x` is too large to be squared.
fn log_of_one_plus(cx: &mut Cx<'_, '_>, x: &Tensor, u: &Tensor) -> Result<Tensor> {
    cx.b.map(x.element, &x.dims, &[x, u], |p, a| {
        let log = log1p(p, a[1]);
        let size = p.f32(MapOp::Abs, &[a[0]]);
        let large = p.f32(MapOp::Less, &[imm(LARGE), a[0]]);
        let larger = p.f32(MapOp::Less, &[a[0], imm(-LARGE)]);
        let either = p.op(MapOp::Or, crate::plan::Kind::U32, &[large, larger]);
        let of_size = p.f32(MapOp::Log, &[size]);
        let twice = p.f32(MapOp::Add, &[of_size, imm(std::f32::consts::LN_2)]);
        p.f32(MapOp::Select, &[either, twice, log])
    })
}

/// The angle of a tangent: reduced to `tan(pi / 8)`, then a polynomial.
fn atan(cx: &mut Cx<'_, '_>, x: &Tensor) -> Result<Tensor> {
    let reduced = on(cx, x, |p, x| {
        let a = p.f32(MapOp::Abs, &[x]);
        let inverse = p.f32(MapOp::Div, &[imm(-1.0), a]);
        let (below, above) = (
            p.f32(MapOp::Sub, &[a, imm(1.0)]),
            p.f32(MapOp::Add, &[a, imm(1.0)]),
        );
        let turned = p.f32(MapOp::Div, &[below, above]);
        let middle = p.f32(MapOp::Less, &[imm(TAN_EIGHTH), a]);
        let large = p.f32(MapOp::Less, &[imm(TAN_THREE_EIGHTHS), a]);
        let t = p.f32(MapOp::Select, &[middle, turned, a]);
        p.f32(MapOp::Select, &[large, inverse, t])
    })?;
    let angle = on(cx, &reduced, |p, t| {
        let z = p.f32(MapOp::Mul, &[t, t]);
        let mut value = imm(ATAN[3]);
        for coefficient in ATAN[..3].iter().rev() {
            let product = p.f32(MapOp::Mul, &[value, z]);
            value = p.f32(MapOp::Add, &[product, imm(*coefficient)]);
        }
        let product = p.f32(MapOp::Mul, &[value, z]);
        let cubic = p.f32(MapOp::Mul, &[product, t]);
        p.f32(MapOp::Add, &[t, cubic])
    })?;
    let magnitude = cx.b.map(x.element, &x.dims, &[x, &angle], |p, a| {
        let size = p.f32(MapOp::Abs, &[a[0]]);
        let middle = p.f32(MapOp::Less, &[imm(TAN_EIGHTH), size]);
        let large = p.f32(MapOp::Less, &[imm(TAN_THREE_EIGHTHS), size]);
        let quarter = imm(std::f32::consts::FRAC_PI_4);
        let turn = p.f32(MapOp::Select, &[middle, quarter, imm(0.0)]);
        let half = imm(std::f32::consts::FRAC_PI_2);
        let turn = p.f32(MapOp::Select, &[large, half, turn]);
        p.f32(MapOp::Add, &[turn, a[1]])
    })?;
    signed(cx, &magnitude, x)
}
