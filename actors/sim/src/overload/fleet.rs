//! Shards: the real machine, and an engine that takes its time.

use super::demand::{BATCH_MAX, MODELS, Model};
use super::draw::{ONE, ratio};
use crate::Random;
use alloy_primitives::{Address, B256};
use penstock_rules::ids::{Micros, ModelHash, ShardId};
use penstock_rules::shard::{BatchId, Config, Shard};
use std::collections::BTreeMap;

/// Models that a shard keeps loaded: half of them, so that who loads all everywhere pays for it.
pub(super) const MODELS_MAX: u32 = 6;

/// Loading a model takes as long.
pub(super) const LOAD: Micros = Micros::from_millis(400);

/// A straggler takes this many times as long.
const STRAGGLE: u64 = 6;

/// Noise of a batch's time: one standard deviation, in percent.
const NOISE_PERCENT: i64 = 4;

/// A batch on an engine.
#[derive(Debug)]
pub(super) struct Running {
    pub(super) since: Micros,
    pub(super) took: Micros,
    pub(super) keys: Vec<u32>,
}

/// A shard.
#[derive(Debug)]
pub(super) struct Worker {
    pub(super) machine: Option<Shard>,
    pub(super) incarnation: u64,
    /// It takes this many times as long.
    pub(super) slow: u64,
    pub(super) running: BTreeMap<BatchId, Running>,
}

pub(super) fn shard_id(n: u8) -> ShardId {
    let mut address = Address::repeat_byte(0xa0);
    address[0] = n;
    ShardId(address)
}

pub(super) const fn model_hash(n: u8) -> ModelHash {
    ModelHash(B256::repeat_byte(n + 1))
}

impl Worker {
    pub(super) fn new(n: u8) -> Self {
        let mut worker = Self {
            machine: None,
            incarnation: 0,
            slow: 1,
            running: BTreeMap::new(),
        };
        worker.start(n);
        worker
    }

    /// A new life, with nothing loaded.
    pub(super) fn start(&mut self, n: u8) {
        self.incarnation += 1;
        self.running.clear();
        self.machine = Some(Shard::new(Config {
            shard: shard_id(n),
            incarnation: self.incarnation,
            backend: "model".into(),
            batch_max: BATCH_MAX as u32,
            queue_max: 2,
            models_max: MODELS_MAX,
            engines: 1,
        }));
    }
}

/// How long a batch takes.
pub(super) fn batch_time(
    model: &Model,
    requests: u64,
    slow: u64,
    stragglers_in_million: u32,
    random: &mut Random,
) -> Micros {
    let plain = (model.base + model.each * requests) * slow;
    let noise = ONE + random.normal() / 100 * NOISE_PERCENT;
    let time = (i128::from(plain) * i128::from(noise.max(ratio(1, 2)))) >> 32;
    let straggle = if random.chance(stragglers_in_million) {
        STRAGGLE
    } else {
        1
    };
    Micros((time as u64).max(1) * straggle)
}

/// Which models each shard has at the start: replicas by twice a model's share of the work, two at least, each where
/// least work is.
pub(super) fn residency(models: &[Model], shards: u8) -> Vec<Vec<u8>> {
    let work = |m: usize| models[m].weight * models[m].least() / 1_000;
    let total: u64 = (0..models.len()).map(work).sum();
    let mut order: Vec<usize> = (0..MODELS).collect();
    order.sort_by_key(|&m| std::cmp::Reverse(work(m)));
    let mut has = vec![Vec::new(); usize::from(shards)];
    let mut load = vec![0; usize::from(shards)];
    for m in order {
        let fair = (2 * work(m) * u64::from(shards)).div_ceil(total.max(1));
        let replicas = fair.clamp(2.min(u64::from(shards)), u64::from(shards));
        let mut places: Vec<usize> = (0..usize::from(shards))
            .filter(|&s| has[s].len() < MODELS_MAX as usize)
            .collect();
        places.sort_by_key(|&s| (load[s], s));
        for s in places.into_iter().take(replicas as usize) {
            has[s].push(m as u8);
            load[s] += work(m) / replicas;
        }
    }
    has
}
