// Dot products of fixed-point rows: out[b, i, j] = sum over k of a[b, i, k] * b[b, j, k]. Tile in shared memory.
//
// A workgroup makes TILE by TILE results. Its invocations bring SLAB elements of each row and column into shared memory,
// split into digits, and each makes 4 by 4 results of them: an element is read once per TILE results.
//
// Libraries:   float, fixed, tile, step, operands
// Layout:      as contract.wgsl; a work item is a tile of TILE by TILE results, columns fastest, then rows, then batches
// Dispatch:    one workgroup per work item
// Overrides:   A_SPACE and B_SPACE of lib/operands; NARROW of lib/tile
// Reference:   src/cpu (Contract), src/num/fixed.rs

// Rows and columns of a workgroup's results.
const TILE: u32 = 32u;

// Groups of four in a tile.
const FOURS: u32 = 8u;

// Elements of a row that stand in shared memory at a time. It divides CHUNK.
const SLAB: u32 = 16u;

// Digits of four rows at one k, by k, then by rows.
var<workgroup> a_high: array<vec4<i32>, 128>;
var<workgroup> a_low: array<vec4<i32>, 128>;
var<workgroup> b_high: array<vec4<i32>, 128>;
var<workgroup> b_low: array<vec4<i32>, 128>;

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
  let tiles_n = (n + TILE - 1u) / TILE;
  let tiles_m = (m + TILE - 1u) / TILE;
  let first_column = (item % tiles_n) * TILE;
  let row_tile = item / tiles_n;
  let first_row = (row_tile % tiles_m) * TILE;
  let batch = row_tile / tiles_m;
  let rows = batch_rows(batch);
  let a_row = rows.x;
  let b_row = rows.y;
  // What this invocation brings: one k of a slab, four rows at two places of the tile. Rows and columns beyond the edge
  // repeat the last one, and are not stored.
  let lanes = vec4<u32>(0u, 1u, 2u, 3u);
  let slab_k = lane % SLAB;
  let row = first_row + (lane / FOURS) * 4u;
  let column = first_column + (lane % FOURS) * 4u;

  var totals: array<Totals, 4>;
  var sums: array<Sums, 4>;
  var summed = 0u;
  for (var start = 0u; start < k_all; start += SLAB) {
    let k = min(start + slab_k, k_all - 1u);
    let behind = start + slab_k >= k_all;
    for (var half = 0u; half < 2u; half++) {
      let four = lane / SLAB + half * 4u;
      let place = slab_k * FOURS + four;
      let a_at = params[A] + (a_row + min(vec4<u32>(first_row + four * 4u) + lanes, vec4<u32>(m - 1u))) * k_all + k;
      let a_q = vec4<u32>(a_word(a_at.x), a_word(a_at.y), a_word(a_at.z), a_word(a_at.w));
      let a = digits4(select(bitcast<vec4<i32>>(a_q), vec4<i32>(), vec4<bool>(behind)));
      a_high[place] = a.high;
      a_low[place] = a.low;
      let b_at = params[B] + (b_row + min(vec4<u32>(first_column + four * 4u) + lanes, vec4<u32>(n - 1u))) * k_all + k;
      let b_q = vec4<u32>(b_word(b_at.x), b_word(b_at.y), b_word(b_at.z), b_word(b_at.w));
      let b = digits4(bitcast<vec4<i32>>(b_q));
      b_high[place] = b.high;
      b_low[place] = b.low;
    }
    workgroupBarrier();
    for (var s = 0u; s < SLAB; s++) {
      let rows_high = a_high[s * FOURS + lane / FOURS];
      let rows_low = a_low[s * FOURS + lane / FOURS];
      let columns = Digits(b_high[s * FOURS + lane % FOURS], b_low[s * FOURS + lane % FOURS]);
      for (var i = 0u; i < 4u; i++) {
        sums[i] = sums_add(sums[i], columns, rows_high[i], rows_low[i]);
      }
    }
    workgroupBarrier();
    summed += SLAB;
    if (summed == CHUNK || start + SLAB >= k_all) {
      for (var i = 0u; i < 4u; i++) {
        totals[i] = totals_add_chunk(totals[i], sums[i]);
        sums[i] = Sums();
      }
      summed = 0u;
    }
  }
  for (var i = 0u; i < 4u; i++) {
    if (row + i < m) {
      let a_exponent = a_word(params[A_EXPONENT] + a_row + row + i);
      let to = params[OUT] + (batch * m + row + i) * n + column;
      for (var j = 0u; j < 4u; j++) {
        if (column + j < n) {
          let b_exponent = b_word(params[B_EXPONENT] + b_row + column + j);
          let sum = vec2<u32>(totals[i].low[j], totals[i].high[j]);
          arena[to + j] = select(rescale(a_exponent, b_exponent, params[UNITS], sum), sum.x, params[WHOLE] != 0u);
        }
      }
    }
  }
}
