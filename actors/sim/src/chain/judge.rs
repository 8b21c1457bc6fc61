//! The judge: sees what all processes do, and holds it against the invariants that span them.

use super::evm::{Block, Call, Evm, Head, Program, State};
use super::world::Place;
use super::{Mutant, attest};
use alloy_primitives::{Address, B256};
use penstock_rules::follower::SkipReason;
use penstock_rules::ids::{Height, Micros, RequestKey, Seq, ShardId, TxHash};
use penstock_rules::invariants::{
    ACCEPTED_STAYS, ALL, ATOMIC_GANG, BITWISE_OUTPUT, INCLUDED_ONCE, Invariant, NO_WAIT,
    NONCE_ORDER, NOTHING_UNVERIFIED, ONE_BLOCK_PER_HEIGHT, SETTLED_ONCE, SINGLE_FLIGHT, Violation,
};
use penstock_rules::mempool::Mempool;
use penstock_rules::message::AssignedRequest;
use penstock_rules::request::{Mode, Settled};
use penstock_rules::tx::{DropReason, PoolTx};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// A machine says in words what is broken, with the id first.
pub(super) fn named(otherwise: Invariant, broken: String) -> Violation {
    let id = broken.split(':').next().unwrap_or_default();
    let known = ALL.iter().find(|invariant| invariant.id == id);
    Violation {
        invariant: known.copied().unwrap_or(otherwise),
        detail: broken,
    }
}

/// What all have seen.
#[derive(Debug)]
pub(super) struct Judge {
    /// Execution by the whole rules, but for what a key is made of.
    evm: Evm,
    head: Head,
    hashes: Vec<B256>,
    included: BTreeMap<TxHash, Height>,
    accepted: BTreeMap<TxHash, PoolTx>,
    dropped: BTreeMap<TxHash, DropReason>,
    /// Blocks that producers built by the rules, with their slots, and when they were first sent to the log.
    built: BTreeMap<B256, (Option<Micros>, Micros)>,
    /// Whether faults may make blocks late.
    pub(super) punctual: bool,
    /// From one block to the next, where blocks have a timetable.
    slot: Micros,
    last_slot: Option<Micros>,
    /// What was settled first for a key.
    settled: BTreeMap<RequestKey, B256>,
    /// Shards that say what their engines say, always.
    pub(super) liars: BTreeSet<u8>,
    answers: BTreeMap<RequestKey, B256>,
    /// How often a request was run.
    copies: BTreeMap<RequestKey, (u32, Mode)>,
    pub(super) transactions: u64,
    pub(super) inferences: u64,
    pub(super) skipped: u64,
}

impl Judge {
    pub(super) fn new(evm: Evm, slot: Micros) -> Self {
        Self {
            evm: Evm {
                mutant: evm.mutant.filter(|m| *m == Mutant::ModeNotInKey),
                ..evm
            },
            head: Head::genesis(),
            hashes: Vec::new(),
            included: BTreeMap::new(),
            accepted: BTreeMap::new(),
            dropped: BTreeMap::new(),
            built: BTreeMap::new(),
            punctual: false,
            slot,
            last_slot: None,
            settled: BTreeMap::new(),
            liars: BTreeSet::new(),
            answers: BTreeMap::new(),
            copies: BTreeMap::new(),
            transactions: 0,
            inferences: 0,
            skipped: 0,
        }
    }

    pub(super) fn height(&self) -> Height {
        self.head.height
    }

    pub(super) fn head(&self) -> &Head {
        &self.head
    }

    pub(super) fn nonce(&self, sender: Address) -> u64 {
        self.head.state.nonce(sender)
    }

