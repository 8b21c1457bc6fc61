//! Models of many kinds against ONNX Runtime: those that are checked in, and real ones out of wheels, which
//! `PENSTOCK_REAL_MODELS` names (`tests/run.sh` makes them). The largest output of each row stays the largest.

use penstock_shaders::verify::{ArgMax, Case, Tolerance, Verdict, case};
use penstock_shaders::{Executor, Limits, Mode, cpu, cpu_portable, gpu, survey};
use std::path::{Path, PathBuf};

/// How far single precision may be apart after some dozen layers.
const TOLERANCE: Tolerance = Tolerance {
    relative: 1e-4,
    absolute: 1e-5,
    arg_max: ArgMax::Kept,
};

/// Runs every case below `root`; tells how many.
fn check(root: &Path, executors: &mut [Box<dyn Executor>]) -> usize {
    let folders = Case::folders(root).expect("readable");
    for folder in &folders {
        let found = Case::read(folder).expect("a case");
        let start = std::time::Instant::now();
        let verdict = case(&found, &Limits::default(), TOLERANCE, executors);
        println!("{} {:?} {:?}", folder.display(), verdict, start.elapsed());
        assert!(
            matches!(verdict, Verdict::Passed(_)),
            "{}",
            folder.display()
        );
    }
    folders.len()
}

#[test]
fn models_that_are_checked_in_answer_as_onnx_runtime_does() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    assert!(check(&root, &mut [cpu(), cpu_portable()]) >= 14);
}

/// Integers are contracted as they are, and sixteen bits are close to twenty-four.
#[test]
fn other_modes_answer_as_onnx_runtime_does_to_their_precision() {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
    for (name, mode, relative) in [
        ("qdq", Mode::Int8, 1e-4),
        ("qdq", Mode::Exact16, 3e-3),
        ("cnn", Mode::Exact16, 3e-3),
        ("transformer", Mode::Exact16, 3e-3),
        ("sklearn_logistic", Mode::Exact16, 3e-3),
    ] {
        let mut found = Case::read(&root.join(name)).expect("a case");
        found.model = survey::with_mode(&found.model, mode);
        let tolerance = Tolerance {
            relative,
            absolute: relative,
            arg_max: ArgMax::Kept,
        };
        let verdict = case(
            &found,
            &Limits::default(),
            tolerance,
            &mut [cpu(), cpu_portable()],
        );
        assert!(
            matches!(verdict, Verdict::Passed(_)),
            "{name} {mode:?}: {verdict:?}"
        );
    }
}

#[test]
fn real_models_answer_as_onnx_runtime_does() {
    let Some(root) = std::env::var_os("PENSTOCK_REAL_MODELS").map(PathBuf::from) else {
        println!("PENSTOCK_REAL_MODELS is not set: no models");
        return;
    };
    let mut executors = vec![cpu()];
    // A software driver takes minutes for them.
    if std::env::var_os("PENSTOCK_ONNX_ALL").is_some_and(|v| v == "1") {
        executors.push(gpu(None).expect("a vulkan driver"));
    }
    assert!(check(&root, &mut executors) >= 4);
}
