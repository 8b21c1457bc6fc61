//! A node: some roles of a devnet whose processes reach each other over NATS.
//!
//! ```text
//!   always        store, follower, results: its own verified copy of the chain
//!   producer      runs at once, and leads by take-over in the block log
//!   mempool       runs while this node leads it (rules::lead); so does the scheduler
//!   gateway       serves JSON-RPC from the node's own copy
//! ```
//!
//! A standby of mempool or scheduler is one that is not started: taking over is starting, from the durable queues. So
//! there is one way to start, and it is used at every start.

use crate::base::{Base, gateway_config, name_of, scheduler_config};
use crate::config::Config;
use crate::health::Health;
use crate::node::stop;
use crate::peers::Peers;
use actix::{Addr, Arbiter, ArbiterHandle};
use alloy_primitives::B256;
use eyre::{WrapErr, bail};
use penstock_actors::boot::stored_genesis;
use penstock_actors::extractor::{ExtractorActor, ExtractorConfig};
use penstock_actors::mempool::MempoolActor;
use penstock_actors::producer::{Leading, ProducerActor, ProducerConfig};
use penstock_actors::results::Vouch;
use penstock_actors::scheduler::SchedulerActor;
use penstock_actors::shell::{self, now};
use penstock_actors::snapshot;
use penstock_rpc::{ServerConfig, ServerHandle};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Micros, Seq};
use penstock_rules::lead::{BEAT, Candidate, Effect, Event};
use penstock_rules::message::{Leads, NodeBeat, Role, ShardHello};
use penstock_rules::producer::{Start, Timetable};
use penstock_wire::{BlockLog, Subjects, Subscription, decode, encode};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tracing::{info, warn};

/// How often the loop turns: half a beat, so that a take-over is not a beat late.
const TURN: Duration = Duration::from_micros(BEAT.0 / 2);
/// How often the log is asked where it ends.
const LOOK: Duration = Duration::from_secs(1);
/// Beats and hellos that wait, in number.
const INBOX: usize = 4_096;
/// Entries that a ready node may lag behind the log: what comes while one block is stored.
pub(crate) const LAG_MAX: u64 = 8;

/// The chain of this node and the block log are not of one piece. The process ends with its own exit code, so that
/// whatever watches it does not start it again and again.
#[derive(Clone, Debug, thiserror::Error)]
#[error(
    "halted: {0}; the data folder is untouched. `penstock log rebuild` writes a lost log anew from a copy; a node whose copy is wrong starts again with an empty data folder"
)]
pub struct Halted(pub Arc<str>);

/// A role that one node at a time runs.
struct Seat<C> {
    role: Role,
    candidate: Candidate,
    cast: Option<C>,
}

impl<C> Seat<C> {
    fn new(role: Role, node: u64) -> Self {
        Self {
            role,
            candidate: Candidate::new(node, now()),
            cast: None,
        }
    }

    /// Whether its actors are to be started or stopped.
    fn apply(&mut self, event: Event) -> Option<Effect> {
        let mut effects = Vec::new();
        self.candidate.apply(now(), event, &mut effects);
        effects.pop()
    }

    fn leads(&self) -> Option<Leads> {
        let since = self.candidate.leads_since()?;
        Some(Leads {
            role: self.role,
            since,
        })
    }
}

/// Mempool and extractor, which stand together.
struct Pool {
    mempool: Addr<MempoolActor>,
    extractor: Addr<ExtractorActor>,
}

/// A running node.
pub struct Member {
    config: Config,
    name: String,
    incarnation: u64,
    base: Base,
    timetable: Timetable,
    subjects: Subjects,
    pool: Option<Seat<Pool>>,
    /// Where mempool and extractor run whenever this node leads them.
    pool_thread: ArbiterHandle,
    scheduler: Option<Seat<Addr<SchedulerActor>>>,
    producer: Option<Addr<ProducerActor>>,
    rpc: Option<ServerHandle>,
    health: Health,
    peers: Peers,
    beats: Subscription,
    hellos: Subscription,
    log_end: watch::Receiver<Option<Seq>>,
    beaten_at: Micros,
    draining: bool,
}

