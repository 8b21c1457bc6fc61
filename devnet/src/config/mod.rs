//! The configuration: defaults, then a file, then the environment, then the command line.

mod sections;
#[cfg(test)]
mod tests;

pub use sections::{
    AccountsConfig, Backend, BlockTime, ChainConfig, HealthConfig, InferenceConfig,
    MNEMONIC_DEFAULT, NatsConfig, ProducerConfig, Replicas, Roles, RpcConfig, ShardConfig,
    StoreConfig, TlsConfig,
};

use crate::cli::{NodeArgs, ProcessArgs, UpArgs};
use crate::genesis;
use eyre::{WrapErr, bail, eyre};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use penstock_evm::Genesis;
use penstock_rules::ids::Micros;
use penstock_rules::message::Role;
use penstock_rules::producer::Timetable;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Name of this process in displays and logs; none: the machine's host name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// What `penstock node` runs. Every node verifies and stores blocks, whatever stands here.
    pub roles: Roles,
    /// Folder of the chain's data; none: a temporary one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data: Option<PathBuf>,
    /// The chain.
    pub chain: ChainConfig,
    /// Accounts that have ether from the start.
    pub accounts: AccountsConfig,
    /// JSON-RPC.
    pub rpc: RpcConfig,
    /// Block production.
    pub producer: ProducerConfig,
    /// Inference.
    pub inference: InferenceConfig,
    /// The transport between actors.
    pub nats: NatsConfig,
    /// What the store keeps.
    pub store: StoreConfig,
    /// The shard that `penstock shard` runs.
    pub shard: ShardConfig,
    /// Health, readiness and metrics.
    pub health: HealthConfig,
}

/// From JSON-RPC's port to the health port's, unless configured otherwise.
const HEALTH_PORT_STEP: u16 = 1_000;

impl Config {
    /// Where health is told. Beside a free port for JSON-RPC it is a free one too.
    #[must_use]
    pub fn health_addr(&self) -> SocketAddr {
        let beside = match self.rpc.port {
            0 => 0,
            // Above the last port there is none: a free one then.
            port => port.checked_add(HEALTH_PORT_STEP).unwrap_or(0),
        };
        SocketAddr::new(self.health.host, self.health.port.unwrap_or(beside))
    }
}

impl Config {
    /// Reads file and environment, and lays the command line over them.
    ///
    /// # Errors
    /// Names the key and the place where a value is wrong.
    pub fn resolve(args: &UpArgs) -> eyre::Result<Self> {
        let mut config = Self::read(args.config.as_deref())?;
        config.overlay(args);
        config.check()?;
        Ok(config)
    }

    /// Reads a file of one process of a devnet of many, and the environment.
    ///
    /// # Errors
    /// As [`Config::resolve`].
    pub fn resolve_file(file: &Path) -> eyre::Result<Self> {
        let config = Self::read(Some(file))?;
        config.check()?;
        Ok(config)
    }

    /// As [`Config::resolve`], for a process of a devnet of many.
    ///
    /// # Errors
    /// As [`Config::resolve`], and where nothing says where the NATS servers are.
    pub fn resolve_process(args: &ProcessArgs) -> eyre::Result<Self> {
        let mut config = Self::read(Some(&args.config))?;
        config.name = args.name.clone().or(config.name.take());
        config.check()?;
        if config.nats.url.is_none() {
            bail!("nats.url is missing: processes of one devnet reach each other over NATS");
        }
        Ok(config)
    }

    /// As [`Config::resolve_process`], for a node.
    ///
    /// # Errors
    /// As [`Config::resolve_process`], and where the roles do not do.
    pub fn resolve_node(args: &NodeArgs) -> eyre::Result<Self> {
        let mut config = Self::resolve_process(&args.process)?;
        if !args.roles.is_empty() {
            config.roles = Roles(args.roles.clone());
        }
        if config.roles.0.is_empty() {
            bail!("roles is empty: name what this node runs, follower at least");
        }
        if config.roles.has(Role::Shard) {
            bail!("roles has shard: a shard is a process of its own, run by `penstock shard`");
        }
        if config.data.is_none() {
            bail!("data is missing: a node keeps its own copy of the chain");
        }
        Ok(config)
    }

    fn read(file: Option<&Path>) -> eyre::Result<Self> {
        let mut figment = Figment::from(Serialized::defaults(Self::default()));
        if let Some(file) = file {
            if !file.is_file() {
                bail!("configuration file {} does not exist", file.display());
            }
            figment = figment.merge(Toml::file_exact(file));
        }
        // PENSTOCK_RPC__PORT=1 sets rpc.port. Names without "__" belong to other things (PENSTOCK_RPC_URL, ...).
        figment = figment.merge(
            Env::prefixed("PENSTOCK_")
                .filter(|key| key.as_str().contains("__"))
                .split("__"),
        );
        let mut config: Self = figment.extract().wrap_err("configuration is wrong")?;
        if let Some(genesis) = config.genesis()? {
            let spec = genesis.spec;
            config.chain.id = spec.chain_id;
            config.chain.hardfork = spec.hardfork;
            config.chain.block_gas_limit = spec.block_gas_limit;
            config.chain.igas_limit = spec.igas_limit.0;
        }
        Ok(config)
    }

