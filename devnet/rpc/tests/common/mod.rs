//! A chain of a few blocks in memory, behind a real server: for forms, codes and quirks. What the true chain answers is
//! tested where the true chain is.

#![allow(dead_code)] // Each test file uses its part.

pub mod ws;

use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Header, Transaction as _, TxEnvelope, TypedTransaction};
use alloy_eips::eip7910::EthConfig;
use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, LogData, U256, address, b256, keccak256};
use alloy_rpc_types_eth::simulate::SimulatePayload;
use alloy_rpc_types_eth::{AccessListResult, TransactionRequest};
use alloy_sol_types::{Revert, SolError};
use async_trait::async_trait;
use penstock_rpc::{
    AnswerView, At, BloomTest, ChainBlock, ChainReader, ConsumedView, DevAccounts, DevControl,
    DumpedAccount, Given, InferenceView, KeptView, MarketView, NumberTensor, Only, Overrides,
    PendingTx, PoolEntry, ProofView, QueueView, RequestView, RpcError, ServerConfig, ServerHandle,
    ShardView, SimulatedBlock, SimulatedCall, StageCount, Traced, Tracer, TxSubmitter, serve,
};
use penstock_rules::block::WitnessEntry;
use penstock_rules::dev::{Change, DevDone, DevOrder, DevRefusal, MineTime, Settings};
use penstock_rules::ids::{Height, Igas, Micros, ModelHash, RequestKey, ShardId, TxHash};
use penstock_rules::message::ShardHello;
use penstock_rules::model::{ModelInfo, Port, Signature};
use penstock_rules::producer::Timetable;
use penstock_rules::request::{Attestation, Mode, Outcome, Request, Settled};
use penstock_rules::scheduler::{Congestion, Step, Window};
use penstock_rules::state::{Account, Receipt};
use penstock_rules::tensor::ElementType;
use penstock_rules::tx::{PoolTx, Reason, Refusal, Stage, StatusUpdate};
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, RwLock};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::broadcast;

/// The first account of the mnemonic.
pub const ALICE: Address = address!("f39Fd6e51aad88F6F4ce6aB8827279cffFb92266");
/// The second.
pub const BOB: Address = address!("70997970C51812dc3A010C7d01b50e0d17dc79C8");
/// Calls to it revert with `Error("too poor")`.
pub const REVERTS: Address = address!("00000000000000000000000000000000000000e1");
/// Calls to it revert with a custom error.
pub const REVERTS_CUSTOM: Address = address!("00000000000000000000000000000000000000e2");
/// Calls to it wait for inference in vain.
pub const WAITS: Address = address!("00000000000000000000000000000000000000e3");
/// The address that logs in block 1, its code, and its only slot's value.
pub const LOGGER: Address = address!("00000000000000000000000000000000000000aa");
/// Topic of the log.
pub const TOPIC: B256 = b256!("00000000000000000000000000000000000000000000000000000000000000bb");
/// The one request that was ever answered.
pub const KEY: RequestKey = RequestKey(B256::repeat_byte(7));

const GAS_LIMIT: u64 = 30_000_000;
const BASE_FEE: u64 = 1_000_000_000;

pub struct FakeChain {
    blocks: RwLock<Vec<Arc<ChainBlock>>>,
    pool: RwLock<Vec<PoolEntry>>,
    orders: RwLock<Vec<DevOrder>>,
    /// How many producers its genesis names.
    pub producers: AtomicU32,
    heads: broadcast::Sender<Arc<ChainBlock>>,
    pending: broadcast::Sender<Arc<PendingTx>>,
    /// Steps of transactions, for who subscribes.
    pub statuses: broadcast::Sender<StatusUpdate>,
}

impl FakeChain {
    /// Genesis alone.
    pub fn new() -> Arc<Self> {
        let genesis = seal(0, B256::ZERO, vec![], vec![]);
        Arc::new(Self {
            blocks: RwLock::new(vec![Arc::new(genesis)]),
            pool: RwLock::default(),
            orders: RwLock::default(),
            producers: AtomicU32::new(1),
            heads: broadcast::channel(4).0,
            pending: broadcast::channel(16).0,
            statuses: broadcast::channel(16).0,
        })
    }

