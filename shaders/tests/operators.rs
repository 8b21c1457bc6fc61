//! What ONNX's own cases do not ask of operators: that inverses are inverses, that attributes which no case sets are
//! heard, that hostile tables are refused. Every executor gives the same bits.

mod node;

use node::{file, floats, graph, info, int, integers, ints, node, tensor, text};
use penstock_rules::request::Outcome;
use penstock_rules::tensor::{ElementType, Tensor, decode};
use penstock_shaders::onnx::proto::{GraphProto, NodeProto, TensorProto};
use penstock_shaders::{Executor, Limits, LoadError, Model, cpu, cpu_portable, gpu};
use std::sync::{Arc, LazyLock, Mutex};

const VERSION: i64 = 20;

fn load(
    nodes: Vec<NodeProto>,
    inputs: &[(&str, &[u32])],
    output: &str,
    constants: Vec<TensorProto>,
    version: i64,
) -> Result<Arc<Model>, LoadError> {
    let graph = GraphProto {
        node: nodes,
        input: inputs
            .iter()
            .map(|(name, dims)| info(name, ElementType::F32, dims))
            .collect(),
        output: vec![info(output, ElementType::F32, &[])],
        initializer: constants,
        ..Default::default()
    };
    Model::load(&file(graph, version), &Limits::default())
}

/// All executors of this machine. They are opened once: a device compiles its kernels for each that opens it.
static EXECUTORS: LazyLock<Mutex<Vec<Box<dyn Executor>>>> = LazyLock::new(|| {
    let mut executors = vec![cpu(), cpu_portable()];
    let required = std::env::var_os("PENSTOCK_REQUIRE_GPU").is_some_and(|v| v == "1");
    match gpu(None) {
        Ok(gpu) => executors.push(gpu),
        Err(error) => assert!(!required, "{error}"),
    }
    Mutex::new(executors)
});

/// The first output's dimensions and floats, the same on every executor.
fn answer(model: &Arc<Model>, inputs: &[Vec<f32>]) -> (Vec<u32>, Vec<f32>) {
    let request: Vec<Tensor> = model
        .signature()
        .inputs
        .iter()
        .zip(inputs)
        .map(|(port, values)| {
            let bits = values.iter().map(|v| v.to_bits());
            Tensor::from_f32_bits(&port.name, &port.shape, bits)
        })
        .collect();
    let mut first: Option<Outcome> = None;
    for executor in EXECUTORS.lock().expect("no test failed").iter_mut() {
        executor.prepare(model).expect("it fits");
        let outcome = executor
            .run(&model.hash(), std::slice::from_ref(&request))
            .expect("it runs")
            .pop()
            .expect("one outcome");
        let first = first.get_or_insert_with(|| outcome.clone());
        assert_eq!(*first, outcome, "{}", executor.name());
    }
    let Some(Outcome::Output(bytes)) = first else {
        panic!("no output: {first:?}");
    };
    let found = decode(&bytes).expect("canonical tensors");
    let values = found[0].data.as_chunks().0;
    let values = values.iter().map(|c| f32::from_le_bytes(*c)).collect();
    (found[0].shape.clone(), values)
}

fn near(found: &[f32], expect: &[f32], most: f32) {
    assert_eq!(found.len(), expect.len());
    for (i, (a, b)) in found.iter().zip(expect).enumerate() {
        assert!((a - b).abs() <= most, "{i}: {a} for {b}");
    }
}

/// Numbers between -1 and 1 without a pattern.
fn noise(count: usize) -> Vec<f32> {
    let mut state = 7u32;
    (0..count)
        .map(|_| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 23) as f32 - 1.0
        })
        .collect()
}

#[test]
fn a_transform_and_its_inverse_give_the_signal() {
    for length in [1u32, 2, 7, 16, 100] {
        let model = load(
            vec![
                node("DFT", "", &["x"], &["f"], vec![]),
                node("DFT", "", &["f"], &["y"], vec![int("inverse", 1)]),
            ],
            &[("x", &[3, length, 2])],
            "y",
            vec![],
            VERSION,
        )
        .expect("it loads");
        let x = noise(6 * length as usize);
        let (dims, y) = answer(&model, std::slice::from_ref(&x));
        assert_eq!(dims, [3, length, 2]);
        near(&y, &x, 2e-6);
    }
}

