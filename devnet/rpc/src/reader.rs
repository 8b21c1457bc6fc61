//! What the methods read: one trait, and the views that it gives.

use crate::errors::RpcError;
use alloy_consensus::{Header, TxEnvelope};
use alloy_eips::Decodable2718;
use alloy_eips::eip7910::EthConfig;
use alloy_primitives::map::HashSet;
use alloy_primitives::{Address, B256, Bloom, Bytes, Log, U256};
use alloy_rlp::{Decodable, Encodable};
use alloy_rpc_types_eth::simulate::SimulatePayload;
use alloy_rpc_types_eth::{
    AccessListResult, BlockOverrides, TransactionRequest, state::StateOverride,
};
use alloy_rpc_types_trace::geth::{GethDebugTracingOptions, GethTrace};
use alloy_rpc_types_trace::parity::{LocalizedTransactionTrace, TraceResults, TraceType};
use async_trait::async_trait;
use penstock_rules::block::{Block, WitnessEntry};
use penstock_rules::ids::{Height, Igas, Micros, RequestKey, TxHash};
use penstock_rules::message::ShardHello;
use penstock_rules::model::ModelInfo;
use penstock_rules::request::{Request, Settled};
use penstock_rules::scheduler::{Congestion, Evidence};
use penstock_rules::state::{Account, Receipt};
use penstock_rules::tx::{PoolTx, StatusUpdate};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::sync::broadcast;

/// A block with all that an answer may need of it, decoded once and shared.
#[derive(Clone, Debug)]
pub struct ChainBlock {
    /// Block hash.
    pub hash: B256,
    /// Header.
    pub header: Header,
    /// Transactions, in order.
    pub transactions: Vec<TxEnvelope>,
    /// Their senders.
    pub senders: Vec<Address>,
    /// Their receipts; empty for the pending block.
    pub receipts: Vec<Receipt>,
    /// Index in the block of each receipt's first log.
    pub first_log: Vec<u64>,
    /// Requests that the block consumed, behind its privileged entry where it has one.
    pub witness: Vec<WitnessEntry>,
    /// Its producer's signature on the hash; empty at genesis and for blocks that are in no log.
    pub signature: Bytes,
    /// Length of the block as Ethereum encodes it, in bytes (the witness is not part of it).
    pub size: u64,
}

/// Why a stored block can't be read.
#[derive(Clone, Debug, thiserror::Error)]
pub enum BlockDataError {
    /// The header is not RLP.
    #[error("header does not decode: {0}")]
    Header(alloy_rlp::Error),
    /// A transaction is not an EIP-2718 envelope.
    #[error("transaction {index} does not decode: {error}")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        error: alloy_eips::eip2718::Eip2718Error,
    },
    /// Senders or receipts are not one per transaction.
    #[error("{transactions} transactions, but {senders} senders and {receipts} receipts")]
    Count {
        /// Of the block.
        transactions: usize,
        /// That came with it.
        senders: usize,
        /// That came with it.
        receipts: usize,
    },
}

impl ChainBlock {
    /// Decodes a block of the log.
    ///
    /// # Errors
    /// Names what does not decode.
    pub fn decode(
        block: &Block,
        senders: Vec<Address>,
        receipts: Vec<Receipt>,
    ) -> Result<Self, BlockDataError> {
        let header = Header::decode(&mut &block.header[..]).map_err(BlockDataError::Header)?;
        let transactions = block
            .transactions
            .iter()
            .enumerate()
            .map(|(index, raw)| {
                TxEnvelope::decode_2718(&mut &raw[..])
                    .map_err(|error| BlockDataError::Transaction { index, error })
            })
            .collect::<Result<Vec<_>, _>>()?;
        if senders.len() != transactions.len() || receipts.len() != transactions.len() {
            return Err(BlockDataError::Count {
                transactions: transactions.len(),
                senders: senders.len(),
                receipts: receipts.len(),
            });
        }
        let decoded = Self::new(
            alloy_primitives::keccak256(&block.header),
            header,
            transactions,
            senders,
            receipts,
            block.witness.clone(),
        );
        Ok(Self {
            signature: block.signature.clone(),
            ..decoded
        })
    }

    /// Puts decoded parts together.
    #[must_use]
    pub fn new(
        hash: B256,
        header: Header,
        transactions: Vec<TxEnvelope>,
        senders: Vec<Address>,
        receipts: Vec<Receipt>,
        witness: Vec<WitnessEntry>,
    ) -> Self {
        let first_log = receipts
            .iter()
            .scan(0, |next, receipt| {
                let first = *next;
                *next += receipt.logs.len() as u64;
                Some(first)
            })
            .collect();
        let size = block_size(&header, &transactions);
        Self {
            hash,
            header,
            transactions,
            senders,
            receipts,
            first_log,
            witness,
            signature: Bytes::new(),
            size,
        }
    }

