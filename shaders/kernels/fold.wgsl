// Sums and products of floats over columns, in the fixed tree: eight lanes, blocks of 512, sums of blocks likewise.
//
// Libraries:   float, soft, step
// Layout:      params 2 dimensions in all, 3 columns, 4 offset of the result, 8 to 15 dimensions (rows, then columns),
//              16 view read; a work item is a row
// Dispatch:    ceil(rows / 64) workgroups
// Overrides:   PRODUCT whether it multiplies; FLAT whether a row's elements stand at one distance
// Reference:   src/num/reduce.rs

override PRODUCT: bool = false;
override FLAT: bool = false;

const DIMS_ALL: u32 = 2u;
const COLUMNS: u32 = 3u;
const OUT: u32 = 4u;
const DIMS: u32 = 8u;
const INPUT: u32 = 16u;

const LANES: u32 = 8u;
const BLOCK: u32 = 512u;

fn combine(a: u32, b: u32) -> u32 {
  if (PRODUCT) {
    return f_mul(a, b);
  }
  return f_add(a, b);
}

fn fold_lanes(lanes: array<u32, 8>) -> u32 {
  let a = combine(combine(lanes[0], lanes[4]), combine(lanes[2], lanes[6]));
  let b = combine(combine(lanes[1], lanes[5]), combine(lanes[3], lanes[7]));
  return combine(a, b);
}

fn neutral_lanes() -> array<u32, 8> {
  let n = select(0u, ONE, PRODUCT);
  return array<u32, 8>(n, n, n, n, n, n, n, n);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = work_item(global, groups);
  if (row >= params[1]) {
    return;
  }
  let columns = params[COLUMNS];
  let dims = params[DIMS_ALL];
  let first = view_at(INPUT, DIMS, dims, row * columns);
  let distance = params[INPUT + 2u + dims];
  // Three levels hold 2^27 columns, more than a tensor has elements. A single block goes through the levels above
  // unchanged, because no lane is ever -0.
  var middle = neutral_lanes();
  var upper = neutral_lanes();
  var blocks = 0u;
  for (var start = 0u; start < columns; start += BLOCK) {
    var lanes = neutral_lanes();
    let end = min(start + BLOCK, columns);
    for (var c = start; c < end; c++) {
      var at = first + c * distance;
      if (!FLAT) {
        at = view_at(INPUT, DIMS, dims, row * columns + c);
      }
      let lane = (c - start) % LANES;
      lanes[lane] = combine(lanes[lane], word_at(params[INPUT], at));
    }
    let lane = blocks % LANES;
    middle[lane] = combine(middle[lane], fold_lanes(lanes));
    blocks++;
    if (blocks % BLOCK == 0u) {
      let above = (blocks / BLOCK - 1u) % LANES;
      upper[above] = combine(upper[above], fold_lanes(middle));
      middle = neutral_lanes();
    }
  }
  if (blocks % BLOCK != 0u) {
    let above = (blocks / BLOCK) % LANES;
    upper[above] = combine(upper[above], fold_lanes(middle));
  }
  let result = fold_lanes(upper);
  arena[params[OUT] + row] = select(result, NAN, is_nan(result));
}