/// A longer transform than the signal, along the first of two axes.
#[test]
fn a_short_signal_is_filled_up_with_zeros() {
    let transform = |axis: i64, name: &str| {
        load(
            vec![node(
                "DFT",
                "",
                &["x", "n"],
                &["y"],
                vec![int("axis", axis)],
            )],
            &[(
                "x",
                if name == "short" {
                    &[1, 3, 2, 1]
                } else {
                    &[1, 8, 2, 1]
                },
            )],
            "y",
            vec![TensorProto {
                dims: vec![],
                ..integers("n", &[8])
            }],
            17,
        )
        .expect("it loads")
    };
    let x = noise(6);
    let mut padded = x.clone();
    padded.resize(16, 0.0);
    let (dims, short) = answer(&transform(1, "short"), &[x]);
    assert_eq!(dims, [1, 8, 2, 2]);
    assert_eq!(short, answer(&transform(1, "long"), &[padded]).1);
}

#[test]
fn a_grid_that_names_every_element_gives_the_input() {
    for (mode, padding) in [
        ("linear", "zeros"),
        ("cubic", "reflection"),
        ("nearest", "border"),
    ] {
        let model = load(
            vec![
                node(
                    "AffineGrid",
                    "",
                    &["theta", "size"],
                    &["g"],
                    vec![int("align_corners", 1)],
                ),
                node(
                    "GridSample",
                    "",
                    &["x", "g"],
                    &["y"],
                    vec![
                        int("align_corners", 1),
                        text("mode", mode),
                        text("padding_mode", padding),
                    ],
                ),
            ],
            &[("x", &[2, 3, 4, 5])],
            "y",
            vec![
                floats(
                    "theta",
                    &[2, 2, 3],
                    [[1.0, 0.0, 0.0, 0.0, 1.0, 0.0]; 2].concat(),
                ),
                integers("size", &[2, 3, 4, 5]),
            ],
            VERSION,
        )
        .expect("it loads");
        let x = noise(120);
        let (dims, y) = answer(&model, std::slice::from_ref(&x));
        assert_eq!(dims, [2, 3, 4, 5]);
        near(&y, &x, 2e-6);
    }
}

/// A place far outside is reflected as often as it takes, and counts nothing where outside is zero.
#[test]
fn places_far_outside_are_defined() {
    let sample = |padding: &str, at: f32| {
        let model = load(
            vec![node(
                "GridSample",
                "",
                &["x", "g"],
                &["y"],
                vec![text("padding_mode", padding)],
            )],
            &[("x", &[1, 1, 1, 4]), ("g", &[1, 1, 1, 2])],
            "y",
            vec![],
            VERSION,
        )
        .expect("it loads");
        answer(&model, &[vec![1.0, 2.0, 3.0, 4.0], vec![at, 0.0]]).1[0]
    };
    // The middle of element 1 is at -0.25; a period is 4 long, and mirrored at 1.
    for (at, expect) in [(-0.25, 2.0), (2.25, 2.0), (3.75, 2.0), (-400.25, 2.0)] {
        near(&[sample("reflection", at)], &[expect], 1e-3);
    }
    assert_eq!(sample("zeros", 1e30), 0.0);
    assert_eq!(sample("border", 1e30), 4.0);
    assert_eq!(sample("border", -1e30), 1.0);
}