/// Asks the log where it ends, again and again; `None` where it does not say.
fn watch_log(log: Arc<dyn BlockLog>) -> watch::Receiver<Option<Seq>> {
    let (sender, receiver) = watch::channel(None);
    tokio::spawn(async move {
        while !sender.is_closed() {
            let last = log.last().await.ok();
            sender.send_replace(last);
            tokio::time::sleep(LOOK).await;
        }
    });
    receiver
}

impl Member {
    /// Starts what stands for itself; what is led starts in [`Member::run`].
    ///
    /// # Errors
    /// Names what could not be started.
    pub async fn start(config: Config) -> eyre::Result<Self> {
        let health = Health::serve(config.health_addr()).await?;
        let timetable = config.timetable()?;
        // What this node runs may be settled by any scheduler: its signatures are checked here.
        let base = Base::open(&config, true, Vouch::Nobody).await?;
        let subjects = Subjects::new(base.spec.chain_id);
        let bus = base.transport.bus.clone();
        let beats = bus.subscribe(&subjects.beat(), INBOX).await?;
        let hellos = bus.subscribe(&subjects.shard_hello(), INBOX).await?;
        let roles = &config.roles;
        let incarnation = u64::from_be_bytes(B256::random().0[..8].try_into().unwrap_or_default());
        let seat = |role| roles.has(role).then(|| Seat::new(role, incarnation));
        let scheduler = roles
            .has(Role::Scheduler)
            .then(|| Seat::new(Role::Scheduler, incarnation));
        let producer = match roles.has(Role::Producer) {
            true => Some(start_producer(&config, &base, timetable)?),
            false => None,
        };
        let rpc = match roles.has(Role::Gateway) {
            true => Some(start_gateway(&config, &base, timetable).await?),
            false => None,
        };
        let member = Self {
            name: name_of(&config),
            incarnation,
            timetable,
            subjects,
            pool: seat(Role::Mempool),
            pool_thread: Arbiter::new().handle(),
            scheduler,
            producer,
            rpc,
            health,
            peers: Peers::default(),
            beats,
            hellos,
            log_end: watch_log(base.transport.log.clone()),
            beaten_at: Micros(0),
            draining: false,
            base,
            config,
        };
        info!(
            node = member.name,
            roles = ?member.config.roles.0,
            transport = member.base.transport_text,
            health = %member.health.addr(),
            rpc = member.rpc_addr().map(tracing::field::display),
            "node runs"
        );
        Ok(member)
    }

    /// Where its health port listens.
    #[must_use]
    pub const fn health_addr(&self) -> SocketAddr {
        self.health.addr()
    }

    /// Where JSON-RPC listens, in a gateway.
    #[must_use]
    pub fn rpc_addr(&self) -> Option<SocketAddr> {
        self.rpc.as_ref().map(ServerHandle::addr)
    }

    /// Runs until `signal` comes or somebody asks it to drain; then hands over, finishes and stops.
    ///
    /// # Errors
    /// [`Halted`] where chain and log are not of one piece.
    pub async fn run(mut self, signal: impl Future<Output = eyre::Result<()>>) -> eyre::Result<()> {
        tokio::pin!(signal);
        let (health, chain) = (self.health.clone(), self.base.chain.clone());
        let mut turns = tokio::time::interval(TURN);
        turns.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let halted = loop {
            tokio::select! {
                result = &mut signal => {
                    result?;
                    break None;
                }
                () = health.drain_asked() => break None,
                report = chain.halted() => break Some(report),
                beat = self.beats.next() => {
                    let Some(delivery) = beat else { bail!("the bus is closed") };
                    match decode::<NodeBeat>(&delivery.payload) {
                        Ok(beat) => self.heard(beat).await,
                        Err(error) => warn!(%error, "beat is malformed"),
                    }
                }
                hello = self.hellos.next() => {
                    let Some(delivery) = hello else { bail!("the bus is closed") };
                    if let Ok(hello) = decode::<ShardHello>(&delivery.payload) {
                        self.peers.shard(hello);
                    }
                }
                _ = turns.tick() => self.turn().await,
            }
        };
        self.stop().await;
        match halted {
            Some(report) => Err(Halted(report).into()),
            None => Ok(()),
        }
    }

