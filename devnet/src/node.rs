//! Wires all actors of a devnet into one process.
//!
//! Start: store, chain, transport, results, follower, scheduler, shards, mempool with extractor, producer, gateway.
//! Stop: in the order of the flow, so that what was accepted goes as far as it can, and nothing new comes.

use crate::config::{Backend, Config};
use crate::genesis;
use crate::models::{self, LoadedModel};
use actix::Addr;
use eyre::{WrapErr, bail};
use penstock_actors::boot;
use penstock_actors::chain::{ChainHandle, OwnBlocks, chain};
use penstock_actors::extractor::{ExtractorActor, ExtractorConfig};
use penstock_actors::follower::FollowerActor;
use penstock_actors::gateway::GatewayConfig;
use penstock_actors::mempool::MempoolActor;
use penstock_actors::producer::{ProducerActor, ProducerConfig};
use penstock_actors::results::{ResultBook, Vouch};
use penstock_actors::scheduler::{SchedulerActor, SchedulerConfig};
use penstock_actors::shard::{ShardActor, ShardConfig};
use penstock_actors::shell;
use penstock_evm::{Genesis, SigningKey};
use penstock_rpc::{DevAccounts, ServerConfig, ServerHandle};
use penstock_rules::model::ModelInfo;
use penstock_rules::producer::Start;
use penstock_shaders::gpu::AdapterKind;
use penstock_shaders::{Executor, GpuError};
use penstock_store::{Store, StoreConfig};
use penstock_wire::Transport;
use penstock_wire::memory::Journals;
use penstock_wire::nats::NatsConfig;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tracing::{info, warn};

/// The store's folder in the data folder.
pub const STORE_FOLDER: &str = "store";

/// A devnet in this process.
pub struct Node {
    config: Config,
    accounts: DevAccounts,
    chain: ChainHandle,
    transport_text: String,
    backend_text: String,
    rpc: ServerHandle,
    cast: Cast,
    /// Dropped last: a temporary folder goes with it.
    data: DataFolder,
}

/// The actors, in the order in which they stop.
struct Cast {
    mempool: Addr<MempoolActor>,
    extractor: Addr<ExtractorActor>,
    scheduler: Addr<SchedulerActor>,
    shards: Vec<Addr<ShardActor>>,
    producer: Addr<ProducerActor>,
    follower: Addr<FollowerActor>,
}

/// Where the chain's data lie.
enum DataFolder {
    /// The user's folder.
    Given(PathBuf),
    /// Gone when the devnet stops.
    Temporary(tempfile::TempDir),
}

impl DataFolder {
    fn open(config: &Config) -> eyre::Result<Self> {
        match &config.data {
            Some(dir) => {
                std::fs::create_dir_all(dir)
                    .wrap_err_with(|| format!("can't make the data folder {}", dir.display()))?;
                Ok(Self::Given(dir.clone()))
            }
            None => {
                let dir = tempfile::Builder::new()
                    .prefix("penstock-")
                    .tempdir()
                    .wrap_err("can't make a temporary data folder")?;
                Ok(Self::Temporary(dir))
            }
        }
    }

    fn path(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }
}

/// The genesis of the chain in `store`, or a new one by configuration.
///
/// Accounts, models and shards of a chain are what they were when it was made; models that came later are registered
/// by transaction. Settings that would make another chain are an error.
fn genesis_of(
    store: &Store,
    config: &Config,
    accounts: &DevAccounts,
    models: &[LoadedModel],
) -> eyre::Result<Genesis> {
    let infos = models.iter().map(LoadedModel::info).collect();
    let asked = genesis::genesis(config, &accounts.addresses(), infos);
    let Some(stored) = boot::stored_genesis(store)? else {
        return Ok(asked);
    };
    if stored.spec != asked.spec {
        bail!(
            "the data folder holds a chain with other settings: it has {:?}, the configuration says {:?}; use another --data, or the settings it was made with",
            stored.spec,
            asked.spec
        );
    }
    Ok(stored)
}

async fn memory_transport(store: &Store) -> eyre::Result<Transport> {
    let journals = Journals {
        log: store.journal("log")?,
        accepted: store.journal("accepted")?,
        results: store.journal("results")?,
        blobs: store.journal("blobs")?,
    };
    penstock_wire::memory::transport(journals)
        .await
        .wrap_err("the data folder's log can't be read")
}

