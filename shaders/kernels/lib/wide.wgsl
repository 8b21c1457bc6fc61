// 64-bit integers on vec2<u32>(low word, high word), two's complement, wrapping.
// Reference: Rust's i64 with wrapping operations.
// Needs float.wgsl and fixed.wgsl.

fn wide_sub(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  return wide_add(a, wide_neg(b));
}

fn wide_negative(a: vec2<u32>) -> bool {
  return (a.y & SIGN) != 0u;
}

fn wide_magnitude(a: vec2<u32>) -> vec2<u32> {
  return select(a, wide_neg(a), vec2<bool>(wide_negative(a)));
}

fn wide_equal(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.x == b.x && a.y == b.y;
}

fn wide_less(a: vec2<u32>, b: vec2<u32>) -> bool {
  return bitcast<i32>(a.y) < bitcast<i32>(b.y) || (a.y == b.y && a.x < b.x);
}

fn wide_below(a: vec2<u32>, b: vec2<u32>) -> bool {
  return a.y < b.y || (a.y == b.y && a.x < b.x);
}

// The full product of two words.
fn word_product(a: u32, b: u32) -> vec2<u32> {
  let al = a & 0xffffu;
  let ah = a >> 16u;
  let bl = b & 0xffffu;
  let bh = b >> 16u;
  let low = al * bl;
  let middle = ah * bl + (low >> 16u);
  let other = al * bh + (middle & 0xffffu);
  return vec2<u32>((other << 16u) | (low & 0xffffu), ah * bh + (middle >> 16u) + (other >> 16u));
}

fn wide_mul(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let low = word_product(a.x, b.x);
  return vec2<u32>(low.x, low.y + a.x * b.y + a.y * b.x);
}

struct Division {
  quotient: vec2<u32>,
  rest: vec2<u32>,
}

// Unsigned long division; a divisor of zero gives zeros.
fn wide_divide(a: vec2<u32>, b: vec2<u32>) -> Division {
  var quotient = vec2<u32>();
  var rest = vec2<u32>();
  if ((b.x | b.y) != 0u) {
    var digits = a;
    for (var i = 0u; i < 64u; i++) {
      let carry = rest.y >> 31u;
      rest = vec2<u32>((rest.x << 1u) | (digits.y >> 31u), (rest.y << 1u) | (rest.x >> 31u));
      digits = vec2<u32>(digits.x << 1u, (digits.y << 1u) | (digits.x >> 31u));
      let fits = carry != 0u || !wide_below(rest, b);
      rest = select(rest, wide_sub(rest, b), vec2<bool>(fits));
      quotient = vec2<u32>((quotient.x << 1u) | select(0u, 1u, fits), (quotient.y << 1u) | (quotient.x >> 31u));
    }
  }
  return Division(quotient, rest);
}

// Towards zero; by zero gives 0.
fn wide_div(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let d = wide_divide(wide_magnitude(a), wide_magnitude(b));
  return select(d.quotient, wide_neg(d.quotient), vec2<bool>(wide_negative(a) != wide_negative(b)));
}

// Remainder with the sign of the dividend; by zero gives 0.
fn wide_rem(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let d = wide_divide(wide_magnitude(a), wide_magnitude(b));
  return select(d.rest, wide_neg(d.rest), vec2<bool>(wide_negative(a)));
}

// Remainder with the sign of the divisor; by zero gives 0.
fn wide_mod(a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let r = wide_rem(a, b);
  let differs = (r.x | r.y) != 0u && wide_negative(r) != wide_negative(b);
  return select(r, wide_add(r, b), vec2<bool>(differs));
}

// A float towards zero; beyond the range to its end; NaN to 0.
fn f_to_wide(x: u32) -> vec2<u32> {
  let magnitude = x & MAGNITUDE;
  let e = i32(magnitude >> 23u) - 127;
  let m = (magnitude & MANTISSA) | HIDDEN;
  let negative = (x & SIGN) != 0u;
  // The mantissa shifted to its place: right below 2^23, else left over two words.
  let right = u32(clamp(23 - e, 0, 31));
  let left = u32(clamp(e - 23, 0, 63));
  let near = vec2<u32>(m << (left & 31u), select(0u, m >> ((32u - left) & 31u), left != 0u));
  let shifted = select(near, vec2<u32>(0u, m << (left & 31u)), vec2<bool>(left >= 32u));
  let whole = select(shifted, vec2<u32>(select(0u, m >> right, e >= 0), 0u), vec2<bool>(e < 23));
  let signed = select(whole, wide_neg(whole), vec2<bool>(negative));
  let end = select(vec2<u32>(0xffffffffu, 0x7fffffffu), vec2<u32>(0u, 0x80000000u), vec2<bool>(negative));
  return select(select(signed, end, vec2<bool>(e >= 63)), vec2<u32>(), vec2<bool>(is_nan(x)));
}
