// What all kernels share: bindings, the parameter block, and the walk over indices.
//
// Bindings: 0 the plan's arena, 1 the model's weights, 2 the parameter block of one dispatch, at a dynamic offset.
// All are words; src/plan says what they hold, src/gpu/params.rs writes the blocks.
// A block begins with the first work item of the dispatch, the one behind its last, and whatever the kernel's header
// lists. Long steps are cut into several dispatches that differ in these two words alone.
// A dispatch has as many workgroups in x and y as cover its work items; a workgroup is WORKGROUP in x.

@group(0) @binding(0) var<storage, read_write> arena: array<u32>;
@group(0) @binding(1) var<storage, read> weights: array<u32>;
@group(0) @binding(2) var<storage, read> params: array<u32>;

// Invocations of a workgroup. 64: a wavefront of AMD, two warps of NVIDIA, eight vectors of lavapipe.
const WORKGROUP: u32 = 64u;

// Most dimensions of a step.
const RANK_MAX: u32 = 8u;

// Words of a view in a parameter block: space, words of an element, offset in words, strides in elements.
const VIEW_WORDS: u32 = 11u;

// The work item of this invocation; it has none where this is not below params[1].
fn work_item(global: vec3<u32>, groups: vec3<u32>) -> u32 {
  return params[0] + global.x + global.y * groups.x * WORKGROUP;
}

// A word of the arena (space 0) or of the weights (space 1).
fn word_at(space: u32, at: u32) -> u32 {
  var word: u32;
  if (space == 0u) {
    word = arena[at];
  } else {
    word = weights[at];
  }
  return word;
}

// First word of the element that the view at params[view] has at this row-major index over the dimensions at
// params[dims].
fn view_at(view: u32, dims: u32, rank: u32, index: u32) -> u32 {
  var rest = index;
  var element = 0i;
  for (var d = rank - 1u; d > 0u; d--) {
    let extent = params[dims + d];
    let above = rest / extent;
    element += bitcast<i32>(rest - above * extent) * bitcast<i32>(params[view + 3u + d]);
    rest = above;
  }
  element += bitcast<i32>(rest) * bitcast<i32>(params[view + 3u]);
  return params[view + 2u] + bitcast<u32>(element) * params[view + 1u];
}
