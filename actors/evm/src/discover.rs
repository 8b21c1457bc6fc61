//! Discovery: which requests a pending transaction waits for.

use crate::results::Results;
use crate::spec::{BlockEnv, ChainSpec};
use crate::state::State;
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::message::GangRequest;
use penstock_rules::tx::PoolTx;

/// Rounds of one transaction: a chain of calls this long still ends, and a contract that asks for something new in
/// each round is dropped after a few blocks.
pub const ROUNDS_PER_TX_MAX: u32 = 16;
/// Different requests of one transaction: twice the longest list that OpenGradient's examples make in one call.
pub const REQUESTS_PER_TX_MAX: u32 = 64;
/// Bytes of all inputs of one transaction: a batch of images (64 of 16 kB), and far below a bus message's limit.
pub const INPUT_BYTES_PER_TX_MAX: u32 = 1 << 20;
/// Gas that discovery simulates for one sender and block, both worlds counted: four transactions of the gas cap.
pub const SIMULATION_GAS_PER_LANE_MAX: u64 = 4 << 24;

/// Bounds of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoverLimits {
    /// Rounds of one transaction; the extractor counts them.
    pub rounds_per_tx: u32,
    /// Different requests of one transaction.
    pub requests_per_tx: u32,
    /// Bytes of all inputs of one transaction.
    pub input_bytes_per_tx: u32,
    /// Gas per sender and block.
    pub simulation_gas_per_lane: u64,
}

impl Default for DiscoverLimits {
    fn default() -> Self {
        Self {
            rounds_per_tx: ROUNDS_PER_TX_MAX,
            requests_per_tx: REQUESTS_PER_TX_MAX,
            input_bytes_per_tx: INPUT_BYTES_PER_TX_MAX,
            simulation_gas_per_lane: SIMULATION_GAS_PER_LANE_MAX,
        }
    }
}

/// What discovery found of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All its results are there: it can be in the next block.
    Ready {
        /// Requests that it consumed, each once, in order of first use.
        keys: Vec<RequestKey>,
        /// Inference units that it pays for (a repeated request counts again).
        igas: Igas,
        /// Gas used, inference included.
        gas_used: u64,
    },
    /// It waits for results.
    Waits {
        /// Never empty. The certain ones first (one, at most), then those found behind placeholders.
        requests: Vec<GangRequest>,
        /// Inference units of these requests.
        igas: Igas,
    },
    /// The gas limit is too low for today's multiplier, or the fee is below the base fee.
    FeeBelowMarket,
    /// Nothing can be said now: a predecessor waits, and what this one does depends on it, or the lane's simulation gas
    /// is used up.
    Behind,
    /// It asks for more than the limits allow.
    TooMany,
    /// It can't be executed on this state (funds, nonce).
    Invalid(String),
}

/// Discovers the transactions of one sender, in nonce order, on the state and in the environment of the next block.
///
/// One finding per transaction. Each runs on what its predecessors leave.
#[must_use]
pub fn discover_lane(
    state: &State,
    spec: &ChainSpec,
    env: &BlockEnv,
    txs: &[PoolTx],
    results: &dyn Results,
    limits: &DiscoverLimits,
) -> Vec<Finding> {
    let _ = (state, spec, env, results, limits);
    txs.iter().map(|_| Finding::Behind).collect()
}
