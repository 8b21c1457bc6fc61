//! Transactions as the pool and the actors around it see them.

use crate::ids::{Height, Igas, Micros, RequestKey, TxHash};
use alloy_primitives::{Address, Bytes, U256};
use serde::{Deserialize, Serialize};

/// A signed transaction whose sender was recovered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PoolTx {
    /// Hash of the envelope.
    pub hash: TxHash,
    /// Recovered sender.
    pub sender: Address,
    /// Sender's nonce.
    pub nonce: u64,
    /// Gas limit.
    pub gas_limit: u64,
    /// Wei per gas at most.
    pub max_fee_per_gas: u128,
    /// Wei per gas to the producer at most.
    pub max_priority_fee_per_gas: u128,
    /// Wei that the sender must have: value plus gas limit times maximal fee, plus blobs' (refused) zero.
    pub cost_max: U256,
    /// EIP-2718 envelope.
    pub raw: Bytes,
}

impl PoolTx {
    /// What the producer gets per gas at this base fee; `None` where the base fee is not covered.
    #[must_use]
    pub fn effective_tip(&self, base_fee: u128) -> Option<u128> {
        self.max_fee_per_gas
            .checked_sub(base_fee)
            .map(|room| room.min(self.max_priority_fee_per_gas))
    }
}

/// A transaction whose whole request set is answered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadyTx {
    /// The transaction.
    pub tx: PoolTx,
    /// Requests that its last discovery used, in order of first use. Empty for a plain transaction.
    pub keys: Vec<RequestKey>,
    /// What these cost.
    pub igas: Igas,
    /// Gas that the last discovery used.
    pub gas_used: u64,
    /// Order of arrival at the pool: first come, first served at equal tips.
    pub arrival: u64,
}

/// Why a transaction waits. The closed list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Reason {
    /// The sender's exposure is above its credit.
    NoCover,
    /// Senders without credit share a cap that is used up.
    UnbondedCap,
    /// Others pay more for the same compute; the price that clears, in wei per igas.
    Outbid(u128),
    /// The requests can't be done before the block is built.
    DeadlineInfeasible,
    /// The sender has its share of a contended block.
    SenderCap,
    /// An earlier nonce of the sender waits.
    NonceDependency,
    /// At its place in the block the execution asked for another request.
    StaleInput,
    /// Shards that worked on it were lost.
    ShardLost,
    /// Gas limit or fee is too low for today's multiplier or base fee.
    FeeBelowMarket,
    /// No shard serves a model that it asks for.
    NoShard,
    /// It fits in no space left of this block.
    BlockFull,
    /// The sender's balance does not cover it beside its earlier transactions.
    Unfunded,
}

/// Where a transaction is on its way.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Stage {
    /// In the durable stream.
    Accepted,
    /// A lower nonce of its sender is not here.
    Queued,
    /// Waits for answers.
    Inferring {
        /// Rounds so far, this one included.
        round: u32,
        /// Requests of this round.
        requests: u32,
    },
    /// All answers are there: a candidate for the next block.
    Ready,
    /// Waits, with a reason.
    Deferred {
        /// Why.
        reason: Reason,
        /// Estimate of how many blocks until inclusion; 0 where unknown.
        blocks: u32,
    },
    /// In a block.
    Included {
        /// Which.
        height: Height,
    },
    /// Out of the pool, not in a block.
    Dropped {
        /// Why.
        reason: DropReason,
    },
}

/// Why a transaction left the pool without a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum DropReason {
    /// Another with the same nonce took its place.
    Replaced(TxHash),
    /// The pool was full and it paid least.
    Evicted,
    /// It waited longer than the pool keeps transactions.
    Expired,
    /// Another transaction with its nonce is in a block.
    NonceUsed,
    /// A request of a user or operator.
    Asked,
    /// It asks for more rounds or requests than the limits allow.
    TooManyRequests,
    /// It can never be executed (its sender can't pay, say).
    Invalid,
}

/// A step on a transaction's way, for `pipe_getTransactionStatus`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatusUpdate {
    /// Whose.
    pub hash: TxHash,
    /// When.
    pub at: Micros,
    /// What.
    pub stage: Stage,
}

/// Why a transaction was refused at the door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// The bytes are no signed transaction of a type that is taken.
    #[error("transaction could not be decoded: {0}")]
    Malformed(String),
    /// Signed for another chain.
    #[error("invalid chain id for signer: have {have} want {want}")]
    ChainId {
        /// The transaction's.
        have: u64,
        /// Ours.
        want: u64,
    },
    /// It is here already.
    #[error("already known")]
    AlreadyKnown,
    /// Its nonce was used.
    #[error("nonce too low: next nonce {next}, tx nonce {nonce}")]
    NonceTooLow {
        /// The account's.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// Its nonce is further ahead than the pool keeps.
    #[error("nonce too high: next nonce {next}, tx nonce {nonce}")]
    NonceTooHigh {
        /// The account's.
        next: u64,
        /// The transaction's.
        nonce: u64,
    },
    /// The sender can't pay value and gas.
    #[error("insufficient funds for gas * price + value: balance {balance}, tx cost {cost}")]
    InsufficientFunds {
        /// Wei.
        balance: U256,
        /// Wei.
        cost: U256,
    },
    /// Less gas than the envelope itself costs.
    #[error("intrinsic gas too low: have {have}, want {want}")]
    IntrinsicGas {
        /// The transaction's limit.
        have: u64,
        /// The least.
        want: u64,
    },
    /// More gas than a transaction or block may have.
    #[error("exceeds block gas limit: have {have}, limit {limit}")]
    GasLimit {
        /// The transaction's.
        have: u64,
        /// The most.
        limit: u64,
    },
    /// Tip above fee.
    #[error("max priority fee per gas higher than max fee per gas")]
    TipAboveFee,
    /// A fee that the pool does not take.
    #[error("transaction underpriced: fee {fee}, minimum {minimum}")]
    Underpriced {
        /// Wei per gas.
        fee: u128,
        /// Wei per gas.
        minimum: u128,
    },
    /// Same nonce, without the bump that a replacement needs.
    #[error("replacement transaction underpriced")]
    ReplacementUnderpriced,
    /// The sender has as many pending transactions as one may.
    #[error("too many pending transactions of this sender: limit {limit}")]
    SenderLimit {
        /// The most.
        limit: u32,
    },
    /// The pool is full of better paid transactions.
    #[error("txpool is full")]
    PoolFull,
    /// Larger than a transaction may be.
    #[error("oversized data: {size} bytes, limit {limit}")]
    Oversized {
        /// Bytes.
        size: u32,
        /// Bytes.
        limit: u32,
    },
    /// Blob transactions and other types that a devnet without blobs does not take.
    #[error("transaction type {0} is not supported")]
    Unsupported(u8),
    /// The actor behind has no room now; try again.
    #[error("busy: try again")]
    Busy,
    /// The inference network has more work than it can do for as long as anybody may wait.
    #[error(
        "inference capacity exceeded: about {blocks} blocks, limit {limit}; price {price} wei per igas, a tip of {tip} wei per gas"
    )]
    Capacity {
        /// How long it would wait, about.
        blocks: u32,
        /// The most.
        limit: u32,
        /// Wei per igas that wait no longer than the limit.
        price: u128,
        /// Wei per gas (`maxPriorityFeePerGas`) that come to that price.
        tip: u128,
    },
}
