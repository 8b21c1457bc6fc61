//! The configuration: defaults, then a file, then the environment, then the command line.

use crate::cli::{NodeArgs, ProcessArgs, UpArgs};
use crate::genesis;
use crate::keys::{KeySource, SecretSource};
use eyre::{WrapErr, bail, eyre};
use figment::Figment;
use figment::providers::{Env, Format, Serialized, Toml};
use penstock_actors::gateway::GatewayConfig;
use penstock_evm::{Genesis, Hardfork};
use penstock_rules::extractor::credit::CreditLimits;
use penstock_rules::ids::{Igas, Micros};
use penstock_rules::message::Role;
use penstock_rules::producer::Timetable;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

/// The mnemonic that anvil and Hardhat use: its keys are public, its accounts worth nothing.
pub const MNEMONIC_DEFAULT: &str = "test test test test test test test test test test test junk";

/// Where inference runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// A GPU if there is one (software drivers do not count), else the processor.
    #[default]
    Auto,
    /// The processor.
    Cpu,
    /// A Vulkan device, software drivers included.
    Gpu,
}

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

/// What a node runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Roles(pub Vec<Role>);

impl Default for Roles {
    fn default() -> Self {
        Self(vec![
            Role::Gateway,
            Role::Mempool,
            Role::Scheduler,
            Role::Producer,
        ])
    }
}

impl Roles {
    /// Whether this one is among them.
    #[must_use]
    pub fn has(&self, role: Role) -> bool {
        self.0.contains(&role)
    }
}

/// The shard of a process of its own.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ShardConfig {
    /// Signs its answers: `file:PATH`, `env:NAME`, or `derived:N`, which everybody can derive.
    pub key: KeySource,
}

impl Default for ShardConfig {
    fn default() -> Self {
        Self {
            key: KeySource::Derived(0),
        }
    }
}

/// Where a process answers about itself, over HTTP: `/health/live`, `/health/ready`, `/metrics`, `/status`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HealthConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port; 0 takes a free one. None: JSON-RPC's and a thousand, 9545 by default; `up` takes a free one where that is taken.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
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

impl Default for HealthConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: None,
        }
    }
}

/// The chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ChainConfig {
    /// Genesis (JSON), as `penstock init` writes it. It decides all else of this section. None: genesis follows from
    /// this configuration, with keys that everybody can derive.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub genesis: Option<PathBuf>,
    /// EIP-155 chain id.
    pub id: u64,
    /// EVM rules.
    pub hardfork: Hardfork,
    /// Gas of a block.
    pub block_gas_limit: u64,
    /// Inference units of a block.
    pub igas_limit: u64,
    /// Producers that genesis names, with keys that everybody can derive. None: one where everything is in this process,
    /// so that development methods work; four over NATS, so that others can stand by.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub producers: Option<u16>,
}

/// Accounts that have ether from the start.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AccountsConfig {
    /// BIP-39 words.
    pub mnemonic: String,
    /// How many.
    pub count: u32,
    /// Ether of each.
    pub balance: u64,
}

/// JSON-RPC.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RpcConfig {
    /// Address to listen on.
    pub host: IpAddr,
    /// Port; 0 takes a free one.
    pub port: u16,
    /// Longest wait of a call for its inference, in ms.
    pub call_timeout_ms: u64,
}

/// Block production.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProducerConfig {
    /// `auto` (as soon as a transaction is ready), or a span such as `1s` or `250ms`.
    pub block_time: BlockTime,
    /// Signs blocks: `file:PATH`, `env:NAME`, or `derived:N`, which everybody can derive.
    pub key: KeySource,
    /// Slots without a block after which a standby takes over, in `penstock node` with a block time.
    pub missed_slots: u64,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            block_time: BlockTime::default(),
            key: KeySource::Derived(0),
            missed_slots: MISSED_SLOTS_DEFAULT,
        }
    }
}

/// A block may be late by a slot and nothing be wrong; two in a row are missing only when the producer or the log's
/// leader is gone. Taking over needlessly costs a block's work, and no safety.
const MISSED_SLOTS_DEFAULT: u64 = 2;

/// When blocks are made, as people write it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BlockTime(pub String);

impl Default for BlockTime {
    fn default() -> Self {
        Self("auto".into())
    }
}

