//! The streams: their names, their settings, and whose chain they belong to.

use super::{Link, NatsConfig, NatsError};
use async_nats::jetstream::stream::{
    Config, DiscardPolicy, Info, RetentionPolicy, StorageType, Stream,
};
use std::time::{Duration, Instant};

/// Metadata key of the genesis hash.
const GENESIS: &str = "penstock.genesis";

/// Servers remember message ids this long, in seconds: longer than any retry here, and the server's own default.
const DUPLICATE_WINDOW_SECS: u64 = 120;

/// Results are for who takes over: one that no block has used for a day is computed again if anyone still asks.
const RESULTS_SECS_MAX: u64 = 24 * 3_600;

/// A cluster that was just started needs about 6 s until streams can be made. In ms.
const READY_MS_MAX: u64 = 30_000;

/// Wait between two attempts, in ms.
const READY_POLL_MS: u64 = 200;

/// Names of a chain's streams.
pub(super) struct Names {
    pub(super) chain_id: u64,
}

impl Names {
    pub(super) const fn new(chain_id: u64) -> Self {
        Self { chain_id }
    }

    pub(super) fn stream(&self, what: &str) -> String {
        format!("PENSTOCK_{}_{what}", self.chain_id)
    }

    pub(super) fn subject(&self, what: &str) -> String {
        format!("penstock.{}.v1.{what}", self.chain_id)
    }

    pub(super) fn bucket(&self) -> String {
        format!("penstock-{}", self.chain_id)
    }

    /// Subject of blocks.
    pub(super) fn block(&self) -> String {
        self.subject("log.block")
    }

    /// Subject of take-overs.
    pub(super) fn epoch(&self) -> String {
        self.subject("log.epoch")
    }

    /// All subjects of the log.
    pub(super) fn log(&self) -> String {
        self.subject("log.*")
    }

    /// Published after an append: wakes followers. Not stored.
    pub(super) fn appended(&self) -> String {
        self.subject("chain.appended")
    }
}

fn base(name: String, subjects: Vec<String>, config: &NatsConfig) -> Config {
    Config {
        name,
        subjects,
        retention: RetentionPolicy::Limits,
        storage: StorageType::File,
        num_replicas: config.replicas,
        discard: DiscardPolicy::New,
        duplicate_window: Duration::from_secs(DUPLICATE_WINDOW_SECS),
        // A direct read may come from a replica that lags: reads go to the leader.
        allow_direct: false,
        metadata: [(GENESIS.to_owned(), config.genesis.to_string())].into(),
        ..Config::default()
    }
}

/// The block log: nothing in it is ever deleted.
pub(super) fn log(names: &Names, config: &NatsConfig) -> Config {
    Config {
        deny_delete: true,
        deny_purge: true,
        ..base(
            names.stream("LOG"),
            vec![names.block(), names.epoch()],
            config,
        )
    }
}

/// Accepted transactions.
pub(super) fn accepted(names: &Names, config: &NatsConfig) -> Config {
    base(
        names.stream("ACCEPTED"),
        vec![names.subject("queue.accepted")],
        config,
    )
}

/// Settled results.
pub(super) fn results(names: &Names, config: &NatsConfig) -> Config {
    Config {
        max_age: Duration::from_secs(RESULTS_SECS_MAX),
        discard: DiscardPolicy::Old,
        ..base(
            names.stream("RESULTS"),
            vec![names.subject("queue.results")],
            config,
        )
    }
}

/// The stream with these settings: made where there is none. One that is there keeps its settings, and must be of this
/// chain.
pub(super) async fn ensure(
    link: &Link,
    config: &NatsConfig,
    wanted: Config,
) -> Result<Stream<Info>, NatsError> {
    let name = wanted.name.clone();
    let made = until_ready(&name, || {
        link.jetstream.get_or_create_stream(wanted.clone())
    });
    let mut stream = made.await?;
    // What `create` answers lacks nothing, but a stream that was there may be seen through a lagging answer.
    let info = stream.info().await.map_err(|e| NatsError::Stream {
        stream: name.clone(),
        why: e.to_string(),
    })?;
    let ours = config.genesis.to_string();
    match info.config.metadata.get(GENESIS) {
        Some(theirs) if *theirs == ours => {}
        theirs => {
            return Err(NatsError::OtherChain {
                stream: name,
                theirs: theirs.cloned().unwrap_or_else(|| "unknown".into()),
                ours,
            });
        }
    }
    if info.config.num_replicas != config.replicas {
        tracing::warn!(
            stream = name,
            replicas = info.config.num_replicas,
            wanted = config.replicas,
            "the stream was made with another number of replicas, and keeps it"
        );
    }
    Ok(stream)
}

/// Repeats a call until the cluster is ready for it, or it is clear that it never will be.
pub(super) async fn until_ready<T, E, F>(
    stream: &str,
    mut call: impl FnMut() -> F,
) -> Result<T, NatsError>
where
    E: std::fmt::Display,
    F: Future<Output = Result<T, E>>,
{
    let deadline = Instant::now() + Duration::from_millis(READY_MS_MAX);
    loop {
        match call().await {
            Ok(done) => return Ok(done),
            Err(error) if Instant::now() > deadline => {
                return Err(NatsError::Stream {
                    stream: stream.into(),
                    why: error.to_string(),
                });
            }
            Err(error) => tracing::info!(stream, %error, "not ready yet"),
        }
        tokio::time::sleep(Duration::from_millis(READY_POLL_MS)).await;
    }
}
