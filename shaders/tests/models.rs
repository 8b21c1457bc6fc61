//! The product's models, on their real rows, against ONNX Runtime's outputs.

use penstock_rules::request::Outcome;
use penstock_rules::tensor::{Tensor, decode};
use penstock_shaders::{Executor, Limits, Model, cpu, cpu_portable};
use serde_json::Value;
use std::path::PathBuf;
use std::sync::Arc;

struct Rows {
    model: Arc<Model>,
    inputs: Vec<Vec<Tensor>>,
    outputs: Vec<Vec<f32>>,
}

fn numbers(value: &Value) -> Vec<f32> {
    let list = value.as_array().expect("a list of decimals");
    list.iter()
        .map(|v| v.as_str().and_then(|s| s.parse().ok()).expect("a decimal"))
        .collect()
}

fn rows(name: &str) -> Rows {
    let folder = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../devnet/models");
    let file = std::fs::read(folder.join(format!("{name}.onnx"))).expect("the model is checked in");
    let model = Model::load(&file, &Limits::default()).expect("the model loads");
    let text = std::fs::read_to_string(folder.join(format!("{name}.rows.json"))).expect("rows");
    let text: Value = serde_json::from_str(&text).expect("rows are json");
    let port = text["input"].as_str().expect("a name").to_owned();
    let mut rows = Rows {
        model,
        inputs: Vec::new(),
        outputs: Vec::new(),
    };
    for row in text["rows"].as_array().expect("a list") {
        let input = numbers(&row["input"]);
        let tensor = Tensor::from_f32_bits(
            &port,
            &[1, input.len() as u32],
            input.iter().map(|v| v.to_bits()),
        );
        rows.inputs.push(vec![tensor]);
        rows.outputs.push(numbers(&row["output"]));
    }
    rows
}

fn answers(executor: &mut dyn Executor, rows: &Rows) -> Vec<Outcome> {
    executor.prepare(&rows.model).expect("it fits the cpu");
    executor
        .run(&rows.model.hash(), &rows.inputs)
        .expect("the cpu answers")
}

fn values(outcome: &Outcome) -> Vec<f32> {
    let Outcome::Output(bytes) = outcome else {
        panic!("no output: {outcome:?}");
    };
    let tensors = decode(bytes).expect("canonical tensors");
    tensors[0]
        .data
        .as_chunks()
        .0
        .iter()
        .map(|c| f32::from_le_bytes(*c))
        .collect()
}

/// Each row's answer is ONNX Runtime's to within `relative`, and the same bits whatever shared the run.
fn check(name: &str, relative: f32) {
    let rows = rows(name);
    assert!(rows.model.batch_max() > 1, "requests of {name} are joined");
    let joined = answers(cpu().as_mut(), &rows);
    for (outcome, expect) in joined.iter().zip(&rows.outputs) {
        let found = values(outcome);
        assert_eq!(found.len(), expect.len());
        for (a, b) in found.iter().zip(expect) {
            assert!((a - b).abs() <= relative * b.abs(), "{name}: {a} for {b}");
        }
    }
    assert_eq!(joined, answers(cpu_portable().as_mut(), &rows), "portable");
    let mut executor = cpu();
    executor.prepare(&rows.model).expect("it fits the cpu");
    for (input, outcome) in rows.inputs.iter().zip(&joined).step_by(7) {
        let alone = executor.run(&rows.model.hash(), std::slice::from_ref(input));
        assert_eq!(alone.expect("the cpu answers")[0], *outcome);
    }
}

#[test]
fn risk_scores_are_those_of_onnx_runtime() {
    check("risk", 2e-6);
}

#[test]
fn forecasts_are_those_of_onnx_runtime() {
    check("forecast", 2e-6);
}
