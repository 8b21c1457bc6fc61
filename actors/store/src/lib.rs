//! Blocks, receipts and versioned state of one node, in sled.
//!
//! ```text
//!   commit(block, receipts, diff) --> one atomic batch --> head moves; only then is the block announced
//!                                          |
//!      +---------+----------+-----------+--+-------+---------+------------+
//!      blocks  receipts  hash->height  tx->place  codes   accounts      superseded: what to delete when the
//!                                                         and slots,    horizon passes a height
//!                                                         a version
//!                                                         per height
//!   journal("log" | "accepted" | "results" | "blobs") --> one flush per append: the durable half of wire's memory bus
//! ```
//!
//! State can be read as it was after every block of the last [`StoreConfig::history_blocks`], or of all with
//! [`StoreConfig::archive`]. Records are RLP; keys sort by height.
//!
//! Writes that come at the same time share a flush (`sync.rs`). What waits for one is configured: [`Durability`].
//!
//! **Invariant:** what a call acknowledged survives `kill -9` and a lost power supply, but for what [`Durability`] leaves
//! out, and a block is there whole or not at all.
//! **Absent on purpose:** tries and validity. Whoever commits has verified; `evm` rebuilds its tries from
//! [`Store::load_state`].

mod keys;
mod records;

mod folder;
mod sync;
mod writes;

mod history;
mod journal;
mod store;

pub use history::{StateAt, StateItem};
pub use journal::StoreJournal;
pub use records::{BlockRecord, TxLocation};
pub use store::{Durability, NewBlock, Store, StoreConfig};

use alloy_primitives::B256;
use penstock_rules::ids::Height;
use std::path::PathBuf;

/// Version of the layout in the folder. It grows with every change of keys or records.
pub const SCHEMA_VERSION: u32 = 1;

/// Why the store did not do what it was asked to.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The folder holds something that is not ours.
    #[error("{0} is not empty, and not a Penstock store: choose another folder")]
    Foreign(PathBuf),
    /// The folder was written by another version of this program.
    #[error("{dir} has store schema {found}, this program knows {SCHEMA_VERSION}")]
    Schema {
        /// Which folder.
        dir: PathBuf,
        /// Its version.
        found: String,
    },
    /// Another process has the folder open.
    #[error("{0} is in use by another process")]
    InUse(PathBuf),
    /// The file system failed.
    #[error("{path}: {source}")]
    Io {
        /// Where.
        path: PathBuf,
        /// How.
        source: std::io::Error,
    },
    /// sled failed.
    #[error("database failed: {0}")]
    Database(#[from] sled::Error),
    /// A record can't be read.
    #[error("record {what} is damaged: {why}")]
    Damaged {
        /// Which.
        what: String,
        /// What is wrong.
        why: String,
    },
    /// A block that does not follow the head.
    #[error("block {height} does not follow the head, which is {head}")]
    OutOfOrder {
        /// The block's.
        height: Height,
        /// The head's.
        head: Height,
    },
    /// State older than what is kept.
    #[error("state at height {height} was pruned: the oldest that is kept is {oldest}")]
    Pruned {
        /// Asked for.
        height: Height,
        /// Kept.
        oldest: Height,
    },
    /// State of a block that is not here.
    #[error("state at height {height} is not here: the head is {head}")]
    Future {
        /// Asked for.
        height: Height,
        /// The head's.
        head: Height,
    },
    /// Nothing was committed yet.
    #[error("the store has no block yet")]
    Empty,
    /// Code that no block made.
    #[error("no code has the hash {0}")]
    UnknownCode(B256),
}
