//! Element-wise operators.

use super::shape::reshaped;
use super::{Cx, Result, invalid, resolve_axis, unsupported};
use crate::graph::kind_of;
use crate::onnx::{FLOAT16, held};
use crate::plan::{Arg, Kind, MapOp, Program, Tensor, imm};
use penstock_rules::tensor::ElementType;

/// One float operation with one argument.
fn unary(name: &str) -> Option<MapOp> {
    Some(match name {
        "Abs" => MapOp::Abs,
        "Neg" => MapOp::Neg,
        "Exp" => MapOp::Exp,
        "Log" => MapOp::Log,
        "Sqrt" => MapOp::Sqrt,
        "Floor" => MapOp::Floor,
        "Ceil" => MapOp::Ceil,
        "Round" => MapOp::Round,
        "Sign" => MapOp::Sign,
        "Tanh" => MapOp::Tanh,
        "Sigmoid" => MapOp::Sigmoid,
        "Erf" => MapOp::Erf,
        "Sin" => MapOp::Sin,
        "Cos" => MapOp::Cos,
        "Softplus" => MapOp::Softplus,
        "IsNaN" => MapOp::IsNan,
        _ => return None,
    })
}

/// Operations of two arguments, with whether they change places.
fn binary(name: &str) -> Option<(MapOp, bool)> {
    Some(match name {
        "Add" => (MapOp::Add, false),
        "Sub" => (MapOp::Sub, false),
        "Mul" => (MapOp::Mul, false),
        "Div" => (MapOp::Div, false),
        "Equal" => (MapOp::Equal, false),
        "Less" => (MapOp::Less, false),
        "Greater" => (MapOp::Less, true),
        "LessOrEqual" => (MapOp::LessEqual, false),
        "GreaterOrEqual" => (MapOp::LessEqual, true),
        "And" | "BitwiseAnd" => (MapOp::And, false),
        "Or" | "BitwiseOr" => (MapOp::Or, false),
        "Xor" | "BitwiseXor" => (MapOp::Xor, false),
        _ => return None,
    })
}

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let name = cx.node.op.as_str();
    if let Some(op) = unary(name) {
        let x = cx.input(0)?;
        let float_only = !matches!(op, MapOp::Abs | MapOp::Neg | MapOp::Sign);
        if float_only && x.kind() != Kind::F32 {
            return invalid("input 0 must hold floats");
        }
        if x.kind() == Kind::U32 && op != MapOp::Sign {
            // Absolute values of unsigned numbers are themselves; ONNX has no negation of them.
            return Ok(Some(vec![x]));
        }
        return Ok(Some(vec![cx.b.op(op, &[&x])?]));
    }
    if let Some((op, swap)) = binary(name) {
        let (a, b) = (cx.input(0)?, cx.input(1)?);
        let b = aligned(cx, &a, &b)?;
        same_type(&a, &b)?;
        let (a, b) = if swap { (b, a) } else { (a, b) };
        return Ok(Some(vec![cx.b.op(op, &[&a, &b])?]));
    }
    activation(cx)
}

/// Before version 7 the second operand's axes stand at the attribute `axis` of the first.
fn aligned(cx: &mut Cx<'_, '_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let attrs = &cx.node.attrs;
    if cx.node.version >= 7 || attrs.int("broadcast", 0) == 0 || !attrs.has("axis") {
        return Ok(b.clone());
    }
    let axis = resolve_axis(attrs.int("axis", 0), a.rank())?;
    let Some(behind) = a.rank().checked_sub(axis + b.rank()) else {
        return invalid(format!("{:?} at axis {axis} of {:?}", b.dims, a.dims));
    };
    let mut dims = b.dims.clone();
    dims.extend(vec![1; behind]);
    reshaped(cx, b, &dims)
}

fn same_type(a: &Tensor, b: &Tensor) -> Result<()> {
    if a.element == b.element {
        Ok(())
    } else {
        invalid(format!("types {:?} and {:?} differ", a.element, b.element))
    }
}

