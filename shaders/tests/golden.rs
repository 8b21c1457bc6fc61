//! Golden outcomes: models, inputs and hashes that are checked in. Every backend of this machine must give them: each form
//! of the CPU, and each Vulkan adapter (`tests/run.sh` runs this on lavapipe and SwiftShader). So must every place in
//! every batch.
//!
//! `PENSTOCK_BLESS=1` writes the file anew; that is right only together with a new `num::NUMERIC_VERSION`.

use penstock_rules::request::Outcome;
use penstock_rules::tensor::Tensor;
use penstock_shaders::verify::Case;
use penstock_shaders::{
    Executor, Floats, Limits, Mode, Model, adapters, cpu, cpu_portable, gpu_with, survey,
};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;

/// Sizes of batches: one, odd, and those that fill workgroups.
const BATCHES: [usize; 4] = [1, 3, 16, 64];

/// Triples that the file must hold.
const TRIPLES_MIN: usize = 30;

/// Batches of a slow adapter.
const SLOW_BATCHES: [usize; 2] = [1, 3];

struct Golden {
    name: String,
    model: Arc<Model>,
    /// Requests of one row each.
    rows: Vec<Vec<Tensor>>,
}

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

/// Every fixture in two modes, and the quantised one in the third.
fn goldens() -> Vec<Golden> {
    let mut out = Vec::new();
    for path in Case::folders(&folder()).expect("fixtures") {
        let case = Case::read(&path).expect("a case");
        let name = path
            .file_name()
            .expect("a name")
            .to_string_lossy()
            .into_owned();
        let modes: &[Mode] = if name.starts_with("qdq") {
            &[Mode::Exact24, Mode::Exact16, Mode::Int8]
        } else {
            &[Mode::Exact24, Mode::Exact16]
        };
        for mode in modes {
            let file = survey::with_mode(&case.model, *mode);
            let model = Model::load(&file, &Limits::default()).expect("it loads");
            let port = &model.signature().inputs[0];
            let rows = rows(case.tensor(0, &port.name).expect("an input"));
            out.push(Golden {
                name: format!("{name} {}", mode.name()),
                model,
                rows,
            });
        }
    }
    // The product's own models, on numbers that are told here.
    for name in ["risk", "forecast"] {
        let path = format!(
            "{}/../devnet/models/{name}.onnx",
            env!("CARGO_MANIFEST_DIR")
        );
        let file = std::fs::read(path).expect("the model is checked in");
        for mode in [Mode::Exact24, Mode::Exact16] {
            let file = survey::with_mode(&file, mode);
            let model = Model::load(&file, &Limits::default()).expect("it loads");
            let port = &model.signature().inputs[0];
            let mut shape = port.shape.clone();
            shape[0] = 5;
            let values =
                (0..shape.iter().product::<u32>()).map(|i| (i * 37 % 101) as f32 / 64.0 - 0.5);
            let all = Tensor::from_f32_bits(&port.name, &shape, values.map(f32::to_bits));
            out.push(Golden {
                name: format!("{name} {}", mode.name()),
                rows: rows(all),
                model,
            });
        }
    }
    out
}

/// The rows of a tensor, each as the input of a request.
fn rows(all: Tensor) -> Vec<Vec<Tensor>> {
    let count = all.shape[0] as usize;
    let size = all.data.len() / count;
    (0..count)
        .map(|row| {
            let mut one = all.clone();
            one.shape[0] = 1;
            one.data = all.data.slice(row * size..(row + 1) * size);
            vec![one]
        })
        .collect()
}

/// What a slow adapter runs: the cheapest models that have each kind of step, contractions and convolutions in each mode.
fn few(goldens: &[Golden]) -> Vec<&Golden> {
    let report = |golden: &&Golden| golden.model.report().expect("a plan at batch 1");
    let mut by_cost: Vec<&Golden> = goldens.iter().collect();
    by_cost.sort_by_key(|golden| report(golden).macs);
    let mut seen = BTreeSet::new();
    by_cost.retain(|golden| {
        let mode = golden.model.mode();
        report(golden).kernels.keys().fold(false, |new, &kernel| {
            let mode = matches!(kernel, "contract" | "conv").then_some(mode);
            seen.insert((kernel, mode)) || new
        })
    });
    by_cost
}

