//! What an operator costs against its price, one model per operator: who wants to pay little for much would take the
//! dearest of them. `PENSTOCK_CALIBRATE=1` measures and prints; times decide nothing here, since the machine may be busy.
//!
//! What is held always: a model's price grows with its work, and an operator that is dear by nature is priced above one
//! that is cheap.

mod node;

use node::{file, floats, info, int, ints, node, text};
use penstock_rules::tensor::{ElementType, Tensor};
use penstock_shaders::onnx::proto::{AttributeProto, GraphProto, TensorProto};
use penstock_shaders::{Limits, Model, cpu};
use std::sync::Arc;
use std::time::Instant;

/// Elements of an input: enough that a run is far above the cost of a request.
const WIDTH: u32 = 1 << 16;

/// A model of one node: input `x`, perhaps `x` again, perhaps a constant.
fn model(
    op: &str,
    element: ElementType,
    dims: &[u32],
    others: Vec<&str>,
    constant: Option<TensorProto>,
    attribute: Vec<AttributeProto>,
) -> Arc<Model> {
    let mut input = vec!["x"];
    input.extend(others);
    let outputs: &[&str] = if op == "TopK" { &["y", "i"] } else { &["y"] };
    let graph = GraphProto {
        node: vec![node(op, "", &input, outputs, attribute)],
        input: vec![info("x", element, dims)],
        output: vec![info("y", element, &[])],
        initializer: constant.into_iter().collect(),
        ..Default::default()
    };
    Model::load(&file(graph, 17), &Limits::default()).unwrap_or_else(|e| panic!("{op}: {e}"))
}

fn constant(dims: &[i64], values: Vec<f32>) -> TensorProto {
    floats("c", dims, values)
}

fn integers(values: &[i64]) -> TensorProto {
    node::integers("c", values)
}

/// Operators that differ in what they do per element.
fn operators() -> Vec<(&'static str, Arc<Model>)> {
    use ElementType::{F32, I64};
    let row = [1, WIDTH];
    let square = [1, 256, 256];
    let mut all = Vec::new();
    for op in [
        "Neg",
        "Sign",
        "IsNaN",
        "Floor",
        "Ceil",
        "Sqrt",
        "Reciprocal",
        "Exp",
        "Log",
        "Tanh",
        "Sigmoid",
        "Erf",
        "Sin",
        "Cos",
        "Tan",
        "Softplus",
        "Mish",
        "Atan",
        "Asinh",
        "Softmax",
        "GlobalMaxPool",
    ] {
        let dims: &[u32] = if op == "GlobalMaxPool" { &square } else { &row };
        all.push((op, model(op, F32, dims, vec![], None, vec![])));
    }
    for op in ["Add", "Mul", "Div", "Pow", "Max", "Equal", "Less"] {
        all.push((op, model(op, F32, &row, vec!["x"], None, vec![])));
    }
    all.push((
        "Mod (float)",
        model(
            "Mod",
            F32,
            &row,
            vec!["c"],
            Some(constant(&[1], vec![1e-38])),
            vec![int("fmod", 1)],
        ),
    ));
    all.push((
        "Div (i64)",
        model("Div", I64, &row, vec!["x"], None, vec![]),
    ));
    all.push((
        "Mod (i64)",
        model("Mod", I64, &row, vec!["x"], None, vec![]),
    ));
    all.push((
        "Transpose",
        model(
            "Transpose",
            F32,
            &square,
            vec![],
            None,
            vec![ints("perm", &[2, 0, 1])],
        ),
    ));
    all.push((
        "ReduceSum",
        model(
            "ReduceSum",
            F32,
            &square,
            vec!["c"],
            Some(integers(&[1])),
            vec![],
        ),
    ));
    all.push((
        "ReduceProd",
        model(
            "ReduceProd",
            F32,
            &square,
            vec![],
            None,
            vec![ints("axes", &[1])],
        ),
    ));
    all.push((
        "ArgMax",
        model("ArgMax", F32, &square, vec![], None, vec![int("axis", 1)]),
    ));
    all.push((
        "Gather",
        model(
            "Gather",
            F32,
            &row,
            vec!["c"],
            Some(integers(
                &(0..1 << 14).map(|i| i * 37 % 65_536).collect::<Vec<_>>(),
            )),
            vec![int("axis", 1)],
        ),
    ));
    all.push((
        "TopK",
        model(
            "TopK",
            F32,
            &[1, 256],
            vec!["c"],
            Some(integers(&[16])),
            vec![],
        ),
    ));
    all.push((
        "CumSum",
        model(
            "CumSum",
            F32,
            &[1, 256],
            vec!["c"],
            Some(integers(&[1])),
            vec![],
        ),
    ));
    all.push((
        "MatMul",
        model("MatMul", F32, &square, vec!["x"], None, vec![]),
    ));
    all.push((
        "MatMul (k 1)",
        model(
            "MatMul",
            F32,
            &[1, WIDTH / 64, 1],
            vec!["c"],
            Some(constant(&[1, 256], vec![0.5; 256])),
            vec![],
        ),
    ));
    all.push((
        "MatMul (row)",
        model(
            "MatMul",
            F32,
            &[1, 1, 256],
            vec!["c"],
            Some(constant(&[256, 1024], vec![0.5; 256 * 1024])),
            vec![],
        ),
    ));
    all.push((
        "Conv 3x3",
        model(
            "Conv",
            F32,
            &[1, 8, 64, 64],
            vec!["c"],
            Some(constant(&[16, 8, 3, 3], vec![0.1; 1152])),
            vec![],
        ),
    ));
    all.push((
        "Conv 1x1 (1 channel)",
        model(
            "Conv",
            F32,
            &[1, 1, 256, 256],
            vec!["c"],
            Some(constant(&[1, 1, 1, 1], vec![0.1])),
            vec![],
        ),
    ));
    all.push((
        "MaxPool",
        model(
            "MaxPool",
            F32,
            &[1, 4, 128, 128],
            vec![],
            None,
            vec![ints("kernel_shape", &[3, 3])],
        ),
    ));
    let place = |i: u32| (i * 37 % 201) as f32 * 0.01 - 1.0;
    for mode in ["nearest", "bilinear", "bicubic"] {
        let grid = constant(&[1, 64, 64, 2], (0..8_192).map(place).collect());
        let attributes = vec![text("mode", mode), text("padding_mode", "reflection")];
        all.push((
            mode,
            model(
                "GridSample",
                F32,
                &[1, 4, 64, 64],
                vec!["c"],
                Some(grid),
                attributes,
            ),
        ));
    }
    all.push((
        "Det",
        model("Det", F32, &[64, 16, 16], vec![], None, vec![]),
    ));
    all.push(("DFT", model("DFT", F32, &[8, 256, 1], vec![], None, vec![])));
    all
}

