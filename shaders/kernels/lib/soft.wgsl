// Arithmetic of IEEE 754 binary32 on bit patterns, in u32 operations alone: what every device can run. Its other form is
// native.wgsl.
// Reference: Rust's f32 operators.
// Needs float.wgsl.

fn f_add(a: u32, b: u32) -> u32 {
  // The larger magnitude first: it alone decides the sign, and holds any NaN.
  let swapped = (a & MAGNITUDE) < (b & MAGNITUDE);
  let x = select(a, b, swapped);
  let y = select(b, a, swapped);
  let ex = (x >> 23u) & 0xffu;
  let ey = (y >> 23u) & 0xffu;
  // Six bits below the mantissa: leading ones at bit 29.
  let mx = ((x & MANTISSA) | select(0u, HIDDEN, ex != 0u)) << 6u;
  let my = ((y & MANTISSA) | select(0u, HIDDEN, ey != 0u)) << 6u;
  let exponent = max(ex, 1u);
  let shifted = shift_sticky(my, exponent - max(ey, 1u));
  let opposite = ((x ^ y) & SIGN) != 0u;
  let sum = select(mx + shifted, mx - shifted, opposite);
  // A subnormal sum is exact: its leading one stays where it is.
  let left = min(countLeadingZeros(sum | 1u) - 1u, exponent);
  let finite = round_pack_within(x & SIGN, exponent - left, sum << left);
  let result = select(finite, select(x & SIGN, 0u, opposite), sum == 0u);
  let invalid = is_nan(x) || ((y & MAGNITUDE) == INFINITY && opposite);
  return select(result, select(x, NAN, invalid), ex == 255u);
}

fn f_sub(a: u32, b: u32) -> u32 {
  return f_add(a, b ^ SIGN);
}

// The product of two mantissas with leading ones at bit 23: its leading one at bit 29 or 30, the bits below as a sticky one.
// 24 by 24 bits from halves of 12: high * 2^24 + middle * 2^12 + the lower 12 bits of low.
fn mantissa_product(p: u32, q: u32) -> u32 {
  let pl = p & 0xfffu;
  let ph = p >> 12u;
  let ql = q & 0xfffu;
  let qh = q >> 12u;
  let low = pl * ql;
  let middle = ph * ql + pl * qh + (low >> 12u);
  let lost = (middle & 0x1fu) | (low & 0xfffu);
  return (((ph * qh) << 7u) + (middle >> 5u)) | min(lost, 1u);
}

fn f_mul(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & SIGN;
  let x = min(a & MAGNITUDE, b & MAGNITUDE);
  let y = max(a & MAGNITUDE, b & MAGNITUDE);
  // Where the larger is subnormal, the product is zero whatever its mantissa is taken for.
  let p = f_parts(x);
  let top = mantissa_product(p.mantissa, (y & MANTISSA) | HIDDEN);
  let left = 1u - (top >> 30u);
  let finite = round_pack(sign, p.exponent + i32(y >> 23u) - 127 - i32(left), top << left);
  let zero = x == 0u;
  let result = select(finite, sign, zero);
  return select(result, select(sign | INFINITY, NAN, zero || y > INFINITY), y >= INFINITY);
}

// a * b + c, rounded twice.
fn f_mad(a: u32, b: u32, c: u32) -> u32 {
  return f_add(f_mul(a, b), c);
}

// floor(x * 2^25 / y), with a one in the lowest bit of what is returned where there is a rest: 2 * quotient + sticky bit.
// For 24-bit y and y <= x < 2 * y. Two digits of 13 and 12 bits by a reciprocal of 15 bits that is never too large; what the
// second lacks is at most 7.
fn mantissa_quotient(x: u32, y: u32) -> u32 {
  let divisor = (y >> 8u) + 1u;
  // 2^30 / divisor: 48/17 - 32/17 * divisor is within a 17th of it, and each step squares the error.
  var reciprocal = 46260u - ((divisor * 30840u) >> 16u);
  reciprocal = (reciprocal * ((0x80000000u - divisor * reciprocal) >> 15u)) >> 15u;
  reciprocal = (reciprocal * ((0x80000000u - divisor * reciprocal) >> 15u)) >> 15u;
  // Rests are less than 8 * y, whatever carries out of the word.
  let upper = ((x >> 9u) * reciprocal) >> 16u;
  let between = (x << 13u) - upper * y;
  let lower = ((between >> 11u) * reciprocal) >> 15u;
  var rest = (between << 12u) - lower * y;
  var quotient = (upper << 12u) + lower;
  for (var k = 3u; k > 0u; k--) {
    let part = y << (k - 1u);
    let fits = rest >= part;
    rest = select(rest, rest - part, fits);
    quotient += select(0u, 1u << (k - 1u), fits);
  }
  return (quotient << 1u) | min(rest, 1u);
}

fn f_div(a: u32, b: u32) -> u32 {
  let sign = (a ^ b) & SIGN;
  let x = a & MAGNITUDE;
  let y = b & MAGNITUDE;
  let p = f_parts(x);
  let q = f_parts(y);
  let left = select(0u, 1u, p.mantissa < q.mantissa);
  // The first quotient bit is the one before the point.
  let quotient = mantissa_quotient(p.mantissa << left, q.mantissa);
  let significand = ((quotient >> 1u) << 5u) | (quotient & 1u);
  let finite = round_pack(sign, p.exponent - q.exponent + 126 - i32(left), significand);
  let result = select(finite, sign, x == 0u || y == INFINITY);
  let infinite = x == INFINITY || y == 0u;
  let invalid = x > INFINITY || y > INFINITY || (x == 0u && y == 0u) || (x == INFINITY && y == INFINITY);
  return select(select(result, sign | INFINITY, infinite), NAN, invalid);
}

fn f_sqrt(a: u32) -> u32 {
  let p = f_parts(a & MAGNITUDE);
  let e = p.exponent - 127;
  // An odd exponent lends its one to the mantissa. Two bits of it make one bit of the root.
  var digits = (p.mantissa << u32(e & 1)) << 7u;
  var rest = 0u;
  var root = 0u;
  for (var i = 0u; i < 26u; i++) {
    rest = (rest << 2u) | (digits >> 30u);
    digits = digits << 2u;
    let trial = (root << 2u) | 1u;
    let fits = rest >= trial;
    rest = select(rest, rest - trial, fits);
    root = (root << 1u) | select(0u, 1u, fits);
  }
  let significand = (root << 5u) | select(0u, 1u, rest != 0u);
  let finite = round_pack(0u, (e >> 1u) + 126, significand);
  let special = select(a, NAN, is_nan(a) || (a & MAGNITUDE) != 0u);
  let result = select(finite, a, a == INFINITY || (a & MAGNITUDE) == 0u);
  return select(result, special, (a & SIGN) != 0u || is_nan(a));
}
