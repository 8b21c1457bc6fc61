// A layer of few rows in one dispatch: rows of floats to fixed point, their dot products with packed columns, and an
// element-wise program with at most one special instruction on the results.
//
// Every workgroup finds the exponents of all rows for itself: they are few, and a dispatch costs more.
//
// Libraries:   float, soft, fixed, elementary, exponential_soft, step, map, slots, special, broadcast
// Layout:      params of the program as in lib/map.wgsl, the rest from word 80 on: rows, columns of the result, elements of
//              a row, offset of the floats, their distance from row to row and in a row, offset of the columns' exponents,
//              sum of the units, bits that the largest value loses, largest magnitude, vectors of all columns at one k,
//              offset of the result; a work item is LANES * 4 columns of all rows
// Dispatch:    one workgroup per work item
// Overrides:   ROWS, 1 or 2; RESULT_LOAD, which of the program's operands is the result, or 4 where there is no program;
//              those of lib/slots.wgsl, I3 is the special instruction, WIDE must be false; NARROW and LANES of
//              lib/broadcast, FOURS must be 1
// Reference:   src/cpu (Quantise, Contract, Map), src/gpu/dense.rs

override ROWS: u32 = 1u;
override RESULT_LOAD: u32 = 4u;

const M: u32 = 80u;
const N: u32 = 81u;
const K: u32 = 82u;
const X: u32 = 83u;
const X_ROW: u32 = 84u;
const X_ELEMENT: u32 = 85u;
const B_EXPONENT: u32 = 86u;
const UNITS: u32 = 87u;
const DROPPED: u32 = 88u;
const MOST: u32 = 89u;
const PACKED_FOURS: u32 = 90u;
const OUT: u32 = 91u;

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
  let last = params[K] - 1u;
  let column = (item * LANES + index) * 4u;
  // Of what is broadcast, this invocation reads one row's element. Rows and elements beyond the edge repeat the last one:
  // such rows are not stored, and such elements meet zeros.
  let mine = lane % BROADCAST;
  let x_row = params[X] + min(mine % ROWS, m - 1u) * params[X_ROW];
  let x_k = mine / ROWS;
  let steps = BROADCAST / ROWS;
  var largest = 0u;
  for (var start = 0u; start <= last; start += steps) {
    largest = max(largest, arena[x_row + min(start + x_k, last) * params[X_ELEMENT]] & MAGNITUDE);
  }
  var all = broadcast(bitcast<i32>(largest));
  var exponents: array<u32, 2>;
  var exponent = 0u;
  for (var i = 0u; i < ROWS; i++) {
    var of_row = 0u;
    for (var step = 0u; step < steps; step++) {
      of_row = max(of_row, bitcast<u32>(all[step * ROWS + i]));
    }
    exponents[i] = row_exponent(of_row);
    exponent = select(exponent, exponents[i], mine % ROWS == i);
  }
  let four = min(column / 4u, params[PACKED_FOURS] - 1u);
  var sums: array<Sums, 2>;
  for (var start = 0u; start <= last; start += steps) {
    let x = arena[x_row + min(start + x_k, last) * params[X_ELEMENT]];
    var a = broadcast(quantise(x, exponent, params[DROPPED], i32(params[MOST])));
    for (var step = 0u; step < steps; step += 2u) {
      let b = packed_pair(four, params[PACKED_FOURS], start + step);
      for (var i = 0u; i < ROWS; i++) {
        sums[i] = sums_add(sums[i], b, a[step * ROWS + i], a[(step + 1u) * ROWS + i]);
      }
    }
  }
  for (var i = 0u; i < ROWS; i++) {
    for (var j = 0u; j < 4u; j++) {
      if (i < m && column + j < n) {
        let at = i * n + column + j;
        let b_exponent = weights[params[B_EXPONENT] + column + j];
        let result = rescale(exponents[i], b_exponent, params[UNITS], sums_total(sums[i], j));
        if (RESULT_LOAD == LOADS_MAX) {
          arena[params[OUT] + at] = result;
        } else {
          load_all(at);
          values[RESULT_LOAD] = result;
          first_slots();
          plain_slot(2u, I2);
          special_slot(3u, I3);
          plain_slot(4u, I4);
          last_slots();
          arena[params[OUT] + at] = values[RESULT];
        }
      }
    }
  }
}
