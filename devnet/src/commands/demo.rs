//! `penstock demo`: what contracts can do with models, on a running devnet.

use crate::cli::DemoArgs;
use crate::demo;

/// Plays the demo and prints what happened.
///
/// # Errors
/// Names what the devnet refused, or which transaction did not do what it should.
pub fn run(args: &DemoArgs) -> eyre::Result<()> {
    let play = demo::play(&args.rpc_url, args.transactions);
    let report = super::runtime()?.block_on(play)?;
    if args.json {
        println!("{}", serde_json::to_string_pretty(&report)?);
    } else {
        println!("{report}");
    }
    Ok(())
}
