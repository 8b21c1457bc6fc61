//! One list of cases for every backend: memory, a nats-server, and a cluster of three.
//!
//! ```text
//!   case(backend)   backend.connect() -> a client     backend.crash() -> kill -9 of what stores, and start again
//!      |
//!      +-- memory        always
//!      +-- nats_r1       a real nats-server where there is one; must be there with PENSTOCK_REQUIRE_NATS=1
//!      +-- nats_r3       three of them with PENSTOCK_HEAVY=1
//! ```

mod blobs;
mod bus;
mod log;
mod nats;
mod proxy;
mod queue;

use crate::memory::{self, Journals, VecJournal};
use crate::nats::NatsConfig;
use crate::server::{ClusterMember, SERVER_HOWTO, ServerConfig};
use crate::{FoundServer, NatsServer, Transport, find_server};
use alloy_primitives::{B256, keccak256};
use async_trait::async_trait;
use bytes::Bytes;
use std::io::Write;
use std::path::PathBuf;
use std::time::{Duration, Instant};
use tempfile::TempDir;

/// Chain id of all cases.
const CHAIN_ID: u64 = 31_337;

/// How long a case waits for what must happen. Far above what it takes, for a machine that does other things.
const PATIENCE: Duration = Duration::from_secs(20);

fn genesis() -> B256 {
    keccak256("genesis")
}

/// The payload and id of block `n`.
fn block(n: u64) -> (B256, Bytes) {
    let bytes = Bytes::from(format!("block {n}"));
    (keccak256(&bytes), bytes)
}

/// What a case runs against.
#[async_trait]
trait Backend: Send {
    /// A client: over NATS, a connection of its own.
    async fn connect(&mut self) -> Transport;

    /// Kills what stores, at once, and starts it again. Clients from before are of no use in memory.
    async fn crash(&mut self);
}

struct Memory {
    journals: Journals<VecJournal>,
    transport: Option<Transport>,
}

impl Memory {
    fn new() -> Self {
        Self {
            journals: Journals {
                log: VecJournal::default(),
                accepted: VecJournal::default(),
                results: VecJournal::default(),
                blobs: VecJournal::default(),
            },
            transport: None,
        }
    }
}

#[async_trait]
impl Backend for Memory {
    async fn connect(&mut self) -> Transport {
        if self.transport.is_none() {
            let transport = memory::transport(self.journals.clone()).await;
            self.transport = Some(transport.expect("journals of ours"));
        }
        self.transport.clone().expect("just made")
    }

    async fn crash(&mut self) {
        self.transport = None;
    }
}

/// The binary, or why there is none: said aloud, and a failure where it is required.
fn nats_binary() -> Option<PathBuf> {
    match find_server(None) {
        Ok(FoundServer::Binary(binary)) => Some(binary),
        other => {
            let required = std::env::var_os("PENSTOCK_REQUIRE_NATS").is_some_and(|v| v == "1");
            assert!(!required, "nats-server is required: {SERVER_HOWTO}");
            say_skipped(&format!(
                "there is no nats-server ({other:?}): {SERVER_HOWTO}"
            ));
            None
        }
    }
}

/// Past libtest, which hides what a passing test prints.
fn say_skipped(why: &str) {
    let name = std::thread::current().name().unwrap_or_default().to_owned();
    let line = format!("skipped {name}: {why}\n");
    std::io::stderr()
        .write_all(line.as_bytes())
        .expect("stderr");
}

struct Nats {
    servers: Vec<NatsServer>,
    replicas: usize,
    _dir: TempDir,
}

impl Nats {
    async fn start() -> Option<Self> {
        Self::start_with("").await
    }

    async fn start_with(extra: &str) -> Option<Self> {
        let binary = nats_binary()?;
        let dir = tempfile::tempdir().expect("a folder");
        let mut config = ServerConfig::new(binary, dir.path());
        config.extra = extra.into();
        let server = NatsServer::start(config).await.expect("it starts");
        Some(Self {
            servers: vec![server],
            replicas: 1,
            _dir: dir,
        })
    }

