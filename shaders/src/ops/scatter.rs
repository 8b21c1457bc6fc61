//! Writes at computed places, said as reads: each element of the result looks for the updates that name it. Of several
//! that name one place the last counts, or they are folded in their order, so that the result does not depend on how
//! the work is shared out.

use super::reduce::fold;
use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid, resolve_axis, unsupported};
use crate::plan::{Arg, Component, Kind, MapOp, ReduceOp, Tensor, count};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Scatter" | "ScatterElements" => elements(cx)?,
        "ScatterND" => nd(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// Indices as `I64`, negative ones counted from the end.
fn wrapped(cx: &mut Cx<'_, '_>, index: &Tensor, extent: u32) -> Result<Tensor> {
    let index = elementwise::cast(cx, index, ElementType::I64)?;
    cx.b.map(ElementType::I64, &index.dims, &[&index], |p, a| {
        let moved = p.op(MapOp::Add, Kind::I64, &[a[0], Arg::Imm(u64::from(extent))]);
        let negative = p.op(MapOp::Less, Kind::I64, &[a[0], Arg::Imm(0)]);
        p.op(MapOp::Select, Kind::I64, &[negative, moved, a[0]])
    })
}

/// What becomes of updates that name one place: `hits` and `updates` have them along the last axis, `old` has it as 1.
fn settled(cx: &mut Cx<'_, '_>, old: &Tensor, hits: &Tensor, updates: &Tensor) -> Result<Tensor> {
    let last = hits.rank() - 1;
    let kind = old.kind();
    let reduction = cx.node.attrs.str("reduction", "none").to_owned();
    let (op, of_two, neutral) = match reduction.as_str() {
        "none" => return latest(cx, old, hits, updates),
        "add" => (ReduceOp::Sum, MapOp::Add, 0),
        "mul" => (ReduceOp::Prod, MapOp::Mul, one(kind)),
        "max" => (ReduceOp::Max, MapOp::Max, least(kind)),
        "min" => (ReduceOp::Min, MapOp::Min, most(kind)),
        other => return unsupported(format!("reduction {other:?}")),
    };
    let dims = updates_dims(hits, updates)?;
    let taken = cx.b.map(old.element, &dims, &[hits, updates], |p, a| {
        p.op(MapOp::Select, kind, &[a[0], a[1], Arg::Imm(neutral)])
    })?;
    let folded = fold(cx, op, &taken, &[last])?;
    cx.b.op(of_two, &[old, &folded])
}

fn updates_dims(hits: &Tensor, updates: &Tensor) -> Result<Vec<u32>> {
    crate::plan::broadcast_dims(&[&hits.dims, &updates.dims])
}

pub(super) fn latest(
    cx: &mut Cx<'_, '_>,
    old: &Tensor,
    hits: &Tensor,
    updates: &Tensor,
) -> Result<Tensor> {
    let last = hits.rank() - 1;
    let any = fold(cx, ReduceOp::Max, hits, &[last])?;
    let winner = fold(cx, ReduceOp::ArgMaxLast, hits, &[last])?;
    // The update of the winner, for each place.
    let dims = old.dims.clone();
    let wide = winner.broadcast(&dims)?;
    let mut shape = dims.clone();
    shape[last] = updates.dims[last];
    let source = updates.broadcast(&shape)?;
    let component = Component {
        extent: source.dims[last],
        stride: index::stride(source.strides[last])?,
    };
    let reach = u64::from(component.extent);
    let mut strides = source.strides.clone();
    strides[last] = 0;
    let view = source.viewed(dims.clone(), strides);
    let new = cx.b.take(&view, &wide, 0, vec![component], reach)?;
    let kind = old.kind();
    cx.b.map(old.element, &dims, &[&any, &new, old], |p, a| {
        p.op(MapOp::Select, kind, a)
    })
}

fn one(kind: Kind) -> u64 {
    match kind {
        Kind::F32 => u64::from(1f32.to_bits()),
        _ => 1,
    }
}

fn least(kind: Kind) -> u64 {
    match kind {
        Kind::F32 => u64::from(f32::NEG_INFINITY.to_bits()),
        Kind::I32 => u64::from(i32::MIN as u32),
        Kind::U32 => 0,
        Kind::I64 => i64::MIN as u64,
    }
}

fn most(kind: Kind) -> u64 {
    match kind {
        Kind::F32 => u64::from(f32::INFINITY.to_bits()),
        Kind::I32 => u64::from(i32::MAX as u32),
        Kind::U32 => u64::from(u32::MAX),
        Kind::I64 => i64::MAX as u64,
    }
}

/// Numbers along one axis of `rank`.
fn numbers(cx: &mut Cx<'_, '_>, extent: u32, axis: usize, rank: usize) -> Tensor {
    let mut dims = vec![1; rank];
    dims[axis] = extent;
    let values: Vec<i64> = (0..i64::from(extent)).collect();
    cx.const_i64(&dims, &values)
}

fn elements(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (data, index, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let axis = resolve_axis(cx.node.attrs.int("axis", 0), data.rank())?;
    let fits = index.rank() == data.rank()
        && index.dims == updates.dims
        && updates.element == data.element
        && (0..data.rank()).all(|a| a == axis || index.dims[a] <= data.dims[a]);
    if !fits {
        return invalid(format!("{:?} at {:?}", data.dims, index.dims));
    }
    if index.len() == 0 {
        return Ok(data);
    }
    let extent = data.dims[axis];
    let index = wrapped(cx, &index, extent)?;
    // The part of the data that updates can reach; updates stand along a new last axis, which takes the place of `axis`.
    let mut part = data.clone();
    for (a, &reach) in index.dims.iter().enumerate() {
        if a != axis {
            part = part.sliced(a, 0, 1, reach);
        }
    }
    let column = |t: &Tensor| {
        let (mut dims, mut strides) = (t.dims.clone(), t.strides.clone());
        dims.push(dims[axis]);
        strides.push(strides[axis]);
        dims[axis] = 1;
        strides[axis] = 0;
        t.viewed(dims, strides)
    };
    let rank = data.rank() + 1;
    let places = numbers(cx, extent, axis, rank);
    let names = column(&index);
    let hits = cx.b.zip(ElementType::U32, &[&names, &places], |p, a| {
        p.op(MapOp::Equal, Kind::I64, a)
    })?;
    let (mut dims, mut strides) = (part.dims.clone(), part.strides.clone());
    dims.push(1);
    strides.push(0);
    let old = part.viewed(dims, strides);
    let new = settled(cx, &old, &hits, &column(&updates))?;
    let new = reshaped(cx, &new, &part.dims)?;
    if part.dims == data.dims {
        return Ok(new);
    }
    let out = cx.b.copied(&data)?;
    let mut place = out.clone();
    for (a, &reach) in part.dims.iter().enumerate() {
        place = place.sliced(a, 0, 1, reach);
    }
    cx.b.copy_into(&new, &place)?;
    Ok(out)
}

fn nd(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (data, index, updates) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let Some((&parts, outer)) = index.dims.split_last() else {
        return invalid("indices need a dimension");
    };
    let parts = parts as usize;
    if parts == 0 || parts > data.rank() || updates.element != data.element {
        return invalid(format!("{:?} at {:?}", data.dims, index.dims));
    }
    let mut expect = outer.to_vec();
    expect.extend(&data.dims[parts..]);
    if updates.dims != expect {
        return invalid(format!("updates {:?}, not {expect:?}", updates.dims));
    }
    let narrow = |n: u64| u32::try_from(n).map_or_else(|_| invalid("too many elements"), Ok);
    let names = narrow(count(outer))?;
    let places = narrow(count(&data.dims[..parts]))?;
    let slice = narrow(count(&data.dims[parts..]))?;
    if names == 0 || slice == 0 {
        return Ok(data);
    }
    // Each tuple of indices as one number.
    let index = reshaped(cx, &index, &[names, parts as u32])?;
    let mut number: Option<Tensor> = None;
    for (axis, &extent) in data.dims[..parts].iter().enumerate() {
        let part = index.sliced(1, axis as i64, 1, 1);
        let part = wrapped(cx, &part, extent)?;
        number = Some(match number {
            None => part,
            Some(before) => {
                cx.b.map(ElementType::I64, &part.dims, &[&before, &part], |p, a| {
                    let scaled = p.op(MapOp::Mul, Kind::I64, &[a[0], Arg::Imm(u64::from(extent))]);
                    p.op(MapOp::Add, Kind::I64, &[scaled, a[1]])
                })?
            }
        });
    }
    let Some(number) = number else {
        return invalid("indices are empty");
    };
    // Places, elements of a slice, names.
    let number = reshaped(cx, &number, &[1, 1, names])?;
    let rows = numbers(cx, places, 0, 3);
    let hits = cx.b.zip(ElementType::U32, &[&number, &rows], |p, a| {
        p.op(MapOp::Equal, Kind::I64, a)
    })?;
    let old = reshaped(cx, &data, &[places, slice, 1])?;
    let updates = reshaped(cx, &updates, &[1, names, slice])?.permuted(&[0, 2, 1]);
    let new = settled(cx, &old, &hits, &updates)?;
    reshaped(cx, &new, &data.dims)
}
