//! `penstock statetest`: state tests in the format of ethereum/tests.

use crate::cli::StateTestArgs;
use eyre::{WrapErr, bail};
use penstock_evm::statetest::{Case, Verdict, run_file};
use std::path::{Path, PathBuf};

/// Runs all files of a folder, and says which cases fail.
///
/// # Errors
/// Where a file is none of state tests, or a case fails.
pub fn run(args: &StateTestArgs) -> eyre::Result<()> {
    let mut files = Vec::new();
    find(&args.path, &mut files)?;
    files.sort();
    let (mut passed, mut skipped, mut failed) = (0u64, 0u64, 0u64);
    for file in &files {
        let json =
            std::fs::read(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
        let cases = run_file(&json)
            .wrap_err_with(|| format!("{} is no file of state tests", file.display()))?;
        for case in cases {
            match &case.verdict {
                Verdict::Passed => passed += 1,
                Verdict::Skipped => skipped += 1,
                Verdict::Failed(why) => {
                    failed += 1;
                    println!("FAILED  {} {}: {why}", file.display(), name(&case));
                }
            }
        }
    }
    println!(
        "{} files: {passed} passed, {failed} failed, {skipped} skipped",
        files.len()
    );
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    if passed == 0 {
        bail!("{} has no case that could be run", args.path.display());
    }
    Ok(())
}

fn name(case: &Case) -> String {
    let [data, gas, value] = case.indexes;
    format!(
        "{} {} data {data} gas {gas} value {value}",
        case.name, case.fork
    )
}

/// All JSON files below a folder, or the file itself.
fn find(path: &Path, files: &mut Vec<PathBuf>) -> eyre::Result<()> {
    if path.is_file() {
        files.push(path.to_path_buf());
        return Ok(());
    }
    let entries =
        std::fs::read_dir(path).wrap_err_with(|| format!("can't read {}", path.display()))?;
    for entry in entries {
        let entry = entry?.path();
        if entry.is_dir() || entry.extension().is_some_and(|ending| ending == "json") {
            find(&entry, files)?;
        }
    }
    Ok(())
}
