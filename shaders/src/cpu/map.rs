//! Element-wise programs, a block of elements at a time.

use crate::cpu::arena::Sources;
use crate::cpu::kernel::{Form, for_each_form};
use crate::cpu::scalar;
use crate::num;
use crate::plan::{Arg, Instr, Kind, LOADS_MAX, Map, MapOp, PROGRAM_MAX};

/// Elements of a block: operands and results of a program fit the first-level cache.
const BLOCK: usize = 256;

/// Most rows of a register file: operands, then immediate values, then results.
const FILE_MAX: usize = LOADS_MAX + 3 * PROGRAM_MAX + PROGRAM_MAX;

/// Registers of programs.
pub(crate) struct Registers(Vec<[u32; BLOCK]>);

impl Default for Registers {
    fn default() -> Self {
        Self(vec![[0; BLOCK]; FILE_MAX])
    }
}

/// Runs `map`; `out` is its result.
pub(crate) fn run(
    form: Form,
    map: &Map,
    sources: &Sources<'_>,
    out: &mut [u32],
    registers: &mut Registers,
) {
    let wide = map
        .program
        .iter()
        .any(|i| i.kind == Kind::I64 || i.op.result(i.kind) == Kind::I64)
        || map.out.kind == Kind::I64
        || map.loads.iter().any(|l| l.kind == Kind::I64);
    if wide {
        by_element(map, sources, out);
    } else {
        by_block(form, map, sources, out, registers);
    }
}

/// The index of a walk over a step's dimensions, with the offset of each operand.
struct Walk<'a> {
    dims: &'a [u32],
    index: [u32; crate::plan::RANK_MAX],
    offsets: [i64; LOADS_MAX],
}

impl Walk<'_> {
    /// Goes `count` elements on, within the last dimension or to its end.
    fn advance(&mut self, map: &Map, count: u32) {
        let mut axis = self.dims.len() - 1;
        self.index[axis] += count;
        for (offset, load) in self.offsets.iter_mut().zip(&map.loads) {
            *offset += i64::from(load.strides[axis]) * i64::from(count);
        }
        while self.index[axis] == self.dims[axis] && axis > 0 {
            self.index[axis] = 0;
            for (offset, load) in self.offsets.iter_mut().zip(&map.loads) {
                *offset -= i64::from(load.strides[axis]) * i64::from(self.dims[axis]);
            }
            axis -= 1;
            self.index[axis] += 1;
            for (offset, load) in self.offsets.iter_mut().zip(&map.loads) {
                *offset += i64::from(load.strides[axis]);
            }
        }
    }
}

