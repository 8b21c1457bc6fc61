//! The ways in: transactions, and a person's orders.

use super::{FakeChain, LOGGER};
use alloy_consensus::transaction::SignerRecoverable;
use alloy_consensus::{Transaction as _, TxEnvelope, TypedTransaction};
use alloy_eips::{Decodable2718, Encodable2718};
use alloy_primitives::{Address, Bytes};
use async_trait::async_trait;
use penstock_rpc::{
    ChainReader, DevControl, DumpedAccount, PendingTx, PoolEntry, RpcError, TxSubmitter,
};
use penstock_rules::dev::{Change, DevDone, DevOrder, DevRefusal, MineTime, Settings};
use penstock_rules::ids::TxHash;
use penstock_rules::producer::Timetable;
use penstock_rules::tx::{PoolTx, Refusal};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

#[async_trait]
impl TxSubmitter for FakeChain {
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        let envelope = TxEnvelope::decode_2718(&mut &raw[..])
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let sender = envelope
            .recover_signer()
            .map_err(|error| Refusal::Malformed(error.to_string()))?;
        let hash = *envelope.tx_hash();
        let next = self.next_nonce(sender).await.expect("in memory");
        let nonce = envelope.nonce();
        if self.pending(hash).is_some() {
            return Err(Refusal::AlreadyKnown);
        }
        if nonce < next {
            return Err(Refusal::NonceTooLow { next, nonce });
        }
        let pending = Arc::new(PendingTx {
            tx: PoolTx {
                hash,
                sender,
                nonce,
                gas_limit: envelope.gas_limit(),
                max_fee_per_gas: envelope.max_fee_per_gas(),
                max_priority_fee_per_gas: envelope.max_priority_fee_per_gas().unwrap_or_default(),
                cost_max: envelope.value(),
                raw: envelope.encoded_2718().into(),
            },
            envelope,
        });
        self.pool.write().expect("no panic").push(PoolEntry {
            tx: pending.clone(),
            queued: nonce > next,
        });
        let _ = self.pending.send(pending);
        Ok(hash)
    }
}

/// It takes every order and carries none out: what they do is tested where the true chain is.
#[async_trait]
impl DevControl for FakeChain {
    fn allowed(&self) -> Result<(), RpcError> {
        match self.producers.load(Ordering::Relaxed) {
            1 => Ok(()),
            producers => Err(DevRefusal::Producers { producers }.into()),
        }
    }

    fn settings(&self) -> Settings {
        Settings::default()
    }

    fn timetable(&self) -> Timetable {
        Timetable::AtOnce
    }

    async fn change(&self, changes: Vec<Change>) -> Result<DevDone, RpcError> {
        if let [Change::Restore { snapshot: 9 }] = changes[..] {
            return Err(DevRefusal::Snapshot(9).into());
        }
        self.orders
            .write()
            .expect("no panic")
            .push(DevOrder::Change(changes));
        Ok(self.done())
    }

    async fn mine(&self, time: MineTime) -> Result<DevDone, RpcError> {
        self.mine();
        let wanted = Vec::new();
        let order = DevOrder::Mine { wanted, time };
        self.orders.write().expect("no panic").push(order);
        Ok(self.done())
    }

    async fn snapshot(&self) -> Result<u64, RpcError> {
        Ok(1)
    }

    async fn discard(&self, hashes: Option<Vec<TxHash>>) -> Result<Vec<TxHash>, RpcError> {
        let mut pool = self.pool.write().expect("no panic");
        let goes = |hash: &TxHash| hashes.as_ref().is_none_or(|hashes| hashes.contains(hash));
        let gone = pool
            .iter()
            .map(|entry| entry.tx.tx.hash)
            .filter(|h| goes(h));
        let gone = gone.collect();
        pool.retain(|entry| !goes(&entry.tx.tx.hash));
        Ok(gone)
    }

    async fn send_as(&self, from: Address, _: TypedTransaction) -> Result<TxHash, RpcError> {
        Ok(from.into_word())
    }

    async fn dump(&self) -> Result<BTreeMap<Address, DumpedAccount>, RpcError> {
        Ok(BTreeMap::from([(LOGGER, DumpedAccount::default())]))
    }
}

impl FakeChain {
    fn done(&self) -> DevDone {
        let head = self.head();
        DevDone {
            height: head.height(),
            hash: head.hash,
            snapshot: 0,
        }
    }

    /// What was ordered since the last look.
    pub fn ordered(&self) -> Vec<DevOrder> {
        std::mem::take(&mut *self.orders.write().expect("no panic"))
    }
}
