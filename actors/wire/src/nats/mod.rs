//! Everything over a nats-server with JetStream.
//!
//! ```text
//!   bus       core NATS on penstock.<chain>.v1.>          no storage: messages may be lost
//!   log       stream PENSTOCK_<chain>_LOG                 two subjects: blocks, epochs; nothing is ever deleted
//!   accepted  stream PENSTOCK_<chain>_ACCEPTED            one message per group commit; deleted when all is done with
//!   results   stream PENSTOCK_<chain>_RESULTS             the same, and old ones go by age
//!   blobs     object store penstock-<chain>               by keccak256
//! ```
//!
//! The genesis hash is pinned in each stream's metadata: a node of another chain that has the same id hears it when it
//! connects.
//!
//! **Absent on purpose:** faith. A timeout means unknown, a rejection means look, and who looks asks the stream's
//! leader; JetStream orders and stores, it does not judge.

mod absent;
mod blobs;
mod bus;
mod config;
mod events;
mod log;
mod permissions;
mod publish;
mod queue;
mod streams;
mod user;

pub use config::{NatsConfig, NatsTls, Secret};
pub use permissions::{NatsRole, Permissions, permissions};
pub use user::NatsUser;

use crate::Transport;
use crate::codec::MESSAGE_BYTES_MAX;
use crate::queue::GroupQueue;
use crate::subjects::Subjects;
use async_nats::jetstream;
use events::Events;
use std::sync::Arc;
use std::time::Duration;

/// Oldest server for a single node: `Nats-Expected-Last-Subject-Sequence-Subject`, the fence, came with it.
const VERSION_MIN: (u64, u64) = (2, 11);

/// Oldest server for a cluster: R3 with `sync_interval: always` is fast from it on, and it is what was tested.
const CLUSTER_VERSION_MIN: (u64, u64) = (2, 15);

/// A dead connection is noticed after two of these, in ms. async-nats's default of a minute is longer than any
/// fail-over.
const PING_INTERVAL_MS: u64 = 1_000;

/// A request to JetStream's API that has no answer after this many ms is repeated or given up. A sync of a slow disk
/// took 2 s at worst.
const API_TIMEOUT_MS: u64 = 2_500;

/// Wait for the first connection, in ms.
const CONNECT_TIMEOUT_MS: u64 = 5_000;

/// Longest wait between two attempts to connect again, in ms.
const RECONNECT_MS_MAX: u64 = 500;

/// Place for messages of one subscription before its own bounded inbox takes them. The pump that empties it never
/// waits, so this is only for bursts between two turns of the runtime.
const CLIENT_SUBSCRIPTION_MESSAGES: usize = 65_536;

const _: () = assert!(PING_INTERVAL_MS < API_TIMEOUT_MS);

/// Why there is no connection to the bus.
#[derive(Debug, thiserror::Error)]
pub enum NatsError {
    /// No server, or not with these credentials.
    #[error("no connection to {url}: {why}")]
    Connect {
        /// Where to.
        url: String,
        /// What happened.
        why: String,
    },
    /// The server is too old.
    #[error("nats-server {found} at {url} is too old: {need} needs {} or newer", version(*.min))]
    OldServer {
        /// Where.
        url: String,
        /// Its version.
        found: String,
        /// What for.
        need: &'static str,
        /// Oldest that does.
        min: (u64, u64),
    },
    /// The server's settings do not do.
    #[error("nats-server at {url}: {what}")]
    Settings {
        /// Where.
        url: String,
        /// What is wrong, and how to set it.
        what: String,
    },
    /// The stream belongs to another chain.
    #[error("stream {stream} belongs to another chain: its genesis is {theirs}, ours is {ours}")]
    OtherChain {
        /// Which.
        stream: String,
        /// Genesis hash in its metadata.
        theirs: String,
        /// Genesis hash of this node.
        ours: String,
    },
    /// A stream can't be made or looked at.
    #[error("stream {stream}: {why}")]
    Stream {
        /// Which.
        stream: String,
        /// What happened.
        why: String,
    },
    /// The server forbids something that this role needs.
    #[error("the server does not let this user {0}")]
    Denied(String),
}

