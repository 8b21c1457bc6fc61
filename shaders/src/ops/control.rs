//! The walk over nodes, and control flow.

use super::{Cx, Result, invalid, lower, unsupported};
use crate::cpu::Cpu;
use crate::graph::{Constant, Node, Subgraph, ValueId};
use crate::num::Mode;
use crate::plan::{Access, Builder, MapOp, Place, Prepared, Refuse, Tensor};
use std::sync::Arc;

/// Most iterations of a loop: it is unrolled.
const ITERATIONS_MAX: i64 = 1_024;

/// Most nodes of a plan, those of loops counted in each round. Loops in loops multiply, and nodes that only look at
/// tensors make no step that a limit would count. 2^18: about a second of planning.
const LOWERED_MAX: u64 = 1 << 18;

/// A refusal, and the node that was refused.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    pub(crate) op: String,
    pub(crate) node: String,
    pub(crate) why: Refuse,
}

/// Whether constants computed at nodes may be kept for the next plan: inside a loop each round computes others.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Keep {
    /// They are the same in each plan.
    Yes,
    /// They are not.
    No,
}

/// Turns `nodes` into steps, in order; `env` holds the values.
pub(crate) fn lower_nodes(
    b: &mut Builder<'_>,
    nodes: &[Node],
    env: &mut [Option<Tensor>],
    keep: Keep,
) -> std::result::Result<(), Refused> {
    for node in nodes {
        let refused = |why| Refused {
            op: node.op.clone(),
            node: node.name.clone(),
            why,
        };
        b.lowered += 1;
        if b.lowered > LOWERED_MAX {
            return Err(refused(Refuse::Limit {
                what: "nodes of a plan, with those of loops in each round",
                found: b.lowered,
                limit: LOWERED_MAX,
            }));
        }
        let outputs = match node.op.as_str() {
            "If" => branch(b, node, env, keep)?,
            "Loop" => repeat(b, node, env)?,
            "Scan" => super::scan::scan(b, node, env)?,
            _ => one(b, node, env, keep).map_err(refused)?,
        };
        for (id, tensor) in node.outputs.iter().zip(outputs) {
            if let Some(id) = id {
                env[*id] = Some(tensor);
            }
        }
        let written = |id: &Option<ValueId>| id.is_none_or(|id| env[id].is_some());
        if !node.outputs.iter().all(written) {
            return Err(refused(Refuse::Unsupported(
                "an output that the engine does not make".into(),
            )));
        }
    }
    Ok(())
}

fn one(
    b: &mut Builder<'_>,
    node: &Node,
    env: &[Option<Tensor>],
    keep: Keep,
) -> Result<Vec<Tensor>> {
    let inputs = node
        .inputs
        .iter()
        .map(|id| match id {
            None => Ok(None),
            Some(id) => match &env[*id] {
                Some(tensor) => Ok(Some(tensor.clone())),
                None => invalid("an input was not computed"),
            },
        })
        .collect::<Result<Vec<_>>>()?;
    if b.mode == Mode::Int8 && node.op == "DequantizeLinear" {
        let inputs = inputs.clone();
        super::quantised::remember(&mut Cx { b, node, inputs })?;
    }
    let known = inputs.iter().flatten().all(Tensor::is_const);
    if known && !inputs.is_empty() {
        return fold(b, node, inputs, keep);
    }
    let mut cx = Cx { b, node, inputs };
    lower(&mut cx)
}

