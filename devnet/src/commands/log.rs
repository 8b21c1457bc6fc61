//! `penstock log rebuild`: a lost block log, from a node's copy.

use crate::base::{nats_config, open_store};
use crate::cli::{LogCommand, ProcessArgs};
use crate::config::Config;
use alloy_primitives::Address;
use eyre::{WrapErr, bail, eyre};
use penstock_actors::boot;
use penstock_rules::ids::{Epoch, Height, Seq};
use penstock_wire::{BlockLog, encode};
use std::path::Path;

/// Runs a `log` command.
///
/// # Errors
/// Names what is wrong with the folder or the log.
pub fn run(command: LogCommand) -> eyre::Result<()> {
    let LogCommand::Rebuild { from, config } = command;
    let args = ProcessArgs {
        config,
        ..ProcessArgs::default()
    };
    let config = Config::resolve_process(&args)?;
    super::runtime()?.block_on(rebuild(&config, &from))
}

/// Writes all blocks of a data folder into an empty log, each at the position that it had: places of former take-overs
/// are filled with take-overs of nobody. So every node's copy fits the new log, and the next producer takes over there.
async fn rebuild(config: &Config, from: &Path) -> eyre::Result<()> {
    let store = open_store(config, from)?;
    let genesis =
        boot::stored_genesis(&store)?.ok_or_else(|| eyre!("{} holds no chain", from.display()))?;
    let (head, _) = store
        .head()
        .ok_or_else(|| eyre!("{} holds no block", from.display()))?;
    let url = config.nats.url.as_deref().unwrap_or_default();
    let transport = penstock_wire::nats::transport(nats_config(config, url, &genesis)?)
        .await
        .wrap_err("can't use the nats-server")?;
    let log: &dyn BlockLog = transport.log.as_ref();
    if log.last().await? != Seq(0) {
        bail!(
            "the block log is not empty: a log is rebuilt into new streams alone; what is there is not touched"
        );
    }
    if head.0 > 0 && store.block(Height(1))?.is_none() {
        bail!(
            "{} began with a snapshot and has no block 1: rebuild from a node that has all blocks",
            from.display()
        );
    }
    let (mut epoch, mut last) = (Epoch(0), Seq(0));
    for height in 1..=head.0 {
        let height = Height(height);
        let record = store
            .block(height)?
            .ok_or_else(|| eyre!("block {height} is missing in {}", from.display()))?;
        while last.0 + 1 < record.log_seq.0 {
            epoch = log.take_over(Address::ZERO, epoch).await?;
            last = Seq(epoch.0);
        }
        let bytes = encode(&record.block);
        last = log.append(epoch, height, record.hash, last, bytes).await?;
        if last != record.log_seq {
            bail!(
                "block {height} came to position {last}, not {}",
                record.log_seq
            );
        }
    }
    println!("blocks 1 to {head} are in the log where they were: start the nodes again");
    Ok(())
}