fn by_block(
    form: Form,
    map: &Map,
    sources: &Sources<'_>,
    out: &mut [u32],
    registers: &mut Registers,
) {
    let file = &mut registers.0;
    // Immediate values become rows of their own, filled once.
    let mut rows = map.loads.len();
    let mut args = [[0usize; 3]; PROGRAM_MAX];
    let first = out.len().min(BLOCK);
    for (slot, instr) in args.iter_mut().zip(&map.program) {
        for (row, arg) in slot.iter_mut().zip(&instr.args) {
            if let Arg::Imm(bits) = arg {
                file[rows][..first].fill(*bits as u32);
                *row = rows;
                rows += 1;
            }
        }
    }
    let results = rows;
    for (slot, instr) in args.iter_mut().zip(&map.program) {
        for (row, arg) in slot.iter_mut().zip(&instr.args) {
            match arg {
                Arg::Load(i) => *row = *i as usize,
                Arg::Reg(i) => *row = results + *i as usize,
                Arg::Imm(_) | Arg::None => {}
            }
        }
    }
    let mut bases: [(&[u32], usize); LOADS_MAX] = [(&[], 0); LOADS_MAX];
    for (base, load) in bases.iter_mut().zip(&map.loads) {
        *base = sources.at(load.space, load.offset);
    }
    let inner = map.dims.len() - 1;
    let mut walk = Walk {
        dims: &map.dims,
        index: [0; crate::plan::RANK_MAX],
        offsets: [0; LOADS_MAX],
    };
    for block in out.chunks_mut(BLOCK) {
        let mut filled = 0;
        while filled < block.len() {
            let run = (map.dims[inner] - walk.index[inner]).min((block.len() - filled) as u32);
            let range = filled..filled + run as usize;
            for (number, load) in map.loads.iter().enumerate() {
                let (words, base) = bases[number];
                let start = (base as i64 + walk.offsets[number]) as usize;
                let row = &mut file[number][range.clone()];
                match load.strides[inner] {
                    1 => row.copy_from_slice(&words[start..start + row.len()]),
                    0 => row.fill(words[start]),
                    stride => {
                        for (i, word) in row.iter_mut().enumerate() {
                            *word = words[(start as i64 + i as i64 * i64::from(stride)) as usize];
                        }
                    }
                }
            }
            walk.advance(map, run);
            filled += run as usize;
        }
        let count = block.len();
        for (number, instr) in map.program.iter().enumerate() {
            let (before, after) = file.split_at_mut(results + number);
            apply(form, instr, args[number], before, &mut after[0][..count]);
        }
        let last = results + map.program.len() - 1;
        block.copy_from_slice(&file[last][..count]);
    }
}

#[inline(always)]
fn unary(a: &[u32], out: &mut [u32], f: impl Fn(f32) -> f32) {
    for (o, &a) in out.iter_mut().zip(a) {
        *o = f(f32::from_bits(a)).to_bits();
    }
}

#[inline(always)]
fn binary(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(f32, f32) -> f32) {
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = f(f32::from_bits(a), f32::from_bits(b)).to_bits();
    }
}

#[inline(always)]
fn words(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(u32, u32) -> u32) {
    for ((o, &a), &b) in out.iter_mut().zip(a).zip(b) {
        *o = f(a, b);
    }
}

#[inline(always)]
fn flag(a: &[u32], b: &[u32], out: &mut [u32], f: impl Fn(u32, u32) -> bool) {
    words(a, b, out, |a, b| u32::from(f(a, b)));
}

for_each_form! {
    /// One instruction on a block.
    fn apply(instr: &Instr, args: [usize; 3], file: &[[u32; BLOCK]], out: &mut [u32]) = apply_body
}