fn version((major, minor): (u64, u64)) -> String {
    format!("{major}.{minor}")
}

/// One connection, shared by the five parts.
#[derive(Clone)]
pub(crate) struct Link {
    client: async_nats::Client,
    jetstream: jetstream::Context,
    subjects: Subjects,
    events: Events,
}

/// Connects, checks the server, makes what streams are missing, and returns the transport.
///
/// # Errors
/// See [`NatsError`].
pub async fn transport(config: NatsConfig) -> Result<Transport, NatsError> {
    let link = connect(&config).await?;
    let names = streams::Names::new(config.chain_id);
    let log = streams::ensure(&link, &config, streams::log(&names, &config)).await?;
    let accepted = streams::accepted(&names, &config);
    let accepted = queue::NatsSegments::open(&link, &config, accepted).await?;
    let results = streams::results(&names, &config);
    let results = queue::NatsSegments::open(&link, &config, results).await?;
    let blobs = blobs::NatsBlobs::open(&link, &config, &names).await?;
    Ok(Transport {
        bus: Arc::new(bus::NatsBus::new(link.clone())),
        log: Arc::new(log::NatsLog::new(link, log, names, &config)),
        accepted: Arc::new(GroupQueue::start("accepted", accepted)),
        results: Arc::new(GroupQueue::start("results", results)),
        blobs: Arc::new(blobs),
    })
}

/// As [`transport`], for a shard: bus and blobs alone. Log and queues answer that they are not there.
///
/// # Errors
/// See [`NatsError`].
pub async fn shard_transport(config: NatsConfig) -> Result<Transport, NatsError> {
    let link = connect(&config).await?;
    let names = streams::Names::new(config.chain_id);
    let blobs = blobs::NatsBlobs::open(&link, &config, &names).await?;
    Ok(Transport {
        bus: Arc::new(bus::NatsBus::new(link)),
        log: Arc::new(absent::Absent("block log")),
        accepted: Arc::new(absent::Absent("queue of accepted transactions")),
        results: Arc::new(absent::Absent("queue of results")),
        blobs: Arc::new(blobs),
    })
}

async fn connect(config: &NatsConfig) -> Result<Link, NatsError> {
    let events = Events::default();
    let failed = |why: String| NatsError::Connect {
        url: config.url.clone(),
        why,
    };
    let mut options = async_nats::ConnectOptions::new()
        .name(&config.name)
        .ping_interval(Duration::from_millis(PING_INTERVAL_MS))
        .request_timeout(Some(Duration::from_millis(API_TIMEOUT_MS)))
        .connection_timeout(Duration::from_millis(CONNECT_TIMEOUT_MS))
        .subscription_capacity(CLIENT_SUBSCRIPTION_MESSAGES)
        .reconnect_delay_callback(|attempts| {
            let ms = 20u64.saturating_mul(1 << attempts.min(10));
            Duration::from_millis(ms.min(RECONNECT_MS_MAX))
        })
        .event_callback({
            let events = events.clone();
            move |event| {
                events.see(&event);
                std::future::ready(())
            }
        });
    if let Some(seed) = &config.nkey_seed {
        options = options.nkey(seed.reveal().into());
    }
    if let Some((user, password)) = &config.user {
        options = options.user_and_password(user.clone(), password.reveal().into());
    }
    if let Some(prefix) = &config.inbox_prefix {
        options = options.custom_inbox_prefix(prefix);
    }
    if let Some(tls) = &config.tls {
        options = options
            .require_tls(true)
            .add_root_certificates(tls.ca.clone())
            .add_client_certificate(tls.certificate.clone(), tls.key.clone());
    }
    let urls: Vec<&str> = config.url.split(',').collect();
    let client = options.connect(urls).await;
    let client = client.map_err(|e| failed(e.to_string()))?;
    check_server(config, &client.server_info())?;
    let mut jetstream = jetstream::new(client.clone());
    jetstream.set_timeout(Duration::from_millis(API_TIMEOUT_MS));
    let link = Link {
        client,
        jetstream,
        subjects: Subjects::new(config.chain_id),
        events,
    };
    if let Some(role) = config.role {
        let inbox = config.inbox_prefix.as_deref().unwrap_or("_INBOX");
        let needed = permissions(role, config.chain_id, inbox);
        link.check_permissions(&needed).await?;
    }
    Ok(link)
}

