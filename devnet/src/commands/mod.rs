//! What each command does.

mod bench;
mod chain;
mod demo;
mod doctor;
mod explore;
mod init;
mod install;
mod key;
pub mod log;
mod model;
mod node;
mod record;
mod replay;
mod shard;
mod sim;
mod statetest;
mod status;
mod up;

use crate::cli::{Cli, Command};
use crate::config::Config;
use eyre::WrapErr;
use std::io::IsTerminal;
use std::path::Path;
use tracing_subscriber::EnvFilter;

/// Runs what the command line asks for.
///
/// # Errors
/// For people to read: what went wrong, and with what.
pub fn run(cli: Cli) -> eyre::Result<()> {
    start_logs(&cli.log, cli.log_json)?;
    match cli.command {
        Command::Up(args) => up::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Model(command) => model::run(command),
        Command::Node(args) => node::run(&args),
        Command::Shard(args) => shard::run(&args),
        Command::Status(args) => runtime()?.block_on(status::run(&args)),
        Command::Drain(args) => runtime()?.block_on(status::drain(&args)),
        Command::Key(command) => key::run(&command),
        Command::Init(args) => init::run(&args),
        Command::Log(command) => log::run(command),
        Command::InstallNats => install::run(),
        Command::Replay(args) => replay::run(&args),
        Command::Record(args) => runtime()?.block_on(record::run(&args)),
        Command::Statetest(args) => statetest::run(&args),
        Command::Export(args) => chain::export(&args),
        Command::Import(args) => chain::import(&args),
        Command::Config(args) => {
            let config = Config::resolve(&args)?;
            print!("{}", toml::to_string(&config)?);
            Ok(())
        }
        Command::Doctor => doctor::run(),
        Command::Sim(command) => sim::run(command),
    }
}

/// Runs actors until `run` ends. A panic anywhere ends the process: actors hold no state that the log and the store
/// don't have.
fn run_actors<R>(run: impl Future<Output = eyre::Result<R>>) -> eyre::Result<R> {
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        std::process::abort();
    }));
    let system = actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("the runtime starts")
    });
    system.block_on(run)
}

/// Waits for Ctrl-C or SIGTERM.
async fn stop_signal() -> eyre::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};
    let mut term = signal(SignalKind::terminate()).wrap_err("can't wait for signals")?;
    tokio::select! {
        result = tokio::signal::ctrl_c() => result.wrap_err("can't wait for signals"),
        _ = term.recv() => Ok(()),
    }
}

/// Tells scripts where a process listens, if they asked.
fn write_ready(file: Option<&Path>, lines: &str) -> eyre::Result<()> {
    let Some(file) = file else { return Ok(()) };
    std::fs::write(file, lines).wrap_err_with(|| format!("can't write {}", file.display()))
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
