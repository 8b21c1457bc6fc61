//! Signal processing: windows, and Fourier transforms as products of matrices.

use super::shape::{joined, reshaped};
use super::{Cx, Result, elementwise, invalid, linear, resolve_axis};
use crate::graph::Constant;
use crate::num;
use crate::plan::{MapOp, Refuse, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    Ok(Some(vec![match cx.node.op.as_str() {
        "HannWindow" => window(cx, [0.5, 0.5, 0.0])?,
        "HammingWindow" => window(cx, [0.543_478_25, 0.456_521_75, 0.0])?,
        "BlackmanWindow" => window(cx, [0.42, 0.5, 0.08])?,
        "DFT" => dft(cx)?,
        "STFT" => stft(cx)?,
        "MelWeightMatrix" => mel_weights(cx)?,
        _ => return Ok(None),
    }]))
}

/// `a - b * cos(2 pi n / m) + c * cos(4 pi n / m)`.
fn window(cx: &mut Cx<'_, '_>, [a, b, c]: [f32; 3]) -> Result<Tensor> {
    let &[size] = &cx.must_know(0)?[..] else {
        return invalid("the size must be one number");
    };
    if !(1..=1 << 20).contains(&size) {
        return invalid(format!("size {size}"));
    }
    let element = elementwise::element(cx.node.attrs.int("output_datatype", 1))?;
    let periodic = cx.node.attrs.int("periodic", 1) != 0;
    let period = if periodic { size } else { (size - 1).max(1) };
    let angles: Vec<f32> = (0..size)
        .map(|n| (std::f64::consts::TAU * n as f64 / period as f64) as f32)
        .collect();
    let angle = cx.const_f32(&[size as u32], &angles);
    let out = cx.b.map(ElementType::F32, &angle.dims, &[&angle], |p, x| {
        let once = p.f32(MapOp::Cos, &[x[0]]);
        let double = p.f32(MapOp::Add, &[x[0], x[0]]);
        let twice = p.f32(MapOp::Cos, &[double]);
        let first = p.f32(MapOp::Mul, &[imm(b), once]);
        let second = p.f32(MapOp::Mul, &[imm(c), twice]);
        let less = p.f32(MapOp::Sub, &[imm(a), first]);
        p.f32(MapOp::Add, &[less, second])
    })?;
    elementwise::cast(cx, &out, element)
}

/// Longest transform. 2^12: its matrix has 2^25 numbers, as many as a model may have weights.
const TRANSFORM_MAX: i64 = 1 << 12;

/// Which way a transform goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    /// To frequencies.
    Forward,
    /// Back, divided by the length.
    Inverse,
}

/// Cosine and sine of `number / of` turns, below one turn. The angle is first brought into an eighth of a turn in
/// integers; the rest are Taylor's series in binary64, whose operations every machine rounds alike.
fn turn(number: u64, of: u64) -> (f64, f64) {
    // Eighths of turns, each counted from its even end.
    let eighth = 8 * number / of;
    let (from, odd) = (eighth.div_ceil(2) * of, eighth % 2 == 1);
    let rest = (4 * number).abs_diff(from) as f64 / of as f64 * std::f64::consts::FRAC_PI_2;
    let square = rest * rest;
    let series = |first: f64, begin: u32| {
        let mut sum = first;
        let mut term = first;
        for i in 0..9 {
            let n = f64::from(begin + 2 * i);
            term = -term * square / (n * (n + 1.0));
            sum += term;
        }
        sum
    };
    let (cos, sin) = (series(1.0, 1), series(rest, 2));
    let sin = if odd { -sin } else { sin };
    match eighth.div_ceil(2) % 4 {
        0 => (cos, sin),
        1 => (-sin, cos),
        2 => (-cos, -sin),
        _ => (sin, -cos),
    }
}

