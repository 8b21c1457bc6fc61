// Rows of floats to fixed point, with one exponent per row.
//
// Libraries:   float, fixed, step
// Layout:      params 2 row dimensions, 3 dimensions in all, 4 columns, 5 offset of the integers, 6 offset of the
//              exponents, 7 bits that the largest value loses, 8 to 15 dimensions (rows, then columns), 16 view read,
//              30 largest magnitude; a work item is a row
// Dispatch:    one workgroup per row
// Overrides:   FLAT whether a row's elements stand at one distance; SPACE where they stand
// Reference:   src/num/fixed.rs (quantise_into)

override FLAT: bool = false;
override SPACE: u32 = 0u;

const DIMS_ALL: u32 = 3u;
const COLUMNS: u32 = 4u;
const OUT_Q: u32 = 5u;
const OUT_EXPONENT: u32 = 6u;
const DROPPED: u32 = 7u;
const DIMS: u32 = 8u;
const INPUT: u32 = 16u;
const MOST: u32 = 30u;

var<workgroup> most: atomic<u32>;

// An element of the row that begins at `first`.
fn element(row: u32, column: u32, first: u32, distance: u32) -> u32 {
  var at: u32;
  if (FLAT) {
    at = first + column * distance;
  } else {
    at = view_at(INPUT, DIMS, params[DIMS_ALL], row * params[COLUMNS] + column);
  }
  if (SPACE == 0u) {
    return arena[at];
  }
  return weights[at];
}

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let row = params[0] + group.x + group.y * groups.x;
  // The whole workgroup leaves, or none of it.
  if (row >= params[1]) {
    return;
  }
  let columns = params[COLUMNS];
  let dims = params[DIMS_ALL];
  let first = view_at(INPUT, DIMS, dims, row * columns);
  let distance = params[INPUT + 2u + dims];
  var mine = 0u;
  for (var c = lane; c < columns; c += WORKGROUP) {
    mine = max(mine, element(row, c, first, distance) & MAGNITUDE);
  }
  // The largest magnitude by integer maximum: no order matters.
  atomicMax(&most, mine);
  workgroupBarrier();
  let exponent = row_exponent(atomicLoad(&most));
  for (var c = lane; c < columns; c += WORKGROUP) {
    let q = quantise(element(row, c, first, distance), exponent, params[DROPPED], i32(params[MOST]));
    arena[params[OUT_Q] + row * columns + c] = bitcast<u32>(q);
  }
  if (lane == 0u) {
    arena[params[OUT_EXPONENT] + row] = exponent;
  }
}
