//! What the demo found: figures per contract, the answers' digest, and both as a table or as JSON.

use super::scenes::Scene;
use alloy_primitives::{Address, B256, Keccak256};
use alloy_provider::{DynProvider, Provider};
use eyre::bail;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::{self, Display, Formatter};

/// What happened on a devnet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Report {
    /// The devnet's chain.
    pub chain_id: u64,
    /// keccak256 over request keys and outcome hashes, by ascending key: equal wherever the same data gave the same bits.
    pub digest: B256,
    /// Different requests that were answered.
    pub outcomes: usize,
    /// What was played.
    pub scenes: Vec<SceneReport>,
    /// What was not.
    pub skipped: Vec<Skipped>,
}

/// What happened to one contract's transactions.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct SceneReport {
    /// Its name.
    pub contract: String,
    /// Where it is.
    pub address: Address,
    /// The model that it calls.
    pub model: String,
    /// Transactions, all of them included, and none of them reverted.
    pub transactions: usize,
    /// Answers that they read. Every one stands in the witness of the block of the transaction that asked.
    pub inferences: usize,
    /// Answers that shards gave meanwhile: a straggler's requests are asked of another shard too.
    pub answers: u64,
    /// Batches in which they were computed.
    pub batches: u64,
    /// Blocks that the transactions are in.
    pub blocks: usize,
    /// From the head at submission to the transaction's block; 1 is the next block.
    pub latency_blocks: Spread,
    /// From acceptance to inclusion, by the devnet's clock.
    pub latency_ms: Spread,
    /// What it came to, for people.
    pub said: String,
}

/// Half of the figures are not above `median`, and none is above `max`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spread {
    /// The median.
    pub median: u64,
    /// The greatest.
    pub max: u64,
}

/// A contract that was not played.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Skipped {
    /// Its name.
    pub contract: String,
    /// The model that is not there.
    pub model: String,
    /// What to do about it.
    pub why: String,
}

/// Figures of one contract, as they come.
#[derive(Debug, Default)]
pub(super) struct Figures {
    transactions: usize,
    inferences: usize,
    blocks: BTreeSet<u64>,
    latency_blocks: Vec<u64>,
    latency_ms: Vec<u64>,
}

impl Figures {
    pub(super) fn add(
        &mut self,
        height: u64,
        latency_blocks: u64,
        latency_ms: Option<u64>,
        inferences: usize,
    ) {
        self.transactions += 1;
        self.inferences += inferences;
        self.blocks.insert(height);
        self.latency_blocks.push(latency_blocks);
        self.latency_ms.extend(latency_ms);
    }

    pub(super) fn report(
        self,
        scene: &Scene,
        address: Address,
        work: Work,
        said: String,
    ) -> SceneReport {
        SceneReport {
            contract: scene.contract.to_owned(),
            address,
            model: scene.model.to_owned(),
            transactions: self.transactions,
            inferences: self.inferences,
            answers: work.answers,
            batches: work.batches,
            blocks: self.blocks.len(),
            latency_blocks: Spread::of(self.latency_blocks),
            latency_ms: Spread::of(self.latency_ms),
            said,
        }
    }
}

/// What all shards did, as the devnet counts it.
#[derive(Clone, Copy, Debug)]
pub(super) struct Work {
    pub(super) answers: u64,
    pub(super) batches: u64,
}

impl Work {
    pub(super) fn since(self, before: Self) -> Self {
        Self {
            answers: self.answers.saturating_sub(before.answers),
            batches: self.batches.saturating_sub(before.batches),
        }
    }
}

impl Spread {
    fn of(mut figures: Vec<u64>) -> Self {
        figures.sort_unstable();
        let at = |place: usize| figures.get(place).copied().unwrap_or_default();
        Self {
            median: at(figures.len().saturating_sub(1) / 2),
            max: at(figures.len().saturating_sub(1)),
        }
    }
}

/// Outcome hashes by request key, read from the witnesses of the blocks.
#[derive(Debug, Default)]
pub(super) struct Answers {
    asked: BTreeMap<u64, BTreeSet<B256>>,
    outcomes: BTreeMap<B256, B256>,
}

