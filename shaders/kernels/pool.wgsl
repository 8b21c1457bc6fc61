// Pooling windows over planes of floats.
//
// Libraries:   float, soft, step, window
// Layout:      params 2 offset of the input, 3 its space, 4 offset of the result, 5 operation (0 largest, 1 average of
//              what is inside, 2 average with padding), 16 to 36 the window; a work item is a result
// Dispatch:    ceil(planes * positions / 64) workgroups
// Reference:   src/cpu (Pool)

const INPUT: u32 = 2u;
const INPUT_SPACE: u32 = 3u;
const OUT: u32 = 4u;
const OPERATION: u32 = 5u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let item = work_item(global, groups);
  if (item >= params[1]) {
    return;
  }
  let input = window_word(0u);
  let output = window_word(1u);
  let kernel = window_word(2u);
  let dilation = window_word(4u);
  let before = vec3<i32>(window_word(5u));
  let padded = input + window_word(5u) + window_word(6u);
  let positions = output.x * output.y * output.z;
  let plane_at = params[INPUT] + (item / positions) * input.x * input.y * input.z;
  let origin = window_origin(item % positions);
  let elements = kernel.x * kernel.y * kernel.z;
  var offset = vec3<u32>();
  var most = SIGN | INFINITY;
  var sum = 0u;
  var inside_count = 0u;
  var padded_count = 0u;
  for (var e = 0u; e < elements; e++) {
    let at = origin + vec3<i32>(offset * dilation);
    let inside = window_inside(at, input);
    let element = (u32(at.x) * input.y + u32(at.y)) * input.z + u32(at.z);
    let value = word_at(params[INPUT_SPACE], plane_at + select(0u, element, inside));
    most = select(most, f_max(most, value), inside);
    sum = select(sum, f_add(sum, value), inside);
    inside_count += select(0u, 1u, inside);
    padded_count += select(0u, 1u, window_inside(at + before, padded));
    offset = window_next(offset, kernel);
  }
  let count = select(inside_count, padded_count, params[OPERATION] == 2u);
  let average = f_div(sum, f_from_u32(count));
  arena[params[OUT] + item] = select(average, most, params[OPERATION] == 0u);
}
