//! Execution with a witness: a block is built transaction by transaction, and a transaction that can't be in it leaves
//! no trace.

use crate::results::Results;
use crate::spec::{BlockEnv, ChainSpec};
use crate::state::State;
use alloy_consensus::Header;
use alloy_primitives::{Address, B256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::state::{Receipt, StateDiff};
use penstock_rules::tx::PoolTx;

/// A block, with all that follows from it.
#[derive(Clone, Debug)]
pub struct ExecutedBlock {
    /// The header.
    pub header: Header,
    /// Its hash.
    pub hash: B256,
    /// The entry of the log. A built block's signature is empty until the producer signs [`ExecutedBlock::hash`].
    pub block: Block,
    /// One per transaction.
    pub receipts: Vec<Receipt>,
    /// One per transaction.
    pub senders: Vec<Address>,
    /// What the block changed.
    pub diff: StateDiff,
    /// The state after it.
    pub state: State,
}

/// Why a transaction is not in the block. Nothing of it is left in the builder.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// At this place the transaction asks for a request whose result is not there (or lacks attestations).
    #[error("result of request {0} is missing")]
    Missing(RequestKey),
    /// Gas limit or fee is too low for the multiplier or base fee.
    #[error("gas limit or fee is below the market")]
    FeeBelowMarket,
    /// It fits in no space left of this block: gas, execution gas, or inference units.
    #[error("no room left in the block")]
    NoRoom,
    /// It can't be executed on this state.
    #[error("invalid transaction: {0}")]
    Invalid(String),
}

/// A block under construction.
#[derive(Debug)]
pub struct BlockBuilder {
    spec: ChainSpec,
    env: BlockEnv,
    state: State,
}

impl BlockBuilder {
    /// Starts the block that `env` describes on the state of its parent.
    #[must_use]
    pub fn new(state: State, spec: &ChainSpec, env: BlockEnv) -> Self {
        Self {
            spec: spec.clone(),
            env,
            state,
        }
    }

    /// Executes a transaction as the next of the block.
    ///
    /// # Errors
    /// The transaction is not in the block, and nothing of it is left.
    pub fn push(&mut self, tx: &PoolTx, results: &dyn Results) -> Result<Receipt, PushError> {
        let _ = (tx, results, &self.spec, &self.env, &self.state);
        Err(PushError::NoRoom)
    }

    /// Inference units used so far.
    #[must_use]
    pub fn igas_used(&self) -> Igas {
        Igas(0)
    }

    /// Gas used so far, inference included.
    #[must_use]
    pub fn gas_used(&self) -> u64 {
        0
    }

    /// Transactions so far.
    #[must_use]
    pub fn len(&self) -> usize {
        0
    }

    /// Whether there are no transactions yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Finishes the block.
    #[must_use]
    pub fn seal(self) -> ExecutedBlock {
        ExecutedBlock {
            header: Header::default(),
            hash: B256::ZERO,
            block: Block {
                header: Default::default(),
                transactions: Vec::new(),
                witness: Vec::new(),
                signature: Default::default(),
            },
            receipts: Vec::new(),
            senders: Vec::new(),
            diff: StateDiff::default(),
            state: self.state,
        }
    }
}
