//! What each command does.

mod doctor;
mod model;
mod replay;
mod up;

use crate::cli::{Cli, Command};
use crate::config::Config;
use eyre::WrapErr;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// Runs what the command line asks for.
///
/// # Errors
/// For people to read: what went wrong, and with what.
pub fn run(cli: Cli) -> eyre::Result<()> {
    start_logs(&cli.log, cli.log_json)?;
    match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Demo(_) => eyre::bail!("unsupported: the demo is not in this build"),
        Command::Model(command) => model::run(command),
        Command::Replay(args) => replay::run(&args),
        Command::Config(args) => {
            let config = Config::resolve(&args)?;
            print!("{}", toml::to_string(&config)?);
            Ok(())
        }
        Command::Doctor => doctor::run(),
    }
}

fn runtime() -> eyre::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .wrap_err("can't start the runtime")
}

fn start_logs(filter: &str, json: bool) -> eyre::Result<()> {
    let filter =
        EnvFilter::try_new(filter).wrap_err_with(|| format!("--log {filter:?} is no filter"))?;
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    if json {
        builder.json().init();
    } else {
        builder.with_ansi(std::io::stderr().is_terminal()).init();
    }
    Ok(())
}
