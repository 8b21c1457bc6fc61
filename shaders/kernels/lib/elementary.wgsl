// Elementary functions, operation by operation those of src/num/elementary/mod.rs, on bit patterns.
// Needs float.wgsl; soft.wgsl and exponential_soft.wgsl, or native.wgsl and exponential.wgsl.

fn f_horner3(x: u32, c0: u32, c1: u32, c2: u32) -> u32 {
  return f_mad(f_mad(c2, x, c1), x, c0);
}

fn f_horner4(x: u32, c0: u32, c1: u32, c2: u32, c3: u32) -> u32 {
  return f_mad(f_horner3(x, c1, c2, c3), x, c0);
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