/// Inference.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct InferenceConfig {
    /// Number of shards in this process.
    pub shards: u16,
    /// Where they compute.
    pub backend: Backend,
    /// Folder of models beside the built-in ones.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub models: Option<PathBuf>,
    /// Inference units that a sender nobody knows may have computed for requests that its transaction may turn out not to
    /// make (those found behind a placeholder). What it pays for earns it more.
    pub credit: u64,
    /// A transaction whose inference would wait for more blocks than this, at what it pays, is refused with the price that
    /// would not; 0: none is.
    pub backlog: u32,
    /// Whether this process computes answers of mode ZK in its blocks again, on its own processor, and reports who signed
    /// a false one.
    pub recompute: bool,
    /// Folder in which the scheduler writes what it is told and what it decides, a file per start; none: it does not.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decisions: Option<PathBuf>,
    /// For tests: models (by id) whose answers a shard holds back for so many milliseconds.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub test_delay_ms: BTreeMap<String, u64>,
}

/// The transport between actors.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct NatsConfig {
    /// A nats-server with JetStream; none: memory, and the data folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub url: Option<String>,
    /// Copies of every stream: 1, 3 or 5.
    pub replicas: Replicas,
    /// Seed of this process's nkey: `file:PATH` or `env:NAME`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub nkey: Option<SecretSource>,
    /// Prefix of reply addresses, where the server's permissions name one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inbox_prefix: Option<String>,
    /// Mutual TLS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<TlsConfig>,
}

/// Certificates for mutual TLS, as PEM files.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TlsConfig {
    /// Who signed the server's certificate.
    pub ca: PathBuf,
    /// Ours.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

/// Copies of a stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Replicas(pub usize);

impl Default for Replicas {
    fn default() -> Self {
        Self(1)
    }
}

/// What the store keeps.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct StoreConfig {
    /// Blocks whose state can be read.
    pub history_blocks: u64,
    /// Keep the state of every block.
    pub archive: bool,
    /// Begin an empty store with a snapshot of the state, where the block log is over NATS and there is one. An archive
    /// never does.
    pub from_snapshot: bool,
    /// A producer stores a snapshot of the state after each block of its own whose number is a multiple of this. 0: none.
    pub snapshot_every: u64,
}

impl Default for ChainConfig {
    fn default() -> Self {
        let spec = penstock_evm::ChainSpec::default();
        Self {
            genesis: None,
            id: spec.chain_id,
            hardfork: spec.hardfork,
            block_gas_limit: spec.block_gas_limit,
            igas_limit: spec.igas_limit.0,
            producers: None,
        }
    }
}

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            mnemonic: MNEMONIC_DEFAULT.into(),
            count: 10,
            balance: 10_000,
        }
    }
}

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8545,
            call_timeout_ms: 5_000,
        }
    }
}

impl Default for InferenceConfig {
    fn default() -> Self {
        Self {
            shards: 2,
            backend: Backend::Auto,
            models: None,
            credit: CreditLimits::default().initial.0,
            backlog: GatewayConfig::default().backlog_max.unwrap_or(0),
            recompute: true,
            decisions: None,
            test_delay_ms: BTreeMap::new(),
        }
    }
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            history_blocks: 1_024,
            archive: false,
            from_snapshot: true,
            snapshot_every: 10_000,
        }
    }
}

impl InferenceConfig {
    /// What a sender may have computed before it has paid.
    #[must_use]
    pub fn credit_limits(&self) -> CreditLimits {
        CreditLimits {
            initial: Igas(self.credit),
            ..CreditLimits::default()
        }
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

/// Shortest slot: two flushes of the store fit in it, on the disks that we measured.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn write(text: &str) -> (tempfile::TempDir, UpArgs) {
        let dir = tempfile::tempdir().expect("a folder");
        let file = dir.path().join("penstock.toml");
        std::fs::write(&file, text).expect("a file");
        let args = UpArgs {
            config: Some(file),
            ..UpArgs::default()
        };
        (dir, args)
    }

    #[test]
    fn what_config_prints_is_read_back_as_it_was() {
        let config = Config::default();
        let (_dir, args) = write(&toml::to_string(&config).expect("toml"));
        assert_eq!(Config::resolve(&args).expect("a configuration"), config);
    }

