// Sums of products for a tile of 4 results, in a chunk of at most 128 products, and the 64-bit totals.
// Reference: src/num/fixed.rs.
// Needs float.wgsl and fixed.wgsl.

// Whether values have at most 16 bits: then a product fits a word, and one multiplication makes it. Else values are split
// into two digits, and four make it.
override NARROW: u32 = 0u;

// Products whose parts fit i32 when they are summed.
const CHUNK: u32 = 128u;

struct Digits {
  high: vec4<i32>,
  low: vec4<i32>,
}

// A narrow value is its own lower digit.
fn digits4(q: vec4<i32>) -> Digits {
  if (NARROW != 0u) {
    return Digits(vec4<i32>(), q);
  }
  let high = (q + 2048) >> vec4<u32>(12u);
  return Digits(high, q - (high << vec4<u32>(12u)));
}

fn upper_digit(q: i32) -> i32 {
  if (NARROW != 0u) {
    return 0;
  }
  return digit_high(q);
}

fn lower_digit(q: i32) -> i32 {
  if (NARROW != 0u) {
    return q;
  }
  return digit_low(q);
}

// Sums of the parts of products: of digits' products by weight, or of the halves of whole products.
struct Sums {
  high: vec4<i32>,
  middle: vec4<i32>,
  low: vec4<i32>,
}

fn sums_add(p: Sums, b: Digits, a_high: i32, a_low: i32) -> Sums {
  if (NARROW != 0u) {
    let product = b.low * a_low;
    return Sums(p.high + (product >> vec4<u32>(16u)), p.middle, p.low + (product & vec4<i32>(0xffff)));
  }
  return Sums(
    p.high + b.high * a_high,
    p.middle + (b.low * a_high + b.high * a_low),
    p.low + b.low * a_low,
  );
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

// Takes in a chunk: high * 2^24 + middle * 2^12 + low, or high * 2^16 + low.
fn totals_add_chunk(t: Totals, p: Sums) -> Totals {
  let sign = bitcast<vec4<u32>>(p.low >> vec4<u32>(31u));
  let below = totals_add(t, bitcast<vec4<u32>>(p.low), sign);
  if (NARROW != 0u) {
    return totals_add_shifted(below, p.high, 16u);
  }
  return totals_add_shifted(totals_add_shifted(below, p.high, 24u), p.middle, 12u);
}