    /// A follower has a new head.
    pub(super) fn announced(&mut self, place: Place, block: &Arc<Block>) -> Result<(), Violation> {
        let at = block.height.0 as usize - 1;
        if let Some(hash) = self.hashes.get(at) {
            return ONE_BLOCK_PER_HEIGHT.require(*hash == block.hash, || {
                format!(
                    "{place:?} has {} at {}, others {hash}",
                    block.hash, block.height
                )
            });
        }
        ONE_BLOCK_PER_HEIGHT.require(at == self.hashes.len(), || {
            format!("{place:?} has height {} before anybody", block.height)
        })?;
        let mut nonces: BTreeMap<Address, u64> = BTreeMap::new();
        for tx in &block.txs {
            let next = nonces
                .entry(tx.sender)
                .or_insert_with(|| self.head.state.nonce(tx.sender));
            NONCE_ORDER.require(*next == tx.nonce, || {
                format!("{} has nonce {}, {next} is next", tx.hash, tx.nonce)
            })?;
            *next += 1;
            let before = self.included.insert(tx.hash, block.height);
            INCLUDED_ONCE.require(before.is_none(), || {
                format!("{} is in {before:?} and {}", tx.hash, block.height)
            })?;
        }
        let state = self
            .evm
            .verify(&self.head, block)
            .map_err(|why| Violation {
                invariant: NOTHING_UNVERIFIED,
                detail: format!("{place:?} took block {}: {why}", block.height),
            })?;
        self.witnessed(block)?;
        self.on_time(block)?;
        self.hashes.push(block.hash);
        self.transactions += block.txs.len() as u64;
        self.inferences += block.witness.len() as u64;
        self.head = Head {
            height: block.height,
            hash: block.hash,
            timestamp_secs: block.timestamp_secs,
            seq: Seq(0),
            state,
            block: Some(Arc::clone(block)),
        };
        Ok(())
    }

    /// What stands in a witness is what honest shards say, wherever a lie had to have a second shard.
    fn witnessed(&self, block: &Block) -> Result<(), Violation> {
        for entry in &block.witness {
            let hash = entry.outcome.hash();
            let honest = self.answers.get(&entry.key);
            let sure = entry.attestations.len() > 1;
            ATOMIC_GANG.require(!sure || honest.is_none_or(|honest| *honest == hash), || {
                format!("{} is witnessed with a lie", entry.key)
            })?;
            attest::check(entry, 1).map_err(|why| Violation {
                invariant: ATOMIC_GANG,
                detail: why,
            })?;
        }
        Ok(())
    }

    /// Without faults of log and producers no slot is missed and no block is late, whatever shards and bus do.
    fn on_time(&mut self, block: &Block) -> Result<(), Violation> {
        let Some(&(Some(slot), sent)) = self.built.get(&block.hash) else {
            return Ok(());
        };
        let last = self.last_slot.replace(slot);
        if !self.punctual {
            return Ok(());
        }
        NO_WAIT.require(sent <= slot, || {
            let late = sent.saturating_sub(slot);
            format!("block {} was sent {late} after its slot", block.height)
        })?;
        let gap = last.map_or(0, |last| slot.saturating_sub(last).0);
        NO_WAIT.require(last.is_none() || Micros(gap) == self.slot, || {
            format!("block {} comes {gap} us after the one before", block.height)
        })
    }

    /// A producer sends a block to the log.
    pub(super) fn appends(&mut self, block: &Block, slot: Option<Micros>, now: Micros) {
        self.built.entry(block.hash).or_insert((slot, now));
    }

    /// A follower passes an entry of the log.
    pub(super) fn skipped(
        &mut self,
        place: Place,
        block: &Block,
        reason: SkipReason,
    ) -> Result<(), Violation> {
        self.skipped += 1;
        let built = self.built.contains_key(&block.hash);
        ATOMIC_GANG.require(!(built && reason == SkipReason::Invalid), || {
            format!(
                "{place:?} finds block {} invalid, and a producer built it by the rules",
                block.height
            )
        })?;
        let has = self.hashes.get(block.height.0 as usize - 1) == Some(&block.hash);
        let late = reason == SkipReason::OldHeight;
        ONE_BLOCK_PER_HEIGHT.require(!has || late, || {
            format!(
                "{place:?} skips block {} as {reason:?}, others have it",
                block.height
            )
        })
    }

