//! From the bytes of a signed transaction to what the pool and the EVM need.

use crate::dev;
use crate::run::Checks;
use crate::spec::{ChainSpec, Hardfork};
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, U256};
use parking_lot::Mutex;
use penstock_rules::ids::TxHash;
use penstock_rules::tx::{PoolTx, Refusal};
use revm::context::TxEnv;
use revm::context_interface::cfg::GasParams;
use revm::context_interface::either::Either;
use std::sync::LazyLock;

/// EIP-2718 type of blob transactions.
const BLOB: u8 = 3;
/// EIP-2718 type of set-code transactions.
const SET_CODE: u8 = 4;
/// First byte from which on it begins an RLP list, so a legacy transaction.
const LEGACY_FROM: u8 = 0xc0;

/// Decodes an EIP-2718 envelope, checks what does not depend on any state, and recovers its sender.
///
/// Taken are legacy (also without chain id, which deployment tools sign once for all chains), EIP-2930, EIP-1559 and,
/// from Prague on, EIP-7702. Recovery is the costly part (some 40 us): a process does it once for each transaction, as
/// long as it [remembers](is_recovered) the sender.
///
/// # Errors
/// As a client gets it.
pub fn recover(raw: &[u8], spec: &ChainSpec) -> Result<PoolTx, Refusal> {
    let envelope = decode(raw, spec)?;
    if let Some(have) = envelope.chain_id().filter(|&have| have != spec.chain_id) {
        return Err(Refusal::ChainId {
            have,
            want: spec.chain_id,
        });
    }
    let limit = spec.tx_gas_limit_max();
    if envelope.gas_limit() > limit {
        return Err(Refusal::GasLimit {
            have: envelope.gas_limit(),
            limit,
        });
    }
    let tip = envelope.max_priority_fee_per_gas();
    if tip.is_some_and(|tip| tip > envelope.max_fee_per_gas()) {
        return Err(Refusal::TipAboveFee);
    }
    let initcode_max = initcode_max(spec);
    if envelope.is_create() && envelope.input().len() > initcode_max {
        return Err(Refusal::Oversized {
            size: u32::try_from(envelope.input().len()).unwrap_or(u32::MAX),
            limit: u32::try_from(initcode_max).unwrap_or(u32::MAX),
        });
    }
    let sender = match dev::impersonates(&envelope).filter(|_| dev::allowed(spec)) {
        Some(sender) => sender,
        None => signer(&envelope)?,
    };
    let want = intrinsic_gas(&environment(&envelope, sender), spec);
    if envelope.gas_limit() < want {
        return Err(Refusal::IntrinsicGas {
            have: envelope.gas_limit(),
            want,
        });
    }
    let max_fee = envelope.max_fee_per_gas();
    let gas_cost = U256::from(envelope.gas_limit()).saturating_mul(U256::from(max_fee));
    Ok(PoolTx {
        hash: *envelope.tx_hash(),
        sender,
        nonce: envelope.nonce(),
        gas_limit: envelope.gas_limit(),
        max_fee_per_gas: max_fee,
        max_priority_fee_per_gas: tip.unwrap_or(max_fee),
        cost_max: gas_cost.saturating_add(envelope.value()),
        raw: raw.to_vec().into(),
    })
}

/// Who signed it: remembered, or recovered.
fn signer(envelope: &TxEnvelope) -> Result<Address, Refusal> {
    let hash = *envelope.tx_hash();
    if let Some(sender) = SENDERS.get(hash) {
        return Ok(sender);
    }
    let sender = envelope
        .recover_signer()
        .map_err(|_| Refusal::Malformed("invalid signature".into()))?;
    SENDERS.put(hash, sender);
    Ok(sender)
}

/// Whether the sender of the transaction with this hash is remembered, so that [`recover`] is quick.
#[must_use]
pub fn is_recovered(hash: TxHash) -> bool {
    SENDERS.get(hash).is_some()
}

/// Senders that are remembered at most, 64 bytes each: what a burst has between a gateway, the mempool beside it, and the
/// block that a follower verifies.
const SENDERS_MAX: usize = 16_384;

/// By hash: the sender follows from the bytes that it is of, whatever the chain. Each hash has one place, and the latest
/// stays.
struct Senders(Box<[Place]>);

type Place = Mutex<Option<(TxHash, Address)>>;

static SENDERS: LazyLock<Senders> = LazyLock::new(Senders::new);

impl Senders {
    fn new() -> Self {
        let none = std::iter::repeat_with(|| Mutex::new(None));
        Self(none.take(SENDERS_MAX).collect())
    }

