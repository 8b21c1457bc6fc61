// Rows of floats to fixed point, with one exponent per row. A workgroup is no larger than a subgroup, so that nothing waits.
//
// Libraries:   float, fixed, step, rows
// Layout:      params as in lib/rows; a work item is a row
// Dispatch:    one workgroup per row
// Overrides:   LANES, invocations of a workgroup; those of lib/rows
// Reference:   src/num/fixed.rs (quantise_into)

override LANES: u32 = 8u;

@compute @workgroup_size(LANES)
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
  quantise_row(row, lane, LANES, subgroupMax(row_largest(row, lane, LANES)));
}
