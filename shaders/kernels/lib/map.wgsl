// The registers and the plain instructions of element-wise programs. A plain instruction costs little; a special one
// (division, roots, elementary functions, most of 64 bits) costs much and is the business of the kernel.
// Reference: src/plan/map.rs (Map, MapOp), src/cpu.
// Needs float.wgsl, fixed.wgsl and step.wgsl.

// Whether registers have a high word. Programs without I64 go without.
override WIDE: bool = false;

const OP_MOVE: u32 = 0u;
const OP_ADD: u32 = 1u;
const OP_SUB: u32 = 2u;
const OP_MUL: u32 = 3u;
const OP_DIV: u32 = 4u;
const OP_MOD: u32 = 5u;
const OP_REM: u32 = 6u;
const OP_MIN: u32 = 7u;
const OP_MAX: u32 = 8u;
const OP_POW: u32 = 9u;
const OP_NEG: u32 = 10u;
const OP_ABS: u32 = 11u;
const OP_SIGN: u32 = 12u;
const OP_FLOOR: u32 = 13u;
const OP_CEIL: u32 = 14u;
const OP_ROUND: u32 = 15u;
const OP_SQRT: u32 = 16u;
const OP_EXP: u32 = 17u;
const OP_LOG: u32 = 18u;
const OP_TANH: u32 = 19u;
const OP_SIGMOID: u32 = 20u;
const OP_ERF: u32 = 21u;
const OP_SIN: u32 = 22u;
const OP_COS: u32 = 23u;
const OP_EQUAL: u32 = 24u;
const OP_LESS: u32 = 25u;
const OP_LESS_EQUAL: u32 = 26u;
const OP_IS_NAN: u32 = 27u;
const OP_IS_INF: u32 = 28u;
const OP_AND: u32 = 29u;
const OP_OR: u32 = 30u;
const OP_XOR: u32 = 31u;
const OP_SHL: u32 = 32u;
const OP_SHR: u32 = 33u;
const OP_SELECT: u32 = 34u;
const OP_TO_F32: u32 = 35u;
const OP_TO_I32: u32 = 36u;
const OP_TO_U32: u32 = 37u;
const OP_TO_I64: u32 = 38u;
const OP_WRAP_U8: u32 = 39u;
const OP_WRAP_I8: u32 = 40u;
const OP_SOFTPLUS: u32 = 41u;
const OP_TO_HALF: u32 = 42u;

const KIND_F32: u32 = 0u;
const KIND_I32: u32 = 1u;
const KIND_U32: u32 = 2u;
const KIND_I64: u32 = 3u;

// The parameter block, after the first two words.
const MAP_RANK: u32 = 2u;
const MAP_LOADS: u32 = 3u;
const MAP_LENGTH: u32 = 4u;
const MAP_SPECIALS: u32 = 5u;
const MAP_OUT: u32 = 6u;
const MAP_OUT_WORDS: u32 = 7u;
const MAP_DIMS: u32 = 8u;
const MAP_SPECIAL_AT: u32 = 16u;
const MAP_VIEWS: u32 = 32u;
const MAP_PROGRAM: u32 = 76u;

// Words of an instruction: op | kind << 8 | three argument bytes from bit 16 would not fit, so: op | kind << 8, then the
// three arguments. An argument is a register's number, or MAP_IMMEDIATE and its place in the constants.
const INSTRUCTION_WORDS: u32 = 4u;
const MAP_IMMEDIATES: u32 = 140u;
const MAP_IMMEDIATE: u32 = 0x100u;

// Operands stand in the first registers, results of instructions behind them.
const LOADS_MAX: u32 = 4u;
const REGISTERS: u32 = 20u;

var<private> register_low: array<u32, 20>;
var<private> register_high: array<u32, 20>;

fn argument(at: u32) -> vec2<u32> {
  let source = params[at];
  var value: vec2<u32>;
  if (source >= MAP_IMMEDIATE) {
    let place = MAP_IMMEDIATES + 2u * (source - MAP_IMMEDIATE);
    value = vec2<u32>(params[place], params[place + 1u]);
  } else {
    value.x = register_low[source];
    if (WIDE) {
      value.y = register_high[source];
    }
  }
  return value;
}

fn set_result(instruction: u32, value: vec2<u32>) {
  register_low[LOADS_MAX + instruction] = value.x;
  if (WIDE) {
    register_high[LOADS_MAX + instruction] = value.y;
  }
}

fn flag(x: bool) -> u32 {
  return select(0u, 1u, x);
}

