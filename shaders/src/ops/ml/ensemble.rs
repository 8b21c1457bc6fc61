//! `TreeEnsemble` of version 5: trees whose leaves stand apart from their nodes, to the tables of
//! [`crate::plan::Trees`].

use super::trees::{NODES_MAX, Tables, feature_word, leaf_word, raw};
use super::{Cx, Result, invalid, transformed};
use crate::graph::Attrs;
use crate::plan::{MapOp, TREE_NODE_WORDS, Tensor, TreeFold, TreeMode};

/// Number of the mode that asks whether the feature is one of a set.
const MEMBER: i64 = 6;

/// What a node reads of the attributes.
struct Nodes<'a> {
    features: &'a [i64],
    modes: Vec<i64>,
    splits: Vec<f32>,
    yes: &'a [i64],
    no: &'a [i64],
    yes_is_leaf: &'a [i64],
    no_is_leaf: &'a [i64],
    missing: &'a [i64],
}

fn list<'a>(attrs: &'a Attrs, name: &str, len: usize) -> Result<&'a [i64]> {
    match attrs.ints(name) {
        Some(values) if values.len() == len => Ok(values),
        _ => invalid(format!("{name} must have {len} numbers")),
    }
}

fn floats(attrs: &Attrs, name: &str) -> Result<Vec<f32>> {
    match attrs.tensor(name).and_then(|t| t.floats()) {
        Some(values) => Ok(values),
        None => invalid(format!("{name} must be a tensor of floats")),
    }
}

/// The values of each set, in the order of the nodes that ask for one: a NaN ends a set.
fn sets(attrs: &Attrs) -> Result<Vec<Vec<f32>>> {
    if !attrs.has("membership_values") {
        return Ok(Vec::new());
    }
    let values = floats(attrs, "membership_values")?;
    let mut sets: Vec<Vec<f32>> = values.split(|v| v.is_nan()).map(<[f32]>::to_vec).collect();
    // Behind the last NaN there is no set.
    if sets.last().is_some_and(Vec::is_empty) {
        sets.pop();
    }
    Ok(sets)
}

fn tables(attrs: &Attrs, targets: u32) -> Result<Tables> {
    let Some(features) = attrs.ints("nodes_featureids") else {
        return invalid("nodes_featureids is missing");
    };
    let count = features.len();
    let Some(modes) = attrs.tensor("nodes_modes").and_then(|t| t.integers()) else {
        return invalid("nodes_modes must be a tensor of integers");
    };
    let given = Nodes {
        features,
        modes,
        splits: floats(attrs, "nodes_splits")?,
        yes: list(attrs, "nodes_truenodeids", count)?,
        no: list(attrs, "nodes_falsenodeids", count)?,
        yes_is_leaf: list(attrs, "nodes_trueleafs", count)?,
        no_is_leaf: list(attrs, "nodes_falseleafs", count)?,
        missing: attrs.ints("nodes_missing_value_tracks_true").unwrap_or(&[]),
    };
    let weights = floats(attrs, "leaf_weights")?;
    let leaf_targets = list(attrs, "leaf_targetids", weights.len())?;
    let Some(roots) = attrs.ints("tree_roots").filter(|r| !r.is_empty()) else {
        return invalid("tree_roots is missing");
    };
    if given.modes.len() != count || given.splits.len() != count {
        return invalid(format!(
            "nodes_modes and nodes_splits must have {count} values"
        ));
    }
    let sets = sets(attrs)?;
    // A set is asked for value by value: each value but the first takes a node of its own.
    let extra: usize = sets.iter().map(|s| s.len().saturating_sub(1)).sum();
    let all = count + weights.len() + extra;
    if all.max(roots.len()) > NODES_MAX {
        return Err(crate::plan::Refuse::Limit {
            what: "nodes of a tree ensemble",
            found: all.max(roots.len()) as u64,
            limit: NODES_MAX as u64,
        });
    }
    let mut nodes: Vec<u32> = Vec::with_capacity(all * TREE_NODE_WORDS as usize);
    let child = |number: i64, is_leaf: i64| -> Result<u32> {
        let (of, first) = if is_leaf == 0 {
            (count, 0)
        } else {
            (weights.len(), count)
        };
        match usize::try_from(number) {
            Ok(number) if number < of => Ok((first + number) as u32),
            _ => invalid(format!("child {number} of {of}")),
        }
    };
    let mut chains: Vec<[u32; 4]> = Vec::new();
    let mut next_set = sets.iter();
    for i in 0..count {
        let nan = given.missing.get(i).copied().unwrap_or(0) != 0;
        let word = |mode: u32| feature_word(given.features[i], mode, nan);
        let yes = child(given.yes[i], given.yes_is_leaf[i])?;
        let no = child(given.no[i], given.no_is_leaf[i])?;
        match given.modes[i] {
            MEMBER => {
                let Some(set) = next_set.next() else {
                    return invalid("membership_values has too few sets");
                };
                let equal = word(TreeMode::Equal as u32)?;
                // Nothing equals NaN: an empty set has no member.
                let (first, rest) = set.split_first().unwrap_or((&f32::NAN, &[]));
                let to = |chains: &Vec<[u32; 4]>, is_last: bool| {
                    let own = (count + weights.len() + chains.len()) as u32;
                    if is_last { no } else { own }
                };
                nodes.extend([equal, first.to_bits(), yes, to(&chains, rest.is_empty())]);
                for (number, value) in rest.iter().enumerate() {
                    chains.push([equal, value.to_bits(), yes, 0]);
                    let on = to(&chains, number + 1 == rest.len());
                    if let Some(node) = chains.last_mut() {
                        node[3] = on;
                    }
                }
            }
            mode @ 0..MEMBER => {
                nodes.extend([word(mode as u32)?, given.splits[i].to_bits(), yes, no]);
            }
            other => return invalid(format!("node mode {other}")),
        }
    }
    let mut leaves = Vec::with_capacity(2 * weights.len());
    for (number, (weight, target)) in weights.iter().zip(leaf_targets).enumerate() {
        if !(0..i64::from(targets)).contains(target) {
            return invalid(format!("output {target}"));
        }
        nodes.extend([leaf_word(), 0, number as u32, 1]);
        leaves.extend([*target as u32, weight.to_bits()]);
    }
    nodes.extend(chains.into_iter().flatten());
    let roots = roots
        .iter()
        .map(|&root| child(root, 0))
        .collect::<Result<Vec<_>>>()?;
    let depth = depth(&roots, &nodes)?;
    Ok(Tables {
        roots,
        nodes,
        weights: leaves,
        depth,
    })
}

