//! `penstock log show`: what stands in the block log, and who signed it. `penstock log head`: where a node's copy ends.
//! `penstock log rebuild`: a lost block log, from such a copy.

use crate::base::{nats_config, open_store};
use crate::cli::{LogCommand, ProcessArgs};
use crate::config::Config;
use crate::{genesis, models};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Decodable;
use eyre::{WrapErr, bail, eyre};
use penstock_actors::boot;
use penstock_evm::Genesis;
use penstock_evm::attest::signer_of;
use penstock_rules::block::Block;
use penstock_rules::ids::{Epoch, Height, Seq};
use penstock_store::Store;
use penstock_wire::{BlockLog, LogRecord, Transport, decode, encode};
use serde::{Deserialize, Serialize};
use std::fmt;
use std::path::Path;

/// Entries read at once: blocks may have 2 MB.
const READ_CHUNK: usize = 64;

/// An entry of the block log, for people and scripts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    tag = "kind",
    rename_all = "camelCase",
    rename_all_fields = "camelCase"
)]
pub enum LogEntry {
    /// A producer took over: from here on others' appends are refused.
    Epoch {
        /// Position, which is the fencing token.
        seq: u64,
        /// The one that took over; zero where the log was rebuilt.
        producer: Address,
    },
    /// A block.
    Block {
        /// Position.
        seq: u64,
        /// Block number.
        height: u64,
        /// Block hash.
        hash: B256,
        /// Who signed it; none where the signature is none.
        producer: Option<Address>,
        /// Transactions in it.
        transactions: usize,
        /// Inference requests in its witness.
        inferences: usize,
    },
}

impl LogEntry {
    fn of(seq: Seq, record: LogRecord) -> eyre::Result<Self> {
        let bytes = match record {
            LogRecord::Epoch(record) => {
                return Ok(Self::Epoch {
                    seq: seq.0,
                    producer: record.producer,
                });
            }
            LogRecord::Block(bytes) => bytes,
        };
        let block: Block = decode(&bytes).wrap_err_with(|| format!("entry {seq} is no block"))?;
        let header = Header::decode(&mut &block.header[..])
            .wrap_err_with(|| format!("the block of entry {seq} has no header"))?;
        let hash = keccak256(&block.header);
        Ok(Self::Block {
            seq: seq.0,
            height: header.number,
            hash,
            producer: signer_of(hash, &block.signature),
            transactions: block.transactions.len(),
            inferences: block.witness.len(),
        })
    }
}

impl fmt::Display for LogEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Epoch { seq, producer } => {
                write!(f, "{seq:>9}  epoch {seq:>9}  {producer} took over")
            }
            Self::Block {
                seq,
                height,
                hash,
                producer,
                transactions,
                inferences,
            } => {
                let by = producer.map_or_else(|| "nobody".to_owned(), |by| by.to_string());
                write!(
                    f,
                    "{seq:>9}  block {height:>9}  {hash} by {by}, {transactions} transactions, {inferences} inferences"
                )
            }
        }
    }
}

/// Runs a `log` command.
///
/// # Errors
/// Names what is wrong with the folder or the log.
pub fn run(command: LogCommand) -> eyre::Result<()> {
    let read = |config| {
        Config::resolve_process(&ProcessArgs {
            config,
            ..ProcessArgs::default()
        })
    };
    match command {
        LogCommand::Head { from } => {
            let (height, hash) = head_of(&open_store(&Config::default(), &from)?, &from)?;
            println!("{height} {hash}");
            Ok(())
        }
        LogCommand::Rebuild { from, config } => {
            super::runtime()?.block_on(rebuild(&read(config)?, &from))
        }
        LogCommand::Show { config, from, json } => {
            super::runtime()?.block_on(show(&read(config)?, Seq(from.max(1)), json))
        }
    }
}

async fn connect(config: &Config, genesis: &Genesis) -> eyre::Result<Transport> {
    let url = config.nats.url.as_deref().unwrap_or_default();
    penstock_wire::nats::transport(nats_config(config, url, genesis)?)
        .await
        .wrap_err("can't use the nats-server")
}

/// Prints the entries from `from` to the last one that was there when it began.
async fn show(config: &Config, from: Seq, json: bool) -> eyre::Result<()> {
    let genesis = match config.genesis()? {
        Some(given) => given,
        None => {
            let accounts = genesis::accounts(config)?.addresses();
            let models = models::load(config.inference.models.as_deref(), true)?;
            let infos = models.iter().map(models::LoadedModel::info).collect();
            genesis::genesis(config, &accounts, infos)
        }
    };
    let log = connect(config, &genesis).await?.log;
    let (mut next, last) = (from, log.last().await?);
    while next <= last {
        let entries = log.read(next, READ_CHUNK).await?;
        let Some((end, _)) = entries.last() else {
            break;
        };
        next = Seq(end.0 + 1);
        for (seq, record) in entries {
            let entry = LogEntry::of(seq, record)?;
            match json {
                true => println!("{}", serde_json::to_string(&entry)?),
                false => println!("{entry}"),
            }
        }
    }
    Ok(())
}

fn head_of(store: &Store, from: &Path) -> eyre::Result<(Height, B256)> {
    let head = store.head();
    head.ok_or_else(|| eyre!("{} holds no block", from.display()))
}

/// Writes all blocks of a data folder into an empty log, each at the position that it had: places of former take-overs
/// are filled with take-overs of nobody. So every node's copy fits the new log, and the next producer takes over there.
async fn rebuild(config: &Config, from: &Path) -> eyre::Result<()> {
    let store = open_store(config, from)?;
    let genesis =
        boot::stored_genesis(&store)?.ok_or_else(|| eyre!("{} holds no chain", from.display()))?;
    let (head, _) = head_of(&store, from)?;
    let transport = connect(config, &genesis).await?;
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
