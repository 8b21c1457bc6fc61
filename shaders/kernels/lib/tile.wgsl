// Sums of digit products for a tile of 4 results, in a chunk of at most 128 products, and the 64-bit totals.
// Reference: src/num/fixed.rs.
// Needs float.wgsl and fixed.wgsl.

// Products whose digit sums fit i32.
const CHUNK: u32 = 128u;

struct Digits {
  high: vec4<i32>,
  low: vec4<i32>,
}

fn digits4(q: vec4<i32>) -> Digits {
  let high = (q + 2048) >> vec4<u32>(12u);
  return Digits(high, q - (high << vec4<u32>(12u)));
}

// Four 64-bit totals.
struct Totals {
  low: vec4<u32>,
  high: vec4<u32>,
}

fn totals_add(t: Totals, low: vec4<u32>, high: vec4<u32>) -> Totals {
  let sum = t.low + low;
  return Totals(sum, t.high + high + select(vec4<u32>(), vec4<u32>(1u), sum < low));
}

fn totals_add_shifted(t: Totals, v: vec4<i32>, shift: u32) -> Totals {
  let high = v >> vec4<u32>(32u - shift);
  return totals_add(t, bitcast<vec4<u32>>(v << vec4<u32>(shift)), bitcast<vec4<u32>>(high));
}

// Takes in a chunk: high * 2^24 + middle * 2^12 + low.
fn totals_add_chunk(t: Totals, high: vec4<i32>, middle: vec4<i32>, low: vec4<i32>) -> Totals {
  let sign = bitcast<vec4<u32>>(low >> vec4<u32>(31u));
  return totals_add(
    totals_add_shifted(totals_add_shifted(t, high, 24u), middle, 12u),
    bitcast<vec4<u32>>(low),
    sign,
  );
}
