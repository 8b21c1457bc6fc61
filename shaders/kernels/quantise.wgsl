// Rows of floats to fixed point, with one exponent per row.
//
// Libraries:   float, fixed, step
// Layout:      params 2 row dimensions, 3 dimensions in all, 4 columns, 5 offset of the integers, 6 offset of the
//              exponents, 7 bits that the largest value loses, 8 to 15 dimensions (rows, then columns), 16 view read,
//              30 largest magnitude; a work item is a row
// Dispatch:    one workgroup per row
// Reference:   src/num/fixed.rs (quantise_into)

const DIMS_ALL: u32 = 3u;
const COLUMNS: u32 = 4u;
const OUT_Q: u32 = 5u;
const OUT_EXPONENT: u32 = 6u;
const DROPPED: u32 = 7u;
const DIMS: u32 = 8u;
const INPUT: u32 = 16u;
const MOST: u32 = 30u;

var<workgroup> most: atomic<u32>;

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
  let space = params[INPUT];
  var mine = 0u;
  for (var c = lane; c < columns; c += WORKGROUP) {
    let at = view_at(INPUT, DIMS, params[DIMS_ALL], row * columns + c);
    mine = max(mine, word_at(space, at) & MAGNITUDE);
  }
  // The largest magnitude by integer maximum: no order matters.
  atomicMax(&most, mine);
  workgroupBarrier();
  let exponent = row_exponent(atomicLoad(&most));
  for (var c = lane; c < columns; c += WORKGROUP) {
    let at = view_at(INPUT, DIMS, params[DIMS_ALL], row * columns + c);
    let q = quantise(word_at(space, at), exponent, params[DROPPED], i32(params[MOST]));
    arena[params[OUT_Q] + row * columns + c] = bitcast<u32>(q);
  }
  if (lane == 0u) {
    arena[params[OUT_EXPONENT] + row] = exponent;
  }
}
