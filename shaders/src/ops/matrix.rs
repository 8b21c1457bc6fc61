//! Determinants, by elimination with the largest pivot of each column, the first of equals.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid};
use crate::plan::{Arg, Component, Kind, MapOp, ReduceOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

/// Largest matrix. Each of its columns takes about ten steps.
const ROWS_MAX: u32 = 64;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    match cx.node.op.as_str() {
        "Det" => Ok(Some(vec![det(cx)?])),
        _ => Ok(None),
    }
}

fn det(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let &[ref outer @ .., rows, columns] = &x.dims[..] else {
        return invalid("a matrix is needed");
    };
    if rows != columns || rows == 0 {
        return invalid(format!("{:?} is not square", x.dims));
    }
    if rows > ROWS_MAX {
        return Err(crate::plan::Refuse::Limit {
            what: "rows of a matrix with a determinant",
            found: u64::from(rows),
            limit: u64::from(ROWS_MAX),
        });
    }
    let outer = outer.to_vec();
    let matrices = outer.iter().product();
    let mut rest = reshaped(cx, &x, &[matrices, rows, rows])?;
    let mut product: Option<Tensor> = None;
    for left in (1..=rows).rev() {
        let (pivot, next) = if left == 1 {
            (rest.clone(), None)
        } else {
            let (pivot, next) = eliminated(cx, &rest)?;
            (pivot, Some(next))
        };
        product = Some(match product {
            None => pivot,
            Some(product) => cx.b.op(MapOp::Mul, &[&product, &pivot])?,
        });
        match next {
            Some(next) => rest = next,
            None => break,
        }
    }
    let Some(product) = product else {
        return invalid("the matrix is empty");
    };
    let out = reshaped(cx, &product, &outer)?;
    elementwise::cast(cx, &out, x.element)
}

/// The pivot `[matrices, 1, 1]` of the first column, with the sign of the exchange that brought it up, and what is left
/// of the other rows and columns.
fn eliminated(cx: &mut Cx<'_, '_>, x: &Tensor) -> Result<(Tensor, Tensor)> {
    let (matrices, rows) = (x.dims[0], x.dims[1]);
    let first = x.sliced(2, 0, 1, 1);
    let size = cx.b.op(MapOp::Abs, &[&first])?;
    let size = reshaped(cx, &size, &[matrices, rows])?;
    let best = cx.b.reduce(ReduceOp::ArgMax, &size, 1)?;
    let best = reshaped(cx, &best, &[matrices, 1, 1])?;
    // The best row goes up, and the first goes where that was.
    let numbers: Vec<i64> = (0..i64::from(rows)).collect();
    let numbers = cx.const_i64(&[rows, 1], &numbers);
    let order = cx.b.zip(ElementType::I64, &[&numbers, &best], |p, a| {
        let is_first = p.op(MapOp::Equal, Kind::I64, &[a[0], Arg::Imm(0)]);
        let is_best = p.op(MapOp::Equal, Kind::I64, &[a[0], a[1]]);
        let other = p.op(MapOp::Select, Kind::I64, &[is_best, Arg::Imm(0), a[0]]);
        p.op(MapOp::Select, Kind::I64, &[is_first, a[1], other])
    })?;
    let component = Component {
        extent: rows,
        stride: index::stride(x.strides[1])?,
    };
    let view = x.viewed(x.dims.clone(), vec![x.strides[0], 0, x.strides[2]]);
    let order = order.broadcast(&x.dims)?;
    let reach = u64::from(rows);
    let turned = cx.b.take(&view, &order, 0, vec![component], reach)?;
    let corner = turned.sliced(1, 0, 1, 1).sliced(2, 0, 1, 1);
    let pivot = cx.b.zip(ElementType::F32, &[&corner, &best], |p, a| {
        let stayed = p.op(MapOp::Equal, Kind::I64, &[a[1], Arg::Imm(0)]);
        let negative = p.f32(MapOp::Neg, &[a[0]]);
        p.f32(MapOp::Select, &[stayed, a[0], negative])
    })?;
    // A column of zeros leaves the rest as it is: the product is zero.
    let side = turned.sliced(1, 1, 1, rows - 1).sliced(2, 0, 1, 1);
    let factor = cx.b.zip(ElementType::F32, &[&side, &corner], |p, a| {
        let none = p.op(MapOp::Equal, Kind::F32, &[a[1], imm(0.0)]);
        let ratio = p.f32(MapOp::Div, &[a[0], a[1]]);
        p.f32(MapOp::Select, &[none, imm(0.0), ratio])
    })?;
    let top = turned.sliced(1, 0, 1, 1).sliced(2, 1, 1, rows - 1);
    let below = turned.sliced(1, 1, 1, rows - 1).sliced(2, 1, 1, rows - 1);
    let dims = below.dims.clone();
    let next =
        cx.b.map(ElementType::F32, &dims, &[&below, &factor, &top], |p, a| {
            let part = p.f32(MapOp::Mul, &[a[1], a[2]]);
            p.f32(MapOp::Sub, &[a[0], part])
        })?;
    Ok((pivot, next))
}
