//! Arithmetic and elementary functions against the definition.

use super::*;

/// Runs `op` over pairs of words, in a pipeline of its own and interpreted, and compares with `expect`. A NaN stands for
/// every NaN.
fn check_map(
    device: &mut Device,
    op: MapOp,
    kind: Kind,
    a: &[u32],
    b: &[u32],
    expect: impl Fn(u32, u32) -> u32,
) {
    check(device, (op, kind), &[usize::MAX, 0], a, b, expect);
}

/// The same, in pipelines of its own or interpreted, as `programs` has it.
fn check(
    device: &mut Device,
    (op, kind): (MapOp, Kind),
    programs: &[usize],
    a: &[u32],
    b: &[u32],
    expect: impl Fn(u32, u32) -> u32,
) {
    let mut top = 0;
    let count = a.len() as u32;
    let (x, y) = (place(&mut top, kind, count), place(&mut top, kind, count));
    let out = place(&mut top, op.result(kind), count);
    let second = if op.arity() == 2 {
        Arg::Load(1)
    } else {
        Arg::None
    };
    let plan = Arc::new(Plan {
        inputs: vec![x, y],
        outputs: vec![out],
        output_shapes: vec![vec![count]],
        locals: vec![],
        arena_words: top,
        steps: vec![Step::Map(Map {
            dims: vec![count],
            loads: vec![view(x, &[1]), view(y, &[1])],
            program: vec![Instr {
                op,
                kind,
                args: [Arg::Load(0), second, Arg::None],
            }],
            out,
        })],
        macs: 0,
        touched: 0,
    });
    let inputs = [a.to_vec(), b.to_vec()];
    let nan = |w: u32| f32::from_bits(w).is_nan() && op.result(kind) == Kind::F32;
    for &programs_max in programs {
        let found = found(device, &plan, &inputs, programs_max);
        let mut wrong = 0;
        for i in 0..a.len() {
            let (found, expect) = (found[i], expect(a[i], b[i]));
            if found != expect && !(nan(found) && nan(expect)) {
                wrong += 1;
                eprintln!(
                    "{op:?}({:#010x}, {:#010x}) = {found:#010x}, not {expect:#010x}",
                    a[i], b[i]
                );
                assert!(wrong < 8, "{op:?} over {kind}");
            }
        }
        assert_eq!(wrong, 0, "{op:?} over {kind}");
    }
}

/// Pairs of interest: every hostile word with every other, then random ones.
fn pairs(count: usize, seed: u32) -> (Vec<u32>, Vec<u32>) {
    let mut next = words(seed);
    let crossed = HOSTILE
        .iter()
        .flat_map(|&a| HOSTILE.iter().map(move |&b| (a, b)));
    let mut all: Vec<(u32, u32)> = crossed.collect();
    while all.len() < count {
        let a = word_of_interest(&mut next);
        let mut b = word_of_interest(&mut next);
        if next().is_multiple_of(4) {
            // Close values: cancellation, ties, equal words.
            b = a ^ 0x8000_0000 ^ (next() % 4);
        }
        all.push((a, b));
    }
    all.into_iter().unzip()
}

fn float(f: impl Fn(f32, f32) -> f32) -> impl Fn(u32, u32) -> u32 {
    move |a, b| f(f32::from_bits(a), f32::from_bits(b)).to_bits()
}

fn flag(f: impl Fn(f32, f32) -> bool) -> impl Fn(u32, u32) -> u32 {
    move |a, b| u32::from(f(f32::from_bits(a), f32::from_bits(b)))
}

#[test]
fn float_arithmetic_equals_the_processors() {
    devices().for_each(|mut device| float_arithmetic(&mut device));
}

fn float_arithmetic(d: &mut Device) {
    let (a, b) = pairs(1 << 17, 0xa11ce);
    check_map(d, MapOp::Add, Kind::F32, &a, &b, float(|a, b| a + b));
    check_map(d, MapOp::Sub, Kind::F32, &a, &b, float(|a, b| a - b));
    check_map(d, MapOp::Mul, Kind::F32, &a, &b, float(|a, b| a * b));
    check_map(d, MapOp::Div, Kind::F32, &a, &b, float(|a, b| a / b));
    check_map(d, MapOp::Rem, Kind::F32, &a, &b, float(|a, b| a % b));
    check_map(d, MapOp::Min, Kind::F32, &a, &b, float(num::min));
    check_map(d, MapOp::Max, Kind::F32, &a, &b, float(num::max));
    check_map(d, MapOp::Sqrt, Kind::F32, &a, &b, float(|a, _| a.sqrt()));
    check_map(d, MapOp::Floor, Kind::F32, &a, &b, float(|a, _| a.floor()));
    check_map(d, MapOp::Ceil, Kind::F32, &a, &b, float(|a, _| a.ceil()));
    check_map(
        d,
        MapOp::Round,
        Kind::F32,
        &a,
        &b,
        float(|a, _| a.round_ties_even()),
    );
    check_map(d, MapOp::Neg, Kind::F32, &a, &b, float(|a, _| -a));
    check_map(d, MapOp::Abs, Kind::F32, &a, &b, float(|a, _| a.abs()));
    let sign = |a: f32, _| if a == 0.0 { 0.0 } else { a.signum() };
    check_map(d, MapOp::Sign, Kind::F32, &a, &b, float(sign));
    check_map(d, MapOp::Equal, Kind::F32, &a, &b, flag(|a, b| a == b));
    check_map(d, MapOp::Less, Kind::F32, &a, &b, flag(|a, b| a < b));
    check_map(d, MapOp::LessEqual, Kind::F32, &a, &b, flag(|a, b| a <= b));
    check_map(d, MapOp::IsNan, Kind::F32, &a, &b, flag(|a, _| a.is_nan()));
    check_map(
        d,
        MapOp::IsInf,
        Kind::F32,
        &a,
        &b,
        flag(|a, _| a.is_infinite()),
    );
    check_map(d, MapOp::ToI32, Kind::F32, &a, &b, |a, _| {
        f32::from_bits(a) as i32 as u32
    });
    check_map(d, MapOp::ToU32, Kind::F32, &a, &b, |a, _| {
        f32::from_bits(a) as u32
    });
    check_map(d, MapOp::ToF32, Kind::I32, &a, &b, |a, _| {
        (a as i32 as f32).to_bits()
    });
    check_map(d, MapOp::ToF32, Kind::U32, &a, &b, |a, _| {
        (a as f32).to_bits()
    });
}

