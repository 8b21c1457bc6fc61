//! Contracts that are there from genesis: addresses, code, and what is read from their storage without the EVM.

mod code;
mod layout;

use alloy_primitives::{Address, B256, Bytes, U256, address};
use penstock_rules::ids::{Igas, ModelHash, ShardId};
use penstock_rules::model::{ModelInfo, Signature};
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
    /// Registered models: see [`check_model`].
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

/// Bytes of a model's id at most, as in the registry.
pub const CID_BYTES_MAX: usize = 128;
/// Bytes of an encoded signature at most, as in the registry.
pub const SIGNATURE_BYTES_MAX: usize = 8_192;

/// Why a model cannot be registered.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadModel {
    /// The id is empty or too long.
    #[error("model id {0:?} is empty or longer than {CID_BYTES_MAX} bytes")]
    Cid(String),
    /// The signature has too many ports or dimensions, or too long names.
    #[error("signature of model {0:?} is too long")]
    Signature(String),
}

/// The encoded signature of a model that the registry takes.
///
/// # Errors
/// Names the model that it does not take.
pub fn check_model(model: &ModelInfo) -> Result<Vec<u8>, BadModel> {
    if model.cid.is_empty() || model.cid.len() > CID_BYTES_MAX {
        return Err(BadModel::Cid(model.cid.clone()));
    }
    model
        .signature
        .encode()
        .ok()
        .filter(|bytes| bytes.len() <= SIGNATURE_BYTES_MAX)
        .ok_or_else(|| BadModel::Signature(model.cid.clone()))
}

/// All accounts with code of genesis.
///
/// # Panics
/// Where [`check_model`] refuses one of the models.
#[must_use]
pub fn alloc(inputs: &Inputs<'_>) -> Vec<Predeploy> {
    let contract = |address, code, mut slots: Vec<(U256, U256)>| {
        slots.retain(|(_, value)| !value.is_zero());
        slots.sort_unstable();
        Predeploy {
            address,
            code,
            slots,
            nonce: 1,
        }
    };
    let reserved = |address| contract(address, code::RESERVED, Vec::new());
    vec![
        reserved(INFERENCE),
        reserved(HISTORICAL),
        reserved(PREPROCESSING),
        contract(
            MODEL_REGISTRY,
            code::of(code::MODEL_REGISTRY),
            model_slots(inputs),
        ),
        contract(
            SHARD_REGISTRY,
            code::of(code::SHARD_REGISTRY),
            shard_slots(inputs),
        ),
        contract(
            INFERENCE_MARKET,
            code::of(code::INFERENCE_MARKET),
            vec![(MULTIPLIER_SLOT, U256::from(inputs.multiplier))],
        ),
        contract(INFERENCE_HUB, code::of(code::INFERENCE_HUB), Vec::new()),
        contract(CREATE2_DEPLOYER, code::CREATE2_DEPLOYER, Vec::new()),
        contract(MULTICALL3, code::of(code::MULTICALL3), Vec::new()),
    ]
}

fn model_slots(inputs: &Inputs<'_>) -> Vec<(U256, U256)> {
    let mut slots = vec![
        (layout::OWNER, inputs.owner.into_word().into()),
        (layout::CIDS, U256::from(inputs.models.len())),
    ];
    for (index, model) in inputs.models.iter().enumerate() {
        let signature = check_model(model).expect("callers check models");
        let cid = layout::content(layout::CIDS).wrapping_add(U256::from(index));
        slots.extend(layout::write_bytes(cid, model.cid.as_bytes()));
        let base = layout::model(&model.cid);
        let price = U256::from(model.igas_base.0)
            | U256::from(model.igas_per_unit.0) << 64
            | U256::from(index + 1) << 128;
        slots.push((base, model.hash.0.into()));
        slots.push((base.wrapping_add(U256::from(1)), price));
        slots.extend(layout::write_bytes(
            base.wrapping_add(U256::from(2)),
            &signature,
        ));
    }
    slots
}

fn shard_slots(inputs: &Inputs<'_>) -> Vec<(U256, U256)> {
    let Quorum { vanilla, zk, tee } = inputs.quorum;
    let mut slots = vec![
        (layout::OWNER, inputs.owner.into_word().into()),
        (layout::SHARDS, U256::from(inputs.shards.len())),
        (layout::QUORUM, U256::from_le_slice(&[vanilla, zk, tee])),
    ];
    for (index, shard) in inputs.shards.iter().enumerate() {
        let element = layout::content(layout::SHARDS).wrapping_add(U256::from(index));
        slots.push((element, shard.0.into_word().into()));
        slots.push((layout::shard_number(shard.0), U256::from(index + 1)));
    }
    slots
}

/// The model with this id.
#[must_use]
pub fn read_model(cid: &str, read: ReadSlot<'_>) -> Option<ModelInfo> {
    let base = layout::model(cid);
    let price = read(MODEL_REGISTRY, base.wrapping_add(U256::from(1)));
    let [igas_base, igas_per_unit, number, _] = price.into_limbs();
    if number == 0 {
        return None;
    }
    let hash = ModelHash(B256::from(read(MODEL_REGISTRY, base)));
    let signature = layout::read_bytes(MODEL_REGISTRY, base.wrapping_add(U256::from(2)), read)?;
    Some(ModelInfo {
        cid: cid.into(),
        hash,
        igas_base: Igas(igas_base),
        igas_per_unit: Igas(igas_per_unit),
        signature: Signature::decode(&signature).ok()?,
    })
}

/// All models, in order of registration. One whose signature does not decode is left out: no call of it can be right.
#[must_use]
pub fn read_models(read: ReadSlot<'_>) -> Vec<ModelInfo> {
    layout::elements(MODEL_REGISTRY, layout::CIDS, read)
        .filter_map(|slot| {
            let cid = layout::read_bytes(MODEL_REGISTRY, slot, read)?;
            read_model(std::str::from_utf8(&cid).ok()?, read)
        })
        .collect()
}

/// All shards, in the order of the registry.
#[must_use]
pub fn read_shards(read: ReadSlot<'_>) -> Vec<ShardId> {
    layout::elements(SHARD_REGISTRY, layout::SHARDS, read)
        .map(|slot| ShardId(Address::from_word(read(SHARD_REGISTRY, slot).into())))
        .collect()
}

/// Whether this shard's answers count.
#[must_use]
pub fn is_shard(shard: ShardId, read: ReadSlot<'_>) -> bool {
    !read(SHARD_REGISTRY, layout::shard_number(shard.0)).is_zero()
}

/// Equal answers needed per mode.
#[must_use]
pub fn read_quorum(read: ReadSlot<'_>) -> Quorum {
    let [low, ..] = read(SHARD_REGISTRY, layout::QUORUM).into_limbs();
    let [vanilla, zk, tee, ..] = low.to_le_bytes();
    Quorum { vanilla, zk, tee }
}

/// Gas per igas; the largest value where the slot holds more than 64 bits.
#[must_use]
pub fn read_multiplier(read: ReadSlot<'_>) -> u64 {
    read(INFERENCE_MARKET, MULTIPLIER_SLOT).saturating_to()
}

#[cfg(test)]
mod tests;
