// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. The sums are split.
//
// For few rows: a workgroup makes ROWS by 4 results, its invocations each a part of every sum, and neighbours read
// neighbouring elements. The parts are integers of 64 bits, so their order does not matter.
//
// Libraries:   float, fixed, tile, step, operands
// Layout:      as contract.wgsl; a work item is a tile of ROWS by 4 results, columns fastest, then rows, then batches
// Dispatch:    one workgroup per work item
// Overrides:   ROWS of a tile, 1 to 4; A_SPACE and B_SPACE of lib/operands; NARROW of lib/tile
// Reference:   src/cpu (Contract), src/num/fixed.rs

override ROWS: u32 = 4u;

// The parts of one row's four sums, by invocation.
var<workgroup> part_low: array<vec4<u32>, 64>;
var<workgroup> part_high: array<vec4<u32>, 64>;

@compute @workgroup_size(64)
fn main(
  @builtin(workgroup_id) group: vec3<u32>,
  @builtin(local_invocation_index) lane: u32,
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
  var totals: array<Totals, 4>;
  for (var start = lane; start < k_all; start += WORKGROUP * CHUNK) {
    var sums: array<Sums, 4>;
    let end = min(start + WORKGROUP * CHUNK, k_all);
    for (var k = start; k < end; k += WORKGROUP) {
      let words = vec4<u32>(b_word(b_at.x + k), b_word(b_at.y + k), b_word(b_at.z + k), b_word(b_at.w + k));
      let b = digits4(bitcast<vec4<i32>>(words));
      for (var i = 0u; i < ROWS; i++) {
        let q = bitcast<i32>(a_word(params[A] + (a_row + min(i, m - 1u - row)) * k_all + k));
        sums[i] = sums_add(sums[i], b, upper_digit(q), lower_digit(q));
      }
    }
    for (var i = 0u; i < ROWS; i++) {
      totals[i] = totals_add_chunk(totals[i], sums[i]);
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    part_low[lane] = totals[i].low;
    part_high[lane] = totals[i].high;
    workgroupBarrier();
    for (var width = WORKGROUP / 2u; width > 0u; width /= 2u) {
      if (lane < width) {
        let mine = Totals(part_low[lane], part_high[lane]);
        let both = totals_add(mine, part_low[lane + width], part_high[lane + width]);
        part_low[lane] = both.low;
        part_high[lane] = both.high;
      }
      workgroupBarrier();
    }
    if (lane < 4u && column + lane < n && row + i < m) {
      let a_exponent = a_word(params[A_EXPONENT] + a_row + i);
      let b_exponent = b_word(params[B_EXPONENT] + b_row + column + lane);
      let sum = vec2<u32>(part_low[0][lane], part_high[0][lane]);
      let to = params[OUT] + (batch * m + row + i) * n + column + lane;
      arena[to] = select(rescale(a_exponent, b_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
    }
    // The next row's parts stand where these do.
    workgroupBarrier();
  }
}
