//! Between server and methods: geth's text for unknown methods, and batches whose entries run side by side.

use crate::errors::RpcError;
use futures::StreamExt;
use futures::future::BoxFuture;
use jsonrpsee::core::middleware::{Batch, BatchEntry, BatchEntryErr, Notification, RpcServiceT};
use jsonrpsee::server::{BatchResponseBuilder, MethodResponse, Methods};
use jsonrpsee::types::{ErrorObjectOwned, Request};
use std::collections::HashSet;
use std::future::Future;
use std::sync::Arc;
use tower::Layer;

/// Entries of one batch that run at the same time. A batch of transactions shares flushes of the durable stream that
/// way; more would let one client crowd out the others.
const BATCH_CONCURRENCY: usize = 64;

/// Makes [`Gate`]s.
#[derive(Clone)]
pub struct GateLayer {
    names: Arc<HashSet<&'static str>>,
    response_bytes_max: usize,
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Self::Service {
        Gate {
            inner,
            names: self.names.clone(),
            response_bytes_max: self.response_bytes_max,
        }
    }
}

/// See the module.
#[derive(Clone)]
pub struct Gate<S> {
    inner: S,
    names: Arc<HashSet<&'static str>>,
    response_bytes_max: usize,
}

impl Gate<()> {
    /// The layer for these methods.
    pub fn layer(methods: &Methods, response_bytes_max: u32) -> GateLayer {
        GateLayer {
            names: Arc::new(methods.method_names().collect()),
            response_bytes_max: response_bytes_max as usize,
        }
    }
}

impl<S> Gate<S>
where
    S: RpcServiceT<MethodResponse = MethodResponse> + Clone + Send + Sync + 'static,
{
    async fn one(&self, request: Request<'_>) -> MethodResponse {
        if self.names.contains(request.method_name()) {
            return self.inner.call(request).await;
        }
        let error = RpcError::MethodNotFound(request.method_name().to_owned());
        MethodResponse::error(request.id, ErrorObjectOwned::from(error))
    }

    fn entry<'a>(&'a self, entry: Entry<'a>) -> BoxFuture<'a, MethodResponse> {
        Box::pin(async move {
            match entry {
                Ok(request) => self.one(request).await,
                Err(error) => {
                    let (error, id) = error.into_parts();
                    MethodResponse::error(id, error)
                }
            }
        })
    }
}

/// Entries that may run side by side.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Reads, among themselves.
    Read,
    /// Signed transactions, among themselves: their nonces say their order.
    Send,
    /// One at a time, in its place.
    Alone,
}

impl Kind {
    fn of(method: &str) -> Self {
        match method {
            "eth_sendRawTransaction" => Self::Send,
            "eth_sendTransaction"
            | "eth_sendRawTransactionSync"
            | "eth_sendUnsignedTransaction"
            | "eth_subscribe"
            | "eth_unsubscribe" => Self::Alone,
            // Development methods change what comes after them.
            name if DEV.iter().any(|prefix| name.starts_with(prefix)) => Self::Alone,
            _ => Self::Read,
        }
    }
}

/// How names of development methods begin.
const DEV: [&str; 3] = ["anvil_", "evm_", "hardhat_"];

type Entry<'a> = Result<Request<'a>, BatchEntryErr<'a>>;

/// Splits a batch into runs whose entries may run side by side; run follows run. Notifications are left out: they get
/// no answer, and no method here does anything that nobody hears of.
fn runs(batch: Batch<'_>) -> (Vec<Vec<Entry<'_>>>, bool) {
    let mut runs: Vec<(Kind, Vec<Entry<'_>>)> = Vec::new();
    let mut notified = false;
    for entry in batch {
        let (kind, entry) = match entry {
            Ok(BatchEntry::Call(request)) => (Kind::of(request.method_name()), Ok(request)),
            Ok(BatchEntry::Notification(_)) => {
                notified = true;
                continue;
            }
            Err(error) => (Kind::Read, Err(error)),
        };
        match runs.last_mut() {
            Some((last, run)) if *last == kind && kind != Kind::Alone => run.push(entry),
            _ => runs.push((kind, vec![entry])),
        }
    }
    (runs.into_iter().map(|(_, run)| run).collect(), notified)
}

impl<S> RpcServiceT for Gate<S>
where
    S: RpcServiceT<
            MethodResponse = MethodResponse,
            NotificationResponse = MethodResponse,
            BatchResponse = MethodResponse,
        > + Clone
        + Send
        + Sync
        + 'static,
{
    type MethodResponse = MethodResponse;
    type NotificationResponse = MethodResponse;
    type BatchResponse = MethodResponse;

    fn call<'a>(&self, request: Request<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let gate = self.clone();
        async move { gate.one(request).await }
    }

    fn batch<'a>(&self, batch: Batch<'a>) -> impl Future<Output = MethodResponse> + Send + 'a {
        let gate = self.clone();
        async move {
            let mut answers = BatchResponseBuilder::new_with_limit(gate.response_bytes_max);
            let (runs, notified) = runs(batch);
            for run in runs {
                let entries: Vec<_> = run.into_iter().map(|entry| gate.entry(entry)).collect();
                let mut done = futures::stream::iter(entries).buffered(BATCH_CONCURRENCY);
                while let Some(answer) = done.next().await {
                    if let Err(too_large) = answers.append(answer) {
                        return too_large;
                    }
                }
            }
            if answers.is_empty() && notified {
                MethodResponse::notification()
            } else {
                // An empty batch is an invalid request, and is answered as one here.
                MethodResponse::from_batch(answers.finish())
            }
        }
    }

    fn notification<'a>(
        &self,
        notification: Notification<'a>,
    ) -> impl Future<Output = MethodResponse> + Send + 'a {
        self.inner.notification(notification)
    }
}
