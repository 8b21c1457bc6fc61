//! `penstock model`: add, list, inspect, run.

use crate::cli::{ModelCommand, RunBackend};
use crate::model_input;
use crate::models::LoadedModel;
use eyre::{WrapErr, bail, eyre};
use penstock_rules::model::Port;
use penstock_rules::request::Outcome;
use penstock_rules::tensor;
use penstock_shaders::{Executor, cpu, gpu};
use std::path::Path;

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
        ModelCommand::Run {
            file,
            input,
            backend,
        } => run_model(&file, &input, backend),
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

fn inspect(file: &Path) -> eyre::Result<()> {
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
    Ok(())
}

fn run_model(file: &Path, inputs: &[String], backend: RunBackend) -> eyre::Result<()> {
    let loaded = LoadedModel::read(file, None)?;
    let tensors = model_input::read(&loaded.info().signature.inputs, inputs)?;
    let mut executors: Vec<Box<dyn Executor>> = Vec::new();
    if backend != RunBackend::Gpu {
        executors.push(cpu());
    }
    if backend != RunBackend::Cpu {
        executors.push(gpu(None).wrap_err("no GPU and no software Vulkan driver can be used")?);
    }
    let mut hashes = Vec::new();
    for mut executor in executors {
        let name = executor.name();
        executor
            .prepare(&loaded.model)
            .wrap_err_with(|| format!("{name} can't hold the model"))?;
        let outcomes = executor
            .run(&loaded.model.hash(), std::slice::from_ref(&tensors))
            .wrap_err_with(|| format!("{name} failed"))?;
        let outcome = outcomes
            .first()
            .ok_or_else(|| eyre!("{name} gave no outcome"))?;
        if hashes.is_empty() {
            print_outcome(outcome)?;
        }
        println!("outcome   {} ({name})", outcome.hash());
        hashes.push(outcome.hash());
    }
    if hashes.windows(2).any(|pair| pair[0] != pair[1]) {
        bail!("backends differ");
    }
    Ok(())
}

fn print_outcome(outcome: &Outcome) -> eyre::Result<()> {
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
