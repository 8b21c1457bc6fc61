// Dot products of rows of floats, for exploring: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k], in native floats,
// whose rounding and order are the device's. Register tile.
//
// Libraries:   step, operands
// Layout:      params as in lib/operands, without exponents; a work item is a tile of ROWS by 8 results, columns fastest,
//              then rows, then batches
// Dispatch:    ceil(batches * ceil(m / ROWS) * ceil(n / 8) / 64) workgroups
// Overrides:   ROWS of a tile, 1 to 8; A_SPACE and B_SPACE of lib/operands
// Reference:   src/cpu/float.rs

override ROWS: u32 = 8u;

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
  let first = batch_rows(batch);
  // Rows and columns beyond the edge repeat the last one, and are not stored.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let left = params[B] + (first.y + min(vec4<u32>(column) + lanes, vec4<u32>(n - 1u))) * k_all;
  let right = params[B] + (first.y + min(vec4<u32>(column + 4u) + lanes, vec4<u32>(n - 1u))) * k_all;
  var a_at: array<u32, 8>;
  for (var i = 0u; i < ROWS; i++) {
    a_at[i] = params[A] + (first.x + min(row + i, m - 1u)) * k_all;
  }
  var sums: array<vec4<f32>, 16>;
  for (var k = 0u; k < k_all; k++) {
    let l = bitcast<vec4<f32>>(vec4<u32>(b_word(left.x + k), b_word(left.y + k), b_word(left.z + k), b_word(left.w + k)));
    let r = bitcast<vec4<f32>>(vec4<u32>(b_word(right.x + k), b_word(right.y + k), b_word(right.z + k), b_word(right.w + k)));
    for (var i = 0u; i < ROWS; i++) {
      let a = bitcast<f32>(a_word(a_at[i] + k));
      sums[2u * i] += a * l;
      sums[2u * i + 1u] += a * r;
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    if (row + i < m) {
      let to = params[OUT] + (batch * m + row + i) * n + column;
      for (var j = 0u; j < 8u; j++) {
        if (column + j < n) {
          arena[to + j] = bitcast<u32>(sums[2u * i + j / 4u][j % 4u]);
        }
      }
    }
  }
}
