// The special instructions of element-wise programs, of which a pipeline has one or two as constants.
// Reference: src/plan/map.rs (MapOp), src/num.
// Needs elementary.wgsl and slots.wgsl, and what they need.

fn special(op: u32, a: u32, b: u32) -> u32 {
  var r = a;
  switch op {
    case OP_DIV: { r = f_div(a, b); }
    case OP_FLOOR: { r = f_floor(a); }
    case OP_CEIL: { r = f_ceil(a); }
    case OP_ROUND: { r = f_round(a); }
    case OP_SQRT: { r = f_sqrt(a); }
    case OP_EXP: { r = f_exp(a); }
    case OP_LOG: { r = f_log(a); }
    case OP_TANH: { r = f_tanh(a); }
    case OP_SIGMOID: { r = f_sigmoid(a); }
    case OP_ERF: { r = f_erf(a); }
    default: {}
  }
  return r;
}

fn special_slot(slot: u32, instruction: u32) {
  let a = value(instruction, 10u);
  let b = value(instruction, 15u);
  values[LOADS_MAX + slot] = special(instruction & 0xffu, a, b);
}
