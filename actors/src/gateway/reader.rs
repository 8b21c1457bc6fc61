//! The chain as JSON-RPC reads it.

use super::{Gateway, Head, stored};
use crate::shell::now;
use alloy_consensus::{Header, Transaction as _};
use alloy_eips::eip7910::EthConfig;
use alloy_primitives::{Address, B256, Bloom, Bytes, U256};
use alloy_rpc_types_eth::simulate::SimulatePayload;
use alloy_rpc_types_eth::{AccessListResult, TransactionRequest};
use alloy_sol_types::SolValue;
use async_trait::async_trait;
use penstock_evm::abi::{encode_output, solidity};
use penstock_evm::market::{IGAS_SLOT, INFERENCE_GAS_SLOT};
use penstock_evm::predeploys::{INFERENCE_MARKET, MULTIPLIER_SLOT};
use penstock_evm::{Results, models, multiplier};
use penstock_rpc::pipe::{reason_name, stage_name};
use penstock_rpc::{
    AnswerView, At, BloomTest, ChainBlock, ChainReader, ConsumedView, Given, InferenceView,
    KeptView, MarketView, NumberTensor, Only, Overrides, PendingTx, PoolEntry, ProofView,
    QueueView, RpcError, ShardView, SimulatedBlock, StageCount, StorageRangeView, StringTensor,
    Traced, Tracer,
};
use penstock_rules::ids::{Height, Igas, RequestKey, TxHash};
use penstock_rules::model::ModelInfo;
use penstock_rules::request::{Outcome, Settled};
use penstock_rules::state::{Account, EMPTY_CODE_HASH, StateRead};
use penstock_rules::tensor;
use penstock_rules::tx::{Stage, StatusUpdate};
use penstock_store::{Store, StoreError};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use tokio::sync::broadcast;

#[async_trait]
impl ChainReader for Gateway {
    fn chain_id(&self) -> u64 {
        self.subjects.chain_id()
    }

    fn hardfork(&self) -> String {
        Gateway::head(self).chain.spec.hardfork.to_string()
    }

    fn head(&self) -> Arc<ChainBlock> {
        self.head().block.clone()
    }

    async fn pending_block(&self) -> Result<Arc<ChainBlock>, RpcError> {
        Ok(Arc::new(pending_block(
            &Gateway::head(self),
            ChainReader::pool(self),
        )))
    }

