//! Wires all actors of a devnet into one process.
//!
//! Start: store, chain, transport, results, follower, scheduler, gateway, producer, mempool with extractor, shards.
//! Stop: in the order of the flow, so that what was accepted goes as far as it can, and nothing new comes.

use crate::base::{Base, DataFolder, gateway_config, name_of, scheduler_config};
use crate::config::Config;
use crate::engine::{Engine, start_shard};
use crate::genesis;
use crate::health::Health;
use crate::member::LAG_MAX;
use crate::peers::Peers;
use actix::{Addr, Arbiter};
use penstock_actors::boot::stored_genesis;
use penstock_actors::chain::ChainHandle;
use penstock_actors::extractor::{ExtractorActor, ExtractorConfig};
use penstock_actors::follower::FollowerActor;
use penstock_actors::mempool::MempoolActor;
use penstock_actors::producer::{Leading, ProducerActor, ProducerConfig};
use penstock_actors::results::Vouch;
use penstock_actors::scheduler::SchedulerActor;
use penstock_actors::shard::ShardActor;
use penstock_actors::shell;
use penstock_rpc::{DevAccounts, ServerConfig, ServerHandle};
use penstock_rules::message::{NodeBeat, Role, ShardHello};
use penstock_rules::model::ModelInfo;
use penstock_rules::producer::Start;
use penstock_wire::{BlockLog, Subjects, Subscription, decode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tracing::{info, warn};

/// A devnet in this process.
pub struct Node {
    config: Config,
    accounts: DevAccounts,
    chain: ChainHandle,
    transport_text: String,
    backend_text: String,
    rpc: ServerHandle,
    health: Health,
    log: Arc<dyn BlockLog>,
    peers: Peers,
    hellos: Subscription,
    cast: Cast,
    /// Dropped last: a temporary folder goes with it.
    data: DataFolder,
}

/// Hellos of shards that wait, in number.
const HELLOS: usize = 1_024;
/// How often the process looks at itself.
const TURN: Duration = Duration::from_millis(250);
/// Longest wait for the block log to say where it ends.
const LOG_ANSWER: Duration = Duration::from_secs(1);
/// What one process of everything runs.
const ROLES: [Role; 5] = [
    Role::Gateway,
    Role::Mempool,
    Role::Scheduler,
    Role::Producer,
    Role::Follower,
];

/// The actors, in the order in which they stop.
struct Cast {
    mempool: Addr<MempoolActor>,
    extractor: Addr<ExtractorActor>,
    scheduler: Addr<SchedulerActor>,
    shards: Vec<Addr<ShardActor>>,
    producer: Addr<ProducerActor>,
    follower: Addr<FollowerActor>,
}

impl Node {
    /// Starts everything.
    ///
    /// # Errors
    /// Names what could not be started.
    pub async fn start(config: Config, quiet: bool) -> eyre::Result<Self> {
        let health = match config.health.port {
            Some(_) => Health::serve(config.health_addr()).await?,
            None => Health::serve_near(config.health_addr()).await?,
        };
        let timetable = config.timetable()?;
        let base = Base::open(&config, quiet, Vouch::Scheduler).await?;
        let Base {
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
        } = base;
        let subject = Subjects::new(spec.chain_id).shard_hello();
        let hellos = transport.bus.subscribe(&subject, HELLOS).await?;
        let log = transport.log.clone();
        let scheduler = penstock_actors::scheduler::start(
            scheduler_config(&config, &spec, timetable),
            transport.clone(),
            chain.clone(),
            recompute.clone(),
        );
        let engine = Engine::choose(config.inference.backend)?;
        // Gateway and producer before the mempool, which says at once what is ready from before a restart: what they miss
        // comes again, but later.
        let gateway = penstock_actors::gateway::start(
            gateway_config(&config, timetable),
            transport.clone(),
            store.clone(),
            chain.clone(),
            results.clone(),
            recompute,
        )
        .await?;
        let producer = penstock_actors::producer::start(
            ProducerConfig {
                timetable,
                start: Start::Lead,
                key: genesis::producer_key(config.chain.id, 0),
                genesis: stored_genesis(&store)?.map(Arc::new),
            },
            transport.clone(),
            chain.clone(),
            results.clone(),
            own,
        );
        let pool = Arbiter::new().handle();
        let extractor = penstock_actors::extractor::start(
            &pool,
            ExtractorConfig::new(timetable, config.inference.credit_limits()),
            transport.clone(),
            chain.head(),
            results.clone(),
        );
        let mempool = penstock_actors::mempool::start(
            &pool,
            Default::default(),
            transport.clone(),
            chain.clone(),
            extractor.clone(),
        );
        // After all who count what shards do: a shard whose first hello was missed is not known until its next.
        let mut shards = Vec::new();
        for index in 0..config.inference.shards {
            let key = genesis::shard_key(config.chain.id, index);
            shards.push(start_shard(&config, engine, key, &models, &transport)?);
        }
        let listen = SocketAddr::new(config.rpc.host, config.rpc.port);
        let rpc = penstock_rpc::serve(
            ServerConfig {
                listen,
                ..ServerConfig::default()
            },
            gateway.clone(),
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
            health,
            log,
            peers: Peers::default(),
            hellos,
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

    /// Where health and metrics are told.
    #[must_use]
    pub const fn health_addr(&self) -> SocketAddr {
        self.health.addr()
    }

    /// Tells how it is, again and again. Returns when somebody asks it to drain.
    pub async fn watch(&mut self) {
        let health = self.health.clone();
        let mut turns = tokio::time::interval(TURN);
        loop {
            tokio::select! {
                () = health.drain_asked() => return,
                hello = self.hellos.next() => {
                    let hello = hello.map(|hello| decode::<ShardHello>(&hello.payload));
                    match hello {
                        Some(Ok(hello)) => self.peers.shard(hello),
                        Some(Err(error)) => warn!(%error, "hello is malformed"),
                        // The bus is closed: nothing more comes from it.
                        None => std::future::pending().await,
                    }
                }
                _ = turns.tick() => self.turn().await,
            }
        }
    }

    async fn turn(&self) {
        let head = self.chain.head();
        let last = tokio::time::timeout(LOG_ANSWER, self.log.last()).await;
        let lag = match last {
            Ok(Ok(last)) => Some(last.saturating_sub(head.log_seq).0),
            _ => None,
        };
        let ready = match lag {
            None => Err("the block log does not answer".into()),
            Some(lag) if lag > LAG_MAX => Err(format!("{lag} entries behind the block log")),
            Some(_) => Ok(()),
        };
        let name = name_of(&self.config);
        // A full mailbox: it is not known now.
        let epoch = self.cast.producer.send(Leading).await.ok().flatten();
        self.peers.node(NodeBeat {
            node: name.clone(),
            incarnation: u64::from(std::process::id()),
            roles: ROLES.into(),
            leads: Vec::new(),
            epoch,
            height: head.height,
            hash: head.hash,
            lag,
            draining: false,
        });
        let status = self.peers.status(&name, &ready);
        self.health
            .turn(ready, serde_json::to_string(&status).unwrap_or_default());
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

    /// Returns when the chain in the data folder and the block log turn out not to be of one piece, with the report.
    pub fn halted(&self) -> impl Future<Output = Arc<str>> + use<> {
        let chain = self.chain.clone();
        async move { chain.halted().await }
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
        stop("block log", stored(&*self.log, &self.chain)).await;
        stop("follower", shell::stop(&cast.follower)).await;
        info!("devnet stopped");
    }
}

/// Returns once the follower has stored what the log has, or never will: a copy of the folder is whole then.
async fn stored(log: &dyn BlockLog, chain: &ChainHandle) {
    let Ok(last) = log.last().await else { return };
    let mut heads = chain.subscribe();
    tokio::select! {
        // An error says that the follower has ended.
        _ = heads.wait_for(|head| head.log_seq >= last) => {}
        _ = chain.halted() => {}
    }
}

/// Longest wait for a stage to stop: a batch on the processor, or a block's flush.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(crate) async fn stop(stage: &str, stopping: impl Future<Output = ()>) {
    if tokio::time::timeout(STOP_TIMEOUT, stopping).await.is_err() {
        warn!(stage, "did not stop in time");
    }
}
