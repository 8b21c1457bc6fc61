//! Element-wise programs as constants of pipelines.
//!
//! The interpreting kernels (`map.wgsl`, `map_all.wgsl`) take any program. A software adapter walks all instructions for each
//! one of it, and some drivers compile the interpreter of special instructions for minutes. A pipeline of its own leaves
//! nothing but the program's arithmetic, and is compiled as fast as any kernel. There are as many as a device has room for
//! ([`PROGRAMS_MAX`]); what comes later, or fits no kernel, is interpreted, with the same bits.

use super::kernels::Kernel;
use super::params::{Override, Variant, special};
use crate::plan::{
    Arg, Buffer, Copy, Instr, Kind, LOADS_MAX, Map, MapOp, Space, View, contiguous_strides,
};

/// Programs of a device that get pipelines of their own: some models' worth. One takes a software adapter 0.1 to 2 s of one
/// core, once.
pub const PROGRAMS_MAX: usize = 64;

/// Slots of a kernel.
const SLOTS: usize = 12;

/// The kernels by how many special instructions they take, with the slots of these.
const KERNELS: [(Kernel, &[usize]); 3] = [
    (Kernel::MapPlain, &[]),
    (Kernel::MapSpecial, &[3]),
    (Kernel::MapSpecials, &[2, 4]),
];

/// The special slot of `dense.wgsl`.
const DENSE_SLOTS: &[usize] = &[3];

/// Immediate values that an argument can name.
const IMMEDIATES_MAX: u32 = 16;

// As lib/slots.wgsl has them.
const LOAD: u32 = 1;
const LOAD_CONTIGUOUS: u32 = 2;
const LOAD_ONE: u32 = 4;
const LOAD_WEIGHTS: u32 = 8;
const FIRST_IMMEDIATE: u32 = 16;

const _: () = assert!(LOADS_MAX + SLOTS <= FIRST_IMMEDIATE as usize);

const LOAD_NAMES: [&str; LOADS_MAX] = ["L0", "L1", "L2", "L3"];
const SLOT_NAMES: [&str; SLOTS] = [
    "I0", "I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I11",
];

/// The pipeline of a map's program, or `None` where no kernel has room for it. Its parameter block is the interpreter's.
pub fn variant(map: &Map) -> Option<Variant> {
    let count = specials(map)?.into_iter().filter(|&s| s).count();
    let (kernel, special_slots) = *KERNELS.get(count)?;
    let overrides = overrides(map, special_slots, None)?;
    Some(Variant { kernel, overrides })
}

/// A copy of one-word elements to places that stand one after another, as a program that moves them: the kernel for copies
/// walks both sides by dimensions that are not constants.
pub fn moved(copy: &Copy) -> Option<Map> {
    let to: Vec<i64> = copy.to.strides.iter().map(|&s| i64::from(s)).collect();
    let in_order = to == contiguous_strides(&copy.dims);
    let narrow = copy.from.kind == copy.to.kind && copy.to.kind != Kind::I64;
    (in_order && narrow).then(|| Map {
        dims: copy.dims.clone(),
        loads: vec![copy.from.clone()],
        program: vec![Instr {
            op: MapOp::Move,
            kind: copy.to.kind,
            args: [Arg::Load(0), Arg::None, Arg::None],
        }],
        out: Buffer {
            space: copy.to.space,
            kind: copy.to.kind,
            offset: copy.to.offset,
            len: copy.dims.iter().product(),
        },
    })
}

/// The overrides of `dense.wgsl` for a program whose operand `result` is what it is handed, or `None` where it has no room
/// for it.
pub fn dense(map: &Map, result: usize) -> Option<Vec<Override>> {
    overrides(map, DENSE_SLOTS, Some(result))
}

/// The program in slots, of which some are for special instructions. One of the operands may be handed over.
fn overrides(map: &Map, special_slots: &[usize], given: Option<usize>) -> Option<Vec<Override>> {
    let slots = place(map, special_slots)?;
    let mut overrides: Vec<Override> = Vec::new();
    let mut walks = false;
    for (number, (name, load)) in LOAD_NAMES.into_iter().zip(&map.loads).enumerate() {
        if Some(number) != given {
            let how = how(load, &map.dims)?;
            walks |= how & (LOAD_CONTIGUOUS | LOAD_ONE) == 0;
            overrides.push((name, how));
        }
    }
    match map.dims[..] {
        [_, last] if walks && last > 1 => overrides.push(("EXTENT", last)),
        [_, above, last] if walks && last > 1 && above > 1 => {
            overrides.extend([("EXTENT", last), ("EXTENT_ABOVE", above)]);
        }
        _ => {}
    }
    let mut immediates = 0;
    for (number, instr) in map.program.iter().enumerate() {
        let mut word = instr.op as u32 | (instr.kind as u32) << 8;
        for (n, arg) in instr.args.iter().enumerate() {
            let source = match *arg {
                Arg::None => 0,
                Arg::Load(load) => u32::from(load),
                Arg::Reg(register) => (LOADS_MAX + slots.get(usize::from(register))?) as u32,
                Arg::Imm(_) if immediates == IMMEDIATES_MAX => return None,
                Arg::Imm(_) => {
                    immediates += 1;
                    FIRST_IMMEDIATE + immediates - 1
                }
            };
            word |= source << (10 + 5 * n);
        }
        overrides.push((SLOT_NAMES[slots[number]], word));
    }
    overrides.push(("RESULT", (LOADS_MAX + slots.last()?) as u32));
    Some(overrides)
}

/// Which instructions are special; `None` where there are others than 32-bit ones.
fn specials(map: &Map) -> Option<Vec<bool>> {
    if map.out.kind == Kind::I64 || map.loads.iter().any(|load| load.kind == Kind::I64) {
        return None;
    }
    map.program
        .iter()
        .map(|instr| Some(special(instr).ok()?.is_some()))
        .collect()
}

/// The slot of each instruction, where there are enough.
fn place(map: &Map, special_slots: &[usize]) -> Option<Vec<usize>> {
    let mut next = 0;
    let mut slots = Vec::with_capacity(map.program.len());
    for is_special in specials(map)? {
        while special_slots.contains(&next) != is_special {
            next += 1;
            if next == SLOTS {
                return None;
            }
        }
        if next == SLOTS {
            return None;
        }
        slots.push(next);
        next += 1;
    }
    Some(slots)
}

/// How an operand is read.
fn how(load: &View, dims: &[u32]) -> Option<u32> {
    let mut all = 1i32;
    let mut contiguous = true;
    for (&stride, &dim) in load.strides.iter().zip(dims).rev() {
        contiguous &= stride == all || dim == 1;
        all = all.checked_mul(i32::try_from(dim).ok()?)?;
    }
    let one = load
        .strides
        .iter()
        .zip(dims)
        .all(|(&s, &d)| s == 0 || d == 1);
    let walk = match (one, contiguous) {
        (true, _) => LOAD_ONE,
        (_, true) => LOAD_CONTIGUOUS,
        _ => 0,
    };
    let space = match load.space {
        Space::Weights => LOAD_WEIGHTS,
        Space::Arena => 0,
    };
    Some(LOAD | walk | space)
}
