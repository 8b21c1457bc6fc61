//! Shell of the gateway: what JSON-RPC reads, and the way in for transactions.
//!
//! ```text
//!   JSON-RPC --ChainReader--> blocks (recent ones in memory, old ones in the store)
//!                             pool   (what this chain's mempool took and no block has)
//!                             status (where each transaction is)    <--status---- mempool, extractor
//!                             shards (who serves, how much)         <--hello, answers-- shards
//!                             calls  --gang--> scheduler, results <--settled--
//!            --TxSubmitter--> request "submit" --> mempool
//!            --DevControl---> request "dev" --> producer, "discard" --> mempool
//! ```
//!
//! It has no machine in `rules`: it decides nothing about the chain. **Invariant:** what it shows of blocks and state is
//! what this process's follower verified; what it shows of pool and status is hearsay, and is named so.

mod blocks;
mod pool;
mod shards;
mod status;

mod answers;
mod calls;
mod congestion;
mod dev;
mod inference;
mod simulate;
mod submit;
mod traces;

mod reader;

use crate::chain::{ChainHandle, ChainHead};
use crate::recompute::Recompute;
use crate::results::ResultBook;
use crate::shell::now;
use blocks::Blocks;
use calls::Calls;
use congestion::Pressure;
use parking_lot::RwLock;
use penstock_evm::dev::settings;
use penstock_evm::{BlockEnv, next_env};
use penstock_rpc::{BlockDataError, ChainBlock};
use penstock_rules::dev::Clock;
use penstock_rules::ids::{Height, Micros, Seq};
use penstock_rules::message::{AssignmentDone, Deferral, ShardHello};
use penstock_rules::producer::Timetable;
use penstock_rules::scheduler::{Congestion, Evidence};
use penstock_rules::tx::StatusUpdate;
use penstock_store::{Store, StoreError};
use penstock_wire::{BusError, Message, QueueError, Subjects, Transport, decode};
use pool::Pool;
use shards::{Shards, proves};
use status::Statuses;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::{self, error::RecvError};
use tracing::{error, warn};

/// Status messages that wait at the bus, in number: some for each transaction of a burst.
const STATUS_INBOX: usize = 65_536;
/// Hellos and deferrals that wait at the bus, in number.
const INBOX: usize = 8_192;

/// Items of the durable queue that are read at once for evidence.
const EVIDENCE_CHUNK: usize = 1_024;

/// Transactions of a new head that is shown without a blocking thread, in number: few, as each is decoded.
const INLINE_TRANSACTIONS_MAX: usize = 16;

/// How the gateway serves.
#[derive(Clone, Copy, Debug)]
pub struct GatewayConfig {
    /// How long a call waits for inference before its client is told that it is not ready.
    pub call_deadline: Duration,
    /// Calls that run or wait at the same time. Each holds an EVM for at most some 100 ms, then only its place.
    pub calls_max: usize,
    /// Traces at the same time; more wait. One can hold some 100 MB of steps.
    pub traces_max: usize,
    /// When the producer makes blocks, unless somebody sets otherwise.
    pub timetable: Timetable,
    /// How long a submission waits for the mempool's answer, which includes a flush to disk.
    pub submit_timeout: Duration,
    /// A transaction whose inference would wait for more blocks than this is refused; none: it waits.
    pub backlog_max: Option<u32>,
}

impl Default for GatewayConfig {
    fn default() -> Self {
        Self {
            call_deadline: Duration::from_secs(10),
            calls_max: 256,
            traces_max: 4,
            timetable: Timetable::AtOnce,
            submit_timeout: Duration::from_secs(10),
            backlog_max: Some(256),
        }
    }
}