    async fn block_by_height(&self, height: Height) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        if let Some(block) = self.blocks.by_height(height) {
            return Ok(Some(block));
        }
        self.blocking(move |store| {
            let block = stored(store, height).map_err(|e| RpcError::Internal(e.to_string()))?;
            Ok(block.map(Arc::new))
        })
        .await
    }

    async fn block_by_hash(&self, hash: B256) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        if let Some(block) = self.blocks.by_hash(hash) {
            return Ok(Some(block));
        }
        let height = self
            .blocking(move |store| store.height_of(hash).map_err(store_error))
            .await?;
        match height {
            // What the store has is shown only once the gateway shows its height.
            Some(height) if height <= ChainReader::head(self).height() => {
                self.block_by_height(height).await
            }
            _ => Ok(None),
        }
    }

    async fn location(&self, hash: TxHash) -> Result<Option<(Height, u32)>, RpcError> {
        // Clients poll for receipts of pending transactions: these need no look at the disk. One that was in a block
        // before, and came again after a revert, is pending too.
        if self.pool.get(hash).is_some() {
            return Ok(None);
        }
        if let Some(location) = self.blocks.location(hash) {
            return Ok(Some(location));
        }
        let found = self
            .blocking(move |store| store.tx_location(hash).map_err(store_error))
            .await?;
        let head = ChainReader::head(self).height();
        Ok(found
            .filter(|location| location.height <= head)
            .map(|location| (location.height, location.index)))
    }

    async fn blooms(
        &self,
        from: Height,
        to: Height,
        may_match: BloomTest,
    ) -> Result<Vec<Height>, RpcError> {
        let mut found = Vec::new();
        let mut unknown = Vec::new();
        for height in (from.0..=to.0).map(Height) {
            match self.blocks.bloom(height) {
                Some(bloom) if may_match(&bloom) => found.push(height),
                Some(_) => {}
                None => unknown.push(height),
            }
        }
        if unknown.is_empty() {
            return Ok(found);
        }
        let (read, matching) = self
            .blocking(move |store| {
                let (mut read, mut matching) = (Vec::new(), Vec::new());
                for height in unknown {
                    let Some(bloom) = bloom_of(store, height)? else {
                        continue;
                    };
                    if may_match(&bloom) {
                        matching.push(height);
                    }
                    read.push((height, bloom));
                }
                Ok((read, matching))
            })
            .await?;
        for (height, bloom) in read {
            self.blocks.remember_bloom(height, bloom);
        }
        found.extend(matching);
        found.sort_unstable();
        Ok(found)
    }

    async fn account(&self, address: Address, at: At) -> Result<Account, RpcError> {
        let account = match self.state(at) {
            State::Memory(chain) => known(chain.state.account(address)),
            State::Stored(height) => {
                self.blocking(move |store| store.account_at(address, height).map_err(store_error))
                    .await?
            }
        };
        Ok(account.unwrap_or_default())
    }

    async fn slot(&self, address: Address, slot: U256, at: At) -> Result<U256, RpcError> {
        match self.state(at) {
            State::Memory(chain) => Ok(known(chain.state.slot(address, slot))),
            State::Stored(height) => {
                self.blocking(move |store| {
                    store.slot_at(address, slot, height).map_err(store_error)
                })
                .await
            }
        }
    }

    async fn code(&self, address: Address, at: At) -> Result<Bytes, RpcError> {
        let hash = self.account(address, at).await?.code_hash;
        if hash == EMPTY_CODE_HASH {
            return Ok(Bytes::new());
        }
        match self.state(at) {
            State::Memory(chain) => Ok(known(chain.state.code(hash))),
            State::Stored(_) => {
                let code = self
                    .blocking(move |store| store.code(hash).map_err(store_error))
                    .await?;
                code.ok_or_else(|| RpcError::Internal(format!("code {hash} is missing")))
            }
        }
    }

    async fn call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<Bytes, RpcError> {
        self.run_call(request, at, overrides).await
    }

    async fn estimate(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<u64, RpcError> {
        self.run_estimate(request, at, overrides).await
    }

    async fn access_list(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<AccessListResult, RpcError> {
        self.run_access_list(request, at, overrides).await
    }

    async fn trace_call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
        tracer: Tracer,
    ) -> Result<Traced, RpcError> {
        self.run_trace_call(request, at, overrides, tracer).await
    }

    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: At,
        answers: Option<Given>,
    ) -> Result<Vec<SimulatedBlock>, RpcError> {
        self.run_simulate(payload, at, answers).await
    }

    async fn consumed(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
    ) -> Result<ConsumedView, RpcError> {
        self.run_consumed(block, index).await
    }

    async fn estimate_inference(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<InferenceView, RpcError> {
        self.run_estimate_inference(request, at, overrides).await
    }

    async fn market(&self, at: At) -> Result<MarketView, RpcError> {
        let slot = |slot| ChainReader::slot(self, INFERENCE_MARKET, slot, at);
        Ok(MarketView {
            multiplier: slot(MULTIPLIER_SLOT).await?.saturating_to(),
            igas: Igas(slot(IGAS_SLOT).await?.saturating_to()),
            inference_gas: slot(INFERENCE_GAS_SLOT).await?.saturating_to(),
            igas_limit: Gateway::head(self).chain.spec.igas_limit,
        })
    }

    fn kept(&self) -> KeptView {
        let config = self.store.config();
        KeptView {
            state: (
                self.store.horizon(),
                (!config.archive).then_some(config.history_blocks),
            ),
            proofs: self.blocks.oldest_state(),
        }
    }

    async fn config(&self) -> Result<EthConfig, RpcError> {
        self.chain_config().await
    }

    async fn trace_block(
        &self,
        block: Arc<ChainBlock>,
        only: Only,
        tracer: Tracer,
    ) -> Result<Vec<Traced>, RpcError> {
        self.run_trace_block(block, only, tracer).await
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<U256>,
        at: At,
    ) -> Result<ProofView, RpcError> {
        let chain = match self.state(at) {
            State::Memory(chain) => chain,
            State::Stored(height) => return Err(RpcError::NoProof(height)),
        };
        let work = tokio::task::spawn_blocking(move || chain.state.proof(address, &slots));
        let proof = work
            .await
            .map_err(|error| RpcError::Internal(error.to_string()))?;
        Ok(ProofView {
            account: proof.account.unwrap_or_default(),
            storage_root: proof.storage_root,
            nodes: proof.nodes,
            slots: proof.slots,
        })
    }

    async fn storage_range(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
        address: Address,
        start: B256,
        limit: usize,
    ) -> Result<StorageRangeView, RpcError> {
        self.run_storage_range(block, index, (address, start, limit))
            .await
    }

    fn next_base_fee(&self) -> u64 {
        Gateway::head(self).next.base_fee
    }

    fn pending(&self, hash: TxHash) -> Option<Arc<PendingTx>> {
        self.pool.get(hash)
    }

    fn pool(&self) -> Vec<PoolEntry> {
        let head = Gateway::head(self);
        let mut entries = Vec::new();
        let mut lane: Option<(Address, u64)> = None;
        for tx in self.pool.all() {
            let sender = tx.tx.sender;
            // Transactions of a sender come together, in nonce order.
            let next = match lane {
                Some((current, next)) if current == sender => next,
                _ => known(head.chain.state.account(sender)).map_or(0, |account| account.nonce),
            };
            let queued = tx.tx.nonce > next;
            lane = Some((sender, if queued { next } else { tx.tx.nonce + 1 }));
            entries.push(PoolEntry { tx, queued });
        }
        entries
    }

    async fn next_nonce(&self, sender: Address) -> Result<u64, RpcError> {
        let head = Gateway::head(self);
        let account = known(head.chain.state.account(sender));
        let nonce = account.map_or(0, |account| account.nonce);
        Ok(self.pool.next_nonce(sender, nonce))
    }

    fn watch_blocks(&self) -> broadcast::Receiver<Arc<ChainBlock>> {
        self.new_blocks.subscribe()
    }

    fn watch_pending(&self) -> broadcast::Receiver<Arc<PendingTx>> {
        self.pool.watch()
    }

    fn watch_statuses(&self) -> broadcast::Receiver<StatusUpdate> {
        self.statuses.watch()
    }

    fn history(&self, hash: TxHash) -> Vec<StatusUpdate> {
        self.statuses.history(hash)
    }

    async fn answer(&self, key: RequestKey) -> Option<AnswerView> {
        self.results.outcome(&key).map(answer_view)
    }

    async fn models(&self) -> Result<Vec<ModelInfo>, RpcError> {
        Ok(models(&Gateway::head(self).chain.state))
    }

    fn shards(&self) -> Vec<ShardView> {
        self.shards.all(now())
    }

    async fn queue(&self) -> Result<QueueView, RpcError> {
        let mut stages: BTreeMap<&str, u64> = BTreeMap::new();
        let mut reasons: BTreeMap<&str, u64> = BTreeMap::new();
        let mut waiting = 0;
        for tx in self.pool.all() {
            let stage = self.statuses.last(tx.tx.hash).unwrap_or(Stage::Accepted);
            *stages.entry(stage_name(&stage)).or_default() += 1;
            match stage {
                Stage::Inferring { requests, .. } => waiting += u64::from(requests),
                Stage::Deferred { reason, .. } => {
                    *reasons.entry(reason_name(reason)).or_default() += 1;
                }
                _ => {}
            }
        }
        let counts = |map: BTreeMap<&str, u64>| {
            map.into_iter()
                .map(|(name, count)| StageCount {
                    name: name.into(),
                    count,
                })
                .collect()
        };
        Ok(QueueView {
            stages: counts(stages),
            reasons: counts(reasons),
            requests: waiting,
            calls: self.calls.waiting() as u64,
            multiplier: multiplier(&Gateway::head(self).chain.state),
            congestion: self.pressure.now().map(|said| (*said).clone()),
        })
    }
}

