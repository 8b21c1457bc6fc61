//! Recurrent operators, unrolled in time: one product of matrices for all inputs, then one per step for the state.

use super::linear::matmul;
use super::shape::{joined, reshaped};
use super::{Cx, Result, invalid, unsupported};
use crate::plan::{Arg, MapOp, Program, Tensor, imm};
use penstock_rules::tensor::ElementType;

pub(super) fn lower(cx: &mut Cx<'_, '_>) -> Result<Option<Vec<Tensor>>> {
    let kind = match cx.node.op.as_str() {
        "LSTM" => Kind::Lstm,
        "GRU" => Kind::Gru,
        "RNN" => Kind::Rnn,
        _ => return Ok(None),
    };
    recurrent(cx, kind).map(Some)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Lstm,
    Gru,
    Rnn,
}

impl Kind {
    const fn gates(self) -> u32 {
        match self {
            Self::Lstm => 4,
            Self::Gru => 3,
            Self::Rnn => 1,
        }
    }

    /// Activations by default, in ONNX's order.
    const fn activations(self) -> &'static [&'static str] {
        match self {
            Self::Lstm => &["Sigmoid", "Tanh", "Tanh"],
            Self::Gru => &["Sigmoid", "Tanh"],
            Self::Rnn => &["Tanh"],
        }
    }
}

/// One direction's parameters.
struct Cell {
    hidden: u32,
    /// Input weights, [inputs, gates * hidden].
    w: Tensor,
    /// State weights, [hidden, gates * hidden].
    r: Tensor,
    /// Biases of both, [gates * hidden] each.
    bias: Option<(Tensor, Tensor)>,
    /// Weights from the cell state to the gates i, o and f.
    peep: Option<Tensor>,
    activations: Vec<MapOp>,
    reset_after: bool,
}

fn recurrent(cx: &mut Cx<'_, '_>, kind: Kind) -> Result<Vec<Tensor>> {
    let attrs = &cx.node.attrs;
    let mut x = cx.floats(0)?;
    let (w, r) = (cx.floats(1)?, cx.floats(2)?);
    if x.rank() != 3 || w.rank() != 3 || r.rank() != 3 {
        return invalid("three dimensions are needed");
    }
    for name in [
        "clip",
        "input_forget",
        "activation_alpha",
        "activation_beta",
    ] {
        if attrs.has(name)
            && attrs.ints(name).is_none_or(|v| !v.is_empty())
            && attrs.int(name, 1) != 0
        {
            return unsupported(format!("attribute {name}"));
        }
    }
    let batch_first = attrs.int("layout", 0) != 0;
    if batch_first {
        x = x.permuted(&[1, 0, 2]);
    }
    let (time, batch) = (x.dims[0], x.dims[1]);
    if let Some(lengths) = cx.known(4)?
        && lengths.iter().any(|&l| l != i64::from(time))
    {
        return unsupported("sequences of different lengths");
    }
    let directions: &[bool] = match attrs.str("direction", "forward") {
        "forward" => &[false],
        "reverse" => &[true],
        "bidirectional" => &[false, true],
        other => return invalid(format!("direction {other:?}")),
    };
    let hidden = r.dims[2];
    let rows = kind.gates() * hidden;
    let fits = w.dims[..2] == [directions.len() as u32, rows]
        && r.dims[..2] == [directions.len() as u32, rows]
        && w.dims[2] == x.dims[2];
    if !fits || time == 0 {
        return invalid(format!("{:?} with {:?} and {:?}", x.dims, w.dims, r.dims));
    }
    let defaults = kind.activations();
    let names: Vec<String> = match attrs.strs("activations") {
        Some(names) => names.to_vec(),
        None => directions
            .iter()
            .flat_map(|_| defaults.iter().map(|&n| n.to_owned()))
            .collect(),
    };
    if names.len() != defaults.len() * directions.len() {
        return invalid("the number of activations");
    }
    let reset_after = attrs.int("linear_before_reset", 0) != 0;
    let state = |cx: &mut Cx<'_, '_>, i: usize, direction: usize| -> Result<Tensor> {
        match cx.optional(i) {
            Some(state) => {
                let state = if batch_first {
                    state.permuted(&[1, 0, 2])
                } else {
                    state
                };
                if state.dims != [directions.len() as u32, batch, hidden] {
                    return invalid(format!("initial state {:?}", state.dims));
                }
                pick(cx, &state, direction)
            }
            None => cx.const_f32(&[], &[0.0]).broadcast(&[batch, hidden]),
        }
    };
    let (mut all, mut lasts, mut cells) = (vec![], vec![], vec![]);
    for (direction, &reverse) in directions.iter().enumerate() {
        let turned =
            |cx: &mut Cx<'_, '_>, t: &Tensor| pick(cx, t, direction).map(|t| t.permuted(&[1, 0]));
        let bias = match cx.optional(3) {
            Some(b) => {
                let b = pick(cx, &b, direction)?;
                if b.dims != [2 * rows] {
                    return invalid(format!("bias {:?}", b.dims));
                }
                Some((
                    b.sliced(0, 0, 1, rows),
                    b.sliced(0, i64::from(rows), 1, rows),
                ))
            }
            None => None,
        };
        let peep = match cx.optional(7) {
            Some(p) if kind == Kind::Lstm => Some(pick(cx, &p, direction)?),
            _ => None,
        };
        let cell = Cell {
            hidden,
            w: turned(cx, &w)?,
            r: turned(cx, &r)?,
            bias,
            peep,
            activations: names[direction * defaults.len()..(direction + 1) * defaults.len()]
                .iter()
                .map(|n| activation(n))
                .collect::<Result<_>>()?,
            reset_after,
        };
        let mut h = state(cx, 5, direction)?;
        let mut c = match kind {
            Kind::Lstm => state(cx, 6, direction)?,
            _ => h.clone(),
        };
        let inputs = matmul(cx, &x, &cell.w)?;
        let mut steps = vec![None; time as usize];
        for t in 0..time as usize {
            let at = if reverse { time as usize - 1 - t } else { t };
            let row = inputs.sliced(0, at as i64, 1, 1);
            let row = reshaped(cx, &row, &[batch, rows])?;
            (h, c) = step(cx, kind, &cell, &row, &h, &c)?;
            steps[at] = Some(h.clone());
        }
        let steps: Vec<Tensor> = steps
            .into_iter()
            .flatten()
            .map(|s| {
                s.viewed(
                    vec![1, 1, batch, hidden],
                    vec![0, 0, s.strides[0], s.strides[1]],
                )
            })
            .collect();
        let layer =
            |t: &Tensor| t.viewed(vec![1, batch, hidden], vec![0, t.strides[0], t.strides[1]]);
        all.push(joined(cx, &steps, 0)?);
        lasts.push(layer(&h));
        cells.push(layer(&c));
    }
    let mut y = joined(cx, &all, 1)?;
    let mut last = joined(cx, &lasts, 0)?;
    let mut cell = joined(cx, &cells, 0)?;
    if batch_first {
        y = y.permuted(&[2, 0, 1, 3]);
        last = last.permuted(&[1, 0, 2]);
        cell = cell.permuted(&[1, 0, 2]);
    }
    let mut out = vec![y, last];
    if kind == Kind::Lstm {
        out.push(cell);
    }
    Ok(out)
}