    /// Its height.
    #[must_use]
    pub fn height(&self) -> Height {
        Height(self.header.number)
    }
}

/// Length in bytes of the RLP list (header, transactions, ommers, withdrawals), as `eth_getBlockBy*` reports it.
fn block_size(header: &Header, transactions: &[TxEnvelope]) -> u64 {
    let list = |payload_length: usize| {
        payload_length
            + alloy_rlp::Header {
                list: true,
                payload_length,
            }
            .length()
    };
    let bodies = list(transactions.iter().map(Encodable::length).sum());
    let withdrawals = usize::from(header.withdrawals_root.is_some());
    // One byte each for the empty lists of ommers and withdrawals.
    list(header.length() + bodies + 1 + withdrawals) as u64
}

/// A transaction of the pool, decoded.
#[derive(Clone, Debug)]
pub struct PendingTx {
    /// As the pool has it.
    pub tx: PoolTx,
    /// Decoded.
    pub envelope: TxEnvelope,
}

/// A transaction's place in the pool.
#[derive(Clone, Debug)]
pub struct PoolEntry {
    /// The transaction.
    pub tx: Arc<PendingTx>,
    /// It can't be executed yet: a lower nonce of its sender is missing.
    pub queued: bool,
}

/// The state that a read is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum At {
    /// After the head.
    Head,
    /// After the head; code that runs sees the environment of the next block.
    Pending,
    /// After the block of this height. It exists.
    Height(Height),
}

/// Outputs by request, canonical tensors: these count instead of what shards say.
pub type Given = BTreeMap<RequestKey, Bytes>;

/// What a call pretends.
#[derive(Clone, Debug, Default)]
pub struct Overrides {
    /// Of accounts.
    pub state: Option<StateOverride>,
    /// Of the block environment.
    pub block: Option<Box<BlockOverrides>>,
    /// Of inference. With these no shard is asked, and what is not among them is [`RpcError::AnswerMissing`].
    pub answers: Option<Given>,
}

/// A block that was simulated.
#[derive(Clone, Debug)]
pub struct SimulatedBlock {
    /// Header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// A transaction for each call.
    pub transactions: Vec<TxEnvelope>,
    /// Their senders.
    pub senders: Vec<Address>,
    /// What each call came to.
    pub calls: Vec<SimulatedCall>,
}

/// What a simulated call came to.
#[derive(Clone, Debug)]
pub struct SimulatedCall {
    /// Return data; or [`RpcError::Reverted`], [`RpcError::Halted`].
    pub outcome: Result<Bytes, RpcError>,
    /// Gas used.
    pub gas_used: u64,
    /// Logs, transfers of ether among them where they were asked for.
    pub logs: Vec<Log>,
}

/// A shard, as its last hello said.
#[derive(Clone, Debug)]
pub struct ShardView {
    /// The hello.
    pub hello: ShardHello,
    /// When it came.
    pub seen: Micros,
    /// It has not been heard of for longer than shards repeat their hello.
    pub silent: bool,
    /// Why it is quarantined: it signed another answer than the others. The proof was checked.
    pub evidence: Option<Evidence>,
    /// Answers of it that this process heard, and batches that they came in.
    pub answers: u64,
    /// See [`ShardView::answers`].
    pub batches: u64,
}

/// A request's answer, as contracts see it.
#[derive(Clone, Debug)]
pub struct AnswerView {
    /// Outcome and attestations.
    pub settled: Arc<Settled>,
    /// The output's numeric tensors; empty where the model failed.
    pub numbers: Vec<NumberTensor>,
    /// The output's string tensors.
    pub strings: Vec<StringTensor>,
}

/// A tensor of decimals: each `value / 10^decimals`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NumberTensor {
    /// Name.
    pub name: String,
    /// Value and decimals, row by row.
    pub values: Vec<(i128, i128)>,
    /// Dimensions.
    pub shape: Vec<u32>,
}

/// A tensor of strings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StringTensor {
    /// Name.
    pub name: String,
    /// Elements.
    pub values: Vec<String>,
}

/// How many transactions are at a stage.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StageCount {
    /// The stage's name, or the deferral's reason.
    pub name: String,
    /// Transactions.
    pub count: u64,
}

