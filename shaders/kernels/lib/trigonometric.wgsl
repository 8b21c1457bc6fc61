// sin and cos, operation by operation those of src/num/elementary/trigonometric.rs, on bit patterns.
// Needs float.wgsl, fixed.wgsl and elementary.wgsl.

// 32 bits of 2 / pi from bit `at` on; bit 1 is the first after the point.
fn two_over_pi(at: i32) -> u32 {
  var words = array<u32, 9>(
    0u, 0xa2f9836eu, 0x4e441529u, 0xfc2757d1u, 0xf534ddc0u, 0xdb629599u, 0x3c439041u, 0xfe5163abu, 0u,
  );
  let bit = at - 1;
  let index = clamp((bit >> 5u) + 1, 0, 7);
  let shift = u32(bit & 31);
  let low = select(0u, words[index + 1] >> ((32u - shift) & 31u), shift != 0u);
  return (words[index] << shift) | low;
}

// The product of a 24-bit and a 32-bit number, low word first.
fn product_24_32(a: u32, b: u32) -> vec2<u32> {
  let low = a * (b & 0xffu);
  let middle = a * ((b >> 8u) & 0xffu);
  let upper = a * ((b >> 16u) & 0xffu);
  let top = a * (b >> 24u);
  var sum = wide_add(vec2<u32>(low, 0u), vec2<u32>(middle << 8u, middle >> 24u));
  sum = wide_add(sum, vec2<u32>(upper << 16u, upper >> 16u));
  return wide_add(sum, vec2<u32>(top << 24u, top >> 8u));
}

struct Angle {
  quadrant: u32,
  rest: u32,
}

// x = quadrant * pi/2 + rest, of a positive, finite x.
fn f_reduce(x: u32) -> Angle {
  let mantissa = (x & MANTISSA) | HIDDEN;
  let e = i32(x >> 23u) - 150;
  let low = product_24_32(mantissa, two_over_pi(e + 63));
  let middle = wide_add(product_24_32(mantissa, two_over_pi(e + 31)), vec2<u32>(low.y, 0u));
  let top = product_24_32(mantissa, two_over_pi(e - 1)).x + middle.y;
  let fraction = vec2<u32>(middle.x << 2u, (top << 2u) | (middle.x >> 30u));
  let quadrant = ((top >> 30u) + (fraction.y >> 31u)) & 3u;
  let rest = f_mul(sum_to_f32(fraction, -64), 0x3fc90fdbu);
  let small = x <= 0x3f490fdau;
  return Angle(select(quadrant, 0u, small), select(rest, x, small));
}

fn f_sin_within(r: u32) -> u32 {
  let z = f_mul(r, r);
  return f_add(r, f_mul(f_mul(r, z), f_horner4(z, 0xbe2aaaabu, 0x3c0888b3u, 0xb9502535u, 0x363c2f81u)));
}

fn f_cos_within(r: u32) -> u32 {
  let z = f_mul(r, r);
  let start = f_sub(ONE, f_mul(0x3f000000u, z));
  return f_add(start, f_mul(f_mul(z, z), f_horner3(z, 0x3d2aaaa5u, 0xbab60615u, 0x37ccf46cu)));
}

fn f_sin(x: u32) -> u32 {
  let a = f_reduce(x & MAGNITUDE);
  let y = select(f_sin_within(a.rest), f_cos_within(a.rest), (a.quadrant & 1u) != 0u);
  let signed = y ^ ((a.quadrant & 2u) << 30u) ^ (x & SIGN);
  return select(signed, NAN, (x & MAGNITUDE) >= INFINITY);
}

fn f_cos(x: u32) -> u32 {
  let a = f_reduce(x & MAGNITUDE);
  let y = select(f_cos_within(a.rest), f_sin_within(a.rest), (a.quadrant & 1u) != 0u);
  let signed = y ^ (((a.quadrant + 1u) & 2u) << 30u);
  return select(signed, NAN, (x & MAGNITUDE) >= INFINITY);
}
