//! The penstock binary, as a library: the only reader of command line, environment and files.
//!
//! ```text
//!   cli.rs ----> config.rs (file < environment < command line) ----> node.rs   (all actors in one process)
//!      |                                                       \----> member.rs (some roles of a devnet of many)
//!      +-- commands/: one file each                                    |
//!                                                                      +-- base.rs: store, transport, follower
//!      demo/, registry.rs: clients of a running devnet
//! ```

pub mod cli;
pub mod config;

pub mod genesis;
pub mod keys;
pub mod models;

mod base;
mod engine;
pub mod node;

pub mod health;
pub mod member;
mod peers;
pub mod shard;

pub mod testnet;

pub mod banner;
pub mod commands;

pub mod demo;
pub mod model_input;
pub mod registry;
