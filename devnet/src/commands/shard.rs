//! `penstock shard`: one inference shard in this process.

use crate::base::{apply_nats, name_of};
use crate::cli::ProcessArgs;
use crate::config::Config;
use crate::models;
use crate::shard::ShardProcess;
use alloy_primitives::B256;
use eyre::WrapErr;
use penstock_wire::nats::NatsConfig;

/// Runs the shard until a signal comes or it is asked to drain.
///
/// # Errors
/// Names what could not be started.
pub fn run(args: &ProcessArgs) -> eyre::Result<()> {
    let config = Config::resolve_process(args)?;
    if args.check_config {
        return check(&config);
    }
    super::run_actors(async move {
        let shard = ShardProcess::start(&config).await?;
        let ready = format!("health {}\nshard {}\n", shard.health_addr(), shard.id());
        super::write_ready(args.ready_file.as_deref(), &ready)?;
        shard.run(super::stop_signal()).await
    })
}

/// Reads all that the configuration names, and connects to nothing.
fn check(config: &Config) -> eyre::Result<()> {
    models::load(config.inference.models.as_deref(), true)?;
    let key = config
        .shard
        .key
        .signing_key(config.chain.id, "shard")
        .wrap_err("shard.key")?;
    let url = config.nats.url.as_deref().unwrap_or_default();
    apply_nats(
        config,
        &mut NatsConfig::new(url, config.chain.id, B256::ZERO),
    )?;
    println!(
        "{}: shard {}; chain {}",
        name_of(config),
        key.address(),
        config.chain.id
    );
    Ok(())
}