/// Where a state is.
enum State {
    Memory(Arc<crate::chain::ChainHead>),
    Stored(Height),
}

impl Gateway {
    fn state(&self, at: At) -> State {
        match at {
            At::Head | At::Pending => State::Memory(Gateway::head(self).chain.clone()),
            At::Height(height) => match self.blocks.state(height) {
                Some(chain) => State::Memory(chain),
                None => State::Stored(height),
            },
        }
    }

    /// Reads the store on a blocking thread: it may go to the disk.
    async fn blocking<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Store) -> Result<T, RpcError> + Send + 'static,
    ) -> Result<T, RpcError> {
        let store = self.store.clone();
        tokio::task::spawn_blocking(move || read(&store))
            .await
            .map_err(|error| RpcError::Internal(error.to_string()))?
    }
}

/// The head state reads from memory, and never fails.
fn known<T>(read: Result<T, Infallible>) -> T {
    match read {
        Ok(value) => value,
        Err(never) => match never {},
    }
}

pub(super) fn store_error(error: StoreError) -> RpcError {
    match error {
        StoreError::Pruned { height, oldest } => RpcError::Pruned { height, oldest },
        StoreError::Future { .. } | StoreError::Empty => RpcError::HeaderNotFound,
        error => RpcError::Internal(error.to_string()),
    }
}

