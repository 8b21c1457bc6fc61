// Extremes and their places over columns, of any kind; sums and products of integers.
//
// Libraries:   float, fixed, wide, step
// Layout:      params 2 dimensions in all, 3 columns, 4 offset of the result, 8 to 15 dimensions (rows, then columns),
//              16 view read; a work item is a row
// Dispatch:    ceil(rows / 64) workgroups
// Overrides:   KIND of the elements; FOLD; FLAT whether a row's elements stand at one distance
// Reference:   src/cpu (Reduce), src/num/float.rs

override KIND: u32 = 0u;
override FOLD: u32 = 3u;
override FLAT: bool = false;

const DIMS_ALL: u32 = 2u;
const COLUMNS: u32 = 3u;
const OUT: u32 = 4u;
const DIMS: u32 = 8u;
const INPUT: u32 = 16u;

const KIND_F32: u32 = 0u;
const KIND_U32: u32 = 2u;
const KIND_I64: u32 = 3u;

const FOLD_SUM: u32 = 0u;
const FOLD_PROD: u32 = 1u;
const FOLD_MIN: u32 = 2u;
const FOLD_ARG_MIN: u32 = 4u;
const FOLD_ARG_MAX: u32 = 5u;
const FOLD_ARG_MIN_LAST: u32 = 6u;
const FOLD_ARG_MAX_LAST: u32 = 7u;

// A 64-bit number that orders elements of this kind. A NaN comes before all others or behind them.
fn key_of(value: vec2<u32>, nan_least: bool) -> vec2<u32> {
  if (KIND == KIND_I64) {
    return value;
  }

  let number = wide_from_i32(f_key(value.x));
  let nan_key = select(vec2<u32>(0u, 1u), vec2<u32>(0u, 0xfffffffeu), vec2<bool>(nan_least));
  let float_key = select(number, nan_key, vec2<bool>(is_nan(value.x)));
  let signed_key = wide_from_i32(bitcast<i32>(value.x));
  let word_key = select(signed_key, vec2<u32>(value.x, 0u), vec2<bool>(KIND == KIND_U32));
  return select(word_key, float_key, vec2<bool>(KIND == KIND_F32));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let row = work_item(global, groups);
  if (row >= params[1]) {
    return;
  }
  let columns = params[COLUMNS];
  let dims = params[DIMS_ALL];
  let first = view_at(INPUT, DIMS, dims, row * columns);
  let words = select(1u, 2u, KIND == KIND_I64);
  let distance = params[INPUT + 2u + dims] * words;
  let least = FOLD == FOLD_MIN || FOLD == FOLD_ARG_MIN || FOLD == FOLD_ARG_MIN_LAST;
  let last = FOLD == FOLD_ARG_MIN_LAST || FOLD == FOLD_ARG_MAX_LAST;
  var best = vec2<u32>();
  var best_key = vec2<u32>();
  var place = 0u;
  var sum = vec2<u32>();
  var product = vec2<u32>(1u, 0u);
  for (var c = 0u; c < columns; c++) {
    var at = first + c * distance;
    if (!FLAT) {
      at = view_at(INPUT, DIMS, dims, row * columns + c);
    }
    var value = vec2<u32>(word_at(params[INPUT], at), 0u);
    if (KIND == KIND_I64) {
      value.y = word_at(params[INPUT], at + 1u);
    }
    if (FOLD == FOLD_SUM) {
      sum = wide_add(sum, value);
    }
    if (FOLD == FOLD_PROD) {
      product = wide_mul(product, value);
    }
    let key = key_of(value, least);
    let ahead = select(wide_less(best_key, key), wide_less(key, best_key), least);
    let taken = c == 0u || ahead || (last && wide_equal(key, best_key));
    best = select(best, value, vec2<bool>(taken));
    best_key = select(best_key, key, vec2<bool>(taken));
    place = select(place, c, taken);
  }
  if (KIND == KIND_F32) {
    best.x = select(best.x, NAN, is_nan(best.x));
  }
  let to = params[OUT];
  if (FOLD >= FOLD_ARG_MIN) {
    arena[to + 2u * row] = place;
    arena[to + 2u * row + 1u] = 0u;
  } else {
    let result = select(select(best, product, vec2<bool>(FOLD == FOLD_PROD)), sum, vec2<bool>(FOLD == FOLD_SUM));
    arena[to + words * row] = result.x;
    if (KIND == KIND_I64) {
      arena[to + words * row + 1u] = result.y;
    }
  }
}
