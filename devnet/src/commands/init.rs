//! `penstock init`: what several machines need.

use crate::cli::InitArgs;
use crate::testnet;

/// Writes the folder.
///
/// # Errors
/// Names what is wrong.
pub fn run(args: &InitArgs) -> eyre::Result<()> {
    testnet::write(args)?;
    println!(
        "{} has a folder for each of {}; its README.md says what goes where",
        args.out.display(),
        args.hosts.join(", ")
    );
    Ok(())
}