/// One entry of the first axis.
fn pick(cx: &mut Cx<'_, '_>, t: &Tensor, i: usize) -> Result<Tensor> {
    if t.rank() == 0 || i >= t.dims[0] as usize {
        return invalid("a direction is missing");
    }
    let part = t.sliced(0, i as i64, 1, 1);
    let dims = part.dims[1..].to_vec();
    reshaped(cx, &part, &dims)
}

fn activation(name: &str) -> Result<MapOp> {
    match name {
        "Sigmoid" => Ok(MapOp::Sigmoid),
        "Tanh" => Ok(MapOp::Tanh),
        "Relu" => Ok(MapOp::Max),
        other => unsupported(format!("activation {other:?}")),
    }
}

fn activate(p: &mut Program, op: MapOp, x: Arg) -> Arg {
    match op {
        MapOp::Max => p.f32(op, &[x, imm(0.0)]),
        _ => p.f32(op, &[x]),
    }
}

/// Columns of one gate.
fn gate(t: &Tensor, number: u32, hidden: u32) -> Tensor {
    let axis = t.rank() - 1;
    t.sliced(axis, i64::from(number * hidden), 1, hidden)
}

/// `f((x + h) + (wb + rb))` for one gate.
fn gated(
    cx: &mut Cx<'_, '_>,
    cell: &Cell,
    x: &Tensor,
    h: &Tensor,
    number: u32,
    op: Option<MapOp>,
) -> Result<Tensor> {
    let (x, h) = (gate(x, number, cell.hidden), gate(h, number, cell.hidden));
    let body = |p: &mut Program, a: &[Arg]| {
        let mut sum = p.f32(MapOp::Add, &[a[0], a[1]]);
        if a.len() == 4 {
            let bias = p.f32(MapOp::Add, &[a[2], a[3]]);
            sum = p.f32(MapOp::Add, &[sum, bias]);
        }
        match op {
            Some(op) => activate(p, op, sum),
            None => sum,
        }
    };
    match &cell.bias {
        Some((wb, rb)) => {
            let (wb, rb) = (gate(wb, number, cell.hidden), gate(rb, number, cell.hidden));
            cx.b.zip(ElementType::F32, &[&x, &h, &wb, &rb], body)
        }
        None => cx.b.zip(ElementType::F32, &[&x, &h], body),
    }
}

