// Element-wise programs over 32-bit kinds: out[i] = program(operands at i).
//
// Libraries:   float, soft, fixed, elementary, exponential_soft, step, map
// Layout:      params as in lib/map.wgsl; a work item is an element of the result, row-major over the dimensions
// Dispatch:    ceil(elements / 64) workgroups
// Overrides:   SPECIALS whether the program has any special instruction; DIV to ERF which ones
// Reference:   src/cpu (Map), src/num

override SPECIALS: bool = true;
override DIV: bool = true;
override ROUND: bool = true;
override SQRT: bool = true;
override EXP: bool = true;
override LOG: bool = true;
override TANH: bool = true;
override SIGMOID: bool = true;
override ERF: bool = true;

fn run_special(instruction: u32) {
  let at = MAP_PROGRAM + INSTRUCTION_WORDS * instruction;
  let op = params[at] & 0xffu;
  let a = argument(at + 1u).x;
  let b = argument(at + 2u).x;
  var r = a;
  if (DIV && op == OP_DIV) {
    r = f_div(a, b);
  }
  if (ROUND) {
    switch op {
      case OP_FLOOR: { r = f_floor(a); }
      case OP_CEIL: { r = f_ceil(a); }
      case OP_ROUND: { r = f_round(a); }
      default: {}
    }
  }
  if (SQRT && op == OP_SQRT) {
    r = f_sqrt(a);
  }
  if (EXP && op == OP_EXP) {
    r = f_exp(a);
  }
  if (LOG && op == OP_LOG) {
    r = f_log(a);
  }
  if (TANH && op == OP_TANH) {
    r = f_tanh(a);
  }
  if (SIGMOID && op == OP_SIGMOID) {
    r = f_sigmoid(a);
  }
  if (ERF && op == OP_ERF) {
    r = f_erf(a);
  }
  set_result(instruction, vec2<u32>(r, 0u));
}

@compute @workgroup_size(64)
fn main(@builtin(global_invocation_id) global: vec3<u32>, @builtin(num_workgroups) groups: vec3<u32>) {
  let index = work_item(global, groups);
  if (index >= params[1]) {
    return;
  }
  load_operands(index);
  let length = params[MAP_LENGTH];
  var next = 0u;
  if (SPECIALS) {
    // Tested at the end: a software adapter walks the costly part once for each special, not once more.
    let specials = params[MAP_SPECIALS];
    var s = 0u;
    loop {
      let stop = params[MAP_SPECIAL_AT + s];
      for (; next < stop; next++) {
        run_plain(next);
      }
      run_special(next);
      next++;
      s++;
      continuing {
        break if s >= specials;
      }
    }
  }
  for (; next < length; next++) {
    run_plain(next);
  }
  store_result(index);
}
