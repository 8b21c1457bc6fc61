// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. Register tile.
//
// Libraries:   float, fixed, tile, step
// Layout:      params 2 m, 3 n, 4 k, 5 a, 6 exponents of a, 7 b, 8 exponents of b, 9 result (offsets in words),
//              10 batch dimensions, 11 sum of the units of a and b, 12 whether the result is the sum itself,
//              16 to 23 the dimensions, 24 to 31 rows of a per step of each, 32 to 39 rows of b;
//              a work item is a tile of ROWS by 4 results, columns fastest, then rows, then batches
// Dispatch:    ceil(batches * ceil(m / ROWS) * ceil(n / 4) / 64) workgroups
// Overrides:   ROWS of a tile, 1 to 4; A_SPACE and B_SPACE, where the operands stand; NARROW of lib/tile
// Reference:   src/cpu (Contract), src/num/fixed.rs

override ROWS: u32 = 4u;
override A_SPACE: u32 = 0u;
override B_SPACE: u32 = 0u;

const M: u32 = 2u;
const N: u32 = 3u;
const K: u32 = 4u;
const A: u32 = 5u;
const A_EXPONENT: u32 = 6u;
const B: u32 = 7u;
const B_EXPONENT: u32 = 8u;
const OUT: u32 = 9u;
const BATCH_RANK: u32 = 10u;
const UNITS: u32 = 11u;
const WHOLE: u32 = 12u;
const BATCH: u32 = 16u;
const A_ROWS: u32 = 24u;
const B_ROWS: u32 = 32u;

fn a_word(at: u32) -> u32 {
  if (A_SPACE == 0u) {
    return arena[at];
  }
  return weights[at];
}

fn b_word(at: u32) -> u32 {
  if (B_SPACE == 0u) {
    return arena[at];
  }
  return weights[at];
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let item = work_item(global, groups);
  if (item >= params[1]) {
    return;
  }
  let m = params[M];
  let n = params[N];
  let k_all = params[K];
  let tiles_n = (n + 3u) / 4u;
  let tiles_m = (m + ROWS - 1u) / ROWS;
  let column = (item % tiles_n) * 4u;
  let row_tile = item / tiles_n;
  let row = (row_tile % tiles_m) * ROWS;
  let batch = row_tile / tiles_m;
  var a_row = row;
  var b_row = 0u;
  var rest = batch;
  for (var d = params[BATCH_RANK]; d > 0u; d--) {
    let extent = params[BATCH + d - 1u];
    let step = rest % extent;
    rest = rest / extent;
    a_row += step * params[A_ROWS + d - 1u];
    b_row += step * params[B_ROWS + d - 1u];
  }
  // Rows and columns beyond the edge repeat the last one, and are not stored.
  let columns = vec4<u32>(b_row) + min(vec4<u32>(column) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(n - 1u));
  let b_at = vec4<u32>(params[B]) + columns * k_all;
  var a_at: array<u32, 4>;
  for (var i = 0u; i < ROWS; i++) {
    a_at[i] = params[A] + (a_row + min(i, m - 1u - row)) * k_all;
  }
  var totals: array<Totals, 4>;
  for (var start = 0u; start < k_all; start += CHUNK) {
    var sums: array<Sums, 4>;
    let end = min(start + CHUNK, k_all);
    for (var k = start; k < end; k++) {
      let words = vec4<u32>(b_word(b_at.x + k), b_word(b_at.y + k), b_word(b_at.z + k), b_word(b_at.w + k));
      let b = digits4(bitcast<vec4<i32>>(words));
      for (var i = 0u; i < ROWS; i++) {
        let q = bitcast<i32>(a_word(a_at[i] + k));
        sums[i] = sums_add(sums[i], b, upper_digit(q), lower_digit(q));
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      totals[i] = totals_add_chunk(totals[i], sums[i]);
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    if (row + i < m) {
      let a_exponent = a_word(params[A_EXPONENT] + a_row + i);
      let to = params[OUT] + (batch * m + row + i) * n + column;
      for (var j = 0u; j < 4u; j++) {
        if (column + j < n) {
          let b_exponent = b_word(params[B_EXPONENT] + columns[j]);
          let sum = vec2<u32>(totals[i].low[j], totals[i].high[j]);
          arena[to + j] = select(rescale(a_exponent, b_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
        }
      }
    }
  }
}
