//! `penstock replay`: every block again, from log and witness alone; or every decision of the scheduler.

use crate::base::open_store;
use crate::cli::ReplayArgs;
use crate::config::Config;
use alloy_consensus::Header;
use alloy_rlp::Decodable;
use eyre::{WrapErr, bail, eyre};
use indicatif::ProgressBar;
use penstock_actors::boot::stored_genesis;
use penstock_actors::decisions::replay;
use penstock_evm::{genesis_block, verify};
use penstock_rules::dev::requests;
use penstock_rules::ids::Height;
use std::fs::File;
use std::io::BufReader;
use std::path::Path;

/// Does again what was done, and compares.
///
/// # Errors
/// Names the first block or decision that differs, and how.
pub fn run(args: &ReplayArgs) -> eyre::Result<()> {
    match (&args.data, &args.decisions) {
        (_, Some(file)) => decisions(file),
        (Some(dir), None) => blocks(dir),
        (None, None) => bail!("give --data or --decisions"),
    }
}

/// Tells a scheduler all that a decision log says, and compares what it decides.
fn decisions(file: &Path) -> eyre::Result<()> {
    let name = || format!("decision log {}", file.display());
    let log = File::open(file).wrap_err_with(|| format!("can't open the {}", name()))?;
    let seen = replay(BufReader::new(log)).wrap_err_with(name)?;
    println!(
        "all decisions are equal: {} events, {} assignments, {} answers, {} deferrals",
        seen.events, seen.assigned, seen.settled, seen.deferred
    );
    if seen.cut {
        println!("the last line is cut, as a kill does, and was left out");
    }
    Ok(())
}

/// Re-executes all blocks of a data folder, with no shard and no model, and compares roots and receipts.
fn blocks(dir: &Path) -> eyre::Result<()> {
    if !dir.is_dir() {
        bail!("data folder {} does not exist", dir.display());
    }
    let mut config = Config::default();
    // Nothing may be pruned by looking.
    config.store.archive = true;
    let store = open_store(&config, dir)?;
    let genesis = stored_genesis(&store)?
        .ok_or_else(|| eyre!("data folder {} holds no chain", dir.display()))?;
    let (head, _) = store
        .head()
        .ok_or_else(|| eyre!("data folder {} holds no block", dir.display()))?;
    let start = genesis_block(&genesis);
    let stored = store.hash_of(Height(0))?;
    if stored != Some(start.hash) {
        bail!(
            "block 0 differs: stored {stored:?}, computed {}",
            start.hash
        );
    }
    let (mut header, mut state) = (start.header, start.state);
    let bar = ProgressBar::new(head.0);
    let (mut transactions, mut inferences) = (0, 0);
    for height in 1..=head.0 {
        let height = Height(height);
        let record = store
            .block(height)?
            .ok_or_else(|| eyre!("block {height} is missing"))?;
        let claimed = Header::decode(&mut &record.block.header[..])
            .map_err(|e| eyre!("header of block {height} does not decode: {e}"))?;
        let executed = verify(&state, &genesis.spec, &header, &record.block)
            .wrap_err_with(|| format!("block {height} differs"))?;
        if executed.hash != record.hash || executed.header.state_root != claimed.state_root {
            bail!(
                "block {height} differs: stored {}, computed {}",
                record.hash,
                executed.hash
            );
        }
        if store.receipts(height)?.unwrap_or_default() != executed.receipts {
            bail!("receipts of block {height} differ");
        }
        transactions += executed.receipts.len();
        inferences += requests(&record.block.witness).len();
        (header, state) = (executed.header, executed.state);
        bar.inc(1);
    }
    bar.finish_and_clear();
    println!(
        "all {} blocks are equal: {transactions} transactions, {inferences} inferences, state root {}",
        head.0, header.state_root
    );
    Ok(())
}
