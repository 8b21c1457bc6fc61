//! What every process that reads the chain has: its data folder, the chain in it, the transport, the results that it
//! knows, and a follower.

use crate::config::Config;
use crate::genesis;
use crate::models::{self, LoadedModel};
use actix::Addr;
use eyre::{WrapErr, bail};
use penstock_actors::boot;
use penstock_actors::chain::{ChainHandle, OwnBlocks, chain};
use penstock_actors::follower::FollowerActor;
use penstock_actors::gateway::GatewayConfig;
use penstock_actors::recompute::{self, Recompute};
use penstock_actors::results::{ResultBook, Vouch};
use penstock_actors::scheduler::SchedulerConfig;
use penstock_actors::snapshot::{self, SnapshotError};
use penstock_evm::{ChainSpec, Genesis};
use penstock_rpc::DevAccounts;
use penstock_rules::message::Role;
use penstock_rules::producer::Timetable;
use penstock_store::{Durability, Store, StoreConfig};
use penstock_wire::memory::Journals;
use penstock_wire::nats::{NatsConfig, NatsRole, NatsTls, Secret};
use penstock_wire::{BlobError, BlockLog, Transport};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tracing::{info, warn};

/// How long servers without a leader are waited for: an election takes 4 to 9 s, on a loaded machine up to 15.
const BLOBS_PATIENCE: Duration = Duration::from_secs(30);
/// Pause between two tries.
const BLOBS_PAUSE: Duration = Duration::from_millis(500);

/// The store's folder in the data folder.
const STORE_FOLDER: &str = "store";
/// The store's journal that is the block log of a devnet in one process.
const LOG_JOURNAL: &str = "log";

/// Where the chain's data lie.
pub(crate) enum DataFolder {
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

    pub(crate) fn path(&self) -> &Path {
        match self {
            Self::Given(dir) => dir,
            Self::Temporary(dir) => dir.path(),
        }
    }

    /// What a write to it waits for.
    const fn durability(&self, config: &Config) -> Durability {
        match self {
            Self::Temporary(_) => Durability::Nothing,
            // The block log is in the same folder.
            Self::Given(_) if config.nats.url.is_none() => Durability::Journals,
            Self::Given(_) => Durability::All,
        }
    }
}

/// See the module. The follower runs.
pub(crate) struct Base {
    pub(crate) accounts: DevAccounts,
    pub(crate) models: Vec<LoadedModel>,
    pub(crate) store: Store,
    pub(crate) spec: Arc<ChainSpec>,
    pub(crate) chain: ChainHandle,
    pub(crate) transport: Transport,
    pub(crate) transport_text: String,
    pub(crate) results: ResultBook,
    pub(crate) own: OwnBlocks,
    /// Computes answers of mode ZK again, where the configuration lets it.
    pub(crate) recompute: Option<Recompute>,
    pub(crate) follower: Addr<FollowerActor>,
    /// Dropped last: a temporary folder goes with it.
    pub(crate) data: DataFolder,
}

impl Base {
    /// Opens the data folder and the transport, and starts the follower.
    pub(crate) async fn open(config: &Config, quiet: bool, vouch: Vouch) -> eyre::Result<Self> {
        let accounts = genesis::accounts(config)?;
        let models = models::load(config.inference.models.as_deref(), quiet)?;
        let data = DataFolder::open(config)?;
        if let Some(folder) = &config.inference.decisions {
            std::fs::create_dir_all(folder).wrap_err_with(|| {
                format!(
                    "can't make the folder of decision logs {}",
                    folder.display()
                )
            })?;
        }
        let store = open_durable(config, data.path(), data.durability(config))?;
        let genesis = genesis_of(&store, config, &accounts, &models)?;
        let (transport, transport_text) = transport_of(config, &genesis, &store).await?;
        if config.nats.url.is_some() {
            begin(config, &genesis, &store, &transport).await?;
        }
        let head = boot::open(&store, &genesis)?;
        let spec = head.spec.clone();
        let (publisher, chain) = chain(head);
        for model in &models {
            put_model(&transport, model).await?;
        }
        let results = ResultBook::default();
        // Followed first, so that nothing falls between what is read and what comes.
        results
            .clone()
            .follow(transport.bus.clone(), spec.clone(), vouch)
            .await?;
        results
            .load(transport.results.as_ref(), spec.chain_id, vouch)
            .await?;
        let own = OwnBlocks::default();
        // Before the follower, so that no block is missed.
        let recompute = config
            .inference
            .recompute
            .then(|| recompute::start(transport.blobs.clone(), &chain, results.clone()));
        let follower = penstock_actors::follower::start(
            transport.clone(),
            store.clone(),
            publisher,
            own.clone(),
        );
        if config.nats.url.is_none() {
            catch_up(transport.log.as_ref(), &chain).await?;
        }
        Ok(Self {
            accounts,
            models,
            store,
            spec,
            chain,
            transport,
            transport_text,
            results,
            own,
            recompute,
            follower,
            data,
        })
    }
}

