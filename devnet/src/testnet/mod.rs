//! What `penstock init` writes: everything that several machines need to be one devnet.
//!
//! ```text
//!   OUT/README.md              what to copy where
//!   OUT/genesis.json           in every machine's folder too
//!   OUT/HOST/nats.conf         server of a JetStream cluster (the first three machines)
//!   OUT/HOST/node.toml         the first two: mempool, scheduler, producer; the others: gateway
//!   OUT/HOST/shard.toml
//!   OUT/HOST/*.key, *.nk, *.pem
//!   OUT/HOST/penstock-*.service
//! ```
//!
//! Each process has its own NATS user, which may say and hear what its role needs (`penstock_wire::nats::permissions`),
//! and its own certificate. Only its own machine's folder holds its keys.

mod certificates;
pub mod kubernetes;
mod texts;

use crate::cli::InitArgs;
use crate::config::{BlockTime, Config};
use crate::genesis;
use crate::keys::{self, write_secret};
use crate::models::{self, LoadedModel};
use certificates::Authority;
use eyre::{WrapErr, bail};
use penstock_evm::{Genesis, SigningKey};
use penstock_rules::ids::ShardId;
use penstock_wire::nats::{NatsRole, NatsUser, Permissions, permissions};
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Where the files lie on a machine.
pub const ETC: &str = "/etc/penstock";
/// Where the data lie on a machine.
pub const VAR: &str = "/var/lib/penstock";

/// Machines that run a NATS server: three bear the loss of one.
const SERVERS: usize = 3;
/// Machines that run mempool, scheduler and producer: one leads, one stands by.
const LEADERS: usize = 2;

/// A machine's role in the devnet.
struct Host {
    name: String,
    dir: PathBuf,
    node: NatsUser,
    shard: NatsUser,
    shard_key: SigningKey,
    leads: bool,
}

/// A user of the servers, with what it may do.
struct User {
    public: String,
    may: Permissions,
}

/// Writes the folder.
///
/// # Errors
/// Names what is wrong, or can't be written.
pub fn write(args: &InitArgs) -> eyre::Result<()> {
    check(args)?;
    let config = config_of(args);
    config.timetable()?;
    fs::create_dir_all(&args.out).wrap_err_with(|| cant_write(&args.out))?;
    let authority = Authority::new()?;
    let mut hosts = Vec::new();
    let mut producers = Vec::new();
    for (index, name) in args.hosts.iter().enumerate() {
        let dir = args.out.join(name);
        fs::create_dir_all(&dir).wrap_err_with(|| cant_write(&dir))?;
        if index < LEADERS {
            producers.push(keys::create(&dir.join("producer.key"))?.address());
        }
        hosts.push(Host {
            name: name.clone(),
            node: NatsUser::new(),
            shard: NatsUser::new(),
            shard_key: keys::create(&dir.join("shard.key"))?,
            leads: index < LEADERS,
            dir,
        });
    }
    let models = models::load(args.models.as_deref(), true)?;
    let genesis = genesis_of(&config, producers, &hosts, &models)?;
    let json = serde_json::to_string_pretty(&genesis)?;
    put(&args.out.join("genesis.json"), &json)?;
    let users = users(&hosts, config.chain.id);
    for (index, host) in hosts.iter().enumerate() {
        put(&host.dir.join("genesis.json"), &json)?;
        put(&host.dir.join("ca.pem"), &authority.pem())?;
        write_secret(
            &host.dir.join("node.nk"),
            &format!("{}\n", host.node.seed().reveal()),
        )?;
        write_secret(
            &host.dir.join("shard.nk"),
            &format!("{}\n", host.shard.seed().reveal()),
        )?;
        for process in ["nats", "node", "shard"] {
            if process == "nats" && index >= SERVERS {
                continue;
            }
            let certificate = authority.issue(&host.name)?;
            put(&host.dir.join(format!("{process}.pem")), &certificate.pem)?;
            write_secret(
                &host.dir.join(format!("{process}.pem.key")),
                &certificate.key,
            )?;
        }
        if index < SERVERS {
            put(
                &host.dir.join("nats.conf"),
                &texts::nats_conf(&host.name, &args.hosts[..SERVERS], &users),
            )?;
            put(&host.dir.join("penstock-nats.service"), texts::NATS_UNIT)?;
        }
        let servers = &args.hosts[..SERVERS];
        put(
            &host.dir.join("node.toml"),
            &texts::node_toml(&host.name, host.leads, servers, &args.block_time),
        )?;
        put(
            &host.dir.join("shard.toml"),
            &texts::shard_toml(&host.name, servers),
        )?;
        put(&host.dir.join("penstock-node.service"), texts::NODE_UNIT)?;
        put(&host.dir.join("penstock-shard.service"), texts::SHARD_UNIT)?;
        if args.models.is_some() {
            copy_models(&models, &host.dir.join("models"))?;
        }
    }
    put(&args.out.join("README.md"), &texts::page(&args.hosts))?;
    Ok(())
}

