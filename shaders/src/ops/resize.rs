//! Resampling, as reads at places that the shapes decide, and their weighted sums. Places and weights are computed in
//! binary64 while the plan is made.

use super::{Cx, Result, index, invalid, resolve_axis, shape, unsupported};
use crate::plan::{MapOp, Tensor, count};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    match cx.node.op.as_str() {
        "Resize" | "Upsample" => Ok(Some(vec![resize(cx)?])),
        _ => Ok(None),
    }
}

/// How one axis is resampled.
struct Axis {
    from: u32,
    to: u32,
    scale: f64,
    /// Part of the input that is seen, from 0 to 1, for `tf_crop_and_resize`.
    crop: (f64, f64),
}

/// What the attributes say.
struct Rules {
    mode: String,
    place: String,
    rounding: String,
    cubic: f64,
    exclude_outside: bool,
    antialias: bool,
    extrapolation: f32,
}

fn rules(cx: &Cx<'_, '_>) -> Rules {
    let attrs = &cx.node.attrs;
    // Before version 11, positions were divided by the scale and rounded down.
    let old = cx.node.op == "Upsample" || cx.node.version < 11;
    let default = if old { "asymmetric" } else { "half_pixel" };
    let rounding = if old { "floor" } else { "round_prefer_floor" };
    Rules {
        mode: attrs.str("mode", "nearest").to_owned(),
        place: attrs
            .str("coordinate_transformation_mode", default)
            .to_owned(),
        rounding: attrs.str("nearest_mode", rounding).to_owned(),
        cubic: f64::from(attrs.float("cubic_coeff_a", -0.75)),
        exclude_outside: attrs.int("exclude_outside", 0) != 0,
        antialias: attrs.int("antialias", 0) != 0,
        extrapolation: attrs.float("extrapolation_value", 0.0),
    }
}

fn resize(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let rules = rules(cx);
    let axes = axes(cx, &x, &rules)?;
    let total: Vec<u32> = axes.iter().map(|a| a.to).collect();
    if count(&total) > cx.b.limits.elements_max || count(&total) == 0 {
        return invalid("extents are out of range");
    }
    let mut out = x.clone();
    for (number, axis) in axes.iter().enumerate() {
        if axis.from == axis.to && axis.scale == 1.0 && rules.place != "tf_crop_and_resize" {
            continue;
        }
        out = resampled(cx, &out, number, axis, &rules)?;
    }
    Ok(out)
}

/// Scales and extents of every axis.
fn axes(cx: &mut Cx<'_, '_>, x: &Tensor, rules: &Rules) -> Result<Vec<Axis>> {
    let upsample = cx.node.op == "Upsample" || cx.node.version < 11;
    let place = if upsample { 1 } else { 2 };
    let chosen: Vec<usize> = match cx.node.attrs.ints("axes") {
        Some(axes) => axes
            .iter()
            .map(|&a| resolve_axis(a, x.rank()))
            .collect::<Result<_>>()?,
        None => (0..x.rank()).collect(),
    };
    let scales = match cx.node.attrs.floats("scales") {
        Some(scales) => Some(scales.to_vec()),
        None => match cx.optional(place).filter(|s| s.len() > 0) {
            Some(scales) => match scales.floats() {
                Some(scales) => Some(scales),
                None => return unsupported(format!("input {place} depends on data")),
            },
            None => None,
        },
    };
    let sizes = match cx.optional(3).filter(|s| s.len() > 0 && !upsample) {
        Some(_) => Some(shape::dims_of(&cx.must_know(3)?)?),
        None => None,
    };
    let region = match cx.optional(1).filter(|s| s.len() > 0 && !upsample) {
        Some(region) if rules.place == "tf_crop_and_resize" => match region.floats() {
            Some(region) if region.len() == 2 * chosen.len() => region,
            Some(_) => return invalid("two ends per axis are needed"),
            None => return unsupported("input 1 depends on data"),
        },
        _ => [vec![0.0; chosen.len()], vec![1.0; chosen.len()]].concat(),
    };
    let mut out: Vec<Axis> = x
        .dims
        .iter()
        .map(|&d| Axis {
            from: d,
            to: d,
            scale: 1.0,
            crop: (0.0, 1.0),
        })
        .collect();
    match (scales, sizes) {
        (Some(scales), None) => {
            if scales.len() != chosen.len() || scales.iter().any(|s| !(*s > 0.0 && *s < 1e6)) {
                return invalid(format!("scales {scales:?}"));
            }
            for (i, &axis) in chosen.iter().enumerate() {
                let crop = (f64::from(region[i]), f64::from(region[chosen.len() + i]));
                let scale = f64::from(scales[i]);
                let extent = f64::from(x.dims[axis]) * (crop.1 - crop.0) * scale;
                out[axis].to = extent.floor() as u32;
                out[axis].scale = scale;
                out[axis].crop = crop;
            }
        }
        (None, Some(sizes)) => {
            if sizes.len() != chosen.len() {
                return invalid("one size per axis is needed");
            }
            let ratio = |i: usize| f64::from(sizes[i]) / f64::from(x.dims[chosen[i]]);
            let ratios = (0..sizes.len()).map(ratio);
            let policy = cx.node.attrs.str("keep_aspect_ratio_policy", "stretch");
            let common = match policy {
                "stretch" => None,
                "not_larger" => Some(ratios.fold(f64::INFINITY, f64::min)),
                "not_smaller" => Some(ratios.fold(0.0, f64::max)),
                other => return invalid(format!("keep_aspect_ratio_policy {other:?}")),
            };
            for (i, &axis) in chosen.iter().enumerate() {
                let from = f64::from(x.dims[axis]);
                (out[axis].to, out[axis].scale) = match common {
                    None => (sizes[i], ratio(i)),
                    Some(scale) => ((from * scale + 0.5).floor() as u32, scale),
                };
                out[axis].crop = (f64::from(region[i]), f64::from(region[chosen.len() + i]));
            }
        }
        _ => return invalid("either scales or sizes are needed"),
    }
    Ok(out)
}

