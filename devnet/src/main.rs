//! `penstock`: an EVM devnet whose contracts call machine-learning models and get the answer in the same transaction.

use clap::Parser;
use penstock::cli::Cli;
use std::process::ExitCode;

fn main() -> ExitCode {
    match penstock::commands::run(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The whole chain of causes, on one line; no backtrace, which says nothing to a user.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
