// Element-wise programs with any instruction over any kind: out[i] = program(operands at i).
// What map.wgsl does not cover comes here: 64-bit integers, integer division, remainders, pow, sin and cos.
//
// Libraries:   float, soft, fixed, elementary, exponential_soft, trigonometric, power, wide, step, map
// Layout:      params as in lib/map.wgsl; a work item is an element of the result, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Overrides:   WIDE must be true; ROOTS to TRIGONOMETRIC which groups of instructions the program has
// Reference:   src/cpu (Map), src/num

override ROOTS: bool = true;
override DIVISIONS: bool = true;
override ELEMENTARY: bool = true;
override POWER: bool = true;
override TRIGONOMETRIC: bool = true;

// Remainder with the sign of the dividend, exact, as C's fmod.
fn f_fmod(a: u32, b: u32) -> u32 {
  let x = a & MAGNITUDE;
  let y = b & MAGNITUDE;
  let p = f_parts(x);
  let q = f_parts(y);
  var rest = p.mantissa;
  let ordinary = x < INFINITY && y <= INFINITY && y != 0u && x >= y;
  if (ordinary) {
    for (var e = p.exponent; e > q.exponent; e--) {
      rest = select(rest, rest - q.mantissa, rest >= q.mantissa) << 1u;
    }
    rest = select(rest, rest - q.mantissa, rest >= q.mantissa);
    let left = countLeadingZeros(rest | 1u) - 1u;
    // The rest has the divisor's exponent at bit 23; round_pack wants the leading one at bit 30.
    let packed = round_pack(0u, q.exponent + 6 - i32(left), rest << left);
    rest = select(packed, 0u, rest == 0u);
  } else {
    rest = x;
  }
  let invalid = x >= INFINITY || y > INFINITY || y == 0u;
  return select(rest | (a & SIGN), NAN, invalid);
}

fn any_f32(op: u32, a: u32, b: u32) -> vec2<u32> {
  var r = vec2<u32>(plain_f32(op, a, b), 0u);
  if (op == OP_TO_I64) {
    r = f_to_wide(a);
  }
  if (ROOTS) {
    switch op {
      case OP_DIV: { r.x = f_div(a, b); }
      case OP_REM: { r.x = f_fmod(a, b); }
      case OP_FLOOR: { r.x = f_floor(a); }
      case OP_CEIL: { r.x = f_ceil(a); }
      case OP_ROUND: { r.x = f_round(a); }
      case OP_SQRT: { r.x = f_sqrt(a); }
      case OP_TO_HALF: { r.x = f_to_half(a); }
      default: {}
    }
  }
  if (ELEMENTARY) {
    switch op {
      case OP_EXP: { r.x = f_exp(a); }
      case OP_LOG: { r.x = f_log(a); }
      case OP_TANH: { r.x = f_tanh(a); }
      case OP_SIGMOID: { r.x = f_sigmoid(a); }
      case OP_ERF: { r.x = f_erf(a); }
      case OP_SOFTPLUS: { r.x = f_softplus(a); }
      default: {}
    }
  }
  if (POWER && op == OP_POW) {
    r.x = f_pow(a, b);
  }
  if (TRIGONOMETRIC) {
    switch op {
      case OP_SIN: { r.x = f_sin(a); }
      case OP_COS: { r.x = f_cos(a); }
      default: {}
    }
  }
  return r;
}

// A quotient or a remainder; what the instruction gives else.
fn divided(op: u32, a: vec2<u32>, b: vec2<u32>, other: vec2<u32>) -> vec2<u32> {
  var r = other;
  if (DIVISIONS) {
    switch op {
      case OP_DIV: { r = wide_div(a, b); }
      case OP_MOD: { r = wide_mod(a, b); }
      case OP_REM: { r = wide_rem(a, b); }
      default: {}
    }
  }
  return r;
}

fn any_wide(op: u32, a: vec2<u32>, b: vec2<u32>) -> vec2<u32> {
  let less = wide_less(a, b);
  let equal = wide_equal(a, b);
  let sign = sign_of(wide_negative(a), (a.x | a.y) == 0u);
  var r = a;
  switch op {
    case OP_ADD: { r = wide_add(a, b); }
    case OP_SUB: { r = wide_sub(a, b); }
    case OP_MUL: { r = wide_mul(a, b); }
    case OP_MIN: { r = select(b, a, vec2<bool>(less)); }
    case OP_MAX: { r = select(a, b, vec2<bool>(less)); }
    case OP_NEG: { r = wide_neg(a); }
    case OP_ABS: { r = wide_magnitude(a); }
    case OP_SIGN: { r = wide_from_i32(sign); }
    case OP_EQUAL: { r = vec2<u32>(flag(equal), 0u); }
    case OP_LESS: { r = vec2<u32>(flag(less), 0u); }
    case OP_LESS_EQUAL: { r = vec2<u32>(flag(less || equal), 0u); }
    case OP_AND: { r = a & b; }
    case OP_OR: { r = a | b; }
    case OP_XOR: { r = a ^ b; }
    case OP_TO_F32: { r = vec2<u32>(sum_to_f32(a, 0), 0u); }
    case OP_TO_I32, OP_TO_U32: { r = vec2<u32>(a.x, 0u); }
    default: {}
  }
  return divided(op, a, b, r);
}

// Words are divided as 64-bit numbers, sign- or zero-extended: nothing overflows there.
fn any_word(op: u32, signed: bool, a: u32, b: u32) -> vec2<u32> {
  let x = vec2<u32>(a, select(0u, 0u - (a >> 31u), signed));
  let y = vec2<u32>(b, select(0u, 0u - (b >> 31u), signed));
  var r = x;
  if (op != OP_TO_I64) {
    r = vec2<u32>(plain_word(op, signed, a, b), 0u);
  }
  return divided(op, x, y, r);
}

fn run_any(instruction: u32) {
  let at = MAP_PROGRAM + INSTRUCTION_WORDS * instruction;
  let op = params[at] & 0xffu;
  let kind = params[at] >> 8u;
  let a = argument(at + 1u);
  let b = argument(at + 2u);
  var r: vec2<u32>;
  if (op == OP_SELECT) {
    r = select(argument(at + 3u), b, vec2<bool>(a.x != 0u));
  } else if (kind == KIND_F32) {
    r = any_f32(op, a.x, b.x);
  } else if (kind == KIND_I64) {
    r = any_wide(op, a, b);
  } else {
    r = any_word(op, kind == KIND_I32, a.x, b.x);
  }
  set_result(instruction, r);
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = work_item(global, groups);
  if (index >= params[1]) {
    return;
  }
  load_operands(index);
  let length = params[MAP_LENGTH];
  for (var next = 0u; next < length; next++) {
    run_any(next);
  }
  store_result(index);
}
