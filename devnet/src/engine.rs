//! Which executor shards use, and starting one.

use crate::config::{Backend, Config};
use crate::models::LoadedModel;
use actix::Addr;
use eyre::{WrapErr, bail};
use penstock_actors::shard::{ShardActor, ShardConfig};
use penstock_evm::SigningKey;
use penstock_shaders::gpu::AdapterKind;
use penstock_shaders::{Executor, GpuError};
use penstock_wire::Transport;
use std::collections::BTreeMap;
use std::time::Duration;

/// Which executor shards use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Engine {
    Cpu,
    Gpu,
}

impl std::fmt::Display for Engine {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Cpu => "the CPU",
            Self::Gpu => "the GPU",
        })
    }
}

impl Engine {
    /// By configuration: `auto` takes a GPU where there is one, and software drivers are none.
    pub(crate) fn choose(backend: Backend) -> eyre::Result<Self> {
        match backend {
            Backend::Cpu => Ok(Self::Cpu),
            Backend::Gpu => {
                if penstock_shaders::adapters().is_empty() {
                    bail!("--backend gpu: no Vulkan driver is here; `penstock doctor` says more");
                }
                Ok(Self::Gpu)
            }
            Backend::Auto => {
                let gpu = penstock_shaders::adapters()
                    .iter()
                    .any(|a| a.kind != AdapterKind::Software);
                Ok(if gpu { Self::Gpu } else { Self::Cpu })
            }
        }
    }

    fn executor(self) -> Result<Box<dyn Executor>, GpuError> {
        match self {
            Self::Cpu => Ok(penstock_shaders::cpu()),
            // What the device cannot do any more, the processor does with the same bits.
            Self::Gpu => penstock_shaders::gpu(None)
                .map(|gpu| penstock_shaders::with_fallback(gpu, penstock_shaders::cpu())),
        }
    }
}

/// Starts a shard that has these models loaded at once.
pub(crate) fn start_shard(
    config: &Config,
    engine: Engine,
    key: SigningKey,
    models: &[LoadedModel],
    transport: &Transport,
) -> eyre::Result<Addr<ShardActor>> {
    let mut test_delay = BTreeMap::new();
    for (cid, delay_ms) in &config.inference.test_delay_ms {
        let Some(model) = models.iter().find(|m| m.cid == *cid) else {
            bail!("inference.test_delay_ms names {cid}, which is no model of this devnet");
        };
        test_delay.insert(model.model.hash(), Duration::from_millis(*delay_ms));
    }
    let shard = ShardConfig {
        key,
        chain_id: config.chain.id,
        preload: models.iter().map(|m| m.model.hash()).collect(),
        test_delay,
    };
    penstock_actors::shard::start(shard, move || engine.executor(), transport.clone())
        .wrap_err("no shard can run")
}
