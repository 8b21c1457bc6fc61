//! Operators that read at computed places.

use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, resolve_axis};
use crate::plan::{Arg, Component, Kind, MapOp, Tensor, count};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Gather" => {
            let (data, index) = (cx.input(0)?, cx.input(1)?);
            let axis = resolve_axis(cx.node.attrs.int("axis", 0), data.rank())?;
            gather(cx, &data, &index, axis)?
        }
        "GatherElements" => gather_elements(cx)?,
        "GatherND" => gather_nd(cx)?,
        "OneHot" => one_hot(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

/// Slices of `data` along `axis`, at `index`.
pub(super) fn gather(
    cx: &mut Cx<'_, '_>,
    data: &Tensor,
    index: &Tensor,
    axis: usize,
) -> Result<Tensor> {
    let extent = data.dims[axis];
    // One known index is a slice.
    if let Some(values) = index.integers().filter(|v| v.len() == 1) {
        let n = i64::from(extent);
        if !(-n..n).contains(&values[0]) {
            return invalid(format!("index {} is outside {extent}", values[0]));
        }
        let part = data.sliced(axis, values[0].rem_euclid(n), 1, 1);
        let mut dims = data.dims[..axis].to_vec();
        dims.extend(&index.dims);
        dims.extend(&data.dims[axis + 1..]);
        return reshaped(cx, &part, &dims);
    }
    let (left, right) = (&data.dims[..axis], &data.dims[axis + 1..]);
    let mut dims = left.to_vec();
    dims.extend(&index.dims);
    dims.extend(right);
    let mut data_strides = data.strides[..axis].to_vec();
    data_strides.extend(vec![0; index.rank()]);
    data_strides.extend(&data.strides[axis + 1..]);
    let mut index_strides = vec![0; left.len()];
    index_strides.extend(&index.strides);
    index_strides.extend(vec![0; right.len()]);
    let component = Component {
        extent,
        stride: stride(data.strides[axis])?,
    };
    let data_view = data.viewed(dims.clone(), data_strides);
    let index_view = index.viewed(dims, index_strides);
    cx.b.take(
        &data_view,
        &index_view,
        0,
        vec![component],
        u64::from(extent),
    )
}

/// A step of a view.
pub(super) fn stride(value: i64) -> Result<i32> {
    i32::try_from(value).map_or_else(|_| invalid("stride is out of range"), Ok)
}

fn gather_elements(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (data, index) = (cx.input(0)?, cx.input(1)?);
    let axis = resolve_axis(cx.node.attrs.int("axis", 0), data.rank())?;
    let fits = index.rank() == data.rank()
        && (0..data.rank()).all(|a| a == axis || index.dims[a] <= data.dims[a]);
    if !fits {
        return invalid(format!("{:?} at {:?}", data.dims, index.dims));
    }
    let component = Component {
        extent: data.dims[axis],
        stride: stride(data.strides[axis])?,
    };
    let mut strides = data.strides.clone();
    strides[axis] = 0;
    let view = data.viewed(index.dims.clone(), strides);
    let extent = u64::from(data.dims[axis]);
    cx.b.take(&view, &index, 0, vec![component], extent)
}

fn gather_nd(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (data, index) = (cx.input(0)?, cx.input(1)?);
    let batch = usize::try_from(cx.node.attrs.int("batch_dims", 0)).unwrap_or(usize::MAX);
    let Some((&parts, outer)) = index.dims.split_last() else {
        return invalid("indices need a dimension");
    };
    let parts = parts as usize;
    let fits = batch <= outer.len()
        && batch.saturating_add(parts) <= data.rank()
        && parts > 0
        && data.dims[..batch] == outer[..batch];
    if !fits {
        return invalid(format!("{:?} at {:?}", data.dims, index.dims));
    }
    let inner = batch + parts;
    let mut dims = outer.to_vec();
    dims.extend(&data.dims[inner..]);
    let mut data_strides = data.strides[..batch].to_vec();
    data_strides.extend(vec![0; outer.len() - batch]);
    data_strides.extend(&data.strides[inner..]);
    let mut index_strides = index.strides[..outer.len()].to_vec();
    index_strides.extend(vec![0; data.rank() - inner]);
    let components = (batch..inner)
        .map(|axis| {
            Ok(Component {
                extent: data.dims[axis],
                stride: stride(data.strides[axis])?,
            })
        })
        .collect::<Result<Vec<_>>>()?;
    let step = index.strides[index.rank() - 1];
    let reach = count(&data.dims[batch..inner]);
    let data_view = data.viewed(dims.clone(), data_strides);
    let index_view = index.viewed(dims, index_strides);
    cx.b.take(&data_view, &index_view, step, components, reach)
}

fn one_hot(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (index, values) = (cx.input(0)?, cx.input(2)?);
    let depth = cx.must_know(1)?;
    let &[depth] = &depth[..] else {
        return invalid("the depth must be one number");
    };
    let depth = u32::try_from(depth).map_or_else(|_| invalid("depth is out of range"), Ok)?;
    let rank = index.rank() + 1;
    let axis = resolve_axis(cx.node.attrs.int("axis", -1), rank)?;
    if values.dims != [2] {
        return invalid("two values are needed");
    }
    let index = elementwise::cast(cx, &index, ElementType::I64)?;
    let (mut dims, mut strides) = (index.dims.clone(), index.strides.clone());
    dims.insert(axis, 1);
    strides.insert(axis, 0);
    let index = index.viewed(dims.clone(), strides);
    let mut class_dims = vec![1; rank];
    class_dims[axis] = depth;
    let numbers: Vec<i64> = (0..i64::from(depth)).collect();
    let classes = cx.const_i64(&class_dims, &numbers);
    dims[axis] = depth;
    let off = values.sliced(0, 0, 1, 1);
    let on = values.sliced(0, 1, 1, 1);
    let kind = values.kind();
    cx.b.map(
        values.element,
        &dims,
        &[&index, &classes, &off, &on],
        |p, a| {
            // A negative class counts from the end.
            let wrapped = p.op(MapOp::Add, Kind::I64, &[a[0], Arg::Imm(u64::from(depth))]);
            let negative = p.op(MapOp::Less, Kind::I64, &[a[0], Arg::Imm(0)]);
            let class = p.op(MapOp::Select, Kind::I64, &[negative, wrapped, a[0]]);
            let hot = p.op(MapOp::Equal, Kind::I64, &[class, a[1]]);
            p.op(MapOp::Select, kind, &[hot, a[3], a[2]])
        },
    )
}
