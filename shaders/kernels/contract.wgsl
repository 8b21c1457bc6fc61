// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. Register tile.
//
// Libraries:   float, fixed, tile, step, operands
// Layout:      params as in lib/operands;
//              a work item is a tile of ROWS by 4 results, columns fastest, then rows, then batches
// Dispatch:    ceil(batches * ceil(m / ROWS) * ceil(n / 4) / 64) workgroups
// Overrides:   ROWS of a tile, 1 to 4; A_SPACE and B_SPACE of lib/operands; NARROW of lib/tile
// Reference:   src/cpu (Contract), src/num/fixed.rs

override ROWS: u32 = 4u;

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
  let rows = batch_rows(batch);
  let a_row = row + rows.x;
  let b_row = rows.y;
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
