//! `Einsum`: sums of products over named axes, two operands at a time, each pair as one contraction.

use super::reduce::fold;
use super::shape::reshaped;
use super::{Cx, Result, elementwise, invalid, linear, unsupported};
use crate::plan::{Kind, MapOp, ReduceOp, Tensor, count};

/// An operand, with the name of each axis.
struct Named {
    tensor: Tensor,
    axes: Vec<char>,
}

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    if cx.node.op != "Einsum" {
        return Ok(None);
    }
    let equation: String = cx
        .node
        .attrs
        .str("equation", "")
        .split_whitespace()
        .collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (&equation[..], None),
    };
    let terms: Vec<&str> = left.split(',').collect();
    if terms.len() != cx.inputs.len() {
        return invalid(format!(
            "{} terms for {} inputs",
            terms.len(),
            cx.inputs.len()
        ));
    }
    let mut operands = Vec::new();
    for (i, term) in terms.iter().enumerate() {
        let tensor = cx.input(i)?;
        let axes = names(term, tensor.rank())?;
        operands.push(diagonal(Named { tensor, axes })?);
    }
    // Names of an ellipsis are digits; they come first in an output that is not written.
    let out = match right {
        Some(right) => {
            let open = operands.iter().flat_map(|o| &o.axes);
            let dots = open
                .filter(|c| c.is_ascii_digit())
                .collect::<std::collections::BTreeSet<_>>();
            let letters = right.replace("...", "");
            names(
                right,
                letters.len() + if right.contains("...") { dots.len() } else { 0 },
            )?
        }
        None => implicit(&operands),
    };
    // Each axis of an operand is one of the result.
    if let Some(twice) = (1..out.len()).find(|&at| out[..at].contains(&out[at])) {
        return invalid(format!(
            "equation {equation:?} names axis {:?} of its output twice",
            out[twice]
        ));
    }
    let mut rest = operands.into_iter();
    let Some(mut done) = rest.next() else {
        return invalid("no operands");
    };
    let mut later: Vec<Named> = rest.collect();
    while !later.is_empty() {
        let next = later.remove(0);
        let wanted = |c: &char| out.contains(c) || later.iter().any(|o| o.axes.contains(c));
        done = pair(cx, done, next, &wanted)?;
    }
    let done = summed(cx, done, &|c| out.contains(c))?;
    let order = out
        .iter()
        .map(|c| done.axes.iter().position(|a| a == c))
        .collect::<Option<Vec<_>>>();
    match order {
        Some(order) => Ok(Some(vec![done.tensor.permuted(&order)])),
        None => invalid(format!(
            "equation {equation:?} names an axis that no input has"
        )),
    }
}

/// A name per axis; an ellipsis stands for as many axes as are left, named by digits from the last.
fn names(term: &str, rank: usize) -> Result<Vec<char>> {
    let plain = |text: &str| text.chars().all(|c| c.is_ascii_alphabetic());
    let Some((before, after)) = term.split_once("...") else {
        if term.len() != rank || !plain(term) {
            return invalid(format!("term {term:?} for rank {rank}"));
        }
        return Ok(term.chars().collect());
    };
    let open = rank.checked_sub(before.len() + after.len());
    let Some(open) = open.filter(|n| *n <= 8 && plain(before) && plain(after)) else {
        return invalid(format!("term {term:?} for rank {rank}"));
    };
    let dots = (0..open).rev().map(|i| char::from(b'0' + i as u8));
    Ok(before.chars().chain(dots).chain(after.chars()).collect())
}

/// The names of an output that is not written: those of an ellipsis, then those that stand once, in order.
fn implicit(operands: &[Named]) -> Vec<char> {
    let mut all: Vec<char> = operands.iter().flat_map(|o| o.axes.clone()).collect();
    all.sort_unstable();
    let mut out: Vec<char> = all.iter().copied().filter(char::is_ascii_digit).collect();
    out.dedup();
    out.reverse();
    let once = |c: &char| all.iter().filter(|a| *a == c).count() == 1;
    out.extend(
        all.iter()
            .copied()
            .filter(|c| !c.is_ascii_digit())
            .filter(once),
    );
    out
}

/// Axes of one name become one, along the diagonal.
fn diagonal(mut operand: Named) -> Result<Named> {
    let mut axis = 0;
    while axis < operand.axes.len() {
        let name = operand.axes[axis];
        let first = operand.axes.iter().position(|c| *c == name).unwrap_or(axis);
        if first == axis {
            axis += 1;
            continue;
        }
        let (mut dims, mut strides) = (operand.tensor.dims.clone(), operand.tensor.strides.clone());
        if dims[first] != dims[axis] {
            return invalid(format!("axis {name:?} has two extents"));
        }
        dims.remove(axis);
        let step = strides.remove(axis);
        strides[first] += step;
        operand.tensor = operand.tensor.viewed(dims, strides);
        operand.axes.remove(axis);
    }
    Ok(operand)
}