impl Node {
    /// Starts everything.
    ///
    /// # Errors
    /// Names what could not be started.
    pub async fn start(config: Config, quiet: bool) -> eyre::Result<Self> {
        let timetable = config.timetable()?;
        let accounts = genesis::accounts(&config)?;
        let models = models::load(config.inference.models.as_deref(), quiet)?;
        let data = DataFolder::open(&config)?;
        let store_config = StoreConfig {
            history_blocks: config.store.history_blocks,
            archive: config.store.archive,
        };
        let store = Store::open(data.path().join(STORE_FOLDER), store_config)
            .wrap_err_with(|| format!("can't open the data folder {}", data.path().display()))?;
        let genesis = genesis_of(&store, &config, &accounts, &models)?;
        let head = boot::open(&store, &genesis)?;
        let spec = head.spec.clone();
        let (publisher, chain) = chain(head);
        let (transport, transport_text) = transport_of(&config, &genesis, &store).await?;
        for model in &models {
            transport
                .blobs
                .put(model.bytes.clone().into())
                .await
                .wrap_err_with(|| format!("model {} can't be stored", model.cid))?;
        }
        let results = ResultBook::default();
        results.load(transport.results.as_ref()).await?;
        results
            .clone()
            .follow(transport.bus.clone(), spec.clone(), Vouch::Scheduler)
            .await?;
        let own = OwnBlocks::default();
        let follower = penstock_actors::follower::start(
            transport.clone(),
            store.clone(),
            publisher,
            own.clone(),
        );
        let scheduler = penstock_actors::scheduler::start(
            SchedulerConfig {
                machine: penstock_rules::scheduler::Config {
                    quorum: spec.quorum,
                    ..Default::default()
                },
                timetable,
            },
            transport.clone(),
            chain.clone(),
        );
        let engine = Engine::choose(config.inference.backend)?;
        let mut shards = Vec::new();
        for index in 0..config.inference.shards {
            let key = genesis::shard_key(config.chain.id, index);
            shards.push(start_shard(&config, engine, key, &models, &transport)?);
        }
        let extractor = penstock_actors::extractor::start(
            ExtractorConfig::new(timetable),
            transport.clone(),
            chain.head(),
            results.clone(),
        );
        let mempool = penstock_actors::mempool::start(
            Default::default(),
            transport.clone(),
            chain.clone(),
            extractor.clone(),
        );
        let producer = penstock_actors::producer::start(
            ProducerConfig {
                timetable,
                start: Start::Lead,
                key: genesis::producer_key(config.chain.id),
            },
            transport.clone(),
            chain.clone(),
            results.clone(),
            own,
        );
        let gateway_config = GatewayConfig {
            call_deadline: Duration::from_millis(config.rpc.call_timeout_ms),
            ..GatewayConfig::default()
        };
        let gateway = penstock_actors::gateway::start(
            gateway_config,
            transport,
            store,
            chain.clone(),
            results,
        )
        .await?;
        let listen = SocketAddr::new(config.rpc.host, config.rpc.port);
        let rpc = penstock_rpc::serve(
            ServerConfig {
                listen,
                ..ServerConfig::default()
            },
            gateway.clone(),
            gateway,
            accounts.clone(),
        )
        .await?;
        info!(rpc = %rpc.addr(), "devnet runs");
        Ok(Self {
            config,
            accounts,
            chain,
            transport_text,
            backend_text: engine.to_string(),
            rpc,
            cast: Cast {
                mempool,
                extractor,
                scheduler,
                shards,
                producer,
                follower,
            },
            data,
        })
    }

    /// What it was started with.
    #[must_use]
    pub const fn config(&self) -> &Config {
        &self.config
    }

    /// The funded accounts.
    #[must_use]
    pub const fn accounts(&self) -> &DevAccounts {
        &self.accounts
    }

    /// Height of the head.
    #[must_use]
    pub fn head_height(&self) -> u64 {
        self.chain.head().height.0
    }

    /// Models of the registry.
    #[must_use]
    pub fn models(&self) -> Vec<ModelInfo> {
        penstock_evm::models(&self.chain.head().state)
    }

    /// Where JSON-RPC listens.
    #[must_use]
    pub const fn rpc_addr(&self) -> SocketAddr {
        self.rpc.addr()
    }

