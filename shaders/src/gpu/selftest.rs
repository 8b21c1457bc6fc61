//! The start-up self-test: a battery of words through the kernels' arithmetic, against the definition.
//!
//! It covers what every other kernel is built of: float arithmetic and elementary functions on bit patterns, fixed-point
//! products, 64-bit sums and their rounding. It takes milliseconds once the driver has its pipelines.

use super::GpuError;
use super::device::Device;
use crate::num::{self, Width};
use crate::plan::{
    ALIGN_WORDS, Arg, Buffer, Contract, Instr, Kind, Map, MapOp, Plan, Quantise, Reduce, ReduceOp,
    Rows, Space, Step, View,
};
use std::sync::Arc;

/// Pairs of words in the battery.
const PAIRS: u32 = 1 << 14;

/// Elements of the contracted rows: more than two chunks of digit sums, and not a multiple of one.
const DEPTH: u32 = 300;

/// Rows on each side of the contraction: more than a tile, and not a multiple of one.
const ROWS: u32 = 5;

/// What the battery asks for, and what the definition says.
type Case = (MapOp, fn(f32, f32) -> f32);

/// One case per kind of arithmetic. The first [`OWN`] have pipelines of their own, the rest are interpreted.
const CASES: [Case; 11] = [
    (MapOp::Mul, |a, b| a * b),
    (MapOp::Div, |a, b| a / b),
    (MapOp::Sqrt, |a, _| a.sqrt()),
    (MapOp::Exp, |a, _| num::exp(a)),
    (MapOp::Log, |a, _| num::log(a)),
    (MapOp::Tanh, |a, _| num::tanh(a)),
    (MapOp::Sigmoid, |a, _| num::sigmoid(a)),
    (MapOp::Erf, |a, _| num::erf(a)),
    (MapOp::Add, |a, b| a + b),
    (MapOp::Sub, |a, b| a - b),
    (MapOp::Max, num::max),
];

/// Cases that are not interpreted.
const OWN: usize = 8;

/// Widths whose fixed point is tested.
const WIDTHS: [Width; 2] = [Width::Bits24, Width::Bits16];

/// Words that break careless arithmetic: zeros, subnormals, ties, the ends of the range, infinities, NaN.
pub const HOSTILE: [u32; 32] = [
    0x0000_0000,
    0x8000_0000,
    0x0000_0001,
    0x8000_0001,
    0x007f_ffff,
    0x807f_ffff,
    0x0080_0000,
    0x0080_0001,
    0x3f80_0000,
    0xbf80_0000,
    0x3f80_0001,
    0x3f7f_ffff,
    0x3f00_0000,
    0x3eff_ffff,
    0x4000_0000,
    0x4b00_0000,
    0x4b7f_ffff,
    0x4b80_0001,
    0x7f7f_ffff,
    0xff7f_ffff,
    0x7f80_0000,
    0xff80_0000,
    0x7fc0_0000,
    0xffc1_2345,
    0x7f80_0001,
    0x42b1_7218,
    0xc2cf_f1b4,
    0x3300_0000,
    0x3380_0000,
    0x3380_0001,
    0x1f80_0000,
    0x5f00_0001,
];

/// A sequence of words that is the same everywhere (a xorshift).
pub fn words(seed: u32) -> impl FnMut() -> u32 {
    let mut state = seed | 1;
    move || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state
    }
}

/// A float of moderate size in most cases, any word in the others.
pub fn word_of_interest(next: &mut impl FnMut() -> u32) -> u32 {
    let word = next();
    match next() % 8 {
        0 => word,
        1 => HOSTILE[(word % 32) as usize],
        // Exponents around one: the range of most values, and of all special cases of the functions.
        _ => word & 0x807f_ffff | (112 + word.rotate_left(7) % 24) << 23,
    }
}

/// A buffer behind those before.
pub fn place(next: &mut u32, kind: Kind, len: u32) -> Buffer {
    let buffer = Buffer {
        space: Space::Arena,
        kind,
        offset: *next,
        len,
    };
    *next = (*next + len * kind.words()).next_multiple_of(ALIGN_WORDS);
    buffer
}

/// The whole of a buffer, as rows of `columns`.
pub fn view(buffer: Buffer, strides: &[i32]) -> View {
    View {
        space: buffer.space,
        kind: buffer.kind,
        offset: buffer.offset,
        strides: strides.to_vec(),
    }
}

/// One instruction over two operands of one length.
fn map(op: MapOp, a: Buffer, b: Buffer, out: Buffer) -> Step {
    let second = if op.arity() == 2 {
        Arg::Load(1)
    } else {
        Arg::None
    };
    Step::Map(Map {
        dims: vec![out.len],
        loads: vec![view(a, &[1]), view(b, &[1])],
        program: vec![Instr {
            op,
            kind: Kind::F32,
            args: [Arg::Load(0), second, Arg::None],
        }],
        out,
    })
}

