//! A TCP proxy that can cut a connection in one direction: what was sent arrives, and the answer never comes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// What the proxy does with bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Cut {
    /// Passes them.
    None,
    /// Passes what the client sends, and swallows what the server says.
    Answers,
    /// Swallows both.
    Both,
}

pub(super) struct Proxy {
    address: SocketAddr,
    cut: Arc<watch::Sender<Cut>>,
    /// Connections from before a heal are closed by it: what they swallowed is missing in their stream.
    generation: Arc<watch::Sender<u64>>,
    /// Bytes that were swallowed: of clients, of the server.
    swallowed: [Arc<AtomicU64>; 2],
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Proxy {
    /// A proxy to `url`.
    pub(super) async fn start(url: &str) -> Self {
        let target = url.trim_start_matches("nats://").to_owned();
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("bound");
        let cut = Arc::new(watch::Sender::new(Cut::None));
        let generation = Arc::new(watch::Sender::new(0));
        let swallowed: [Arc<AtomicU64>; 2] = Default::default();
        let (cuts, generations) = (cut.clone(), generation.clone());
        let [sent, said] = swallowed.clone();
        let task = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let Ok(server) = TcpStream::connect(&target).await else {
                    continue;
                };
                let (client_read, client_write) = client.into_split();
                let (server_read, server_write) = server.into_split();
                let up = pump(
                    client_read,
                    server_write,
                    cuts.clone(),
                    &[Cut::Both],
                    sent.clone(),
                );
                let answers = &[Cut::Both, Cut::Answers];
                let down = pump(
                    server_read,
                    client_write,
                    cuts.clone(),
                    answers,
                    said.clone(),
                );
                let mut closed = generations.subscribe();
                tokio::spawn(async move {
                    tokio::select! {
                        () = up => {}
                        () = down => {}
                        _ = closed.changed() => {}
                    }
                });
            }
        });
        Self {
            address,
            cut,
            generation,
            swallowed,
            task,
        }
    }

    pub(super) fn url(&self) -> String {
        format!("nats://{}", self.address)
    }

    pub(super) fn cut(&self, cut: Cut) {
        self.cut.send_replace(cut);
    }

    /// Passes again, on new connections.
    pub(super) fn heal(&self) {
        self.cut.send_replace(Cut::None);
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Bytes that were swallowed until now: of clients, of the server.
    pub(super) fn swallowed(&self) -> [u64; 2] {
        [0, 1].map(|i: usize| self.swallowed[i].load(Ordering::SeqCst))
    }
}

async fn pump(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    cut: Arc<watch::Sender<Cut>>,
    swallow: &'static [Cut],
    count: Arc<AtomicU64>,
) {
    let mut buffer = vec![0; 64 << 10];
    loop {
        let Ok(read @ 1..) = from.read(&mut buffer).await else {
            return;
        };
        if swallow.contains(&*cut.borrow()) {
            count.fetch_add(read as u64, Ordering::SeqCst);
        } else if to.write_all(&buffer[..read]).await.is_err() {
            return;
        }
    }
}