/// Where output position `i` lies in the input.
fn source(place: &str, i: u32, axis: &Axis) -> Result<f64> {
    let x = f64::from(i);
    let (from, to, scale) = (f64::from(axis.from), f64::from(axis.to), axis.scale);
    Ok(match place {
        "half_pixel" => (x + 0.5) / scale - 0.5,
        "half_pixel_symmetric" => {
            let adjusted = to / (scale * from);
            let centre = from / 2.0;
            centre * (1.0 - adjusted) + (x + 0.5) / scale - 0.5
        }
        "pytorch_half_pixel" if axis.to > 1 => (x + 0.5) / scale - 0.5,
        "pytorch_half_pixel" => -0.5,
        "asymmetric" => x / scale,
        "align_corners" if axis.to > 1 => x * (from - 1.0) / (to - 1.0),
        "align_corners" => 0.0,
        "tf_crop_and_resize" => {
            let (start, end) = axis.crop;
            if axis.to > 1 {
                start * (from - 1.0) + x * (end - start) * (from - 1.0) / (to - 1.0)
            } else {
                0.5 * (start + end) * (from - 1.0)
            }
        }
        other => return unsupported(format!("coordinate_transformation_mode {other:?}")),
    })
}

fn nearest(rounding: &str, place: f64) -> Result<i64> {
    Ok(match rounding {
        "round_prefer_floor" => (place - 0.5).ceil() as i64,
        "round_prefer_ceil" => (place + 0.5).floor() as i64,
        "floor" => place.floor() as i64,
        "ceil" => place.ceil() as i64,
        other => return invalid(format!("nearest_mode {other:?}")),
    })
}

/// Weights of the elements around a place: the first element's number, and a weight for each from there on.
fn weights(rules: &Rules, place: f64, scale: f64) -> Result<(i64, Vec<f64>)> {
    // Where many elements become one, the kernel is as wide as they are.
    let stretch = if rules.antialias { scale.min(1.0) } else { 1.0 };
    let (reach, kernel): (f64, &dyn Fn(f64) -> f64) = match rules.mode.as_str() {
        "linear" => (1.0, &|d: f64| (1.0 - d).max(0.0)),
        "cubic" => (2.0, &|d: f64| cubic(rules.cubic, d)),
        other => return unsupported(format!("mode {other:?}")),
    };
    let first = (place - reach / stretch).floor() as i64 + 1;
    let last = (place + reach / stretch).ceil() as i64 - 1;
    // Beyond it nothing real happens.
    if last - first > 1 << 12 {
        return unsupported("this much antialiasing");
    }
    let values: Vec<f64> = (first..=last.max(first))
        .map(|i| kernel((place - i as f64).abs() * stretch))
        .collect();
    if !rules.antialias {
        return Ok((first, values));
    }
    let sum: f64 = values.iter().sum();
    Ok((first, values.iter().map(|v| v / sum).collect()))
}

