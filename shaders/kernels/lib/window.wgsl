// Geometry of a sliding window over three spatial dimensions, in a parameter block from word WINDOW on: input extents,
// output extents, window extents, strides, dilations, and padding before and behind, three words each.
// Reference: src/plan/steps.rs (Window).

const WINDOW: u32 = 16u;

fn window_word(group: u32) -> vec3<u32> {
  let at = WINDOW + 3u * group;
  return vec3<u32>(params[at], params[at + 1u], params[at + 2u]);
}

// Position of a window's first element, in the input's coordinates, for this output position.
fn window_origin(position: u32) -> vec3<i32> {
  let extents = window_word(1u);
  let row = position / extents.z;
  let at = vec3<u32>(row / extents.y, row % extents.y, position % extents.z);
  return vec3<i32>(at * window_word(3u)) - vec3<i32>(window_word(5u));
}

// The element behind this one in a window, row-major.
fn window_next(offset: vec3<u32>, extents: vec3<u32>) -> vec3<u32> {
  let z = offset.z + 1u;
  let carry = z == extents.z;
  let y = offset.y + select(0u, 1u, carry);
  let carry_y = y == extents.y;
  return vec3<u32>(offset.x + select(0u, 1u, carry_y), select(y, 0u, carry_y), select(z, 0u, carry));
}

fn window_inside(at: vec3<i32>, extents: vec3<u32>) -> bool {
  return all(at >= vec3<i32>()) && all(at < vec3<i32>(extents));
}