    /// Puts the pool's executable transactions into a block. A transaction to [`LOGGER`] logs its input.
    pub fn mine(&self) -> Arc<ChainBlock> {
        let mut pool = self.pool.write().expect("no panic");
        let (queued, ready): (Vec<_>, Vec<_>) = pool.drain(..).partition(|entry| entry.queued);
        *pool = queued;
        drop(pool);
        let transactions: Vec<TxEnvelope> = ready
            .iter()
            .map(|entry| entry.tx.envelope.clone())
            .collect();
        let senders: Vec<Address> = ready.iter().map(|entry| entry.tx.tx.sender).collect();
        let parent = self.head();
        let block = Arc::new(seal(
            parent.header.number + 1,
            parent.hash,
            transactions,
            senders,
        ));
        self.blocks.write().expect("no panic").push(block.clone());
        let _ = self.heads.send(block.clone());
        block
    }
}

fn seal(
    number: u64,
    parent_hash: B256,
    transactions: Vec<TxEnvelope>,
    senders: Vec<Address>,
) -> ChainBlock {
    let mut cumulative_gas_used = 0;
    let receipts: Vec<Receipt> = transactions
        .iter()
        .zip(&senders)
        .map(|(tx, from)| {
            cumulative_gas_used += 21_000;
            let logs = (tx.to() == Some(LOGGER)).then(|| Log {
                address: LOGGER,
                data: LogData::new_unchecked(vec![TOPIC], tx.input().clone()),
            });
            Receipt {
                tx_hash: *tx.tx_hash(),
                tx_type: tx.tx_type() as u8,
                success: true,
                gas_used: 21_000,
                cumulative_gas_used,
                inference_gas_used: 0,
                effective_gas_price: tx.effective_gas_price(Some(BASE_FEE)),
                from: *from,
                logs: logs.into_iter().collect(),
                output: Bytes::new(),
                contract_address: tx.to().is_none().then(|| from.create(tx.nonce())),
            }
        })
        .collect();
    let logs_bloom: Bloom = receipts.iter().flat_map(|r| &r.logs).collect();
    let witness = (number == 1).then(|| WitnessEntry {
        key: KEY,
        outcome: Outcome::Output(Bytes::from_static(b"tensors")),
        attestations: vec![attestation()],
    });
    let header = Header {
        parent_hash,
        number,
        gas_limit: GAS_LIMIT,
        gas_used: cumulative_gas_used,
        timestamp: 1_700_000_000 + number,
        base_fee_per_gas: Some(BASE_FEE),
        withdrawals_root: Some(alloy_consensus::constants::EMPTY_WITHDRAWALS),
        blob_gas_used: Some(0),
        excess_blob_gas: Some(0),
        parent_beacon_block_root: Some(B256::ZERO),
        requests_hash: Some(alloy_eips::eip7685::EMPTY_REQUESTS_HASH),
        extra_data: B256::repeat_byte(0x11).into(),
        logs_bloom,
        ..Header::default()
    };
    ChainBlock::new(
        header.hash_slow(),
        header,
        transactions,
        senders,
        receipts,
        witness.into_iter().collect(),
    )
}

fn attestation() -> Attestation {
    Attestation {
        shard: ShardId(BOB),
        signature: Bytes::from_static(&[1; 65]),
    }
}

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

#[async_trait]
impl TxSubmitter for FakeChain {
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        let envelope = TxEnvelope::decode_2718(&mut &raw[..])
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let sender = envelope
            .recover_signer()
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let hash = *envelope.tx_hash();
        let next = self.next_nonce(sender).await.expect("in memory");
        let nonce = envelope.nonce();
        if self.pending(hash).is_some() {
            return Err(Refusal::AlreadyKnown);
        }
        if nonce < next {
            return Err(Refusal::NonceTooLow { next, nonce });
        }
        let pending = Arc::new(PendingTx {
            tx: PoolTx {
                hash,
                sender,
                nonce,
                gas_limit: envelope.gas_limit(),
                max_fee_per_gas: envelope.max_fee_per_gas(),
                max_priority_fee_per_gas: envelope.max_priority_fee_per_gas().unwrap_or_default(),
                cost_max: envelope.value(),
                raw: envelope.encoded_2718().into(),
            },
            envelope,
        });
        self.pool.write().expect("no panic").push(PoolEntry {
            tx: pending.clone(),
            queued: nonce > next,
        });
        let _ = self.pending.send(pending);
        Ok(hash)
    }
}

