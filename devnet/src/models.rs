//! Models that a devnet starts with: two that are built in, and a folder of the user's.

use eyre::{WrapErr, bail, eyre};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use penstock_rules::model::ModelInfo;
use penstock_shaders::{Limits, Model};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Id and ONNX file of the models that every devnet has.
const BUILT_IN: &[(&str, &[u8])] = &[
    ("risk", include_bytes!("../models/risk.onnx")),
    ("forecast", include_bytes!("../models/forecast.onnx")),
];

/// A model that was read and checked.
#[derive(Clone, Debug)]
pub struct LoadedModel {
    /// Id that contracts use.
    pub cid: String,
    /// The ONNX file.
    pub bytes: alloy_primitives::Bytes,
    /// The model.
    pub model: Arc<Model>,
}

impl LoadedModel {
    /// Checks an ONNX file.
    ///
    /// # Errors
    /// Names the model and what is wrong with it.
    pub fn new(cid: &str, bytes: Vec<u8>) -> eyre::Result<Self> {
        let model = Model::load(&bytes, &Limits::default())
            .wrap_err_with(|| format!("model {cid} can't be used"))?;
        Ok(Self {
            cid: cid.to_owned(),
            bytes: bytes.into(),
            model,
        })
    }

    /// Reads and checks an ONNX file; without `cid` its id is the file's name without the ending.
    ///
    /// # Errors
    /// Names the file and what is wrong with it.
    pub fn read(file: &Path, cid: Option<&str>) -> eyre::Result<Self> {
        let bytes =
            std::fs::read(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
        let stem = file.file_stem().and_then(|s| s.to_str());
        let cid = cid.or(stem).ok_or_else(|| {
            eyre!(
                "the name of {} is no text: give an id with --cid",
                file.display()
            )
        })?;
        Self::new(cid, bytes).wrap_err_with(|| format!("in {}", file.display()))
    }

    /// What the registry holds of it.
    #[must_use]
    pub fn info(&self) -> ModelInfo {
        self.model.info(&self.cid)
    }
}

/// Loads the built-in models, and those of `folder`, with a progress bar on a terminal.
///
/// # Errors
/// Names the file that can't be used, or the id that two files have.
pub fn load(folder: Option<&Path>, quiet: bool) -> eyre::Result<Vec<LoadedModel>> {
    let files = folder.map_or_else(|| Ok(Vec::new()), onnx_files)?;
    let bar = ProgressBar::new((BUILT_IN.len() + files.len()) as u64);
    bar.set_draw_target(if quiet {
        ProgressDrawTarget::hidden()
    } else {
        ProgressDrawTarget::stderr()
    });
    bar.set_style(
        ProgressStyle::with_template("loading models {bar:30} {pos}/{len} {msg}")
            .wrap_err("progress bar")?,
    );
    let mut models = Vec::new();
    for (cid, bytes) in BUILT_IN {
        bar.set_message(*cid);
        models.push(LoadedModel::new(cid, bytes.to_vec())?);
        bar.inc(1);
    }
    for file in files {
        bar.set_message(file.display().to_string());
        models.push(LoadedModel::read(&file, None)?);
        bar.inc(1);
    }
    bar.finish_and_clear();
    let mut seen = BTreeSet::new();
    for model in &models {
        if !seen.insert(&model.cid) {
            bail!(
                "two models have the id {}: rename one of the files",
                model.cid
            );
        }
    }
    Ok(models)
}

/// Those that are not built in.
pub fn own(models: &[LoadedModel]) -> impl Iterator<Item = &LoadedModel> {
    let built_in = |cid: &str| BUILT_IN.iter().any(|(known, _)| *known == cid);
    models.iter().filter(move |model| !built_in(&model.cid))
}

/// The `.onnx` files of a folder, by name.
fn onnx_files(folder: &Path) -> eyre::Result<Vec<PathBuf>> {
    let entries = std::fs::read_dir(folder)
        .wrap_err_with(|| format!("can't read the models folder {}", folder.display()))?;
    let mut files = Vec::new();
    for entry in entries {
        let path = entry
            .wrap_err_with(|| format!("can't read the models folder {}", folder.display()))?
            .path();
        if path.extension().is_some_and(|e| e == "onnx") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_models_load() {
        let models = load(None, true).expect("built-in models");
        let ids: Vec<_> = models.iter().map(|m| m.cid.as_str()).collect();
        assert_eq!(ids, ["risk", "forecast"]);
        for model in &models {
            assert!(model.info().igas(1).0 > 0, "{} has a price", model.cid);
        }
    }

    #[test]
    fn a_bad_file_is_named() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("junk.onnx"), b"no model").expect("a file");
        let error = format!("{:?}", load(Some(dir.path()), true).expect_err("junk"));
        assert!(error.contains("junk.onnx"), "{error}");
        let error = format!(
            "{:?}",
            load(Some(Path::new("/nowhere")), true).expect_err("no folder")
        );
        assert!(error.contains("/nowhere"), "{error}");
    }

    #[test]
    fn two_models_of_one_id_are_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        std::fs::write(dir.path().join("risk.onnx"), BUILT_IN[1].1).expect("a file");
        let error = load(Some(dir.path()), true).expect_err("two of one id");
        assert!(error.to_string().contains("risk"), "{error}");
    }
}
