//! From signed bytes to transactions with their senders.

use alloy_consensus::{Transaction, TxEnvelope};
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::{Address, B256, Keccak256, TxKind};
use alloy_rlp::Encodable;
use penstock_evm::{ChainSpec, recover};
use penstock_rules::ids::Seq;
use penstock_rules::message::Submit;
use penstock_rules::tx::{PoolTx, Refusal};
use penstock_wire::{Delivery, QueueItem, decode};
use rayon::prelude::*;
use tracing::warn;

/// A transaction with its sender, and the hash of what it does.
#[derive(Clone, Debug)]
pub(super) struct Recovered {
    pub(super) tx: PoolTx,
    pub(super) content: B256,
}

/// Recovers the sender of a signed transaction.
fn recovered(raw: &[u8], spec: &ChainSpec) -> Result<Recovered, Refusal> {
    let tx = recover(raw, spec)?;
    let content = content(raw);
    Ok(Recovered { tx, content })
}

/// Hash of what a transaction does: all but nonce, fees, gas limit and signature. Equal for a mere price bump.
fn content(raw: &[u8]) -> B256 {
    let Ok(envelope) = TxEnvelope::decode_2718(&mut &raw[..]) else {
        return alloy_primitives::keccak256(raw);
    };
    let mut bytes = Vec::with_capacity(envelope.input().len() + 128);
    match envelope.kind() {
        TxKind::Create => Address::ZERO.encode(&mut bytes),
        TxKind::Call(to) => to.encode(&mut bytes),
    }
    bytes.push(u8::from(envelope.is_create()));
    envelope.value().encode(&mut bytes);
    envelope.input().encode(&mut bytes);
    if let Some(list) = envelope.access_list() {
        list.encode(&mut bytes);
    }
    if let Some(list) = envelope.authorization_list() {
        list.to_vec().encode(&mut bytes);
    }
    let mut hasher = Keccak256::new();
    hasher.update(b"penstock/content/1");
    hasher.update(&bytes);
    hasher.finalize()
}

/// A submission, and the transaction that it brings.
pub(super) type Recovering = (Delivery, Result<Recovered, Refusal>);

pub(super) fn recover_delivery(delivery: Delivery, spec: &ChainSpec) -> Recovering {
    let result = match decode::<Submit>(&delivery.payload) {
        Ok(submit) => recovered(&submit.raw, spec),
        Err(error) => Err(Refusal::Malformed(error.to_string())),
    };
    (delivery, result)
}

pub(super) fn recover_deliveries(deliveries: Vec<Delivery>, spec: &ChainSpec) -> Vec<Recovering> {
    let all = deliveries.into_par_iter();
    all.map(|delivery| recover_delivery(delivery, spec))
        .collect()
}

pub(super) fn recover_items(items: Vec<QueueItem>, spec: &ChainSpec) -> Vec<(Seq, Recovered)> {
    items
        .into_par_iter()
        .filter_map(|item| match recovered(&item.bytes, spec) {
            Ok(recovered) => Some((item.seq, recovered)),
            Err(refusal) => {
                warn!(seq = item.seq.0, %refusal, "item of the durable stream is no transaction");
                None
            }
        })
        .collect()
}
