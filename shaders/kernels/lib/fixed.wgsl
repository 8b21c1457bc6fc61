// Fixed point of the exact modes. Reference: src/num/fixed.rs.
// A 64-bit integer is vec2<u32>(low word, high word), two's complement.

const EXPONENT_NOT_FINITE: u32 = 255u;

fn wide_add(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = a.x + b.x;
  return vec2<u32>(low, a.y + b.y + select(0u, 1u, low < a.x));
}

fn wide_neg(a: vec2<u32>) -> vec2<u32> {
  return vec2<u32>(0u - a.x, ~a.y + select(0u, 1u, a.x == 0u));
}

// v * 2^shift, for a shift of 1 to 31.
fn wide_shifted(v: i32, shift: u32) -> vec2<u32> {
  return vec2<u32>(bitcast<u32>(v) << shift, bitcast<u32>(v >> (32u - shift)));
}

fn wide_from_i32(v: i32) -> vec2<u32> {
  return vec2<u32>(bitcast<u32>(v), bitcast<u32>(v >> 31u));
}

// The sums of digit products of a chunk, as one number: high * 2^24 + middle * 2^12 + low.
fn wide_from_digits(high: i32, middle: i32, low: i32) -> vec2<u32> {
  return wide_add(wide_add(wide_shifted(high, 24u), wide_shifted(middle, 12u)), wide_from_i32(low));
}

// sum * 2^power as f32 bits, rounded once.
fn sum_to_f32(sum: vec2<u32>, power: i32) -> u32 {
  let sign = sum.y & SIGN;
  let m = select(sum, wide_neg(sum), vec2<bool>(sign != 0u));
  let zeros = select(countLeadingZeros(m.y), 32u + countLeadingZeros(m.x), m.y == 0u);
  // The leading one goes to bit 63.
  let word = select(m, vec2<u32>(0u, m.x), vec2<bool>(m.y == 0u));
  let left = zeros & 31u;
  let carried = select(0u, word.x >> ((32u - left) & 31u), left != 0u);
  let top = (word.y << left) | carried;
  let rest = word.x << left;
  let significand = (top >> 1u) | select(0u, 1u, (top & 1u) != 0u || rest != 0u);
  let packed = round_pack(sign, power + 63 - i32(zeros) + 126, significand);
  return select(packed, 0u, (m.x | m.y) == 0u);
}

// The result of a contraction of two rows with these exponents. Bit 0 of a quantised value stands for
// 2^(exponent - unit); `units` is the sum of both rows' units.
fn rescale(a_exponent: u32, b_exponent: u32, units: u32, sum: vec2<u32>) -> u32 {
  let result = sum_to_f32(sum, i32(a_exponent) + i32(b_exponent) - i32(units));
  let poisoned = a_exponent == EXPONENT_NOT_FINITE || b_exponent == EXPONENT_NOT_FINITE;
  return select(result, NAN, poisoned);
}

// The exponent of a row whose largest magnitude bits are these.
fn row_exponent(magnitude: u32) -> u32 {
  return max(magnitude >> 23u, 1u);
}

// x as an integer at a row's exponent, rounded to nearest even and saturated; zero where the row is not finite.
// `dropped` bits of the mantissa of a value with the row's exponent are rounded away.
fn quantise(x: u32, exponent: u32, dropped: u32, most: i32) -> i32 {
  let field = (x >> 23u) & 0xffu;
  let mantissa = (x & MANTISSA) | select(0u, HIDDEN, field != 0u);
  let shift = min(dropped + exponent - min(exponent, max(field, 1u)), 25u);
  let odd = (mantissa >> shift) & 1u;
  let rounded = min(bitcast<i32>((mantissa + ((1u << (shift - 1u)) - 1u) + odd) >> shift), most);
  return select(select(rounded, -rounded, (x & SIGN) != 0u), 0, exponent == EXPONENT_NOT_FINITE);
}

// Balanced digits: q = 4096 * high + low.
fn digit_high(q: i32) -> i32 {
  return (q + 2048) >> 12u;
}

fn digit_low(q: i32) -> i32 {
  return q - (digit_high(q) << 12u);
}
