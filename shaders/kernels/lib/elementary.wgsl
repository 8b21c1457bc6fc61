// Elementary functions, operation by operation those of src/num/elementary/mod.rs, on bit patterns.
// Needs float.wgsl.

fn f_horner3(x: u32, c0: u32, c1: u32, c2: u32) -> u32 {
  return f_mad(f_mad(c2, x, c1), x, c0);
}

fn f_horner4(x: u32, c0: u32, c1: u32, c2: u32, c3: u32) -> u32 {
  return f_mad(f_horner3(x, c1, c2, c3), x, c0);
}

// Parts of a normal number.
fn f_normal_parts(x: u32) -> Parts {
  return Parts(i32((x >> 23u) & 0xffu), (x & MANTISSA) | HIDDEN);
}

// f_normal_parts backwards, of a positive number; a mantissa of 2^24 carries.
fn f_packed(p: Parts) -> u32 {
  return (bitcast<u32>(p.exponent - 1) << 23u) + p.mantissa;
}

// A step of Horner's rule on magnitudes, of a product that is smaller than the coefficient and a sum that is at least a
// quarter of it: |c| + |v * x|, or |c| - |v * x| where `opposite` has all bits set, not none. Rounded twice, as f_mad.
// Most of f_mad's cost is to find what is known here: which is larger, and that nothing is subnormal, infinite or zero.
fn f_horner_step(v: Parts, x: Parts, opposite: u32, c: u32) -> Parts {
  let top = mantissa_product(v.mantissa, x.mantissa);
  let left = 1u - (top >> 30u);
  let exponent = i32((c >> 23u) & 0xffu);
  let apart = exponent - (v.exponent + x.exponent - 126 - i32(left));
  let product = shift_sticky(rounded(top << left) << 6u, u32(apart));
  let sum = (((c & MANTISSA) | HIDDEN) << 6u) + ((product ^ opposite) - opposite);
  let carried = countLeadingZeros(sum) - 1u;
  return Parts(exponent + 1 - i32(carried), rounded(sum << carried));
}

// x = count * ln 2 + rest.
struct Multiple {
  count: i32,
  rest: u32,
}

// The rest of an x within the clamps of f_exp: count = rne(x / ln 2), rest = (x - count * high) - count * low.
fn f_exp_reduce(x: u32) -> Multiple {
  // Below 2^-30 the count is zero as it is there.
  let magnitude = max(x & MAGNITUDE, 0x30800000u);
  let mantissa = (magnitude & MANTISSA) | HIDDEN;
  let quotient = f_mul_normal(magnitude, 0x3fb8aa3bu);
  let below = u32(clamp(150 - i32(quotient >> 23u), 1, 31));
  let digits = (quotient & MANTISSA) | HIDDEN;
  let count = (digits + ((1u << (below - 1u)) - 1u) + ((digits >> below) & 1u)) >> below;
  // x is a multiple of 2^-25 where the count is not zero, high = 0x58b9 * 2^-15, and the difference below one half: it is
  // exact in units of 2^-32, whatever carries out of the word.
  let near = (mantissa << (((magnitude >> 23u) - 118u) & 31u)) - count * (0x58b9u << 17u);
  let sign = near & SIGN;
  let near_magnitude = select(near, 0u - near, sign != 0u);
  let zeros = countLeadingZeros(near_magnitude);
  let near_packed = ((near_magnitude << (zeros & 31u)) >> 8u) + ((125u - zeros) << 23u);
  // low = 0xbfbe8e * 2^-43: the product fits a word, and is rounded to 24 bits.
  let product = count * 0xbfbe8eu;
  let product_zeros = countLeadingZeros(product);
  let normalised = product << (product_zeros & 31u);
  let low = ((114u - product_zeros) << 23u) + rounded((normalised >> 1u) | (normalised & 1u));
  let rest = f_add_normal(select(sign | near_packed, 0u, near == 0u), low | SIGN) ^ (x & SIGN);
  return Multiple(select(i32(count), -i32(count), (x & SIGN) != 0u), select(rest, x, count == 0u));
}

// e^r of a rest.
fn f_exp_rest(r: u32) -> u32 {
  // Below 2^-30 the result is one, as it is there.
  let magnitude = max(r & MAGNITUDE, 0x30800000u);
  let x = f_normal_parts(magnitude);
  let opposite = bitcast<u32>(bitcast<i32>(r) >> 31u);
  var p = f_normal_parts(0x3ab530cau);
  p = f_horner_step(p, x, opposite, 0x3c091e3fu);
  p = f_horner_step(p, x, opposite, 0x3d2aac51u);
  p = f_horner_step(p, x, opposite, 0x3e2aaa47u);
  p = f_horner_step(p, x, opposite, 0x3efffffeu);
  let square = f_mul_normal(f_mul_normal(magnitude, magnitude), f_packed(p));
  return f_add_normal(ONE, f_add_normal(magnitude | (r & SIGN), square));
}

// e^(x + tail) of an x within the clamps of f_exp.
fn f_exp_within(x: u32, tail: u32) -> u32 {
  let m = f_exp_reduce(x);
  return f_scale(f_exp_rest(f_add(m.rest, tail)), m.count);
}

fn f_exp(x: u32) -> u32 {
  // 89 and -104, by order key: above is infinite, below zero.
  let key = clamp(f_key(x), f_key(0xc2d00000u), f_key(0x42b20000u));
  let clamped = bitcast<u32>(key ^ bitcast<i32>(bitcast<u32>(key >> 31u) >> 1u));
  let m = f_exp_reduce(clamped);
  // A NaN's key is clamped too, so that nothing above depends on it.
  return select(f_scale(f_exp_rest(m.rest), m.count), NAN, is_nan(x));
}

