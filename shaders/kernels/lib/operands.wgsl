// Operands of a contraction: where they stand, and the rows of a batch in them.
// Params: 2 m, 3 n, 4 k, 5 a, 6 exponents of a, 7 b, 8 exponents of b, 9 result (offsets in words), 10 batch dimensions,
//         11 sum of the units of a and b, 12 whether the result is the sum itself, 16 to 23 the dimensions, 24 to 31 rows
//         of a per step of each, 32 to 39 rows of b.
// Needs step.wgsl.

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

// The first row of a batch in each operand.
fn batch_rows(batch: u32) -> vec2<u32> {
  var rows = vec2<u32>(0u);
  var rest = batch;
  for (var d = params[BATCH_RANK]; d > 0u; d--) {
    let extent = params[BATCH + d - 1u];
    let step = rest % extent;
    rest = rest / extent;
    rows += step * vec2<u32>(params[A_ROWS + d - 1u], params[B_ROWS + d - 1u]);
  }
  return rows;
}