#[derive(Debug, Deserialize)]
struct Witness {
    entries: Vec<Entry>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    request_key: B256,
    outcome_hash: B256,
}

impl Answers {
    /// A transaction of this block read these answers.
    pub(super) fn ask(&mut self, height: u64, keys: BTreeSet<B256>) {
        self.asked.entry(height).or_default().extend(keys);
    }

    /// Reads what was asked for and is not read yet.
    pub(super) async fn read(&mut self, provider: &DynProvider) -> eyre::Result<()> {
        for (height, keys) in std::mem::take(&mut self.asked) {
            let witness: Witness = provider
                .raw_request("pipe_getWitness".into(), (format!("{height:#x}"),))
                .await?;
            let found: BTreeMap<B256, B256> = witness
                .entries
                .into_iter()
                .map(|entry| (entry.request_key, entry.outcome_hash))
                .collect();
            for key in keys {
                let Some(outcome) = found.get(&key) else {
                    bail!("block {height} used the answer to {key}, but its witness has none");
                };
                match self.outcomes.insert(key, *outcome) {
                    Some(before) if before != *outcome => {
                        bail!("request {key} was answered {before}, and then {outcome}")
                    }
                    _ => {}
                }
            }
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.outcomes.len()
    }

    pub(super) fn digest(&self) -> B256 {
        let mut hasher = Keccak256::new();
        for (key, outcome) in &self.outcomes {
            hasher.update(key);
            hasher.update(outcome);
        }
        hasher.finalize()
    }
}

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(
            f,
            "{:<12} {:<9} {:>12} {:>10} {:>8} {:>7}   {:>14}   {:>14}",
            "contract",
            "model",
            "transactions",
            "inferences",
            "batches",
            "blocks",
            "blocks to wait",
            "ms to wait"
        )?;
        for scene in &self.scenes {
            let wait = |spread: Spread| format!("{} (max {})", spread.median, spread.max);
            writeln!(
                f,
                "{:<12} {:<9} {:>12} {:>10} {:>8} {:>7}   {:>14}   {:>14}",
                scene.contract,
                scene.model,
                scene.transactions,
                scene.inferences,
                scene.batches,
                scene.blocks,
                wait(scene.latency_blocks),
                wait(scene.latency_ms)
            )?;
        }
        writeln!(f)?;
        for scene in &self.scenes {
            writeln!(f, "{}: {}", scene.contract, scene.said)?;
        }
        for skipped in &self.skipped {
            writeln!(
                f,
                "{}: not played, the devnet has no model {}: {}",
                skipped.contract, skipped.model, skipped.why
            )?;
        }
        writeln!(
            f,
            "\nEvery answer was read by the transaction that asked for it, and stands in its block's witness."
        )?;
        write!(f, "digest of {} outcomes: {}", self.outcomes, self.digest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_is_the_lower_median_and_the_greatest() {
        for (figures, median, max) in [
            (vec![], 0, 0),
            (vec![5], 5, 5),
            (vec![9, 1], 1, 9),
            (vec![3, 1, 2], 2, 3),
        ] {
            assert_eq!(
                Spread::of(figures.clone()),
                Spread { median, max },
                "{figures:?}"
            );
        }
    }

    #[test]
    fn the_digest_depends_on_what_was_answered_and_not_on_the_order() {
        let digest = |pairs: &[(u8, u8)]| {
            let outcomes = pairs
                .iter()
                .map(|&(k, o)| (B256::repeat_byte(k), B256::repeat_byte(o)));
            Answers {
                asked: BTreeMap::new(),
                outcomes: outcomes.collect(),
            }
            .digest()
        };
        assert_eq!(digest(&[(1, 2), (3, 4)]), digest(&[(3, 4), (1, 2)]));
        assert_ne!(digest(&[(1, 2), (3, 4)]), digest(&[(1, 2), (3, 5)]));
        assert_ne!(digest(&[(1, 2)]), digest(&[]));
    }
}
