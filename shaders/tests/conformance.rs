//! ONNX's own cases, from the wheel `onnx==1.16.2`: `PENSTOCK_ONNX_DATA=…/onnx/backend/test/data` (`tests/run.sh` sets
//! it). Each case is a folder with `model.onnx` and `test_data_set_0/{input,output}_*.pb`; every backend must give the
//! expected outputs at the suite's own tolerances, and all of them the same bits.
//!
//! Without the variable there is nothing to hold: the small models that are checked in are run by `models.rs`.
//! The GPU takes every [`GPU_STRIDE`]th node case, and VGG-19 (144 million weights) is left out; with `PENSTOCK_ONNX_ALL=1`
//! neither is so, which takes minutes on a software driver.

use penstock_shaders::verify::{Case, Tolerance, Verdict, case};
use penstock_shaders::{Executor, Limits, cpu, cpu_portable, gpu};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Node cases that must pass: all that the engine takes. It has promised 897, the count of its tiers.
const NODE_CASES_MIN: usize = 1041;

/// One node case in so many runs on the GPU, too.
const GPU_STRIDE: usize = 4;

/// Cases whose expected output is wrong, and why.
const WRONG: [(&str, &str); 7] = [
    (
        "test_averagepool_3d_dilations_large_count_include_pad_is_1_ceil_mode_is_True",
        "the suite divides by positions behind the padding; ONNX Runtime gives the engine's answer",
    ),
    ("test_qlinearmatmul_2D_int8_float32", OVERFLOW),
    ("test_qlinearmatmul_3D_int8_float32", OVERFLOW),
    ("test_qlinearmatmul_2D_int8_float16", OVERFLOW),
    ("test_qlinearmatmul_3D_int8_float16", OVERFLOW),
    ("test_resize_downsample_scales_cubic_align_corners", CORNERS),
    (
        "test_resize_downsample_scales_linear_align_corners",
        CORNERS,
    ),
];
const OVERFLOW: &str = "the suite's 8-bit result wraps where it should saturate; ONNX Runtime gives the engine's answer";
const CORNERS: &str = "the suite aligns corners with an output of 2.4 elements; ONNX Runtime gives the engine's answer";

fn data() -> Option<PathBuf> {
    let root = std::env::var_os("PENSTOCK_ONNX_DATA").map(PathBuf::from);
    if root.is_none() {
        println!("PENSTOCK_ONNX_DATA is not set: no cases");
    }
    root
}

fn all_of_it() -> bool {
    std::env::var_os("PENSTOCK_ONNX_ALL").is_some_and(|v| v == "1")
}

fn required_gpu() -> Option<Box<dyn Executor>> {
    let required = std::env::var_os("PENSTOCK_REQUIRE_GPU").is_some_and(|v| v == "1");
    match gpu(None) {
        Ok(gpu) => Some(gpu),
        Err(error) => {
            assert!(!required, "{error}");
            println!("no gpu: {error}");
            None
        }
    }
}

#[derive(Default)]
struct Tally {
    passed: usize,
    not_finite: usize,
    on_gpu: usize,
    failed: Vec<String>,
    skipped: BTreeMap<String, Vec<String>>,
}

impl Tally {
    fn add(&mut self, name: &str, verdict: Verdict) {
        match verdict {
            Verdict::Passed(_) => self.passed += 1,
            Verdict::NotFinite => {
                self.passed += 1;
                self.not_finite += 1;
            }
            Verdict::Failed(why) => self.failed.push(format!("{name}: {why}")),
            Verdict::Skipped(why) => self.skipped.entry(why).or_default().push(name.into()),
        }
    }

    fn print(&self, suite: &str) {
        let skipped: usize = self.skipped.values().map(Vec::len).sum();
        println!(
            "{suite}: passed {}, of them {} on the gpu too and {} by refusing what is not finite, \
             failed {}, skipped {skipped}",
            self.passed,
            self.on_gpu,
            self.not_finite,
            self.failed.len()
        );
        for line in &self.failed {
            println!("  failed {line}");
        }
        for (why, names) in &self.skipped {
            println!("  skipped {:4} {why} ({})", names.len(), names[0]);
        }
    }
}

fn run(root: &Path, suite: &str, stride: usize) -> Tally {
    let mut executors = vec![cpu(), cpu_portable()];
    let mut with_gpu = vec![cpu()];
    with_gpu.extend(required_gpu());
    let mut tally = Tally::default();
    for (number, folder) in Case::folders(&root.join(suite))
        .expect("readable")
        .iter()
        .enumerate()
    {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        if let Some((_, why)) = WRONG.iter().find(|(wrong, _)| *wrong == name) {
            tally.add(&name, Verdict::Skipped((*why).into()));
            continue;
        }
        let found = Case::read(folder).expect("a case");
        let on = |executors: &mut [Box<dyn Executor>]| {
            case(&found, &Limits::default(), Tolerance::default(), executors)
        };
        let mut verdict = on(&mut executors);
        let passed = matches!(verdict, Verdict::Passed(_) | Verdict::NotFinite);
        if passed && with_gpu.len() > 1 && number % stride == 0 {
            verdict = on(&mut with_gpu);
            tally.on_gpu += 1;
        }
        tally.add(&name, verdict);
    }
    tally.print(suite);
    tally
}

#[test]
fn node_cases_pass_on_every_backend_with_the_same_bits() {
    let Some(root) = data() else { return };
    let tally = run(&root, "node", if all_of_it() { 1 } else { GPU_STRIDE });
    assert!(
        tally.failed.is_empty(),
        "{} cases failed",
        tally.failed.len()
    );
    assert!(
        tally.passed >= NODE_CASES_MIN,
        "{} cases passed",
        tally.passed
    );
}

#[test]
fn all_cases_from_pytorch_pass() {
    let Some(root) = data() else { return };
    for suite in ["pytorch-operator", "pytorch-converted"] {
        let tally = run(&root, suite, 1);
        let skipped: usize = tally.skipped.values().map(Vec::len).sum();
        assert_eq!((tally.failed.len(), skipped), (0, 0), "{suite}");
    }
}

/// The light models (AlexNet to VGG-19, with constant weights) answer as the suite expects, on the input that its runner
/// makes: `0 / n, 1 / n, …`.
#[test]
fn light_models_pass() {
    let Some(root) = data() else { return };
    // VGG-19 has 144 million weights.
    let limits = Limits {
        elements_max: 1 << 28,
        weight_words_max: 1 << 29,
        arena_words_max: 1 << 28,
        memory_words_max: 1 << 31,
        ..Limits::default()
    };
    let folder = root.join("light");
    let mut files: Vec<PathBuf> = std::fs::read_dir(&folder)
        .expect("the folder exists")
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|e| e == "onnx"))
        .collect();
    files.sort();
    assert_eq!(files.len(), 9);
    files.retain(|file| all_of_it() || !file.ends_with("light_vgg19.onnx"));
    for file in files {
        let model = std::fs::read(&file).expect("readable");
        let output = file.with_file_name(format!(
            "{}_output_0.pb",
            file.file_stem().unwrap_or_default().to_string_lossy()
        ));
        let found = Case::of_ramp(model, std::fs::read(output).expect("readable"), &limits)
            .expect("one input of floats");
        let start = std::time::Instant::now();
        let verdict = case(&found, &limits, Tolerance::default(), &mut [cpu()]);
        println!("{} {verdict:?} {:?}", file.display(), start.elapsed());
        assert!(matches!(verdict, Verdict::Passed(_)), "{}", file.display());
    }
}