    /// A sender was told that its transaction is safe.
    pub(super) fn accepted(
        &mut self,
        hash: TxHash,
        queued: &[(Seq, PoolTx)],
    ) -> Result<(), Violation> {
        let item = queued.iter().find(|(_, tx)| tx.hash == hash);
        let safe = item.map(|(_, tx)| tx.clone());
        ACCEPTED_STAYS.require(safe.is_some(), || {
            format!("{hash} is accepted and not durable")
        })?;
        if let Some(tx) = safe {
            self.accepted.insert(hash, tx);
        }
        Ok(())
    }

    /// The pool gave a transaction up.
    pub(super) fn dropped(
        &mut self,
        hash: TxHash,
        reason: DropReason,
        state: &State,
    ) -> Result<(), Violation> {
        let just = match (reason, self.accepted.get(&hash)) {
            (DropReason::NonceUsed, Some(tx)) => state.nonce(tx.sender) > tx.nonce,
            (DropReason::TooManyRequests, Some(tx)) => {
                matches!(Call::decode(&tx.raw).program, Program::Endless { .. })
            }
            (DropReason::Invalid | DropReason::Asked | DropReason::Expired, _) => false,
            _ => true,
        };
        ACCEPTED_STAYS.require(just, || format!("{hash} is dropped as {reason:?}"))?;
        self.dropped.insert(hash, reason);
        Ok(())
    }

    /// Whatever was accepted is in the pool, or in a block, or was dropped with a reason.
    pub(super) fn pool_holds(&self, pool: &Mempool, at: Height) -> Result<(), Violation> {
        for hash in self.accepted.keys() {
            let included = self.included.get(hash).is_some_and(|height| *height <= at);
            let known = included || self.dropped.contains_key(hash) || pool.get(hash).is_some();
            ACCEPTED_STAYS.require(known, || format!("{hash} is lost"))?;
        }
        Ok(())
    }

    /// A scheduler settled a request.
    pub(super) fn settled(&mut self, settled: &Settled) -> Result<(), Violation> {
        let hash = settled.outcome.hash();
        let first = *self.settled.entry(settled.key).or_insert(hash);
        // One shard's word may be a lie, and another scheduler may hear another word.
        let excused = !self.liars.is_empty() && settled.attestations.len() < 2;
        SETTLED_ONCE.require(first == hash || excused, || {
            format!("{} is settled as {first} and as {hash}", settled.key)
        })?;
        let lie = self.answers.get(&settled.key).is_some_and(|h| *h != hash);
        SETTLED_ONCE.require(!lie || excused, || {
            format!("{} is settled with a lie", settled.key)
        })
    }

    /// A shard answers, before the network.
    pub(super) fn answered(
        &mut self,
        shard: u8,
        key: RequestKey,
        hash: B256,
    ) -> Result<(), Violation> {
        if self.liars.contains(&shard) {
            return Ok(());
        }
        let first = *self.answers.entry(key).or_insert(hash);
        BITWISE_OUTPUT.require(first == hash, || {
            format!("shard {shard} answers {hash} to {key}, another answered {first}")
        })
    }

    /// A shard runs a batch.
    pub(super) fn runs(&mut self, requests: &[AssignedRequest]) {
        for request in requests {
            let copies = self.copies.entry(request.key).or_insert((0, request.mode));
            copies.0 += 1;
        }
    }

    /// Where nothing was lost, each request was computed once per word that its mode needs, and once more for a hedge.
    pub(super) fn single_flight(&self) -> Result<(), Violation> {
        for (key, (copies, mode)) in &self.copies {
            let most = u32::from(self.evm.quorum.of(*mode)) + 1;
            SINGLE_FLIGHT.require(*copies <= most, || format!("{key} was run {copies} times"))?;
        }
        Ok(())
    }

    /// A scheduler caught a shard.
    pub(super) fn quarantined(&self, shard: ShardId) -> Result<(), Violation> {
        let liar = self
            .liars
            .iter()
            .any(|n| super::shard::Worker::id(*n) == shard);
        BITWISE_OUTPUT.require(liar, || format!("{shard} is quarantined and never lied"))
    }
}
