//! Linear quantisation, and contractions of 8-bit integers: sums of integers, so exact in every mode.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, linear, resolve_axis, unsupported};
use crate::plan::{Dequantised, Form, Kind, MapOp, Place, ReduceOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    Ok(Some(match cx.node.op.as_str() {
        "QuantizeLinear" => vec![quantise(cx)?],
        "DequantizeLinear" => vec![dequantise(cx)?],
        "DynamicQuantizeLinear" => dynamic(cx)?,
        "MatMulInteger" => vec![matmul_integer(cx)?],
        "ConvInteger" => vec![conv_integer(cx)?],
        "QLinearMatMul" => vec![qlinear_matmul(cx)?],
        "QLinearConv" => vec![qlinear_conv(cx)?],
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
    let block = cx.node.attrs.int("block_size", 0);
    if block != 0 {
        let axis = resolve_axis(cx.node.attrs.int("axis", 1), x.rank())?;
        let block = u32::try_from(block).unwrap_or(0);
        let fits =
            value.rank() == x.rank() && value.dims[axis].checked_mul(block) == Some(x.dims[axis]);
        if !fits {
            return unsupported("blocks that do not divide the axis");
        }
        // Each scale is repeated over its block.
        let (mut dims, mut strides) = (value.dims.clone(), value.strides.clone());
        dims.insert(axis + 1, block);
        strides.insert(axis + 1, 0);
        return reshaped(cx, &value.viewed(dims, strides), &x.dims);
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

/// 8-bit integers less their zero point, as `I32`. The zero point is one number, or one per index of `axis`.
fn whole(cx: &mut Cx<'_, '_>, x: &Tensor, zero: Option<&Tensor>, axis: usize) -> Result<Tensor> {
    if !matches!(x.element, ElementType::U8 | ElementType::I8) {
        return unsupported(format!("integer products of {:?}", x.element));
    }
    let several = zero.is_some_and(|z| z.len() != 1);
    if let Some(zero) = zero
        && several
        && (zero.rank() != 1 || axis >= x.rank() || zero.dims[0] != x.dims[axis])
    {
        return invalid("one zero point, or one per index of the axis, is needed");
    }
    if let Place::Const(constant) = &x.place
        && zero.is_none_or(Tensor::is_const)
    {
        let zeros = match zero.and_then(Tensor::integers) {
            Some(zeros) => zeros.iter().map(|&z| z as i32).collect(),
            None => vec![0],
        };
        let form = Form::less(x, constant, axis, zeros);
        let constant = constant.clone();
        let made = cx.b.access.formed(ElementType::I32, form, &constant);
        return Ok(Tensor::constant(&made));
    }
    let wide = elementwise::cast(cx, x, ElementType::I32)?;
    let Some(zero) = zero else {
        return Ok(wide);
    };
    let dims = if several {
        let mut dims = vec![1; x.rank() - axis];
        dims[0] = zero.dims[0];
        dims
    } else {
        vec![]
    };
    let zero = reshaped(cx, zero, &dims)?;
    let zero = elementwise::cast(cx, &zero, ElementType::I32)?;
    cx.b.op(MapOp::Sub, &[&wide, &zero])
}

/// In the mode `int8`: keeps the integers of a `DequantizeLinear`, for contractions of its result.
pub(super) fn remember(cx: &mut Cx<'_, '_>) -> Result<()> {
    let (x, scale, zero) = (cx.input(0)?, cx.floats(1)?, cx.optional(2));
    let blocked = cx.node.attrs.int("block_size", 0) != 0;
    if blocked || !matches!(x.element, ElementType::U8 | ElementType::I8) {
        return Ok(());
    }
    let axis = if scale.len() == 1 {
        0
    } else {
        resolve_axis(cx.node.attrs.int("axis", 1), x.rank())?
    };
    let whole = whole(cx, &x, zero.as_ref(), axis)?;
    let found = Dequantised { whole, scale, axis };
    cx.b.dequantised.insert(cx.key(), found);
    Ok(())
}

/// The integers of both first inputs, where they were dequantised and the left has one scale.
fn dequantised(cx: &Cx<'_, '_>) -> Option<(Dequantised, Dequantised)> {
    let of = |i: usize| {
        let id = cx.node.inputs.get(i).copied().flatten()?;
        cx.b.dequantised.get(&id).cloned()
    };
    let (a, b) = (of(0)?, of(1)?);
    (a.scale.len() == 1).then_some((a, b))
}

/// Sums times the product of both scales; the right one's stand in `dims`.
fn scaled(
    cx: &mut Cx<'_, '_>,
    sums: &Tensor,
    a: &Dequantised,
    b: &Dequantised,
    dims: &[u32],
) -> Result<Tensor> {
    let left = reshaped(cx, &a.scale, &[])?;
    let right = if b.scale.len() == 1 {
        reshaped(cx, &b.scale, &[])?
    } else {
        reshaped(cx, &b.scale, dims)?
    };
    cx.b.map(
        ElementType::F32,
        &sums.dims,
        &[sums, &left, &right],
        |p, x| {
            let scale = p.f32(MapOp::Mul, &[x[1], x[2]]);
            p.f32(MapOp::Mul, &[x[0], scale])
        },
    )
}

/// In the mode `int8`: a product of dequantised matrices as one of their integers, where scales allow it.
pub(super) fn matmul(cx: &mut Cx<'_, '_>) -> Result<Option<Tensor>> {
    let Some((a, b)) = dequantised(cx) else {
        return Ok(None);
    };
    let per_column = b.whole.rank() >= 2 && b.axis + 1 == b.whole.rank();
    if b.scale.len() != 1 && !per_column {
        return Ok(None);
    }
    let sums = linear::matmul_to(cx, ElementType::F32, &a.whole, &b.whole)?;
    let columns = b.scale.len() as u32;
    scaled(cx, &sums, &a, &b, &[columns]).map(Some)
}

/// As [`matmul`], for `Gemm` without its factors and its addend.
pub(super) fn gemm(cx: &mut Cx<'_, '_>) -> Result<Option<Tensor>> {
    let Some((mut a, mut b)) = dequantised(cx) else {
        return Ok(None);
    };
    for (side, name) in [(&mut a, "transA"), (&mut b, "transB")] {
        if cx.node.attrs.int(name, 0) != 0 {
            side.whole = side.whole.permuted(&[1, 0]);
            side.axis = 1 - side.axis.min(1);
        }
    }
    if b.scale.len() != 1 && b.axis != 1 {
        return Ok(None);
    }
    let sums = linear::matmul_to(cx, ElementType::F32, &a.whole, &b.whole)?;
    let columns = b.scale.len() as u32;
    scaled(cx, &sums, &a, &b, &[columns]).map(Some)
}

/// As [`matmul`], for `Conv` without its bias.
pub(super) fn conv(cx: &mut Cx<'_, '_>) -> Result<Option<Tensor>> {
    let Some((a, b)) = dequantised(cx) else {
        return Ok(None);
    };
    if b.scale.len() != 1 && b.axis != 0 {
        return Ok(None);
    }
    let sums = linear::conv(cx, ElementType::F32, &a.whole, &b.whole)?;
    let dims = per_channel(b.scale.len() as u32, sums.rank());
    scaled(cx, &sums, &a, &b, &dims).map(Some)
}

/// Dimensions of one value per channel, so that it broadcasts over `rank` dimensions.
fn per_channel(channels: u32, rank: usize) -> Vec<u32> {
    let mut dims = vec![1; rank - 1];
    dims[0] = channels;
    dims
}

/// Axis of the zero points of the left matrix: its rows, where there are several.
fn row_axis(x: &Tensor) -> usize {
    x.rank().saturating_sub(2)
}

fn matmul_integer(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (rows, columns) = (row_axis(&a), b.rank().saturating_sub(1));
    let a = whole(cx, &a, cx.optional(2).as_ref(), rows)?;
    let b = whole(cx, &b, cx.optional(3).as_ref(), columns)?;
    linear::matmul_to(cx, ElementType::I32, &a, &b)
}

fn conv_integer(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let x = whole(cx, &x, cx.optional(2).as_ref(), 0)?;
    let w = whole(cx, &w, cx.optional(3).as_ref(), 0)?;
    linear::conv(cx, ElementType::I32, &x, &w)
}

/// Sums to 8 bits: times `a_scale * b_scale / y_scale`, rounded, plus the zero point, held in range.
fn requantised(
    cx: &mut Cx<'_, '_>,
    sums: &Tensor,
    scales: [&Tensor; 3],
    zero: &Tensor,
) -> Result<Tensor> {
    let (least, most) = range(zero.element)?;
    let factor = cx.b.zip(ElementType::F32, &scales, |p, x| {
        let both = p.f32(MapOp::Mul, &[x[0], x[1]]);
        p.f32(MapOp::Div, &[both, x[2]])
    })?;
    let element = zero.element;
    let zero = elementwise::cast(cx, zero, ElementType::F32)?;
    let held = cx.b.map(
        ElementType::F32,
        &sums.dims,
        &[sums, &factor, &zero],
        |p, x| {
            let sum = p.op(MapOp::ToF32, Kind::I32, &[x[0]]);
            let scaled = p.f32(MapOp::Mul, &[sum, x[1]]);
            let near = p.f32(MapOp::Round, &[scaled]);
            let moved = p.f32(MapOp::Add, &[near, x[2]]);
            let low = p.f32(MapOp::Max, &[moved, imm(least)]);
            p.f32(MapOp::Min, &[low, imm(most)])
        },
    )?;
    elementwise::cast(cx, &held, element)
}

/// `QLinearMatMul`: inputs are a, its scale and zero point, b, its two, and the result's two.
fn qlinear_matmul(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (a, b) = (cx.input(0)?, cx.input(3)?);
    let (rows, columns) = (row_axis(&a), b.rank().saturating_sub(1));
    let aligned = |cx: &mut Cx<'_, '_>, value: Tensor, dims: [u32; 2]| {
        if value.len() == 1 {
            reshaped(cx, &value, &[])
        } else if value.rank() == 1 {
            reshaped(cx, &value, &dims)
        } else {
            unsupported("scales per matrix")
        }
    };
    let (a_scale, b_scale, y_scale) = (cx.floats(1)?, cx.floats(4)?, cx.floats(6)?);
    let (a_rows, y_rows) = (a_scale.len() as u32, y_scale.len() as u32);
    let b_columns = b_scale.len() as u32;
    let a_scale = aligned(cx, a_scale, [a_rows, 1])?;
    let b_scale = aligned(cx, b_scale, [1, b_columns])?;
    let y_scale = aligned(cx, y_scale, [y_rows, 1])?;
    let a = whole(cx, &a, cx.optional(2).as_ref(), rows)?;
    let b = whole(cx, &b, cx.optional(5).as_ref(), columns)?;
    let sums = linear::matmul_to(cx, ElementType::I32, &a, &b)?;
    let zero = cx.input(7)?;
    let zero_rows = zero.len() as u32;
    let zero = aligned(cx, zero, [zero_rows, 1])?;
    requantised(cx, &sums, [&a_scale, &b_scale, &y_scale], &zero)
}

/// `QLinearConv`: inputs are x, its scale and zero point, w, its two, the result's two, and a bias in units of the sums.
fn qlinear_conv(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, w) = (cx.input(0)?, cx.input(3)?);
    let x = whole(cx, &x, cx.optional(2).as_ref(), 0)?;
    let w = whole(cx, &w, cx.optional(5).as_ref(), 0)?;
    let mut sums = linear::conv(cx, ElementType::I32, &x, &w)?;
    if let Some(bias) = cx.optional(8) {
        if bias.element != ElementType::I32 || bias.len() != u64::from(sums.dims[1]) {
            return invalid("one integer of bias per channel is needed");
        }
        let dims = per_channel(sums.dims[1], sums.rank());
        let bias = reshaped(cx, &bias, &dims)?;
        sums = cx.b.op(MapOp::Add, &[&sums, &bias])?;
    }
    let (x_scale, w_scale, y_scale) = (cx.floats(1)?, cx.floats(4)?, cx.floats(6)?);
    let (x_scale, y_scale) = (reshaped(cx, &x_scale, &[])?, reshaped(cx, &y_scale, &[])?);
    let dims = match w_scale.len() {
        1 => vec![],
        channels => per_channel(channels as u32, sums.rank()),
    };
    let w_scale = reshaped(cx, &w_scale, &dims)?;
    let zero = cx.input(7)?;
    let zero = reshaped(cx, &zero, &[])?;
    requantised(cx, &sums, [&x_scale, &w_scale, &y_scale], &zero)
}
