//! Contractions: products of matrices, and convolutions.

use super::pad::padded;
use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, pool, quantised, unsupported};
use crate::plan::{Kind, MapOp, Tensor, broadcast_dims, contiguous_strides, count};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let out = match cx.node.op.as_str() {
        "MatMul" => match quantised::matmul(cx)? {
            Some(out) => out,
            None => {
                let (a, b) = (cx.floats(0)?, cx.floats(1)?);
                matmul(cx, &a, &b)?
            }
        },
        "Gemm" => gemm(cx)?,
        "Conv" => {
            let out = match quantised::conv(cx)? {
                Some(out) => out,
                None => {
                    let (x, w) = (cx.floats(0)?, cx.floats(1)?);
                    conv(cx, ElementType::F32, &x, &w)?
                }
            };
            let bias = cx.optional(2);
            biased(cx, out, bias.as_ref())?
        }
        "ConvTranspose" => conv_transpose(cx)?,
        _ => return Ok(None),
    };
    // A double is a float within the engine, and has its own name at the border.
    let element = cx.floats(0)?.element;
    Ok(Some(vec![elementwise::cast(cx, &out, element)?]))
}

/// The product of matrices of floats, with leading dimensions broadcast, as numpy has it.
pub(super) fn matmul(cx: &mut Cx<'_, '_>, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    matmul_to(cx, ElementType::F32, a, b)
}

/// The product of matrices of floats or of `I32`; the latter give floats, rounded once, or the sums themselves.
pub(super) fn matmul_to(
    cx: &mut Cx<'_, '_>,
    element: ElementType,
    a: &Tensor,
    b: &Tensor,
) -> Result<Tensor> {
    if a.rank() == 0 || b.rank() == 0 {
        return invalid("a scalar has no product of matrices");
    }
    if a.kind() != b.kind() {
        return invalid(format!("types {:?} and {:?} differ", a.element, b.element));
    }
    if !matches!(a.kind(), Kind::F32 | Kind::I32) {
        return unsupported("products of such integers");
    }
    // A vector is a row on the left and a column on the right; its dimension goes again afterwards.
    let left = if a.rank() == 1 {
        a.viewed(vec![1, a.dims[0]], vec![0, a.strides[0]])
    } else {
        a.clone()
    };
    let right = if b.rank() == 1 {
        b.viewed(vec![b.dims[0], 1], vec![b.strides[0], 0])
    } else {
        b.clone()
    };
    let out = product(cx, element, &left, &right)?;
    let mut dims = out.dims.clone();
    if b.rank() == 1 {
        dims.pop();
    }
    if a.rank() == 1 {
        dims.remove(dims.len() - if b.rank() == 1 { 1 } else { 2 });
    }
    reshaped(cx, &out, &dims)
}

/// `a` `[.., m, k]` times `b` `[.., k, n]`.
fn product(cx: &mut Cx<'_, '_>, element: ElementType, a: &Tensor, b: &Tensor) -> Result<Tensor> {
    let (ra, rb) = (a.rank(), b.rank());
    let (m, k, n) = (a.dims[ra - 2], a.dims[ra - 1], b.dims[rb - 1]);
    if b.dims[rb - 2] != k {
        return invalid(format!("{:?} times {:?}", a.dims, b.dims));
    }
    // A matrix on the right without batch of its own: all rows of the left are one matrix.
    if count(&b.dims[..rb - 2]) == 1 && ra > 2 {
        let rows = u32::try_from(count(&a.dims[..ra - 1]))
            .map_or_else(|_| invalid("too many rows"), Ok)?;
        let flat = reshaped(cx, a, &[rows, k])?;
        let matrix = reshaped(cx, b, &[k, n])?;
        let out = product(cx, element, &flat, &matrix)?;
        let mut dims = a.dims[..ra - 1].to_vec();
        for _ in ra..rb {
            dims.insert(0, 1);
        }
        dims.push(n);
        return reshaped(cx, &out, &dims);
    }
    let batch = broadcast_dims(&[&a.dims[..ra - 2], &b.dims[..rb - 2]])?;
    let mut columns: Vec<usize> = (0..rb).collect();
    columns.swap(rb - 2, rb - 1);
    let transposed = b.permuted(&columns);
    let side = |t: &Tensor| -> (u64, Vec<u32>) {
        let rows = count(&t.dims[..t.rank() - 1]);
        // Steps per batch dimension, in rows; broadcast dimensions do not move.
        let strides = contiguous_strides(&t.dims[..t.rank() - 1]);
        let missing = batch.len() + 2 - t.rank();
        let steps = (0..batch.len())
            .map(|axis| match axis.checked_sub(missing) {
                Some(own) if t.dims[own] != 1 => strides[own] as u32,
                _ => 0,
            })
            .collect();
        (rows, steps)
    };
    let (a_rows, a_steps) = side(a);
    let (b_rows, b_steps) = side(&transposed);
    if count(&batch) == 0 || m == 0 || n == 0 {
        let mut dims = batch;
        dims.extend([m, n]);
        return cx.b.alloc(element, &dims);
    }
    let qa = cx.b.quantise(a, ra - 1)?;
    let qb = cx.b.quantise(&transposed, rb - 1)?;
    cx.b.contract(
        element,
        &batch,
        [m, n, k],
        (&qa, a_steps),
        (&qb, b_steps),
        (a_rows, b_rows),
    )
}

