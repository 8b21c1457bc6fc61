// One element-wise program with one special instruction, at most three plain ones before it and eight behind:
// out[i] = program(operands at i).
//
// Libraries:   float, fixed, elementary, step, map, slots, special
// Layout:      params as in lib/map.wgsl; a work item is an element of the result, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Overrides:   those of lib/slots.wgsl; I3 is the special instruction; WIDE must be false
// Reference:   src/cpu (Map), src/num

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = work_item(global, groups);
  if (index >= params[1]) {
    return;
  }
  load_all(index);
  plain_slot(0u, I0);
  plain_slot(1u, I1);
  plain_slot(2u, I2);
  special_slot(3u, I3);
  plain_slot(4u, I4);
  plain_slot(5u, I5);
  plain_slot(6u, I6);
  plain_slot(7u, I7);
  plain_slot(8u, I8);
  plain_slot(9u, I9);
  plain_slot(10u, I10);
  plain_slot(11u, I11);
  store_value(index);
}
