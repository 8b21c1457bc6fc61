//! What the chain in memory says.

use super::{
    BASE_FEE, BOB, FakeChain, KEY, LOGGER, REVERTS, REVERTS_CUSTOM, WAITS, attestation, seal,
};
use alloy_eips::eip7910::EthConfig;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rpc_types_eth::simulate::SimulatePayload;
use alloy_rpc_types_eth::{AccessListResult, TransactionRequest};
use alloy_sol_types::{Revert, SolError};
use async_trait::async_trait;
use penstock_rpc::{
    AnswerView, At, BloomTest, ChainBlock, ChainReader, ConsumedView, Given, InferenceView,
    KeptView, MarketView, NumberTensor, Only, Overrides, PendingTx, PoolEntry, ProofView,
    QueueView, RequestView, RpcError, ShardView, SimulatedBlock, SimulatedCall, StageCount,
    StorageRangeView, Traced, Tracer,
};
use penstock_rules::ids::{Height, Igas, Micros, ModelHash, RequestKey, ShardId, TxHash};
use penstock_rules::message::ShardHello;
use penstock_rules::model::{ModelInfo, Port, Signature};
use penstock_rules::request::{Mode, Outcome, Request, Settled};
use penstock_rules::scheduler::{Congestion, Step, Window};
use penstock_rules::state::Account;
use penstock_rules::tensor::ElementType;
use penstock_rules::tx::{Reason, Stage, StatusUpdate};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::broadcast;

#[async_trait]
impl ChainReader for FakeChain {
    fn chain_id(&self) -> u64 {
        31337
    }

    fn hardfork(&self) -> String {
        "osaka".into()
    }

    fn head(&self) -> Arc<ChainBlock> {
        let blocks = self.blocks.read().expect("no panic");
        blocks.last().expect("genesis").clone()
    }

    async fn pending_block(&self) -> Result<Arc<ChainBlock>, RpcError> {
        let head = self.head();
        Ok(Arc::new(seal(
            head.header.number + 1,
            head.hash,
            vec![],
            vec![],
        )))
    }

