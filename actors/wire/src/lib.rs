//! How actors reach each other: messages, subjects, and four traits with two backends each.
//!
//! ```text
//!   actor --encode--> Bus      publish / subscribe / request: may lose, double and delay    --decode--> actor
//!   gateway --------> Queue    accepted transactions, results: durable before it returns    --replay--> mempool
//!   producer -------> BlockLog one winner per position, fenced by epoch                     --read----> follower
//!   operator -------> BlobStore weights and snapshots, by keccak256                         --get-----> shard
//!
//!                     memory: one process, over rules::journal::Journal (sled in production)
//!                     nats:   many machines, over a nats-server with JetStream
//! ```
//!
//! **Invariant:** this is the only crate that knows bincode and async-nats, and it decides nothing: what a message
//! means is a machine's business.
//! Both backends pass one suite, `conformance`.

pub mod subjects;

pub mod codec;
pub mod messages;

pub mod blob;
pub mod bus;
pub mod log;
pub mod queue;
pub mod trace;

pub mod memory;
pub mod nats;
pub mod server;

#[cfg(test)]
mod conformance;

pub use blob::{BlobError, BlobStore};
pub use bus::{Bus, BusError, Delivery, Subscription};
pub use codec::{DecodeError, Message, decode, encode};
pub use log::{
    AppendError, BlockLog, EpochRecord, LogError, LogRecord, LogSubscription, TakeOverError,
};
pub use queue::{Queue, QueueError, QueueItem};
pub use server::{FoundServer, NatsServer, find_server};
pub use subjects::Subjects;

use std::sync::Arc;

/// Everything through which a node's actors reach the others. Cheap to clone.
#[derive(Clone)]
pub struct Transport {
    /// Messages that may be lost.
    pub bus: Arc<dyn Bus>,
    /// The block log.
    pub log: Arc<dyn BlockLog>,
    /// Accepted transactions.
    pub accepted: Arc<dyn Queue>,
    /// Settled results, for who takes over.
    pub results: Arc<dyn Queue>,
    /// Weights and snapshots.
    pub blobs: Arc<dyn BlobStore>,
}

impl std::fmt::Debug for Transport {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Transport")
    }
}
