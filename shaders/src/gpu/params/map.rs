//! Element-wise programs.

use super::{BLOCK_WORDS, Override, Work, count, fits};
use crate::error::PrepareError;
use crate::gpu::kernels::Kernel;
use crate::plan::{Arg, Instr, Kind, LOADS_MAX, Map, MapOp, PROGRAM_MAX, RANK_MAX};

/// Cost of an element-wise instruction, in integer multiplications.
fn instruction_cost(op: MapOp) -> u64 {
    match op {
        MapOp::Pow => 8_000,
        MapOp::Sin | MapOp::Cos | MapOp::Rem | MapOp::Softplus => 3_000,
        MapOp::Exp | MapOp::Log | MapOp::Tanh | MapOp::Sigmoid | MapOp::Erf => 2_000,
        MapOp::Div | MapOp::Mod | MapOp::Sqrt => 400,
        _ => 100,
    }
}

/// The override of `map.wgsl` that compiles a special instruction in, or `None` for a plain one; an error where that
/// kernel does not have it.
pub(in crate::gpu) fn special(instr: &Instr) -> Result<Option<&'static str>, ()> {
    use MapOp as O;
    if instr.kind == Kind::I64 {
        return Err(());
    }
    let float = instr.kind == Kind::F32;
    match instr.op {
        O::Div if float => Ok(Some("DIV")),
        O::Floor | O::Ceil | O::Round => Ok(Some("ROUND")),
        O::Sqrt => Ok(Some("SQRT")),
        O::Exp => Ok(Some("EXP")),
        O::Log => Ok(Some("LOG")),
        O::Tanh => Ok(Some("TANH")),
        O::Sigmoid => Ok(Some("SIGMOID")),
        O::Erf => Ok(Some("ERF")),
        O::Div
        | O::Mod
        | O::Rem
        | O::Pow
        | O::Sin
        | O::Cos
        | O::Softplus
        | O::ToI64
        | O::ToHalf => Err(()),
        _ => Ok(None),
    }
}

/// The overrides of `map_all.wgsl`: which groups of its instructions the program has.
fn groups(map: &Map) -> Vec<Override> {
    use MapOp as O;
    let has = |wanted: fn(Kind, MapOp) -> bool| {
        u32::from(map.program.iter().any(|i| wanted(i.kind, i.op)))
    };
    let roots = |kind, op| {
        kind == Kind::F32
            && matches!(
                op,
                O::Div | O::Rem | O::Floor | O::Ceil | O::Round | O::Sqrt | O::ToHalf
            )
    };
    let elementary = |_, op| {
        matches!(
            op,
            O::Exp | O::Log | O::Tanh | O::Sigmoid | O::Erf | O::Softplus
        )
    };
    vec![
        ("WIDE", 1),
        ("ROOTS", has(roots)),
        ("DIVISIONS", {
            has(|kind, op| kind != Kind::F32 && matches!(op, O::Div | O::Mod | O::Rem))
        }),
        ("ELEMENTARY", has(elementary)),
        ("POWER", has(|_, op| op == O::Pow)),
        ("TRIGONOMETRIC", has(|_, op| matches!(op, O::Sin | O::Cos))),
    ]
}

/// The overrides of `map.wgsl` for special instructions.
const SPECIALS: [&str; 8] = [
    "DIV", "ROUND", "SQRT", "EXP", "LOG", "TANH", "SIGMOID", "ERF",
];

// Places in a map's block, as `lib/map.wgsl` has them.
const MAP_SPECIAL_AT: usize = 16;
const MAP_VIEWS: usize = 32;
const MAP_PROGRAM: usize = 76;
const MAP_IMMEDIATES: usize = 140;
const MAP_IMMEDIATE: u32 = 0x100;
const VIEW_WORDS: usize = 11;
const INSTRUCTION_WORDS: usize = 4;

const _: () = assert!(MAP_SPECIAL_AT + PROGRAM_MAX <= MAP_VIEWS);
const _: () = assert!(MAP_VIEWS + LOADS_MAX * VIEW_WORDS <= MAP_PROGRAM);
const _: () = assert!(MAP_PROGRAM + PROGRAM_MAX * INSTRUCTION_WORDS <= MAP_IMMEDIATES);
// The last word of a block stays zero: `lib/native.wgsl` counts on it.
const _: () = assert!(MAP_IMMEDIATES + 2 * 3 * PROGRAM_MAX < BLOCK_WORDS);

pub(super) fn map_work(map: &Map) -> Result<Work, PrepareError> {
    fits("dimensions of a map", map.dims.len(), RANK_MAX)?;
    fits("operands of a map", map.loads.len(), LOADS_MAX)?;
    fits("instructions of a map", map.program.len(), PROGRAM_MAX)?;
    let wide = map.loads.iter().any(|l| l.kind == Kind::I64)
        || map.out.kind == Kind::I64
        || map.program.iter().any(|i| special(i).is_err());
    let specials: Vec<(usize, &'static str)> = map
        .program
        .iter()
        .enumerate()
        .filter_map(|(at, instr)| Some((at, special(instr).ok()??)))
        .collect();
    let (kernel, overrides) = if wide {
        (Kernel::MapAll, groups(map))
    } else {
        let used = |name: &str| u32::from(specials.iter().any(|(_, s)| *s == name));
        let flags = SPECIALS.iter().map(|&name| (name, used(name)));
        let any = ("SPECIALS", u32::from(!specials.is_empty()));
        (Kernel::Map, flags.chain([any]).collect())
    };
    let cost = map.program.iter().map(|i| instruction_cost(i.op)).sum();
    let mut work = Work::new(kernel, overrides, count(&map.dims), cost)?;
    let header = [
        map.dims.len() as u32,
        map.loads.len() as u32,
        map.program.len() as u32,
        specials.len() as u32,
        map.out.offset,
        map.out.kind.words(),
    ];
    work.set(2, header);
    work.set(8, map.dims.iter().copied());
    work.set(MAP_SPECIAL_AT, specials.iter().map(|(at, _)| *at as u32));
    for (l, load) in map.loads.iter().enumerate() {
        work.set_view(MAP_VIEWS + VIEW_WORDS * l, load);
    }
    let mut immediates = 0;
    for (n, instr) in map.program.iter().enumerate() {
        let at = MAP_PROGRAM + INSTRUCTION_WORDS * n;
        work.block[at] = instr.op as u32 | (instr.kind as u32) << 8;
        for (a, arg) in instr.args.iter().enumerate() {
            work.block[at + 1 + a] = match *arg {
                Arg::None => 0,
                Arg::Load(load) => u32::from(load),
                Arg::Reg(register) => LOADS_MAX as u32 + u32::from(register),
                Arg::Imm(value) => {
                    work.set(
                        MAP_IMMEDIATES + 2 * immediates,
                        [value as u32, (value >> 32) as u32],
                    );
                    immediates += 1;
                    MAP_IMMEDIATE + immediates as u32 - 1
                }
            };
        }
    }
    Ok(work)
}