fn cubic(a: f64, d: f64) -> f64 {
    if d <= 1.0 {
        ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0
    } else if d < 2.0 {
        ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a
    } else {
        0.0
    }
}

fn resampled(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    number: usize,
    axis: &Axis,
    rules: &Rules,
) -> Result<Tensor> {
    let places = (0..axis.to)
        .map(|i| source(&rules.place, i, axis))
        .collect::<Result<Vec<f64>>>()?;
    let last = i64::from(axis.from) - 1;
    let out = if rules.mode == "nearest" {
        let near = places
            .iter()
            .map(|&p| nearest(&rules.rounding, p).map(|i| i.clamp(0, last)))
            .collect::<Result<Vec<_>>>()?;
        picked(cx, x, number, &near)?
    } else {
        weighted(cx, x, number, axis, &places, rules)?
    };
    if rules.place != "tf_crop_and_resize" {
        return Ok(out);
    }
    // What lies outside the input has one value.
    let outside = |p: &f64| *p < 0.0 || *p > last as f64;
    if !places.iter().any(outside) {
        return Ok(out);
    }
    let inside: Vec<f32> = places
        .iter()
        .map(|p| if outside(p) { 0.0 } else { 1.0 })
        .collect();
    let dims = along(number, out.rank(), axis.to);
    let inside = cx.const_f32(&dims, &inside);
    let value = crate::plan::imm(rules.extrapolation);
    cx.b.map(x.element, &out.dims, &[&out, &inside], |p, a| {
        let hit = p.f32(MapOp::Equal, &[a[1], crate::plan::imm(1.0)]);
        p.f32(MapOp::Select, &[hit, a[0], value])
    })
}

fn along(axis: usize, rank: usize, extent: u32) -> Vec<u32> {
    let mut dims = vec![1; rank - axis];
    dims[0] = extent;
    dims
}

/// Sums of weighted elements, the first first.
fn weighted(
    cx: &mut Cx<'_, '_>,
    x: &Tensor,
    number: usize,
    axis: &Axis,
    places: &[f64],
    rules: &Rules,
) -> Result<Tensor> {
    let last = i64::from(axis.from) - 1;
    let mut taps = Vec::new();
    for &place in places {
        let (first, mut values) = weights(rules, place, axis.scale)?;
        let outside = |i: usize| !(0..=last).contains(&(first + i as i64));
        if rules.exclude_outside {
            for (i, value) in values.iter_mut().enumerate() {
                if outside(i) {
                    *value = 0.0;
                }
            }
            let sum: f64 = values.iter().sum();
            if sum != 0.0 {
                values.iter_mut().for_each(|v| *v /= sum);
            }
        }
        taps.push((first, values));
    }
    let most = taps.iter().map(|t| t.1.len()).max().unwrap_or(0);
    let mut out: Option<Tensor> = None;
    for tap in 0..most {
        let numbers: Vec<i64> = taps
            .iter()
            .map(|t| (t.0 + tap as i64).clamp(0, last))
            .collect();
        let values: Vec<f32> = taps
            .iter()
            .map(|t| t.1.get(tap).map_or(0.0, |w| *w as f32))
            .collect();
        let part = picked(cx, x, number, &numbers)?;
        let dims = along(number, part.rank(), axis.to);
        let weight = cx.const_f32(&dims, &values);
        let shape = part.dims.clone();
        out = Some(match out {
            None => {
                cx.b.map(ElementType::F32, &shape, &[&part, &weight], |p, a| {
                    p.f32(MapOp::Mul, a)
                })?
            }
            Some(sum) => {
                cx.b.map(ElementType::F32, &shape, &[&sum, &part, &weight], |p, a| {
                    let product = p.f32(MapOp::Mul, &[a[1], a[2]]);
                    p.f32(MapOp::Add, &[a[0], product])
                })?
            }
        });
    }
    out.map_or_else(|| invalid("nothing to resample"), Ok)
}

fn picked(cx: &mut Cx<'_, '_>, x: &Tensor, axis: usize, places: &[i64]) -> Result<Tensor> {
    let index = cx.const_i64(&[places.len() as u32], places);
    index::gather(cx, x, &index, axis)
}