/// The transform of `x` `[rows, length, 1 or 2]` to `bins` numbers: `[rows, bins, 2]`.
fn transformed(cx: &mut Cx<'_, '_>, x: &Tensor, bins: u32, way: Way) -> Result<Tensor> {
    let (rows, length, parts) = (x.dims[0], x.dims[1], x.dims[2]);
    let found = 2 * u64::from(length) * u64::from(parts) * u64::from(bins);
    table_fits(cx, "elements of a transform's matrix", found)?;
    let key = (
        cx.key(),
        length << 3 | parts << 1 | u32::from(bins == length),
    );
    let matrix = cx.b.memo(key, || {
        let n = u64::from(length);
        let scale = match way {
            Way::Forward => 1.0,
            Way::Inverse => f64::from(length),
        };
        let turns: Vec<(f64, f64)> = (0..n).map(|number| turn(number, n)).collect();
        // Row: place and part of the signal; column: bin and part.
        let mut values = Vec::with_capacity((length * parts * bins * 2) as usize);
        for place in 0..u64::from(length) {
            for part in 0..parts {
                for bin in 0..u64::from(bins) {
                    let (cos, sin) = turns[(place * bin % n) as usize];
                    let sin = if way == Way::Forward { -sin } else { sin };
                    let (real, imaginary) = if part == 0 { (cos, sin) } else { (-sin, cos) };
                    values.push((real / scale) as f32);
                    values.push((imaginary / scale) as f32);
                }
            }
        }
        Ok(Constant::from_f32(vec![length * parts, bins * 2], &values))
    })?;
    let signal = reshaped(cx, x, &[rows, length * parts])?;
    let out = linear::matmul(cx, &signal, &matrix)?;
    reshaped(cx, &out, &[rows, bins, 2])
}

/// Bins of a transform of `length`.
fn bins(cx: &Cx<'_, '_>, length: u32, default: i64) -> u32 {
    if cx.node.attrs.int("onesided", default) != 0 {
        length / 2 + 1
    } else {
        length
    }
}

/// Refuses a table that is larger than a tensor may be.
fn table_fits(cx: &Cx<'_, '_>, what: &'static str, found: u64) -> Result<()> {
    let limit = cx.b.limits.elements_max.min(cx.b.limits.weight_words_max);
    if found > limit {
        return Err(Refuse::Limit { what, found, limit });
    }
    Ok(())
}

/// One number that must be known, from 1 to [`TRANSFORM_MAX`].
fn length_of(values: &[i64]) -> Result<u32> {
    match values {
        [length] if (1..=TRANSFORM_MAX).contains(length) => Ok(*length as u32),
        _ => invalid(format!("length {values:?}")),
    }
}

fn dft(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    if x.rank() < 3 || !matches!(x.dims[x.rank() - 1], 1 | 2) {
        return invalid(format!("{:?} is no signal", x.dims));
    }
    let axis = match cx.known(2)? {
        Some(axis) if axis.len() == 1 => axis[0],
        Some(_) => return invalid("the axis must be one number"),
        None if cx.node.version < 20 => cx.node.attrs.int("axis", 1),
        None => -2,
    };
    let axis = resolve_axis(axis, x.rank())?;
    if axis == x.rank() - 1 {
        return invalid("the last axis holds real and imaginary parts");
    }
    let length = match cx.known(1)? {
        Some(length) => length_of(&length)?,
        None => length_of(&[i64::from(x.dims[axis])])?,
    };
    let way = if cx.node.attrs.int("inverse", 0) != 0 {
        Way::Inverse
    } else {
        Way::Forward
    };
    let bins = bins(cx, length, 0);
    // Cut, or filled up with zeros.
    let signal = if x.dims[axis] >= length {
        x.sliced(axis, 0, 1, length)
    } else {
        let mut dims = x.dims.clone();
        dims[axis] = length - x.dims[axis];
        let zeros = cx.b.filled(x.element, &dims, 0)?;
        joined(cx, &[x.clone(), zeros], axis)?
    };
    let mut order: Vec<usize> = (0..x.rank()).filter(|a| *a != axis).collect();
    order.insert(x.rank() - 2, axis);
    let mut back = vec![0; x.rank()];
    for (to, &from) in order.iter().enumerate() {
        back[from] = to;
    }
    let turned = signal.permuted(&order);
    let mut dims = turned.dims.clone();
    let rows = dims[..x.rank() - 2].iter().product();
    let flat = reshaped(cx, &turned, &[rows, length, x.dims[x.rank() - 1]])?;
    let out = transformed(cx, &flat, bins, way)?;
    (dims[x.rank() - 2], dims[x.rank() - 1]) = (bins, 2);
    let out = reshaped(cx, &out, &dims)?;
    elementwise::cast(cx, &out.permuted(&back), x.element)
}

