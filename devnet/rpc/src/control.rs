//! What development methods do to the chain, past its rules.

use crate::errors::RpcError;
use alloy_consensus::TypedTransaction;
use alloy_primitives::{Address, Bytes, U256};
use async_trait::async_trait;
use penstock_rules::dev::{Change, DevDone, MineTime, Settings};
use penstock_rules::ids::TxHash;
use penstock_rules::producer::Timetable;
use std::collections::BTreeMap;

/// An account of a state dump.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DumpedAccount {
    /// Nonce.
    pub nonce: u64,
    /// Wei.
    pub balance: U256,
    /// Code; empty for plain accounts.
    pub code: Bytes,
    /// Storage, without zeros.
    pub storage: BTreeMap<U256, U256>,
}

/// The chain, for who may do anything to it. Every change is a block of the log; what is answered is to be seen by reads
/// already.
#[async_trait]
pub trait DevControl: Send + Sync + 'static {
    /// Whether this chain takes such orders at all.
    ///
    /// # Errors
    /// [`RpcError::Dev`] where its genesis names several producers.
    fn allowed(&self) -> Result<(), RpcError>;

    /// What is set for the blocks that follow.
    fn settings(&self) -> Settings;

    /// When blocks are made now.
    fn timetable(&self) -> Timetable;

    /// Makes all changes in one block of its own.
    async fn change(&self, changes: Vec<Change>) -> Result<DevDone, RpcError>;

    /// Makes a block of what is ready, once what is on its way has got that far.
    async fn mine(&self, time: MineTime) -> Result<DevDone, RpcError>;

    /// Remembers the state; gives the snapshot's number.
    async fn snapshot(&self) -> Result<u64, RpcError>;

    /// Drops transactions of the pool (`None`: all); gives those that were there.
    async fn discard(&self, hashes: Option<Vec<TxHash>>) -> Result<Vec<TxHash>, RpcError>;

    /// Sends a transaction in the name of an account without its key.
    async fn send_as(&self, from: Address, tx: TypedTransaction) -> Result<TxHash, RpcError>;

    /// All accounts of the head.
    async fn dump(&self) -> Result<BTreeMap<Address, DumpedAccount>, RpcError>;
}