/// Sums over the axes that nobody wants.
fn summed(cx: &mut Cx<'_, '_>, operand: Named, wanted: &dyn Fn(&char) -> bool) -> Result<Named> {
    let gone: Vec<usize> = (0..operand.axes.len())
        .filter(|&a| !wanted(&operand.axes[a]))
        .collect();
    if gone.is_empty() {
        return Ok(operand);
    }
    let sum = fold(cx, ReduceOp::Sum, &operand.tensor, &gone)?;
    let kept = |a: &usize| !gone.contains(a);
    let dims: Vec<u32> = (0..operand.axes.len())
        .filter(kept)
        .map(|a| operand.tensor.dims[a])
        .collect();
    Ok(Named {
        tensor: reshaped(cx, &sum, &dims)?,
        axes: (0..operand.axes.len())
            .filter(kept)
            .map(|a| operand.axes[a])
            .collect(),
    })
}

/// The product of two operands, summed over what nobody else wants: a batched product of matrices.
fn pair(cx: &mut Cx<'_, '_>, a: Named, b: Named, wanted: &dyn Fn(&char) -> bool) -> Result<Named> {
    let a = summed(cx, a, &|c| wanted(c) || b.axes.contains(c))?;
    let b = summed(cx, b, &|c| wanted(c) || a.axes.contains(c))?;
    let extent = |o: &Named, c: char| {
        o.axes
            .iter()
            .position(|a| *a == c)
            .map(|axis| o.tensor.dims[axis])
    };
    let shared: Vec<char> = a
        .axes
        .iter()
        .copied()
        .filter(|c| b.axes.contains(c))
        .collect();
    for &c in &shared {
        if extent(&a, c) != extent(&b, c) {
            return unsupported(format!("axis {c:?} has two extents"));
        }
    }
    let (batch, inner): (Vec<char>, Vec<char>) = shared.iter().copied().partition(wanted);
    let rows: Vec<char> = a
        .axes
        .iter()
        .copied()
        .filter(|c| !shared.contains(c))
        .collect();
    let columns: Vec<char> = b
        .axes
        .iter()
        .copied()
        .filter(|c| !shared.contains(c))
        .collect();
    let dims_of = |o: &Named, names: &[char]| -> Vec<u32> {
        names.iter().filter_map(|c| extent(o, *c)).collect()
    };
    let batch_dims = dims_of(&a, &batch);
    let (row_dims, column_dims) = (dims_of(&a, &rows), dims_of(&b, &columns));
    let inner_dims = dims_of(&a, &inner);
    let mut axes = batch.clone();
    axes.extend(&rows);
    axes.extend(&columns);
    let flat =
        |dims: &[u32]| u32::try_from(count(dims)).map_or_else(|_| invalid("too many elements"), Ok);
    let (m, k, n) = (flat(&row_dims)?, flat(&inner_dims)?, flat(&column_dims)?);
    let arranged = |cx: &mut Cx<'_, '_>, o: &Named, order: [&[char]; 3], tail: [u32; 2]| {
        let places: Vec<usize> = order
            .concat()
            .iter()
            .filter_map(|c| o.axes.iter().position(|a| a == c))
            .collect();
        let mut dims = batch_dims.clone();
        dims.extend(tail);
        reshaped(cx, &o.tensor.permuted(&places), &dims)
    };
    let left = arranged(cx, &a, [&batch, &rows, &inner], [m, k])?;
    let right = arranged(cx, &b, [&batch, &inner, &columns], [k, n])?;
    if left.element != right.element {
        let [a, b] = [left.element, right.element];
        return invalid(format!("types {a:?} and {b:?} differ"));
    }
    let product = if inner.is_empty() || left.kind() != Kind::F32 {
        if !inner.is_empty() {
            return unsupported("contractions of integers");
        }
        cx.b.op(MapOp::Mul, &[&left, &right])?
    } else {
        let product = linear::matmul(cx, &left, &right)?;
        elementwise::cast(cx, &product, left.element)?
    };
    let mut dims = batch_dims;
    dims.extend(&row_dims);
    dims.extend(&column_dims);
    Ok(Named {
        tensor: reshaped(cx, &product, &dims)?,
        axes,
    })
}
