// Strided copy: to at i = from at i.
//
// Libraries:   step
// Layout:      params 2 rank, 3 to 10 dimensions, 11 view read, 22 view written (always the arena);
//              a work item is an element, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Reference:   src/cpu (Copy)

const RANK: u32 = 2u;
const DIMS: u32 = 3u;
const FROM: u32 = 11u;
const TO: u32 = 22u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = work_item(global, groups);
  if (index >= params[1]) {
    return;
  }
  let source = view_at(FROM, DIMS, params[RANK], index);
  let place = view_at(TO, DIMS, params[RANK], index);
  for (var w = 0u; w < params[FROM + 1u]; w++) {
    arena[place + w] = word_at(params[FROM], source + w);
  }
}
