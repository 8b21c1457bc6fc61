//! Layers of few rows, which a device that broadcasts runs in one dispatch.

use super::packed::with_weights;
use super::*;
use crate::plan::{Buffer, Contract, Quantise, Rows, View};

/// A dense layer: rows are quantised, contracted with columns, and `program` makes the result of the sums and a bias.
struct Dense {
    plan: Plan,
    inputs: Vec<Vec<u32>>,
}

/// Where a layer's parts stand, and what it computes.
#[derive(Clone)]
struct Shape {
    mnk: [u32; 3],
    width: num::Width,
    /// Strides of the bias over rows and columns.
    bias: [i32; 2],
    program: Vec<Instr>,
}

fn instr(op: MapOp, args: [Arg; 3]) -> Instr {
    Instr {
        op,
        kind: Kind::F32,
        args,
    }
}

/// Sums and bias, added, then a rectifier.
fn rectified() -> Vec<Instr> {
    vec![
        instr(MapOp::Add, [Arg::Load(0), Arg::Load(1), Arg::None]),
        instr(MapOp::Max, [Arg::Reg(0), Arg::Imm(0), Arg::None]),
    ]
}

fn dense(shape: &Shape) -> Dense {
    let [m, n, k] = shape.mnk;
    let mut top = 0;
    let x = place(&mut top, Kind::F32, m * k);
    let columns = place(&mut top, Kind::I32, n * k);
    let exponents = place(&mut top, Kind::I32, n);
    let bias = place(&mut top, Kind::F32, m * n);
    let q = place(&mut top, Kind::I32, m * k);
    let exponent = place(&mut top, Kind::I32, m);
    let sums = place(&mut top, Kind::F32, m * n);
    let out = place(&mut top, Kind::F32, m * n);
    let rows = [k as i32, 1];
    let steps = vec![
        Step::Quantise(Quantise {
            width: shape.width,
            rows: if m == 1 { vec![] } else { vec![m] },
            cols: vec![k],
            input: view(x, if m == 1 { &[1] } else { &rows }),
            q,
            exponent,
        }),
        Step::Contract(Contract {
            width: shape.width,
            batch: vec![],
            m,
            n,
            k,
            a: Rows {
                q,
                exponent,
                batch: vec![],
            },
            b: Rows {
                q: columns,
                exponent: exponents,
                batch: vec![],
            },
            out: sums,
        }),
        Step::Map(Map {
            dims: vec![m, n],
            loads: vec![view(sums, &[n as i32, 1]), view(bias, &shape.bias)],
            program: shape.program.clone(),
            out,
        }),
    ];
    let mut next = words(0xde5e);
    let mut floats =
        |count: u32| -> Vec<u32> { (0..count).map(|_| word_of_interest(&mut next)).collect() };
    // Rows of moderate size, the last of which may hold anything.
    let mut rows = floats(m * k);
    for word in &mut rows[..k as usize] {
        *word = *word & 0x807f_ffff | (100 + *word % 30) << 23;
    }
    let bias_words = floats(m * n);
    let (_, operands) = schedule::sample([m, n, k], shape.width);
    let inputs = vec![rows, bias_words, operands[2].clone(), operands[3].clone()];
    let plan = Plan {
        inputs: vec![x, bias, columns, exponents],
        outputs: vec![out],
        output_shapes: vec![vec![m, n]],
        locals: vec![],
        arena_words: top,
        steps,
        macs: 0,
        touched: 0,
    };
    Dense { plan, inputs }
}

/// Holds a layer with weights against the CPU, and tells in how many dispatches it ran.
fn check(device: &mut Device, what: &str, layer: &Dense) -> usize {
    let mut expect = vec![Vec::new(); layer.plan.outputs.len()];
    crate::cpu::Cpu::detect().interpret(&layer.plan, &layer.inputs, &mut expect);
    let (plan, inputs, words) = with_weights(&layer.plan, &layer.inputs);
    device.forget_programs(64);
    device.table = Table::all(Schedule::Broadcast).with_subgroup(device.subgroup);
    let mut weights = device.upload(&words).expect("small");
    let mut compiled = device
        .compile(&plan, &mut weights, &words)
        .expect("covered");
    let mut found = vec![Vec::new(); expect.len()];
    device
        .run(&mut compiled, &weights, &inputs, &mut found)
        .expect("runs");
    let nan = |w: u32| f32::from_bits(w).is_nan();
    for (found, expect) in found.iter().zip(&expect) {
        for (i, (&found, &expect)) in found.iter().zip(expect).enumerate() {
            let same = found == expect || (nan(found) && nan(expect));
            assert!(same, "{what} at {i}: {found:#010x}, not {expect:#010x}");
        }
    }
    compiled.dispatches.len()
}

