//! What all methods share, and how they are registered.

use crate::accounts::DevAccounts;
use crate::control::DevControl;
use crate::dev::Impersonated;
use crate::errors::RpcError;
use crate::eth::filters::Filters;
use crate::eth::send::AccountLocks;
use crate::params::Args;
use crate::reader::{At, ChainBlock, ChainReader};
use crate::submitter::TxSubmitter;
use alloy_eips::{BlockId, BlockNumberOrTag};
use alloy_primitives::B256;
use jsonrpsee::RpcModule;
use penstock_rules::ids::Height;
use serde::Serialize;
use std::future::Future;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// The context of every method.
pub struct Api {
    /// The chain.
    pub reader: Arc<dyn ChainReader>,
    /// The way in.
    pub submitter: Arc<dyn TxSubmitter>,
    /// The chain, past its rules.
    pub dev: Arc<dyn DevControl>,
    /// Accounts that the node signs for.
    pub accounts: DevAccounts,
    /// Accounts in whose name it takes what nobody signed.
    pub impersonated: Impersonated,
    /// One lock per account that the node signs for: two sends must not take the same nonce.
    pub account_locks: AccountLocks,
    /// Installed filters.
    pub filters: Filters,
    /// How long a receipt waits for a transaction that is about to be in a block.
    pub receipt_patience: Duration,
    /// The tip that was suggested last, and the head for which.
    pub tip: Mutex<Option<(B256, u128)>>,
}

impl Api {
    /// Puts the parts together.
    pub fn new(
        reader: Arc<dyn ChainReader>,
        submitter: Arc<dyn TxSubmitter>,
        dev: Arc<dyn DevControl>,
        accounts: DevAccounts,
        receipt_patience: Duration,
    ) -> Self {
        Self {
            account_locks: AccountLocks::default(),
            reader,
            submitter,
            dev,
            impersonated: Impersonated::default(),
            accounts,
            filters: Filters::default(),
            receipt_patience,
            tip: Mutex::default(),
        }
    }

    /// The block that `id` names, the one that would be built now included.
    pub async fn block(&self, id: BlockId) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        match id {
            BlockId::Hash(hash) => self.reader.block_by_hash(hash.block_hash).await,
            BlockId::Number(BlockNumberOrTag::Pending) => {
                self.reader.pending_block().await.map(Some)
            }
            // Blocks are final when they are appended: there is one head for all three.
            BlockId::Number(
                BlockNumberOrTag::Latest | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized,
            ) => Ok(Some(self.reader.head())),
            BlockId::Number(BlockNumberOrTag::Earliest) => self.at_height(Height(0)).await,
            BlockId::Number(BlockNumberOrTag::Number(number)) => {
                self.at_height(Height(number)).await
            }
        }
    }

    /// A block by height, from memory where it is the head.
    pub async fn at_height(&self, height: Height) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        let head = self.reader.head();
        if height == head.height() {
            return Ok(Some(head));
        }
        if height > head.height() {
            return Ok(None);
        }
        self.reader.block_by_height(height).await
    }

    /// The state that `id` names; the head's where it is left out.
    pub async fn state(&self, id: Option<BlockId>) -> Result<At, RpcError> {
        let height = match id.unwrap_or_default() {
            BlockId::Number(BlockNumberOrTag::Pending) => return Ok(At::Pending),
            BlockId::Number(
                BlockNumberOrTag::Latest | BlockNumberOrTag::Safe | BlockNumberOrTag::Finalized,
            ) => return Ok(At::Head),
            BlockId::Number(BlockNumberOrTag::Earliest) => Height(0),
            BlockId::Number(BlockNumberOrTag::Number(number)) => Height(number),
            BlockId::Hash(hash) => self
                .reader
                .block_by_hash(hash.block_hash)
                .await?
                .ok_or(RpcError::HeaderNotFound)?
                .height(),
        };
        match height.cmp(&self.reader.head().height()) {
            std::cmp::Ordering::Greater => Err(RpcError::HeaderNotFound),
            std::cmp::Ordering::Equal => Ok(At::Head),
            std::cmp::Ordering::Less => Ok(At::Height(height)),
        }
    }
}

/// The methods, by name.
pub struct Table(RpcModule<Api>);

impl Table {
    /// No methods yet.
    pub fn new(api: Api) -> Self {
        Self(RpcModule::new(api))
    }

    /// Adds a method.
    ///
    /// # Panics
    /// Where the name is taken: a mistake in this crate, which every start of a server would show.
    pub fn add<R, F, Fut>(&mut self, name: &'static str, method: F) -> &mut Self
    where
        R: Serialize + Clone + Send + 'static,
        F: Fn(Arc<Api>, Args) -> Fut + Clone + Send + Sync + 'static,
        Fut: Future<Output = Result<R, RpcError>> + Send,
    {
        self.0
            .register_async_method(name, move |params, api, _| {
                let args = Args::split(&params);
                let method = method.clone();
                async move { method(api, args?).await }
            })
            .expect("method names are unique");
        self
    }

    /// The module behind, for subscriptions.
    pub fn module(&mut self) -> &mut RpcModule<Api> {
        &mut self.0
    }

    /// Done.
    pub fn finish(self) -> RpcModule<Api> {
        self.0
    }
}

/// All methods.
pub fn methods(api: Api) -> RpcModule<Api> {
    let mut table = Table::new(api);
    crate::net_web3::register(&mut table);
    crate::discover::register(&mut table);
    crate::eth::register(&mut table);
    crate::txpool::register(&mut table);
    crate::pipe::register(&mut table);
    crate::dev::register(&mut table);
    crate::debug::register(&mut table);
    crate::trace::register(&mut table);
    crate::ots::register(&mut table);
    table.finish()
}