fn input(model: &Model) -> Tensor {
    let port = &model.signature().inputs[0];
    let count: u32 = port.shape.iter().product();
    if port.element == ElementType::I64 {
        let data: Vec<u8> = (0..count)
            .flat_map(|i| (i64::from(i) * 7_919 + 1).to_le_bytes())
            .collect();
        return Tensor {
            name: port.name.clone(),
            element: port.element,
            shape: port.shape.clone(),
            data: data.into(),
        };
    }
    // Values from 0.01 to 90, of many exponents: the costly ways of all functions.
    let value = |i: u32| (i % 9_001) as f32 * 0.01 + 0.01;
    Tensor::from_f32_bits(
        &port.name,
        &port.shape,
        (0..count).map(|i| value(i).to_bits()),
    )
}

fn price(model: &Model) -> u64 {
    model.igas_base().0 + model.igas_per_unit().0
}

#[test]
fn what_is_dear_by_nature_is_priced_above_what_is_cheap() {
    let all = operators();
    let of = |name: &str| {
        all.iter()
            .find(|(n, _)| *n == name)
            .map(|(_, m)| price(m))
            .expect(name)
    };
    assert!(of("Neg") < of("Exp"));
    assert!(of("Exp") < of("Pow"));
    assert!(of("Add") < of("Mod (float)"));
    assert!(of("ArgMax") < of("MatMul"));
    if std::env::var_os("PENSTOCK_CALIBRATE").is_none() {
        return;
    }
    let mut executor = cpu();
    println!(
        "{:<24} {:>10} {:>12} {:>8}",
        executor.name(),
        "igas",
        "us",
        "us/igas"
    );
    for (name, model) in &all {
        executor.prepare(model).expect("it fits");
        let request = [vec![input(model)]];
        let least = (0..9)
            .map(|_| {
                let start = Instant::now();
                executor.run(&model.hash(), &request).expect("it runs");
                start.elapsed().as_secs_f64() * 1e6
            })
            .fold(f64::INFINITY, f64::min);
        let igas = price(model);
        println!(
            "{name:<24} {igas:>10} {least:>12.1} {:>8.3}",
            least / igas as f64
        );
    }
}
