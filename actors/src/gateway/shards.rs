//! Shards, as their hellos say.

use parking_lot::RwLock;
use penstock_rpc::ShardView;
use penstock_rules::ids::{Micros, ShardId};
use penstock_rules::message::ShardHello;
use std::collections::BTreeMap;

/// Shards that are remembered at most: far more than a devnet has; anyone can say hello.
const SHARDS_MAX: usize = 1_024;
/// A shard without a hello for this long shows as silent. Shards repeat theirs several times in this span.
const SILENT_AFTER: Micros = Micros::from_secs(10);

/// See the module.
#[derive(Default)]
pub struct Shards(RwLock<BTreeMap<ShardId, (ShardHello, Micros)>>);

impl Shards {
    /// A hello came.
    pub fn add(&self, hello: ShardHello, at: Micros) {
        let mut shards = self.0.write();
        if shards.len() >= SHARDS_MAX && !shards.contains_key(&hello.shard) {
            let oldest = shards.iter().min_by_key(|(_, (_, seen))| *seen);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                shards.remove(&oldest);
            }
        }
        shards.insert(hello.shard, (hello, at));
    }

    /// All, by id.
    pub fn all(&self, now: Micros) -> Vec<ShardView> {
        let shards = self.0.read();
        let view = |(hello, seen): &(ShardHello, Micros)| ShardView {
            hello: hello.clone(),
            seen: *seen,
            silent: now.saturating_sub(*seen) > SILENT_AFTER,
        };
        shards.values().map(view).collect()
    }
}
