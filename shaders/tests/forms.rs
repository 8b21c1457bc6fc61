//! Every form of the CPU's loops, over every model here: one outcome.

use penstock_rules::tensor::Tensor;
use penstock_shaders::{Limits, Model, cpu_forms};
use std::path::PathBuf;

/// Rows of a run: one row alone, fewer than a tile has, and more than one tile.
const ROWS: [u32; 3] = [1, 3, 17];

#[test]
fn every_form_of_the_cpu_gives_the_same_outcome() {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    let mut models = 0;
    for entry in std::fs::read_dir(&folder).expect("fixtures") {
        let name = entry.expect("an entry").file_name();
        // Digests and tables lie beside the models' folders.
        let path = folder.join(&name).join("model.onnx");
        if !path.is_file() {
            continue;
        }
        let file = std::fs::read(path).expect("a model");
        let model = Model::load(&file, &Limits::default()).expect("the model loads");
        let mut executors = cpu_forms();
        for executor in &mut executors {
            executor.prepare(&model).expect("the cpu holds it");
        }
        for rows in ROWS {
            let request: Vec<Tensor> = model
                .signature()
                .inputs
                .iter()
                .map(|port| {
                    let extent = |(axis, &d): (usize, &u32)| match d {
                        0 if axis == 0 => rows,
                        d => d.max(1),
                    };
                    let shape: Vec<u32> = port.shape.iter().enumerate().map(extent).collect();
                    let count: u32 = shape.iter().product();
                    let values = (0..count).map(|i| ((i as f32 * 0.7).sin() * 3.0).to_bits());
                    Tensor::from_f32_bits(&port.name, &shape, values)
                })
                .collect();
            let outcomes: Vec<_> = executors
                .iter_mut()
                .map(|executor| {
                    let mut outcomes = executor
                        .run(&model.hash(), std::slice::from_ref(&request))
                        .expect("the cpu answers");
                    (executor.name(), outcomes.pop().expect("one outcome").hash())
                })
                .collect();
            for (form, outcome) in &outcomes {
                assert_eq!(outcome, &outcomes[0].1, "{name:?}, {rows} rows, {form}");
            }
        }
        models += 1;
    }
    assert!(models >= 10, "the fixtures are here");
}
