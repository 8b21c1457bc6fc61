//! Operators of scikit-learn's models (`ai.onnx.ml`).

mod ensemble;
mod trees;

use super::reduce::{fold, to_end};
use super::shape::reshaped;
use super::{Cx, Result, elementwise, index, invalid, linear, norm, unsupported};
use crate::graph::Constant;
use crate::plan::{Arg, Kind, MapOp, ReduceOp, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let out = match cx.node.op.as_str() {
        "Scaler" => scaler(cx)?,
        "Normalizer" => normalizer(cx)?,
        "Imputer" => imputer(cx)?,
        "Binarizer" => binarizer(cx)?,
        "OneHotEncoder" => one_hot(cx)?,
        "ArrayFeatureExtractor" => {
            let (x, at) = (cx.input(0)?, cx.input(1)?);
            if x.rank() == 0 {
                return invalid("there are no features");
            }
            let flat = reshaped(cx, &at, &[at.len() as u32])?;
            index::gather(cx, &x, &flat, x.rank() - 1)?
        }
        "FeatureVectorizer" => {
            let mut parts = Vec::new();
            for i in 0..cx.inputs.len() {
                let part = matrix(cx, i)?;
                parts.push(part);
            }
            if parts.is_empty() {
                return invalid("nothing to join");
            }
            super::shape::joined(cx, &parts, 1)?
        }
        "LabelEncoder" => label_encoder(cx)?,
        "LinearRegressor" => linear_regressor(cx)?,
        "LinearClassifier" => return linear_classifier(cx),
        "TreeEnsemble" => ensemble::ensemble(cx)?,
        "TreeEnsembleRegressor" => trees::regressor(cx)?,
        "TreeEnsembleClassifier" => return trees::classifier(cx),
        // The tensor of probabilities goes on as it is: a contract has no use for a list of maps.
        "ZipMap" => cx.input(0)?,
        _ => return unsupported(super::NO_OPERATOR),
    };
    Ok(vec![out])
}

/// Input `i` as a matrix of floats.
fn matrix(cx: &mut Cx<'_, '_>, i: usize) -> Result<Tensor> {
    let x = cx.input(i)?;
    let x = elementwise::cast(cx, &x, ElementType::F32)?;
    match x.rank() {
        1 => reshaped(cx, &x, &[1, x.dims[0]]),
        2 => Ok(x),
        _ => invalid("a matrix is needed"),
    }
}

/// One value per column, or one for all.
fn columns(cx: &mut Cx<'_, '_>, values: &[f32], width: u32) -> Result<Tensor> {
    if values.len() != 1 && values.len() != width as usize {
        return invalid(format!("{} values for {width} columns", values.len()));
    }
    Ok(cx.const_f32(&[values.len() as u32], values))
}

fn scaler(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = matrix(cx, 0)?;
    let width = x.dims[1];
    let offset = cx.node.attrs.floats("offset").unwrap_or(&[0.0]).to_vec();
    let scale = cx.node.attrs.floats("scale").unwrap_or(&[1.0]).to_vec();
    let offset = columns(cx, &offset, width)?;
    let scale = columns(cx, &scale, width)?;
    cx.b.map(ElementType::F32, &x.dims, &[&x, &offset, &scale], |p, a| {
        let moved = p.f32(MapOp::Sub, &[a[0], a[1]]);
        p.f32(MapOp::Mul, &[moved, a[2]])
    })
}

fn normalizer(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = matrix(cx, 0)?;
    match cx.node.attrs.str("norm", "MAX") {
        "MAX" => {
            let top = fold(cx, ReduceOp::Max, &x, &[1])?;
            cx.b.zip(ElementType::F32, &[&x, &top], |p, a| {
                let zero = p.op(MapOp::Equal, Kind::F32, &[a[1], Arg::Imm(0)]);
                let divisor = p.f32(MapOp::Select, &[zero, imm(1.0), a[1]]);
                p.f32(MapOp::Div, &[a[0], divisor])
            })
        }
        "L1" => norm::by_norm(cx, &x, 1, "l1"),
        "L2" => norm::by_norm(cx, &x, 1, "l2"),
        other => invalid(format!("norm {other:?}")),
    }
}