fn check_server(config: &NatsConfig, info: &async_nats::ServerInfo) -> Result<(), NatsError> {
    let url = config.url.clone();
    let clustered = info.cluster.is_some() || config.replicas > 1;
    let (need, min) = match clustered {
        true => ("a cluster", CLUSTER_VERSION_MIN),
        false => ("the block log", VERSION_MIN),
    };
    let mut numbers = info.version.split(['.', '-']).map(str::parse::<u64>);
    let found = match (numbers.next(), numbers.next()) {
        (Some(Ok(major)), Some(Ok(minor))) => Some((major, minor)),
        _ => None,
    };
    if found.is_none_or(|found| found < min) {
        return Err(NatsError::OldServer {
            url,
            found: info.version.clone(),
            need,
            min,
        });
    }
    if !info.jetstream {
        let what = "JetStream is off: add `jetstream {}` to its configuration".into();
        return Err(NatsError::Settings { url, what });
    }
    if info.max_payload < MESSAGE_BYTES_MAX {
        let what = format!(
            "max_payload is {}: larger blocks and batches will be refused; set `max_payload: {MESSAGE_BYTES_MAX}`",
            info.max_payload
        );
        if clustered {
            return Err(NatsError::Settings { url, what });
        }
        tracing::warn!(url, "{what}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;

    fn check(info: serde_json::Value, replicas: usize) -> Result<(), NatsError> {
        let mut config = NatsConfig::new("nats://x", 1, B256::ZERO);
        config.replicas = replicas;
        let info = serde_json::from_value(info).expect("a server's INFO");
        check_server(&config, &info)
    }

    fn info(version: &str, max_payload: usize, cluster: Option<&str>) -> serde_json::Value {
        serde_json::json!({
            "server_id": "", "server_name": "", "host": "", "port": 1, "version": version,
            "go": "", "nonce": "", "client_id": 1, "client_ip": "", "proto": 1,
            "headers": true, "jetstream": true, "max_payload": max_payload, "cluster": cluster,
        })
    }

    #[test]
    fn an_old_server_is_refused_by_its_version() {
        let large = MESSAGE_BYTES_MAX;
        for (version, cluster, replicas, good) in [
            ("2.15.1", None, 1, true),
            ("2.11.0", None, 1, true),
            ("2.10.25", None, 1, false),
            ("2.9.10", None, 1, false),
            ("3.0.0-RC.1", Some("c"), 3, true),
            ("2.15.0", Some("c"), 3, true),
            ("2.14.9", Some("c"), 1, false),
            ("2.14.9", None, 3, false),
            ("unknown", None, 1, false),
        ] {
            let result = check(info(version, large, cluster), replicas);
            assert_eq!(result.is_ok(), good, "{version} {cluster:?} {replicas}");
            if let Err(error) = result {
                assert!(matches!(error, NatsError::OldServer { found, .. } if found == version));
            }
        }
    }

    #[test]
    fn settings_that_do_not_do_are_named() {
        let small = info("2.15.1", 1 << 20, None);
        check(small.clone(), 1).expect("a single server may have its defaults");
        assert!(matches!(check(small, 3), Err(NatsError::Settings { .. })));
        let mut off = info("2.15.1", MESSAGE_BYTES_MAX, None);
        off["jetstream"] = false.into();
        assert!(matches!(check(off, 1), Err(NatsError::Settings { .. })));
    }
}
