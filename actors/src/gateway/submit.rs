//! The way in: a request to the mempool over the bus.

use super::Gateway;
use super::pool::hash_of;
use alloy_primitives::Bytes;
use async_trait::async_trait;
use penstock_evm::recover;
use penstock_rpc::TxSubmitter;
use penstock_rules::ids::TxHash;
use penstock_rules::message::{Submit, SubmitReply};
use penstock_rules::tx::Refusal;
use penstock_wire::{BusError, decode, encode};
use tracing::warn;

#[async_trait]
impl TxSubmitter for Gateway {
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        let hash = hash_of(&raw);
        self.pool.submitting(hash);
        let result = self.submit(raw).await;
        self.pool.answered(hash);
        result
    }
}

impl Gateway {
    async fn submit(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        let spec = self.head().chain.spec.clone();
        // The sender is recovered here too, beside the request, so that the pool shows the transaction at once.
        let envelope = raw.clone();
        let recovered = tokio::task::spawn_blocking(move || recover(&envelope, &spec));
        let subject = self.subjects.submit();
        let message = encode(&Submit { raw });
        let timeout = self.config.submit_timeout;
        let reply = self.transport.bus.request(&subject, message, timeout).await;
        let hash = answer(reply)?;
        match recovered.await {
            Ok(Ok(tx)) => self.pool.insert(tx),
            Ok(Err(error)) => warn!(%hash, %error, "taken by the mempool, but not read here"),
            // A panic in there ends the process.
            Err(_) => {}
        }
        Ok(hash)
    }
}

/// What the mempool said. One that can't be reached is busy: the client may try again.
fn answer(reply: Result<bytes::Bytes, BusError>) -> Result<TxHash, Refusal> {
    let reply = reply.map_err(|error| match error {
        BusError::TooLarge { size, limit, .. } => Refusal::Oversized {
            size: u32::try_from(size).unwrap_or(u32::MAX),
            limit: u32::try_from(limit).unwrap_or(u32::MAX),
        },
        error => {
            warn!(%error, "transaction was not submitted");
            Refusal::Busy
        }
    })?;
    match decode::<SubmitReply>(&reply) {
        Ok(reply) => reply.result,
        Err(error) => {
            warn!(%error, "the mempool's answer is malformed");
            Err(Refusal::Busy)
        }
    }
}
