//! Shards that a test plays itself, over the bus.

use penstock_rules::ids::{ModelHash, ShardId};
use penstock_rules::message::ShardHello;
use penstock_rules::request::ENGINE_VERSION;

/// The hello of a shard that serves one model.
#[must_use]
pub fn hello(shard: ShardId, model: ModelHash) -> ShardHello {
    ShardHello {
        shard,
        incarnation: 1,
        backend: "liar".into(),
        engine_version: ENGINE_VERSION,
        models: vec![model],
        batch_max: 8,
        queue_max: 8,
        draining: false,
        held: Vec::new(),
    }
}
