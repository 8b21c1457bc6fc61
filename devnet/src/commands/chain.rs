//! `penstock export` and `penstock import`: a chain as one file.
//!
//! ```text
//!  line 1    JSON: {"penstock": 1, "genesis": ...}
//!  line n    block n - 1: hex of its RLP, with witness and signature
//! ```
//!
//! A name that ends in `.gz` is packed with gzip. What is imported is verified block by block, as a follower would; it is
//! written into the block log and the store of a new data folder, which `penstock up --data` then opens.

use crate::base::{memory_transport, open_store};
use crate::cli::{ExportArgs, ImportArgs};
use crate::config::Config;
use alloy_primitives::{Address, Bytes};
use alloy_rlp::Decodable;
use eyre::{WrapErr, bail, eyre};
use flate2::Compression;
use flate2::read::MultiGzDecoder;
use flate2::write::GzEncoder;
use indicatif::ProgressBar;
use penstock_actors::boot;
use penstock_evm::{Genesis, verify};
use penstock_rules::block::Block;
use penstock_rules::ids::{Epoch, Height};
use penstock_store::NewBlock;
use penstock_wire::encode;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::path::Path;

/// Version of the form. It grows with every change.
const VERSION: u32 = 1;

/// The first line.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Head {
    penstock: u32,
    genesis: Genesis,
}

/// Writes all blocks of a data folder into a file.
///
/// # Errors
/// Names what is missing, or can't be written.
pub fn export(args: &ExportArgs) -> eyre::Result<()> {
    let (dir, file) = (&args.data, &args.file);
    if !dir.is_dir() {
        bail!("data folder {} does not exist", dir.display());
    }
    let mut config = Config::default();
    // Nothing may be pruned by looking.
    config.store.archive = true;
    let store = open_store(&config, dir)?;
    let missing = || eyre!("{} holds no chain", dir.display());
    let genesis = boot::stored_genesis(&store)?.ok_or_else(missing)?;
    let (head, _) = store.head().ok_or_else(missing)?;
    let written = || format!("can't write {}", file.display());
    let sink = File::create_new(file).wrap_err_with(written)?;
    let mut out: Box<dyn Write> = match is_packed(file) {
        true => Box::new(GzEncoder::new(sink, Compression::fast())),
        false => Box::new(BufWriter::new(sink)),
    };
    let first = Head {
        penstock: VERSION,
        genesis,
    };
    writeln!(out, "{}", serde_json::to_string(&first)?).wrap_err_with(written)?;
    let bar = ProgressBar::new(head.0);
    for height in 1..=head.0 {
        let height = Height(height);
        let record = store.block(height)?.ok_or_else(|| {
            eyre!(
                "block {height} is missing in {}: it began with a snapshot",
                dir.display()
            )
        })?;
        let block = Bytes::from(alloy_rlp::encode(&record.block));
        writeln!(out, "{block}").wrap_err_with(written)?;
        bar.inc(1);
    }
    out.flush().wrap_err_with(written)?;
    drop(out);
    bar.finish_and_clear();
    println!("genesis and {head} blocks are in {}", file.display());
    Ok(())
}

/// Makes a data folder of a file.
///
/// # Errors
/// Names the line that is wrong, or the folder that holds something. What was imported before a wrong line stays.
pub fn import(args: &ImportArgs) -> eyre::Result<()> {
    super::runtime()?.block_on(run_import(&args.file, &args.data))
}

async fn run_import(file: &Path, dir: &Path) -> eyre::Result<()> {
    let source = File::open(file).wrap_err_with(|| format!("can't read {}", file.display()))?;
    let lines: Box<dyn BufRead> = match is_packed(file) {
        true => Box::new(BufReader::new(MultiGzDecoder::new(source))),
        false => Box::new(BufReader::new(source)),
    };
    let mut lines = lines.lines();
    let first = lines
        .next()
        .ok_or_else(|| eyre!("{} is empty", file.display()))??;
    let first: Head =
        serde_json::from_str(&first).wrap_err("line 1 is not that of an exported chain")?;
    if first.penstock != VERSION {
        bail!(
            "the file has version {}, this program knows {VERSION}",
            first.penstock
        );
    }
    std::fs::create_dir_all(dir).wrap_err_with(|| format!("can't make {}", dir.display()))?;
    let store = open_store(&Config::default(), dir)?;
    if store.head().is_some() {
        bail!(
            "{} holds a chain: import into a new data folder",
            dir.display()
        );
    }
    let genesis = first.genesis;
    let start = boot::open(&store, &genesis)?;
    let transport = memory_transport(&store).await?;
    let epoch = transport.log.take_over(Address::ZERO, Epoch(0)).await?;
    let (mut state, mut header, mut last) =
        (start.state, start.header, penstock_rules::ids::Seq(epoch.0));
    let bar = ProgressBar::new_spinner();
    for (number, line) in (2..).zip(lines) {
        let line = line.wrap_err_with(|| format!("can't read {}", file.display()))?;
        let block = read_block(&line).wrap_err_with(|| format!("line {number}"))?;
        let executed = verify(&state, &genesis.spec, &header, &block)
            .wrap_err_with(|| format!("line {number} is not the valid next block"))?;
        let height = Height(executed.header.number);
        last = transport
            .log
            .append(epoch, height, executed.hash, last, encode(&block))
            .await?;
        store.commit(&NewBlock {
            height,
            hash: executed.hash,
            block: &block,
            receipts: &executed.receipts,
            senders: &executed.senders,
            diff: &executed.diff,
            log_seq: last,
        })?;
        (state, header) = (executed.state, executed.header);
        bar.set_message(format!("block {height}"));
        bar.tick();
    }
    bar.finish_and_clear();
    println!(
        "{} holds the chain up to block {}, state root {}",
        dir.display(),
        header.number,
        header.state_root
    );
    Ok(())
}

fn read_block(line: &str) -> eyre::Result<Block> {
    let bytes: Bytes = line.parse().wrap_err("it is no hex")?;
    let mut rest = &bytes[..];
    let block = Block::decode(&mut rest).map_err(|error| eyre!("it is no block: {error}"))?;
    if !rest.is_empty() {
        bail!("{} bytes follow the block", rest.len());
    }
    Ok(block)
}

fn is_packed(file: &Path) -> bool {
    file.extension().is_some_and(|ending| ending == "gz")
}
