//! The ONNX suite's cases, from a folder: `PENSTOCK_ONNX_CASES=…/onnx/backend/test/data/node`.
//! Each case is a folder with `model.onnx` and `test_data_set_*/{input,output}_*.pb`. Prints passed, failed and skipped by
//! reason; without the variable there is nothing to hold, and the small set that is checked in is run by `models.rs`.

use penstock_shaders::verify::{Tolerance, Verdict, case};
use penstock_shaders::{Limits, cpu, cpu_portable};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

fn parts(folder: &Path, prefix: &str) -> Vec<Vec<u8>> {
    (0..)
        .map(|i| folder.join(format!("{prefix}_{i}.pb")))
        .take_while(|path| path.exists())
        .map(|path| std::fs::read(path).expect("the file is readable"))
        .collect()
}

#[test]
fn no_case_of_the_onnx_suite_that_is_taken_gives_another_answer() {
    let Some(root) = std::env::var_os("PENSTOCK_ONNX_CASES").map(PathBuf::from) else {
        println!("PENSTOCK_ONNX_CASES is not set: no cases");
        return;
    };
    let mut executors = [cpu(), cpu_portable()];
    let (mut passed, mut failed) = (0, Vec::new());
    let mut skipped: BTreeMap<String, Vec<String>> = BTreeMap::new();
    let mut folders: Vec<PathBuf> = std::fs::read_dir(&root)
        .expect("the folder exists")
        .map(|entry| entry.expect("an entry").path())
        .collect();
    folders.sort();
    for folder in folders {
        let name = folder
            .file_name()
            .unwrap_or_default()
            .to_string_lossy()
            .into_owned();
        let Ok(model) = std::fs::read(folder.join("model.onnx")) else {
            continue;
        };
        let set = folder.join("test_data_set_0");
        let verdict = case(
            &model,
            &parts(&set, "input"),
            &parts(&set, "output"),
            &Limits::default(),
            Tolerance::default(),
            &mut executors,
        );
        match verdict {
            Verdict::Passed(_) => passed += 1,
            Verdict::Failed(why) => failed.push(format!("{name}: {why}")),
            Verdict::Skipped(why) => skipped.entry(why).or_default().push(name),
        }
    }
    println!("passed {passed}, failed {}", failed.len());
    for line in &failed {
        println!("  failed {line}");
    }
    for (why, names) in &skipped {
        println!("  skipped {:4} {why} ({})", names.len(), names[0]);
    }
    assert!(failed.is_empty(), "{} cases failed", failed.len());
}