/// Why a gateway could not start.
#[derive(Debug, thiserror::Error)]
pub enum GatewayError {
    /// The head block can't be read from the store.
    #[error("block {height} can't be read: {error}")]
    Store {
        /// Which.
        height: Height,
        /// Why.
        error: StoreError,
    },
    /// The head block is not in the store.
    #[error("block {0} is not in the store")]
    Missing(Height),
    /// The head block does not decode.
    #[error("block {height} does not decode: {error}")]
    Damaged {
        /// Which.
        height: Height,
        /// Why.
        error: BlockDataError,
    },
    /// A subscription was refused.
    #[error(transparent)]
    Bus(#[from] BusError),
    /// Accepted transactions can't be read.
    #[error(transparent)]
    Queue(#[from] QueueError),
}

/// The head, as the gateway shows it: block and state belong together.
struct Head {
    block: Arc<ChainBlock>,
    chain: Arc<ChainHead>,
    /// Of the next block, by the clock when the head came.
    next: BlockEnv,
    clock: Clock,
}

impl Head {
    fn new(block: Arc<ChainBlock>, chain: Arc<ChainHead>) -> Self {
        let clock = settings(&chain.state).clock;
        let timestamp = clock.timestamp(now(), chain.header.timestamp);
        let next = next_env(&chain.spec, &chain.state, &chain.header, timestamp);
        Self {
            block,
            chain,
            next,
            clock,
        }
    }

    /// The environment in which the next block would run if it were built now.
    fn env(&self) -> BlockEnv {
        BlockEnv {
            timestamp: self.clock.timestamp(now(), self.chain.header.timestamp),
            ..self.next.clone()
        }
    }
}

/// The gateway. It implements [`penstock_rpc::ChainReader`] and [`penstock_rpc::TxSubmitter`].
pub struct Gateway {
    config: GatewayConfig,
    transport: Transport,
    subjects: Subjects,
    store: Store,
    results: ResultBook,
    head: RwLock<Arc<Head>>,
    blocks: Blocks,
    pool: Pool,
    statuses: Statuses,
    shards: Shards,
    calls: Calls,
    pressure: Pressure,
    traces: tokio::sync::Semaphore,
    recompute: Option<Recompute>,
    new_blocks: broadcast::Sender<Arc<ChainBlock>>,
}

/// Blocks that a slow subscription may lag behind before it must read what it missed from the store.
const BLOCKS_BUFFERED: usize = 256;

/// Starts the gateway's tasks on the current tokio runtime. They end with the chain's feed and the bus. `recompute` checks
/// evidence that rests on a computation; without it none such is shown.
///
/// # Errors
/// Where the head can't be read, or the bus refuses.
pub async fn start(
    config: GatewayConfig,
    transport: Transport,
    store: Store,
    chain: ChainHandle,
    results: ResultBook,
    recompute: Option<Recompute>,
) -> Result<Arc<Gateway>, GatewayError> {
    // The feed starts before the head is read, so that no block falls between.
    let feed = chain.blocks();
    let head = chain.head();
    let block = Arc::new(stored(&store, head.height)?.ok_or(GatewayError::Missing(head.height))?);
    let subjects = Subjects::new(head.spec.chain_id);
    let gateway = Arc::new(Gateway {
        config,
        subjects,
        store,
        results,
        blocks: Blocks::default(),
        pool: Pool::default(),
        statuses: Statuses::default(),
        shards: Shards::default(),
        calls: Calls::new(config.calls_max),
        pressure: Pressure::default(),
        traces: tokio::sync::Semaphore::new(config.traces_max),
        recompute,
        new_blocks: broadcast::channel(BLOCKS_BUFFERED).0,
        head: RwLock::new(Arc::new(Head::new(block.clone(), head.clone()))),
        transport,
    });
    gateway.blocks.insert(block, Some(head));
    gateway
        .follow::<StatusUpdate>(&subjects.status(), STATUS_INBOX, |gateway, update| {
            gateway.statuses.add(&update);
            gateway.pool_status(&update);
        })
        .await?;
    gateway
        .follow::<ShardHello>(&subjects.shard_hello(), INBOX, |gateway, hello| {
            gateway.shards.add(hello, now());
        })
        .await?;
    if let Err(error) = gateway.follow_answers().await {
        // A bus that keeps roles apart may not let a gateway hear them.
        warn!(%error, "answers of shards are not counted");
    }
    gateway
        .follow::<Evidence>(&subjects.evidence(), INBOX, |gateway, evidence| {
            let gateway = gateway.clone();
            tokio::spawn(async move { gateway.convict(evidence).await });
        })
        .await?;
    gateway.read_evidence().await?;
    gateway.follow_recomputed();
    gateway
        .follow::<Deferral>(&subjects.deferral(), INBOX, |gateway, deferral| {
            gateway.calls.deferred(&deferral);
        })
        .await?;
    gateway
        .follow::<Congestion>(&subjects.congestion(), INBOX, |gateway, congestion| {
            gateway.pressure.add(congestion);
        })
        .await?;
    gateway.read_accepted().await?;
    tokio::spawn(gateway.clone().follow_chain(chain, feed));
    Ok(gateway)
}

/// A block of the store with its receipts, decoded.
fn stored(store: &Store, height: Height) -> Result<Option<ChainBlock>, GatewayError> {
    let fail = |error| GatewayError::Store { height, error };
    let Some(record) = store.block(height).map_err(fail)? else {
        return Ok(None);
    };
    let receipts = store.receipts(height).map_err(fail)?.unwrap_or_default();
    ChainBlock::decode(&record.block, record.senders, receipts)
        .map(Some)
        .map_err(|error| GatewayError::Damaged { height, error })
}

impl Gateway {
    fn head(&self) -> Arc<Head> {
        self.head.read().clone()
    }

    /// Reads the evidence that the durable queue of results holds.
    async fn read_evidence(&self) -> Result<(), QueueError> {
        let mut from = Seq(1);
        loop {
            let items = self.transport.results.replay(from, EVIDENCE_CHUNK).await?;
            let Some(last) = items.last() else {
                return Ok(());
            };
            from = Seq(last.seq.0 + 1);
            for item in &items {
                if let Ok(evidence) = decode::<Evidence>(&item.bytes) {
                    self.convict(evidence).await;
                }
            }
        }
    }

    /// Shows evidence that proves what it says.
    async fn convict(&self, evidence: Evidence) {
        let chain_id = self.subjects.chain_id();
        if self.shards.is_convicted(&evidence.shard) {
            return;
        }
        let proved = match (&self.recompute, &evidence.asked) {
            // To compute is dear: a key that somebody has just made gets nobody to do it.
            (Some(recompute), Some(_)) => {
                penstock_evm::shards(&self.head().chain.state).contains(&evidence.shard)
                    && recompute.proves(&evidence, chain_id).await
            }
            _ => proves(&evidence, chain_id),
        };
        if proved {
            self.shards.convict(evidence);
        } else {
            metrics::counter!("gateway_evidence_refused_total").increment(1);
        }
    }

    /// Shows what this process computed again and found false.
    fn follow_recomputed(self: &Arc<Self>) {
        let Some(recompute) = &self.recompute else {
            return;
        };
        let (mut found, gateway) = (recompute.found(), self.clone());
        found.mark_changed();
        tokio::spawn(async move {
            while found.changed().await.is_ok() {
                for evidence in found.borrow_and_update().values() {
                    gateway.shards.convict(evidence.clone());
                }
            }
        });
    }

    /// Brings every message of a subject to `take`.
    async fn follow<M: Message + Send + 'static>(
        self: &Arc<Self>,
        subject: &str,
        capacity: usize,
        take: impl Fn(&Arc<Self>, M) + Send + 'static,
    ) -> Result<(), BusError> {
        let mut inbox = self.transport.bus.subscribe(subject, capacity).await?;
        let gateway = self.clone();
        tokio::spawn(async move {
            while let Some(delivery) = inbox.next().await {
                match decode::<M>(&delivery.payload) {
                    Ok(message) => take(&gateway, message),
                    Err(error) => warn!(%error, "message is malformed"),
                }
            }
        });
        Ok(())
    }

    /// Counts what shards answer. Refusals have the same subject, and count for nothing.
    async fn follow_answers(self: &Arc<Self>) -> Result<(), BusError> {
        let subject = self.subjects.answers();
        let mut inbox = self.transport.bus.subscribe(&subject, INBOX).await?;
        let gateway = self.clone();
        tokio::spawn(async move {
            while let Some(delivery) = inbox.next().await {
                if let Ok(done) = decode::<AssignmentDone>(&delivery.payload) {
                    gateway.shards.answered(&done);
                }
            }
        });
        Ok(())
    }

    /// Takes every new block, in order; what the feed lost is read from the store.
    async fn follow_chain(
        self: Arc<Self>,
        chain: ChainHandle,
        mut feed: broadcast::Receiver<Arc<ChainHead>>,
    ) {
        loop {
            let head = match feed.recv().await {
                Ok(head) => head,
                Err(RecvError::Lagged(lost)) => {
                    warn!(lost, "gateway is slow: blocks are read from the store");
                    chain.head()
                }
                Err(RecvError::Closed) => return,
            };
            let taken = match self.is_quick(&head) {
                true => self.take(&head),
                false => {
                    let gateway = self.clone();
                    match tokio::task::spawn_blocking(move || gateway.take(&head)).await {
                        Ok(taken) => taken,
                        // A panic in there ends the process.
                        Err(_) => return,
                    }
                }
            };
            if let Err(error) = taken {
                error!(%error, "block can't be shown");
            }
        }
    }

    /// Whether showing a head takes so little that no blocking thread is woken for it.
    fn is_quick(&self, head: &ChainHead) -> bool {
        let next = self.head().block.height().next() == head.height;
        next && head.executed.is_some() && head.included.len() <= INLINE_TRANSACTIONS_MAX
    }

    /// Shows a new head, and first the blocks before it that were not shown yet.
    fn take(&self, head: &Arc<ChainHead>) -> Result<(), GatewayError> {
        let shown = self.head().block.height();
        for missed in shown.0 + 1..head.height.0 {
            let height = Height(missed);
            let block = stored(&self.store, height)?.ok_or(GatewayError::Missing(height))?;
            self.show(Arc::new(block), None);
        }
        if head.height <= shown {
            return Ok(());
        }
        let block = match &head.executed {
            Some(executed) => ChainBlock::decode(
                &executed.block,
                executed.senders.clone(),
                executed.receipts.clone(),
            )
            .map_err(|error| GatewayError::Damaged {
                height: head.height,
                error,
            })?,
            None => stored(&self.store, head.height)?.ok_or(GatewayError::Missing(head.height))?,
        };
        let block = Arc::new(block);
        *self.head.write() = Arc::new(Head::new(block.clone(), head.clone()));
        self.show(block, Some(head.clone()));
        Ok(())
    }

    /// Makes a block visible: look-ups first, then the pool, then subscriptions. So a transaction is never in neither.
    fn show(&self, block: Arc<ChainBlock>, chain: Option<Arc<ChainHead>>) {
        self.blocks.insert(block.clone(), chain);
        let at = now();
        for tx in &block.transactions {
            self.statuses.included(*tx.tx_hash(), block.height(), at);
        }
        self.pool.included(&block);
        // Nobody listening is no error.
        let _ = self.new_blocks.send(block);
    }
}

/// `Micros` of a span.
fn micros(span: Duration) -> Micros {
    Micros(u64::try_from(span.as_micros()).unwrap_or(u64::MAX))
}
