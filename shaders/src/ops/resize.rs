//! Resampling, as reads at places that the shapes decide, and their weighted sums.

use super::{Cx, Result, index, invalid, unsupported};
use crate::plan::{MapOp, Tensor, count};

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    match cx.node.op.as_str() {
        "Resize" if cx.node.version >= 11 => Ok(Some(vec![resize(cx)?])),
        _ => Ok(None),
    }
}

fn resize(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let attrs = &cx.node.attrs;
    if attrs.has("axes") || attrs.int("antialias", 0) != 0 {
        return unsupported("axes or antialias");
    }
    if attrs.str("keep_aspect_ratio_policy", "stretch") != "stretch" {
        return unsupported("keep_aspect_ratio_policy");
    }
    let mode = attrs.str("mode", "nearest").to_owned();
    let place = attrs
        .str("coordinate_transformation_mode", "half_pixel")
        .to_owned();
    let rounding = attrs.str("nearest_mode", "round_prefer_floor").to_owned();
    let scales = cx.optional(2).filter(|s| s.len() > 0);
    let sizes = cx.optional(3).filter(|s| s.len() > 0);
    let (scales, extents): (Vec<f32>, Vec<u32>) = match (scales, sizes) {
        (Some(scales), None) => {
            let Some(scales) = scales.floats() else {
                return unsupported("scales that depend on data");
            };
            if scales.len() != x.rank() || scales.iter().any(|s| !(*s > 0.0 && *s < 1e6)) {
                return invalid(format!("scales {scales:?}"));
            }
            let extents = scales
                .iter()
                .zip(&x.dims)
                .map(|(s, &d)| (f64::from(*s) * f64::from(d)).floor() as u32)
                .collect();
            (scales, extents)
        }
        (None, Some(_)) => {
            let sizes = super::shape::dims_of(&cx.must_know(3)?)?;
            if sizes.len() != x.rank() {
                return invalid("one size per axis is needed");
            }
            let scales = sizes
                .iter()
                .zip(&x.dims)
                .map(|(&s, &d)| s as f32 / d as f32)
                .collect();
            (scales, sizes)
        }
        _ => return invalid("either scales or sizes are needed"),
    };
    if count(&extents) > cx.b.limits.elements_max || count(&extents) == 0 {
        return invalid("extents are out of range");
    }
    let mut out = x.clone();
    for axis in 0..x.rank() {
        let (from, to) = (x.dims[axis], extents[axis]);
        if from == to && scales[axis] == 1.0 {
            continue;
        }
        let at: Vec<f32> = (0..to)
            .map(|i| source(&place, i, from, to, scales[axis]))
            .collect::<Result<_>>()?;
        let last = i64::from(from) - 1;
        out = match mode.as_str() {
            "nearest" => {
                let near = at
                    .iter()
                    .map(|&p| nearest(&rounding, p).map(|i| i.clamp(0, last)))
                    .collect::<Result<Vec<_>>>()?;
                picked(cx, &out, axis, &near)?
            }
            "linear" => {
                let low: Vec<i64> = at.iter().map(|p| p.floor() as i64).collect();
                let weights: Vec<f32> = at.iter().map(|p| p - p.floor()).collect();
                let left: Vec<i64> = low.iter().map(|l| (*l).clamp(0, last)).collect();
                let right: Vec<i64> = low.iter().map(|l| (l + 1).clamp(0, last)).collect();
                let (a, b) = (
                    picked(cx, &out, axis, &left)?,
                    picked(cx, &out, axis, &right)?,
                );
                let mut dims = vec![1; a.rank() - axis];
                dims[0] = to;
                let other: Vec<f32> = weights.iter().map(|w| 1.0 - w).collect();
                let weight = cx.const_f32(&dims, &weights);
                let other = cx.const_f32(&dims, &other);
                let shape = a.dims.clone();
                cx.b.map(a.element, &shape, &[&a, &b, &other, &weight], |p, x| {
                    let left = p.f32(MapOp::Mul, &[x[0], x[2]]);
                    let right = p.f32(MapOp::Mul, &[x[1], x[3]]);
                    p.f32(MapOp::Add, &[left, right])
                })?
            }
            other => return unsupported(format!("mode {other:?}")),
        };
    }
    Ok(out)
}

fn picked(cx: &mut Cx<'_, '_>, x: &Tensor, axis: usize, places: &[i64]) -> Result<Tensor> {
    let index = cx.const_i64(&[places.len() as u32], places);
    index::gather(cx, x, &index, axis)
}

/// Where output position `i` lies in the input.
fn source(place: &str, i: u32, from: u32, to: u32, scale: f32) -> Result<f32> {
    let x = i as f32;
    Ok(match place {
        "half_pixel" => (x + 0.5) / scale - 0.5,
        "half_pixel_symmetric" => {
            let adjusted = to as f32 / (scale * from as f32);
            let centre = from as f32 / 2.0;
            centre * (1.0 - adjusted) + (x + 0.5) / scale - 0.5
        }
        "pytorch_half_pixel" if to > 1 => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => 0.0,
        "asymmetric" => x / scale,
        "align_corners" if to > 1 => x * (from as f32 - 1.0) / (to as f32 - 1.0),
        "align_corners" => 0.0,
        other => return unsupported(format!("coordinate_transformation_mode {other:?}")),
    })
}

fn nearest(rounding: &str, place: f32) -> Result<i64> {
    Ok(match rounding {
        "round_prefer_floor" => (place - 0.5).ceil() as i64,
        "round_prefer_ceil" => (place + 0.5).floor() as i64,
        "floor" => place.floor() as i64,
        "ceil" => place.ceil() as i64,
        other => return invalid(format!("nearest_mode {other:?}")),
    })
}