fn imputer(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let attrs = &cx.node.attrs;
    let Some(values) = attrs.floats("imputed_value_floats").map(<[f32]>::to_vec) else {
        return unsupported("imputed integers");
    };
    let replaced = attrs.float("replaced_value_float", 0.0);
    let x = cx.floats(0)?;
    let Some(&width) = x.dims.last() else {
        return invalid("there are no columns");
    };
    let values = columns(cx, &values, width)?;
    cx.b.map(x.element, &x.dims, &[&x, &values], |p, a| {
        let missing = if replaced.is_nan() {
            p.op(MapOp::IsNan, Kind::F32, &[a[0]])
        } else {
            p.op(MapOp::Equal, Kind::F32, &[a[0], imm(replaced)])
        };
        p.f32(MapOp::Select, &[missing, a[1], a[0]])
    })
}

fn binarizer(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let threshold = cx.node.attrs.float("threshold", 0.0);
    cx.b.map(x.element, &x.dims, &[&x], |p, a| {
        let above = p.f32(MapOp::Less, &[imm(threshold), a[0]]);
        p.f32(MapOp::Select, &[above, imm(1.0), imm(0.0)])
    })
}

fn one_hot(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let Some(classes) = cx.node.attrs.ints("cats_int64s").map(<[i64]>::to_vec) else {
        return unsupported("categories that are strings");
    };
    if cx.node.attrs.int("zeros", 1) == 0 {
        return unsupported("a failure on unknown categories");
    }
    let x = cx.input(0)?;
    let x = elementwise::cast(cx, &x, ElementType::I64)?;
    let (mut dims, mut strides) = (x.dims.clone(), x.strides.clone());
    dims.push(1);
    strides.push(0);
    let column = x.viewed(dims, strides);
    let classes = cx.const_i64(&[classes.len() as u32], &classes);
    let hot = cx.b.op(MapOp::Equal, &[&column, &classes])?;
    elementwise::cast(cx, &hot, ElementType::F32)
}

fn label_encoder(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let attrs = &cx.node.attrs;
    let x = cx.input(0)?;
    let keys = match (attrs.ints("keys_int64s"), attrs.floats("keys_floats")) {
        (Some(keys), _) => Constant::from_i64(vec![keys.len() as u32], keys),
        (_, Some(keys)) => Constant::from_f32(vec![keys.len() as u32], keys),
        _ => return unsupported("labels that are strings"),
    };
    let (values, other) = match (attrs.ints("values_int64s"), attrs.floats("values_floats")) {
        (Some(v), _) => (
            Constant::from_i64(vec![v.len() as u32], v),
            Constant::from_i64(vec![], &[attrs.int("default_int64", -1)]),
        ),
        (_, Some(v)) => (
            Constant::from_f32(vec![v.len() as u32], v),
            Constant::from_f32(vec![], &[attrs.float("default_float", -0.0)]),
        ),
        _ => return unsupported("labels that are strings"),
    };
    if keys.len() != values.len() || keys.is_empty() || keys.element != x.element {
        return invalid("keys, values and input do not fit");
    }
    let [keys, values, other] = [keys, values, other].map(|c| cx.b.constant(c));
    let (mut dims, mut strides) = (x.dims.clone(), x.strides.clone());
    dims.push(1);
    strides.push(0);
    let column = x.viewed(dims, strides);
    let hot = cx.b.op(MapOp::Equal, &[&column, &keys])?;
    let (moved, _) = to_end(&hot, &[hot.rank() - 1]);
    let known = cx.b.reduce(ReduceOp::Max, &moved, 1)?;
    let at = cx.b.reduce(ReduceOp::ArgMax, &moved, 1)?;
    let found = index::gather(cx, &values, &at, 0)?;
    let kind = found.kind();
    cx.b.zip(found.element, &[&known, &found, &other], |p, a| {
        p.op(MapOp::Select, kind, a)
    })
}