/// Tests a device.
///
/// # Errors
/// Where it gives a wrong bit, or fails.
pub fn run(device: &mut Device) -> Result<(), GpuError> {
    device.programs_max = OWN;
    let mut top = 0;
    let a = place(&mut top, Kind::F32, PAIRS);
    let b = place(&mut top, Kind::F32, PAIRS);
    let rows = place(&mut top, Kind::F32, ROWS * DEPTH);
    let mut steps = Vec::new();
    let mut outputs = Vec::new();
    for (op, _) in CASES {
        let out = place(&mut top, Kind::F32, PAIRS);
        steps.push(map(op, a, b, out));
        outputs.push(out);
    }
    let sums = place(&mut top, Kind::F32, ROWS);
    steps.push(Step::Reduce(Reduce {
        op: ReduceOp::Sum,
        rows: vec![ROWS],
        cols: vec![DEPTH],
        input: view(rows, &[DEPTH as i32, 1]),
        out: sums,
    }));
    outputs.push(sums);
    for width in WIDTHS {
        let q = place(&mut top, Kind::I32, ROWS * DEPTH);
        let exponent = place(&mut top, Kind::I32, ROWS);
        let product = place(&mut top, Kind::F32, ROWS * ROWS);
        steps.push(Step::Quantise(Quantise {
            width,
            rows: vec![ROWS],
            cols: vec![DEPTH],
            input: view(rows, &[DEPTH as i32, 1]),
            q,
            exponent,
        }));
        let operand = Rows {
            q,
            exponent,
            batch: vec![],
        };
        steps.push(Step::Contract(Contract {
            width,
            batch: vec![],
            m: ROWS,
            n: ROWS,
            k: DEPTH,
            a: operand.clone(),
            b: operand,
            out: product,
        }));
        outputs.extend([q, exponent, product]);
    }

    let mut next = words(0x5eed);
    let mut battery =
        |count: u32| -> Vec<u32> { (0..count).map(|_| word_of_interest(&mut next)).collect() };
    let inputs = vec![battery(PAIRS), battery(PAIRS), row_words()];
    let plan = Arc::new(Plan {
        inputs: vec![a, b, rows],
        output_shapes: outputs.iter().map(|o| vec![o.len]).collect(),
        outputs,
        locals: vec![],
        arena_words: top,
        steps,
        macs: 0,
        touched: 0,
    });
    let mut found = vec![Vec::new(); plan.outputs.len()];
    let name = device.report().name.clone();
    let failed = |reason: String| GpuError::SelfTest {
        adapter: name.clone(),
        reason,
    };
    let mut weights = device.upload(&[]).map_err(|e| failed(e.to_string()))?;
    let mut compiled = device
        .compile(&plan, &mut weights, &[])
        .map_err(|e| failed(e.to_string()))?;
    device
        .run(&mut compiled, &weights, &inputs, &mut found)
        .map_err(|e| failed(e.to_string()))?;
    for ((what, expect), found) in expected(&inputs).iter().zip(&found) {
        // Any NaN stands for all: maps may keep an operand's payload, which nothing can see.
        let same = |f: u32, e: u32| f == e || (what.starts_with("map") && is_nan(f) && is_nan(e));
        if found.len() != expect.len() {
            return Err(failed(format!(
                "{what} gave {} words for {}",
                found.len(),
                expect.len()
            )));
        }
        if let Some((&found, &expect)) = found.iter().zip(expect).find(|(f, e)| !same(**f, **e)) {
            return Err(GpuError::WrongBits {
                adapter: name.clone(),
                what: what.clone(),
                found,
                expect,
            });
        }
    }
    Ok(())
}

fn is_nan(word: u32) -> bool {
    f32::from_bits(word).is_nan()
}

/// Finite rows of different scales, subnormals among them, and one that is not finite.
fn row_words() -> Vec<u32> {
    let mut next = words(0xca5e);
    (0..ROWS * DEPTH)
        .map(|i| {
            let word = next();
            match i / DEPTH {
                3 => word & 0x80ff_ffff,
                4 if i % DEPTH == 7 => 0x7f80_0000,
                row => word & 0x807f_ffff | (90 + 20 * row + word % 30) << 23,
            }
        })
        .collect()
}

/// What each output must be.
fn expected(inputs: &[Vec<u32>]) -> Vec<(String, Vec<u32>)> {
    let mut all: Vec<(String, Vec<u32>)> = CASES
        .iter()
        .map(|(op, f)| {
            let result = inputs[0].iter().zip(&inputs[1]);
            let result = result.map(|(&a, &b)| f(f32::from_bits(a), f32::from_bits(b)).to_bits());
            (format!("map {op:?}"), result.collect())
        })
        .collect();
    let floats: Vec<f32> = inputs[2].iter().map(|&w| f32::from_bits(w)).collect();
    let sums = floats.chunks(DEPTH as usize).map(num::sum);
    all.push(("sums".into(), sums.map(f32::to_bits).collect()));
    for width in WIDTHS {
        let rows: Vec<num::Quantised> = floats
            .chunks(DEPTH as usize)
            .map(|row| num::Quantised::of(row, width))
            .collect();
        let q = rows
            .iter()
            .flat_map(|r| r.values.iter().map(|&q| q as u32))
            .collect();
        let exponents = rows.iter().map(|r| u32::from(r.exponent.0)).collect();
        let product = |a: &num::Quantised, b: &num::Quantised| {
            a.exponent
                .rescale(b.exponent, num::fixed::dot(&a.values, &b.values), width)
                .to_bits()
        };
        let products = rows
            .iter()
            .flat_map(|a| rows.iter().map(move |b| product(a, b)))
            .collect();
        all.push((format!("quantised values, {width:?}"), q));
        all.push((format!("exponents, {width:?}"), exponents));
        all.push((format!("contraction, {width:?}"), products));
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_battery_holds_every_class_of_float() {
        let mut next = words(0x5eed);
        let battery: Vec<f32> = (0..PAIRS)
            .map(|_| f32::from_bits(word_of_interest(&mut next)))
            .collect();
        for class in [
            std::num::FpCategory::Nan,
            std::num::FpCategory::Infinite,
            std::num::FpCategory::Zero,
            std::num::FpCategory::Subnormal,
            std::num::FpCategory::Normal,
        ] {
            assert!(
                battery.iter().filter(|x| x.classify() == class).count() > 10,
                "{class:?}"
            );
        }
    }
}