/// What waits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct QueueView {
    /// Transactions of the pool, by stage.
    pub stages: Vec<StageCount>,
    /// Deferred ones, by reason.
    pub reasons: Vec<StageCount>,
    /// Requests of transactions that wait for answers in their present round.
    pub requests: u64,
    /// Calls (`eth_call` and its kin) that wait for answers.
    pub calls: u64,
    /// Gas per igas at the head.
    pub multiplier: u64,
    /// What the scheduler said with the last head; none where it said nothing for long.
    pub congestion: Option<Congestion>,
}

/// A request that a run consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RequestView {
    /// Its identity.
    pub key: RequestKey,
    /// Model, mode and input.
    pub request: Request,
    /// Inference units of one use.
    pub igas: Igas,
}

/// What a transaction asked models for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ConsumedView {
    /// Each request once, in order of first use.
    pub requests: Vec<RequestView>,
    /// Inference units that it paid for.
    pub igas: Igas,
}

/// What a call would ask models for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceView {
    /// Requests by round of discovery.
    pub rounds: Vec<Vec<RequestKey>>,
    /// Each request once, in order of first use.
    pub requests: Vec<RequestView>,
    /// Inference units that it would pay for.
    pub igas: Igas,
    /// Gas that these cost at today's multiplier.
    pub inference_gas: u64,
    /// Gas limit with which the call succeeds, inference included; none where it fails.
    pub gas: Option<u64>,
    /// Why it fails, where it does.
    pub error: Option<RpcError>,
    /// Blocks until it would be included, the one that includes it counted, with nothing else on the shards; none where
    /// no block has room for it.
    pub blocks: Option<u64>,
}

/// The inference market after a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MarketView {
    /// Gas per igas in the block that follows.
    pub multiplier: u64,
    /// Inference units of the block's transactions.
    pub igas: Igas,
    /// Gas that they paid for these.
    pub inference_gas: u64,
    /// Inference units that a block may have.
    pub igas_limit: Igas,
}

/// What a node keeps. Blocks, transactions, receipts and logs are kept for ever.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptView {
    /// The oldest block whose state can be read, and for how many blocks it stays; none: for ever.
    pub state: (Height, Option<u64>),
    /// The oldest block whose state can be proved, and for how many blocks it stays.
    pub proofs: (Height, u64),
}

/// What watches a run.
#[derive(Clone, Debug)]
pub enum Tracer {
    /// One of geth's.
    Geth(Box<GethDebugTracingOptions>),
    /// Parity's flat list of calls, creations and self-destructions.
    Calls,
    /// Parity's replay: the same, steps, and what changed.
    Replay(HashSet<TraceType>),
}

/// What a tracer saw of one run.
#[derive(Clone, Debug)]
pub enum Traced {
    /// By [`Tracer::Geth`].
    Geth(Box<GethTrace>),
    /// By [`Tracer::Calls`].
    Calls(Vec<LocalizedTransactionTrace>),
    /// By [`Tracer::Replay`].
    Replay(Box<TraceResults>),
}

/// Which transactions of a block are traced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    /// All.
    Every,
    /// The one at this index.
    Index(usize),
}

/// An account with the trie nodes that prove it (EIP-1186).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ProofView {
    /// The account; the empty one where there is none.
    pub account: Account,
    /// Root of its storage.
    pub storage_root: B256,
    /// Nodes from the state root down, RLP.
    pub nodes: Vec<Bytes>,
    /// Of each slot that was asked for: its value, and nodes from the storage root down.
    pub slots: Vec<(U256, Vec<Bytes>)>,
}

/// Part of an account's storage, in the order of its trie.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StorageRangeView {
    /// Hashed key, slot, value.
    pub slots: Vec<(B256, U256, U256)>,
    /// The hashed key that follows; none after the last.
    pub next: Option<B256>,
}

/// Says whether a block with this bloom may hold what is looked for.
pub type BloomTest = Box<dyn Fn(&Bloom) -> bool + Send>;

