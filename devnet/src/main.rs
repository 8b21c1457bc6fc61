//! `penstock`: an EVM devnet whose contracts call machine-learning models and get the answer in the same transaction.

use clap::Parser;
use penstock::cli::Cli;
use penstock::member::Halted;
use std::process::ExitCode;

/// Exit code of a process whose chain and block log are not of one piece: starting it again mends nothing, and the
/// systemd units of `penstock init` do not.
const EXIT_HALTED: u8 = 3;

fn main() -> ExitCode {
    match penstock::commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain of causes, on one line; no backtrace, which says nothing to a user.
            eprintln!("error: {error:#}");
            match error.downcast_ref::<Halted>() {
                Some(_) => ExitCode::from(EXIT_HALTED),
                None => ExitCode::FAILURE,
            }
        }
    }
}