fn bloom_of(store: &Store, height: Height) -> Result<Option<Bloom>, RpcError> {
    use alloy_rlp::Decodable;
    let Some(record) = store.block(height).map_err(store_error)? else {
        return Ok(None);
    };
    let header = Header::decode(&mut &record.block.header[..])
        .map_err(|error| RpcError::Internal(error.to_string()))?;
    Ok(Some(header.logs_bloom))
}

/// The next block as it would begin now: the executable transactions of the pool that fit, none executed.
fn pending_block(head: &Head, pool: Vec<PoolEntry>) -> ChainBlock {
    let env = head.env();
    let parent = &head.chain.header;
    let mut room = env.gas_limit;
    let (mut transactions, mut senders) = (Vec::new(), Vec::new());
    for entry in pool.into_iter().filter(|entry| !entry.queued) {
        let gas = entry.tx.envelope.gas_limit();
        let Some(left) = room.checked_sub(gas) else {
            continue;
        };
        room = left;
        senders.push(entry.tx.tx.sender);
        transactions.push(entry.tx.envelope.clone());
    }
    let header = Header {
        parent_hash: env.parent_hash,
        number: env.number.0,
        timestamp: env.timestamp,
        base_fee_per_gas: Some(env.base_fee),
        gas_limit: env.gas_limit,
        beneficiary: env.coinbase,
        mix_hash: env.prevrandao,
        state_root: parent.state_root,
        withdrawals_root: parent.withdrawals_root,
        blob_gas_used: parent.blob_gas_used,
        excess_blob_gas: parent.excess_blob_gas,
        parent_beacon_block_root: parent.parent_beacon_block_root,
        requests_hash: parent.requests_hash,
        ..Header::default()
    };
    ChainBlock::new(
        header.hash_slow(),
        header,
        transactions,
        senders,
        Vec::new(),
        Vec::new(),
    )
}

/// An answer with its tensors as contracts see them.
fn answer_view(settled: Arc<Settled>) -> AnswerView {
    let output = match &settled.outcome {
        Outcome::Output(bytes) => tensor::decode(bytes)
            .ok()
            .and_then(|tensors| encode_output(&tensors).ok())
            .and_then(|abi| solidity::ModelOutput::abi_decode(&abi).ok()),
        Outcome::Failed(_) => None,
    };
    let (numbers, strings) = output.map_or_else(Default::default, |output| {
        let numbers = output.numbers.into_iter().map(|tensor| NumberTensor {
            name: tensor.name,
            values: tensor
                .values
                .iter()
                .map(|n| (n.value, n.decimals))
                .collect(),
            shape: tensor.shape,
        });
        let strings = output.strings.into_iter().map(|tensor| StringTensor {
            name: tensor.name,
            values: tensor.values,
        });
        (numbers.collect(), strings.collect())
    });
    AnswerView {
        settled,
        numbers,
        strings,
    }
}