/// Computes a node whose inputs are constants, with the same steps as any other.
fn fold(
    b: &mut Builder<'_>,
    node: &Node,
    inputs: Vec<Option<Tensor>>,
    keep: Keep,
) -> Result<Vec<Tensor>> {
    let of_shape = inputs.iter().flatten().any(Tensor::of_shape);
    let key = |i: usize| node.outputs.get(i).copied().flatten();
    if keep == Keep::Yes && !of_shape {
        // Computed when the model was loaded. A node that was answered with views has none of these, and is cheap.
        let kept: Option<Vec<Tensor>> = (0..node.outputs.len())
            .map(|i| {
                let id = key(i)?;
                b.access.memo((id, FOLDED)).map(|c| Tensor::constant(&c))
            })
            .collect();
        if let Some(kept) = kept.filter(|k| !k.is_empty()) {
            return Ok(kept);
        }
    }
    let empty = Prepared::default();
    let mut inner = Builder::new(b.limits, Access::Frozen(&empty), b.mode);
    let mut cx = Cx {
        b: &mut inner,
        node,
        inputs,
    };
    let mut outputs = lower(&mut cx)?;
    let computed: Vec<usize> = (0..outputs.len())
        .filter(|&i| !outputs[i].is_const())
        .collect();
    if !computed.is_empty() {
        let wanted: Vec<Tensor> = computed.iter().map(|&i| outputs[i].clone()).collect();
        b.spend(inner.macs, inner.touched)?;
        let plan = inner.finish(&[], &wanted)?;
        let mut words = vec![Vec::new(); wanted.len()];
        Cpu::detect().interpret(&plan, &[], &mut words);
        for (i, words) in computed.into_iter().zip(words) {
            let made = Constant::new(outputs[i].element, outputs[i].dims.clone(), words);
            let made = Arc::new(made.marked(of_shape));
            if let (Some(id), Keep::Yes, false) = (key(i), keep, of_shape) {
                b.access.remember((id, FOLDED), &made);
            }
            outputs[i] = Tensor::constant(&made);
        }
    }
    for output in &mut outputs {
        if let Place::Const(constant) = &output.place
            && of_shape
            && !constant.of_shape
        {
            let copy = Constant::new(
                constant.element,
                constant.dims.clone(),
                constant.words.clone(),
            );
            output.place = Place::Const(Arc::new(copy.marked(true)));
        }
    }
    Ok(outputs)
}

/// Number of a node's folded result among the constants kept for its value.
const FOLDED: u32 = u32::MAX;

fn branch(
    b: &mut Builder<'_>,
    node: &Node,
    env: &mut [Option<Tensor>],
    keep: Keep,
) -> std::result::Result<Vec<Tensor>, Refused> {
    let refused = |why| Refused {
        op: node.op.clone(),
        node: node.name.clone(),
        why,
    };
    let missing = || refused(Refuse::Invalid("condition or branch is missing".into()));
    let condition = node
        .inputs
        .first()
        .copied()
        .flatten()
        .and_then(|id| env[id].clone())
        .ok_or_else(missing)?;
    let then = node.attrs.graph("then_branch").ok_or_else(missing)?;
    let other = node.attrs.graph("else_branch").ok_or_else(missing)?;
    if condition.len() != 1 {
        return Err(refused(Refuse::Invalid(
            "the condition must be one element".into(),
        )));
    }
    let mut run = |b: &mut Builder<'_>, graph: &Subgraph| {
        lower_nodes(b, &graph.nodes, env, keep)?;
        outputs_of(graph, env).map_err(refused)
    };
    if let Some(value) = condition.bits() {
        return run(b, if value[0] == 0 { other } else { then });
    }
    // Neither branch has effects: both are computed, and one is taken.
    let (yes, no) = (run(b, then)?, run(b, other)?);
    let condition = condition
        .reshaped(&[])
        .ok_or_else(|| refused(Refuse::Invalid("the condition must be one element".into())))?;
    yes.iter()
        .zip(&no)
        .map(|(yes, no)| {
            if yes.dims != no.dims || yes.element != no.element {
                return unsupported("branches of different shapes");
            }
            let kind = yes.kind();
            b.map(yes.element, &yes.dims, &[&condition, yes, no], |p, a| {
                p.op(MapOp::Select, kind, a)
            })
        })
        .collect::<Result<_>>()
        .map_err(refused)
}

