// Reads at computed indices: out[i] = data at i, moved by indices that are read from a tensor.
//
// Libraries:   float, step
// Layout:      params 2 rank, 3 to 10 dimensions, 11 view of the data, 22 view of the indices, 33 distance between an
//              index's components in elements, 34 components, 35 offset of the result, 36 bits where there is no
//              element, from 40 on extent and stride (elements) of each component;
//              a work item is an element of the result, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Reference:   src/cpu (Take)

const RANK: u32 = 2u;
const DIMS: u32 = 3u;
const DATA: u32 = 11u;
const INDEX: u32 = 22u;
const COMPONENT_STRIDE: u32 = 33u;
const COMPONENTS: u32 = 34u;
const OUT: u32 = 35u;
const OUTSIDE: u32 = 36u;
const COMPONENT: u32 = 40u;

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let item = work_item(global, groups);
  if (item >= params[1]) {
    return;
  }
  let words = params[DATA + 1u];
  let index_words = params[INDEX + 1u];
  let index_at = view_at(INDEX, DIMS, params[RANK], item);
  var at = bitcast<i32>(view_at(DATA, DIMS, params[RANK], item));
  var inside = true;
  for (var c = 0u; c < params[COMPONENTS]; c++) {
    let place = index_at + bitcast<u32>(bitcast<i32>(c) * bitcast<i32>(params[COMPONENT_STRIDE])) * index_words;
    let low = bitcast<i32>(word_at(params[INDEX], place));
    // An index that needs its high word is outside anyway.
    var extended = low >> 31u;
    if (index_words == 2u) {
      extended = bitcast<i32>(word_at(params[INDEX], place + 1u));
    }
    let extent = bitcast<i32>(params[COMPONENT + 2u * c]);
    let stride = bitcast<i32>(params[COMPONENT + 2u * c + 1u]);
    inside = inside && extended == (low >> 31u) && low < extent && low >= -extent;
    at += select(low, low + extent, low < 0) * stride * bitcast<i32>(words);
  }
  let to = params[OUT] + item * words;
  for (var w = 0u; w < words; w++) {
    var word = select(0u, params[OUTSIDE], w == 0u);
    if (inside) {
      word = word_at(params[DATA], bitcast<u32>(at) + w);
    }
    arena[to + w] = word;
  }
}
