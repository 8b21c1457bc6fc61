//! What a chain is: its constants, and the environment in which its next block runs.

use crate::dev;
use crate::market;
use crate::state::State;
use alloy_consensus::Header;
use alloy_eips::eip1559::{BaseFeeParams, calc_next_block_base_fee};
use alloy_primitives::{Address, B256, keccak256};
use penstock_rules::ids::{Height, Igas};
use penstock_rules::request::Quorum;
use revm::primitives::hardfork::SpecId;
use serde::{Deserialize, Serialize};

/// Chain id: the one that anvil and Hardhat use, so that their tools find a chain that they know.
pub const CHAIN_ID_DEFAULT: u64 = 31_337;
/// Gas of a block, inference included. Its half is left to execution, see [`EXECUTION_GAS_LIMIT_DEFAULT`].
pub const BLOCK_GAS_LIMIT_DEFAULT: u64 = 1_000_000_000;
/// Gas of a block that inference can't take: plain transactions keep this space. One second of this machine's EVM at
/// about 500 gas per µs.
pub const EXECUTION_GAS_LIMIT_DEFAULT: u64 = 500_000_000;
/// Inference units of a block: four shards for one second (1 igas is 1 µs). At the smallest multiplier they fill 80 %
/// of the gas that execution leaves.
pub const IGAS_LIMIT_DEFAULT: Igas = Igas(4_000_000);
/// Wei per gas in the first block: anvil's, so that wallets' presets work.
pub const BASE_FEE_INITIAL: u64 = 1_000_000_000;
/// Where tips go unless the genesis file says otherwise: an address without a key, easily seen in a list.
pub const COINBASE_DEFAULT: Address = Address::repeat_byte(0xc0);
/// Seconds between 0 and the timestamp of the default genesis block: 2024-01-01, before any devnet starts.
pub const GENESIS_TIMESTAMP_DEFAULT: u64 = 1_704_067_200;

const _: () = assert!(EXECUTION_GAS_LIMIT_DEFAULT < BLOCK_GAS_LIMIT_DEFAULT);
const _: () = assert!(
    IGAS_LIMIT_DEFAULT.0 * market::MULTIPLIER_MIN
        <= BLOCK_GAS_LIMIT_DEFAULT - EXECUTION_GAS_LIMIT_DEFAULT
);

/// Rules of the EVM and of the header, by the name of the mainnet hardfork that brought them.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Hardfork {
    /// The merge: `prevrandao`.
    Paris,
    /// Withdrawals (of which a devnet has none), `PUSH0`.
    Shanghai,
    /// Transient storage, beacon roots, blobs (which are refused).
    Cancun,
    /// Set-code transactions, block hashes in state, requests (of which a devnet has none).
    Prague,
    /// Transaction gas cap, `CLZ`. The newest that mainnet runs.
    #[default]
    Osaka,
}

/// No hardfork has this name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown hardfork {0}: known are paris, shanghai, cancun, prague, osaka")]
pub struct UnknownHardfork(pub String);

impl std::str::FromStr for Hardfork {
    type Err = UnknownHardfork;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        Ok(match name.to_ascii_lowercase().as_str() {
            "paris" | "merge" => Self::Paris,
            "shanghai" => Self::Shanghai,
            "cancun" => Self::Cancun,
            "prague" => Self::Prague,
            "osaka" => Self::Osaka,
            _ => return Err(UnknownHardfork(name.into())),
        })
    }
}

impl std::fmt::Display for Hardfork {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Paris => "paris",
            Self::Shanghai => "shanghai",
            Self::Cancun => "cancun",
            Self::Prague => "prague",
            Self::Osaka => "osaka",
        })
    }
}

impl Hardfork {
    pub(crate) const fn spec_id(self) -> SpecId {
        match self {
            Self::Paris => SpecId::MERGE,
            Self::Shanghai => SpecId::SHANGHAI,
            Self::Cancun => SpecId::CANCUN,
            Self::Prague => SpecId::PRAGUE,
            Self::Osaka => SpecId::OSAKA,
        }
    }
}

/// The constants of a chain. Part of its genesis: every process of a devnet has the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ChainSpec {
    /// EIP-155 chain id.
    pub chain_id: u64,
    /// Rules of the EVM, from genesis on.
    pub hardfork: Hardfork,
    /// Gas of a block, inference included.
    pub block_gas_limit: u64,
    /// Gas of a block that execution may take, and inference may not.
    pub execution_gas_limit: u64,
    /// Inference units of a block.
    pub igas_limit: Igas,
    /// How many equal answers each mode needs: genesis writes them into the shard registry, which then counts.
    pub quorum: Quorum,
    /// Where tips go.
    pub coinbase: Address,
    /// Whose signatures on blocks count.
    pub producers: Vec<Address>,
}

