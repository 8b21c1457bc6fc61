//! The cast: one actix shell per actor, around the machine of the same name in `penstock-rules`.
//!
//! ```text
//!  gateway --submit--> mempool --> extractor --gang--> scheduler --assign--> shard(s)
//!                                     |   ^               |  ^---- answers ----+
//!                                     |   +-- settled ----+
//!                                     v ready
//!                                  producer --append--> block log --> follower --head--> all
//! ```
//!
//! A shell feeds its machine events and performs its effects; it decides nothing. **Invariant:** actors reach each
//! other over [`penstock_wire::Bus`] alone, so they run in one process or on many machines alike; mempool and
//! extractor stand together always.

pub mod outbox;
pub mod shell;
mod traces;

pub mod chain;
pub mod results;

pub mod mempool;

pub mod extractor;

pub mod decisions;
pub mod scheduler;

mod engine;
pub mod shard;

pub mod producer;

pub mod boot;

pub mod audit;

pub mod snapshot;

pub mod follower;

pub mod recompute;

pub mod gateway;