    /// A cluster of three on this machine.
    async fn start_cluster() -> Option<Self> {
        if std::env::var_os("PENSTOCK_HEAVY").is_none_or(|v| v != "1") {
            say_skipped("a cluster is heavy: set PENSTOCK_HEAVY=1");
            return None;
        }
        let binary = nats_binary()?;
        let dir = tempfile::tempdir().expect("a folder");
        let ports: Vec<u16> = {
            let free = [0; 3].map(|port: u16| std::net::TcpListener::bind(("127.0.0.1", port)));
            let port = |l: std::io::Result<std::net::TcpListener>| l?.local_addr();
            free.map(|l| port(l).expect("a free port").port()).into()
        };
        let starts = ports.iter().enumerate().map(|(i, port)| {
            let mut config = ServerConfig::new(&binary, dir.path().join(format!("n{i}")));
            config.cluster = Some(ClusterMember {
                name: format!("n{i}"),
                port: *port,
                ports: ports.clone(),
            });
            NatsServer::start(config)
        });
        let servers = futures::future::join_all(starts).await;
        Some(Self {
            servers: servers.into_iter().map(|s| s.expect("it starts")).collect(),
            replicas: 3,
            _dir: dir,
        })
    }

    fn url(&self) -> String {
        let urls: Vec<&str> = self.servers.iter().map(NatsServer::url).collect();
        urls.join(",")
    }

    fn config(&self) -> NatsConfig {
        let mut config = NatsConfig::new(&self.url(), CHAIN_ID, genesis());
        config.replicas = self.replicas;
        // A single server has no election: what it does not answer in this time it never does.
        if self.replicas == 1 {
            config.settle = Duration::from_secs(3);
        }
        config
    }
}

#[async_trait]
impl Backend for Nats {
    async fn connect(&mut self) -> Transport {
        let transport = crate::nats::transport(self.config()).await;
        transport.expect("the server is ours")
    }

    async fn crash(&mut self) {
        for server in &mut self.servers {
            server.kill().expect("it is ours");
        }
        let restarts = self.servers.iter_mut().map(NatsServer::restart);
        for restarted in futures::future::join_all(restarts).await {
            restarted.expect("it starts again");
        }
    }
}

/// Waits until a condition holds.
async fn until(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// A result that must come.
async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Runs the list against each backend.
macro_rules! cases {
    ($($module:ident::$case:ident,)*) => {
        mod memory_backend {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                super::$module::$case(&mut super::Memory::new()).await;
            })*
        }

        mod nats_r1 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(mut backend) = super::Nats::start().await {
                    super::$module::$case(&mut backend).await;
                }
            })*
        }

        mod nats_r3 {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $case() {
                if let Some(mut backend) = super::Nats::start_cluster().await {
                    super::$module::$case(&mut backend).await;
                }
            })*
        }
    };
}

cases! {
    bus::a_message_reaches_every_subscription_that_matches,
    bus::a_message_carries_the_trace_context_that_it_was_sent_with,
    bus::a_subscription_is_live_when_subscribe_returns,
    bus::a_queue_group_gets_each_message_once,
    bus::a_request_is_answered_once_or_fails_by_its_reason,
    bus::a_full_server_says_so_instead_of_silence,
    bus::a_slow_subscriber_loses_the_newest_and_the_loss_is_counted,
    bus::a_dropped_subscription_is_gone,
    bus::malformed_subjects_and_oversized_messages_are_refused,
    log::entries_come_back_in_order,
    log::a_subscription_sees_old_and_new_entries_once,
    log::an_old_producer_is_refused_after_a_take_over,
    log::a_take_over_needs_the_epoch_that_is_there,
    log::of_racing_appends_exactly_one_wins,
    log::of_racing_take_overs_exactly_one_wins,
    log::a_repeated_append_returns_the_same_position,
    log::an_append_behind_the_end_is_unknown,
    log::what_was_acknowledged_survives_a_crash,
    log::a_large_block_passes_and_one_too_large_is_refused,
    queue::items_come_back_in_order_from_any_position,
    queue::calls_at_the_same_time_share_commits_and_keep_their_order,
    queue::of_others_is_what_another_process_appended,
    queue::a_removed_item_does_not_come_again,
    queue::one_large_call_is_split_and_an_oversized_item_is_refused,
    queue::queues_are_apart_and_survive_a_crash,
    blobs::a_blob_comes_back_by_its_hash,
    blobs::blobs_survive_a_crash,
    blobs::names_stand_for_blobs_and_blobs_can_be_removed,
}
