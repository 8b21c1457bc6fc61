//! `penstock key`: keys of producers and shards.

use crate::cli::KeyCommand;
use crate::keys;

/// Makes a key, or shows one's address.
///
/// # Errors
/// Names the file.
pub fn run(command: &KeyCommand) -> eyre::Result<()> {
    let key = match command {
        KeyCommand::New { file } => keys::create(file)?,
        KeyCommand::Show { file } => keys::read(file)?,
    };
    println!("{}", key.address());
    Ok(())
}