/// One hash of the outcomes of all rows.
fn digest(outcomes: &[Outcome]) -> String {
    let hashes: Vec<u8> = outcomes.iter().flat_map(|o| o.hash().0).collect();
    alloy_primitives::keccak256(hashes).to_string()
}

fn backends() -> Vec<Box<dyn Executor>> {
    let mut all = vec![cpu(), cpu_portable()];
    for adapter in adapters() {
        let with = |floats| {
            gpu_with(Some(&adapter.name), floats)
                .unwrap_or_else(|e| panic!("{}: {e}", adapter.name))
        };
        all.push(with(Floats::Soft));
        let native = with(Floats::Native);
        let used = native.name().contains("native floats");
        // lavapipe's floats are IEEE's, and SwiftShader's are not: it takes subnormals for zeros.
        let known = ["llvmpipe", "SwiftShader"]
            .iter()
            .find(|&name| adapter.name.contains(name));
        assert!(
            known.is_none_or(|&name| used == (name == "llvmpipe")),
            "{}",
            native.name()
        );
        if used {
            all.push(native);
        }
    }
    let required = std::env::var_os("PENSTOCK_REQUIRE_GPU").is_some_and(|v| v == "1");
    assert!(!required || all.len() > 2, "there is no vulkan adapter");
    all
}

#[test]
fn every_backend_gives_the_golden_hashes_at_every_place_in_every_batch() {
    let file = folder().join("golden.txt");
    let goldens = goldens();
    if std::env::var_os("PENSTOCK_BLESS").is_some() {
        let mut lines = String::new();
        for golden in &goldens {
            let mut reference = cpu_portable();
            reference.prepare(&golden.model).expect("it fits");
            let found = reference
                .run(&golden.model.hash(), &golden.rows)
                .expect("it runs");
            lines += &format!("{} {}\n", golden.name, digest(&found));
        }
        std::fs::write(&file, lines).expect("the fixtures are writable");
    }
    let text = std::fs::read_to_string(&file).expect("the golden file");
    let expected: BTreeMap<&str, &str> = text
        .lines()
        .filter_map(|line| line.rsplit_once(' '))
        .collect();
    assert!(expected.len() >= TRIPLES_MIN, "{} triples", expected.len());
    assert_eq!(expected.len(), goldens.len(), "every line has its model");
    for mut backend in backends() {
        let name = backend.name();
        // SwiftShader compiles a kernel for seconds and runs it a hundred times slower than the processor could.
        let all = std::env::var_os("PENSTOCK_TEST_SWIFTSHADER").is_some_and(|v| v == "1");
        let slow = name.contains("SwiftShader") && !all;
        let (goldens, batches) = if slow {
            (few(&goldens), &SLOW_BATCHES[..])
        } else {
            (goldens.iter().collect(), &BATCHES[..])
        };
        for golden in &goldens {
            let id = golden.model.hash();
            backend.prepare(&golden.model).expect("it fits");
            let alone: Vec<Outcome> = golden
                .rows
                .iter()
                .flat_map(|row| {
                    backend
                        .run(&id, std::slice::from_ref(row))
                        .expect("it runs")
                })
                .collect();
            assert_eq!(
                Some(&digest(&alone)[..]),
                expected.get(&golden.name[..]).copied(),
                "{} on {name}",
                golden.name
            );
            for &batch in batches {
                let picks: Vec<usize> = (0..batch).map(|i| i * 7 % golden.rows.len()).collect();
                let requests: Vec<_> = picks.iter().map(|&p| golden.rows[p].clone()).collect();
                let found = backend.run(&id, &requests).expect("it runs");
                for (place, (pick, outcome)) in picks.iter().zip(&found).enumerate() {
                    assert_eq!(
                        *outcome, alone[*pick],
                        "{} at place {place} of {batch} on {name}",
                        golden.name
                    );
                }
            }
        }
        println!("{name}: {} triples", goldens.len());
    }
}