fn shape(mnk: [u32; 3], width: num::Width) -> Shape {
    Shape {
        mnk,
        width,
        bias: [0, 1],
        program: rectified(),
    }
}

#[test]
fn layers_in_one_dispatch_give_the_bits_of_the_cpu() {
    let Some(mut device) = device() else { return };
    let one = if device.subgroup.is_some() { 1 } else { 3 };
    for width in [num::Width::Bits24, num::Width::Bits16] {
        for mnk in [[1, 1, 1], [1, 5, 9], [1, 70, 64], [2, 33, 13], [2, 4, 300]] {
            let layer = dense(&shape(mnk, width));
            let what = format!("{mnk:?}, {width:?}");
            assert_eq!(check(&mut device, &what, &layer), one, "{what}");
        }
    }
    // More rows, and longer ones, go step by step.
    for mnk in [[3, 5, 9], [1, 3, 5000]] {
        let layer = dense(&shape(mnk, num::Width::Bits24));
        assert_eq!(check(&mut device, &format!("{mnk:?}"), &layer), 3);
    }
}

#[test]
fn programs_of_a_layer_have_one_special_instruction_at_most() {
    let Some(mut device) = device() else { return };
    let fused = device.subgroup.is_some();
    let (load, reg, none) = (Arg::Load, Arg::Reg, Arg::None);
    let add = instr(MapOp::Add, [load(1), load(0), none]);
    let exp = |at| instr(MapOp::Exp, [reg(at), none, none]);
    let div = instr(MapOp::Div, [load(0), reg(0), none]);
    // The result is read first or last, twice, or after a special instruction; the bias is one value, or one per result.
    for (program, bias, dispatches) in [
        (vec![add, exp(0)], [0, 0], 1),
        (vec![exp_of(1), div], [6, 1], 2),
        (
            vec![add, div, instr(MapOp::Sub, [reg(1), load(0), none])],
            [1, 2],
            1,
        ),
    ] {
        let shape = Shape {
            bias,
            program,
            ..shape([2, 6, 11], num::Width::Bits24)
        };
        let found = check(&mut device, &format!("{:?}", shape.program), &dense(&shape));
        assert_eq!(found, if fused { dispatches } else { 3 });
    }
}

fn exp_of(load: u8) -> Instr {
    instr(MapOp::Exp, [Arg::Load(load), Arg::None, Arg::None])
}

/// What a later step or the caller sees is written, and nothing is written over what is still read.
#[test]
fn layers_whose_parts_are_seen_elsewhere_are_not_joined() {
    let Some(mut device) = device() else { return };
    let fused = device.subgroup.is_some();
    let plain = || dense(&shape([1, 40, 24], num::Width::Bits24));
    let buffers = |plan: &Plan| -> [Buffer; 4] {
        let (Step::Quantise(q), Step::Contract(c), Step::Map(m)) =
            (&plan.steps[0], &plan.steps[1], &plan.steps[2])
        else {
            panic!("a layer");
        };
        [q.q, q.exponent, c.out, m.out]
    };
    let seen = |which: usize| {
        let mut layer = plain();
        let buffer = buffers(&layer.plan)[which];
        layer.plan.outputs.push(buffer);
        layer.plan.output_shapes.push(vec![buffer.len]);
        layer
    };
    let expect = |dispatches: usize| if fused { dispatches } else { 3 };
    assert_eq!(check(&mut device, "integers seen", &seen(0)), 3);
    assert_eq!(check(&mut device, "exponents seen", &seen(1)), 3);
    assert_eq!(check(&mut device, "sums seen", &seen(2)), expect(2));

    // The program's result takes the place of the floats, as a planner may have it.
    let mut layer = plain();
    let x = layer.plan.inputs[0];
    let Step::Map(map) = &mut layer.plan.steps[2] else {
        panic!("a program");
    };
    map.out.offset = x.offset;
    let out = map.out;
    // The bias stands behind them.
    assert!(out.len <= 64, "it does not reach the next buffer");
    layer.plan.outputs = vec![out];
    assert_eq!(check(&mut device, "over the floats", &layer), expect(2));

    // The program reads the sums backwards: another order than theirs.
    let mut layer = plain();
    let Step::Map(map) = &mut layer.plan.steps[2] else {
        panic!("a program");
    };
    let sums = map.loads[0].clone();
    map.loads[0] = View {
        offset: sums.offset + 39,
        strides: vec![-40, -1],
        ..sums
    };
    assert_eq!(check(&mut device, "backwards", &layer), expect(2));
}
