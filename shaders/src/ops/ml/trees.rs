//! Tree ensembles: from ONNX's parallel lists to the tables of [`crate::plan::Trees`].

use super::{
    Cx, Result, Single, chosen, columns, invalid, matrix, transformed, two_classes, unsupported,
};
use crate::graph::{Attrs, Constant};
use crate::plan::{MapOp, TREE_LEAF, Tensor, TreeFold, TreeMode};
use penstock_rules::tensor::ElementType;
use std::collections::HashMap;

/// Most nodes of an ensemble, so that their numbers and tables stay small. 2^20: a hundred times scikit-learn's default.
pub(super) const NODES_MAX: usize = 1 << 20;

/// Most features: they share a word with the mode.
const FEATURES_MAX: i64 = 1 << 24;

pub(super) struct Tables {
    pub(super) roots: Vec<u32>,
    pub(super) nodes: Vec<u32>,
    pub(super) weights: Vec<u32>,
    pub(super) depth: u32,
}

/// First word of a node that asks for a feature.
pub(super) fn feature_word(feature: i64, mode: u32, nan_is_true: bool) -> Result<u32> {
    if !(0..FEATURES_MAX).contains(&feature) {
        return invalid(format!("feature {feature}"));
    }
    Ok(feature as u32 | (mode | u32::from(nan_is_true) << 3) << 24)
}

/// First word of a leaf.
pub(super) const fn leaf_word() -> u32 {
    TREE_LEAF << 24
}

fn list<'a>(attrs: &'a Attrs, name: &str, len: usize) -> Result<&'a [i64]> {
    match attrs.ints(name) {
        Some(values) if values.len() == len => Ok(values),
        _ => invalid(format!("{name} must have {len} numbers")),
    }
}

fn mode(name: &str) -> Result<u32> {
    Ok(match name {
        "BRANCH_LEQ" => TreeMode::LessEqual as u32,
        "BRANCH_LT" => TreeMode::Less as u32,
        "BRANCH_GTE" => TreeMode::GreaterEqual as u32,
        "BRANCH_GT" => TreeMode::Greater as u32,
        "BRANCH_EQ" => TreeMode::Equal as u32,
        "BRANCH_NEQ" => TreeMode::NotEqual as u32,
        "LEAF" => TREE_LEAF,
        other => return invalid(format!("node mode {other:?}")),
    })
}

/// Reads the ensemble; `prefix` is `target` or `class`.
fn tables(attrs: &Attrs, prefix: &str, targets: u32) -> Result<Tables> {
    let Some(trees) = attrs.ints("nodes_treeids") else {
        return invalid("nodes_treeids is missing");
    };
    let count = trees.len();
    if count > NODES_MAX {
        return Err(crate::plan::Refuse::Limit {
            what: "nodes of a tree ensemble",
            found: count as u64,
            limit: NODES_MAX as u64,
        });
    }
    let ids = list(attrs, "nodes_nodeids", count)?;
    let features = list(attrs, "nodes_featureids", count)?;
    let yes = list(attrs, "nodes_truenodeids", count)?;
    let no = list(attrs, "nodes_falsenodeids", count)?;
    let thresholds = match attrs.floats("nodes_values") {
        Some(values) if values.len() == count => values,
        _ => return invalid(format!("nodes_values must have {count} numbers")),
    };
    let modes = match attrs.strs("nodes_modes") {
        Some(values) if values.len() == count => values,
        _ => return invalid(format!("nodes_modes must have {count} entries")),
    };
    let missing = attrs.ints("nodes_missing_value_tracks_true").unwrap_or(&[]);

    let mut at: HashMap<(i64, i64), u32> = HashMap::with_capacity(count);
    for i in 0..count {
        if at.insert((trees[i], ids[i]), i as u32).is_some() {
            return invalid(format!(
                "node {} of tree {} is given twice",
                ids[i], trees[i]
            ));
        }
    }
    let mut nodes = vec![0u32; count * 4];
    let mut children = vec![false; count];
    for i in 0..count {
        let mode = mode(&modes[i])?;
        if mode == TREE_LEAF {
            nodes[4 * i] = leaf_word();
            continue;
        }
        let nan = missing.get(i).copied().unwrap_or(0) != 0;
        nodes[4 * i] = feature_word(features[i], mode, nan)?;
        nodes[4 * i + 1] = thresholds[i].to_bits();
        for (slot, child) in [(2, yes[i]), (3, no[i])] {
            let Some(&child) = at.get(&(trees[i], child)) else {
                return invalid(format!("node {child} of tree {} is missing", trees[i]));
            };
            // With one parent per node, and a root that has none, there is no way back: no cycle can be reached.
            if std::mem::replace(&mut children[child as usize], true) {
                return invalid(format!("a node of tree {} has two parents", trees[i]));
            }
            nodes[4 * i + slot] = child;
        }
    }
    // Roots, in the order of the file.
    let mut roots = Vec::new();
    let mut rooted: HashMap<i64, u32> = HashMap::new();
    for i in 0..count {
        if !children[i] {
            if rooted.insert(trees[i], i as u32).is_some() {
                return invalid(format!("tree {} has two roots", trees[i]));
            }
            roots.push(i as u32);
        }
    }
    let known: std::collections::HashSet<i64> = trees.iter().copied().collect();
    if rooted.len() != known.len() || roots.is_empty() {
        return invalid("a tree has no root");
    }
    let weights = leaf_weights(attrs, prefix, targets, &at, &mut nodes)?;
    let depth = depth(&roots, &nodes);
    Ok(Tables {
        roots,
        nodes,
        weights,
        depth,
    })
}

