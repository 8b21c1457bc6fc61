//! Operators that make elements of their own: constants, ranges, and what depends on an element's row and column.

use super::shape::{dims_of, reshaped};
use super::{Cx, Result, elementwise, invalid, unsupported};
use crate::graph::Constant;
use crate::plan::{Arg, Kind, MapOp, Tensor, count};
use penstock_rules::tensor::ElementType;
use std::sync::Arc;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Constant" => constant(cx)?,
        "ConstantOfShape" => constant_of_shape(cx)?,
        "Range" => range(cx)?,
        "EyeLike" => eye_like(cx)?,
        "Trilu" => trilu(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

fn constant(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let attrs = &cx.node.attrs;
    if let Some(value) = attrs.tensor("value") {
        return Ok(Tensor::constant(value));
    }
    let one = |c: Constant| Ok(c);
    let made = if attrs.has("value_float") {
        one(Constant::from_f32(
            vec![],
            &[attrs.float("value_float", 0.0)],
        ))
    } else if attrs.has("value_int") {
        one(Constant::from_i64(vec![], &[attrs.int("value_int", 0)]))
    } else if let Some(values) = attrs.floats("value_floats") {
        one(Constant::from_f32(vec![values.len() as u32], values))
    } else if let Some(values) = attrs.ints("value_ints") {
        one(Constant::from_i64(vec![values.len() as u32], values))
    } else {
        unsupported("a constant of this type")
    }?;
    Ok(cx.b.constant(made))
}

fn constant_of_shape(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let dims = dims_of(&cx.must_know(0)?)?;
    let value = match cx.node.attrs.tensor("value") {
        Some(value) if value.len() == 1 => Tensor::constant(value),
        Some(_) => return invalid("the value must be one element"),
        None => cx.const_f32(&[1], &[0.0]),
    };
    if count(&dims) > cx.b.limits.elements_max {
        return invalid("too many elements");
    }
    reshaped(cx, &value, &[])?.broadcast(&dims)
}

fn range(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (start, limit, delta) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let Some(bits) = [&start, &limit, &delta]
        .iter()
        .map(|t| t.bits().filter(|b| b.len() == 1).map(|b| b[0]))
        .collect::<Option<Vec<u64>>>()
    else {
        return unsupported("a range that depends on data");
    };
    let most = cx.b.limits.elements_max;
    let made = if start.kind() == Kind::F32 {
        let v: Vec<f32> = bits.iter().map(|&b| f32::from_bits(b as u32)).collect();
        let steps = ((v[1] - v[0]) / v[2]).ceil().max(0.0);
        if !steps.is_finite() || steps as u64 > most {
            return invalid("the range has no end");
        }
        let values: Vec<f32> = (0..steps as u32).map(|i| v[0] + i as f32 * v[2]).collect();
        Constant::from_f32(vec![values.len() as u32], &values)
    } else {
        let v: Vec<i64> = [&start, &limit, &delta]
            .iter()
            .filter_map(|t| t.integers().map(|i| i[0]))
            .collect();
        let distance = i128::from(v[1]) - i128::from(v[0]);
        let step = i128::from(v[2]);
        if step == 0 {
            return invalid("a step of 0");
        }
        let steps = if (distance > 0) == (step > 0) {
            distance.unsigned_abs().div_ceil(step.unsigned_abs())
        } else {
            0
        };
        if steps > u128::from(most) {
            return invalid("the range is too long");
        }
        let values: Vec<i64> = (0..steps as i64).map(|i| v[0] + i * v[2]).collect();
        let wide = Tensor::constant(&Arc::new(Constant::from_i64(
            vec![values.len() as u32],
            &values,
        )));
        return elementwise::cast(cx, &wide, start.element);
    };
    Ok(cx.b.constant(made))
}

/// Numbers of the rows and of the columns of matrices in `x`, as constants that broadcast. Where rows are samples, a sample has another number in
/// another batch: then they follow from the shape.
fn row_and_column(cx: &mut Cx<'_, '_>, x: &Tensor, rows: u32, columns: u32) -> (Tensor, Tensor) {
    let numbers = |n: u32| (0..i64::from(n)).collect::<Vec<i64>>();
    let moving = x.rank() == 2 && !x.is_const();
    let row = Constant::from_i64(vec![rows, 1], &numbers(rows));
    let row = cx.b.constant(row.marked(moving));
    (row, cx.const_i64(&[1, columns], &numbers(columns)))
}

fn eye_like(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let &[rows, columns] = &x.dims[..] else {
        return invalid("a matrix is needed");
    };
    let element = match cx.node.attrs.int("dtype", 0) {
        0 => x.element,
        number => elementwise::element(number)?,
    };
    let offset = cx.node.attrs.int("k", 0);
    let (row, column) = row_and_column(cx, &x, rows, columns);
    let ones = cx.b.zip(ElementType::Bool, &[&row, &column], |p, a| {
        let moved = p.op(MapOp::Add, Kind::I64, &[a[0], Arg::Imm(offset as u64)]);
        p.op(MapOp::Equal, Kind::I64, &[moved, a[1]])
    })?;
    elementwise::cast(cx, &ones, element)
}

fn trilu(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let offset = cx.known(1)?.and_then(|k| k.first().copied()).unwrap_or(0);
    let upper = cx.node.attrs.int("upper", 1) != 0;
    let &[.., rows, columns] = &x.dims[..] else {
        return invalid("a matrix is needed");
    };
    let (row, column) = row_and_column(cx, &x, rows, columns);
    let kind = x.kind();
    let out = cx.b.map(x.element, &x.dims, &[&x, &row, &column], |p, a| {
        let moved = p.op(MapOp::Add, Kind::I64, &[a[1], Arg::Imm(offset as u64)]);
        let pair = if upper { [moved, a[2]] } else { [a[2], moved] };
        let inside = p.op(MapOp::LessEqual, Kind::I64, &pair);
        p.op(MapOp::Select, kind, &[inside, a[0], Arg::Imm(0)])
    })?;
    Ok(out)
}
