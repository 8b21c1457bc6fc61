//! State sync: a follower that is new begins with a snapshot of the state, and replays only what came after.
//!
//! ```text
//!   sealer of block N * every --state in parts--> blob store <--name "snapshot"-- new follower
//!                                                                                   | block: stands in the log?
//!                                                                                   | 256 before it: of one chain?
//!                                                                                   | parts: the block's state root?
//!                                                                                   v
//!                                                                                 empty store, then the log from there
//! ```
//!
//! **Nothing of a snapshot is believed.** Whoever may store a blob can point the name at anything: what does not hold
//! against the block log is left, and the follower replays the whole log instead.
//! The block after the snapshot's is executed on its state, so its receipts are known: it is the first of the store.
//! What lies before it is not there.

use crate::chain::{ChainHandle, ChainHead};
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, keccak256};
use alloy_rlp::Decodable;
use penstock_evm::attest::signer_of;
use penstock_evm::state::BLOCK_HASHES;
use penstock_evm::{ChainSpec, ExecutedBlock, State, verify};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use penstock_rules::state::StateDiff;
use penstock_store::{NewBlock, Store, StoreError};
use penstock_wire::messages::Snapshot;
use penstock_wire::{BlobError, BlobStore, BlockLog, LogError, LogRecord, Transport};
use penstock_wire::{decode, encode};
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::mpsc;
use tracing::{info, warn};

/// What the newest snapshot is called in the blob store.
const NAME: &str = "snapshot";
/// Accounts, slots and codes in a part: some MB.
const PART_ITEMS: usize = 32_768;
/// Parts that are made ahead of the store: bounds the memory.
const PARTS_AHEAD: usize = 2;
/// Parts of a snapshot that is taken, at most: 2 * 10^9 accounts and slots.
const PARTS_MAX: usize = 65_536;
/// Entries of the log that are read at once, on the way back from a snapshot's block.
const READ_CHUNK: u64 = 32;

/// Why a snapshot was not made or not taken.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// The blob store.
    #[error(transparent)]
    Blob(#[from] BlobError),
    /// The block log.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The follower's store.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What is called a snapshot is none, or not of this chain.
    #[error("snapshot {manifest} is not taken: {why}")]
    Refused {
        /// Its hash.
        manifest: B256,
        /// What is wrong.
        why: String,
    },
}

/// Stores the state after `block`, whose head is given, and points the name at it. What nobody needs any more is
/// removed: the newest two stay. Returns the snapshot's hash.
///
/// # Errors
/// See [`SnapshotError`].
pub async fn make(
    blobs: &dyn BlobStore,
    head: &ChainHead,
    block: &Block,
) -> Result<B256, SnapshotError> {
    let (sender, mut receiver) = mpsc::channel(PARTS_AHEAD);
    let state = head.state.clone();
    let exported = tokio::task::spawn_blocking(move || {
        state.export(PART_ITEMS, |part| {
            sender.blocking_send(alloy_rlp::encode(part))
        })
    });
    let mut parts = Vec::new();
    while let Some(part) = receiver.recv().await {
        parts.push(blobs.put(part.into()).await?);
    }
    // The receiver was there to the end, so it sent all of it; a panic in there ends the process.
    drop(exported.await);
    let previous = match blobs.pointed(NAME).await? {
        Some(hash) => read(blobs, hash).await.ok().map(|before| (hash, before)),
        None => None,
    };
    let manifest = encode(&Snapshot {
        block: block.clone(),
        log_seq: head.log_seq,
        parts: parts.clone(),
        previous: previous.as_ref().map(|(hash, _)| *hash),
    });
    let hash = blobs.put(manifest).await?;
    blobs.point(NAME, hash).await?;
    if let Some((_, kept)) = previous {
        forget(blobs, &kept, &parts).await?;
    }
    Ok(hash)
}

