//! The penstock binary, as a library: the only reader of command line, environment and files.
//!
//! ```text
//!   cli.rs ----> config.rs (file < environment < command line) ----> node.rs (wires all actors)
//!      |                                                               |
//!      +-- commands/: up, model, replay, config, doctor                +-- genesis.rs, models.rs, banner.rs
//!      +-- demo.rs
//! ```

pub mod cli;
pub mod config;

pub mod genesis;
pub mod models;

pub mod node;

pub mod banner;
pub mod commands;

pub mod model_input;
pub mod registry;
