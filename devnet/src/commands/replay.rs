//! `penstock replay`: every block again, from log and witness alone.

use crate::cli::ReplayArgs;
use alloy_consensus::Header;
use alloy_rlp::Decodable;
use eyre::{WrapErr, bail, eyre};
use indicatif::ProgressBar;
use penstock_actors::boot::stored_genesis;
use penstock_evm::{genesis_block, verify};
use penstock_rules::dev::requests;
use penstock_rules::ids::Height;
use penstock_store::{Store, StoreConfig};

/// Re-executes all blocks of a data folder, with no shard and no model, and compares roots and receipts.
///
/// # Errors
/// Names the first block that differs, and how.
pub fn run(args: &ReplayArgs) -> eyre::Result<()> {
    let dir = &args.data;
    if !dir.is_dir() {
        bail!("data folder {} does not exist", dir.display());
    }
    // Archive: nothing may be pruned by looking.
    let config = StoreConfig {
        archive: true,
        ..StoreConfig::default()
    };
    let store = Store::open(dir.join(crate::node::STORE_FOLDER), config)
        .wrap_err_with(|| format!("can't open the data folder {}", dir.display()))?;
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
