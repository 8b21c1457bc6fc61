//! The head that this process has verified and stored: what extractor, producer and gateway read.

use alloy_consensus::Header;
use alloy_primitives::B256;
use parking_lot::Mutex;
use penstock_evm::{ChainSpec, ExecutedBlock, State};
use penstock_rules::ids::{Height, Seq, TxHash};
use std::collections::VecDeque;
use std::sync::Arc;
use tokio::sync::{broadcast, watch};

/// A head.
#[derive(Clone, Debug)]
pub struct ChainHead {
    /// Constants of the chain.
    pub spec: Arc<ChainSpec>,
    /// Height.
    pub height: Height,
    /// Block hash.
    pub hash: B256,
    /// Header.
    pub header: Header,
    /// The last position of the log that was taken in.
    pub log_seq: Seq,
    /// The state after the block.
    pub state: State,
    /// The block's transactions, in order.
    pub included: Vec<TxHash>,
    /// The block itself, with receipts; `None` for the head that a process starts from.
    pub executed: Option<Arc<ExecutedBlock>>,
}

/// Blocks that a slow reader of [`ChainHandle::blocks`] may lag behind before it loses some. A reader that lost some
/// goes on from [`ChainHandle::head`].
const BLOCKS_BUFFERED: usize = 1024;

/// Where readers find the head. Cheap to clone.
#[derive(Clone, Debug)]
pub struct ChainHandle {
    head: watch::Receiver<Arc<ChainHead>>,
    blocks: broadcast::Sender<Arc<ChainHead>>,
    halted: watch::Receiver<Option<Arc<str>>>,
}

impl ChainHandle {
    /// The head now.
    #[must_use]
    pub fn head(&self) -> Arc<ChainHead> {
        self.head.borrow().clone()
    }

    /// Wakes when the head changes; heads in between may be skipped.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Arc<ChainHead>> {
        self.head.clone()
    }

    /// Returns when the follower has halted, with its report: this chain and the block log are not of one piece.
    pub async fn halted(&self) -> Arc<str> {
        let mut halted = self.halted.clone();
        let report = match halted.wait_for(Option::is_some).await {
            Ok(report) => report.clone(),
            Err(_) => None,
        };
        match report {
            Some(report) => report,
            // The follower ended without: nothing more will be said.
            None => std::future::pending().await,
        }
    }

    /// Every new block from now on, in order.
    #[must_use]
    pub fn blocks(&self) -> broadcast::Receiver<Arc<ChainHead>> {
        self.blocks.subscribe()
    }
}

/// The follower's end.
#[derive(Debug)]
pub struct ChainPublisher {
    head: watch::Sender<Arc<ChainHead>>,
    blocks: broadcast::Sender<Arc<ChainHead>>,
    halted: watch::Sender<Option<Arc<str>>>,
}

/// A chain whose head is `head`.
#[must_use]
pub fn chain(head: ChainHead) -> (ChainPublisher, ChainHandle) {
    let (sender, receiver) = watch::channel(Arc::new(head));
    let (blocks, _) = broadcast::channel(BLOCKS_BUFFERED);
    let (halt, halted) = watch::channel(None);
    (
        ChainPublisher {
            head: sender,
            blocks: blocks.clone(),
            halted: halt,
        },
        ChainHandle {
            head: receiver,
            blocks,
            halted,
        },
    )
}

impl ChainPublisher {
    /// The head now.
    #[must_use]
    pub fn head(&self) -> Arc<ChainHead> {
        self.head.borrow().clone()
    }

    /// A new block is the head.
    pub fn advance(&self, head: ChainHead) {
        let head = Arc::new(head);
        self.head.send_replace(head.clone());
        // Nobody listening is no error.
        let _ = self.blocks.send(head);
    }

    /// The chain goes on no more: a person has to look.
    pub fn halt(&self, report: &str) {
        self.halted.send_replace(Some(report.into()));
    }

    /// The log was read on to `seq`, and the head is what it was.
    pub fn pass(&self, seq: Seq) {
        self.head.send_if_modified(|head| {
            let moved = head.log_seq < seq;
            if moved {
                let mut next = ChainHead::clone(head);
                next.log_seq = seq;
                *head = Arc::new(next);
            }
            moved
        });
    }
}

/// Blocks that this process built itself, so that its follower need not execute them again.
///
/// Nothing is trusted here that was not computed here: a block is found by its hash, and the hash commits to all of it
/// but the witness's attestations, which the builder took from results that were checked when they came.
#[derive(Clone, Debug, Default)]
pub struct OwnBlocks {
    blocks: Arc<Mutex<VecDeque<Arc<ExecutedBlock>>>>,
}

/// Own blocks on their way through the log at most. One is appended at a time; a few more may be lost races.
const OWN_BLOCKS_MAX: usize = 8;

impl OwnBlocks {
    /// Remembers a block.
    pub fn put(&self, block: Arc<ExecutedBlock>) {
        let mut blocks = self.blocks.lock();
        if blocks.len() == OWN_BLOCKS_MAX {
            blocks.pop_front();
        }
        blocks.push_back(block);
    }

    /// Gives the block with this hash back, once, if the entry in the log is the very same.
    #[must_use]
    pub fn take(
        &self,
        entry: &penstock_rules::block::Block,
        hash: B256,
    ) -> Option<Arc<ExecutedBlock>> {
        let mut blocks = self.blocks.lock();
        let at = blocks
            .iter()
            .position(|own| own.hash == hash && own.block == *entry)?;
        blocks.remove(at)
    }
}
