//! JSON-RPC: what other people's tools speak to the devnet.
//!
//! ```text
//!   HTTP / WebSocket, one port (server.rs: CORS, limits, batches, /health, the REST route)
//!        |
//!        v
//!   method tables: eth/*, net_web3, txpool, pipe, dev/*, params.rs reads arguments
//!                  debug, trace, ots
//!        |                       |                      convert.rs makes Ethereum's JSON
//!        v                       v                      errors.rs holds every code and text
//!   ChainReader             TxSubmitter + DevAccounts    DevControl
//!   (head, history, calls,  (signed bytes in,            (development methods:
//!    pool, subscriptions)    hash or refusal out)         the chain past its rules)
//! ```
//!
//! **Invariant:** this crate knows the chain through [`ChainReader`], [`TxSubmitter`] and [`DevControl`] alone. It holds
//! no state of the chain, reads no clock for it and takes no lock that all requests share.

pub mod control;
pub mod reader;
pub mod submitter;

pub mod errors;

mod middleware;
mod rest;
pub mod server;

mod api;
mod convert;
mod params;

pub mod discover;
mod eth;
mod net_web3;
pub mod pipe;
mod txpool;

mod dev;

mod debug;
mod ots;
mod trace;

pub mod accounts;

pub use accounts::DevAccounts;
pub use control::{DevControl, DumpedAccount};
pub use errors::{RpcError, simulation};
pub use eth::call::normalized;
pub use reader::{
    AnswerView, At, BlockDataError, BloomTest, ChainBlock, ChainReader, ConsumedView, Given,
    InferenceView, KeptView, MarketView, NumberTensor, Only, Overrides, PendingTx, PoolEntry,
    ProofView, QueueView, RequestView, ShardView, SimulatedBlock, SimulatedCall, StageCount,
    StorageRangeView, StringTensor, Traced, Tracer,
};
pub use server::{ServeError, ServerConfig, ServerHandle, serve};
pub use submitter::TxSubmitter;
