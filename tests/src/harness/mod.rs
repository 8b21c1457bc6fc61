//! A devnet as its users have it: the real binary, a process of its own, spoken to over JSON-RPC.

mod chain;
pub mod cluster;
mod contract;
mod http;
mod needs;
pub mod net;
mod process;
mod shard;
mod slots;
pub mod testnet;
mod wallet;

pub use chain::at_genesis;
pub use contract::{Number, Probes, Row, artifact, close, float, number, probe, rows};
pub use http::ask;
pub use needs::{gpu_is_here, magika, nats_server};
pub use process::{Devnet, binary, penstock, repository};
pub use shard::hello;
pub use slots::{assert_on_time, is_long};
pub use wallet::{Sent, Wallet, receipt, submit, view, wallets};