fn gemm(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (a, b) = (cx.floats(0)?, cx.floats(1)?);
    if a.rank() != 2 || b.rank() != 2 {
        return invalid("matrices are needed");
    }
    let whole = quantised::gemm(cx)?;
    let turned = |t: Tensor, name: &str| {
        if cx.node.attrs.int(name, 0) != 0 {
            t.permuted(&[1, 0])
        } else {
            t
        }
    };
    let (a, b) = (turned(a, "transA"), turned(b, "transB"));
    let mut out = match whole {
        Some(out) => out,
        None => product(cx, ElementType::F32, &a, &b)?,
    };
    let alpha = cx.node.attrs.float("alpha", 1.0);
    if alpha != 1.0 {
        out = cx.b.op_imm(MapOp::Mul, &out, alpha)?;
    }
    if let Some(mut c) = cx.optional(2) {
        let beta = cx.node.attrs.float("beta", 1.0);
        if beta != 1.0 {
            c = cx.b.op_imm(MapOp::Mul, &c, beta)?;
        }
        let dims = out.dims.clone();
        out = cx.b.map(ElementType::F32, &dims, &[&out, &c], |p, x| {
            p.f32(MapOp::Add, x)
        })?;
    }
    Ok(out)
}

/// A convolution of `x` `[n, c, extents…]` with `w` `[out, c / groups, kernel…]`, both of floats or of `I32`, as
/// [`matmul_to`] has it.
pub(super) fn conv(
    cx: &mut Cx<'_, '_>,
    element: ElementType,
    x: &Tensor,
    w: &Tensor,
) -> Result<Tensor> {
    if x.rank() < 3 || x.rank() != w.rank() {
        return invalid("input and weight need one rank, of at least 3");
    }
    let spatial = x.rank() - 2;
    if spatial > 3 {
        return unsupported("more than three spatial dimensions");
    }
    let groups = u32::try_from(cx.node.attrs.int("group", 1)).unwrap_or(0);
    let (n, c, m) = (x.dims[0], x.dims[1], w.dims[0]);
    if groups == 0 || c % groups != 0 || m % groups != 0 || w.dims[1] != c / groups {
        return invalid(format!("{:?} with {:?} in {groups} groups", x.dims, w.dims));
    }
    let window = pool::window(cx, &x.dims[2..], &w.dims[2..], pool::Ceil::No)?;
    let (cin, cout) = (c / groups, m / groups);
    // Rows: for the input each sample and group, for the weight each output channel.
    let mut dims = vec![n, groups, cin];
    dims.extend(&x.dims[2..]);
    let grouped = reshaped(cx, x, &dims)?;
    let mut dims = vec![n, m];
    dims.extend(&window.output[3 - spatial..]);
    if count(&dims) == 0 {
        return cx.b.alloc(element, &dims);
    }
    let input = cx.b.quantise(&grouped, 2)?;
    let weight = cx.b.quantise(w, 1)?;
    let out =
        cx.b.conv(element, [n, groups, cin, cout], window, &input, &weight)?;
    reshaped(cx, &out, &dims)
}

/// Adds one value per channel.
fn biased(cx: &mut Cx<'_, '_>, out: Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
    let Some(bias) = bias else {
        return Ok(out);
    };
    if bias.rank() != 1 || bias.dims[0] != out.dims[1] {
        return invalid("one bias per channel is needed");
    }
    let mut dims = vec![1; out.rank() - 1];
    dims[0] = bias.dims[0];
    let bias = reshaped(cx, bias, &dims)?;
    let shape = out.dims.clone();
    cx.b.map(ElementType::F32, &shape, &[&out, &bias], |p, x| {
        p.f32(MapOp::Add, x)
    })
}