/// The weights, sorted by leaf; each leaf's first and number go into its node.
fn leaf_weights(
    attrs: &Attrs,
    prefix: &str,
    targets: u32,
    at: &HashMap<(i64, i64), u32>,
    nodes: &mut [u32],
) -> Result<Vec<u32>> {
    let name = |part: &str| format!("{prefix}_{part}");
    let Some(weights) = attrs.floats(&name("weights")) else {
        return invalid(format!("{prefix}_weights is missing"));
    };
    let count = weights.len();
    if count > NODES_MAX {
        return invalid("too many weights");
    }
    let trees = list(attrs, &name("treeids"), count)?;
    let ids = list(attrs, &name("nodeids"), count)?;
    let outputs = list(attrs, &name("ids"), count)?;
    let mut entries = Vec::with_capacity(count);
    for i in 0..count {
        let leaf = at.get(&(trees[i], ids[i])).copied();
        let Some(leaf) = leaf.filter(|&l| nodes[4 * l as usize] >> 24 == TREE_LEAF) else {
            return invalid(format!("node {} of tree {} is no leaf", ids[i], trees[i]));
        };
        if !(0..i64::from(targets)).contains(&outputs[i]) {
            return invalid(format!("output {}", outputs[i]));
        }
        entries.push((leaf, outputs[i] as u32, weights[i].to_bits()));
    }
    entries.sort_by_key(|e| e.0);
    let mut out = Vec::with_capacity(2 * count);
    for (i, (leaf, target, weight)) in entries.into_iter().enumerate() {
        let node = &mut nodes[4 * leaf as usize..4 * leaf as usize + 4];
        if node[3] == 0 {
            node[2] = i as u32;
        }
        node[3] += 1;
        out.extend([target, weight]);
    }
    Ok(out)
}

fn depth(roots: &[u32], nodes: &[u32]) -> u32 {
    let mut most = 0;
    let mut stack: Vec<(u32, u32)> = roots.iter().map(|&r| (r, 0)).collect();
    while let Some((node, depth)) = stack.pop() {
        most = most.max(depth);
        let node = &nodes[4 * node as usize..4 * node as usize + 4];
        if node[0] >> 24 != TREE_LEAF {
            stack.push((node[2], depth + 1));
            stack.push((node[3], depth + 1));
        }
    }
    most
}

