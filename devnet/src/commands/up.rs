//! `penstock up`: the whole devnet in one process.

use crate::banner;
use crate::cli::UpArgs;
use crate::config::Config;
use crate::node::Node;
use eyre::WrapErr;

/// Starts the devnet and runs it until a signal comes.
///
/// # Errors
/// Names what could not be started.
pub fn run(args: &UpArgs) -> eyre::Result<()> {
    // A panic anywhere ends the process: actors hold no state that the log and the store don't have.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        default_hook(info);
        std::process::abort();
    }));
    let config = Config::resolve(args)?;
    let quiet = args.quiet;
    let ready_file = args.ready_file.clone();
    let system = actix::System::with_tokio_rt(|| {
        tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .expect("the runtime starts")
    });
    system.block_on(async move {
        let node = Node::start(config, quiet).await?;
        if !quiet {
            print!("{}", banner::banner(&node));
        }
        if let Some(file) = &ready_file {
            std::fs::write(file, format!("{}\n", node.rpc_addr()))
                .wrap_err_with(|| format!("can't write {}", file.display()))?;
        }
        stop_signal().await?;
        if !quiet {
            eprintln!("stopping");
        }
        node.stop().await;
        Ok(())
    })
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
