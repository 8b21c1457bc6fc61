//! Tree ensembles.

use crate::cpu::arena::Sources;
use crate::num;
use crate::plan::{TREE_LEAF, TREE_NODE_WORDS, TreeFold, Trees};

/// Walks tree ensembles; `out` is the result.
pub(crate) fn trees(step: &Trees, sources: &Sources<'_>, out: &mut [u32]) {
    let input = sources.floats(&step.input);
    let roots = sources.words(&step.roots);
    let nodes = sources.words(&step.nodes);
    let weights = sources.words(&step.weights);
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    let targets = step.targets as usize;
    let rows = input
        .chunks_exact(step.features as usize)
        .zip(out.chunks_exact_mut(targets));
    for (features, scores) in rows {
        scores.fill(0.0);
        // A smallest or largest begins with the first leaf that names its target.
        let mut named = match step.fold {
            TreeFold::Sum => Vec::new(),
            TreeFold::Min | TreeFold::Max => vec![false; targets],
        };
        for &root in roots {
            let leaf = leaf(nodes, root, features);
            let (first, count) = (leaf[2] as usize, leaf[3] as usize);
            for pair in weights[first * 2..(first + count) * 2].chunks_exact(2) {
                let target = pair[0] as usize;
                let weight = f32::from_bits(pair[1]);
                let score = &mut scores[target];
                if step.fold == TreeFold::Sum {
                    *score += weight;
                    continue;
                }
                *score = match step.fold {
                    _ if !named[target] => weight,
                    TreeFold::Min => num::min(*score, weight),
                    _ => num::max(*score, weight),
                };
                named[target] = true;
            }
        }
    }
}

fn leaf<'a>(nodes: &'a [u32], root: u32, features: &[f32]) -> &'a [u32] {
    let mut at = root;
    loop {
        let start = (at * TREE_NODE_WORDS) as usize;
        let node = &nodes[start..start + TREE_NODE_WORDS as usize];
        if node[0] >> 24 == TREE_LEAF {
            return node;
        }
        let feature = features[(node[0] & 0xff_ffff) as usize];
        let threshold = f32::from_bits(node[1]);
        let mode = node[0] >> 24;
        let holds = match mode & 7 {
            0 => feature <= threshold,
            1 => feature < threshold,
            2 => feature >= threshold,
            3 => feature > threshold,
            4 => feature == threshold,
            _ => feature != threshold,
        };
        let taken = holds || (feature.is_nan() && mode & 8 != 0);
        at = if taken { node[2] } else { node[3] };
    }
}
