//! A shard as a process of its own.

use crate::base::{apply_nats, host_of, name_of};
use crate::config::Config;
use crate::engine::{Engine, start_shard};
use crate::health::Health;
use crate::models;
use crate::node::stop;
use crate::peers::Peers;
use actix::Addr;
use alloy_primitives::{Address, B256};
use eyre::{WrapErr, eyre};
use penstock_actors::shard::ShardActor;
use penstock_actors::shell;
use penstock_rules::ids::ShardId;
use penstock_rules::message::ShardHello;
use penstock_wire::nats::{NatsConfig, NatsRole};
use penstock_wire::{Subjects, Subscription, Transport, decode};
use std::net::SocketAddr;
use std::time::Duration;
use tracing::info;

/// How often the loop turns.
const TURN: Duration = Duration::from_millis(250);
/// Own hellos come back over the bus every second or so; without one for this long the bus does not carry them.
const SILENCE_MAX_MS: u64 = 10_000;
/// Hellos that wait, in number.
const INBOX: usize = 1_024;

/// A running shard.
pub struct ShardProcess {
    name: String,
    id: Address,
    actor: Addr<ShardActor>,
    hellos: Subscription,
    health: Health,
    peers: Peers,
    _transport: Transport,
}

impl ShardProcess {
    /// Starts it.
    ///
    /// # Errors
    /// Names what could not be started.
    pub async fn start(config: &Config) -> eyre::Result<Self> {
        let health = Health::serve(config.health_addr()).await?;
        let key = config
            .shard
            .key
            .signing_key(config.chain.id, "shard")
            .wrap_err("shard.key")?;
        let id = key.address();
        let models = models::load(config.inference.models.as_deref(), true)?;
        let url = config
            .nats
            .url
            .as_deref()
            .ok_or_else(|| eyre!("nats.url is missing"))?;
        // A shard reads no stream, so which genesis they are pinned to is not its business.
        let mut nats = NatsConfig::new(url, config.chain.id, B256::ZERO);
        apply_nats(config, &mut nats)?;
        if config.nats.nkey.is_some() {
            nats.role = Some(NatsRole::Shard(ShardId(id)));
        }
        let transport = penstock_wire::nats::shard_transport(nats)
            .await
            .wrap_err("can't use the nats-server")?;
        let subjects = Subjects::new(config.chain.id);
        let hellos = transport
            .bus
            .subscribe(&subjects.shard_hello(), INBOX)
            .await?;
        let engine = Engine::choose(config.inference.backend)?;
        let actor = start_shard(config, engine, key, &models, &transport)?;
        info!(shard = %id, nats = host_of(url), engine = %engine, health = %health.addr(), "shard runs");
        Ok(Self {
            name: name_of(config),
            id,
            actor,
            hellos,
            health,
            peers: Peers::default(),
            _transport: transport,
        })
    }

    /// Its address: the shard's id.
    #[must_use]
    pub const fn id(&self) -> Address {
        self.id
    }

    /// Where its health port listens.
    #[must_use]
    pub const fn health_addr(&self) -> SocketAddr {
        self.health.addr()
    }

    /// Runs until `signal` comes or somebody asks it to drain; then finishes what it has.
    ///
    /// # Errors
    /// Where the signal can't be waited for.
    pub async fn run(mut self, signal: impl Future<Output = eyre::Result<()>>) -> eyre::Result<()> {
        tokio::pin!(signal);
        let health = self.health.clone();
        let mut turns = tokio::time::interval(TURN);
        loop {
            tokio::select! {
                result = &mut signal => {
                    result?;
                    break;
                }
                () = health.drain_asked() => break,
                hello = self.hellos.next() => {
                    let Some(delivery) = hello else { break };
                    // What others send malformed is no concern of a display.
                    if let Ok(hello) = decode::<ShardHello>(&delivery.payload) {
                        self.peers.shard(hello);
                    }
                }
                _ = turns.tick() => self.turn(),
            }
        }
        self.health.turn(Err("draining".into()), "{}".into());
        stop("shard", shell::stop(&self.actor)).await;
        info!("shard stopped");
        Ok(())
    }

    fn turn(&self) {
        let mut status = self.peers.status(&self.name, &Ok(()));
        let id = ShardId(self.id).to_string();
        let own = status.shards.iter().find(|shard| shard.shard == id);
        let ready = match own {
            None => Err("the bus has not carried a hello yet".to_owned()),
            Some(own) if own.heard_ms > SILENCE_MAX_MS => {
                Err("the bus does not carry hellos".to_owned())
            }
            Some(own) if own.models == 0 => Err("no model is loaded yet".to_owned()),
            Some(_) => Ok(()),
        };
        status.ready = ready.clone().err().unwrap_or_else(|| "yes".into());
        let json = serde_json::to_string(&status).unwrap_or_default();
        self.health.turn(ready, json);
    }
}
