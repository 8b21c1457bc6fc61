//! Shards, as their hellos say: how much they answered, and the evidence against those that were caught lying.

use parking_lot::RwLock;
use penstock_evm::check_attestation;
use penstock_rpc::ShardView;
use penstock_rules::ids::{Micros, ShardId};
use penstock_rules::message::{AssignmentDone, ShardHello};
use penstock_rules::scheduler::Evidence;
use std::collections::BTreeMap;

/// Shards that are remembered at most: far more than a devnet has; anyone can say hello.
const SHARDS_MAX: usize = 1_024;
/// A shard without a hello for this long shows as silent. Shards repeat theirs several times in this span.
const SILENT_AFTER: Micros = Micros::from_secs(10);

/// What is known of a shard.
struct Known {
    hello: ShardHello,
    seen: Micros,
    answers: u64,
    batches: u64,
    /// Of the last batch: how long it ran, and its size. Assignments that were joined in one batch say the same.
    last: Option<(Micros, u32)>,
}

/// See the module.
#[derive(Default)]
pub struct Shards {
    known: RwLock<BTreeMap<ShardId, Known>>,
    evidence: RwLock<BTreeMap<ShardId, Evidence>>,
}

/// Whether evidence proves what it says: the shard signed one outcome, and another shard signed another.
pub fn proves(evidence: &Evidence, chain_id: u64) -> bool {
    let answer = &evidence.answer;
    let said = answer.outcome.hash();
    answer.attestation.shard == evidence.shard
        && said != evidence.outcome_hash
        && check_attestation(&answer.attestation, chain_id, answer.key, said)
        && !evidence.against.is_empty()
        && evidence
            .against
            .iter()
            .all(|a| check_attestation(a, chain_id, answer.key, evidence.outcome_hash))
}

impl Shards {
    /// A hello came.
    pub fn add(&self, hello: ShardHello, at: Micros) {
        let mut shards = self.known.write();
        if shards.len() >= SHARDS_MAX && !shards.contains_key(&hello.shard) {
            let oldest = shards.iter().min_by_key(|(_, known)| known.seen);
            if let Some(oldest) = oldest.map(|(id, _)| *id) {
                shards.remove(&oldest);
            }
        }
        let known = shards.entry(hello.shard).or_insert_with(|| Known {
            hello: hello.clone(),
            seen: at,
            answers: 0,
            batches: 0,
            last: None,
        });
        known.hello = hello;
        known.seen = at;
    }

    /// A shard answered. Hearsay: its signatures are not looked at here.
    pub fn answered(&self, done: &AssignmentDone) {
        let mut shards = self.known.write();
        // Who never said hello is not listed.
        let Some(known) = shards.get_mut(&done.shard) else {
            return;
        };
        known.answers += done.answers.len() as u64;
        let batch = Some((done.ran, done.batch));
        if known.last != batch {
            known.last = batch;
            known.batches += 1;
        }
    }

    /// Whether it was caught already.
    pub fn is_convicted(&self, shard: &ShardId) -> bool {
        self.evidence.read().contains_key(shard)
    }

    /// A shard was caught, as was checked. The first evidence against a shard stays.
    pub fn convict(&self, evidence: Evidence) {
        let mut all = self.evidence.write();
        if all.len() < SHARDS_MAX {
            all.entry(evidence.shard).or_insert(evidence);
        }
    }

    /// All, by id.
    pub fn all(&self, now: Micros) -> Vec<ShardView> {
        let (shards, evidence) = (self.known.read(), self.evidence.read());
        let view = |known: &Known| ShardView {
            hello: known.hello.clone(),
            seen: known.seen,
            silent: now.saturating_sub(known.seen) > SILENT_AFTER,
            evidence: evidence.get(&known.hello.shard).cloned(),
            answers: known.answers,
            batches: known.batches,
        };
        shards.values().map(view).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloy_primitives::B256;
    use penstock_evm::{SigningKey, attest};
    use penstock_rules::ids::RequestKey;
    use penstock_rules::message::Answer;
    use penstock_rules::request::Outcome;

    const CHAIN: u64 = 1;

    fn evidence(liar: &SigningKey, honest: &SigningKey) -> Evidence {
        let key = RequestKey(B256::repeat_byte(1));
        let outcome = Outcome::Output(vec![1].into());
        let truth = Outcome::Output(vec![2].into()).hash();
        Evidence {
            shard: ShardId(liar.address()),
            answer: Answer {
                key,
                attestation: attest(liar, CHAIN, key, outcome.hash()),
                outcome,
            },
            outcome_hash: truth,
            against: vec![attest(honest, CHAIN, key, truth)],
            asked: None,
        }
    }

    #[test]
    fn only_evidence_that_proves_a_lie_is_shown() {
        let key = |byte| SigningKey::new(B256::repeat_byte(byte)).expect("a key");
        let (liar, honest) = (key(1), key(2));
        let good = evidence(&liar, &honest);
        assert!(proves(&good, CHAIN));
        assert!(!proves(&good, CHAIN + 1), "of another chain");
        let mut slander = good.clone();
        slander.shard = ShardId(honest.address());
        assert!(!proves(&slander, CHAIN), "signed by another");
        let mut alone = good.clone();
        alone.against.clear();
        assert!(!proves(&alone, CHAIN), "nobody said otherwise");
        let mut agreed = good.clone();
        agreed.outcome_hash = good.answer.outcome.hash();
        assert!(!proves(&agreed, CHAIN), "no difference");
        let mut forged = good;
        forged.against[0].shard = ShardId(liar.address());
        assert!(!proves(&forged, CHAIN), "the other's signature is false");
    }
}