pub(super) fn outputs_of(graph: &Subgraph, env: &[Option<Tensor>]) -> Result<Vec<Tensor>> {
    graph
        .outputs
        .iter()
        .map(|&id| match &env[id] {
            Some(tensor) => Ok(tensor.clone()),
            None => invalid("a subgraph's output was not computed"),
        })
        .collect()
}

/// A loop whose number of rounds is known: unrolled.
fn repeat(
    b: &mut Builder<'_>,
    node: &Node,
    env: &mut [Option<Tensor>],
) -> std::result::Result<Vec<Tensor>, Refused> {
    let refused = |why| Refused {
        op: node.op.clone(),
        node: node.name.clone(),
        why,
    };
    let value = |env: &[Option<Tensor>], i: usize| {
        node.inputs
            .get(i)
            .copied()
            .flatten()
            .and_then(|id| env[id].clone())
    };
    let known = |tensor: Option<Tensor>, default: i64| match tensor {
        None => Ok(default),
        Some(tensor) => match tensor.integers().as_deref() {
            Some(&[value]) => Ok(value),
            _ => unsupported("a loop that depends on data"),
        },
    };
    let body = node
        .attrs
        .graph("body")
        .ok_or_else(|| refused(Refuse::Invalid("the body is missing".into())))?
        .clone();
    let rounds = known(value(env, 0), ITERATIONS_MAX + 1).map_err(refused)?;
    let mut go = known(value(env, 1), 1).map_err(refused)? != 0;
    let carried_count = node.inputs.len().saturating_sub(2);
    if body.inputs.len() != carried_count + 2 || body.outputs.len() < carried_count + 1 {
        return Err(refused(Refuse::Invalid("the body does not fit".into())));
    }
    let mut carried = Vec::new();
    for i in 0..carried_count {
        carried.push(
            value(env, i + 2)
                .ok_or_else(|| refused(Refuse::Invalid("a carried value is missing".into())))?,
        );
    }
    let mut scans: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs.len() - 1 - carried_count];
    let mut round = 0;
    while go && round < rounds {
        if round >= ITERATIONS_MAX {
            return Err(refused(Refuse::Limit {
                what: "rounds of a loop",
                found: round as u64 + 1,
                limit: ITERATIONS_MAX as u64,
            }));
        }
        let number = Tensor::constant(&Arc::new(Constant::from_i64(vec![], &[round])));
        let truth = Constant::new(penstock_rules::tensor::ElementType::Bool, vec![], vec![1]);
        env[body.inputs[0]] = Some(number);
        env[body.inputs[1]] = Some(Tensor::constant(&Arc::new(truth)));
        for (id, tensor) in body.inputs[2..].iter().zip(&carried) {
            env[*id] = Some(tensor.clone());
        }
        lower_nodes(b, &body.nodes, env, Keep::No)?;
        let outputs = outputs_of(&body, env).map_err(refused)?;
        go = known(outputs.first().cloned(), 1).map_err(refused)? != 0;
        carried = outputs[1..=carried_count].to_vec();
        for (scan, part) in scans.iter_mut().zip(&outputs[1 + carried_count..]) {
            scan.push(part.clone());
        }
        round += 1;
    }
    let mut out = carried;
    for parts in scans {
        if parts.is_empty() {
            return Err(refused(Refuse::Unsupported(
                "a loop that collects nothing".into(),
            )));
        }
        out.push(stacked(b, node, &parts, 0).map_err(refused)?);
    }
    Ok(out)
}

/// Tensors of one shape, side by side along a new axis.
pub(super) fn stacked(
    b: &mut Builder<'_>,
    node: &Node,
    parts: &[Tensor],
    axis: usize,
) -> Result<Tensor> {
    let rows: Vec<Tensor> = parts
        .iter()
        .map(|part| {
            let (mut dims, mut strides) = (part.dims.clone(), part.strides.clone());
            dims.insert(axis, 1);
            strides.insert(axis, 0);
            part.viewed(dims, strides)
        })
        .collect();
    let mut cx = Cx {
        b,
        node,
        inputs: Vec::new(),
    };
    super::shape::joined(&mut cx, &rows, axis)
}
