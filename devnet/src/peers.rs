//! What a process heard of the others: for displays alone.

use parking_lot::Mutex;
use penstock_actors::shell::now;
use penstock_rules::ids::{Micros, ShardId};
use penstock_rules::message::{NodeBeat, Role, ShardHello};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A process that was silent for this long is shown no more.
const FORGET_AFTER: Micros = Micros::from_secs(60);

/// A devnet as one process sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the process that says this.
    pub name: String,
    /// Whether it is ready, and if not, why.
    pub ready: String,
    /// Nodes, by name.
    pub nodes: Vec<NodeStatus>,
    /// Shards, by id.
    pub shards: Vec<ShardStatus>,
}

/// A node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeStatus {
    /// Its name.
    pub name: String,
    /// What it runs.
    pub roles: Vec<Role>,
    /// What it leads.
    pub leads: Vec<Role>,
    /// Fencing token of its producer, where that leads.
    pub epoch: Option<u64>,
    /// Height of its head.
    pub height: u64,
    /// Hash of its head.
    pub hash: String,
    /// Entries of the log that it has not taken in; none where it can't tell.
    pub lag: Option<u64>,
    /// It takes nothing new.
    pub draining: bool,
    /// Time since it was heard, in ms.
    pub heard_ms: u64,
}

/// A shard.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardStatus {
    /// Its address.
    pub shard: String,
    /// Where it computes.
    pub backend: String,
    /// How many models it has loaded.
    pub models: usize,
    /// Assignments that it holds.
    pub held: usize,
    /// It takes nothing new.
    pub draining: bool,
    /// Time since it was heard, in ms.
    pub heard_ms: u64,
}

#[derive(Default)]
struct Heard {
    nodes: BTreeMap<(String, u64), (NodeBeat, Micros)>,
    shards: BTreeMap<ShardId, (ShardHello, Micros)>,
}

/// See the module. Clones are one.
#[derive(Clone, Default)]
pub(crate) struct Peers(Arc<Mutex<Heard>>);

impl Peers {
    pub(crate) fn node(&self, beat: NodeBeat) {
        let key = (beat.node.clone(), beat.incarnation);
        self.0.lock().nodes.insert(key, (beat, now()));
    }

    pub(crate) fn shard(&self, hello: ShardHello) {
        self.0.lock().shards.insert(hello.shard, (hello, now()));
    }

    /// What was heard, without what is long silent.
    pub(crate) fn status(&self, name: &str, ready: &Result<(), String>) -> Status {
        let at = now();
        let ms = |seen: Micros| at.saturating_sub(seen).0 / 1_000;
        let mut heard = self.0.lock();
        let fresh = |seen: Micros| at.saturating_sub(seen) < FORGET_AFTER;
        heard.nodes.retain(|_, (_, seen)| fresh(*seen));
        heard.shards.retain(|_, (_, seen)| fresh(*seen));
        let nodes = heard.nodes.values().map(|(beat, seen)| {
            let mut leads: Vec<_> = beat.leads.iter().map(|leads| leads.role).collect();
            if beat.epoch.is_some() {
                leads.push(Role::Producer);
            }
            NodeStatus {
                name: beat.node.clone(),
                roles: beat.roles.clone(),
                leads,
                epoch: beat.epoch.map(|epoch| epoch.0),
                height: beat.height.0,
                hash: beat.hash.to_string(),
                lag: beat.lag,
                draining: beat.draining,
                heard_ms: ms(*seen),
            }
        });
        let shards = heard.shards.values().map(|(hello, seen)| ShardStatus {
            shard: hello.shard.to_string(),
            backend: hello.backend.clone(),
            models: hello.models.len(),
            held: hello.held.len(),
            draining: hello.draining,
            heard_ms: ms(*seen),
        });
        Status {
            name: name.into(),
            ready: ready.clone().err().unwrap_or_else(|| "yes".into()),
            nodes: nodes.collect(),
            shards: shards.collect(),
        }
    }
}