    #[test]
    fn the_examples_are_configurations() {
        let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("config");
        let mut names = Vec::new();
        for entry in std::fs::read_dir(&dir).expect("examples") {
            let path = entry.expect("an example").path();
            let name = path
                .file_name()
                .expect("a name")
                .to_string_lossy()
                .into_owned();
            let process = ProcessArgs {
                config: path.clone(),
                ..ProcessArgs::default()
            };
            let read = match name.as_str() {
                "up.toml" => Config::resolve(&UpArgs {
                    config: Some(path),
                    ..UpArgs::default()
                }),
                "shard.toml" => Config::resolve_process(&process),
                _ => Config::resolve_node(&NodeArgs {
                    process,
                    roles: Vec::new(),
                }),
            };
            if let Err(error) = read {
                panic!("{name}: {error:#}");
            }
            names.push(name);
        }
        assert!(names.len() >= 5, "{names:?}");
    }

    #[test]
    fn a_process_of_many_needs_servers_a_data_folder_and_roles_that_are_nodes() {
        let full = "data = \"x\"\n[nats]\nurl = \"nats://x\"\n";
        for (text, good) in [
            (full.to_owned(), true),
            ("data = \"x\"\n".to_owned(), false),
            ("[nats]\nurl = \"nats://x\"\n".to_owned(), false),
            (format!("roles = []\n{full}"), false),
            (format!("roles = [\"shard\"]\n{full}"), false),
            (format!("roles = [\"cook\"]\n{full}"), false),
            (format!("roles = [\"follower\"]\n{full}"), true),
        ] {
            let (_dir, args) = write(&text);
            let process = ProcessArgs {
                config: args.config.expect("a file"),
                ..ProcessArgs::default()
            };
            let roles = Vec::new();
            let read = Config::resolve_node(&NodeArgs { process, roles });
            assert_eq!(read.is_ok(), good, "{text}");
        }
    }

    #[test]
    fn a_secret_in_the_file_is_refused_and_not_shown() {
        let secret = "ab".repeat(32);
        let (_dir, args) = write(&format!("[producer]\nkey = \"{secret}\"\n"));
        let error = format!("{:?}", Config::resolve(&args).expect_err("a secret"));
        assert!(!error.contains(&secret), "{error}");
    }

    #[test]
    fn the_command_line_wins_over_the_file() {
        let (_dir, mut args) = write("[rpc]\nport = 1\n[producer]\nblock_time = \"2s\"\n");
        args.port = Some(9);
        let config = Config::resolve(&args).expect("a configuration");
        assert_eq!(config.rpc.port, 9);
        assert_eq!(
            config.timetable().expect("a span"),
            Timetable::Slots(Micros::from_secs(2))
        );
    }

    #[test]
    fn a_wrong_value_is_refused_by_name() {
        for (text, culprit) in [
            ("[rpc]\nprot = 1\n", "prot"),
            ("[rpc]\nport = 70000\n", "port"),
            ("[producer]\nblock_time = \"soon\"\n", "block_time"),
            ("[producer]\nblock_time = \"1ms\"\n", "block_time"),
            ("[inference]\nshards = 0\n", "shards"),
            ("[chain]\nhardfork = \"berlin\"\n", "hardfork"),
            ("[nats]\nreplicas = 2\n", "replicas"),
        ] {
            let (_dir, args) = write(text);
            let error = format!("{:?}", Config::resolve(&args).expect_err(text));
            assert!(error.contains(culprit), "{text}: {error}");
        }
        let args = UpArgs {
            config: Some("/nowhere/penstock.toml".into()),
            ..UpArgs::default()
        };
        let error = Config::resolve(&args).expect_err("no such file");
        assert!(error.to_string().contains("/nowhere/penstock.toml"));
    }

    #[test]
    fn spans_are_read_as_people_write_them() {
        for (text, micros) in [
            ("1s", 1_000_000),
            ("250ms", 250_000),
            ("2m", 120_000_000),
            ("3", 3_000_000),
        ] {
            assert_eq!(span(text).expect(text), Micros(micros));
        }
        for text in ["", "s", "-1s", "1h", "99999999999999999999s"] {
            assert!(span(text).is_err(), "{text}");
        }
    }
}
