//! Kernels against the definition, on every Vulkan driver that is there.
//!
//! Where there is none, these tests print that they were skipped; with `PENSTOCK_REQUIRE_GPU=1` they fail and say what to
//! install (`tests/run.sh` sets it).

use super::schedule::{Schedule, Table};
use super::selftest::{self, HOSTILE, place, view, word_of_interest, words};
use super::*;
use crate::num;
use crate::plan::{Arg, Conv, Instr, Kind, Map, MapOp, Step, Window};
use std::time::Duration;

mod functions;
mod layers;
mod loss;
mod packed;
mod programs;

/// A device on the best adapter, or `None` where there is no driver and none is required.
fn device() -> Option<Device> {
    match Device::open(None) {
        Ok(device) => Some(device),
        Err(error) => {
            let required = std::env::var_os("PENSTOCK_REQUIRE_GPU").is_some_and(|v| v == "1");
            assert!(
                !required,
                "{error}: install a driver (apt-get install libvulkan1 mesa-vulkan-drivers), \
                 or set VK_DRIVER_FILES to its json file"
            );
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// The same with each way to compute with floats that it has: its own where the self-test finds them right.
fn devices() -> impl Iterator<Item = Device> {
    let both = [Floats::Soft, Floats::Native].into_iter();
    both.filter_map(|floats| {
        let mut device = device()?;
        device.set_floats(floats);
        match selftest::run(&mut device) {
            Err(error @ GpuError::WrongBits { .. }) if floats == Floats::Native => {
                let known = floats_allowed(device.report(), None) == Ok(Floats::Native);
                assert!(!known, "{error}, on a driver that is known");
                eprintln!("soft floats alone: {error}");
                None
            }
            result => {
                result.expect("right bits");
                Some(device)
            }
        }
    })
}

#[test]
fn the_self_test_passes() {
    let floats: Vec<Floats> = devices().map(|device| device.floats()).collect();
    assert!(floats.is_empty() || floats[0] == Floats::Soft);
}

#[test]
fn a_device_whose_broadcasts_are_wrong_computes_without_them() {
    for mut device in devices() {
        // As an adapter that is no software starts.
        device.table = Table::PLAIN;
        let wrong = GpuError::WrongBits {
            adapter: device.report().name.clone(),
            what: "a broadcast".into(),
            found: 1,
            expect: 2,
        };
        find_schedules(&mut device, |_| Err(wrong)).expect("schedules without");
        assert_eq!(device.subgroup, None);
        assert!(device.schedules().all(|s| s != Schedule::Broadcast));
        selftest::run(&mut device).expect("right bits");
    }
}

#[test]
fn floats_are_chosen_by_name_or_by_driver() {
    let of = |driver: &str, asked| {
        let report = AdapterReport {
            name: "a card".into(),
            driver: driver.into(),
            backend: "vulkan".into(),
            kind: AdapterKind::Discrete,
        };
        floats_allowed(&report, asked)
    };
    assert_eq!(of("llvmpipe Mesa 25", None), Ok(Floats::Native));
    assert_eq!(of("llvmpipe Mesa 25", Some("soft")), Ok(Floats::Soft));
    assert_eq!(of("another", None), Ok(Floats::Soft));
    assert_eq!(of("another", Some("auto")), Ok(Floats::Soft));
    assert_eq!(of("another", Some("native")), Ok(Floats::Native));
    let wrong = of("another", Some("hard")).expect_err("no such floats");
    assert!(
        wrong
            .to_string()
            .contains("PENSTOCK_GPU_FLOATS is \"hard\""),
        "{wrong}"
    );
}

#[test]
fn an_unknown_adapter_is_a_clear_error() {
    assert_eq!(
        Gpu::open(Some("no such device"), None).err(),
        Some(GpuError::NoAdapter("no such device".into()))
    );
}

/// The only output of a plan, on a device that makes pipelines of so many programs.
fn found(
    device: &mut Device,
    plan: &Arc<Plan>,
    inputs: &[Vec<u32>],
    programs_max: usize,
) -> Vec<u32> {
    device.forget_programs(programs_max);
    let mut weights = device.upload(&[]).expect("small");
    let mut compiled = device.compile(plan, &mut weights, &[]).expect("covered");
    let mut found = vec![vec![]];
    device
        .run(&mut compiled, &weights, inputs, &mut found)
        .expect("runs");
    found.swap_remove(0)
}

#[test]
fn a_lost_device_says_so() {
    let Some(mut device) = device() else { return };
    device.destroy();
    assert!(matches!(
        selftest::run(&mut device),
        Err(GpuError::SelfTest { .. })
    ));
    assert!(device.is_lost());
}

/// Shapes on both sides of every edge: of tiles, of slabs, of chunks, of workgroups.
const CONTRACTIONS: [[u32; 3]; 12] = [
    [1, 1, 1],
    [1, 5, 64],
    [1, 130, 300],
    [3, 4, 127],
    [4, 33, 129],
    [8, 31, 16],
    [9, 3, 8200],
    [31, 32, 15],
    [33, 33, 17],
    [32, 64, 128],
    [65, 40, 300],
    [1, 2, 65_536],
];

#[test]
fn every_schedule_gives_the_sums_of_the_definition() {
    let Some(mut device) = device() else { return };
    let mut weights = device.upload(&[]).expect("small");
    let widths = [num::Width::Bits24, num::Width::Bits16, num::Width::Whole];
    for ([m, n, k], width) in CONTRACTIONS
        .iter()
        .flat_map(|&shape| widths.map(|width| (shape, width)))
    {
        let (plan, inputs) = schedule::sample([m, n, k], width);
        let signed: Vec<i32> = inputs[0].iter().map(|&q| q as i32).collect();
        let columns: Vec<i32> = inputs[2].iter().map(|&q| q as i32).collect();
        let k = k as usize;
        let mut expect = Vec::new();
        for (i, row) in signed.chunks(k).enumerate() {
            for (j, column) in columns.chunks(k).enumerate() {
                let exponents = [inputs[1][i], inputs[3][j]].map(|e| num::Exponent(e as u8));
                let sum = num::fixed::dot(row, column);
                let result = exponents[0].rescale(exponents[1], sum, width);
                expect.push(result.to_bits());
            }
        }
        for schedule in device.schedules() {
            device.table = Table::all(schedule).with_subgroup(device.subgroup);
            let mut compiled = device.compile(&plan, &mut weights, &[]).expect("covered");
            let mut found = vec![vec![]];
            device
                .run(&mut compiled, &weights, &inputs, &mut found)
                .expect("runs");
            assert!(
                found[0] == expect,
                "{schedule:?} of {m} by {n} by {k}, {width:?}"
            );
        }
    }
}

/// With `PENSTOCK_CALIBRATE=1` it says what [`Table::LLVMPIPE`] is made of; times decide nothing here.
#[test]
fn schedules_are_measured() {
    let Some(mut device) = device() else { return };
    if std::env::var_os("PENSTOCK_CALIBRATE").is_none() {
        // What is chosen is one of what was measured.
        let times = [
            [3, 4, 1, 2, 9],
            [1, 4, 2, 3, 9],
            [2, 4, 3, 1, 9],
            [2, 2, 2, 2, 9],
        ];
        let table = schedule::fastest(&times.map(|of| of.map(Duration::from_micros)));
        let of = |m, k| {
            let (plan, _) = schedule::sample([m, 1, k], num::Width::Bits24);
            let Step::Contract(contract) = &plan.steps[0] else {
                panic!("one contraction");
            };
            table.of(contract)
        };
        assert_eq!(of(1, 9), Schedule::Shared);
        assert_eq!(of(8, 9), Schedule::Register);
        assert_eq!(of(9, 9), Schedule::Split);
        assert_eq!(of(9, 99), Schedule::Register);
        return;
    }
    println!("{} {}", device.report().name, device.report().driver);
    for width in [num::Width::Bits24, num::Width::Bits16] {
        let times = schedule::measure(&mut device, width).expect("it runs");
        for class in schedule::Class::ALL {
            println!("{width:?} {class:?} {:?}", times[class as usize]);
        }
        println!("{:?}", schedule::fastest(&times));
    }
}

/// A plan of one step.
fn alone(step: Step, inputs: Vec<crate::plan::Buffer>, out: crate::plan::Buffer, top: u32) -> Plan {
    Plan {
        inputs,
        outputs: vec![out],
        output_shapes: vec![vec![out.len]],
        locals: vec![],
        arena_words: top,
        steps: vec![step],
        macs: 0,
        touched: 0,
    }
}

/// A window of this size that slides over an input by single steps, without padding.
fn window(input: [u32; 3], kernel: [u32; 3]) -> Window {
    Window {
        input,
        output: std::array::from_fn(|axis| input[axis] - kernel[axis] + 1),
        kernel,
        stride: [1; 3],
        dilation: [1; 3],
        pad_begin: [0; 3],
        pad_end: [0; 3],
    }
}

/// A plan of one convolution, and its operands, which reach the ends of their width.
fn convolution(
    [samples, groups, cin, cout]: [u32; 4],
    window: Window,
    width: num::Width,
) -> (Arc<Plan>, Vec<Vec<u32>>) {
    let volume = |extents: [u32; 3]| extents.iter().product::<u32>();
    let mut top = 0;
    let mut part = |count| place(&mut top, Kind::I32, count);
    let input_q = part(samples * groups * cin * volume(window.input));
    let input_exponent = part(samples * groups);
    let weight_q = part(groups * cout * cin * volume(window.kernel));
    let weight_exponent = part(groups * cout);
    let out = place(
        &mut top,
        Kind::F32,
        samples * groups * cout * volume(window.output),
    );
    let step = Step::Conv(Conv {
        width,
        samples,
        groups,
        cin,
        cout,
        window,
        input_q,
        input_exponent,
        weight_q,
        weight_exponent,
        out,
    });
    let mut next = words(0xc0);
    let most = width.most();
    let mut integers = |count: u32| -> Vec<u32> {
        let any = |word: u32| (word % (2 * most as u32 + 1)) as i32 - most;
        (0..count).map(|_| any(next()) as u32).collect()
    };
    let inputs = vec![
        integers(input_q.len),
        (0..input_exponent.len).map(|i| 120 + i % 9).collect(),
        integers(weight_q.len),
        (0..weight_exponent.len).map(|i| 125 + i % 7).collect(),
    ];
    let places = vec![input_q, input_exponent, weight_q, weight_exponent];
    (Arc::new(alone(step, places, out, top)), inputs)
}

/// Fewer channels than a tile, as many, more; groups; samples; padding, strides and dilation on one axis each.
#[test]
fn convolutions_are_those_of_the_definition() {
    let Some(mut device) = device() else { return };
    let mut weights = device.upload(&[]).expect("small");
    let plain = window([1, 5, 6], [1, 3, 2]);
    let odd = Window {
        output: [1, 4, 2],
        stride: [1, 2, 1],
        dilation: [1, 1, 3],
        pad_begin: [0, 2, 0],
        pad_end: [0, 2, 1],
        ..plain
    };
    let mut cases = Vec::new();
    for width in [num::Width::Bits24, num::Width::Bits16, num::Width::Whole] {
        for sizes in [
            [1, 1, 3, 1],
            [2, 1, 3, 5],
            [1, 2, 2, 8],
            [2, 2, 1, 9],
            [1, 1, 30, 17],
        ] {
            cases.extend([plain, odd].map(|window| (sizes, window, width)));
        }
    }
    for (sizes, window, width) in cases {
        let (plan, inputs) = convolution(sizes, window, width);
        let mut expect = vec![vec![]];
        crate::cpu::Cpu::detect().interpret(&plan, &inputs, &mut expect);
        let mut compiled = device.compile(&plan, &mut weights, &[]).expect("covered");
        let mut found = vec![vec![]];
        device
            .run(&mut compiled, &weights, &inputs, &mut found)
            .expect("runs");
        assert!(found == expect, "{sizes:?}, {width:?}");
    }
}

/// Steps with long loops, as plans with inputs.
fn long_loops() -> Vec<(String, Arc<Plan>, Vec<Vec<u32>>)> {
    use crate::plan::{PoolOp, Quantise, Reduce, ReduceOp};
    let mut all = Vec::new();
    for shape in [[1, 2, 64_000], [4, 4, 65_536], [9, 3, 60_000]] {
        let (plan, inputs) = schedule::sample(shape, num::Width::Bits24);
        all.push((format!("contraction {shape:?}"), plan, inputs));
    }
    let floats = |count: u32| -> Vec<u32> {
        let mut next = words(9);
        (0..count)
            .map(|_| next() & 0x007f_ffff | 0x3f80_0000)
            .collect()
    };
    for op in [ReduceOp::Sum, ReduceOp::ArgMax] {
        for cols in [
            vec![60_000],
            vec![65_536],
            vec![150, 150],
            vec![200, 200],
            vec![256, 256],
            vec![2, 2, 2, 2, 2, 2, 700],
        ] {
            let count = cols.iter().product();
            let mut top = 0;
            let x = place(&mut top, Kind::F32, count);
            let kind = if op == ReduceOp::Sum {
                Kind::F32
            } else {
                Kind::I64
            };
            let out = place(&mut top, kind, 1);
            let strides: Vec<i32> = crate::plan::contiguous_strides(&cols)
                .into_iter()
                .map(|s| s as i32)
                .collect();
            let step = Step::Reduce(Reduce {
                op,
                rows: vec![],
                cols: cols.clone(),
                input: view(x, &strides),
                out,
            });
            all.push((
                format!("{op:?} over {cols:?}"),
                Arc::new(alone(step, vec![x], out, top)),
                vec![floats(count)],
            ));
        }
    }
    for cin in [64_000, 65_536] {
        let (plan, inputs) =
            convolution([1, 1, cin, 1], window([1; 3], [1; 3]), num::Width::Bits24);
        all.push((format!("convolution of {cin}"), plan, inputs));
    }
    for side in [240, 300] {
        let mut top = 0;
        let x = place(&mut top, Kind::F32, side * side);
        let out = place(&mut top, Kind::F32, 1);
        let window = window([1, side, side], [1, side, side]);
        let step = Step::Pool(crate::plan::Pool {
            op: PoolOp::Average,
            planes: 1,
            window,
            input: x,
            out,
        });
        let plan = Arc::new(alone(step, vec![x], out, top));
        all.push((format!("pool {side}"), plan, vec![floats(side * side)]));
    }
    for count in [1_000_000, 64 * 33_000, 64 * 70_000] {
        let mut top = 0;
        let x = place(&mut top, Kind::F32, count);
        let q = place(&mut top, Kind::I32, count);
        let exponent = place(&mut top, Kind::I32, 1);
        let step = Step::Quantise(Quantise {
            width: num::Width::Bits24,
            rows: vec![],
            cols: vec![count],
            input: view(x, &[1]),
            q,
            exponent,
        });
        all.push((
            format!("quantise {count}"),
            Arc::new(alone(step, vec![x], q, top)),
            vec![floats(count)],
        ));
    }
    all
}

/// llvmpipe leaves loops after 65,535 rounds, with whatever they have: a dot product of 65,536 terms, a sum of as many
/// floats. What would run into that is split, or refused.
#[test]
fn long_loops_are_right_or_refused() {
    let Some(mut device) = device() else { return };
    let mut weights = device.upload(&[]).expect("small");
    let mut refused = 0;
    for (what, plan, inputs) in long_loops() {
        let mut expect = vec![vec![]];
        crate::cpu::Cpu::detect().interpret(&plan, &inputs, &mut expect);
        for schedule in device.schedules() {
            device.table = Table::all(schedule).with_subgroup(device.subgroup);
            let mut compiled = match device.compile(&plan, &mut weights, &[]) {
                Ok(compiled) => compiled,
                Err(error) => {
                    assert!(matches!(error, PrepareError::TooLarge { .. }), "{what}");
                    assert!(!what.starts_with("contraction"), "{what} can be split");
                    refused += 1;
                    continue;
                }
            };
            let mut found = vec![vec![]];
            device
                .run(&mut compiled, &weights, &inputs, &mut found)
                .expect("runs");
            assert!(found == expect, "{what}, {schedule:?}");
        }
    }
    let counts = device.report().name.contains("llvmpipe");
    assert_eq!(refused > 0, counts, "only llvmpipe counts");
}
