//! Sections of the configuration, with their defaults.

use crate::keys::{KeySource, SecretSource};
use penstock_actors::gateway::GatewayConfig;
use penstock_evm::Hardfork;
use penstock_rules::extractor::credit::CreditLimits;
use penstock_rules::ids::Igas;
use penstock_rules::message::Role;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

/// The mnemonic that anvil and Hardhat use: its keys are public, its accounts worth nothing.
pub const MNEMONIC_DEFAULT: &str = "test test test test test test test test test test test junk";

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

impl Default for AccountsConfig {
    fn default() -> Self {
        Self {
            mnemonic: MNEMONIC_DEFAULT.into(),
            count: 10,
            balance: 10_000,
        }
    }
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

impl Default for RpcConfig {
    fn default() -> Self {
        Self {
            host: IpAddr::V4(Ipv4Addr::LOCALHOST),
            port: 8545,
            call_timeout_ms: 5_000,
        }
    }
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
