//! The server: HTTP and WebSocket on one port, with limits.

use crate::accounts::DevAccounts;
use crate::api::{self, Api};
use crate::control::DevControl;
use crate::middleware::Gate;
use crate::reader::ChainReader;
use crate::rest::RestLayer;
use crate::submitter::TxSubmitter;
use jsonrpsee::core::middleware::RpcServiceBuilder;
use jsonrpsee::server::{
    BatchRequestConfig, IdProvider, RandomIntegerIdProvider, Server, ServerConfig as Limits,
    ServerHandle as Inner,
};
use jsonrpsee::types::SubscriptionId;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tower_http::cors::CorsLayer;

/// Where to serve, and how much.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
    /// Bytes of one request, batches included. The largest contract and its constructor fit many times.
    pub request_bytes_max: u32,
    /// Bytes of one answer, batches included. A block of 1,000 inference transactions with all data takes some 10 MB.
    pub response_bytes_max: u32,
    /// Requests of one batch; ethers sends up to 100, geth takes 1,000.
    pub batch_max: u32,
    /// Connections at the same time.
    pub connections_max: u32,
    /// Subscriptions of one connection.
    pub subscriptions_max: u32,
    /// Messages that wait for one WebSocket client before its subscriptions fall behind.
    pub client_buffer: u32,
    /// How long a receipt that is asked for waits for its transaction, where blocks are made at once and it is about to be in
    /// one. Who sends asks right away, and many clients ask again only after seconds.
    pub receipt_patience: Duration,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8545).into(),
            request_bytes_max: 16 << 20,
            response_bytes_max: 128 << 20,
            batch_max: 1_000,
            connections_max: 1_024,
            subscriptions_max: 256,
            client_buffer: 1_024,
            receipt_patience: Duration::from_millis(20),
        }
    }
}

/// Why the server did not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The address can't be listened on.
    #[error("cannot listen on {listen}: {error}")]
    Listen {
        /// Which.
        listen: SocketAddr,
        /// Why.
        error: std::io::Error,
    },
}

/// A running server. Dropping all handles stops it.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    addr: SocketAddr,
    methods: Arc<[&'static str]>,
    inner: Inner,
}

impl ServerHandle {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// Names of all methods that it serves.
    #[must_use]
    pub fn methods(&self) -> Vec<&'static str> {
        self.methods.to_vec()
    }

    /// Takes no more connections, lets running requests end, and returns when all have.
    pub async fn stop(self) {
        // An error means that it has stopped already.
        let _ = self.inner.stop();
        self.inner.stopped().await;
    }
}

/// Starts serving.
///
/// # Errors
/// Where the address can't be listened on.
pub async fn serve(
    config: ServerConfig,
    reader: Arc<dyn ChainReader>,
    submitter: Arc<dyn TxSubmitter>,
    dev: Arc<dyn DevControl>,
    accounts: DevAccounts,
) -> Result<ServerHandle, ServeError> {
    let listen = config.listen;
    let fail = |error| ServeError::Listen { listen, error };
    let limits = Limits::builder()
        .max_request_body_size(config.request_bytes_max)
        .max_response_body_size(config.response_bytes_max)
        .max_connections(config.connections_max)
        .max_subscriptions_per_connection(config.subscriptions_max)
        .set_batch_request_config(BatchRequestConfig::Limit(config.batch_max))
        .set_message_buffer_capacity(config.client_buffer)
        .set_id_provider(HexIds)
        .build();
    let methods = api::methods(Api::new(
        reader.clone(),
        submitter,
        dev,
        accounts,
        config.receipt_patience,
    ));
    let gate = Gate::layer(&methods, config.response_bytes_max);
    let http = tower::ServiceBuilder::new()
        // Any page may talk to a devnet.
        .layer(CorsLayer::permissive())
        .layer(RestLayer::new(reader));
    let server = Server::builder()
        .set_config(limits)
        .set_http_middleware(http)
        .set_rpc_middleware(RpcServiceBuilder::new().layer(gate))
        .build(listen)
        .await
        .map_err(fail)?;
    let addr = server.local_addr().map_err(fail)?;
    let names = methods.method_names().collect();
    let inner = server.start(methods);
    Ok(ServerHandle {
        addr,
        methods: names,
        inner,
    })
}

/// Ids of filters and subscriptions: random, so that nobody polls another's by counting; hex, as clients expect.
#[must_use]
pub fn random_id() -> String {
    let part = || match RandomIntegerIdProvider.next_id() {
        SubscriptionId::Num(number) => number,
        SubscriptionId::Str(_) => 0,
    };
    format!("{:#x}", (u128::from(part()) << 64) | u128::from(part()))
}

#[derive(Debug)]
struct HexIds;

impl IdProvider for HexIds {
    fn next_id(&self) -> SubscriptionId<'static> {
        SubscriptionId::Str(random_id().into())
    }
}
