// One element-wise program with two special instructions, at most two plain ones before them, one between and seven
// behind: out[i] = program(operands at i).
//
// Libraries:   float, soft, fixed, elementary, exponential_soft, step, map, slots, special
// Layout:      params as in lib/map.wgsl; a work item is an element of the result, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Overrides:   those of lib/slots.wgsl; I2 and I4 are the special instructions; WIDE must be false
// Reference:   src/cpu (Map), src/num

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = work_item(global, groups);
  if (index >= params[1]) {
    return;
  }
  load_all(index);
  first_slots();
  special_slot(2u, I2);
  plain_slot(3u, I3);
  special_slot(4u, I4);
  last_slots();
  store_value(index);
}