    /// The genesis file, if one is configured.
    ///
    /// # Errors
    /// Names the file where it can't be read, or is no genesis.
    pub fn genesis(&self) -> eyre::Result<Option<Genesis>> {
        let Some(file) = &self.chain.genesis else {
            return Ok(None);
        };
        let json = std::fs::read(file)
            .wrap_err_with(|| format!("chain.genesis: can't read {}", file.display()))?;
        let genesis = serde_json::from_slice(&json)
            .wrap_err_with(|| format!("chain.genesis: {} is no genesis", file.display()))?;
        Ok(Some(genesis))
    }

    fn overlay(&mut self, args: &UpArgs) {
        fn set<T: Clone>(to: &mut T, from: &Option<T>) {
            if let Some(value) = from {
                *to = value.clone();
            }
        }
        set(&mut self.rpc.port, &args.port);
        set(&mut self.rpc.host, &args.host);
        self.health.port = args.health_port.or(self.health.port);
        set(&mut self.chain.id, &args.chain_id);
        set(&mut self.chain.hardfork, &args.hardfork);
        set(
            &mut self.producer.block_time,
            &args.block_time.clone().map(BlockTime),
        );
        set(&mut self.inference.shards, &args.shards);
        set(&mut self.inference.backend, &args.backend);
        set(&mut self.accounts.count, &args.accounts);
        set(&mut self.accounts.balance, &args.balance);
        set(&mut self.accounts.mnemonic, &args.mnemonic);
        self.data = args.data.clone().or(self.data.take());
        self.inference.models = args.models.clone().or(self.inference.models.take());
        let decisions = self.inference.decisions.take();
        self.inference.decisions = args.decisions.clone().or(decisions);
        self.nats.url = args.nats.clone().or(self.nats.url.take());
        self.store.archive |= args.archive;
    }

    /// How many producers a genesis by this configuration names.
    #[must_use]
    pub fn producers(&self) -> u16 {
        let usual = match self.nats.url {
            None => 1,
            Some(_) => genesis::PRODUCER_KEYS,
        };
        self.chain.producers.unwrap_or(usual)
    }

    fn check(&self) -> eyre::Result<()> {
        self.timetable()?;
        if self.producers() == 0 {
            bail!("chain.producers is 0: nobody could make a block; give at least 1");
        }
        if self.inference.shards == 0 {
            bail!("inference.shards is 0: nothing would ever be computed; give at least 1");
        }
        if self.accounts.count == 0 || self.accounts.count > ACCOUNTS_MAX {
            bail!(
                "accounts.count is {}: give 1 to {ACCOUNTS_MAX}",
                self.accounts.count
            );
        }
        if self.producer.missed_slots == 0 {
            bail!("producer.missed_slots is 0: a standby would take over from one that works");
        }
        if ![1, 3, 5].contains(&self.nats.replicas.0) {
            bail!(
                "nats.replicas is {}: a stream has 1, 3 or 5 copies",
                self.nats.replicas.0
            );
        }
        Ok(())
    }

    /// When blocks are made.
    ///
    /// # Errors
    /// Where `producer.block_time` is no span.
    pub fn timetable(&self) -> eyre::Result<Timetable> {
        let text = self.producer.block_time.0.trim();
        if text == "auto" {
            return Ok(Timetable::AtOnce);
        }
        let span = span(text).wrap_err("producer.block_time is wrong")?;
        if span < BLOCK_TIME_MIN {
            bail!("producer.block_time is {text}: the shortest slot is {BLOCK_TIME_MIN}");
        }
        Ok(Timetable::Slots(span))
    }
}

/// Funded accounts at most: their keys are derived at every start, at about 1 ms each.
const ACCOUNTS_MAX: u32 = 1_000;

/// Shortest slot: some flushes of the store fit in it, on the disks that we measured.
const BLOCK_TIME_MIN: Micros = Micros::from_millis(50);

/// Reads `1s`, `250ms`, `2m` or a number of seconds.
fn span(text: &str) -> eyre::Result<Micros> {
    let (number, unit_us) = if let Some(n) = text.strip_suffix("ms") {
        (n, 1_000)
    } else if let Some(n) = text.strip_suffix('s') {
        (n, 1_000_000)
    } else if let Some(n) = text.strip_suffix('m') {
        (n, 60_000_000)
    } else {
        (text, 1_000_000)
    };
    let number: u64 = number
        .trim()
        .parse()
        .map_err(|_| eyre!("{text:?} is no span: write 1s, 250ms, or auto"))?;
    number
        .checked_mul(unit_us)
        .map(Micros)
        .ok_or_else(|| eyre!("{text:?} is too long"))
}
