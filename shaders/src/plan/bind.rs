//! A graph and concrete input shapes to a plan.

use crate::graph::Graph;
use crate::limits::Limits;
use crate::ops::{Keep, Refused, lower_nodes};
use crate::plan::{Access, Builder, Plan, RANK_MAX, Refuse, Tensor};
use penstock_rules::tensor::ElementType;

/// A plan, and what was seen while it was made.
#[derive(Debug)]
pub(crate) struct Bound {
    pub(crate) plan: Plan,
    /// Element types of the outputs.
    pub(crate) elements: Vec<ElementType>,
    /// Constants computed from shapes that steps read: their one value, or `None` where they have several.
    pub(crate) of_shape: Vec<Option<u64>>,
}

/// Binds `graph` to input shapes, which must have the inputs' ranks.
pub(crate) fn bind(
    graph: &Graph,
    limits: &Limits,
    access: Access<'_>,
    shapes: &[Vec<u32>],
) -> std::result::Result<Bound, Refused> {
    let refused = |why| Refused {
        op: "graph".into(),
        node: String::new(),
        why,
    };
    let mut b = Builder::new(limits, access, graph.mode);
    let mut env: Vec<Option<Tensor>> = graph
        .values
        .iter()
        .map(|value| value.as_ref().map(Tensor::constant))
        .collect();
    let mut inputs = Vec::with_capacity(shapes.len());
    for (input, shape) in graph.inputs.iter().zip(shapes) {
        let tensor = b.alloc(input.element, shape).map_err(refused)?;
        env[input.value] = Some(tensor.clone());
        inputs.push(tensor);
    }
    lower_nodes(&mut b, &graph.nodes, &mut env, Keep::Yes)?;
    let mut outputs = Vec::with_capacity(graph.outputs.len());
    for output in &graph.outputs {
        let tensor = env[output.value].clone().ok_or_else(|| {
            refused(Refuse::Invalid(format!(
                "output {:?} was not computed",
                output.name
            )))
        })?;
        if tensor.len() == 0 {
            return Err(refused(Refuse::Invalid(format!(
                "output {:?} is empty",
                output.name
            ))));
        }
        if tensor.rank() > RANK_MAX {
            return Err(refused(Refuse::Limit {
                what: "rank of an output",
                found: tensor.rank() as u64,
                limit: RANK_MAX as u64,
            }));
        }
        outputs.push(tensor);
    }
    let elements = outputs.iter().map(|t| t.element).collect();
    let of_shape = std::mem::take(&mut b.of_shape);
    // What an output shows of a shape is a value of the answer, too.
    let shown = outputs.iter().filter(|t| t.of_shape()).map(|_| None::<u64>);
    let of_shape = of_shape.into_iter().chain(shown).collect();
    let plan = b.finish(&inputs, &outputs).map_err(refused)?;
    Ok(Bound {
        plan,
        elements,
        of_shape,
    })
}
