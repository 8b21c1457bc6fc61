// Arithmetic of IEEE 754 binary32 with the floats of the device, in the place of soft.wgsl. WGSL leaves open how these
// round, whether they keep subnormals, and what becomes of several operations in a row, so it is for devices whose
// self-test found each operation right (src/gpu/selftest.rs).
// No operation is seen by the next as that of a float: between them stands an exclusive or with a word that is zero, which
// no compiler knows, so that nothing can be fused, reordered or left out. A NaN is any NaN.
// Reference: Rust's f32 operators.
// Needs float.wgsl and step.wgsl.

// The last word of a parameter block is zero.
const ZERO: u32 = 255u;

fn apart(x: f32) -> u32 {
  return bitcast<u32>(x) ^ params[ZERO];
}

fn f_add(a: u32, b: u32) -> u32 {
  return apart(bitcast<f32>(a) + bitcast<f32>(b));
}

fn f_sub(a: u32, b: u32) -> u32 {
  return apart(bitcast<f32>(a) - bitcast<f32>(b));
}

fn f_mul(a: u32, b: u32) -> u32 {
  return apart(bitcast<f32>(a) * bitcast<f32>(b));
}

// a * b + c, rounded twice.
fn f_mad(a: u32, b: u32, c: u32) -> u32 {
  return f_add(f_mul(a, b), c);
}

fn f_div(a: u32, b: u32) -> u32 {
  return apart(bitcast<f32>(a) / bitcast<f32>(b));
}

fn f_sqrt(a: u32) -> u32 {
  return apart(sqrt(bitcast<f32>(a)));
}
