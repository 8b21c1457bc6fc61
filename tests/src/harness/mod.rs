//! A devnet as its users have it: the real binary, a process of its own, spoken to over JSON-RPC.

pub mod cluster;
mod contract;
mod process;
mod wallet;

pub use contract::{Number, Probes, Row, artifact, close, float, number, probe, rows};
pub use process::{Devnet, binary, repository};
pub use wallet::{Sent, Wallet, receipt, submit, view, wallets};
