//! The seeded simulator: the machines of `penstock-rules`, run together in virtual time.
//!
//! ```text
//!  seed --> RANDOM --> NETWORK (drop, delay, double, reorder)
//!                         |
//!   AGENDA (virtual clock, what happens when) --> machines --> effects --> AGENDA
//! ```
//!
//! A run is a function of its seed: same seed, same events in the same order, on every machine. **Invariant:** as in
//! `penstock-rules` there is no clock, no IO, no float, no source of chance but the seed, and no collection whose order
//! differs between runs.

#![deny(
    clippy::float_arithmetic,
    clippy::disallowed_types,
    clippy::disallowed_methods
)]

mod agenda;
mod network;
mod random;

pub mod chain;
pub mod overload;

pub use agenda::Agenda;
pub use network::{Faults, Network};
pub use random::Random;
