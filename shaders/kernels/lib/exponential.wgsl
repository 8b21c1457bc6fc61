// exp, tanh and erf, operation by operation those of src/num/elementary/mod.rs, on bit patterns.
// Needs elementary.wgsl and what it needs.

fn f_horner5(x: u32, c0: u32, c1: u32, c2: u32, c3: u32, c4: u32) -> u32 {
  return f_mad(f_horner4(x, c1, c2, c3, c4), x, c0);
}

// 2^n for -126 <= n <= 127.
fn f_power_of_two(n: i32) -> u32 {
  return bitcast<u32>(n + 127) << 23u;
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
  let first = n >> 1u;
  return f_mul(f_mul(y, f_power_of_two(first)), f_power_of_two(n - first));
}

fn f_exp(x: u32) -> u32 {
  // 89 and -104, by order key: above is infinite, below zero.
  let key = clamp(f_key(x), f_key(0xc2d00000u), f_key(0x42b20000u));
  let clamped = bitcast<u32>(key ^ bitcast<i32>(bitcast<u32>(key >> 31u) >> 1u));
  // A NaN's key is clamped too, so that nothing above depends on it.
  return select(f_exp_within(clamped, 0u), NAN, is_nan(x));
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