    /// Another node, or this one, said what it does.
    async fn heard(&mut self, beat: NodeBeat) {
        for role in [Role::Mempool, Role::Scheduler] {
            if !beat.roles.contains(&role) {
                continue;
            }
            let leads = beat.leads.iter().find(|leads| leads.role == role);
            let event = Event::Beat {
                node: beat.incarnation,
                leads_since: leads.map(|leads| leads.since),
            };
            self.seat_event(role, event).await;
        }
        self.peers.node(beat);
    }

    async fn seat_event(&mut self, role: Role, event: Event) {
        let effect = match role {
            Role::Mempool => self.pool.as_mut().and_then(|seat| seat.apply(event)),
            _ => self.scheduler.as_mut().and_then(|seat| seat.apply(event)),
        };
        match effect {
            None => return,
            Some(Effect::Start(claim)) => {
                info!(role = role.name(), since = claim.since.0, "this node leads");
                self.start_led(role);
            }
            Some(Effect::Stop) => {
                info!(role = role.name(), "this node stands by");
                self.stop_led(role).await;
            }
        }
        metrics::counter!("node_lead_changes_total", "role" => role.name()).increment(1);
        self.beat().await;
    }

    fn start_led(&mut self, role: Role) {
        let base = &self.base;
        if role == Role::Mempool {
            let extractor = penstock_actors::extractor::start(
                &self.pool_thread,
                ExtractorConfig::new(self.timetable, self.config.inference.credit_limits()),
                base.transport.clone(),
                base.chain.head(),
                base.results.clone(),
            );
            let mempool = penstock_actors::mempool::start(
                &self.pool_thread,
                Default::default(),
                base.transport.clone(),
                base.chain.clone(),
                extractor.clone(),
            );
            if let Some(seat) = &mut self.pool {
                seat.cast = Some(Pool { mempool, extractor });
            }
            return;
        }
        let scheduler = penstock_actors::scheduler::start(
            scheduler_config(&self.config, &base.spec, self.timetable),
            base.transport.clone(),
            base.chain.clone(),
            base.recompute.clone(),
        );
        if let Some(seat) = &mut self.scheduler {
            seat.cast = Some(scheduler);
        }
    }

    async fn stop_led(&mut self, role: Role) {
        match role {
            Role::Mempool => {
                if let Some(pool) = self.pool.as_mut().and_then(|seat| seat.cast.take()) {
                    stop("mempool", shell::stop(&pool.mempool)).await;
                    stop("extractor", shell::stop(&pool.extractor)).await;
                }
            }
            _ => {
                if let Some(actor) = self.scheduler.as_mut().and_then(|seat| seat.cast.take()) {
                    stop("scheduler", shell::stop(&actor)).await;
                }
            }
        }
    }

    /// A turn of the loop: take over what nobody leads, tell who this is, and show how it is.
    async fn turn(&mut self) {
        for role in [Role::Mempool, Role::Scheduler] {
            // A follower that is far behind would lead on old state.
            if self.caught_up() {
                self.seat_event(role, Event::Tick).await;
            }
        }
        if now() >= self.beaten_at.saturating_add(BEAT) {
            self.beat().await;
        }
        let ready = self.ready();
        let status = self.peers.status(&self.name, &ready);
        let json = serde_json::to_string(&status).unwrap_or_default();
        self.health.turn(ready, json);
    }

    fn lag(&self) -> Option<u64> {
        let last = (*self.log_end.borrow())?;
        Some(last.saturating_sub(self.base.chain.head().log_seq).0)
    }

    fn caught_up(&self) -> bool {
        self.lag().is_some_and(|lag| lag <= LAG_MAX)
    }