/// Raw sums per row and target, and the number of trees. The tables are made once per model.
pub(super) fn raw(
    cx: &mut Cx<'_, '_>,
    targets: u32,
    fold: TreeFold,
    tables: impl Fn(&Attrs) -> Result<Tables>,
) -> Result<(Tensor, u32)> {
    let x = matrix(cx, 0)?;
    let key = cx.key();
    let mut made: Option<Tables> = None;
    let mut parts = Vec::new();
    for number in 0..4 {
        let attrs = &cx.node.attrs;
        let part = cx.b.memo((key, number), || {
            let tables = match made.take() {
                Some(tables) => tables,
                None => tables(attrs)?,
            };
            let words = match number {
                0 => tables.roots.clone(),
                1 => tables.nodes.clone(),
                // A table of nothing has one word all the same.
                2 if tables.weights.is_empty() => vec![0, 0],
                2 => tables.weights.clone(),
                _ => vec![tables.depth],
            };
            made = Some(tables);
            Ok(Constant::new(
                ElementType::U32,
                vec![words.len() as u32],
                words,
            ))
        })?;
        parts.push(part);
    }
    let depth = parts[3].bits().map_or(0, |b| b[0] as u32);
    let trees = parts[0].dims[0];
    let most = parts[1]
        .bits()
        .unwrap_or_default()
        .chunks(4)
        .filter(|n| n[0] >> 24 != u64::from(TREE_LEAF))
        .map(|n| n[0] & 0xff_ffff)
        .max()
        .unwrap_or(0);
    if most >= u64::from(x.dims[1]) {
        return invalid(format!("feature {most} of {}", x.dims[1]));
    }
    let tables = [&parts[0], &parts[1], &parts[2]];
    let out = cx.b.trees(&x, tables, [trees, targets, depth], fold)?;
    Ok((out, trees))
}

fn based(cx: &mut Cx<'_, '_>, out: &Tensor, targets: u32) -> Result<Tensor> {
    let base = cx.node.attrs.floats("base_values").unwrap_or(&[]).to_vec();
    if base.is_empty() {
        return Ok(out.clone());
    }
    let base = columns(cx, &base, targets)?;
    cx.b.op(MapOp::Add, &[out, &base])
}

pub(super) fn regressor(cx: &mut Cx<'_, '_>) -> Result<Tensor> {
    let targets = u32::try_from(cx.node.attrs.int("n_targets", 1)).unwrap_or(0);
    if targets == 0 || targets as usize > NODES_MAX {
        return invalid("the number of targets");
    }
    let aggregate = cx.node.attrs.str("aggregate_function", "SUM").to_owned();
    let fold = match aggregate.as_str() {
        "SUM" | "AVERAGE" => TreeFold::Sum,
        "MIN" => TreeFold::Min,
        "MAX" => TreeFold::Max,
        other => return invalid(format!("aggregate_function {other:?}")),
    };
    let (mut out, trees) = raw(cx, targets, fold, |attrs| tables(attrs, "target", targets))?;
    if aggregate == "AVERAGE" {
        out = cx.b.op_imm(MapOp::Div, &out, trees as f32)?;
    }
    let out = based(cx, &out, targets)?;
    let post = cx.node.attrs.str("post_transform", "NONE").to_owned();
    transformed(cx, &out, &post)
}

pub(super) fn classifier(cx: &mut Cx<'_, '_>) -> Result<Vec<Tensor>> {
    let attrs = &cx.node.attrs;
    let Some(labels) = attrs.ints("classlabels_int64s").map(<[i64]>::to_vec) else {
        return unsupported("labels that are strings");
    };
    let ids = attrs.ints("class_ids").unwrap_or(&[]);
    let weights = attrs.floats("class_weights").unwrap_or(&[]);
    let post = attrs.str("post_transform", "NONE").to_owned();
    let one = ids
        .first()
        .is_some_and(|first| ids.iter().all(|i| i == first));
    if labels.len() == 2 && one {
        // Two classes by one score: it is a probability where no weight is negative.
        let single = if weights.iter().all(|&w| w >= 0.0) {
            Single::Probability
        } else {
            Single::Signed
        };
        let column = ids[0];
        let targets = u32::try_from(column + 1).unwrap_or(0);
        if !(1..=2).contains(&targets) {
            return invalid("class ids");
        }
        let (out, _) = raw(cx, targets, TreeFold::Sum, |attrs| {
            tables(attrs, "class", targets)
        })?;
        let score = out.sliced(1, column, 1, 1);
        let base = cx.node.attrs.floats("base_values").unwrap_or(&[]).to_vec();
        let score = match &base[..] {
            [] => score,
            [one] => cx.b.op_imm(MapOp::Add, &score, *one)?,
            several => {
                let value = several.get(column as usize).copied().unwrap_or(0.0);
                cx.b.op_imm(MapOp::Add, &score, value)?
            }
        };
        return two_classes(cx, &score, &labels, &post, single);
    }
    let targets = labels.len() as u32;
    let (out, _) = raw(cx, targets, TreeFold::Sum, |attrs| {
        tables(attrs, "class", targets)
    })?;
    let scores = based(cx, &out, targets)?;
    let label = chosen(cx, &scores, &labels)?;
    Ok(vec![label, transformed(cx, &scores, &post)?])
}
