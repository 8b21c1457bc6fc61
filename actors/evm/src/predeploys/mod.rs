//! Contracts that are there from genesis: addresses, code, and what is read from their storage without the EVM.

use alloy_primitives::{Address, Bytes, U256, address};
use penstock_rules::ids::ShardId;
use penstock_rules::model::ModelInfo;
use penstock_rules::request::Quorum;

/// Inference precompile (OpenGradient's OGInference).
pub const INFERENCE: Address = address!("0x00000000000000000000000000000000000000F4");
/// Price-history precompile (OGHistorical). Reserved: every call reverts with `Unsupported`.
pub const HISTORICAL: Address = address!("0x00000000000000000000000000000000000000F5");
/// Preprocessing precompile (OGPreprocessing).
pub const PREPROCESSING: Address = address!("0x00000000000000000000000000000000000000F6");
/// Registry of models.
pub const MODEL_REGISTRY: Address = address!("0x0000000000000000000000000000000000F40001");
/// Registry of shards and quorums.
pub const SHARD_REGISTRY: Address = address!("0x0000000000000000000000000000000000F40002");
/// The market: slot 0 holds the multiplier, in gas per igas.
pub const INFERENCE_MARKET: Address = address!("0x0000000000000000000000000000000000F40003");
/// The hub that OpenGradient's SDK calls.
pub const INFERENCE_HUB: Address = address!("0x8383C9bD7462F12Eb996DD02F78234C0421A6FaE");
/// Deterministic deployment proxy, at the address that Foundry's scripts expect.
pub const CREATE2_DEPLOYER: Address = address!("0x4e59b44847b379578588920cA78FbF26c0B4956C");
/// Multicall3, at the address that viem and others expect.
pub const MULTICALL3: Address = address!("0xcA11bde05977b3631167028862bE2a173976CA11");

/// Slot of the market's multiplier.
pub const MULTIPLIER_SLOT: U256 = U256::ZERO;
/// Gas per igas at genesis: 1 igas is 1 µs of the reference shard, and at 100 gas/µs inference costs about what the
/// EVM costs for the same time.
pub const MULTIPLIER_INITIAL: u64 = 100;

/// Reads a slot of an account's storage.
pub type ReadSlot<'a> = &'a mut dyn FnMut(Address, U256) -> U256;

/// What genesis puts into the predeploys' storage.
#[derive(Clone, Copy, Debug)]
pub struct Inputs<'a> {
    /// May register models and shards.
    pub owner: Address,
    /// Registered shards.
    pub shards: &'a [ShardId],
    /// Equal answers needed per mode.
    pub quorum: Quorum,
    /// Registered models. Their signatures encode in at most 255 ports of at most 255 dimensions.
    pub models: &'a [ModelInfo],
    /// Gas per igas.
    pub multiplier: u64,
}

/// An account of genesis.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Predeploy {
    /// Where.
    pub address: Address,
    /// Its code.
    pub code: Bytes,
    /// Its storage, by ascending slot, without zeros.
    pub slots: Vec<(U256, U256)>,
    /// Its nonce: 1, as of a contract that was created.
    pub nonce: u64,
}

/// All accounts with code of genesis.
#[must_use]
pub fn alloc(inputs: &Inputs<'_>) -> Vec<Predeploy> {
    let _ = inputs;
    Vec::new()
}

/// The model with this id.
#[must_use]
pub fn read_model(cid: &str, read: ReadSlot<'_>) -> Option<ModelInfo> {
    let _ = (cid, read);
    None
}

/// All models, in order of registration.
#[must_use]
pub fn read_models(read: ReadSlot<'_>) -> Vec<ModelInfo> {
    let _ = read;
    Vec::new()
}

/// All shards, in order of registration.
#[must_use]
pub fn read_shards(read: ReadSlot<'_>) -> Vec<ShardId> {
    let _ = read;
    Vec::new()
}

/// Equal answers needed per mode.
#[must_use]
pub fn read_quorum(read: ReadSlot<'_>) -> Quorum {
    let _ = read;
    Quorum::default()
}

/// Gas per igas; the largest value where the slot holds more than 64 bits.
#[must_use]
pub fn read_multiplier(read: ReadSlot<'_>) -> u64 {
    read(INFERENCE_MARKET, MULTIPLIER_SLOT).saturating_to()
}