#[test]
fn the_determinant_of_a_product_of_rotations_and_scales_is_known() {
    let model = load(
        vec![node("Det", "", &["x"], &["y"], vec![])],
        &[("x", &[3, 3, 3])],
        "y",
        vec![],
        VERSION,
    )
    .expect("it loads");
    let matrices = [
        // A pivot of zero, which needs an exchange.
        [0.0, 2.0, 0.0, 3.0, 0.0, 0.0, 0.0, 0.0, 4.0],
        // Rank two.
        [1.0, 2.0, 3.0, 2.0, 4.0, 6.0, 1.0, 0.0, 1.0],
        [2.0, 0.0, 1.0, 1.0, 3.0, 2.0, 1.0, 1.0, 4.0],
    ];
    let (dims, y) = answer(&model, &[matrices.concat()]);
    assert_eq!(dims, [3]);
    near(&y, &[-24.0, 0.0, 18.0], 1e-5);
}

#[test]
fn pooled_elements_go_back_where_they_were() {
    let window = || vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])];
    let model = load(
        vec![
            node("MaxPool", "", &["x"], &["v", "i"], window()),
            node("MaxUnpool", "", &["v", "i"], &["y"], window()),
        ],
        &[("x", &[2, 2, 4, 6])],
        "y",
        vec![],
        11,
    )
    .expect("it loads");
    let x: Vec<f32> = noise(96).iter().map(|v| v + 2.0).collect();
    let (dims, y) = answer(&model, std::slice::from_ref(&x));
    assert_eq!(dims, [2, 2, 4, 6]);
    let back = y.iter().filter(|v| **v != 0.0).count();
    assert_eq!(back, 24, "one element per window");
    assert!(y.iter().zip(&x).all(|(y, x)| *y == 0.0 || y == x));
}

/// Sums of ones say how many windows stand over each place.
#[test]
fn columns_are_summed_over_the_windows_that_hold_a_place() {
    let model = load(
        vec![node("Col2Im", "", &["x", "image", "block"], &["y"], vec![])],
        &[("x", &[1, 2, 4])],
        "y",
        vec![integers("image", &[5]), integers("block", &[2])],
        VERSION,
    )
    .expect("it loads");
    let (dims, y) = answer(&model, &[vec![1.0; 8]]);
    assert_eq!(dims, [1, 1, 5]);
    assert_eq!(y, [1.0, 2.0, 2.0, 2.0, 1.0]);
}

/// A running sum from the end, collected backwards along the second axis.
#[test]
fn a_scan_hears_its_axes_and_directions() {
    let body = GraphProto {
        name: Some("body".into()),
        node: vec![
            node("Add", "", &["sum", "next"], &["sum_out"], vec![]),
            node("Identity", "", &["sum_out"], &["seen"], vec![]),
        ],
        input: vec![
            info("sum", ElementType::F32, &[2]),
            info("next", ElementType::F32, &[2]),
        ],
        output: vec![
            info("sum_out", ElementType::F32, &[2]),
            info("seen", ElementType::F32, &[2]),
        ],
        ..Default::default()
    };
    let model = load(
        vec![node(
            "Scan",
            "",
            &["zero", "x"],
            &["total", "y"],
            vec![
                graph("body", body),
                int("num_scan_inputs", 1),
                ints("scan_input_axes", &[-1]),
                ints("scan_input_directions", &[1]),
                ints("scan_output_axes", &[1]),
                ints("scan_output_directions", &[1]),
            ],
        )],
        &[("x", &[2, 3])],
        "y",
        vec![floats("zero", &[2], vec![0.0, 0.0])],
        VERSION,
    )
    .expect("it loads");
    let (dims, y) = answer(&model, &[vec![1.0, 2.0, 4.0, 10.0, 20.0, 40.0]]);
    assert_eq!(dims, [2, 3]);
    assert_eq!(y, [7.0, 6.0, 4.0, 70.0, 60.0, 40.0]);
}