fn check(args: &InitArgs) -> eyre::Result<()> {
    if args.hosts.len() < SERVERS {
        bail!(
            "--hosts names {} machines: {SERVERS} are needed to bear the loss of one",
            args.hosts.len()
        );
    }
    let different: BTreeSet<_> = args.hosts.iter().collect();
    if different.len() != args.hosts.len() {
        bail!("--hosts names a machine twice");
    }
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '.';
    if let Some(bad) = args
        .hosts
        .iter()
        .find(|h| h.is_empty() || !h.chars().all(plain))
    {
        bail!("--hosts: {bad:?} is no host name or IPv4 address");
    }
    let used = fs::read_dir(&args.out).is_ok_and(|mut files| files.next().is_some());
    if used {
        bail!(
            "{} is not empty: nothing is written over",
            args.out.display()
        );
    }
    Ok(())
}

fn config_of(args: &InitArgs) -> Config {
    let mut config = Config::default();
    config.chain.id = args.chain_id;
    config.producer.block_time = BlockTime(args.block_time.clone());
    config
}

fn genesis_of(
    config: &Config,
    producers: Vec<alloy_primitives::Address>,
    hosts: &[Host],
    models: &[LoadedModel],
) -> eyre::Result<Genesis> {
    let accounts = genesis::accounts(config)?.addresses();
    let infos = models.iter().map(LoadedModel::info).collect();
    let mut genesis = genesis::genesis(config, &accounts, infos);
    genesis.spec.producers = producers;
    // Keys that everybody can derive count for nothing here.
    genesis.shards = hosts
        .iter()
        .map(|host| ShardId(host.shard_key.address()))
        .collect();
    Ok(genesis)
}

fn users(hosts: &[Host], chain_id: u64) -> Vec<User> {
    let node = |host: &Host| {
        let role = match host.leads {
            true => NatsRole::Node,
            false => NatsRole::Reader,
        };
        User {
            public: host.node.public(),
            may: permissions(role, chain_id, &texts::inbox(&host.name, "node")),
        }
    };
    let shard = |host: &Host| {
        let role = NatsRole::Shard(ShardId(host.shard_key.address()));
        User {
            public: host.shard.public(),
            may: permissions(role, chain_id, &texts::inbox(&host.name, "shard")),
        }
    };
    hosts
        .iter()
        .flat_map(|host| [node(host), shard(host)])
        .collect()
}

fn copy_models(models: &[LoadedModel], dir: &Path) -> eyre::Result<()> {
    fs::create_dir_all(dir).wrap_err_with(|| cant_write(dir))?;
    for model in models::own(models) {
        let file = dir.join(format!("{}.onnx", model.cid));
        fs::write(&file, &model.bytes).wrap_err_with(|| cant_write(&file))?;
    }
    Ok(())
}

fn put(file: &Path, text: &str) -> eyre::Result<()> {
    fs::write(file, text).wrap_err_with(|| cant_write(file))
}

fn cant_write(path: &Path) -> String {
    format!("can't write {}", path.display())
}