/// Removes the snapshot before `kept`, but for the parts that `kept` or the newest has too.
async fn forget(
    blobs: &dyn BlobStore,
    kept: &Snapshot,
    newest: &[B256],
) -> Result<(), SnapshotError> {
    let Some(old) = kept.previous else {
        return Ok(());
    };
    // One that was removed already has nothing to remove.
    let Ok(snapshot) = read(blobs, old).await else {
        return Ok(());
    };
    for part in snapshot.parts {
        if !kept.parts.contains(&part) && !newest.contains(&part) {
            blobs.remove(part).await?;
        }
    }
    blobs.remove(old).await?;
    Ok(())
}

async fn read(blobs: &dyn BlobStore, manifest: B256) -> Result<Snapshot, SnapshotError> {
    let refused = |why: String| SnapshotError::Refused { manifest, why };
    let bytes = blobs.get(manifest).await?;
    let bytes = bytes.ok_or_else(|| refused("it is not in the blob store".into()))?;
    decode(&bytes).map_err(|error| refused(error.to_string()))
}

/// Begins an empty store with the newest snapshot, if there is one that holds against the log. Returns the height of the
/// first block, which is the one after the snapshot's.
/// Genesis itself is not looked at: `boot::open` compares the one that the store gets.
///
/// # Errors
/// See [`SnapshotError`]: the store is as empty as before.
pub async fn restore(
    transport: &Transport,
    store: &Store,
    spec: &ChainSpec,
) -> Result<Option<Height>, SnapshotError> {
    let blobs = transport.blobs.as_ref();
    let Some(manifest) = blobs.pointed(NAME).await? else {
        return Ok(None);
    };
    let refused = |why: String| SnapshotError::Refused { manifest, why };
    let snapshot = read(blobs, manifest).await?;
    let header = Header::decode(&mut &snapshot.block.header[..])
        .map_err(|error| refused(format!("its block has no header: {error}")))?;
    let (height, hash) = (Height(header.number), keccak256(&snapshot.block.header));
    if snapshot.parts.len() > PARTS_MAX {
        return Err(refused(format!("it has {} parts", snapshot.parts.len())));
    }
    let log = transport.log.as_ref();
    let found = log.read(snapshot.log_seq, 1).await?;
    let stands = found.first().and_then(|(seq, record)| match record {
        LogRecord::Block(bytes) if *seq == snapshot.log_seq => decode::<Block>(bytes).ok(),
        _ => None,
    });
    if stands.as_ref() != Some(&snapshot.block) {
        return Err(refused(format!(
            "its block {height} ({hash}) does not stand at position {} of the block log",
            snapshot.log_seq
        )));
    }
    let ancestors = ancestors(log, snapshot.log_seq, &header)
        .await?
        .map_err(refused)?;
    let mut state = State::empty();
    for part in &snapshot.parts {
        let bytes = blobs.get(*part).await?;
        let bytes = bytes.ok_or_else(|| refused(format!("part {part} is not there")))?;
        let diff = StateDiff::decode(&mut &bytes[..])
            .map_err(|error| refused(format!("part {part} is malformed: {error}")))?;
        if let Some(code) = diff.codes.iter().find(|c| keccak256(&c.code) != c.hash) {
            return Err(refused(format!("code {} hashes to another", code.hash)));
        }
        state.apply(&diff);
    }
    let root = state.root();
    if root != header.state_root {
        return Err(refused(format!(
            "its state has the root {root}, the header of block {height} says {}",
            header.state_root
        )));
    }
    let mut known = vec![(height, hash)];
    known.extend(ancestors);
    for &(height, hash) in &known {
        state.push_block_hash(height, hash);
    }
    let accounts = state.account_count();
    let (log_seq, block, first) = next(log, snapshot.log_seq, &header, &state, spec)
        .await?
        .ok_or_else(|| refused(format!("no block follows its block {height} yet")))?;
    let mut whole = StateDiff::default();
    let Ok(()) = first.state.export(PART_ITEMS, |part| {
        whole.accounts.extend(part.accounts);
        whole.slots.extend(part.slots);
        whole.codes.extend(part.codes);
        Ok::<_, Infallible>(())
    });
    let height = Height(first.header.number);
    store.put_ancestors(&known)?;
    store.commit(&NewBlock {
        height,
        hash: first.hash,
        block: &block,
        receipts: &first.receipts,
        senders: &first.senders,
        diff: &whole,
        log_seq,
    })?;
    info!(
        height = height.0,
        hash = %first.hash,
        accounts,
        parts = snapshot.parts.len(),
        "state taken from a snapshot"
    );
    Ok(Some(height))
}

