// Rows of floats to fixed point, with one exponent per row.
//
// Libraries:   float, fixed, step, rows
// Layout:      params as in lib/rows; a work item is a row
// Dispatch:    one workgroup per row
// Overrides:   those of lib/rows
// Reference:   src/num/fixed.rs (quantise_into)

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
  // The largest magnitude by integer maximum: no order matters.
  atomicMax(&most, row_largest(row, lane, WORKGROUP));
  workgroupBarrier();
  quantise_row(row, lane, WORKGROUP, atomicLoad(&most));
}
