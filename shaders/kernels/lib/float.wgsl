// IEEE 754 binary32 on bit patterns, in u32 operations alone: round to nearest even, gradual underflow, one NaN.
// WGSL leaves rounding, subnormals and NaN of its own floats open, but fixes u32 arithmetic, so every conforming device
// gives these bits.
// Reference: Rust's f32 operators, and src/num/float.rs.
// The code avoids branches: software adapters run both sides of them, and lanes of a GPU diverge.

const SIGN: u32 = 0x80000000u;
const MAGNITUDE: u32 = 0x7fffffffu;
const MANTISSA: u32 = 0x7fffffu;
const HIDDEN: u32 = 0x800000u;
const INFINITY: u32 = 0x7f800000u;
const NAN: u32 = 0x7fc00000u;
const ONE: u32 = 0x3f800000u;

// x >> n, with a one in the lowest bit where ones were shifted out. Takes x < 2^31 and any n.
fn shift_sticky(x: u32, n: u32) -> u32 {
  let within = min(n, 31u);
  let kept = x >> within;
  return kept | min((kept << within) ^ x, 1u);
}

// A significand whose leading one is at bit 30, rounded to 24 bits, ties to even.
fn rounded(significand: u32) -> u32 {
  return (significand + 0x3fu + ((significand >> 7u) & 1u)) >> 7u;
}

// Rounds and packs a significand whose leading one is at bit 30, with its biased exponent less one, which is not negative.
// The hidden bit then adds the one, and a carry out of rounding adds another. Of exponent 0 it may lack the leading one.
fn round_pack_within(sign: u32, exponent: u32, significand: u32) -> u32 {
  let packed = (min(exponent, 254u) << 23u) + rounded(significand);
  return sign | select(packed, INFINITY, exponent > 253u);
}

// The same with any exponent.
fn round_pack(sign: u32, exponent: i32, significand: u32) -> u32 {
  let s = shift_sticky(significand, u32(max(-exponent, 0)));
  return round_pack_within(sign, u32(max(exponent, 0)), s);
}

fn is_nan(x: u32) -> bool {
  return (x & MAGNITUDE) > INFINITY;
}

fn f_neg(x: u32) -> u32 {
  return x ^ SIGN;
}

struct Parts {
  exponent: i32,
  // The leading one at bit 23; zero for zero.
  mantissa: u32,
}

// Takes apart a magnitude; subnormals are normalised.
fn f_parts(magnitude: u32) -> Parts {
  let field = magnitude >> 23u;
  let fraction = magnitude & MANTISSA;
  let left = countLeadingZeros(fraction) - 8u;
  let subnormal = field == 0u;
  return Parts(
    select(i32(field), 1 - i32(left), subnormal),
    select(fraction | HIDDEN, fraction << (left & 31u), subnormal),
  );
}

// An integer that orders bit patterns as their values; -0 just below +0. NaN has no place.
fn f_key(x: u32) -> i32 {
  return bitcast<i32>(x ^ (bitcast<u32>(bitcast<i32>(x) >> 31u) >> 1u));
}

// IEEE a < b: false with a NaN, and both zeros are equal.
fn f_less(a: u32, b: u32) -> bool {
  let zeros = ((a | b) & MAGNITUDE) == 0u;
  return !is_nan(a) && !is_nan(b) && !zeros && f_key(a) < f_key(b);
}

fn f_equal(a: u32, b: u32) -> bool {
  let zeros = ((a | b) & MAGNITUDE) == 0u;
  return !is_nan(a) && (a == b || zeros);
}

fn f_max(a: u32, b: u32) -> u32 {
  return select(select(b, a, f_key(a) >= f_key(b)), NAN, is_nan(a) || is_nan(b));
}

fn f_min(a: u32, b: u32) -> u32 {
  return select(select(b, a, f_key(a) <= f_key(b)), NAN, is_nan(a) || is_nan(b));
}

// The sign of `sign` on the magnitude of x.
fn f_copysign(x: u32, sign: u32) -> u32 {
  return (x & MAGNITUDE) | (sign & SIGN);
}

// y * 2^n of a normal y, rounded once.
fn f_scale(y: u32, n: i32) -> u32 {
  return round_pack(y & SIGN, i32((y >> 23u) & 0xffu) - 1 + n, ((y & MANTISSA) | HIDDEN) << 7u);
}

