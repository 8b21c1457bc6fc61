//! Right operands that are weights: packed where the device broadcasts.

use super::*;
use crate::plan::{Buffer, Contract, Rows, Space};

/// The plan's inputs from the third on as words of weights.
pub(super) fn with_weights(
    plan: &Plan,
    inputs: &[Vec<u32>],
) -> (Arc<Plan>, Vec<Vec<u32>>, Vec<u32>) {
    let mut plan = plan.clone();
    let mut words = vec![7; 64];
    let mut moved = |buffer: &mut Buffer, values: &[u32]| {
        words.resize(words.len().next_multiple_of(64), 0);
        (buffer.space, buffer.offset) = (Space::Weights, words.len() as u32);
        words.extend_from_slice(values);
    };
    for step in &mut plan.steps {
        match step {
            Step::Contract(step) => {
                moved(&mut step.b.q, &inputs[2]);
                moved(&mut step.b.exponent, &inputs[3]);
            }
            Step::Conv(step) => {
                moved(&mut step.weight_q, &inputs[2]);
                moved(&mut step.weight_exponent, &inputs[3]);
            }
            _ => {}
        }
    }
    plan.inputs.truncate(2);
    (Arc::new(plan), inputs[..2].to_vec(), words)
}

/// Holds every schedule of the device against the CPU, for a plan that reads its right operand from the arena, and for the
/// same with weights; tells how many packs were made.
fn check(device: &mut Device, what: &str, plan: &Arc<Plan>, inputs: &[Vec<u32>]) -> usize {
    let mut expect = vec![vec![]];
    crate::cpu::Cpu::detect().interpret(plan, inputs, &mut expect);
    let (constant, left, words) = with_weights(plan, inputs);
    let mut packs = 0;
    for schedule in device.schedules() {
        device.table = Table::all(schedule).with_subgroup(device.subgroup);
        for (plan, inputs, words) in [(plan, inputs, &vec![]), (&constant, &left[..], &words)] {
            let mut weights = device.upload(words).expect("small");
            let mut compiled = device.compile(plan, &mut weights, words).expect("covered");
            let mut found = vec![vec![]];
            device
                .run(&mut compiled, &weights, inputs, &mut found)
                .expect("runs");
            let place = plan.inputs.len();
            assert!(
                found == expect,
                "{schedule:?} of {what}, {place} operands from the arena"
            );
            packs += weights.packed.len();
        }
    }
    packs
}

/// A contraction of batches: `[2, 3]` on the left; on the right three matrices of the second dimension, which all of the
/// first share, or one for all, or rows that overlap from batch to batch.
fn batched(rows_of_b: [u32; 2], [m, n, k]: [u32; 3]) -> (Arc<Plan>, Vec<Vec<u32>>) {
    let (plan, _) = schedule::sample([6 * m, 3 * n, k], num::Width::Bits24);
    let mut plan = Plan::clone(&plan);
    let (_, inputs) = schedule::sample([6 * m, 3 * n, k], num::Width::Bits24);
    let Step::Contract(one) = &plan.steps[0] else {
        panic!("one contraction");
    };
    let step = Contract {
        batch: vec![2, 3],
        m,
        n,
        a: Rows {
            batch: vec![3 * m, m],
            ..one.a.clone()
        },
        b: Rows {
            batch: rows_of_b.to_vec(),
            ..one.b.clone()
        },
        out: Buffer {
            len: 6 * m * n,
            ..one.out
        },
        ..one.clone()
    };
    plan.outputs = vec![step.out];
    plan.output_shapes = vec![vec![2, 3, m, n]];
    plan.steps = vec![Step::Contract(step)];
    (Arc::new(plan), inputs)
}

#[test]
fn weights_that_are_packed_give_the_bits_of_the_cpu() {
    let Some(mut device) = device() else { return };
    let widths = [num::Width::Bits24, num::Width::Bits16, num::Width::Whole];
    let mut packs = 0;
    for (shape, width) in CONTRACTIONS
        .iter()
        .flat_map(|&shape| widths.map(|width| (shape, width)))
    {
        let (plan, inputs) = schedule::sample(shape, width);
        packs += check(
            &mut device,
            &format!("{shape:?}, {width:?}"),
            &plan,
            &inputs,
        );
    }
    let shape = [3, 5, 19];
    for (rows, matrices) in [([0, 5], true), ([0, 0], true), ([3, 2], false)] {
        let (plan, inputs) = batched(rows, shape);
        let made = check(&mut device, &format!("batches {rows:?}"), &plan, &inputs);
        assert_eq!(made > 0, matrices && device.subgroup.is_some());
        packs += made;
    }
    for (sizes, width) in [
        [1, 1, 3, 9],
        [2, 1, 5, 40],
        [2, 2, 3, 17],
        [1, 1, 2, 70],
        [1, 3, 1, 2],
    ]
    .into_iter()
    .flat_map(|sizes| widths.map(|width| (sizes, width)))
    {
        let plain = window([1, 5, 6], [1, 3, 2]);
        let padded = Window {
            output: [1, 3, 4],
            stride: [1, 2, 2],
            pad_begin: [0, 1, 2],
            pad_end: [0, 1, 0],
            ..plain
        };
        for window in [plain, padded] {
            let (plan, inputs) = convolution(sizes, window, width);
            packs += check(
                &mut device,
                &format!("{sizes:?}, {window:?}, {width:?}"),
                &plan,
                &inputs,
            );
        }
    }
    assert_eq!(packs > 0, device.subgroup.is_some(), "who broadcasts packs");
}
