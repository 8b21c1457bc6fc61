//! `penstock node`: some roles of a devnet in this process.

use crate::base::{name_of, nats_config};
use crate::cli::NodeArgs;
use crate::config::Config;
use crate::genesis;
use crate::member::Member;
use crate::models::{self, LoadedModel};
use eyre::WrapErr;
use penstock_rules::message::Role;

/// Runs the node until a signal comes or it is asked to drain.
///
/// # Errors
/// Names what could not be started, or why it halted.
pub fn run(args: &NodeArgs) -> eyre::Result<()> {
    let config = Config::resolve_node(args)?;
    if args.process.check_config {
        return check(&config);
    }
    super::run_actors(async move {
        let member = Member::start(config).await?;
        let rpc = member.rpc_addr().map(|rpc| format!("rpc {rpc}\n"));
        let ready = format!(
            "health {}\n{}",
            member.health_addr(),
            rpc.unwrap_or_default()
        );
        super::write_ready(args.process.ready_file.as_deref(), &ready)?;
        member.run(super::stop_signal()).await
    })
}

/// Reads all that the configuration names, and connects to nothing.
fn check(config: &Config) -> eyre::Result<()> {
    config.timetable()?;
    let accounts = genesis::accounts(config)?;
    let models = models::load(config.inference.models.as_deref(), true)?;
    let genesis = match config.genesis()? {
        Some(given) => given,
        None => {
            let infos = models.iter().map(LoadedModel::info).collect();
            genesis::genesis(config, &accounts.addresses(), infos)
        }
    };
    let url = config.nats.url.as_deref().unwrap_or_default();
    nats_config(config, url, &genesis)?;
    if config.roles.has(Role::Producer) {
        let key = &config.producer.key;
        key.signing_key(genesis.spec.chain_id, "producer")
            .wrap_err("producer.key")?;
    }
    let roles: Vec<_> = config.roles.0.iter().map(|role| role.name()).collect();
    println!(
        "{}: {}; chain {}, genesis {}",
        name_of(config),
        roles.join(", "),
        genesis.spec.chain_id,
        genesis::fingerprint(&genesis)
    );
    Ok(())
}