/// The chain, for reading. Every method answers for one consistent head, though not the same from call to call.
#[async_trait]
pub trait ChainReader: Send + Sync + 'static {
    /// Chain id.
    fn chain_id(&self) -> u64;

    /// Name of the hardfork whose rules the chain has: `osaka`, say.
    fn hardfork(&self) -> String;

    /// The head, from memory.
    fn head(&self) -> Arc<ChainBlock>;

    /// Header and ready transactions of the block that would be built now. No receipts.
    async fn pending_block(&self) -> Result<Arc<ChainBlock>, RpcError>;

    /// A block of the chain.
    async fn block_by_height(&self, height: Height) -> Result<Option<Arc<ChainBlock>>, RpcError>;

    /// A block of the chain.
    async fn block_by_hash(&self, hash: B256) -> Result<Option<Arc<ChainBlock>>, RpcError>;

    /// Where an included transaction is: height and index.
    async fn location(&self, hash: TxHash) -> Result<Option<(Height, u32)>, RpcError>;

    /// Heights of `from..=to` (both exist) whose header bloom passes `may_match`, ascending.
    async fn blooms(
        &self,
        from: Height,
        to: Height,
        may_match: BloomTest,
    ) -> Result<Vec<Height>, RpcError>;

    /// An account; the empty one where there is none.
    async fn account(&self, address: Address, at: At) -> Result<Account, RpcError>;

    /// A storage slot.
    async fn slot(&self, address: Address, slot: U256, at: At) -> Result<U256, RpcError>;

    /// An account's code.
    async fn code(&self, address: Address, at: At) -> Result<Bytes, RpcError>;

    /// Runs a call, with real inference. [`RpcError::Reverted`] and [`RpcError::Halted`] where it does not return.
    async fn call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<Bytes, RpcError>;

    /// A gas limit with which the call succeeds, inference included: at most 1.5 % above the least.
    async fn estimate(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<u64, RpcError>;

    /// The access list with which the call touches nothing else.
    async fn access_list(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<AccessListResult, RpcError>;

    /// Runs a call as [`ChainReader::call`] does, and a tracer watches. A call that fails is traced like any other.
    async fn trace_call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
        tracer: Tracer,
    ) -> Result<Traced, RpcError>;

    /// Runs blocks of calls on a state, of which nothing stays (`eth_simulateV1`), with real inference, or with `answers`
    /// as in [`Overrides::answers`].
    async fn simulate(
        &self,
        payload: SimulatePayload,
        at: At,
        answers: Option<Given>,
    ) -> Result<Vec<SimulatedBlock>, RpcError>;

    /// What the transaction at `index` of a block asked models for: the block is executed again up to there.
    async fn consumed(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
    ) -> Result<ConsumedView, RpcError>;

    /// What a call would ask models for, and what that would cost.
    async fn estimate_inference(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<InferenceView, RpcError>;

    /// The inference market after a block.
    async fn market(&self, at: At) -> Result<MarketView, RpcError>;

    /// What is kept, and how long.
    fn kept(&self) -> KeptView;

    /// What the chain's rules are (EIP-7910).
    async fn config(&self) -> Result<EthConfig, RpcError>;

    /// Executes a block again, from its parent's state and its witness, and a tracer watches: one item for each
    /// transaction that was asked for.
    async fn trace_block(
        &self,
        block: Arc<ChainBlock>,
        only: Only,
        tracer: Tracer,
    ) -> Result<Vec<Traced>, RpcError>;

    /// An account and slots of it, with proofs. Tries are kept for recent blocks alone: [`RpcError::NoProof`] before.
    async fn proof(
        &self,
        address: Address,
        slots: Vec<U256>,
        at: At,
    ) -> Result<ProofView, RpcError>;

    /// An account's slots by hashed key, from `start` on, as they are when the transaction at `index` of a block begins:
    /// [`RpcError::NoProof`] where the tries are no longer kept.
    async fn storage_range(
        &self,
        block: Arc<ChainBlock>,
        index: usize,
        address: Address,
        start: B256,
        limit: usize,
    ) -> Result<StorageRangeView, RpcError>;

    /// Base fee of the next block, wei per gas.
    fn next_base_fee(&self) -> u64;

    /// A transaction of the pool.
    fn pending(&self, hash: TxHash) -> Option<Arc<PendingTx>>;

    /// All transactions of the pool, by sender and nonce.
    fn pool(&self) -> Vec<PoolEntry>;

    /// The nonce after the sender's executable pending transactions.
    async fn next_nonce(&self, sender: Address) -> Result<u64, RpcError>;

    /// Blocks from now on, in order. A receiver that lags must read what it missed by height.
    fn watch_blocks(&self) -> broadcast::Receiver<Arc<ChainBlock>>;

    /// Transactions that the pool takes from now on.
    fn watch_pending(&self) -> broadcast::Receiver<Arc<PendingTx>>;

    /// Steps of transactions from now on.
    fn watch_statuses(&self) -> broadcast::Receiver<StatusUpdate>;

    /// What is known of a transaction's way, oldest first; empty where nothing is.
    fn history(&self, hash: TxHash) -> Vec<StatusUpdate>;

    /// A request's answer, where it is known.
    async fn answer(&self, key: RequestKey) -> Option<AnswerView>;

    /// Models of the registry at the head.
    async fn models(&self) -> Result<Vec<ModelInfo>, RpcError>;

    /// Shards that were heard of.
    fn shards(&self) -> Vec<ShardView>;

    /// What waits.
    async fn queue(&self) -> Result<QueueView, RpcError>;
}
