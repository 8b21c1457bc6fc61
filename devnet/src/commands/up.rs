//! `penstock up`: the whole devnet in one process.

use crate::banner;
use crate::cli::UpArgs;
use crate::config::Config;
use crate::member::Halted;
use crate::node::Node;

/// Starts the devnet and runs it until a signal comes.
///
/// # Errors
/// Names what could not be started.
pub fn run(args: &UpArgs) -> eyre::Result<()> {
    let config = Config::resolve(args)?;
    let quiet = args.quiet;
    super::run_actors(async move {
        let mut node = Node::start(config, quiet).await?;
        if !quiet {
            print!("{}", banner::banner(&node));
        }
        let ready = format!("{}\n", node.rpc_addr());
        super::write_ready(args.ready_file.as_deref(), &ready)?;
        let halt = node.halted();
        let halted = tokio::select! {
            result = super::stop_signal() => {
                result?;
                None
            }
            report = halt => Some(report),
            () = node.watch() => None,
        };
        if !quiet {
            eprintln!("stopping");
        }
        node.stop().await;
        match halted {
            Some(report) => Err(Halted(report).into()),
            None => Ok(()),
        }
    })
}