    fn ready(&self) -> Result<(), String> {
        match self.lag() {
            _ if self.draining => Err("draining".into()),
            None => Err("the block log does not answer".into()),
            Some(lag) if lag > LAG_MAX => Err(format!("{lag} entries behind the block log")),
            Some(_) => Ok(()),
        }
    }

    async fn epoch(&self) -> Option<Epoch> {
        let producer = self.producer.as_ref()?;
        // A full mailbox, or one that is gone: it is not known.
        producer.send(Leading).await.ok().flatten()
    }

    async fn beat(&mut self) {
        self.beaten_at = now();
        let head = self.base.chain.head();
        let pool = self.pool.as_ref().and_then(Seat::leads);
        let scheduler = self.scheduler.as_ref().and_then(Seat::leads);
        let beat = NodeBeat {
            node: self.name.clone(),
            incarnation: self.incarnation,
            roles: self.config.roles.0.clone(),
            leads: pool.into_iter().chain(scheduler).collect(),
            epoch: self.epoch().await,
            height: head.height,
            hash: head.hash,
            lag: self.lag(),
            draining: self.draining,
        };
        let bus = &self.base.transport.bus;
        if let Err(error) = bus.publish(&self.subjects.beat(), encode(&beat)).await {
            warn!(%error, "beat was not sent");
        }
    }

    /// Hands over what it leads and stops, in the order of the flow.
    async fn stop(mut self) {
        self.draining = true;
        self.health.turn(Err("draining".into()), "{}".into());
        if let Some(rpc) = self.rpc.take() {
            stop("gateway", rpc.stop()).await;
        }
        for role in [Role::Mempool, Role::Scheduler] {
            self.seat_event(role, Event::Resign).await;
        }
        if let Some(producer) = &self.producer {
            stop("producer", shell::stop(producer)).await;
        }
        stop("follower", shell::stop(&self.base.follower)).await;
        info!("node stopped");
    }
}

fn start_producer(
    config: &Config,
    base: &Base,
    timetable: Timetable,
) -> eyre::Result<Addr<ProducerActor>> {
    let key = config
        .producer
        .key
        .signing_key(base.spec.chain_id, "producer")
        .wrap_err("producer.key")?;
    if !base.spec.producers.contains(&key.address()) {
        bail!(
            "producer.key is that of {}, which is none of the chain's producers: no follower would take its blocks",
            key.address()
        );
    }
    let start = match timetable {
        // Without a timetable nobody can tell a missing block from a quiet devnet: there is one producer, and it leads.
        Timetable::AtOnce | Timetable::Manual => Start::Lead,
        Timetable::Slots(slot) => {
            Start::Standby(Micros(slot.0.saturating_mul(config.producer.missed_slots)))
        }
    };
    let every = config.store.snapshot_every;
    if every > 0 {
        let (chain, blobs) = (base.chain.clone(), base.transport.blobs.clone());
        tokio::spawn(snapshot::keep(chain, blobs, every, key.address()));
    }
    Ok(penstock_actors::producer::start(
        ProducerConfig {
            timetable,
            start,
            key,
            genesis: stored_genesis(&base.store)?.map(Arc::new),
        },
        base.transport.clone(),
        base.chain.clone(),
        base.results.clone(),
        base.own.clone(),
    ))
}

async fn start_gateway(
    config: &Config,
    base: &Base,
    timetable: Timetable,
) -> eyre::Result<ServerHandle> {
    let gateway = penstock_actors::gateway::start(
        gateway_config(config, timetable),
        base.transport.clone(),
        base.store.clone(),
        base.chain.clone(),
        base.results.clone(),
        base.recompute.clone(),
    )
    .await?;
    let listen = SocketAddr::new(config.rpc.host, config.rpc.port);
    let server = ServerConfig {
        listen,
        ..ServerConfig::default()
    };
    Ok(penstock_rpc::serve(
        server,
        gateway.clone(),
        gateway.clone(),
        gateway,
        base.accounts.clone(),
    )
    .await?)
}
