//! `Scan`: a body over the slices of sequences, unrolled. The number of slices is a dimension, so it is known.

use super::control::{Keep, Refused, lower_nodes, outputs_of, stacked};
use super::{Result, invalid, resolve_axis};
use crate::graph::{Node, Subgraph};
use crate::plan::{Builder, Refuse, Tensor};

/// Most slices: each is a copy of the body.
const SLICES_MAX: u32 = 1_024;

/// A direction: from the first slice to the last, or back.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Way {
    Forward,
    Back,
}

/// A sequence, or what is collected of one: along which axis, and which way.
#[derive(Clone, Copy)]
struct Course {
    axis: i64,
    way: Way,
}

/// Turns a `Scan` into steps.
pub(super) fn scan(
    b: &mut Builder<'_>,
    node: &Node,
    env: &mut [Option<Tensor>],
) -> std::result::Result<Vec<Tensor>, Refused> {
    let refused = |why| Refused {
        op: node.op.clone(),
        node: node.name.clone(),
        why,
    };
    let Some(body) = node.attrs.graph("body").cloned() else {
        return Err(refused(Refuse::Invalid("the body is missing".into())));
    };
    // Before version 9 the lengths of sequences came first, and everything had a batch axis.
    let old = node.version < 9;
    let mut values = node.inputs.iter().copied();
    if old && values.next().flatten().is_some() {
        return Err(refused(Refuse::Unsupported("lengths of sequences".into())));
    }
    let inputs = values
        .map(|id| match id.and_then(|id| env[id].clone()) {
            Some(tensor) => Ok(tensor),
            None => invalid("an input is missing"),
        })
        .collect::<Result<Vec<_>>>()
        .map_err(refused)?;
    let sequences = usize::try_from(node.attrs.int("num_scan_inputs", 0)).unwrap_or(0);
    let states = inputs.len().checked_sub(sequences);
    let fits = states.is_some_and(|states| {
        sequences > 0 && body.inputs.len() == inputs.len() && body.outputs.len() >= states
    });
    let Some(states) = states.filter(|_| fits) else {
        return Err(refused(Refuse::Invalid("the body does not fit".into())));
    };
    let courses = |axes: &str, ways: &str, len: usize| courses(node, axes, ways, len);
    let collected = body.outputs.len() - states;
    let ways = if old {
        "directions"
    } else {
        "scan_input_directions"
    };
    let ins = courses("scan_input_axes", ways, sequences).map_err(refused)?;
    let outs = courses("scan_output_axes", "scan_output_directions", collected).map_err(refused)?;
    let (states, sequences) = inputs.split_at(states);
    if !old {
        return rounds(b, node, env, &body, states, sequences, (&ins, &outs));
    }
    let batch = inputs[0].dims.first().copied().unwrap_or(0);
    let same = |t: &Tensor| t.dims.first() == Some(&batch);
    if batch == 0 || batch > SLICES_MAX || !inputs.iter().all(same) {
        return Err(refused(Refuse::Invalid("the batches differ".into())));
    }
    let mut parts: Vec<Vec<Tensor>> = vec![Vec::new(); body.outputs.len()];
    for sample in 0..batch {
        let of = |t: &Tensor| slice(t, 0, sample);
        let states: Vec<Tensor> = states.iter().map(of).collect();
        let sequences: Vec<Tensor> = sequences.iter().map(of).collect();
        let outputs = rounds(b, node, env, &body, &states, &sequences, (&ins, &outs))?;
        for (part, output) in parts.iter_mut().zip(outputs) {
            part.push(output);
        }
    }
    parts
        .iter()
        .map(|parts| stacked(b, node, parts, 0))
        .collect::<Result<_>>()
        .map_err(refused)
}

/// Axes and directions, which an attribute may leave out.
fn courses(node: &Node, axes: &str, ways: &str, len: usize) -> Result<Vec<Course>> {
    let list = |name: &str| match node.attrs.ints(name) {
        None => Ok(vec![0; len]),
        Some(values) if values.len() == len => Ok(values.to_vec()),
        Some(values) => invalid(format!("{name} {values:?} for {len}")),
    };
    list(axes)?
        .into_iter()
        .zip(list(ways)?)
        .map(|(axis, way)| {
            let way = match way {
                0 => Way::Forward,
                1 => Way::Back,
                other => return invalid(format!("direction {other}")),
            };
            Ok(Course { axis, way })
        })
        .collect()
}

/// One slice, without its axis.
fn slice(t: &Tensor, axis: usize, number: u32) -> Tensor {
    let part = t.sliced(axis, i64::from(number), 1, 1);
    let (mut dims, mut strides) = (part.dims.clone(), part.strides.clone());
    dims.remove(axis);
    strides.remove(axis);
    part.viewed(dims, strides)
}

fn rounds(
    b: &mut Builder<'_>,
    node: &Node,
    env: &mut [Option<Tensor>],
    body: &Subgraph,
    states: &[Tensor],
    sequences: &[Tensor],
    (ins, outs): (&[Course], &[Course]),
) -> std::result::Result<Vec<Tensor>, Refused> {
    let refused = |why| Refused {
        op: node.op.clone(),
        node: node.name.clone(),
        why,
    };
    let axes = sequences
        .iter()
        .zip(ins)
        .map(|(t, course)| resolve_axis(course.axis, t.rank()))
        .collect::<Result<Vec<_>>>()
        .map_err(refused)?;
    let extents: Vec<u32> = sequences
        .iter()
        .zip(&axes)
        .map(|(t, &a)| t.dims[a])
        .collect();
    let count = extents[0];
    if extents.iter().any(|&e| e != count) || count == 0 {
        let why = format!("sequences of {extents:?} slices");
        return Err(refused(Refuse::Invalid(why)));
    }
    if count > SLICES_MAX {
        return Err(refused(Refuse::Limit {
            what: "slices of a scan",
            found: u64::from(count),
            limit: u64::from(SLICES_MAX),
        }));
    }
    let mut carried = states.to_vec();
    let mut collected: Vec<Vec<Tensor>> = vec![Vec::new(); outs.len()];
    for round in 0..count {
        for (id, state) in body.inputs.iter().zip(&carried) {
            env[*id] = Some(state.clone());
        }
        for (i, id) in body.inputs[carried.len()..].iter().enumerate() {
            let number = match ins[i].way {
                Way::Forward => round,
                Way::Back => count - 1 - round,
            };
            env[*id] = Some(slice(&sequences[i], axes[i], number));
        }
        lower_nodes(b, &body.nodes, env, Keep::No)?;
        let outputs = outputs_of(body, env).map_err(refused)?;
        let (next, parts) = outputs.split_at(carried.len());
        let same = |(a, b): (&Tensor, &Tensor)| a.dims == b.dims && a.element == b.element;
        if !carried.iter().zip(next).all(same) {
            return Err(refused(Refuse::Invalid("a state changes its shape".into())));
        }
        for (list, part) in collected.iter_mut().zip(parts) {
            list.push(part.clone());
        }
        carried = next.to_vec();
    }
    let mut out = carried;
    for (mut parts, course) in collected.into_iter().zip(outs) {
        if course.way == Way::Back {
            parts.reverse();
        }
        let axis = resolve_axis(course.axis, parts[0].rank() + 1).map_err(refused)?;
        out.push(stacked(b, node, &parts, axis).map_err(refused)?);
    }
    Ok(out)
}