/// The first valid block after the one of `parent`, which stands at `seq`, where it stands, and what it makes of the
/// state.
async fn next(
    log: &dyn BlockLog,
    seq: Seq,
    parent: &Header,
    state: &State,
    spec: &ChainSpec,
) -> Result<Option<(Seq, Block, ExecutedBlock)>, LogError> {
    let mut from = Seq(seq.0 + 1);
    loop {
        let entries = log.read(from, READ_CHUNK as usize).await?;
        let Some((last, _)) = entries.last() else {
            return Ok(None);
        };
        from = Seq(last.0 + 1);
        for (seq, record) in entries {
            let LogRecord::Block(bytes) = record else {
                continue;
            };
            // As every follower does: what is not valid is passed.
            let Ok(block) = decode::<Block>(&bytes) else {
                continue;
            };
            if let Ok(executed) = verify(state, spec, parent, &block) {
                return Ok(Some((seq, block, executed)));
            }
        }
    }
}

/// Hashes of the blocks before `header`, which stands at `seq`, as far back as `BLOCKHASH` reaches: read from the log,
/// each the parent of the next. An error in words where the log has a gap.
async fn ancestors(
    log: &dyn BlockLog,
    seq: Seq,
    header: &Header,
) -> Result<Result<Vec<(Height, B256)>, String>, LogError> {
    // The block itself is one of those that the next one reaches.
    let wanted = (BLOCK_HASHES - 1).min(header.number);
    let (mut hashes, mut parent) = (Vec::new(), header.parent_hash);
    let mut end = seq;
    while (hashes.len() as u64) < wanted {
        let height = Height(header.number - 1 - hashes.len() as u64);
        // Genesis is not in the log.
        if height == Height(0) {
            hashes.push((height, parent));
            break;
        }
        let from = Seq(end.0.saturating_sub(READ_CHUNK).max(1));
        if from >= end {
            return Ok(Err(format!("the block log begins after block {height}")));
        }
        let count = usize::try_from(end.0 - from.0).unwrap_or(usize::MAX);
        for (_, record) in log.read(from, count).await?.into_iter().rev() {
            let LogRecord::Block(bytes) = record else {
                continue;
            };
            // Entries that lost, or are malformed, are in nobody's chain.
            let Some((hash, before)) = decode::<Block>(&bytes).ok().and_then(|block| {
                let before = Header::decode(&mut &block.header[..]).ok()?.parent_hash;
                Some((keccak256(&block.header), before))
            }) else {
                continue;
            };
            if hash != parent || (hashes.len() as u64) >= wanted {
                continue;
            }
            let height = Height(header.number - 1 - hashes.len() as u64);
            hashes.push((height, hash));
            parent = before;
        }
        end = from;
    }
    Ok(Ok(hashes))
}

/// Makes a snapshot of every `every`th block that `producer` sealed, until the chain ends. One that is not done when the
/// next is due is the later one's loss: it is skipped.
pub async fn keep(chain: ChainHandle, blobs: Arc<dyn BlobStore>, every: u64, producer: Address) {
    let mut blocks = chain.blocks();
    loop {
        let head = match blocks.recv().await {
            Ok(head) => head,
            Err(RecvError::Lagged(missed)) => {
                warn!(missed, "blocks came while a snapshot was made");
                continue;
            }
            Err(RecvError::Closed) => return,
        };
        if head.height.0 % every != 0 {
            continue;
        }
        let Some(executed) = &head.executed else {
            continue;
        };
        if signer_of(head.hash, &executed.block.signature) != Some(producer) {
            continue;
        }
        match make(blobs.as_ref(), &head, &executed.block).await {
            Ok(snapshot) => info!(height = head.height.0, %snapshot, "snapshot made"),
            Err(error) => warn!(height = head.height.0, %error, "no snapshot was made"),
        }
    }
}
