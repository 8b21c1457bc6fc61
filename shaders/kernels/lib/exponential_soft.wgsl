// exp, tanh and erf for arithmetic in u32 operations: what is known of the operands of a step is left out of it. The bits
// are those of exponential.wgsl.
// Reference: src/num/elementary/mod.rs.
// Needs float.wgsl and soft.wgsl.

// a * b of normal numbers whose product is normal: a third less than f_mul.
fn f_mul_normal(a: u32, b: u32) -> u32 {
  let top = mantissa_product((a & MANTISSA) | HIDDEN, (b & MANTISSA) | HIDDEN);
  let left = 1u - (top >> 30u);
  let exponents = (a & INFINITY) + (b & INFINITY) - ((127u + left) << 23u);
  return ((a ^ b) & SIGN) | (exponents + rounded(top << left));
}

// a + b where the larger is normal, the smaller normal or too small to change it, and the sum normal or zero.
fn f_add_normal(a: u32, b: u32) -> u32 {
  let swapped = (a & MAGNITUDE) < (b & MAGNITUDE);
  let x = select(a, b, swapped);
  let y = select(b, a, swapped);
  let exponent = (x >> 23u) & 0xffu;
  let mx = ((x & MANTISSA) | HIDDEN) << 6u;
  let my = ((y & MANTISSA) | HIDDEN) << 6u;
  let shifted = shift_sticky(my, exponent - ((y >> 23u) & 0xffu));
  let sum = select(mx + shifted, mx - shifted, ((x ^ y) & SIGN) != 0u);
  let left = countLeadingZeros(sum | 1u) - 1u;
  let packed = ((exponent - left) << 23u) + rounded(sum << left);
  return select((x & SIGN) | packed, 0u, sum == 0u);
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