/// The common instructions have loops of their own, that the compiler vectorises.
#[inline(always)]
fn apply_body(instr: &Instr, args: [usize; 3], file: &[[u32; BLOCK]], out: &mut [u32]) {
    let (a, b, c) = (&file[args[0]], &file[args[1]], &file[args[2]]);
    if instr.kind == Kind::F32 {
        match instr.op {
            MapOp::Add => return binary(a, b, out, |x, y| x + y),
            MapOp::Sub => return binary(a, b, out, |x, y| x - y),
            MapOp::Mul => return binary(a, b, out, |x, y| x * y),
            MapOp::Div => return binary(a, b, out, |x, y| x / y),
            MapOp::Max => return binary(a, b, out, num::max),
            MapOp::Min => return binary(a, b, out, num::min),
            MapOp::Sqrt => return unary(a, out, f32::sqrt),
            MapOp::Exp => return unary(a, out, num::exp),
            MapOp::Tanh => return unary(a, out, num::tanh),
            MapOp::Sigmoid => return unary(a, out, num::sigmoid),
            MapOp::Erf => return unary(a, out, num::erf),
            MapOp::Log => return unary(a, out, num::log),
            MapOp::Floor => return unary(a, out, scalar::floor),
            MapOp::Ceil => return unary(a, out, |x| -scalar::floor(-x)),
            MapOp::Round => return unary(a, out, scalar::round),
            MapOp::Neg => return unary(a, out, |x| -x),
            MapOp::Abs => return unary(a, out, f32::abs),
            MapOp::Equal => return flag(a, b, out, |x, y| f32::from_bits(x) == f32::from_bits(y)),
            MapOp::Less => return flag(a, b, out, |x, y| f32::from_bits(x) < f32::from_bits(y)),
            MapOp::LessEqual => {
                return flag(a, b, out, |x, y| f32::from_bits(x) <= f32::from_bits(y));
            }
            _ => {}
        }
    }
    match (instr.op, instr.kind) {
        (MapOp::Move, _) => out.copy_from_slice(&a[..out.len()]),
        (MapOp::Select, _) => {
            for (i, o) in out.iter_mut().enumerate() {
                *o = if a[i] != 0 { b[i] } else { c[i] };
            }
        }
        (MapOp::Equal, Kind::I32 | Kind::U32) => flag(a, b, out, |x, y| x == y),
        (MapOp::Less, Kind::U32) => flag(a, b, out, |x, y| x < y),
        (MapOp::LessEqual, Kind::U32) => flag(a, b, out, |x, y| x <= y),
        (MapOp::Less, Kind::I32) => flag(a, b, out, |x, y| (x as i32) < y as i32),
        (MapOp::LessEqual, Kind::I32) => flag(a, b, out, |x, y| x as i32 <= y as i32),
        (MapOp::And, _) => words(a, b, out, |x, y| x & y),
        (MapOp::Or, _) => words(a, b, out, |x, y| x | y),
        (MapOp::Xor, _) => words(a, b, out, |x, y| x ^ y),
        (MapOp::Add, Kind::I32 | Kind::U32) => words(a, b, out, u32::wrapping_add),
        (MapOp::Sub, Kind::I32 | Kind::U32) => words(a, b, out, u32::wrapping_sub),
        (MapOp::Mul, Kind::I32 | Kind::U32) => words(a, b, out, u32::wrapping_mul),
        (MapOp::ToF32, Kind::U32) => {
            for (o, &a) in out.iter_mut().zip(a) {
                *o = (a as f32).to_bits();
            }
        }
        (op, kind) => {
            for (i, o) in out.iter_mut().enumerate() {
                let [a, b, c] = [a[i], b[i], c[i]].map(u64::from);
                *o = scalar::eval(op, kind, a, b, c) as u32;
            }
        }
    }
}

/// Programs with 64-bit integers: one element at a time.
fn by_element(map: &Map, sources: &Sources<'_>, out: &mut [u32]) {
    let mut walk = Walk {
        dims: &map.dims,
        index: [0; crate::plan::RANK_MAX],
        offsets: [0; LOADS_MAX],
    };
    let words = map.out.kind.words() as usize;
    for element in out.chunks_exact_mut(words) {
        let mut loaded = [0u64; LOADS_MAX];
        for (number, load) in map.loads.iter().enumerate() {
            let (words, base) = sources.at(load.space, load.offset);
            let at = base as i64 + walk.offsets[number] * i64::from(load.kind.words());
            loaded[number] = read(words, at as usize, load.kind);
        }
        let mut results = [0u64; PROGRAM_MAX];
        for (number, instr) in map.program.iter().enumerate() {
            let [a, b, c] = instr.args.map(|arg| match arg {
                Arg::None => 0,
                Arg::Load(i) => loaded[i as usize],
                Arg::Reg(i) => results[i as usize],
                Arg::Imm(bits) => bits,
            });
            results[number] = scalar::eval(instr.op, instr.kind, a, b, c);
        }
        let result = results[map.program.len() - 1];
        element[0] = result as u32;
        if let Some(high) = element.get_mut(1) {
            *high = (result >> 32) as u32;
        }
        walk.advance(map, 1);
    }
}

/// An element's bits.
pub(crate) fn read(words: &[u32], at: usize, kind: Kind) -> u64 {
    match kind {
        Kind::I64 => u64::from(words[at]) | u64::from(words[at + 1]) << 32,
        _ => u64::from(words[at]),
    }
}