fn f_from_u32(x: u32) -> u32 {
  let left = countLeadingZeros(x | 1u);
  let normalised = x << left;
  let significand = (normalised >> 1u) | (normalised & 1u);
  return select(round_pack(0u, 157 - i32(left), significand), 0u, x == 0u);
}

fn f_from_i32(x: i32) -> u32 {
  let sign = bitcast<u32>(x) & SIGN;
  return f_from_u32(select(bitcast<u32>(x), 0u - bitcast<u32>(x), x < 0)) | sign;
}

// The magnitude's integer part, saturated at 2^32 - 1.
fn f_whole(magnitude: u32) -> u32 {
  let e = i32(magnitude >> 23u) - 127;
  let m = (magnitude & MANTISSA) | HIDDEN;
  let left = u32(clamp(e - 23, 0, 8));
  let right = u32(clamp(23 - e, 0, 31));
  return select(select((m >> right) << left, 0xffffffffu, e > 31), 0u, e < 0);
}

// Towards zero; beyond the range to its end; NaN to 0.
fn f_to_u32(x: u32) -> u32 {
  return select(f_whole(x & MAGNITUDE), 0u, is_nan(x) || (x & SIGN) != 0u);
}

fn f_to_i32(x: u32) -> i32 {
  let whole = f_whole(x & MAGNITUDE);
  let up = i32(min(whole, 0x7fffffffu));
  let down = bitcast<i32>(0u - min(whole, 0x80000000u));
  return select(select(up, down, (x & SIGN) != 0u), 0, is_nan(x));
}

// The fraction's bits of a magnitude: all of them below one, none from 2^23 on.
fn f_fraction_mask(magnitude: u32) -> u32 {
  let e = i32(magnitude >> 23u) - 127;
  return select(MANTISSA >> u32(clamp(e, 0, 31)), MAGNITUDE, e < 0);
}

// Rounds to an integer: towards zero, and one further where `away`.
fn f_integral(x: u32, away: bool) -> u32 {
  let magnitude = x & MAGNITUDE;
  let fraction_mask = f_fraction_mask(magnitude);
  let floor_bits = magnitude & ~fraction_mask;
  // One more is one unit of the integer part, and the whole of 1.0 below it.
  let next = select(floor_bits + fraction_mask + 1u, ONE, magnitude < ONE);
  let integral = select(floor_bits, next, away && (magnitude & fraction_mask) != 0u);
  return select((x & SIGN) | integral, NAN, is_nan(x));
}

fn f_floor(x: u32) -> u32 {
  return f_integral(x, (x & SIGN) != 0u);
}

fn f_ceil(x: u32) -> u32 {
  return f_integral(x, (x & SIGN) == 0u);
}

// To nearest, ties to even.
fn f_round(x: u32) -> u32 {
  let magnitude = x & MAGNITUDE;
  let fraction_mask = f_fraction_mask(magnitude);
  let fraction = magnitude & fraction_mask;
  let half = (fraction_mask + 1u) >> 1u;
  // From one to two the unit is hidden; the exponent's lowest bit, which is set there, stands in its place.
  let odd = (magnitude & (fraction_mask + 1u)) != 0u;
  let above_half = fraction > half || (fraction == half && odd);
  // Below one there is no unit to look at: one half alone goes to zero.
  let away = select(above_half, magnitude > 0x3f000000u, magnitude < ONE);
  return f_integral(x, away);
}

// The nearest value of binary16, ties to even; beyond its range infinity.
fn f_to_half(x: u32) -> u32 {
  let magnitude = x & MAGNITUDE;
  let field = magnitude >> 23u;
  // A carry goes into the exponent.
  let normal = (magnitude + 0xfffu + ((magnitude >> 13u) & 1u)) & ~0x1fffu;
  // Below 2^-14: multiples of 2^-24. At a shift of 25 a 24-bit mantissa is below half of one.
  let shift = 126u - clamp(field, 101u, 113u);
  let mantissa = (magnitude & MANTISSA) | HIDDEN;
  let count = (mantissa + (1u << (shift - 1u)) - 1u + ((mantissa >> shift) & 1u)) >> shift;
  let small = select(f_from_u32(count) - (24u << 23u), 0u, count == 0u);
  let rounded = select(normal, small, field < 113u);
  let held = select(rounded, INFINITY, rounded >= 0x47800000u);
  return select((x & SIGN) | held, NAN, is_nan(x));
}