fn step(
    cx: &mut Cx<'_, '_>,
    kind: Kind,
    cell: &Cell,
    x: &Tensor,
    h: &Tensor,
    c: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let state = matmul(cx, h, &cell.r)?;
    match kind {
        Kind::Rnn => {
            let next = gated(cx, cell, x, &state, 0, Some(cell.activations[0]))?;
            Ok((next.clone(), next))
        }
        Kind::Gru => {
            let f = cell.activations[0];
            let z = gated(cx, cell, x, &state, 0, Some(f))?;
            let r = gated(cx, cell, x, &state, 1, Some(f))?;
            let candidate = gru_candidate(cx, cell, x, &state, h, &r)?;
            let next = cx.b.zip(ElementType::F32, &[&z, &candidate, h], |p, a| {
                let other = p.f32(MapOp::Sub, &[imm(1.0), a[0]]);
                let new = p.f32(MapOp::Mul, &[other, a[1]]);
                let old = p.f32(MapOp::Mul, &[a[0], a[2]]);
                p.f32(MapOp::Add, &[new, old])
            })?;
            Ok((next.clone(), next))
        }
        Kind::Lstm => lstm(cx, cell, x, &state, c),
    }
}

fn gru_candidate(
    cx: &mut Cx<'_, '_>,
    cell: &Cell,
    x: &Tensor,
    state: &Tensor,
    h: &Tensor,
    r: &Tensor,
) -> Result<Tensor> {
    let g = cell.activations[1];
    let number = 2;
    let own = gate(x, number, cell.hidden);
    let zero = cx.const_f32(&[], &[0.0]);
    let (wb, rb) = match &cell.bias {
        Some((wb, rb)) => (gate(wb, number, cell.hidden), gate(rb, number, cell.hidden)),
        None => (zero.clone(), zero),
    };
    let from_state = if cell.reset_after {
        let part = gate(state, number, cell.hidden);
        cx.b.zip(ElementType::F32, &[r, &part, &rb], |p, a| {
            let sum = p.f32(MapOp::Add, &[a[1], a[2]]);
            p.f32(MapOp::Mul, &[a[0], sum])
        })?
    } else {
        let reset = cx.b.op(MapOp::Mul, &[r, h])?;
        let weights = gate(&cell.r, number, cell.hidden);
        let part = matmul(cx, &reset, &weights)?;
        cx.b.op(MapOp::Add, &[&part, &rb])?
    };
    cx.b.zip(ElementType::F32, &[&own, &from_state, &wb], |p, a| {
        let sum = p.f32(MapOp::Add, &[a[0], a[1]]);
        let sum = p.f32(MapOp::Add, &[sum, a[2]]);
        activate(p, g, sum)
    })
}

fn lstm(
    cx: &mut Cx<'_, '_>,
    cell: &Cell,
    x: &Tensor,
    state: &Tensor,
    c: &Tensor,
) -> Result<(Tensor, Tensor)> {
    let [f, g, h] = [
        cell.activations[0],
        cell.activations[1],
        cell.activations[2],
    ];
    // Gates stand in the order i, o, f, c; peepholes in i, o, f.
    let peeped = |cx: &mut Cx<'_, '_>, number: u32, c: &Tensor| -> Result<Tensor> {
        let Some(peep) = &cell.peep else {
            return gated(cx, cell, x, state, number, Some(f));
        };
        let sum = gated(cx, cell, x, state, number, None)?;
        let weight = gate(peep, number, cell.hidden);
        cx.b.zip(ElementType::F32, &[&sum, &weight, c], |p, a| {
            let seen = p.f32(MapOp::Mul, &[a[1], a[2]]);
            let sum = p.f32(MapOp::Add, &[a[0], seen]);
            activate(p, f, sum)
        })
    };
    let input = peeped(cx, 0, c)?;
    let forget = peeped(cx, 2, c)?;
    let candidate = gated(cx, cell, x, state, 3, Some(g))?;
    let next = cx.b.zip(
        ElementType::F32,
        &[&forget, c, &input, &candidate],
        |p, a| {
            let old = p.f32(MapOp::Mul, &[a[0], a[1]]);
            let new = p.f32(MapOp::Mul, &[a[2], a[3]]);
            p.f32(MapOp::Add, &[old, new])
        },
    )?;
    let output = peeped(cx, 1, &next)?;
    let hidden = cx.b.zip(ElementType::F32, &[&output, &next], |p, a| {
        let shown = activate(p, h, a[1]);
        p.f32(MapOp::Mul, &[a[0], shown])
    })?;
    Ok((hidden, next))
}
