// Element-wise programs whose instructions are constants of the pipeline: the driver leaves nothing of them but their
// arithmetic. A kernel has slots that it goes through in order, each with one instruction; those that a program does not
// need move the first operand, and nobody reads them.
// Reference: src/plan/map.rs (Map), src/gpu/programs.rs.
// Needs float.wgsl, fixed.wgsl, step.wgsl and map.wgsl, whose parameter block it reads: views and immediate values.

// How each operand is read.
override L0: u32 = 0u;
override L1: u32 = 0u;
override L2: u32 = 0u;
override L3: u32 = 0u;

// The slots' instructions: operation, kind from bit 8, and three arguments of 5 bits from bits 10, 15 and 20.
override I0: u32 = 0u;
override I1: u32 = 0u;
override I2: u32 = 0u;
override I3: u32 = 0u;
override I4: u32 = 0u;
override I5: u32 = 0u;
override I6: u32 = 0u;
override I7: u32 = 0u;
override I8: u32 = 0u;
override I9: u32 = 0u;
override I10: u32 = 0u;
override I11: u32 = 0u;

// The value that is the result.
override RESULT: u32 = 4u;

// The last extent, and the one before it where there are three dimensions, so that the driver divides by constants where
// views are walked; 1 where it does not, and where there are two dimensions.
override EXTENT: u32 = 1u;
override EXTENT_ABOVE: u32 = 1u;

// Bits of L0 to L3. Where an operand is neither contiguous nor one element, its view is walked.
const LOAD: u32 = 1u;
const LOAD_CONTIGUOUS: u32 = 2u;
const LOAD_ONE: u32 = 4u;
const LOAD_WEIGHTS: u32 = 8u;

// An argument from this number on is an immediate value.
const FIRST_IMMEDIATE: u32 = 16u;

// Operands, then the slots' results.
var<private> values: array<u32, 16>;

// As view_at of lib/step.wgsl.
fn walk(view: u32, index: u32) -> u32 {
  if (EXTENT == 1u) {
    return view_at(view, MAP_DIMS, params[MAP_RANK], index);
  }
  let above = index / EXTENT;
  let inner = bitcast<i32>(index - above * EXTENT);
  if (EXTENT_ABOVE == 1u) {
    let element = inner * bitcast<i32>(params[view + 4u]) + bitcast<i32>(above) * bitcast<i32>(params[view + 3u]);
    return params[view + 2u] + bitcast<u32>(element);
  }
  let outer = above / EXTENT_ABOVE;
  let middle = bitcast<i32>(above - outer * EXTENT_ABOVE);
  var element = inner * bitcast<i32>(params[view + 5u]) + middle * bitcast<i32>(params[view + 4u]);
  element += bitcast<i32>(outer) * bitcast<i32>(params[view + 3u]);
  return params[view + 2u] + bitcast<u32>(element);
}

fn load(number: u32, how: u32, index: u32) {
  if ((how & LOAD) == 0u) {
    return;
  }
  let view = MAP_VIEWS + VIEW_WORDS * number;
  var at = params[view + 2u];
  if ((how & LOAD_CONTIGUOUS) != 0u) {
    at += index;
  } else if ((how & LOAD_ONE) == 0u) {
    at = walk(view, index);
  }
  if ((how & LOAD_WEIGHTS) != 0u) {
    values[number] = weights[at];
  } else {
    values[number] = arena[at];
  }
}

fn load_all(index: u32) {
  load(0u, L0, index);
  load(1u, L1, index);
  load(2u, L2, index);
  load(3u, L3, index);
}

fn value(instruction: u32, shift: u32) -> u32 {
  let source = (instruction >> shift) & 31u;
  if (source >= FIRST_IMMEDIATE) {
    return params[MAP_IMMEDIATES + 2u * (source - FIRST_IMMEDIATE)];
  }
  return values[source];
}

fn plain_slot(slot: u32, instruction: u32) {
  let op = instruction & 0xffu;
  let kind = (instruction >> 8u) & 3u;
  let a = value(instruction, 10u);
  let b = value(instruction, 15u);
  var r: u32;
  if (op == OP_SELECT) {
    r = select(value(instruction, 20u), b, a != 0u);
  } else if (kind == KIND_F32) {
    r = plain_f32(op, a, b);
  } else {
    r = plain_word(op, kind == KIND_I32, a, b);
  }
  values[LOADS_MAX + slot] = r;
}

// The slots that are plain in every kernel: 0 and 1, and 5 to 11.
fn first_slots() {
  plain_slot(0u, I0);
  plain_slot(1u, I1);
}

fn last_slots() {
  plain_slot(5u, I5);
  plain_slot(6u, I6);
  plain_slot(7u, I7);
  plain_slot(8u, I8);
  plain_slot(9u, I9);
  plain_slot(10u, I10);
  plain_slot(11u, I11);
}

fn store_value(index: u32) {
  arena[params[MAP_OUT] + index] = values[RESULT];
}
