//! Operators that add elements at the ends of a tensor, or cut them off.

use super::shape::{dim, dims_of, joined, reshaped};
use super::{Cx, Result, invalid, resolve_axis, unsupported};
use crate::graph::{Constant, kind_of};
use crate::plan::Tensor;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "Pad" => pad(cx)?,
        "CenterCropPad" => center(cx)?,
        _ => return Ok(None),
    };
    Ok(Some(vec![out]))
}

fn pad(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let old = cx.node.version < 11;
    let pads = if old {
        cx.node.attrs.ints("pads").map(<[i64]>::to_vec)
    } else {
        cx.known(1)?
    };
    let Some(pads) = pads else {
        return invalid("pads are missing");
    };
    let axes: Vec<usize> = match cx.known(3)? {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).collect(),
    };
    if pads.len() != 2 * axes.len() {
        return invalid("two pads per axis are needed");
    }
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (i, &axis) in axes.iter().enumerate() {
        before[axis] = pads[i];
        after[axis] = pads[axes.len() + i];
    }
    let value = if old {
        let value = cx.node.attrs.float("value", 0.0);
        Some(cx.const_f32(&[], &[value]))
    } else {
        cx.optional(2)
    };
    let mode = cx.node.attrs.str("mode", "constant").to_owned();
    padded(cx, &x, &before, &after, value.as_ref(), &mode)
}

/// Cut or padded with zeros to known extents, around the middle.
fn center(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.input(0)?;
    let extents = dims_of(&cx.must_know(1)?)?;
    let axes: Vec<usize> = match cx.node.attrs.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).collect(),
    };
    if axes.len() != extents.len() {
        return invalid("one extent per axis is needed");
    }
    let (mut before, mut after) = (vec![0; x.rank()], vec![0; x.rank()]);
    for (&axis, &extent) in axes.iter().zip(&extents) {
        let more = i64::from(extent) - i64::from(x.dims[axis]);
        // What is odd goes to the end, of a pad as of a cut.
        before[axis] = more / 2;
        after[axis] = more - more / 2;
    }
    padded(cx, &x, &before, &after, None, "constant")
}

/// A tensor with elements added (or, where a pad is negative, cut off) at its ends.
pub(super) fn padded(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    before: &[i64],
    after: &[i64],
    value: Option<&Tensor>,
    mode: &str,
) -> Result<Tensor> {
    let mut x = x.clone();
    let (mut before, mut after) = (before.to_vec(), after.to_vec());
    for axis in 0..x.rank() {
        let extent = i64::from(x.dims[axis]);
        let cut = [before[axis].min(0), after[axis].min(0)];
        let left = extent + cut[0] + cut[1];
        if left < 0 || left > extent {
            return invalid("pads cut more than there is");
        }
        x = x.sliced(axis, -cut[0], 1, left as u32);
        before[axis] = before[axis].max(0);
        after[axis] = after[axis].max(0);
    }
    if before.iter().chain(&after).all(|&p| p == 0) {
        return Ok(x);
    }
    if mode == "constant" {
        let dims = (0..x.rank())
            .map(|a| {
                dim(i64::from(x.dims[a])
                    .saturating_add(before[a])
                    .saturating_add(after[a]))
            })
            .collect::<Result<Vec<_>>>()?;
        let zero = cx.b.constant(Constant::new(
            x.element,
            vec![],
            vec![0; kind_of(x.element).map_or(1, |k| k.words() as usize)],
        ));
        let value = match value {
            Some(value) if value.len() == 1 => reshaped(cx, value, &[])?,
            Some(_) => return invalid("the pad value must be one element"),
            None => zero,
        };
        if value.element != x.element {
            return invalid("the pad value has another type");
        }
        let out = cx.b.map(x.element, &dims, &[&value], |_, a| a[0])?;
        let mut place = out.clone();
        for (axis, (&skipped, &extent)) in before.iter().zip(&x.dims).enumerate() {
            place = place.sliced(axis, skipped, 1, extent);
        }
        cx.b.copy_into(&x, &place)?;
        return Ok(out);
    }
    // The other modes repeat elements, axis after axis.
    for axis in 0..x.rank() {
        if before[axis] == 0 && after[axis] == 0 {
            continue;
        }
        let n = i64::from(x.dims[axis]);
        let source = |i: i64| match mode {
            "edge" => Some(i.clamp(0, n - 1)),
            "wrap" => Some(i.rem_euclid(n)),
            "reflect" if n == 1 => Some(0),
            "reflect" => {
                let period = 2 * (n - 1);
                let at = i.rem_euclid(period);
                Some(if at < n { at } else { period - at })
            }
            _ => None,
        };
        let total = n + before[axis] + after[axis];
        if n == 0 || total > i64::from(u32::MAX) || total as u64 > cx.b.limits.elements_max {
            return invalid("nothing to repeat, or too much");
        }
        let mut parts = vec![];
        for side in [-before[axis]..0, n..n + after[axis]] {
            for i in side {
                match source(i) {
                    Some(at) => parts.push(x.sliced(axis, at, 1, 1)),
                    None => return unsupported(format!("pad mode {mode:?}")),
                }
            }
            if parts.len() as i64 == before[axis] {
                parts.push(x.clone());
            }
        }
        x = joined(cx, &parts, axis)?;
    }
    Ok(x)
}