    /// Where the data lie, for a person.
    #[must_use]
    pub fn data_text(&self) -> String {
        match &self.data {
            DataFolder::Given(dir) => dir.display().to_string(),
            DataFolder::Temporary(dir) => {
                format!(
                    "{} (temporary: --data DIR keeps the chain)",
                    dir.path().display()
                )
            }
        }
    }

    /// What actors talk over, for a person.
    #[must_use]
    pub fn transport_text(&self) -> &str {
        &self.transport_text
    }

    /// Where inference runs, for a person.
    #[must_use]
    pub fn backend_text(&self) -> &str {
        &self.backend_text
    }

    /// Stops in the order of the flow. A stage that does not end in time is left: what it knew is in the log, the
    /// queue and the store.
    pub async fn stop(self) {
        let cast = self.cast;
        stop("gateway", self.rpc.stop()).await;
        stop("mempool", shell::stop(&cast.mempool)).await;
        stop("extractor", shell::stop(&cast.extractor)).await;
        stop("scheduler", shell::stop(&cast.scheduler)).await;
        for shard in &cast.shards {
            stop("shard", shell::stop(shard)).await;
        }
        stop("producer", shell::stop(&cast.producer)).await;
        stop("follower", shell::stop(&cast.follower)).await;
        info!("devnet stopped");
    }
}

/// Longest wait for a stage to stop: a batch on the processor, or a block's flush.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

async fn stop(stage: &str, stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
        warn!(stage, "did not stop in time");
    }
}

/// The transport by configuration, and its name for a person.
async fn transport_of(
    config: &Config,
    genesis: &Genesis,
    store: &Store,
) -> eyre::Result<(Transport, String)> {
    let Some(url) = &config.nats.url else {
        let transport = memory_transport(store).await?;
        return Ok((transport, "memory bus, in this process".into()));
    };
    let mut nats = NatsConfig::new(url, genesis.spec.chain_id, genesis::fingerprint(genesis));
    nats.replicas = config.nats.replicas.0;
    let transport = penstock_wire::nats::transport(nats)
        .await
        .wrap_err("can't use the nats-server")?;
    Ok((transport, format!("NATS at {}", host_of(url))))
}

/// The address without credentials.
fn host_of(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}

/// Which executor shards use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Engine {
    Cpu,
    Gpu,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "the CPU",
            Self::Gpu => "the GPU",
        })
    }
}

impl Engine {
    /// By configuration: `auto` takes a GPU where there is one, and software drivers are none.
    fn choose(backend: Backend) -> eyre::Result<Self> {
        match backend {
            Backend::Cpu => Ok(Self::Cpu),
            Backend::Gpu => {
                if penstock_shaders::adapters().is_empty() {
                    bail!("--backend gpu: no Vulkan driver is here; `penstock doctor` says more");
                }
                Ok(Self::Gpu)
            }
            Backend::Auto => {
                let gpu = penstock_shaders::adapters()
                    .iter()
                    .any(|a| a.kind != AdapterKind::Software);
                Ok(if gpu { Self::Gpu } else { Self::Cpu })
            }
        }
    }

    fn executor(self) -> Result<Box<dyn Executor>, GpuError> {
        match self {
            Self::Cpu => Ok(penstock_shaders::cpu()),
            Self::Gpu => penstock_shaders::gpu(None),
        }
    }
}

fn start_shard(
    config: &Config,
    engine: Engine,
    key: SigningKey,
    models: &[LoadedModel],
    transport: &Transport,
) -> eyre::Result<Addr<ShardActor>> {
    let mut test_delay = BTreeMap::new();
    for (cid, delay_ms) in &config.inference.test_delay_ms {
        let Some(model) = models.iter().find(|m| m.cid == *cid) else {
            bail!("inference.test_delay_ms names {cid}, which is no model of this devnet");
        };
        test_delay.insert(model.model.hash(), Duration::from_millis(*delay_ms));
    }
    let shard = ShardConfig {
        key,
        chain_id: config.chain.id,
        preload: models.iter().map(|m| m.model.hash()).collect(),
        test_delay,
    };
    penstock_actors::shard::start(shard, move || engine.executor(), transport.clone())
        .wrap_err("no shard can run")
}
