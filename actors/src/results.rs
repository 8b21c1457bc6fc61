//! Settled answers that this process knows: fed from the bus, read by discovery, execution and calls.

use parking_lot::RwLock;
use penstock_evm::{ChainSpec, Results, check_attestation};
use penstock_rules::ids::RequestKey;
use penstock_rules::request::Settled;
use penstock_rules::scheduler::Evidence;
use penstock_wire::{Bus, Message, Queue, Subjects, codec, decode};
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use tokio::sync::broadcast;
use tracing::{info, warn};

/// Bytes of outcomes that a process keeps, beside a fixed cost per entry: a million small answers, or 4,000 of 64 KiB.
pub const RESULT_BYTES_MAX: usize = 256 << 20;

/// Counted for each entry beside its outcome: key, attestations and places in two collections, in bytes.
const ENTRY_BYTES: usize = 320;

/// Settled keys that a slow reader may lag behind before it loses some. Machines ask again by timer.
const SETTLED_BUFFERED: usize = 16_384;

/// Settled messages waiting at the bus: a batch of 64 from each of 64 shards.
const SETTLED_INBOX: usize = 4_096;

/// Results read at once from the durable queue.
const REPLAY_CHUNK: usize = 1_024;

#[derive(Debug, Default)]
struct Book {
    entries: HashMap<RequestKey, Arc<Settled>>,
    order: VecDeque<RequestKey>,
    bytes: usize,
}

/// Who vouches for the signatures in settled answers that come over the bus.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Vouch {
    /// The scheduler runs in this process and checked them.
    Scheduler,
    /// Nobody: this process checks them.
    Nobody,
}

/// Settled answers by key, bounded by bytes, oldest out first. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ResultBook {
    book: Arc<RwLock<Book>>,
    settled: broadcast::Sender<RequestKey>,
}

impl Default for ResultBook {
    fn default() -> Self {
        Self {
            book: Arc::default(),
            settled: broadcast::channel(SETTLED_BUFFERED).0,
        }
    }
}

impl ResultBook {
    /// Takes a settled answer whose signatures are checked. The first one of a key stays.
    pub fn insert(&self, settled: Settled) {
        let key = settled.key;
        {
            let mut book = self.book.write();
            if book.entries.contains_key(&key) {
                return;
            }
            book.bytes += settled.outcome.len() + ENTRY_BYTES;
            book.order.push_back(key);
            book.entries.insert(key, Arc::new(settled));
            while book.bytes > RESULT_BYTES_MAX {
                let Some(oldest) = book.order.pop_front() else {
                    break;
                };
                if let Some(gone) = book.entries.remove(&oldest) {
                    book.bytes -= gone.outcome.len() + ENTRY_BYTES;
                }
            }
        }
        // Nobody listening is no error.
        let _ = self.settled.send(key);
    }

    /// Gives an answer away that proved false, so that it is asked for again.
    pub fn forget(&self, key: &RequestKey) {
        let mut book = self.book.write();
        if let Some(gone) = book.entries.remove(key) {
            book.bytes -= gone.outcome.len() + ENTRY_BYTES;
            book.order.retain(|other| other != key);
        }
    }

    /// Keys that are settled from now on.
    #[must_use]
    pub fn subscribe(&self) -> broadcast::Receiver<RequestKey> {
        self.settled.subscribe()
    }

    /// How many answers are known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.book.read().entries.len()
    }

    /// Whether none is known.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Reads the durable queue of results.
    ///
    /// # Errors
    /// Where the queue can't be read.
    pub async fn load(
        &self,
        queue: &dyn Queue,
        chain_id: u64,
        vouch: Vouch,
    ) -> Result<(), penstock_wire::QueueError> {
        let mut from = penstock_rules::ids::Seq(1);
        loop {
            let items = queue.replay(from, REPLAY_CHUNK).await?;
            let Some(last) = items.last() else { break };
            from = penstock_rules::ids::Seq(last.seq.0 + 1);
            let mut batch = Vec::new();
            for item in &items {
                // Evidence against shards stands here too, and is the scheduler's business.
                if codec::kind(&item.bytes) == Ok(Evidence::KIND) {
                    continue;
                }
                match decode::<Settled>(&item.bytes) {
                    Ok(settled) => batch.push(settled),
                    Err(error) => {
                        warn!(seq = item.seq.0, %error, "result in the queue is malformed")
                    }
                }
            }
            if vouch == Vouch::Nobody {
                batch = match tokio::task::spawn_blocking(move || checked(batch, chain_id)).await {
                    Ok(batch) => batch,
                    // The runtime ends.
                    Err(_) => return Ok(()),
                };
            }
            for settled in batch {
                self.insert(settled);
            }
        }
        info!(results = self.len(), "results loaded");
        Ok(())
    }

    /// Feeds the book from the bus until the bus closes.
    ///
    /// # Errors
    /// Where the subscription is refused.
    pub async fn follow(
        self,
        bus: Arc<dyn Bus>,
        spec: Arc<ChainSpec>,
        vouch: Vouch,
    ) -> Result<tokio::task::JoinHandle<()>, penstock_wire::BusError> {
        let subject = Subjects::new(spec.chain_id).settled();
        let mut inbox = bus.subscribe(&subject, SETTLED_INBOX).await?;
        Ok(tokio::spawn(async move {
            while let Some(delivery) = inbox.next().await {
                let mut batch = Vec::new();
                let mut next = Some(delivery);
                while let Some(delivery) = next.take() {
                    match decode::<Settled>(&delivery.payload) {
                        Ok(settled) => batch.push(settled),
                        Err(error) => warn!(%error, "settled message is malformed"),
                    }
                    if batch.len() < REPLAY_CHUNK {
                        next = inbox.try_next();
                    }
                }
                if vouch == Vouch::Nobody {
                    let chain_id = spec.chain_id;
                    batch =
                        match tokio::task::spawn_blocking(move || checked(batch, chain_id)).await {
                            Ok(batch) => batch,
                            Err(_) => return,
                        };
                }
                for settled in batch {
                    self.insert(settled);
                }
            }
        }))
    }
}

/// Those whose signatures all hold.
fn checked(batch: Vec<Settled>, chain_id: u64) -> Vec<Settled> {
    batch
        .into_iter()
        .filter(|settled| {
            let hash = settled.outcome.hash();
            let holds = settled
                .attestations
                .iter()
                .all(|a| check_attestation(a, chain_id, settled.key, hash));
            if !holds {
                warn!(request = %settled.key, "settled answer with a wrong signature refused");
            }
            holds
        })
        .collect()
}

impl Results for ResultBook {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        self.book.read().entries.get(key).cloned()
    }
}