/// A program on one float tensor.
fn on_floats(
    cx: &mut Cx<'_, '_>,
    body: impl FnOnce(&mut Program, Arg) -> Arg,
) -> Result<Option<Vec<Tensor>>> {
    let x = cx.floats(0)?;
    let out =
        cx.b.map(x.element, &x.dims, &[&x], |p, args| body(p, args[0]))?;
    Ok(Some(vec![out]))
}

fn activation(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    use MapOp::{Abs, Add, Div, Exp, Less, Max, Mul, Select, Sub};
    let attrs = &cx.node.attrs;
    let float = |name: &str, default: f32| imm(attrs.float(name, default));
    match cx.node.op.as_str() {
        "Relu" => {
            let x = cx.input(0)?;
            let kind = x.kind();
            let out = cx.b.map(x.element, &x.dims, &[&x], |p, a| {
                p.op(Max, kind, &[a[0], Arg::Imm(0)])
            })?;
            Ok(Some(vec![out]))
        }
        "Reciprocal" => on_floats(cx, |p, x| p.f32(Div, &[imm(1.0), x])),
        "LeakyRelu" => {
            let alpha = float("alpha", 0.01);
            on_floats(cx, |p, x| {
                let low = p.f32(Mul, &[alpha, x]);
                below_zero(p, x, low, x)
            })
        }
        "Elu" => {
            let alpha = float("alpha", 1.0);
            on_floats(cx, |p, x| {
                let low = exponential(p, x, alpha);
                below_zero(p, x, low, x)
            })
        }
        "Selu" => {
            let alpha = float("alpha", 1.673_263_2);
            let gamma = float("gamma", 1.050_701);
            on_floats(cx, |p, x| {
                let low = exponential(p, x, alpha);
                let both = below_zero(p, x, low, x);
                p.f32(Mul, &[gamma, both])
            })
        }
        "Celu" => {
            let alpha = float("alpha", 1.0);
            on_floats(cx, |p, x| {
                let scaled = p.f32(Div, &[x, alpha]);
                let low = exponential(p, scaled, alpha);
                below_zero(p, x, low, x)
            })
        }
        "ThresholdedRelu" => {
            let alpha = float("alpha", 1.0);
            on_floats(cx, |p, x| {
                let above = p.f32(Less, &[alpha, x]);
                p.f32(Select, &[above, x, imm(0.0)])
            })
        }
        "HardSigmoid" => {
            let (alpha, beta) = (float("alpha", 0.2), float("beta", 0.5));
            on_floats(cx, |p, x| hard_sigmoid(p, x, alpha, beta))
        }
        "HardSwish" => on_floats(cx, |p, x| {
            let gate = hard_sigmoid(p, x, imm(1.0 / 6.0), imm(0.5));
            p.f32(Mul, &[x, gate])
        }),
        "Softsign" => on_floats(cx, |p, x| {
            let size = p.f32(Abs, &[x]);
            let below = p.f32(Add, &[imm(1.0), size]);
            p.f32(Div, &[x, below])
        }),
        "Mish" => on_floats(cx, |p, x| {
            let soft = p.f32(MapOp::Softplus, &[x]);
            let gate = p.f32(MapOp::Tanh, &[soft]);
            p.f32(Mul, &[x, gate])
        }),
        "Gelu" => {
            let tanh = attrs.str("approximate", "none") == "tanh";
            on_floats(cx, |p, x| gelu(p, x, tanh))
        }
        "Shrink" => {
            let (bias, lambda) = (attrs.float("bias", 0.0), attrs.float("lambd", 0.5));
            on_floats(cx, |p, x| {
                let low = p.f32(Add, &[x, imm(bias)]);
                let high = p.f32(Sub, &[x, imm(bias)]);
                let is_low = p.f32(Less, &[x, imm(-lambda)]);
                let is_high = p.f32(Less, &[imm(lambda), x]);
                let rest = p.f32(Select, &[is_high, high, imm(0.0)]);
                p.f32(Select, &[is_low, low, rest])
            })
        }
        "Tan" => on_floats(cx, |p, x| {
            let (sin, cos) = (p.f32(MapOp::Sin, &[x]), p.f32(MapOp::Cos, &[x]));
            p.f32(Div, &[sin, cos])
        }),
        "Sinh" | "Cosh" => {
            let op = if cx.node.op == "Sinh" { Sub } else { Add };
            on_floats(cx, |p, x| {
                let up = p.f32(Exp, &[x]);
                let negative = p.f32(MapOp::Neg, &[x]);
                let down = p.f32(Exp, &[negative]);
                let both = p.f32(op, &[up, down]);
                p.f32(Mul, &[imm(0.5), both])
            })
        }
        "IsInf" => {
            let (down, up) = (
                attrs.int("detect_negative", 1) != 0,
                attrs.int("detect_positive", 1) != 0,
            );
            let x = cx.floats(0)?;
            let out = cx.b.map(ElementType::Bool, &x.dims, &[&x], |p, a| {
                let infinite = p.f32(MapOp::IsInf, &[a[0]]);
                let side = match (down, up) {
                    (true, true) => return infinite,
                    (true, false) => p.f32(Less, &[a[0], imm(0.0)]),
                    (false, true) => p.f32(Less, &[imm(0.0), a[0]]),
                    (false, false) => Arg::Imm(0),
                };
                p.op(MapOp::And, Kind::U32, &[infinite, side])
            })?;
            Ok(Some(vec![out]))
        }
        "Not" => {
            let x = cx.input(0)?;
            let out = cx.b.map(ElementType::Bool, &x.dims, &[&x], |p, a| {
                p.op(MapOp::Equal, Kind::U32, &[a[0], Arg::Imm(0)])
            })?;
            Ok(Some(vec![out]))
        }
        "BitwiseNot" => {
            let x = cx.input(0)?;
            let kind = x.kind();
            let out = cx.b.map(x.element, &x.dims, &[&x], |p, a| {
                p.op(MapOp::Xor, kind, &[a[0], Arg::Imm(u64::MAX)])
            })?;
            Ok(Some(vec![out]))
        }
        "BitShift" => {
            let op = match attrs.str("direction", "") {
                "LEFT" => MapOp::Shl,
                "RIGHT" => MapOp::Shr,
                other => return invalid(format!("direction {other:?}")),
            };
            let (a, b) = (cx.input(0)?, cx.input(1)?);
            same_type(&a, &b)?;
            if a.kind() != Kind::U32 {
                return unsupported("shifts of signed integers");
            }
            Ok(Some(vec![cx.b.op(op, &[&a, &b])?]))
        }
        "Pow" => {
            let (a, b) = (cx.input(0)?, cx.input(1)?);
            let b = aligned(cx, &a, &b)?;
            pow(cx, &a, &b).map(Some)
        }
        "Mod" => {
            let (a, b) = (cx.input(0)?, cx.input(1)?);
            same_type(&a, &b)?;
            let op = if attrs.int("fmod", 0) != 0 {
                MapOp::Rem
            } else {
                MapOp::Mod
            };
            if a.kind() == Kind::F32 && op == MapOp::Mod {
                return invalid("floats need fmod");
            }
            Ok(Some(vec![cx.b.op(op, &[&a, &b])?]))
        }
        "PRelu" => {
            let (x, mut slope) = (cx.floats(0)?, cx.floats(1)?);
            if cx.node.version < 7 && slope.rank() == 1 && x.rank() > 1 {
                // One slope per channel.
                let mut dims = slope.dims.clone();
                dims.extend(vec![1; x.rank() - 2]);
                slope = reshaped(cx, &slope, &dims)?;
            }
            let out = cx.b.map(x.element, &x.dims, &[&x, &slope], |p, a| {
                let low = p.f32(Mul, &[a[0], a[1]]);
                below_zero(p, a[0], low, a[0])
            })?;
            Ok(Some(vec![out]))
        }
        "Max" | "Min" | "Sum" | "Mean" => variadic(cx).map(Some),
        "Clip" => clip(cx).map(Some),
        "Where" => {
            let (c, a, b) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
            same_type(&a, &b)?;
            if c.element != ElementType::Bool {
                return invalid("the condition must hold booleans");
            }
            let kind = a.kind();
            let out =
                cx.b.zip(a.element, &[&c, &a, &b], |p, args| p.op(Select, kind, args))?;
            Ok(Some(vec![out]))
        }
        "Cast" => {
            let number = attrs.int("to", 0);
            let to = element(number)?;
            let x = cx.input(0)?;
            let out = cast(cx, &x, to)?;
            if number != i64::from(FLOAT16) {
                return Ok(Some(vec![out]));
            }
            // Half precision is held as binary32: what remains of the type is its rounding.
            Ok(Some(vec![cx.b.op(MapOp::ToHalf, &[&out])?]))
        }
        "CastLike" => {
            let (x, like) = (cx.input(0)?, cx.input(1)?);
            Ok(Some(vec![cast(cx, &x, like.element)?]))
        }
        "Identity" => Ok(Some(vec![cx.input(0)?])),
        "Dropout" => {
            let x = cx.input(0)?;
            if cx.known(2)?.is_some_and(|mode| mode.first() == Some(&1)) {
                return unsupported("training");
            }
            let mask = cx.b.filled(ElementType::Bool, &x.dims, 1)?;
            Ok(Some(vec![x, mask]))
        }
        _ => Ok(None),
    }
}