fn ensemble(
    modes: &[i64],
    splits: Vec<f32>,
    yes: &[i64],
    no: &[i64],
    leafs: [&[i64]; 2],
) -> NodeProto {
    let count = modes.len();
    let mode = TensorProto {
        dims: vec![count as i64],
        data_type: Some(ElementType::U8 as i32),
        int32_data: modes.iter().map(|&m| m as i32).collect(),
        ..Default::default()
    };
    node(
        "TreeEnsemble",
        "ai.onnx.ml",
        &["x"],
        &["y"],
        vec![
            ints("nodes_featureids", &vec![0; count]),
            tensor("nodes_modes", mode),
            tensor("nodes_splits", floats("", &[count as i64], splits)),
            ints("nodes_truenodeids", yes),
            ints("nodes_falsenodeids", no),
            ints("nodes_trueleafs", leafs[0]),
            ints("nodes_falseleafs", leafs[1]),
            tensor("leaf_weights", floats("", &[3], vec![1.0, 10.0, 100.0])),
            ints("leaf_targetids", &[0, 0, 0]),
            tensor(
                "membership_values",
                floats("", &[5], vec![3.0, 5.0, 7.0, f32::NAN, 4.0]),
            ),
            ints("tree_roots", &[0]),
            int("n_targets", 1),
        ],
    )
}

#[test]
fn a_tree_asks_whether_a_feature_is_one_of_a_set() {
    // Node 0: one of 3, 5, 7? Leaf 0, else node 1: is it 4? Leaf 1, else leaf 2.
    let tree = ensemble(&[6, 6], vec![0.0; 2], &[0, 1], &[1, 2], [&[1, 1], &[0, 1]]);
    let model = load(vec![tree], &[("x", &[6, 1])], "y", vec![], VERSION).expect("it loads");
    let (dims, y) = answer(&model, &[vec![3.0, 4.0, 5.0, 6.0, 7.0, 7.5]]);
    assert_eq!(dims, [6, 1]);
    assert_eq!(y, [1.0, 10.0, 1.0, 100.0, 1.0, 100.0]);
}

#[test]
fn trees_that_lead_back_or_nowhere_are_refused() {
    for (yes, no) in [
        ([0, 0], [1, 2]),
        ([1, 0], [1, 2]),
        ([9, 0], [1, 2]),
        ([-1, 0], [1, 2]),
    ] {
        let tree = ensemble(&[0, 0], vec![0.0; 2], &yes, &no, [&[0, 0], &[0, 1]]);
        let refused = load(vec![tree], &[("x", &[2, 1])], "y", vec![], VERSION);
        assert!(matches!(refused, Err(LoadError::Invalid { .. })), "{yes:?}");
    }
}

/// By default the number of samples in a cell follows from the region's size.
#[test]
fn regions_whose_samples_depend_on_data_are_refused() {
    let model = |samples: i64| {
        load(
            vec![
                node("Cast", "", &["b"], &["i"], vec![int("to", 7)]),
                node(
                    "RoiAlign",
                    "",
                    &["x", "r", "i"],
                    &["y"],
                    vec![int("sampling_ratio", samples)],
                ),
            ],
            &[("x", &[1, 1, 4, 4]), ("r", &[2, 4]), ("b", &[2])],
            "y",
            vec![],
            VERSION,
        )
    };
    assert!(matches!(model(0), Err(LoadError::Unsupported { .. })));
    // The first region is the four elements in the middle, the second lies outside.
    let x = (0..16).map(|i| i as f32).collect();
    let regions = vec![1.0, 1.0, 3.0, 3.0, 50.0, 50.0, 60.0, 60.0];
    let (dims, y) = answer(&model(2).expect("it loads"), &[x, regions, vec![0.0, 0.0]]);
    assert_eq!(dims, [2, 1, 1, 1]);
    near(&y, &[7.5, 0.0], 1e-5);
}

/// Loops in loops that only look at tensors make no step, and would never end.
#[test]
fn loops_in_loops_are_refused_before_they_take_for_ever() {
    let bodied = |inner: Option<NodeProto>| GraphProto {
        name: Some("body".into()),
        node: inner
            .into_iter()
            .chain([node("Identity", "", &["next"], &["seen"], vec![])])
            .collect(),
        input: vec![info("next", ElementType::F32, &[1])],
        output: vec![info("seen", ElementType::F32, &[1])],
        ..Default::default()
    };
    let scan = |inner: Option<NodeProto>, output: &str| {
        node(
            "Scan",
            "",
            &["many"],
            &[output],
            vec![graph("body", bodied(inner)), int("num_scan_inputs", 1)],
        )
    };
    let nested = scan(Some(scan(Some(scan(None, "c")), "b")), "a");
    let many = floats("many", &[1_000, 1], vec![0.0; 1_000]);
    let last = node("Add", "", &["x", "x"], &["y"], vec![]);
    let refused = load(vec![nested, last], &[("x", &[1])], "y", vec![many], VERSION);
    assert!(
        matches!(refused, Err(LoadError::Limit { .. })),
        "{refused:?}"
    );
}