/// Waits until the follower has what the log of this folder has: blocks that a killed process showed are in the log, and
/// maybe not in the store yet.
async fn catch_up(log: &dyn BlockLog, chain: &ChainHandle) -> eyre::Result<()> {
    let last = log
        .last()
        .await
        .wrap_err("the data folder's log can't be read")?;
    let mut head = chain.subscribe();
    tokio::select! {
        // It fails where the follower has ended, which ends the process too.
        _ = head.wait_for(|head| head.log_seq >= last) => {}
        // Whoever runs the node reports it.
        _ = chain.halted() => {}
    }
    Ok(())
}

/// What every scheduler is started with.
pub(crate) fn scheduler_config(
    config: &Config,
    spec: &ChainSpec,
    timetable: Timetable,
) -> SchedulerConfig {
    SchedulerConfig {
        machine: penstock_rules::scheduler::Config {
            quorum: spec.quorum,
            ..Default::default()
        },
        timetable,
        decisions: config.inference.decisions.clone(),
    }
}

/// What every gateway is started with.
pub(crate) fn gateway_config(config: &Config, timetable: Timetable) -> GatewayConfig {
    GatewayConfig {
        call_deadline: Duration::from_millis(config.rpc.call_timeout_ms),
        timetable,
        backlog_max: Some(config.inference.backlog).filter(|&blocks| blocks > 0),
        ..GatewayConfig::default()
    }
}

/// Begins an empty store with a snapshot, if the configuration allows it and there is one. Where it does not hold, the
/// log is replayed.
async fn begin(
    config: &Config,
    genesis: &Genesis,
    store: &Store,
    transport: &Transport,
) -> eyre::Result<()> {
    if store.head().is_some() || config.store.archive || !config.store.from_snapshot {
        return Ok(());
    }
    match snapshot::restore(transport, store, &genesis.spec).await {
        Ok(_) => Ok(()),
        Err(SnapshotError::Store(error)) => Err(error.into()),
        Err(error) => {
            warn!(%error, "the whole block log is replayed");
            Ok(())
        }
    }
}

/// Stores a model's file, where shards find it. Servers that were just started elect a leader first, which takes
/// seconds.
async fn put_model(transport: &Transport, model: &LoadedModel) -> eyre::Result<()> {
    let began = Instant::now();
    loop {
        match transport.blobs.put(model.bytes.clone().into()).await {
            Err(BlobError::Unreachable(why)) if began.elapsed() < BLOBS_PATIENCE => {
                info!(model = model.cid, why, "blob store is not ready yet");
                tokio::time::sleep(BLOBS_PAUSE).await;
            }
            put => {
                put.wrap_err_with(|| format!("model {} can't be stored", model.cid))?;
                return Ok(());
            }
        }
    }
}

