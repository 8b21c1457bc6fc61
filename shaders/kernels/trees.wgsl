// Tree ensembles: each tree is walked to a leaf, and the leaves' weights are folded in the order of the trees.
//
// Libraries:   float, soft, step
// Layout:      params 2 features, 3 targets, 4 trees, 5 depth, 6 fold (0 sum, 1 smallest, 2 largest), 7 input, 8 roots,
//              9 nodes, 10 weights, 11 result (offsets in words), 12 to 15 spaces of input, roots, nodes and weights;
//              a work item is a row and a target, targets fastest
// Dispatch:    ceil(rows * targets / 64) workgroups
// Reference:   src/cpu (Trees)

const FEATURES: u32 = 2u;
const TARGETS: u32 = 3u;
const TREES: u32 = 4u;
const DEPTH: u32 = 5u;
const FOLD: u32 = 6u;
const INPUT: u32 = 7u;
const ROOTS: u32 = 8u;
const NODES: u32 = 9u;
const LEAVES: u32 = 10u;
const OUT: u32 = 11u;
const INPUT_SPACE: u32 = 12u;
const ROOTS_SPACE: u32 = 13u;
const NODES_SPACE: u32 = 14u;
const LEAVES_SPACE: u32 = 15u;

const LEAF: u32 = 0xffu;

// Whether the comparison of this mode holds; bit 3 of the mode says what a NaN feature does.
fn goes_true(mode: u32, feature: u32, threshold: u32) -> bool {
  let less = f_less(feature, threshold);
  let greater = f_less(threshold, feature);
  let equal = f_equal(feature, threshold);
  var holds = less || equal;
  switch mode & 7u {
    case 1u: { holds = less; }
    case 2u: { holds = greater || equal; }
    case 3u: { holds = greater; }
    case 4u: { holds = equal; }
    case 5u: { holds = !equal; }
    default: {}
  }
  return holds || (is_nan(feature) && (mode & 8u) != 0u);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let item = work_item(global, groups);
  if (item >= params[1]) {
    return;
  }
  let row = item / params[TARGETS];
  let target_number = item % params[TARGETS];
  let features = params[INPUT] + row * params[FEATURES];
  let nodes = params[NODES];
  let nodes_space = params[NODES_SPACE];
  let leaves_space = params[LEAVES_SPACE];
  let fold = params[FOLD];
  var result = 0u;
  var named = false;
  for (var t = 0u; t < params[TREES]; t++) {
    var node = nodes + 4u * word_at(params[ROOTS_SPACE], params[ROOTS] + t);
    for (var d = 0u; d < params[DEPTH]; d++) {
      let head = word_at(nodes_space, node);
      if (head >> 24u == LEAF) {
        break;
      }
      let feature = word_at(params[INPUT_SPACE], features + (head & 0xffffffu));
      let threshold = word_at(nodes_space, node + 1u);
      let way = select(3u, 2u, goes_true(head >> 24u, feature, threshold));
      node = nodes + 4u * word_at(nodes_space, node + way);
    }
    let first = word_at(nodes_space, node + 2u);
    let count = word_at(nodes_space, node + 3u);
    for (var w = first; w < first + count; w++) {
      let at = params[LEAVES] + 2u * w;
      if (word_at(leaves_space, at) == target_number) {
        let weight = word_at(leaves_space, at + 1u);
        switch fold {
          case 1u: { result = select(weight, f_min(result, weight), named); }
          case 2u: { result = select(weight, f_max(result, weight), named); }
          default: { result = f_add(result, weight); }
        }
        named = true;
      }
    }
  }
  arena[params[OUT] + item] = result;
}
