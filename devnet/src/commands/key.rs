//! `penstock key`: keys of producers and shards.

use crate::cli::KeyCommand;
use crate::config::Config;
use crate::keys;
use crate::testnet::kubernetes;

/// Makes one key or all, or shows one's address.
///
/// # Errors
/// Names the file.
pub fn run(command: &KeyCommand) -> eyre::Result<()> {
    let key = match command {
        KeyCommand::New { file } => keys::create(file)?,
        KeyCommand::Kubernetes { config, keep, out } => {
            let config = Config::resolve_file(config)?;
            kubernetes::write(&config, keep.as_deref(), out)?;
            println!("{} has the Secret {}", out.display(), kubernetes::SECRET);
            return Ok(());
        }
        KeyCommand::Show { file } => keys::read(file)?,
    };
    println!("{}", key.address());
    Ok(())
}