#[test]
fn elementary_functions_equal_the_definition() {
    devices().for_each(|mut device| elementary_functions(&mut device));
}

fn elementary_functions(d: &mut Device) {
    let (a, b) = pairs(1 << 17, 0xe1e);
    check_map(d, MapOp::Exp, Kind::F32, &a, &b, float(|a, _| num::exp(a)));
    check_map(d, MapOp::Log, Kind::F32, &a, &b, float(|a, _| num::log(a)));
    check_map(
        d,
        MapOp::Tanh,
        Kind::F32,
        &a,
        &b,
        float(|a, _| num::tanh(a)),
    );
    check_map(
        d,
        MapOp::Sigmoid,
        Kind::F32,
        &a,
        &b,
        float(|a, _| num::sigmoid(a)),
    );
    check_map(d, MapOp::Erf, Kind::F32, &a, &b, float(|a, _| num::erf(a)));
}

#[test]
fn costly_functions_equal_the_definition() {
    devices().for_each(|mut device| costly_functions(&mut device));
}

fn costly_functions(d: &mut Device) {
    let (a, b) = pairs(1 << 14, 0x517);
    check_map(d, MapOp::Sin, Kind::F32, &a, &b, float(|a, _| num::sin(a)));
    check_map(d, MapOp::Cos, Kind::F32, &a, &b, float(|a, _| num::cos(a)));
    check_map(
        d,
        MapOp::ToHalf,
        Kind::F32,
        &a,
        &b,
        float(|a, _| num::to_half(a)),
    );
    check_map(d, MapOp::Pow, Kind::F32, &a, &b, float(num::pow));
    check_map(
        d,
        MapOp::Softplus,
        Kind::F32,
        &a,
        &b,
        float(|a, _| num::softplus(a)),
    );
    // Bases and exponents at which pow is ordinary.
    let mut next = words(77);
    let base: Vec<u32> = (0..1 << 14)
        .map(|_| next() & 0x007f_ffff | (120 + next() % 14) << 23)
        .collect();
    let exponent: Vec<u32> = (0..1 << 14)
        .map(|i| match i % 3 {
            0 => ((next() % 40) as f32 - 20.0).to_bits(),
            1 => ((next() % 80) as f32 / 4.0 - 10.0).to_bits(),
            _ => next() & 0x807f_ffff | (118 + next() % 14) << 23,
        })
        .collect();
    check_map(d, MapOp::Pow, Kind::F32, &base, &exponent, float(num::pow));
}

/// Functions that kernels without floats compute in another way than the definition does: what is known of the steps is left
/// out there.
/// Every 65,537th word goes through them; with `PENSTOCK_LONG_TESTS=1` all do, which takes many minutes.
#[test]
fn functions_equal_the_definition_over_all_words() {
    type Function = fn(f32) -> f32;
    let functions: [(MapOp, Function); 4] = [
        (MapOp::Exp, num::exp),
        (MapOp::Erf, num::erf),
        (MapOp::Tanh, num::tanh),
        (MapOp::Sigmoid, num::sigmoid),
    ];
    let long = std::env::var_os("PENSTOCK_LONG_TESTS").is_some_and(|v| v == "1");
    let step = if long { 1 } else { 65_537 };
    const WORDS: u64 = 1 << 22;
    let of_each = |device: &mut Device| {
        for (op, function) in functions {
            for first in (0..1u64 << 32).step_by((WORDS * step) as usize) {
                let end = (first + WORDS * step).min(1 << 32);
                let all: Vec<u32> = (first..end)
                    .step_by(step as usize)
                    .map(|w| w as u32)
                    .collect();
                let expect = float(|a, _| function(a));
                check(device, (op, Kind::F32), &[usize::MAX], &all, &all, expect);
            }
        }
    };
    devices().for_each(|mut device| of_each(&mut device));
}