/// `low` where `x < 0`, else `high`.
fn below_zero(p: &mut Program, x: Arg, low: Arg, high: Arg) -> Arg {
    let negative = p.f32(MapOp::Less, &[x, imm(0.0)]);
    p.f32(MapOp::Select, &[negative, low, high])
}

/// `alpha * (exp(x) - 1)`.
fn exponential(p: &mut Program, x: Arg, alpha: Arg) -> Arg {
    let e = p.f32(MapOp::Exp, &[x]);
    let less_one = p.f32(MapOp::Sub, &[e, imm(1.0)]);
    p.f32(MapOp::Mul, &[alpha, less_one])
}

fn hard_sigmoid(p: &mut Program, x: Arg, alpha: Arg, beta: Arg) -> Arg {
    let scaled = p.f32(MapOp::Mul, &[alpha, x]);
    let moved = p.f32(MapOp::Add, &[scaled, beta]);
    let top = p.f32(MapOp::Min, &[moved, imm(1.0)]);
    p.f32(MapOp::Max, &[top, imm(0.0)])
}

/// `x / 2 * (1 + erf(x / sqrt 2))`, or its approximation by tanh.
fn gelu(p: &mut Program, x: Arg, tanh: bool) -> Arg {
    let inner = if tanh {
        let square = p.f32(MapOp::Mul, &[x, x]);
        let cube = p.f32(MapOp::Mul, &[square, x]);
        let third = p.f32(MapOp::Mul, &[imm(0.044_715), cube]);
        let sum = p.f32(MapOp::Add, &[x, third]);
        let scaled = p.f32(MapOp::Mul, &[imm(0.797_884_6), sum]);
        p.f32(MapOp::Tanh, &[scaled])
    } else {
        let scaled = p.f32(MapOp::Mul, &[x, imm(std::f32::consts::FRAC_1_SQRT_2)]);
        p.f32(MapOp::Erf, &[scaled])
    };
    let gate = p.f32(MapOp::Add, &[imm(1.0), inner]);
    let half = p.f32(MapOp::Mul, &[imm(0.5), x]);
    p.f32(MapOp::Mul, &[half, gate])
}

