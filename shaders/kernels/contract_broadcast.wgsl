// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. Rows are broadcast.
//
// A workgroup makes ROWS rows of as many columns as its invocations have. Its right operand is packed, where it never
// changes, so that neighbours read neighbouring vectors.
//
// Libraries:   float, fixed, step, operands, broadcast
// Layout:      params as in lib/operands, 13 vectors of a packed matrix at one k (or two), 14 vectors of a packed matrix;
//              a work item is a tile of ROWS by LANES * FOURS * 4 results, columns fastest, then rows, then batches
// Dispatch:    one workgroup per work item
// Overrides:   ROWS of a tile, 1, 2, 4 or 8; PACKED, whether the right operand is; A_SPACE and B_SPACE of lib/operands;
//              NARROW, FOURS and LANES of lib/broadcast
// Reference:   src/cpu (Contract), src/num/fixed.rs

override ROWS: u32 = 8u;
override PACKED: u32 = 0u;

const PACKED_FOURS: u32 = 13u;
const PACKED_MATRIX: u32 = 14u;

// Four columns at an even k and the one behind it, zeros behind the last.
fn pair_at(four: u32, columns: vec4<u32>, k: u32, last: u32) -> Pair {
  if (PACKED != 0u) {
    return packed_pair(four, params[PACKED_FOURS], k);
  }
  let odd = select(vec4<i32>(), columns_at(columns, min(k + 1u, last)), vec4<bool>(k < last));
  return Pair(select(vec4<i32>(), columns_at(columns, min(k, last)), vec4<bool>(k <= last)), odd);
}

fn columns_at(columns: vec4<u32>, k: u32) -> vec4<i32> {
  let at = columns + k;
  return bitcast<vec4<i32>>(vec4<u32>(b_word(at.x), b_word(at.y), b_word(at.z), b_word(at.w)));
}

@compute @workgroup_size(LANES)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) index: u32,
  @builtin(subgroup_invocation_id) lane: u32,
  @builtin(num_workgroups) groups: vec3<u32>,
) {
  let item = params[0] + group.x + group.y * groups.x;
  // The whole workgroup leaves, or none of it.
  if (item >= params[1]) {
    return;
  }
  let m = params[M];
  let n = params[N];
  let k_all = params[K];
  let width = LANES * FOURS * 4u;
  let tiles_n = (n + width - 1u) / width;
  let tiles_m = (m + ROWS - 1u) / ROWS;
  let column = (item % tiles_n) * width + index * FOURS * 4u;
  let row_tile = item / tiles_n;
  let row = (row_tile % tiles_m) * ROWS;
  let batch = row_tile / tiles_m;
  let rows = batch_rows(batch);
  let a_row = row + rows.x;
  let b_row = rows.y;
  // Of what is broadcast, this invocation reads one row's element. Rows and columns beyond the edge repeat the last one,
  // and are not stored.
  let mine = lane % BROADCAST;
  let a_at = params[A] + (rows.x + min(row + mine % ROWS, m - 1u)) * k_all;
  // Two broadcasts a round: of even elements, and of those behind them.
  let a_k = 2u * (mine / ROWS);
  let steps = BROADCAST / ROWS;
  var four_at: array<u32, 2>;
  var column_at: array<vec4<u32>, 2>;
  for (var f = 0u; f < FOURS; f++) {
    let first = column + f * 4u;
    four_at[f] = (b_row / n) * params[PACKED_MATRIX] + min(first / 4u, params[PACKED_FOURS] - 1u);
    let columns = b_row + min(vec4<u32>(first) + vec4<u32>(0u, 1u, 2u, 3u), vec4<u32>(n - 1u));
    column_at[f] = params[B] + columns * k_all;
  }
  var sums: array<Sums, 16>;
  let last = k_all - 1u;
  for (var start = 0u; start < k_all; start += 2u * steps) {
    var even = broadcast(bitcast<i32>(a_word(a_at + min(start + a_k, last))));
    var odd = broadcast(bitcast<i32>(a_word(a_at + min(start + a_k + 1u, last))));
    for (var step = 0u; step < steps; step++) {
      for (var f = 0u; f < FOURS; f++) {
        let b = pair_at(four_at[f], column_at[f], start + 2u * step, last);
        for (var i = 0u; i < ROWS; i++) {
          let element = step * ROWS + i;
          sums[i * FOURS + f] = sums_add(sums[i * FOURS + f], b, even[element], odd[element]);
        }
      }
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    if (row + i < m) {
      let a_exponent = a_word(params[A_EXPONENT] + a_row + i);
      let to = params[OUT] + (batch * m + row + i) * n + column;
      for (var f = 0u; f < FOURS; f++) {
        for (var j = 0u; j < 4u; j++) {
          let at = f * 4u + j;
          if (column + at < n) {
            let b_exponent = b_word(params[B_EXPONENT] + b_row + column + at);
            let sum = sums_total(sums[i * FOURS + f], j);
            arena[to + at] = select(rescale(a_exponent, b_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
          }
        }
      }
    }
  }
}
