//! `penstock model`: add, list, inspect, set a mode, run, verify, calibrate; `bench` stands beside.

use super::bench::Format;
use super::explore;
use crate::cli::{ModelCommand, NumericMode, RunBackend, RunMode};
use crate::model_input;
use crate::models::LoadedModel;
use alloy_primitives::B256;
use eyre::{WrapErr, bail};
use penstock_rules::model::Port;
use penstock_rules::request::Outcome;
use penstock_rules::tensor::{self, Tensor};
use penstock_shaders::verify::{ArgMax, Case, Tolerance, Verdict};
use penstock_shaders::{Executor, Limits, Mode, Model, cpu, cpu_portable, gpu, survey};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Runs a `model` command.
///
/// # Errors
/// Names the model, and what is wrong.
pub fn run(command: ModelCommand) -> eyre::Result<()> {
    match command {
        ModelCommand::Add { file, cid, rpc_url } => {
            let model = LoadedModel::read(&file, cid.as_deref())?;
            super::runtime()?.block_on(crate::registry::add(&rpc_url, &model))
        }
        ModelCommand::List { rpc_url } => {
            super::runtime()?.block_on(crate::registry::list(&rpc_url))
        }
        ModelCommand::Inspect { file } => inspect(&file),
        ModelCommand::SetMode { file, mode, output } => set_mode(&file, mode, &output),
        ModelCommand::Verify {
            dir,
            backend,
            rtol,
            atol,
        } => {
            let tolerance = Tolerance {
                relative: rtol,
                absolute: atol,
                arg_max: ArgMax::Any,
            };
            verify(&dir, tolerance, &mut executors(backend)?)
        }
        ModelCommand::Calibrate { files } => calibrate(&files),
        ModelCommand::Run {
            file,
            input,
            backend,
            mode,
        } => run_model(&file, &input, backend, mode),
        ModelCommand::Bench {
            file,
            backend,
            batch,
            budget,
            json,
            mode,
        } => {
            let format = if json { Format::Json } else { Format::Table };
            let loaded = read_in(&file, mode)?;
            let model = match mode {
                Some(RunMode::Fast) => Model::load_fast(&loaded.bytes, &Limits::default())?,
                _ => loaded.model,
            };
            super::bench::run(
                (&loaded.cid, &model),
                backend,
                &batch,
                Duration::from_millis(budget),
                format,
            )
        }
    }
}

fn ports(title: &str, ports: &[Port]) {
    for port in ports {
        let shape: Vec<String> = port
            .shape
            .iter()
            .map(|d| if *d == 0 { "N".into() } else { d.to_string() })
            .collect();
        println!(
            "{title:<9} {}: {:?}[{}]",
            port.name,
            port.element,
            shape.join(", ")
        );
    }
}

/// The model in `file`, in an exact mode: the file's own, unless `mode` is one.
fn read_in(file: &Path, mode: Option<RunMode>) -> eyre::Result<LoadedModel> {
    let loaded = LoadedModel::read(file, None)?;
    let mode = match mode {
        None | Some(RunMode::Fast) => return Ok(loaded),
        Some(RunMode::Exact24) => Mode::Exact24,
        Some(RunMode::Exact16) => Mode::Exact16,
        Some(RunMode::Int8) => Mode::Int8,
    };
    LoadedModel::new(&loaded.cid, survey::with_mode(&loaded.bytes, mode))
}