/// Comparisons on the longest way from a root; an error where a way comes back to where it was.
fn depth(roots: &[u32], nodes: &[u32]) -> Result<u32> {
    const UNKNOWN: u32 = u32::MAX;
    const OPEN: u32 = u32::MAX - 1;
    let mut depths = vec![UNKNOWN; nodes.len() / TREE_NODE_WORDS as usize];
    let mut stack = roots.to_vec();
    while let Some(&node) = stack.last() {
        let words = &nodes[4 * node as usize..4 * node as usize + 4];
        let children = [words[2], words[3]];
        let is_leaf = words[0] == leaf_word();
        match depths[node as usize] {
            UNKNOWN if is_leaf => {
                depths[node as usize] = 0;
                stack.pop();
            }
            UNKNOWN => {
                depths[node as usize] = OPEN;
                for child in children {
                    match depths[child as usize] {
                        UNKNOWN => stack.push(child),
                        OPEN => return invalid("a tree has a cycle"),
                        _ => {}
                    }
                }
            }
            OPEN => {
                let below = children.map(|child| depths[child as usize]);
                // Both are known: they were above it on the stack.
                depths[node as usize] = below[0].max(below[1]) + 1;
                stack.pop();
            }
            _ => drop(stack.pop()),
        }
    }
    Ok(roots.iter().map(|&r| depths[r as usize]).max().unwrap_or(0))
}

pub(super) fn ensemble(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let x = cx.floats(0)?;
    let attrs = &cx.node.attrs;
    let targets = u32::try_from(attrs.int("n_targets", 1)).unwrap_or(0);
    if targets == 0 || targets as usize > NODES_MAX {
        return invalid("the number of targets");
    }
    let aggregate = attrs.int("aggregate_function", 1);
    let fold = match aggregate {
        0 | 1 => TreeFold::Sum,
        2 => TreeFold::Min,
        3 => TreeFold::Max,
        other => return invalid(format!("aggregate_function {other}")),
    };
    let post = match attrs.int("post_transform", 0) {
        0 => "NONE",
        1 => "SOFTMAX",
        2 => "LOGISTIC",
        3 => "SOFTMAX_ZERO",
        4 => "PROBIT",
        other => return invalid(format!("post_transform {other}")),
    };
    let (mut out, trees) = raw(cx, targets, fold, |attrs| tables(attrs, targets))?;
    if aggregate == 0 {
        out = cx.b.op_imm(MapOp::Div, &out, trees as f32)?;
    }
    let out = transformed(cx, &out, post)?;
    crate::ops::elementwise::cast(cx, &out, x.element)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_way_counts() {
        // 0 asks, then 1 or leaf 2; 1 asks, then leaf 2 or 3.
        let word = feature_word(0, 0, false).expect("small");
        let leaf = [leaf_word(), 0, 0, 1];
        let nodes = [[word, 0, 1, 2], [word, 0, 2, 3], leaf, leaf].concat();
        assert_eq!(depth(&[0], &nodes), Ok(2));
        assert_eq!(depth(&[1, 0, 1], &nodes), Ok(2));
        assert_eq!(depth(&[2], &nodes), Ok(0));
    }

    #[test]
    fn a_way_back_is_refused() {
        let word = feature_word(0, 0, false).expect("small");
        for nodes in [
            vec![word, 0, 0, 0],
            [[word, 0, 1, 2], [word, 0, 0, 2], [leaf_word(), 0, 0, 1]].concat(),
            [[word, 0, 2, 1], [word, 0, 2, 0], [leaf_word(), 0, 0, 1]].concat(),
        ] {
            assert!(depth(&[0], &nodes).is_err(), "{nodes:?}");
        }
    }
}
