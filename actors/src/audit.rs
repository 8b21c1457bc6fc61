//! Whether the block log still is the one that this node's chain came from.
//!
//! A log can be lost, cut or made anew: somebody restores an older copy, or a fault of the storage eats what was
//! acknowledged. The node's own copy is the witness. So at every start the head and, further and further back, some
//! blocks before it are looked for in the log where they stood. **A node that finds a difference follows neither: it
//! halts and says so.** A person decides which copy is right.

use alloy_primitives::{B256, keccak256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use penstock_store::{Store, StoreError};
use penstock_wire::{BlockLog, LogError, LogRecord, decode};

/// The log and this node's chain are not of one piece.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Divergence {
    /// Block of this node.
    pub height: Height,
    /// Its hash.
    pub ours: B256,
    /// Where it stood in the log.
    pub seq: Seq,
    /// What stands there now: a block's hash; none where there is no block.
    pub theirs: Option<B256>,
    /// Where the log ends.
    pub last: Seq,
}

impl std::fmt::Display for Divergence {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self {
            height,
            ours,
            seq,
            theirs,
            last,
        } = self;
        write!(
            f,
            "block {height} ({ours}) of this node came from position {seq} of the block log"
        )?;
        match theirs {
            Some(theirs) => write!(f, ", where {theirs} stands now"),
            None if last < seq => write!(f, ", which ends at {last} now"),
            None => write!(f, ", where no block stands now"),
        }
    }
}

/// Why the comparison has no result.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    /// The log can't be read.
    #[error(transparent)]
    Log(#[from] LogError),
    /// The store can't be read.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Compares the store's head and, at distances that double, blocks before it with the log.
///
/// # Errors
/// Where one of the two can't be read.
pub async fn audit(log: &dyn BlockLog, store: &Store) -> Result<Option<Divergence>, AuditError> {
    let Some((head, _)) = store.head() else {
        return Ok(None);
    };
    let mut back = 0;
    while let Some(height) = head.0.checked_sub(back) {
        back = (back * 2).max(1);
        let Some(record) = store.block(Height(height))? else {
            // A chain that began with a snapshot has nothing before it.
            break;
        };
        // Genesis is not in the log.
        if record.log_seq == Seq(0) {
            break;
        }
        let found = log.read(record.log_seq, 1).await?;
        let theirs = found.into_iter().find_map(|(seq, entry)| match entry {
            LogRecord::Block(bytes) if seq == record.log_seq => {
                let block: Block = decode(&bytes).ok()?;
                Some(keccak256(&block.header))
            }
            _ => None,
        });
        if theirs != Some(record.hash) {
            return Ok(Some(Divergence {
                height: record.height,
                ours: record.hash,
                seq: record.log_seq,
                theirs,
                last: log.last().await?,
            }));
        }
    }
    Ok(None)
}
