// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. Large register tile.
//
// An element that is read is used for 8 results. Where registers are few they stand in the nearest cache, which a software
// adapter does not mind: it reads memory one lane at a time.
//
// Libraries:   float, fixed, tile, step, operands
// Layout:      as contract.wgsl; a work item is a tile of ROWS by 8 results, columns fastest, then rows, then batches
// Dispatch:    ceil(batches * ceil(m / ROWS) * ceil(n / 8) / 64) workgroups
// Overrides:   ROWS of a tile, 1 to 8; A_SPACE and B_SPACE of lib/operands; NARROW of lib/tile
// Reference:   src/cpu (Contract), src/num/fixed.rs

override ROWS: u32 = 8u;

// Digits of one element of each of four rows.
fn column_digits(at: vec4<u32>) -> Digits {
  return digits4(bitcast<vec4<i32>>(vec4<u32>(b_word(at.x), b_word(at.y), b_word(at.z), b_word(at.w))));
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
  let tiles_n = (n + 7u) / 8u;
  let tiles_m = (m + ROWS - 1u) / ROWS;
  let column = (item % tiles_n) * 8u;
  let row_tile = item / tiles_n;
  let row = (row_tile % tiles_m) * ROWS;
  let batch = row_tile / tiles_m;
  let rows = batch_rows(batch);
  let a_row = row + rows.x;
  let b_row = rows.y;
  // Rows and columns beyond the edge repeat the last one, and are not stored.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let last = vec4<u32>(n - 1u);
  let left = vec4<u32>(b_row) + min(vec4<u32>(column) + lanes, last);
  let right = vec4<u32>(b_row) + min(vec4<u32>(column + 4u) + lanes, last);
  let left_at = vec4<u32>(params[B]) + left * k_all;
  let right_at = vec4<u32>(params[B]) + right * k_all;
  var a_at: array<u32, 8>;
  for (var i = 0u; i < ROWS; i++) {
    a_at[i] = params[A] + (a_row + min(i, m - 1u - row)) * k_all;
  }
  // Four results of a row each: the left ones, then the right ones.
  var totals: array<Totals, 16>;
  for (var start = 0u; start < k_all; start += CHUNK) {
    var sums: array<Sums, 16>;
    let end = min(start + CHUNK, k_all);
    for (var k = start; k < end; k++) {
      let b_left = column_digits(left_at + k);
      let b_right = column_digits(right_at + k);
      for (var i = 0u; i < ROWS; i++) {
        let q = bitcast<i32>(a_word(a_at[i] + k));
        let high = upper_digit(q);
        let low = lower_digit(q);
        sums[2u * i] = sums_add(sums[2u * i], b_left, high, low);
        sums[2u * i + 1u] = sums_add(sums[2u * i + 1u], b_right, high, low);
      }
    }
    for (var i = 0u; i < 2u * ROWS; i++) {
      totals[i] = totals_add_chunk(totals[i], sums[i]);
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    if (row + i < m) {
      let a_exponent = a_word(params[A_EXPONENT] + a_row + i);
      let to = params[OUT] + (batch * m + row + i) * n + column;
      for (var j = 0u; j < 8u; j++) {
        if (column + j < n) {
          let b_exponent = b_word(params[B_EXPONENT] + b_row + column + j);
          let half = 2u * i + j / 4u;
          let sum = vec2<u32>(totals[half].low[j % 4u], totals[half].high[j % 4u]);
          arena[to + j] = select(rescale(a_exponent, b_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
        }
      }
    }
  }
}