fn sign_of(negative: bool, zero: bool) -> i32 {
  return select(select(1, -1, negative), 0, zero);
}

fn plain_f32(op: u32, a: u32, b: u32) -> u32 {
  var r = a;
  switch op {
    case OP_ADD, OP_SUB: { r = f_add(a, select(b, f_neg(b), op == OP_SUB)); }
    case OP_MUL: { r = f_mul(a, b); }
    case OP_MIN: { r = f_min(a, b); }
    case OP_MAX: { r = f_max(a, b); }
    case OP_NEG: { r = f_neg(a); }
    case OP_ABS: { r = a & MAGNITUDE; }
    case OP_SIGN: { r = select(select(ONE | (a & SIGN), 0u, (a & MAGNITUDE) == 0u), NAN, is_nan(a)); }
    case OP_EQUAL: { r = flag(f_equal(a, b)); }
    case OP_LESS: { r = flag(f_less(a, b)); }
    case OP_LESS_EQUAL: { r = flag(f_less(a, b) || f_equal(a, b)); }
    case OP_IS_NAN: { r = flag(is_nan(a)); }
    case OP_IS_INF: { r = flag((a & MAGNITUDE) == INFINITY); }
    case OP_TO_I32: { r = bitcast<u32>(f_to_i32(a)); }
    case OP_TO_U32: { r = f_to_u32(a); }
    default: {}
  }
  return r;
}

// I32 and U32 share all that wraps.
fn plain_word(op: u32, signed: bool, a: u32, b: u32) -> u32 {
  let less = select(a < b, bitcast<i32>(a) < bitcast<i32>(b), signed);
  let negative = signed && (a & SIGN) != 0u;
  var r = a;
  switch op {
    case OP_ADD: { r = a + b; }
    case OP_SUB: { r = a - b; }
    case OP_MUL: { r = a * b; }
    case OP_MIN: { r = select(b, a, less); }
    case OP_MAX: { r = select(a, b, less); }
    case OP_NEG: { r = 0u - a; }
    case OP_ABS: { r = select(a, 0u - a, negative); }
    case OP_SIGN: { r = bitcast<u32>(sign_of(negative, a == 0u)); }
    case OP_EQUAL: { r = flag(a == b); }
    case OP_LESS: { r = flag(less); }
    case OP_LESS_EQUAL: { r = flag(less || a == b); }
    case OP_AND: { r = a & b; }
    case OP_OR: { r = a | b; }
    case OP_XOR: { r = a ^ b; }
    case OP_SHL: { r = select(a << (b & 31u), 0u, b > 31u); }
    case OP_SHR: { r = select(a >> (b & 31u), 0u, b > 31u); }
    case OP_TO_F32: { r = f_from_u32(select(a, 0u - a, negative)) | select(0u, SIGN, negative); }
    case OP_WRAP_U8: { r = a & 0xffu; }
    case OP_WRAP_I8: { r = bitcast<u32>(bitcast<i32>(a << 24u) >> 24u); }
    default: {}
  }
  return r;
}

// The plain instruction of this number.
fn run_plain(instruction: u32) {
  let at = MAP_PROGRAM + INSTRUCTION_WORDS * instruction;
  let op = params[at] & 0xffu;
  let kind = params[at] >> 8u;
  let a = argument(at + 1u);
  let b = argument(at + 2u);
  var r = a;
  if (op == OP_SELECT) {
    r = select(argument(at + 3u), b, vec2<bool>(a.x != 0u));
  } else if (kind == KIND_F32) {
    r.x = plain_f32(op, a.x, b.x);
  } else {
    r.x = plain_word(op, kind == KIND_I32, a.x, b.x);
  }
  set_result(instruction, r);
}

fn load_operands(index: u32) {
  let rank = params[MAP_RANK];
  let count = params[MAP_LOADS];
  for (var l = 0u; l < count; l++) {
    let view = MAP_VIEWS + VIEW_WORDS * l;
    let at = view_at(view, MAP_DIMS, rank, index);
    register_low[l] = word_at(params[view], at);
    if (WIDE) {
      if (params[view + 1u] == 2u) {
        register_high[l] = word_at(params[view], at + 1u);
      }
    }
  }
}

fn store_result(index: u32) {
  let last = LOADS_MAX + params[MAP_LENGTH] - 1u;
  let words = params[MAP_OUT_WORDS];
  let at = params[MAP_OUT] + index * words;
  arena[at] = register_low[last];
  if (WIDE) {
    if (words == 2u) {
      arena[at + 1u] = register_high[last];
    }
  }
}