/// The store in a data folder, for a command that looks at it or fills it.
///
/// # Errors
/// Where it can't be opened, or a block is in the folder's log alone.
pub(crate) fn open_store(config: &Config, data: &Path) -> eyre::Result<Store> {
    let store = open_durable(config, data, Durability::All)?;
    let head = match store.head() {
        Some((height, _)) => store.block(height)?.map(|record| (height, record.log_seq)),
        None => None,
    };
    let last = penstock_wire::memory::last_block(&store.journal(LOG_JOURNAL)?)
        .wrap_err_with(|| format!("the block log in {} can't be read", data.display()))?;
    if let Some((height, seq)) = head
        && seq < last
    {
        bail!(
            "the devnet in {data} was killed, and blocks after {height} are in its block log alone (up to entry {last}): start it once more with `penstock up --data {data}`, then try again",
            data = data.display(),
        );
    }
    Ok(store)
}

fn open_durable(config: &Config, data: &Path, durability: Durability) -> eyre::Result<Store> {
    let store_config = StoreConfig {
        history_blocks: config.store.history_blocks,
        archive: config.store.archive,
        durability,
    };
    Store::open(data.join(STORE_FOLDER), store_config)
        .wrap_err_with(|| format!("can't open the data folder {}", data.display()))
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
    let mut asked = match config.genesis()? {
        Some(given) => given,
        None => {
            let infos = models.iter().map(LoadedModel::info).collect();
            genesis::genesis(config, &accounts.addresses(), infos)
        }
    };
    let Some(stored) = boot::stored_genesis(store)? else {
        return Ok(asked);
    };
    if config.chain.genesis.is_some() {
        // A file says all of it: `boot` compares the whole.
        return Ok(asked);
    }
    if config.chain.producers.is_none() {
        // Who produces is what it was when the chain was made, unless somebody asks for something else.
        asked.spec.producers.clone_from(&stored.spec.producers);
    }
    if stored.spec != asked.spec {
        bail!(
            "the data folder holds a chain with other settings: it has {:?}, the configuration says {:?}; use another --data, or the settings it was made with",
            stored.spec,
            asked.spec
        );
    }
    Ok(stored)
}

pub(crate) async fn memory_transport(store: &Store) -> eyre::Result<Transport> {
    let journals = Journals {
        log: store.journal(LOG_JOURNAL)?,
        accepted: store.journal("accepted")?,
        results: store.journal("results")?,
        blobs: store.journal("blobs")?,
    };
    penstock_wire::memory::transport(journals)
        .await
        .wrap_err("the data folder's log can't be read")
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
    let nats = nats_config(config, url, genesis)?;
    let transport = penstock_wire::nats::transport(nats)
        .await
        .wrap_err("can't use the nats-server")?;
    Ok((transport, format!("NATS at {}", host_of(url))))
}

/// How to connect, by configuration.
pub(crate) fn nats_config(
    config: &Config,
    url: &str,
    genesis: &Genesis,
) -> eyre::Result<NatsConfig> {
    let mut nats = NatsConfig::new(url, genesis.spec.chain_id, genesis::fingerprint(genesis));
    apply_nats(config, &mut nats)?;
    if config.nats.nkey.is_some() {
        let leads = [Role::Mempool, Role::Scheduler, Role::Producer];
        nats.role = Some(match leads.iter().any(|role| config.roles.has(*role)) {
            true => NatsRole::Node,
            false => NatsRole::Reader,
        });
    }
    Ok(nats)
}

/// Lays `[nats]` over a connection's defaults.
pub(crate) fn apply_nats(config: &Config, nats: &mut NatsConfig) -> eyre::Result<()> {
    nats.name = format!("penstock {}", name_of(config));
    nats.replicas = config.nats.replicas.0;
    if let Some(source) = &config.nats.nkey {
        nats.nkey_seed = Some(Secret::new(source.read().wrap_err("nats.nkey")?));
    }
    nats.inbox_prefix = config.nats.inbox_prefix.clone();
    if let Some(tls) = &config.nats.tls {
        nats.tls = Some(NatsTls {
            ca: tls.ca.clone(),
            certificate: tls.certificate.clone(),
            key: tls.key.clone(),
        });
    }
    Ok(())
}

/// The process's name, for people.
pub(crate) fn name_of(config: &Config) -> String {
    config.name.clone().unwrap_or_else(|| {
        let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
        match host.trim() {
            "" => "penstock".into(),
            host => host.into(),
        }
    })
}

/// The address without credentials.
pub(crate) fn host_of(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}