/// `x` times rows of coefficients, plus intercepts.
fn scores(cx: &mut Cx<'_, '_>, rows: usize) -> Result<Tensor> {
    let x = matrix(cx, 0)?;
    let attrs = &cx.node.attrs;
    let coefficients = attrs.floats("coefficients").unwrap_or(&[]).to_vec();
    let intercepts = attrs.floats("intercepts").unwrap_or(&[]).to_vec();
    let width = x.dims[1] as usize;
    if rows == 0 || coefficients.len() != rows * width {
        return invalid(format!(
            "{} coefficients for {rows} rows of {width}",
            coefficients.len()
        ));
    }
    let key = (cx.key(), 0);
    let weights = cx.b.memo(key, || {
        Ok(Constant::from_f32(
            vec![rows as u32, width as u32],
            &coefficients,
        ))
    })?;
    let out = linear::matmul(cx, &x, &weights.permuted(&[1, 0]))?;
    if intercepts.is_empty() {
        return Ok(out);
    }
    let intercepts = columns(cx, &intercepts, rows as u32)?;
    cx.b.op(MapOp::Add, &[&out, &intercepts])
}

fn linear_regressor(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let targets = usize::try_from(cx.node.attrs.int("targets", 1)).unwrap_or(0);
    let out = scores(cx, targets)?;
    let post = cx.node.attrs.str("post_transform", "NONE").to_owned();
    transformed(cx, &out, &post)
}

fn linear_classifier(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let attrs = &cx.node.attrs;
    let Some(labels) = attrs.ints("classlabels_ints").map(<[i64]>::to_vec) else {
        return unsupported("labels that are strings");
    };
    let rows = attrs
        .floats("intercepts")
        .map_or(labels.len(), <[f32]>::len)
        .max(1);
    let out = scores(cx, rows)?;
    let post = cx.node.attrs.str("post_transform", "NONE").to_owned();
    if rows == 1 && labels.len() == 2 {
        return two_classes(cx, &out, &labels, &post, Single::Signed);
    }
    if rows != labels.len() {
        return invalid("one row of coefficients per label is needed");
    }
    let label = chosen(cx, &out, &labels)?;
    Ok(vec![label, transformed(cx, &out, &post)?])
}

/// How the one score of two classes is meant.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Single {
    /// A probability: the other class has what is left to one.
    Probability,
    /// Above zero is the second class.
    Signed,
}

/// Label and scores of two classes from one score.
fn two_classes(
    cx: &mut Cx<'_, '_>,
    score: &Tensor,
    labels: &[i64],
    post: &str,
    single: Single,
) -> Result<Vec<Tensor>> {
    let (threshold, first) = match single {
        Single::Probability => (
            0.5,
            cx.b.map(ElementType::F32, &score.dims, &[score], |p, a| {
                p.f32(MapOp::Sub, &[imm(1.0), a[0]])
            })?,
        ),
        Single::Signed => (0.0, cx.b.op(MapOp::Neg, &[score])?),
    };
    let flat = reshaped(cx, score, &[score.dims[0]])?;
    let (low, high) = (Arg::Imm(labels[0] as u64), Arg::Imm(labels[1] as u64));
    let label = cx.b.map(ElementType::I64, &flat.dims, &[&flat], |p, a| {
        let above = p.f32(MapOp::Less, &[imm(threshold), a[0]]);
        p.op(MapOp::Select, Kind::I64, &[above, high, low])
    })?;
    let both = super::shape::joined(cx, &[first, score.clone()], 1)?;
    // A probability is final.
    let both = if single == Single::Signed {
        transformed(cx, &both, post)?
    } else {
        both
    };
    Ok(vec![label, both])
}

/// The label of the largest score of each row.
fn chosen(cx: &mut Cx<'_, '_>, scores: &Tensor, labels: &[i64]) -> Result<Tensor> {
    let best = cx.b.reduce(ReduceOp::ArgMax, scores, 1)?;
    if labels.iter().copied().eq(0..labels.len() as i64) {
        return Ok(best);
    }
    let labels = cx.const_i64(&[labels.len() as u32], labels);
    index::gather(cx, &labels, &best, 0)
}

fn transformed(cx: &mut Cx<'_, '_>, scores: &Tensor, post: &str) -> Result<Tensor> {
    match post {
        "NONE" => Ok(scores.clone()),
        "LOGISTIC" => cx.b.op(MapOp::Sigmoid, &[scores]),
        "SOFTMAX" => norm::softmax(cx, scores, scores.rank() - 1),
        other => unsupported(format!("post_transform {other:?}")),
    }
}