/// A power. A square is a product, which every exporter of variances counts on.
fn pow(cx: &mut Cx<'_, '_>, a: &Tensor, b: &Tensor) -> Result<Vec<Tensor>> {
    let exponent = cast(cx, b, ElementType::F32)?;
    let square = exponent
        .floats()
        .is_some_and(|v| v.len() == 1 && v[0] == 2.0);
    if square {
        return Ok(vec![cx.b.op(MapOp::Mul, &[a, a])?]);
    }
    let base = cast(cx, a, ElementType::F32)?;
    let out = cx.b.op(MapOp::Pow, &[&base, &exponent])?;
    Ok(vec![cast(cx, &out, a.element)?])
}

fn variadic(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let op = match cx.node.op.as_str() {
        "Max" => MapOp::Max,
        "Min" => MapOp::Min,
        _ => MapOp::Add,
    };
    let mut out = cx.input(0)?;
    for i in 1..cx.inputs.len() {
        let next = cx.input(i)?;
        same_type(&out, &next)?;
        out = cx.b.op(op, &[&out, &next])?;
    }
    if cx.node.op == "Mean" {
        out = cx.b.op_imm(MapOp::Div, &out, cx.inputs.len() as f32)?;
    }
    Ok(vec![out])
}

fn clip(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let mut out = cx.input(0)?;
    let bounds = if cx.node.version < 11 {
        let low = cx.node.attrs.float("min", f32::MIN);
        let high = cx.node.attrs.float("max", f32::MAX);
        [
            Some(cx.const_f32(&[], &[low])),
            Some(cx.const_f32(&[], &[high])),
        ]
    } else {
        [cx.optional(1), cx.optional(2)]
    };
    for (op, bound) in [MapOp::Max, MapOp::Min].into_iter().zip(bounds) {
        if let Some(bound) = bound {
            same_type(&out, &bound)?;
            out = cx.b.op(op, &[&out, &bound])?;
        }
    }
    Ok(vec![out])
}