    async fn block_by_height(&self, height: Height) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        let blocks = self.blocks.read().expect("no panic");
        Ok(blocks.get(height.0 as usize).cloned())
    }

    async fn block_by_hash(&self, hash: B256) -> Result<Option<Arc<ChainBlock>>, RpcError> {
        let blocks = self.blocks.read().expect("no panic");
        Ok(blocks.iter().find(|block| block.hash == hash).cloned())
    }

    async fn location(&self, hash: TxHash) -> Result<Option<(Height, u32)>, RpcError> {
        let blocks = self.blocks.read().expect("no panic");
        Ok(blocks.iter().find_map(|block| {
            let mut hashes = block.transactions.iter().map(|tx| *tx.tx_hash());
            let index = hashes.position(|h| h == hash)?;
            Some((block.height(), index as u32))
        }))
    }

    async fn blooms(
        &self,
        from: Height,
        to: Height,
        may_match: BloomTest,
    ) -> Result<Vec<Height>, RpcError> {
        let blocks = self.blocks.read().expect("no panic");
        Ok((from.0..=to.0)
            .filter(|&n| may_match(&blocks[n as usize].header.logs_bloom))
            .map(Height)
            .collect())
    }

    async fn account(&self, address: Address, at: At) -> Result<Account, RpcError> {
        let nonce = match at {
            At::Height(height) => height.0.min(1),
            At::Head | At::Pending => {
                let blocks = self.blocks.read().expect("no panic");
                let senders = blocks.iter().flat_map(|block| &block.senders);
                senders.filter(|sender| **sender == address).count() as u64
            }
        };
        Ok(Account {
            nonce,
            balance: U256::from(10).pow(U256::from(22)),
            ..Account::default()
        })
    }

    async fn slot(&self, address: Address, slot: U256, _: At) -> Result<U256, RpcError> {
        let known = address == LOGGER && slot.is_zero();
        Ok(U256::from(if known { 42 } else { 0 }))
    }

    async fn code(&self, address: Address, _: At) -> Result<Bytes, RpcError> {
        let code: &[u8] = if address == LOGGER { &[0x00] } else { &[] };
        Ok(Bytes::from_static(code))
    }

    async fn call(
        &self,
        request: TransactionRequest,
        _: At,
        overrides: Overrides,
    ) -> Result<Bytes, RpcError> {
        if overrides
            .answers
            .is_some_and(|given| !given.contains_key(&KEY))
        {
            return Err(RpcError::AnswerMissing(vec![KEY]));
        }
        match request.to.and_then(|to| to.into_to()) {
            Some(REVERTS) => Err(RpcError::Reverted(
                Revert::from("too poor").abi_encode().into(),
            )),
            Some(REVERTS_CUSTOM) => Err(RpcError::Reverted(Bytes::from_static(&[
                0xde, 0xad, 0xbe, 0xef,
            ]))),
            Some(WAITS) => Err(RpcError::InferenceNotReady {
                missing: 2,
                waited_ms: 5_000,
                reason: "NoShard".into(),
            }),
            _ => Ok(request.input.into_input().unwrap_or_default()),
        }
    }

    async fn estimate(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<u64, RpcError> {
        self.call(request, at, overrides).await.map(|_| 21_000)
    }

    async fn access_list(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<AccessListResult, RpcError> {
        self.call(request, at, overrides).await?;
        Ok(AccessListResult {
            gas_used: U256::from(21_000),
            ..AccessListResult::default()
        })
    }

    /// Runs nothing: traces are tested where the true chain is.
    async fn trace_call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
        _: Tracer,
    ) -> Result<Traced, RpcError> {
        self.call(request, at, overrides).await?;
        Ok(Traced::Calls(Vec::new()))
    }

    async fn trace_block(
        &self,
        _: Arc<ChainBlock>,
        _: Only,
        _: Tracer,
    ) -> Result<Vec<Traced>, RpcError> {
        Ok(Vec::new())
    }

    /// Simulates nothing: that is tested where the true chain is.
    async fn simulate(
        &self,
        payload: SimulatePayload,
        _: At,
        _: Option<Given>,
    ) -> Result<Vec<SimulatedBlock>, RpcError> {
        if payload.validation {
            return Err(RpcError::Simulation {
                code: -38014,
                text: "insufficient funds".into(),
            });
        }
        let head = self.head();
        let call = |outcome, gas_used| SimulatedCall {
            outcome,
            gas_used,
            logs: vec![],
        };
        Ok(vec![SimulatedBlock {
            header: head.header.clone(),
            hash: head.hash,
            transactions: vec![],
            senders: vec![],
            calls: vec![
                call(Ok(Bytes::from_static(&[1])), 21_000),
                call(Err(RpcError::Reverted(Bytes::from_static(&[2]))), 22_000),
                call(Err(RpcError::halted("OutOfGas")), 23_000),
            ],
        }])
    }

    async fn consumed(&self, _: Arc<ChainBlock>, _: usize) -> Result<ConsumedView, RpcError> {
        Ok(ConsumedView {
            requests: vec![request()],
            igas: Igas(110),
        })
    }

    async fn estimate_inference(
        &self,
        _: TransactionRequest,
        _: At,
        overrides: Overrides,
    ) -> Result<InferenceView, RpcError> {
        if overrides
            .answers
            .is_some_and(|given| !given.contains_key(&KEY))
        {
            return Err(RpcError::AnswerMissing(vec![KEY]));
        }
        Ok(InferenceView {
            rounds: vec![vec![KEY]],
            requests: vec![request()],
            igas: Igas(110),
            inference_gas: 11_000,
            gas: Some(60_000),
            error: None,
            blocks: Some(1),
        })
    }

    async fn market(&self, at: At) -> Result<MarketView, RpcError> {
        let height = match at {
            At::Height(height) => height.0,
            At::Head | At::Pending => self.head().header.number,
        };
        Ok(MarketView {
            multiplier: 100 + height,
            igas: Igas(height),
            inference_gas: 100 * height,
            igas_limit: Igas(1_000),
        })
    }

    fn kept(&self) -> KeptView {
        KeptView {
            state: (Height(1), Some(1_024)),
            proofs: (Height(1), 128),
        }
    }

    async fn config(&self) -> Result<EthConfig, RpcError> {
        Err(RpcError::HeaderNotFound)
    }

    async fn proof(
        &self,
        address: Address,
        slots: Vec<U256>,
        at: At,
    ) -> Result<ProofView, RpcError> {
        let mut values = Vec::new();
        for slot in slots {
            values.push((self.slot(address, slot, at).await?, Vec::new()));
        }
        Ok(ProofView {
            account: self.account(address, at).await?,
            slots: values,
            ..ProofView::default()
        })
    }

    /// Two slots, whatever the account: what the true chain holds is tested where it is.
    async fn storage_range(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
        _: Address,
        start: B256,
        limit: usize,
    ) -> Result<StorageRangeView, RpcError> {
        if index >= block.transactions.len().max(1) {
            return Err(RpcError::Trace("transaction index out of range".into()));
        }
        let slot = |n| {
            (
                B256::repeat_byte(n),
                U256::from(n),
                U256::from(n) * U256::from(10),
            )
        };
        let all = [slot(1), slot(2)].into_iter();
        let mut slots: Vec<_> = all.filter(|(key, ..)| *key >= start).collect();
        let next = slots.get(limit).map(|(key, ..)| *key);
        slots.truncate(limit);
        Ok(StorageRangeView { slots, next })
    }

    fn next_base_fee(&self) -> u64 {
        BASE_FEE
    }

    fn pending(&self, hash: TxHash) -> Option<Arc<PendingTx>> {
        let pool = self.pool.read().expect("no panic");
        let found = pool.iter().find(|entry| entry.tx.tx.hash == hash);
        found.map(|entry| entry.tx.clone())
    }

    fn pool(&self) -> Vec<PoolEntry> {
        self.pool.read().expect("no panic").clone()
    }

    async fn next_nonce(&self, sender: Address) -> Result<u64, RpcError> {
        let mined = self.account(sender, At::Head).await?.nonce;
        let pool = self.pool.read().expect("no panic");
        let pending = pool
            .iter()
            .filter(|entry| entry.tx.tx.sender == sender && !entry.queued);
        Ok(mined + pending.count() as u64)
    }

    fn watch_blocks(&self) -> broadcast::Receiver<Arc<ChainBlock>> {
        self.heads.subscribe()
    }

    fn watch_pending(&self) -> broadcast::Receiver<Arc<PendingTx>> {
        self.pending.subscribe()
    }

    fn watch_statuses(&self) -> broadcast::Receiver<StatusUpdate> {
        self.statuses.subscribe()
    }

    fn history(&self, hash: TxHash) -> Vec<StatusUpdate> {
        let step = |at, stage| StatusUpdate {
            hash,
            at: Micros::from_millis(at),
            stage,
        };
        if self.pending(hash).is_none() {
            return Vec::new();
        }
        if self.plain.load(Ordering::Relaxed) {
            return vec![step(1_000, Stage::Accepted)];
        }
        vec![
            step(1_000, Stage::Accepted),
            step(
                1_001,
                Stage::Inferring {
                    round: 1,
                    requests: 3,
                },
            ),
            step(
                1_002,
                Stage::Deferred {
                    reason: Reason::Outbid(5),
                    blocks: 2,
                },
            ),
        ]
    }

    async fn answer(&self, key: RequestKey) -> Option<AnswerView> {
        (key == KEY).then(|| AnswerView {
            settled: Arc::new(Settled {
                key,
                outcome: Outcome::Output(Bytes::from_static(b"tensors")),
                attestations: vec![attestation()],
            }),
            numbers: vec![NumberTensor {
                name: "y".into(),
                values: vec![(-15, 1)],
                shape: vec![1, 1],
            }],
            strings: vec![],
        })
    }

    async fn models(&self) -> Result<Vec<ModelInfo>, RpcError> {
        let port = |name: &str, shape: &[u32]| Port {
            name: name.into(),
            element: ElementType::F32,
            shape: shape.into(),
        };
        Ok(vec![ModelInfo {
            cid: "risk".into(),
            hash: ModelHash(keccak256("risk")),
            igas_base: Igas(100),
            igas_per_unit: Igas(10),
            signature: Signature {
                inputs: vec![port("x", &[0, 10])],
                outputs: vec![port("y", &[0, 1])],
            },
        }])
    }

    fn shards(&self) -> Vec<ShardView> {
        vec![ShardView {
            hello: shard_hello(),
            seen: Micros::from_secs(1),
            silent: false,
            evidence: None,
            answers: 5,
            batches: 2,
        }]
    }

    async fn queue(&self) -> Result<QueueView, RpcError> {
        Ok(QueueView {
            stages: vec![StageCount {
                name: "inferring".into(),
                count: 1,
            }],
            reasons: vec![],
            requests: 3,
            calls: 0,
            multiplier: 100,
            congestion: Some(Congestion {
                height: Height(2),
                waiting: 3,
                capacity: Micros(2_000_000),
                steps: vec![
                    Step {
                        blocks: 1,
                        price: 500,
                    },
                    Step {
                        blocks: 4,
                        price: 20,
                    },
                ],
                window: Some(Window {
                    first: Height(1),
                    last: Height(1),
                    included: 950,
                    bound: 1_000,
                    price: 18,
                }),
            }),
        })
    }
}

fn request() -> RequestView {
    RequestView {
        key: KEY,
        request: Request {
            model: ModelHash(keccak256("risk")),
            mode: Mode::Vanilla,
            input: Bytes::from_static(b"input"),
        },
        igas: Igas(110),
    }
}

fn shard_hello() -> ShardHello {
    ShardHello {
        shard: ShardId(BOB),
        incarnation: 1,
        backend: "cpu".into(),
        engine_version: 1,
        models: vec![ModelHash(keccak256("risk"))],
        batch_max: 8,
        queue_max: 2,
        draining: false,
        held: vec![],
    }
}
