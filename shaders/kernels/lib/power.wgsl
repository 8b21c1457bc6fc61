// pow, operation by operation that of src/num/elementary/power.rs, on bit patterns.
// Needs float.wgsl and elementary.wgsl.

// The error of a * b = p.
fn f_product_error(a: u32, b: u32, p: u32) -> u32 {
  let a_high = a & 0xfffff000u;
  let b_high = b & 0xfffff000u;
  let a_low = f_sub(a, a_high);
  let b_low = f_sub(b, b_high);
  let first = f_sub(f_mul(a_high, b_high), p);
  return f_add(f_add(f_add(first, f_mul(a_high, b_low)), f_mul(a_low, b_high)), f_mul(a_low, b_low));
}

// log(x) of a positive, finite x as (high, low).
fn f_log_in_two(x: u32) -> vec2<u32> {
  let t = f_split_exponent(x);
  let f = t.fraction;
  let d = f_add(0x40000000u, f);
  let d_low = f_sub(f, f_sub(d, 0x40000000u));
  let s = f_div(f, d);
  let sd = f_mul(s, d);
  let remainder = f_sub(f_sub(f_sub(f, sd), f_product_error(s, d, sd)), f_mul(s, d_low));
  let s_low = f_div(remainder, d);
  let z = f_mul(s, s);
  let cubic = f_mul(f_mul(s, z), f_log_polynomial(z));
  let whole = f_mul(t.exponent, 0x3f317200u);
  let twice = f_add(s, s);
  let sum = f_add(whole, twice);
  let lost = f_sub(twice, f_sub(sum, whole));
  let sum_low = select(lost, 0u, (t.exponent & MAGNITUDE) == 0u);
  let rest = f_add(sum_low, f_add(f_add(f_add(s_low, s_low), cubic), f_mul(t.exponent, 0x35bfbe8eu)));
  let high = f_add(sum, rest);
  return vec2<u32>(high, f_sub(rest, f_sub(high, sum)));
}

// a^n by squaring, for n up to 16.
fn f_whole_power(a: u32, count: u32) -> u32 {
  var value = ONE;
  var square = a;
  for (var n = count; n > 0u; n = n >> 1u) {
    value = select(value, f_mul(value, square), (n & 1u) != 0u);
    square = select(square, f_mul(square, square), n > 1u);
  }
  return value;
}

// a^y of a positive, finite a and a finite y.
fn f_real_power(a: u32, y: u32) -> u32 {
  let l = f_log_in_two(a);
  let p = f_mul(y, l.x);
  // 89 and -104.5
  let above = f_less(0x42b20000u, p);
  let below = f_less(p, 0xc2d10000u);
  let within = select(p, 0u, above || below);
  let tail = f_add(f_product_error(y, l.x, p), f_mul(y, l.y));
  let result = f_exp_within(within, select(tail, 0u, above || below));
  return select(select(result, 0u, below), INFINITY, above);
}

fn f_pow(x: u32, y: u32) -> u32 {
  let a = x & MAGNITUDE;
  let b = y & MAGNITUDE;
  let y_negative = (y & SIGN) != 0u;
  // From 2^24 on all floats are even integers.
  let whole_bits = f_whole(b);
  let large = b >= 0x4b800000u;
  let whole = large || f_from_u32(whole_bits) == b;
  let odd = whole && !large && (whole_bits & 1u) != 0u;
  let sign = select(0u, x & SIGN, odd);

  let ordinary = a != 0u && a < INFINITY && b < INFINITY && b != 0u;
  let by_squaring = whole && b <= 0x41800000u;
  let power = f_whole_power(a, select(0u, whole_bits, by_squaring));
  let squared = select(power, f_div(ONE, power), y_negative);
  let general = f_real_power(select(ONE, a, ordinary), select(ONE, y, ordinary));
  var result = select(general, squared, by_squaring);
  result = select(result, f_sqrt(a), y == 0x3f000000u);
  result = result | sign;
  result = select(result, NAN, (x & SIGN) != 0u && !whole);
  // A zero or infinite base.
  let vanishes = (a == 0u) != y_negative;
  result = select(result, sign | select(INFINITY, 0u, vanishes), a == 0u || a == INFINITY);
  // An infinite exponent.
  let grows = (a > ONE) != y_negative;
  let limit = select(select(0u, INFINITY, grows), ONE, a == ONE);
  result = select(result, limit, b == INFINITY);
  result = select(result, NAN, a > INFINITY || b > INFINITY);
  return select(result, ONE, b == 0u || x == ONE);
}