/// The element type of an ONNX type number.
pub(super) fn element(number: i64) -> Result<ElementType> {
    i32::try_from(number)
        .ok()
        .and_then(held)
        .map_or_else(|| unsupported(format!("element type {number}")), Ok)
}

/// Converts to another element type.
pub(super) fn cast(cx: &mut Cx<'_, '_>, x: &Tensor, to: ElementType) -> Result<Tensor> {
    if x.element == to {
        return Ok(x.clone());
    }
    let from = x.kind();
    let Some(kind) = kind_of(to) else {
        return unsupported("casts to strings");
    };
    if to == ElementType::Bool {
        return cx.b.map(to, &x.dims, &[x], |p, a| {
            let equal = p.op(MapOp::Equal, from, &[a[0], Arg::Imm(0)]);
            p.op(MapOp::Equal, Kind::U32, &[equal, Arg::Imm(0)])
        });
    }
    if from == kind && widens(x.element, to) {
        // Another name for the same words.
        return Ok(Tensor {
            element: to,
            ..x.clone()
        });
    }
    // 8-bit integers wrap, so a float goes to the widest integer first.
    let narrow = matches!(to, ElementType::U8 | ElementType::I8);
    cx.b.map(to, &x.dims, &[x], |p, a| match kind {
        _ if from == kind => a[0],
        Kind::F32 => p.op(MapOp::ToF32, from, a),
        Kind::I64 => p.op(MapOp::ToI64, from, a),
        Kind::I32 => p.op(MapOp::ToI32, from, a),
        Kind::U32 if narrow && from == Kind::F32 => {
            let signed = p.op(MapOp::ToI32, from, a);
            p.op(MapOp::ToU32, Kind::I32, &[signed])
        }
        Kind::U32 => p.op(MapOp::ToU32, from, a),
    })
}

/// Whether every value of `from` is one of `to`, in the same words.
fn widens(from: ElementType, to: ElementType) -> bool {
    use ElementType as E;
    matches!(
        (from, to),
        (E::F32, E::F64)
            | (E::F64, E::F32)
            | (E::I8, E::I32)
            | (E::U8 | E::Bool, E::U32)
            | (E::Bool, E::U8)
    )
}