/// What depends on a sample's place in a batch is never joined: the indices that `MaxPool` gives count from the first
/// plane of the input, and a triangle has other columns in each row.
#[test]
fn a_place_in_a_batch_changes_no_outcome() {
    let pool = node(
        "MaxPool",
        "",
        &["x"],
        &["v", "i"],
        vec![ints("kernel_shape", &[2, 2])],
    );
    let shown = node("Cast", "", &["i"], &["y"], vec![int("to", 1)]);
    let cases: [(&str, Vec<NodeProto>, &[u32]); 3] = [
        ("MaxPool", vec![pool, shown], &[0, 1, 3, 3]),
        (
            "Trilu",
            vec![node("Trilu", "", &["x"], &["y"], vec![])],
            &[0, 4],
        ),
        (
            "EyeLike",
            vec![
                node("EyeLike", "", &["x"], &["e"], vec![]),
                node("Add", "", &["e", "x"], &["y"], vec![]),
            ],
            &[0, 4],
        ),
    ];
    for (what, nodes, dims) in cases {
        let model = load(nodes, &[("x", dims)], "y", vec![], VERSION).expect(what);
        let shape: Vec<u32> = dims.iter().map(|&d| d.max(1)).collect();
        let count: u32 = shape.iter().product();
        let bits = noise(count as usize).into_iter().map(f32::to_bits);
        let request = vec![Tensor::from_f32_bits("x", &shape, bits)];
        let mut executor = cpu();
        executor.prepare(&model).expect("it fits");
        let outcomes = executor
            .run(&model.hash(), &[request.clone(), request.clone(), request])
            .expect("it runs");
        assert_eq!(outcomes[0], outcomes[1], "{what}");
        assert_eq!(outcomes[0], outcomes[2], "{what}");
    }
}

#[test]
fn a_contraction_of_two_types_is_refused() {
    let cast = node("Cast", "", &["x"], &["i"], vec![int("to", 6)]);
    let einsum = node(
        "Einsum",
        "",
        &["x", "i"],
        &["y"],
        vec![text("equation", "ij,jk->ik")],
    );
    let refused = load(vec![cast, einsum], &[("x", &[2, 2])], "y", vec![], VERSION);
    assert!(
        matches!(refused, Err(LoadError::Invalid { .. })),
        "{refused:?}"
    );
}

/// Fuzzing came to an equation that names an axis of its output twice: the copy behind it left its buffer.
#[test]
fn an_axis_of_an_output_that_is_named_twice_is_refused() {
    let einsum = node(
        "Einsum",
        "",
        &["x", "y"],
        &["z"],
        vec![text("equation", "bij, bjk -> bbik")],
    );
    let inputs = [("x", &[5, 2, 3][..]), ("y", &[5, 3, 4][..])];
    let refused = load(vec![einsum], &inputs, "z", vec![], VERSION);
    let error = refused.expect_err("no such output").to_string();
    assert!(error.contains("axis 'b' of its output twice"), "{error}");
}

/// The encoding of tensors has one byte for the rank: fuzzing came to an output that had more.
#[test]
fn an_output_of_too_many_dimensions_is_refused() {
    let axes = integers("axes", &(0..300).collect::<Vec<_>>());
    let wide = node("Unsqueeze", "", &["x", "axes"], &["y"], vec![]);
    let refused = load(vec![wide], &[("x", &[1])], "y", vec![axes], VERSION);
    assert!(
        matches!(refused, Err(LoadError::Limit { .. })),
        "{refused:?}"
    );
}
