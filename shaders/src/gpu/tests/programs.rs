//! Element-wise programs in pipelines of their own.

use super::*;
use crate::gpu::programs;
use crate::plan::View;

/// Programs of up to nine instructions that look random: arithmetic, choices, and up to three special instructions, over
/// operands that are contiguous, repeated, transposed, and of one element.
#[test]
fn programs_give_the_same_bits_interpreted_and_in_pipelines_of_their_own() {
    let Some(mut device) = device() else { return };
    const PLAIN: [MapOp; 6] = [
        MapOp::Add,
        MapOp::Sub,
        MapOp::Mul,
        MapOp::Max,
        MapOp::Select,
        MapOp::Less,
    ];
    const SPECIAL: [MapOp; 4] = [MapOp::Div, MapOp::Exp, MapOp::Sqrt, MapOp::Round];
    let (rows, columns) = (9u32, 33u32);
    let count = rows * columns;
    let mut next = words(0x9709);
    let mut own = 0;
    for specials in [0, 0, 1, 1, 2, 2, 3] {
        let mut top = 0;
        let places = [(); 3].map(|()| place(&mut top, Kind::F32, count));
        let out = place(&mut top, Kind::F32, count);
        let strides = [
            [columns as i32, 1],
            [0, 1],
            [1, rows as i32],
            [0, 0],
            [columns as i32, 1],
        ];
        let loads: Vec<View> = places
            .iter()
            .map(|&buffer| view(buffer, &strides[next() as usize % strides.len()]))
            .collect();
        let length = specials + 2 + next() as usize % (7 - specials);
        let mut program: Vec<Instr> = Vec::new();
        for number in 0..length {
            let mut arg = || match (next() % 4, number) {
                (0, _) => Arg::Imm(u64::from(word_of_interest(&mut next))),
                (1 | 2, 1..) => Arg::Reg((number - 1) as u8),
                _ => Arg::Load((next() % 3) as u8),
            };
            let args = [arg(), arg(), arg()];
            let op = match number {
                n if n < 2 * specials && n % 2 == 1 => SPECIAL[next() as usize % SPECIAL.len()],
                _ => PLAIN[next() as usize % PLAIN.len()],
            };
            let arity = op.arity();
            let args = std::array::from_fn(|n| if n < arity { args[n] } else { Arg::None });
            program.push(Instr {
                op,
                kind: Kind::F32,
                args,
            });
        }
        let map = Map {
            dims: vec![rows, columns],
            loads,
            program,
            out,
        };
        own += usize::from(programs::variant(&map).is_some());
        let text = format!("{:?}", map.program);
        let plan = Arc::new(Plan {
            inputs: places.to_vec(),
            outputs: vec![out],
            output_shapes: vec![vec![rows, columns]],
            locals: vec![],
            arena_words: top,
            steps: vec![Step::Map(map)],
            macs: 0,
            touched: 0,
        });
        let inputs: Vec<Vec<u32>> = places
            .iter()
            .map(|_| (0..count).map(|_| word_of_interest(&mut next)).collect())
            .collect();
        let mut expect = vec![vec![]];
        crate::cpu::Cpu::detect().interpret(&plan, &inputs, &mut expect);
        for programs_max in [usize::MAX, 0] {
            let found = found(&mut device, &plan, &inputs, programs_max);
            for (i, (&found, &expect)) in found.iter().zip(&expect[0]).enumerate() {
                let nan = |w: u32| f32::from_bits(w).is_nan();
                assert!(
                    found == expect || (nan(found) && nan(expect)),
                    "{text} at {i}: {found:#010x}, not {expect:#010x} ({programs_max} programs)"
                );
            }
        }
    }
    assert!(own >= 4, "most of them have pipelines of their own");
}