struct Split {
  exponent: u32,
  fraction: u32,
}

// x = 2^e * (1 + f) of a positive, finite x, with 1 + f from sqrt(1/2) to sqrt(2).
fn f_split_exponent(x: u32) -> Split {
  // A subnormal is normalised to its value times 2^25, as the reference does.
  let subnormal = x < HIDDEN;
  let word = select(x, f_mul(x, 0x4c000000u), subnormal);
  let e = (bitcast<i32>(word) - 0x3f3504f3) >> 23u;
  let m = bitcast<u32>(bitcast<i32>(word) - (e << 23u));
  return Split(f_from_i32(select(e, e - 25, subnormal)), f_sub(m, ONE));
}

fn f_log_polynomial(z: u32) -> u32 {
  return f_horner4(z, 0x3f2aaaaau, 0x3ecccdebu, 0x3e91f880u, 0x3e761b2eu);
}

fn f_log(x: u32) -> u32 {
  let t = f_split_exponent(x & MAGNITUDE);
  let f = t.fraction;
  let s = f_div(f, f_add(0x40000000u, f));
  let z = f_mul(s, s);
  let r = f_mul(z, f_log_polynomial(z));
  let half_square = f_mul(f_mul(0x3f000000u, f), f);
  let low = f_add(f_mul(s, f_add(half_square, r)), f_mul(t.exponent, 0x35bfbe8eu));
  let y = f_add(f_add(f_sub(low, half_square), f), f_mul(t.exponent, 0x3f317200u));
  let special = select(select(y, INFINITY, x == INFINITY), SIGN | INFINITY, (x & MAGNITUDE) == 0u);
  return select(special, NAN, is_nan(x) || ((x & SIGN) != 0u && x != SIGN));
}

// log(1 + e^x): the argument of the logarithm is from 1 to 2, so that no special case of log1p is left.
fn f_softplus(x: u32) -> u32 {
  let e = f_exp(x | SIGN);
  let u = f_add(ONE, e);
  let lost = f_div(f_sub(e, f_sub(u, ONE)), u);
  let tail = f_add(f_log(u), lost);
  return select(tail, f_add(x, tail), f_less(0u, x));
}

fn f_sigmoid(x: u32) -> u32 {
  let e = f_exp(x | SIGN);
  let numerator = select(ONE, e, f_less(x, 0u));
  return select(f_div(numerator, f_add(ONE, e)), NAN, is_nan(x));
}

fn f_tanh(x: u32) -> u32 {
  let a = x & MAGNITUDE;
  // Below 2^-20 the polynomial adds nothing.
  let b = max(a, 0x35800000u);
  let square = f_mul_normal(b, b);
  let z = f_normal_parts(square);
  // Each coefficient's sign is against that of the one before.
  var p = f_normal_parts(0xbbbb4efcu);
  p = f_horner_step(p, z, 0xffffffffu, 0x3ca92994u);
  p = f_horner_step(p, z, 0xffffffffu, 0xbd5c21cdu);
  p = f_horner_step(p, z, 0xffffffffu, 0x3e0883b1u);
  p = f_horner_step(p, z, 0xffffffffu, 0xbeaaaa9au);
  let curved = f_add_normal(b, f_mul_normal(f_mul_normal(b, square), f_packed(p) | SIGN));
  let small = select(curved, a, a < 0x35800000u);
  let large = f_sub(ONE, f_div(0x40000000u, f_add(f_exp(f_add(a, a)), ONE)));
  // 0.625
  let y = select(large, small, a < 0x3f200000u);
  return select(f_copysign(y, x), NAN, is_nan(x));
}

// Both polynomials are walked at once, as far as they have the same length.
fn f_erf(x: u32) -> u32 {
  let a = min(x & MAGNITUDE, 0x40800000u);
  // 0.927734375
  let is_small = a < 0x3f6d8000u;
  // Below 2^-20 the small polynomial is its first coefficient.
  let b = max(a, 0x35800000u);
  let argument = select(b, f_mul_normal(b, b), is_small);
  let t = f_normal_parts(argument);
  // Signs of coefficients alternate in the small one, and in the upper four of the large one.
  let against = 0xffffffffu;
  let upper = f_horner_step(f_normal_parts(0xb94c692au), t, against, 0x3b46d065u);
  let lower = f_normal_parts(0xba1cc6d4u);
  var p = Parts(select(upper.exponent, lower.exponent, is_small), select(upper.mantissa, lower.mantissa, is_small));
  p = f_horner_step(p, t, against, select(0xbcb5c732u, 0x3ba3927au, is_small));
  p = f_horner_step(p, t, against, select(0x3dd4b29du, 0xbcdb44f0u, is_small));
  p = f_horner_step(p, t, select(0u, against, is_small), select(0x3f2323dau, 0x3de70d45u, is_small));
  // From here on products are larger than coefficients, and sums change their sign.
  let next = f_add_normal(f_mul_normal(f_packed(p), argument), select(0x3f905618u, 0xbec09374u, is_small));
  let q = f_add_normal(f_mul_normal(next, argument), select(0x395912e6u, 0x3e0375d3u, is_small));
  let small = f_add(a, f_mul(a, q));
  // Any argument does where the result is not taken: 2.
  let m = f_exp_reduce(select(q, 0x40000000u, is_small) | SIGN);
  let tail = f_exp_rest(m.rest) + (bitcast<u32>(m.count) << 23u);
  let large = f_add_normal(ONE, tail | SIGN);
  let y = select(large, small, is_small);
  return select(f_copysign(y, x), NAN, is_nan(x));
}