/// It takes every order and carries none out: what they do is tested where the true chain is.
#[async_trait]
impl DevControl for FakeChain {
    fn allowed(&self) -> Result<(), RpcError> {
        match self.producers.load(Ordering::Relaxed) {
            1 => Ok(()),
            producers => Err(DevRefusal::Producers { producers }.into()),
        }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn timetable(&self) -> Timetable {
        Timetable::AtOnce
    }

    async fn change(&self, changes: Vec<Change>) -> Result<DevDone, RpcError> {
        if let [Change::Restore { snapshot: 9 }] = changes[..] {
            return Err(DevRefusal::Snapshot(9).into());
        }
        self.orders
            .write()
            .expect("no panic")
            .push(DevOrder::Change(changes));
        Ok(self.done())
    }

    async fn mine(&self, time: MineTime) -> Result<DevDone, RpcError> {
        self.mine();
        let wanted = Vec::new();
        let order = DevOrder::Mine { wanted, time };
        self.orders.write().expect("no panic").push(order);
        Ok(self.done())
    }

    async fn snapshot(&self) -> Result<u64, RpcError> {
        Ok(1)
    }

    async fn discard(&self, hashes: Option<Vec<TxHash>>) -> Result<Vec<TxHash>, RpcError> {
        let mut pool = self.pool.write().expect("no panic");
        let goes = |hash: &TxHash| hashes.as_ref().is_none_or(|hashes| hashes.contains(hash));
        let gone = pool
            .iter()
            .map(|entry| entry.tx.tx.hash)
            .filter(|h| goes(h));
        let gone = gone.collect();
        pool.retain(|entry| !goes(&entry.tx.tx.hash));
        Ok(gone)
    }

    async fn send_as(&self, from: Address, _: TypedTransaction) -> Result<TxHash, RpcError> {
        Ok(from.into_word())
    }

    async fn dump(&self) -> Result<BTreeMap<Address, DumpedAccount>, RpcError> {
        Ok(BTreeMap::from([(LOGGER, DumpedAccount::default())]))
    }
}

impl FakeChain {
    fn done(&self) -> DevDone {
        let head = self.head();
        DevDone {
            height: head.height(),
            hash: head.hash,
            snapshot: 0,
        }
    }

    /// What was ordered since the last look.
    pub fn ordered(&self) -> Vec<DevOrder> {
        std::mem::take(&mut *self.orders.write().expect("no panic"))
    }
}

/// A server over a fake chain.
pub struct Node {
    pub chain: Arc<FakeChain>,
    pub server: ServerHandle,
}

impl Node {
    /// With genesis alone.
    pub async fn start() -> Self {
        Self::with(ServerConfig::default()).await
    }

    /// With these limits, on a free port.
    pub async fn with(config: ServerConfig) -> Self {
        let chain = FakeChain::new();
        let accounts = DevAccounts::from_mnemonic(DevAccounts::MNEMONIC, 10).expect("valid");
        let config = ServerConfig {
            listen: ([127, 0, 0, 1], 0).into(),
            ..config
        };
        let server = serve(
            config,
            chain.clone(),
            chain.clone(),
            chain.clone(),
            accounts,
        )
        .await
        .expect("a free port");
        Self { chain, server }
    }

    /// One HTTP exchange: status line and headers, and body.
    pub async fn http(&self, request: &str) -> (String, String) {
        let mut stream = TcpStream::connect(self.server.addr())
            .await
            .expect("listens");
        stream.write_all(request.as_bytes()).await.expect("writes");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.expect("utf-8");
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        (head.to_lowercase(), body.to_owned())
    }

    /// Posts a body as JSON.
    pub async fn post(&self, body: &str) -> (String, String) {
        self.http(&format!(
            "POST / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.org\r\nContent-Type: application/json\r\n\
             Content-Length: {}\r\nConnection: close\r\n\r\n{body}",
            body.len()
        ))
        .await
    }

    /// The whole answer to one request.
    pub async fn answer(&self, method: &str, params: Value) -> Value {
        let request =
            serde_json::json!({ "jsonrpc": "2.0", "id": 1, "method": method, "params": params });
        let (_, body) = self.post(&request.to_string()).await;
        serde_json::from_str(&body).expect("json")
    }

    /// The result of one request, which must succeed.
    pub async fn result(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("error").is_none(), "{method}: {answer}");
        answer["result"].take()
    }

    /// The error of one request, which must fail.
    pub async fn error(&self, method: &str, params: Value) -> Value {
        let mut answer = self.answer(method, params).await;
        assert!(answer.get("result").is_none(), "{method}: {answer}");
        answer["error"].take()
    }
}