impl Default for ChainSpec {
    fn default() -> Self {
        Self {
            chain_id: CHAIN_ID_DEFAULT,
            hardfork: Hardfork::default(),
            block_gas_limit: BLOCK_GAS_LIMIT_DEFAULT,
            execution_gas_limit: EXECUTION_GAS_LIMIT_DEFAULT,
            igas_limit: IGAS_LIMIT_DEFAULT,
            quorum: Quorum::default(),
            coinbase: COINBASE_DEFAULT,
            producers: Vec::new(),
        }
    }
}

impl ChainSpec {
    /// Gas that one transaction may have at most: the hardfork's cap, or the block's.
    #[must_use]
    pub fn tx_gas_limit_max(&self) -> u64 {
        if self.hardfork.spec_id().is_enabled_in(SpecId::OSAKA) {
            self.block_gas_limit
                .min(revm::primitives::eip7825::TX_GAS_LIMIT_CAP)
        } else {
            self.block_gas_limit
        }
    }

    /// Gas of a block that inference may take.
    #[must_use]
    pub const fn inference_gas_limit(&self) -> u64 {
        self.block_gas_limit
            .saturating_sub(self.execution_gas_limit)
    }
}

/// All that a block's transactions can see of their block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BlockEnv {
    /// Height.
    pub number: Height,
    /// Seconds since 1970.
    pub timestamp: u64,
    /// Wei per gas.
    pub base_fee: u64,
    /// Gas of the block.
    pub gas_limit: u64,
    /// Where tips go.
    pub coinbase: Address,
    /// EIP-4399. A devnet has no beacon: keccak256 of the parent's hash. Known in advance, so no source of chance.
    pub prevrandao: B256,
    /// Hash of the parent.
    pub parent_hash: B256,
    /// EIP-4788. Zero: a devnet has no beacon.
    pub parent_beacon_root: B256,
    /// EIP-4844. Zero: a devnet has no blobs.
    pub excess_blob_gas: u64,
}

impl BlockEnv {
    /// Of no block: where another environment stands for it.
    pub(crate) const fn nowhere() -> Self {
        Self {
            number: Height(0),
            timestamp: 0,
            base_fee: 0,
            gas_limit: 0,
            coinbase: Address::ZERO,
            prevrandao: B256::ZERO,
            parent_hash: B256::ZERO,
            parent_beacon_root: B256::ZERO,
            excess_blob_gas: 0,
        }
    }
}

/// The environment of the block that follows `parent`, whose state `state` is.
///
/// The base fee follows EIP-1559 on execution gas alone: what the parent's transactions paid for inference is in the
/// state (see [`market`]) and does not count, and the target is half of the execution gas limit. What a person has set
/// for the next block ([`penstock_rules::dev`]) stands in the state too, and goes before the rules.
#[must_use]
pub fn next_env(spec: &ChainSpec, state: &State, parent: &Header, timestamp: u64) -> BlockEnv {
    let parent_hash = parent.hash_slow();
    let set = dev::settings(state);
    let inference_gas = market::inference_gas(state);
    let base_fee = calc_next_block_base_fee(
        parent.gas_used.saturating_sub(inference_gas),
        spec.execution_gas_limit,
        parent.base_fee_per_gas.unwrap_or(BASE_FEE_INITIAL),
        BaseFeeParams::ethereum(),
    );
    BlockEnv {
        number: Height(parent.number + 1),
        timestamp,
        base_fee: set.base_fee_next.unwrap_or(base_fee),
        gas_limit: set.gas_limit.unwrap_or(spec.block_gas_limit),
        coinbase: set.coinbase.unwrap_or(spec.coinbase),
        prevrandao: set
            .prevrandao_next
            .unwrap_or_else(|| keccak256(parent_hash)),
        parent_hash,
        parent_beacon_root: B256::ZERO,
        excess_blob_gas: 0,
    }
}

/// The environment in which the block of `header` ran: for calls on its state.
#[must_use]
pub fn env_of(header: &Header) -> BlockEnv {
    BlockEnv {
        number: Height(header.number),
        timestamp: header.timestamp,
        base_fee: header.base_fee_per_gas.unwrap_or(BASE_FEE_INITIAL),
        gas_limit: header.gas_limit,
        coinbase: header.beneficiary,
        prevrandao: header.mix_hash,
        parent_hash: header.parent_hash,
        parent_beacon_root: header.parent_beacon_block_root.unwrap_or_default(),
        excess_blob_gas: header.excess_blob_gas.unwrap_or_default(),
    }
}