    fn place(&self, hash: TxHash) -> &Place {
        let number = u64::from_be_bytes([
            hash[0], hash[1], hash[2], hash[3], hash[4], hash[5], hash[6], hash[7],
        ]);
        &self.0[number as usize % SENDERS_MAX]
    }

    fn get(&self, hash: TxHash) -> Option<Address> {
        let place = *self.place(hash).lock();
        place.and_then(|(known, sender)| (known == hash).then_some(sender))
    }

    fn put(&self, hash: TxHash, sender: Address) {
        *self.place(hash).lock() = Some((hash, sender));
    }
}

/// Bytes of code that makes a contract, at most: EIP-3860, from Shanghai on.
pub(crate) fn initcode_max(spec: &ChainSpec) -> usize {
    if spec.hardfork >= Hardfork::Shanghai {
        revm::primitives::eip3860::MAX_INITCODE_SIZE
    } else {
        usize::MAX
    }
}

/// Gas that the envelope itself costs, or EIP-7623's floor where that is more.
pub(crate) fn intrinsic_gas(tx: &TxEnv, spec: &ChainSpec) -> u64 {
    let gas = GasParams::new_spec(spec.hardfork.spec_id()).initial_tx_gas_for_tx(tx, None);
    let floor = if spec.hardfork >= Hardfork::Prague {
        gas.floor_gas()
    } else {
        0
    };
    gas.initial_regular_gas().max(floor)
}

fn decode(raw: &[u8], spec: &ChainSpec) -> Result<TxEnvelope, Refusal> {
    let malformed = |why: &str| Refusal::Malformed(why.into());
    let first = *raw.first().ok_or_else(|| malformed("no bytes"))?;
    let set_code_too_early = first == SET_CODE && spec.hardfork < Hardfork::Prague;
    if first == BLOB || set_code_too_early || (SET_CODE < first && first < LEGACY_FROM) {
        return Err(Refusal::Unsupported(first));
    }
    let mut rest = raw;
    let envelope =
        TxEnvelope::decode_2718(&mut rest).map_err(|error| malformed(&error.to_string()))?;
    // One transaction has one form: the same bytes come back. Otherwise its hash would not name it.
    if !rest.is_empty() || envelope.encoded_2718() != raw {
        return Err(malformed("not in canonical form"));
    }
    Ok(envelope)
}

/// What the EVM needs of a transaction whose sender is known, and how strictly it is checked.
pub(crate) fn tx_env(tx: &PoolTx, spec: &ChainSpec) -> Result<(TxEnv, Checks), Refusal> {
    let envelope = decode(&tx.raw, spec)?;
    Ok((environment(&envelope, tx.sender), checks(&envelope)))
}

/// How strictly a transaction of a block is checked.
pub(crate) fn checks(envelope: &TxEnvelope) -> Checks {
    match dev::impersonates(envelope) {
        Some(_) => Checks::Impersonated,
        None => Checks::All,
    }
}

/// What the EVM needs of an envelope.
pub(crate) fn environment(envelope: &TxEnvelope, sender: Address) -> TxEnv {
    TxEnv {
        tx_type: envelope.tx_type() as u8,
        caller: sender,
        gas_limit: envelope.gas_limit(),
        gas_price: envelope.max_fee_per_gas(),
        kind: envelope.kind(),
        value: envelope.value(),
        data: envelope.input().clone(),
        nonce: envelope.nonce(),
        chain_id: envelope.chain_id(),
        access_list: envelope.access_list().cloned().unwrap_or_default(),
        gas_priority_fee: envelope.max_priority_fee_per_gas(),
        blob_hashes: Vec::new(),
        max_fee_per_blob_gas: 0,
        authorization_list: envelope
            .authorization_list()
            .unwrap_or_default()
            .iter()
            .cloned()
            .map(Either::Left)
            .collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    /// Two hashes that share a place: the later one's sender is remembered, and never taken for the other's.
    #[test]
    fn a_sender_is_that_of_its_own_hash_alone() {
        let senders = Senders::new();
        let (one, other) = (B256::with_last_byte(1), B256::with_last_byte(2));
        assert!(std::ptr::eq(senders.place(one), senders.place(other)));
        let (alice, bob) = (Address::repeat_byte(1), Address::repeat_byte(2));
        assert_eq!(senders.get(one), None);
        senders.put(one, alice);
        assert_eq!((senders.get(one), senders.get(other)), (Some(alice), None));
        senders.put(other, bob);
        assert_eq!((senders.get(one), senders.get(other)), (None, Some(bob)));
    }
}