/// Transforms of frames, which may overlap: a frame is a view of the signal.
fn stft(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let x = match x.rank() {
        2 => x.viewed(
            vec![x.dims[0], x.dims[1], 1],
            vec![x.strides[0], x.strides[1], 0],
        ),
        3 if matches!(x.dims[2], 1 | 2) => x,
        _ => return invalid(format!("{:?} is no signal", x.dims)),
    };
    let step = length_of(&cx.must_know(1)?)?;
    let window = cx.optional(2);
    let length = match (cx.known(3)?, &window) {
        (Some(length), _) => length_of(&length)?,
        (None, Some(window)) => length_of(&[window.len() as i64])?,
        (None, None) => length_of(&[i64::from(x.dims[1])])?,
    };
    if x.dims[1] < length {
        return invalid(format!("a frame of {length} from {}", x.dims[1]));
    }
    let frames = (x.dims[1] - length) / step + 1;
    let dims = vec![x.dims[0], frames, length, x.dims[2]];
    let strides = vec![
        x.strides[0],
        x.strides[1] * i64::from(step),
        x.strides[1],
        x.strides[2],
    ];
    let mut signal = x.viewed(dims.clone(), strides);
    if let Some(window) = window {
        if window.dims != [length] {
            return invalid(format!("a window {:?} for frames of {length}", window.dims));
        }
        let window = reshaped(cx, &window, &[length, 1])?;
        signal = cx.b.op(MapOp::Mul, &[&signal, &window])?;
    }
    let rows = dims[0]
        .checked_mul(frames)
        .map_or_else(|| invalid("too many frames"), Ok)?;
    let flat = reshaped(cx, &signal, &[rows, length, dims[3]])?;
    let bins = bins(cx, length, 1);
    let out = transformed(cx, &flat, bins, Way::Forward)?;
    let out = reshaped(cx, &out, &[dims[0], frames, bins, 2])?;
    elementwise::cast(cx, &out, x.element)
}

/// Weights of triangular filters that lie evenly on the mel scale. Their ends are whole bins, computed in binary32 with
/// the engine's own logarithm and exponential.
fn mel_weights(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let one = |cx: &Cx<'_, '_>, i: usize| length_of(&cx.must_know(i)?);
    let (filters, length) = (one(cx, 0)?, one(cx, 1)?);
    let &[rate] = &cx.must_know(2)?[..] else {
        return invalid("the sample rate must be one number");
    };
    let edge = |cx: &Cx<'_, '_>, i: usize| match cx.input(i)?.floats().as_deref() {
        Some(&[edge]) if edge >= 0.0 => Ok(edge),
        Some(_) => invalid("an edge must be one frequency"),
        None => super::unsupported(format!("input {i} depends on data")),
    };
    let (low, high) = (edge(cx, 3)?, edge(cx, 4)?);
    let spectrum = length / 2 + 1;
    table_fits(
        cx,
        "weights of filters",
        u64::from(spectrum) * u64::from(filters),
    )?;
    // 2595 log10(1 + f / 700), and its inverse, up to the factor.
    let mel = |frequency: f32| num::log(1.0 + frequency / 700.0);
    let step = (mel(high) - mel(low)) / (filters + 2) as f32;
    let mut ends = Vec::with_capacity(filters as usize + 2);
    for i in 0..filters + 2 {
        let frequency = 700.0 * (num::exp(mel(low) + i as f32 * step) - 1.0);
        let bin = ((length + 1) as f32 * frequency / rate as f32).floor();
        if !(0.0..=spectrum as f32).contains(&bin) {
            return invalid(format!("filter {i} ends at bin {bin} of {spectrum}"));
        }
        ends.push(bin as u32);
    }
    let mut weights = vec![0f32; (spectrum * filters) as usize];
    let mut put = |bin: u32, filter: usize, weight: f32| {
        if bin < spectrum {
            weights[(bin * filters) as usize + filter] = weight;
        }
    };
    for (filter, ends) in ends.windows(3).enumerate() {
        let [left, centre, right] = [ends[0], ends[1], ends[2]];
        if left == centre {
            put(centre, filter, 1.0);
        }
        for bin in left..=centre {
            if left < centre {
                put(bin, filter, (bin - left) as f32 / (centre - left) as f32);
            }
        }
        for bin in centre..right {
            put(bin, filter, (right - bin) as f32 / (right - centre) as f32);
        }
    }
    let element = elementwise::element(cx.node.attrs.int("output_datatype", 1))?;
    let out = cx.const_f32(&[spectrum, filters], &weights);
    elementwise::cast(cx, &out, element)
}

#[cfg(test)]
mod tests {
    use super::turn;

    /// The largest difference from the platform's functions, which are good to a few units of 2^-53.
    #[test]
    fn turns_are_cosines_and_sines() {
        for of in [1u64, 2, 3, 4, 5, 7, 8, 12, 16, 100, 1024, 4095] {
            for number in 0..of {
                let angle = number as f64 / of as f64 * std::f64::consts::TAU;
                let (cos, sin) = turn(number, of);
                assert!(
                    (cos - angle.cos()).abs() < 1e-15,
                    "cos {number}/{of}: {cos}"
                );
                assert!(
                    (sin - angle.sin()).abs() < 1e-15,
                    "sin {number}/{of}: {sin}"
                );
            }
        }
    }
}