/// A transposed convolution: the input with zeros between its elements, under the mirrored kernel.
fn conv_transpose(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let (x, w) = (cx.floats(0)?, cx.floats(1)?);
    let bias = cx.optional(2);
    if x.rank() < 3 || x.rank() != w.rank() || x.rank() > 5 {
        return invalid("input and weight need one rank, of 3 to 5");
    }
    let spatial = x.rank() - 2;
    let attrs = &cx.node.attrs;
    let groups = u32::try_from(attrs.int("group", 1)).unwrap_or(0);
    let (c, per) = (x.dims[1], w.dims[1]);
    if groups == 0 || c % groups != 0 || w.dims[0] != c {
        return invalid(format!("{:?} with {:?} in {groups} groups", x.dims, w.dims));
    }
    let list = |name: &str, default: i64, len: usize| -> Result<Vec<i64>> {
        let values = attrs
            .ints(name)
            .map_or_else(|| vec![default; len], <[i64]>::to_vec);
        if values.len() != len || values.iter().any(|&v| !(0..=1 << 20).contains(&v)) {
            return invalid(format!("{name} {values:?}"));
        }
        Ok(values)
    };
    let strides = list("strides", 1, spatial)?;
    let dilations = list("dilations", 1, spatial)?;
    let mut extra = list("output_padding", 0, spatial)?;
    let mut pads = list("pads", 0, 2 * spatial)?;
    let reach = |axis: usize| dilations[axis] * (i64::from(w.dims[2 + axis]) - 1) + 1;
    let grown = |axis: usize| strides[axis] * (i64::from(x.dims[2 + axis]) - 1) + 1;
    let auto = attrs.str("auto_pad", "NOTSET").to_owned();
    let wanted = match attrs.ints("output_shape") {
        Some(wanted) if wanted.len() == spatial => Some(wanted.to_vec()),
        Some(_) => return invalid("one output extent per axis is needed"),
        None if auto.starts_with("SAME") => Some(
            (0..spatial)
                .map(|a| i64::from(x.dims[2 + a]) * strides[a])
                .collect(),
        ),
        None => None,
    };
    if let Some(wanted) = wanted {
        for axis in 0..spatial {
            let total = grown(axis) - 1 + extra[axis] + reach(axis) - wanted[axis];
            // An output longer than the input makes it has zeros at its end.
            extra[axis] += (-total).max(0);
            let total = total.max(0);
            let small = total / 2;
            let (begin, end) = if auto == "SAME_UPPER" {
                (small, total - small)
            } else {
                (total - small, small)
            };
            pads[axis] = begin;
            pads[spatial + axis] = end;
        }
    }
    if auto == "VALID" {
        pads.fill(0);
    }
    // Zeros between elements.
    let mut dims = x.dims[..2].to_vec();
    for axis in 0..spatial {
        dims.push(u32::try_from(grown(axis)).map_or_else(|_| invalid("too long"), Ok)?);
    }
    let spread = cx.b.filled(ElementType::F32, &dims, 0)?;
    let mut place = spread.clone();
    for (axis, &stride) in strides.iter().enumerate().take(spatial) {
        place = place.sliced(2 + axis, 0, stride, x.dims[2 + axis]);
    }
    cx.b.copy_into(&x, &place)?;
    let (mut before, mut after) = (vec![0; 2], vec![0; 2]);
    for axis in 0..spatial {
        before.push(reach(axis) - 1 - pads[axis]);
        after.push(reach(axis) - 1 - pads[spatial + axis] + extra[axis]);
    }
    let framed = padded(cx, &spread, &before, &after, None, "constant")?;
    // The kernel mirrored, with input and output channels of each group changed over.
    let mut mirrored = w;
    for axis in 2..2 + spatial {
        let extent = mirrored.dims[axis];
        mirrored = mirrored.sliced(axis, i64::from(extent) - 1, -1, extent);
    }
    let mut split = vec![groups, c / groups, per];
    split.extend(&mirrored.dims[2..]);
    let (mut dims, mut steps) = (split.clone(), vec![]);
    steps.push(mirrored.strides[0] * i64::from(c / groups));
    steps.extend(&mirrored.strides);
    dims.swap(1, 2);
    steps.swap(1, 2);
    let turned = mirrored.viewed(dims, steps);
    let mut dims = vec![groups * per, c / groups];
    dims.extend(&mirrored.dims[2..]);
    let weight = reshaped(cx, &turned, &dims)?;
    let window = pool::geometry(
        &framed.dims[2..],
        &weight.dims[2..],
        &vec![1; spatial],
        &dilations,
        (&vec![0; spatial], &vec![0; spatial]),
        pool::Ceil::No,
    )?;
    let n = x.dims[0];
    let mut dims = vec![n, groups, c / groups];
    dims.extend(&framed.dims[2..]);
    let grouped = reshaped(cx, &framed, &dims)?;
    let input = cx.b.quantise(&grouped, 2)?;
    let kernel = cx.b.quantise(&weight, 1)?;
    let out = cx.b.conv(
        ElementType::F32,
        [n, groups, c / groups, per],
        window,
        &input,
        &kernel,
    )?;
    let mut dims = vec![n, groups * per];
    dims.extend(&window.output[3 - spatial..]);
    let out = reshaped(cx, &out, &dims)?;
    biased(cx, out, bias.as_ref())
}
