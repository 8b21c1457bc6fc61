// Geometry of a sliding window over three spatial dimensions, in a parameter block from word WINDOW on: input extents,
// output extents, window extents, strides, dilations, and padding before and behind, three words each.
// Reference: src/plan/steps.rs (Window).
// Needs step.wgsl.

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

// The element behind this one in the windows of neighbouring planes, and 1 where it is the next plane's first, else 0.
fn window_step(offset: vec3<u32>, extents: vec3<u32>) -> vec4<u32> {
  let next = window_next(offset, extents);
  let carry = next.x == extents.x;
  return vec4<u32>(select(next, vec3<u32>(), vec3<bool>(carry)), select(0u, 1u, carry));
}

fn window_inside(at: vec3<i32>, extents: vec3<u32>) -> bool {
  return all(at >= vec3<i32>()) && all(at < vec3<i32>(extents));
}

// An element of the plane of these extents that begins at a word of the arena; zero outside.
fn plane_word(plane_at: u32, at: vec3<i32>, extents: vec3<u32>) -> i32 {
  let inside = window_inside(at, extents);
  let element = (u32(at.x) * extents.y + u32(at.y)) * extents.z + u32(at.z);
  return select(0, bitcast<i32>(arena[plane_at + select(0u, element, inside)]), inside);
}