/// The file's bytes with another mode, in another file.
fn set_mode(file: &Path, mode: NumericMode, output: &Path) -> eyre::Result<()> {
    let bytes = std::fs::read(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
    let mode = match mode {
        NumericMode::Exact24 => Mode::Exact24,
        NumericMode::Exact16 => Mode::Exact16,
        NumericMode::Int8 => Mode::Int8,
    };
    let changed = survey::with_mode(&bytes, mode);
    // It must still be a model before anybody relies on it.
    let model = LoadedModel::new("copy", changed.clone())?;
    std::fs::write(output, changed)
        .wrap_err_with(|| format!("can't write {}", output.display()))?;
    println!("mode      {}", mode.name());
    println!("hash      {}", model.info().hash);
    Ok(())
}

/// Prints a file's operators, those that are missing marked.
fn operators(file: &Path) -> eyre::Result<()> {
    let bytes = std::fs::read(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
    for operator in survey::operators(&bytes, &Limits::default())? {
        let domain = match operator.domain.as_str() {
            "" => String::new(),
            domain => format!("{domain}."),
        };
        let mark = if operator.known { "" } else { "  UNSUPPORTED" };
        println!(
            "operator  {:>5} {domain}{}{mark}",
            operator.count, operator.name
        );
    }
    Ok(())
}

fn inspect(file: &Path) -> eyre::Result<()> {
    operators(file)?;
    let loaded = LoadedModel::read(file, None)?;
    let info = loaded.info();
    println!("model     {}", info.cid);
    println!("hash      {}", info.hash);
    println!("file      {} bytes", loaded.bytes.len());
    ports("input", &info.signature.inputs);
    ports("output", &info.signature.outputs);
    println!(
        "cost      {} + {} per unit",
        info.igas_base, info.igas_per_unit
    );
    println!("batch     up to {}", loaded.model.batch_max());
    println!("mode      {}", loaded.model.mode().name());
    if let Some(report) = loaded.model.report() {
        println!(
            "memory    {} bytes of weights, up to {} more where they are packed, {} bytes of work at batch 1",
            4 * report.memory.weights,
            4 * report.memory.packed,
            4 * report.memory.arena
        );
        println!("products  {} at batch 1", report.macs);
        for (kernel, count) in &report.kernels {
            println!("kernel    {count:>5} {kernel}");
        }
    }
    Ok(())
}

/// The executors that are asked for; `all` are the processor's forms and the GPU.
pub(super) fn executors(backend: RunBackend) -> eyre::Result<Vec<Box<dyn Executor>>> {
    let mut executors: Vec<Box<dyn Executor>> = Vec::new();
    if backend != RunBackend::Gpu {
        executors.push(cpu());
    }
    if backend == RunBackend::All {
        executors.push(cpu_portable());
    }
    if backend != RunBackend::Cpu {
        executors.push(gpu(None).wrap_err("no GPU and no software Vulkan driver can be used")?);
    }
    Ok(executors)
}

/// Runs the cases below `dir`.
fn verify(
    dir: &Path,
    tolerance: Tolerance,
    executors: &mut [Box<dyn Executor>],
) -> eyre::Result<()> {
    let folders =
        Case::folders(dir).wrap_err_with(|| format!("can't read the folder {}", dir.display()))?;
    if folders.is_empty() {
        bail!(
            "there is no model.onnx in {} or one level below",
            dir.display()
        );
    }
    let (mut passed, mut failed) = (0, 0);
    let mut skipped: BTreeMap<String, usize> = BTreeMap::new();
    for folder in folders {
        let case = Case::read(&folder)
            .wrap_err_with(|| format!("can't read the case {}", folder.display()))?;
        match penstock_shaders::verify::case(&case, &Limits::default(), tolerance, executors) {
            Verdict::Passed(_) | Verdict::NotFinite => passed += 1,
            Verdict::Failed(why) => {
                failed += 1;
                println!("failed    {}: {why}", folder.display());
            }
            Verdict::Skipped(why) => *skipped.entry(why).or_default() += 1,
        }
    }
    for (why, count) in &skipped {
        println!("skipped   {count:>5} {why}");
    }
    let skipped: usize = skipped.values().sum();
    println!("{passed} passed, {failed} failed, {skipped} skipped");
    if failed > 0 {
        bail!("{failed} cases failed");
    }
    Ok(())
}

/// Runs of a model while it is measured: the least time counts, so that what else the machine does has no say.
const CALIBRATION_RUNS: usize = 7;

/// Measures each model at batch 1 against its price.
fn calibrate(files: &[PathBuf]) -> eyre::Result<()> {
    let mut rows = Vec::new();
    for file in files {
        let loaded = LoadedModel::read(file, None)?;
        let info = loaded.info();
        let tensors = model_input::read(&info.signature.inputs, &[])?;
        let shapes = tensors.iter().map(|t| t.shape.as_slice());
        let igas = info.igas(info.signature.units(shapes)).0;
        let mut executor = cpu();
        executor.prepare(&loaded.model)?;
        let mut least = f64::INFINITY;
        for _ in 0..CALIBRATION_RUNS {
            let start = std::time::Instant::now();
            executor.run(&info.hash, std::slice::from_ref(&tensors))?;
            least = least.min(start.elapsed().as_secs_f64() * 1e6);
        }
        rows.push((info.cid, igas, least));
    }
    // A price is right up to one factor, which is the machine's: what matters is that no model costs much more than
    // another for what it pays.
    for (name, igas, micros) in rows {
        println!(
            "{name:<32} {igas:>10} igas {micros:>12.1} us {:>8.3} us per igas",
            micros / igas as f64
        );
    }
    Ok(())
}

fn run_model(
    file: &Path,
    inputs: &[String],
    backend: RunBackend,
    mode: Option<RunMode>,
) -> eyre::Result<()> {
    let loaded = read_in(file, mode)?;
    let tensors = model_input::read(&loaded.info().signature.inputs, inputs)?;
    if mode == Some(RunMode::Fast) {
        return explore::run(&loaded, &tensors, executors(backend)?);
    }
    compare(&loaded, &tensors, executors(backend)?)
}

/// Runs one request on each of `executors`, and prints what came out and the hash of each.
///
/// # Errors
/// Where an executor fails, or gives another outcome than the first.
fn compare(
    loaded: &LoadedModel,
    tensors: &[Tensor],
    executors: Vec<Box<dyn Executor>>,
) -> eyre::Result<()> {
    let mut first: Option<(B256, String)> = None;
    let mut differ = Vec::new();
    for mut executor in executors {
        let name = executor.name();
        let outcome = explore::outcome(&mut *executor, &loaded.model, tensors)?;
        let hash = outcome.hash();
        match &first {
            None => print_outcome(&outcome)?,
            Some((expect, _)) if *expect != hash => differ.push(name.clone()),
            Some(_) => {}
        }
        println!("outcome   {hash} ({name})");
        first.get_or_insert((hash, name));
    }
    match first {
        Some((_, name)) if !differ.is_empty() => {
            bail!("backends differ: {} from {name}", differ.join(", "))
        }
        _ => Ok(()),
    }
}

pub(super) fn print_outcome(outcome: &Outcome) -> eyre::Result<()> {
    match outcome {
        Outcome::Failed(error) => println!("failed    {error:?}"),
        Outcome::Output(bytes) => {
            for tensor in tensor::decode(bytes)? {
                println!(
                    "output    {} {:?} {}",
                    tensor.name,
                    tensor.shape,
                    model_input::show(&tensor)?
                );
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use penstock_rules::ids::ModelHash;
    use penstock_shaders::{EngineError, PrepareError};
    use std::sync::Arc;

    /// A backend with one wrong bit in every answer.
    struct Wrong(Box<dyn Executor>);

    impl Executor for Wrong {
        fn name(&self) -> String {
            "wrong".into()
        }

        fn prepare(&mut self, model: &Arc<Model>) -> Result<(), PrepareError> {
            self.0.prepare(model)
        }

        fn run(
            &mut self,
            model: &ModelHash,
            inputs: &[Vec<Tensor>],
        ) -> Result<Vec<Outcome>, EngineError> {
            let mut outcomes = self.0.run(model, inputs)?;
            for outcome in &mut outcomes {
                if let Outcome::Output(bytes) = outcome {
                    let mut wrong = bytes.to_vec();
                    *wrong.last_mut().expect("an output has bytes") ^= 1;
                    *bytes = wrong.into();
                }
            }
            Ok(outcomes)
        }
    }

    fn risk() -> (LoadedModel, Vec<Tensor>) {
        let file = include_bytes!("../../models/risk.onnx").to_vec();
        let loaded = LoadedModel::new("risk", file).expect("it loads");
        let tensors = model_input::read(&loaded.info().signature.inputs, &[]).expect("zeros");
        (loaded, tensors)
    }

    #[test]
    fn backends_that_agree_are_fine_and_one_that_differs_is_named() {
        let (loaded, tensors) = risk();
        let agree = vec![cpu(), cpu_portable()];
        compare(&loaded, &tensors, agree).expect("the same bits");
        let differ: Vec<Box<dyn Executor>> = vec![cpu(), Box::new(Wrong(cpu())), cpu_portable()];
        let error = compare(&loaded, &tensors, differ).expect_err("a wrong bit");
        let text = error.to_string();
        assert!(text.contains("differ: wrong from cpu"), "{text}");
    }
    #[test]
    fn native_floats_are_near_and_a_backend_that_is_far_is_named() {
        let (loaded, tensors) = risk();
        explore::run(&loaded, &tensors, vec![cpu(), cpu_portable()]).expect("near");
        let far: Vec<Box<dyn Executor>> = vec![cpu(), Box::new(Wrong(cpu()))];
        let error = explore::run(&loaded, &tensors, far).expect_err("another exponent");
        let text = error.to_string();
        assert!(text.contains("exact answer: wrong: "), "{text}");
    }
}
