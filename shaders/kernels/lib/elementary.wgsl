// Elementary functions, operation by operation those of src/num/elementary/mod.rs, on bit patterns.
// Needs float.wgsl.

fn f_horner3(x: u32, c0: u32, c1: u32, c2: u32) -> u32 {
  return f_mad(f_mad(c2, x, c1), x, c0);
}

fn f_horner4(x: u32, c0: u32, c1: u32, c2: u32, c3: u32) -> u32 {
  return f_mad(f_horner3(x, c1, c2, c3), x, c0);
}

fn f_horner5(x: u32, c0: u32, c1: u32, c2: u32, c3: u32, c4: u32) -> u32 {
  return f_mad(f_horner4(x, c1, c2, c3, c4), x, c0);
}

// e^(x + tail) of an x within the clamps of f_exp.
fn f_exp_within(x: u32, tail: u32) -> u32 {
  let shifted = f_mad(x, 0x3fb8aa3bu, 0x4b400000u);
  let n = bitcast<i32>(shifted) - 0x4b400000;
  let whole = f_sub(shifted, 0x4b400000u);
  let near = f_sub(f_sub(x, f_mul(whole, 0x3f317200u)), f_mul(whole, 0x35bfbe8eu));
  let r = f_add(near, tail);
  let p = f_horner5(r, 0x3efffffeu, 0x3e2aaa47u, 0x3d2aac51u, 0x3c091e3fu, 0x3ab530cau);
  let y = f_add(ONE, f_add(r, f_mul(f_mul(r, r), p)));
  return f_scale(y, n);
}

fn f_exp(x: u32) -> u32 {
  // 89 and -104, by order key: above is infinite, below zero.
  let key = clamp(f_key(x), f_key(0xc2d00000u), f_key(0x42b20000u));
  let clamped = bitcast<u32>(key ^ bitcast<i32>(bitcast<u32>(key >> 31u) >> 1u));
  // A NaN's key is clamped too, so that nothing below depends on it.
  return select(f_exp_within(clamped, 0u), NAN, is_nan(x));
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
  let z = f_mul(a, a);
  let p = f_horner5(z, 0xbeaaaa9au, 0x3e0883b1u, 0xbd5c21cdu, 0x3ca92994u, 0xbbbb4efcu);
  let small = f_add(a, f_mul(f_mul(a, z), p));
  let large = f_sub(ONE, f_div(0x40000000u, f_add(f_exp(f_add(a, a)), ONE)));
  // 0.625
  let y = select(large, small, a < 0x3f200000u);
  return select(f_copysign(y, x), NAN, is_nan(x));
}

fn f_erf(x: u32) -> u32 {
  let a = min(x & MAGNITUDE, 0x40800000u);
  let z = f_mul(a, a);
  let p = f_mad(f_horner5(z, 0xbec09374u, 0x3de70d45u, 0xbcdb44f0u, 0x3ba3927au, 0xba1cc6d4u), z, 0x3e0375d3u);
  let small = f_add(a, f_mul(a, p));
  let q = f_horner5(a, 0x3f2323dau, 0x3dd4b29du, 0xbcb5c732u, 0x3b46d065u, 0xb94c692au);
  let large = f_sub(ONE, f_exp(f_neg(f_mad(f_mad(q, a, 0x3f905618u), a, 0x395912e6u))));
  // 0.927734375
  let y = select(large, small, a < 0x3f6d8000u);
  return select(f_copysign(y, x), NAN, is_nan(x));
}
