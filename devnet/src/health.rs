//! What a process says about itself over HTTP.
//!
//! | path | answer |
//! |---|---|
//! | `GET /health/live` | 200 while the process's own loop turns. Never depends on others: restarting this process mends nothing else |
//! | `GET /health/ready` | 200 when it does its work: connected, caught up, not draining; else 503 with the reason |
//! | `GET /metrics` | Prometheus text |
//! | `GET /status` | JSON: this process, and what it heard of the others |
//! | `POST /drain` | 202, and the process hands over what it leads, finishes what it has, and ends |

use eyre::{WrapErr, bail, eyre};
use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::RwLock;
use std::convert::Infallible;
use std::io::ErrorKind;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tracing::{debug, warn};

/// A loop that has not turned for this long hangs. It turns every quarter of a second; starting or stopping an actor may
/// take some seconds of it.
const LIVE_SILENCE_MAX: Duration = Duration::from_secs(30);
/// Wait for the answer of another process's health port.
const ASK_TIMEOUT: Duration = Duration::from_secs(10);
/// How often histograms are tidied, as the exporter asks for.
const UPKEEP: Duration = Duration::from_secs(5);

/// What the HTTP side reads and the process's loop writes.
struct State {
    turned: RwLock<Instant>,
    ready: RwLock<Result<(), String>>,
    status: RwLock<String>,
    drain: Notify,
    metrics: PrometheusHandle,
}

/// A process's health port. Clones are one.
#[derive(Clone)]
pub struct Health {
    addr: SocketAddr,
    state: Arc<State>,
}

impl Health {
    /// Listens. Until [`Health::turn`] says otherwise the process is live and not ready.
    ///
    /// # Errors
    /// Where the address can't be listened on, or metrics are recorded elsewhere in this process.
    pub async fn serve(listen: SocketAddr) -> eyre::Result<Self> {
        let bound = TcpListener::bind(listen).await;
        Self::on(bound.wrap_err_with(|| format!("health can't listen on {listen}"))?)
    }

    /// The same, for a port that nobody named: where it is taken, a free one does, and the log says so.
    ///
    /// # Errors
    /// See [`Health::serve`].
    pub async fn serve_near(listen: SocketAddr) -> eyre::Result<Self> {
        match TcpListener::bind(listen).await {
            Err(error) if error.kind() == ErrorKind::AddrInUse => {
                warn!(%listen, "the port beside JSON-RPC's is taken: health is told on a free one");
                Self::serve(SocketAddr::new(listen.ip(), 0)).await
            }
            bound => Self::on(bound.wrap_err_with(|| format!("health can't listen on {listen}"))?),
        }
    }

    fn on(listener: TcpListener) -> eyre::Result<Self> {
        let addr = listener.local_addr().wrap_err("health has no address")?;
        let metrics = PrometheusBuilder::new()
            .install_recorder()
            .wrap_err("metrics can't be recorded")?;
        let state = Arc::new(State {
            turned: RwLock::new(Instant::now()),
            ready: RwLock::new(Err("starting".into())),
            status: RwLock::new("{}".into()),
            drain: Notify::new(),
            metrics,
        });
        tokio::spawn(accept(listener, state.clone()));
        tokio::spawn({
            let metrics = state.metrics.clone();
            async move {
                loop {
                    tokio::time::sleep(UPKEEP).await;
                    metrics.run_upkeep();
                }
            }
        });
        Ok(Self { addr, state })
    }

    /// Where it listens.
    #[must_use]
    pub const fn addr(&self) -> SocketAddr {
        self.addr
    }

    /// The process's loop turned: this is what it knows now.
    pub fn turn(&self, ready: Result<(), String>, status: String) {
        *self.state.turned.write() = Instant::now();
        *self.state.ready.write() = ready;
        *self.state.status.write() = status;
    }

    /// Returns when somebody asks the process to drain.
    pub async fn drain_asked(&self) {
        self.state.drain.notified().await;
    }
}

async fn accept(listener: TcpListener, state: Arc<State>) {
    loop {
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                // Out of file descriptors, say: later there may be some.
                debug!(%error, "health connection was not accepted");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let state = state.clone();
        tokio::spawn(async move {
            let service = service_fn(move |request| {
                let answer = answer(&state, &request);
                async move { Ok::<_, Infallible>(answer) }
            });
            let connection = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service);
            if let Err(error) = connection.await {
                debug!(%error, "health connection ended");
            }
        });
    }
}

fn answer(state: &State, request: &Request<Incoming>) -> Response<Full<Bytes>> {
    let get = *request.method() == Method::GET;
    let (status, kind, body) = match request.uri().path() {
        "/health/live" if get => {
            let silence = state.turned.read().elapsed();
            match silence <= LIVE_SILENCE_MAX {
                true => (StatusCode::OK, "text/plain", "live\n".into()),
                false => (
                    StatusCode::SERVICE_UNAVAILABLE,
                    "text/plain",
                    format!("hangs for {silence:?}\n"),
                ),
            }
        }
        "/health/ready" if get => match &*state.ready.read() {
            Ok(()) => (StatusCode::OK, "text/plain", "ready\n".into()),
            Err(why) => (
                StatusCode::SERVICE_UNAVAILABLE,
                "text/plain",
                format!("{why}\n"),
            ),
        },
        "/metrics" if get => (
            StatusCode::OK,
            "text/plain; version=0.0.4",
            state.metrics.render(),
        ),
        "/status" if get => (
            StatusCode::OK,
            "application/json",
            state.status.read().clone(),
        ),
        "/drain" if *request.method() == Method::POST => {
            state.drain.notify_one();
            (StatusCode::ACCEPTED, "text/plain", "drains\n".into())
        }
        _ => (StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    };
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = status;
    let kind = hyper::header::HeaderValue::from_static(kind);
    response
        .headers_mut()
        .insert(hyper::header::CONTENT_TYPE, kind);
    response
}

/// Asks a process's health port; the body of a good answer.
///
/// # Errors
/// Where nobody answers, or not well.
pub async fn ask(url: &str, method: Method, path: &str) -> eyre::Result<String> {
    let asked = tokio::time::timeout(ASK_TIMEOUT, exchange(url, method, path)).await;
    asked
        .map_err(|_| eyre!("no answer from {url} within {ASK_TIMEOUT:?}"))?
        .wrap_err_with(|| format!("no process answers at {url}"))
}

async fn exchange(url: &str, method: Method, path: &str) -> eyre::Result<String> {
    let host = url
        .strip_prefix("http://")
        .ok_or_else(|| eyre!("write http://HOST:PORT"))?
        .trim_end_matches('/');
    let stream = TcpStream::connect(host).await?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(hyper::header::HOST, host)
        .body(Full::new(Bytes::new()))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    let body = String::from_utf8_lossy(&body).into_owned();
    if !status.is_success() {
        bail!("{path}: {status}: {}", body.trim());
    }
    Ok(body)
}
