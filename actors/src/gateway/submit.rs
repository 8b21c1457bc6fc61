//! The way in: a request to the mempool over the bus, and models into the blob store.

use super::Gateway;
use super::pool::hash_of;
use alloy_consensus::TxEnvelope;
use alloy_eips::eip2718::Decodable2718;
use alloy_primitives::Bytes;
use async_trait::async_trait;
use penstock_evm::dev::impersonates;
use penstock_evm::{is_recovered, recover};
use penstock_rpc::{RpcError, TxSubmitter};
use penstock_rules::ids::{ModelHash, TxHash};
use penstock_rules::message::{Submit, SubmitReply};
use penstock_rules::tx::{Refusal, Stage};
use penstock_shaders::{Limits, Model};
use penstock_wire::{BusError, decode, encode};
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// Pause before a transaction that no mempool saw is sent again: a tenth of a take-over.
const NO_MEMPOOL_PAUSE: Duration = Duration::from_millis(250);

/// Wait for a mempool's answer before the transaction is sent again: one whose machine was cut off never answers, and
/// the bus takes seconds to notice. Longer than a loaded mempool takes, so that few are asked twice.
const UNANSWERED: Duration = Duration::from_secs(2);

/// What comes of a request.
type Reply = Result<bytes::Bytes, BusError>;

#[async_trait]
impl TxSubmitter for Gateway {
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        // What stands for another account goes in by `send_as` alone, where that was asked for.
        if is_unsigned(&raw) {
            return Err(Refusal::Malformed("invalid signature".into()));
        }
        self.accept(raw).await
    }

    async fn put_model(&self, file: Bytes) -> Result<ModelHash, RpcError> {
        let bytes = file.clone();
        // Some 10 ms per MB.
        let checked = tokio::task::spawn_blocking(move || {
            let model = Model::load(&bytes, &Limits::default()).map_err(|e| e.to_string())?;
            Ok(model.hash())
        });
        let hash = match checked.await {
            Ok(Ok(hash)) => hash,
            Ok(Err(reason)) => return Err(RpcError::InvalidArgument { index: 0, reason }),
            Err(error) => return Err(RpcError::Internal(error.to_string())),
        };
        let kept = self.transport.blobs.put(file.0).await;
        let kept = kept.map_err(|error| RpcError::Internal(error.to_string()))?;
        debug_assert_eq!(kept, hash.0, "a model's hash is its content's");
        info!(model = %hash, "model uploaded");
        Ok(hash)
    }
}

/// Whether nobody signed this.
fn is_unsigned(mut raw: &[u8]) -> bool {
    // An envelope ends with `s`, and zero is this byte: few others need to be decoded for it.
    raw.last() == Some(&alloy_rlp::EMPTY_STRING_CODE)
        && TxEnvelope::decode_2718(&mut raw).is_ok_and(|envelope| impersonates(&envelope).is_some())
}

impl Gateway {
    /// Takes a transaction, signed or not.
    pub(super) async fn accept(&self, raw: Bytes) -> Result<TxHash, Refusal> {
        let hash = hash_of(&raw);
        let before = self.statuses.last(hash);
        self.pool.submitting(hash);
        let result = self.submit(hash, raw).await;
        self.pool.answered(hash);
        // A revert made it possible again.
        if let (Ok(_), Some(included @ Stage::Included { .. })) = (&result, &before) {
            self.statuses.forget(hash, included);
        }
        result
    }

    async fn submit(&self, hash: TxHash, raw: Bytes) -> Result<TxHash, Refusal> {
        if let Some(check) = self.crowded().filter(|_| !self.pool.has(hash)) {
            let (envelope, spec) = (raw.clone(), self.head().chain.spec.clone());
            let checked = tokio::task::spawn_blocking(move || match recover(&envelope, &spec) {
                Ok(tx) => check.run(&tx),
                // The mempool says why.
                Err(_) => Ok(()),
            });
            // A panic in there ends the process.
            checked.await.map_err(|_| Refusal::Busy)??;
        }
        let subject = self.subjects.submit();
        let message = encode(&Submit { raw: raw.clone() });
        let (reply, asked) = self.ask_mempool(&subject, &message).await;
        let hash = match (answer(reply), asked) {
            // It is the transaction that was sent before: its answer was lost, it was not. The pool shows what the
            // durable stream has.
            (Err(Refusal::AlreadyKnown), Asked::Again) => return Ok(hash),
            (Err(Refusal::NonceTooLow { .. }), Asked::Again) if self.is_included(hash) => {
                return Ok(hash);
            }
            (answer, _) => answer?,
        };
        // The pool shows the transaction at once. A mempool in this process has recovered the sender already.
        let spec = self.head().chain.spec.clone();
        let recovered = match is_recovered(hash) {
            true => recover(&raw, &spec),
            false => match tokio::task::spawn_blocking(move || recover(&raw, &spec)).await {
                Ok(recovered) => recovered,
                // A panic in there ends the process.
                Err(_) => return Ok(hash),
            },
        };
        match recovered {
            Ok(tx) => {
                if !self.pend(&tx) {
                    self.pool.passed(tx);
                }
            }
            Err(error) => warn!(%hash, %error, "taken by the mempool, but not read here"),
        }
        Ok(hash)
    }
}

/// How often a mempool was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Asked {
    Once,
    /// An earlier request had no answer, and may have been taken.
    Again,
}

impl Gateway {
    /// Asks whichever mempool leads. While a standby takes over there is none for a few seconds: nobody saw the
    /// transaction, so it is sent again. It is too where no answer comes: taken twice it is one.
    async fn ask_mempool(&self, subject: &str, message: &bytes::Bytes) -> (Reply, Asked) {
        let timeout = self.config.submit_timeout;
        let (began, mut times) = (Instant::now(), Asked::Once);
        loop {
            let left = timeout.saturating_sub(began.elapsed());
            let wait = left.min(UNANSWERED);
            let asked = self.transport.bus.request(subject, message.clone(), wait);
            match asked.await {
                Err(BusError::NoResponder(_)) if began.elapsed() + NO_MEMPOOL_PAUSE < timeout => {
                    tokio::time::sleep(NO_MEMPOOL_PAUSE).await;
                }
                Err(BusError::Timeout { .. }) if began.elapsed() < timeout => {
                    times = Asked::Again;
                }
                reply => return (reply, times),
            }
        }
    }

    fn is_included(&self, hash: TxHash) -> bool {
        self.store
            .tx_location(hash)
            .is_ok_and(|place| place.is_some())
    }
}

/// What the mempool said. One that can't be reached is busy: the client may try again.
fn answer(reply: Reply) -> Result<TxHash, Refusal> {
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
