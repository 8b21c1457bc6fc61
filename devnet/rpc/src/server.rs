//! The server: HTTP and WebSocket on one port, with limits.

use crate::accounts::DevAccounts;
use crate::reader::ChainReader;
use crate::submitter::TxSubmitter;
use jsonrpsee::RpcModule;
use jsonrpsee::server::{Server, ServerHandle as Inner};
use std::net::SocketAddr;
use std::sync::Arc;

/// Where and how to serve.
#[derive(Clone, Debug)]
pub struct ServerConfig {
    /// Address to listen on; port 0 picks a free one.
    pub listen: SocketAddr,
}

impl Default for ServerConfig {
    fn default() -> Self {
        Self {
            listen: ([127, 0, 0, 1], 8545).into(),
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

/// A running server. Dropping it does not stop the server; [`ServerHandle::stop`] does.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    addr: SocketAddr,
    inner: Inner,
}

impl ServerHandle {
    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
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
    accounts: DevAccounts,
) -> Result<ServerHandle, ServeError> {
    let listen = config.listen;
    let fail = |error| ServeError::Listen { listen, error };
    let server = Server::builder().build(listen).await.map_err(fail)?;
    let addr = server.local_addr().map_err(fail)?;
    let inner = server.start(RpcModule::new((reader, submitter, accounts)));
    Ok(ServerHandle { addr, inner })
}
