//! The machines: what every actor decides, pure and deterministic.
//!
//! ```text
//!  gateway --> MEMPOOL --> EXTRACTOR --gangs--> SCHEDULER --assignments--> SHARD(s)
//!                 |            |  ready             ^   \-- settled --> all
//!                 |            v                    +------ answers ------+
//!                 |         PRODUCER --block--> (log) --> FOLLOWER(s) --head--> all
//! ```
//!
//! A machine takes `(now, event)` and gives effects. **Invariant:** there is no clock, no IO, no randomness and no
//! float here, and no collection whose order differs between runs, so the same machines run in one process, on many
//! machines and in the seeded simulator, to the same decisions.

#![deny(
    clippy::float_arithmetic,
    clippy::disallowed_types,
    clippy::disallowed_methods
)]

pub mod ids;
pub mod tensor;

pub mod model;
pub mod request;

pub mod block;
pub mod journal;
pub mod message;
pub mod state;
pub mod tx;

pub mod invariants;

pub mod mempool;

pub mod extractor;

pub mod scheduler;

pub mod shard;

pub mod producer;

pub mod dev;

pub mod follower;

pub mod lead;

/// A pure, deterministic state machine: what an actor decides.
pub trait Machine {
    /// What happens to it. One closed enum per machine.
    type Event;
    /// What it wants done. One closed enum per machine.
    type Effect;

    /// Takes one event at time `now` and adds what is to be done to `effects`, in order.
    fn apply(&mut self, now: ids::Micros, event: Self::Event, effects: &mut Vec<Self::Effect>);
}
