//! Answers: counted by shard, settled once, and what happens to who lied.

use super::book::Known;
use super::leases::Lease;
use super::limits::DISPUTES_MAX;
use super::{Effect, Evidence, Released, Scheduler};
use crate::ids::{Height, Igas, Micros, ShardId};
use crate::message::{
    Answer, AssignmentDone, AssignmentRefused, Class, Gang, GangRequest, RefuseReason,
};
use crate::request::{Attestation, Settled};
use alloy_primitives::{Address, B256, keccak256};

impl Scheduler {
    pub(super) fn done(&mut self, now: Micros, done: AssignmentDone, effects: &mut Vec<Effect>) {
        let Some(&slot) = self.by_shard.get(&done.shard) else {
            return;
        };
        let known = self.registered.as_ref();
        if self.members[slot as usize].quarantined
            || known.is_some_and(|set| !set.contains(&done.shard))
        {
            return;
        }
        // An answer whose lease is over still answers; it changes nothing else.
        let ours = self.epoch == Some(done.epoch)
            && self
                .leases
                .get(&done.lease)
                .is_some_and(|l| l.shard == slot);
        let lease = if ours {
            self.take_lease(now, done.lease)
        } else {
            None
        };
        if let Some(lease) = &lease {
            self.learn(lease, u64::from(done.batch), done.ran.0);
            self.absolve(slot);
        }
        for answer in done.answers {
            if answer.attestation.shard == done.shard {
                self.answer(now, done.shard, answer, lease.as_ref(), effects);
            }
        }
        if let Some(lease) = lease {
            for request in &lease.assignment.requests {
                if let Some(&key) = self.by_key.get(&request.key) {
                    self.recount(key);
                    self.unwanted(key, effects);
                }
            }
            self.dirty = true;
            self.refresh(now);
        }
    }

    fn learn(&mut self, lease: &Lease, batch: u64, ran: u64) {
        let prior = self.priors[lease.model as usize];
        let profile = self
            .profiles
            .entry((lease.model, lease.shard))
            .or_insert_with(|| super::profile::Profile::new(prior));
        profile.record(batch.max(lease.assignment.requests.len() as u64), ran);
        let batch_max = self.members[lease.shard as usize].hello.batch_max;
        if let Some(share) = profile.least(batch_max)
            && let Some(least) = self.least.get_mut(lease.model as usize)
        {
            *least = if *least == 0 {
                share
            } else {
                share.min(*least)
            };
        }
        let at = lease.model as usize * self.members.len() + lease.shard as usize;
        if let Some(cost) = self.problem.costs.get_mut(at)
            && !self.costs_changed
        {
            let hosted = cost.hosted;
            *cost = profile.cost();
            cost.hosted = hosted;
        }
    }

    fn answer(
        &mut self,
        now: Micros,
        shard: ShardId,
        answer: Answer,
        lease: Option<&Lease>,
        effects: &mut Vec<Effect>,
    ) {
        let said = answer.outcome.hash();
        let Some(&slot) = self.by_key.get(&answer.key) else {
            let settled = self.cache.peek(&answer.key);
            if settled.is_some_and(|s| s.outcome.hash() != said) {
                self.dispute(now, shard, answer, lease, effects);
            }
            return;
        };
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        if let Some(before) = entry.answers.get(&shard) {
            let first = before.outcome.hash();
            if first != said {
                // Two answers to one request under one key convict by themselves.
                let against = vec![before.attestation.clone()];
                self.convict(now, answer, first, against, effects);
            }
            return;
        }
        entry.elsewhere |= lease.is_none();
        entry.answers.insert(shard, answer);
        let agree = entry
            .answers
            .values()
            .filter(|a| a.outcome.hash() == said)
            .count();
        if agree >= usize::from(entry.quorum) {
            self.settle(now, slot, said, effects);
        } else {
            self.recount(slot);
            self.dirty = true;
        }
    }

    /// Enough shards agree: the answer is given once, and who said otherwise is caught.
    fn settle(&mut self, now: Micros, slot: u32, said: B256, effects: &mut Vec<Effect>) {
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        let (key, judged) = (entry.key, entry.judged);
        let answers = std::mem::take(&mut entry.answers);
        let mut outcome = None;
        let (mut agreed, mut liars) = (Vec::new(), Vec::new());
        for answer in answers.into_values() {
            if answer.outcome.hash() == said {
                outcome.get_or_insert(answer.outcome);
                agreed.push(answer.attestation);
            } else {
                liars.push(answer);
            }
        }
        let Some(outcome) = outcome else {
            return;
        };
        if !judged {
            let settled = Settled {
                key,
                outcome,
                attestations: agreed.clone(),
            };
            self.cache.insert(settled.clone());
            effects.push(Effect::Settle(settled));
        }
        self.satisfy(slot, effects);
        for liar in liars {
            self.convict(now, liar, said, agreed.clone(), effects);
        }
    }

    fn convict(
        &mut self,
        now: Micros,
        answer: Answer,
        outcome_hash: B256,
        against: Vec<Attestation>,
        effects: &mut Vec<Effect>,
    ) {
        let shard = answer.attestation.shard;
        effects.push(Effect::Quarantine(Box::new(Evidence {
            shard,
            answer,
            outcome_hash,
            against,
            asked: None,
        })));
        self.quarantine(now, shard, effects);
    }

    /// A settled answer was computed again, and is false: it is not given any more, and who signed it gets no more work.
    pub(super) fn recomputed(
        &mut self,
        now: Micros,
        evidence: Box<Evidence>,
        effects: &mut Vec<Effect>,
    ) {
        let said = evidence.answer.outcome.hash();
        let settled = self.cache.peek(&evidence.answer.key);
        if settled.is_some_and(|settled| settled.outcome.hash() == said) {
            self.cache.remove(&evidence.answer.key);
        }
        let shard = evidence.shard;
        if !self.convicted.contains(&shard) {
            effects.push(Effect::Quarantine(evidence));
            self.quarantine(now, shard, effects);
        }
    }

    /// A late copy differs from what was settled on fewer words: a further shard decides who lied.
    fn dispute(
        &mut self,
        now: Micros,
        shard: ShardId,
        answer: Answer,
        lease: Option<&Lease>,
        effects: &mut Vec<Effect>,
    ) {
        let request = lease.and_then(|lease| {
            let mut requests = lease.assignment.requests.iter();
            Some((lease, requests.find(|r| r.key == answer.key)?))
        });
        let (Some((lease, request)), Some(settled)) = (request, self.cache.peek(&answer.key))
        else {
            // Without the request nobody can be asked who is right; the shard that came late is watched.
            if let Some(&slot) = self.by_shard.get(&shard) {
                self.strike(now, slot, effects);
            }
            return;
        };
        if self.disputes >= DISPUTES_MAX {
            return;
        }
        self.disputes += 1;
        let settled = settled.clone();
        let id = keccak256([&b"penstock/judge/1"[..], &answer.key.0[..]].concat());
        let again = GangRequest {
            key: answer.key,
            model: lease.assignment.model,
            mode: request.mode,
            input: request.input.clone(),
            igas: Igas(0),
            certain: true,
        };
        self.judge(now, id, again, effects);
        let Some(&slot) = self.by_key.get(&answer.key) else {
            return;
        };
        let Some(entry) = &mut self.entries[slot as usize] else {
            return;
        };
        // Two that agree outweigh one; more stood for the settled answer, more it takes.
        entry.judged = true;
        entry.quorum = (settled.attestations.len() as u8).max(2);
        for attestation in settled.attestations {
            let said = Answer {
                key: answer.key,
                outcome: settled.outcome.clone(),
                attestation,
            };
            entry.answers.insert(said.attestation.shard, said);
        }
        let first = settled.outcome.hash();
        let agreed = entry.answers.len();
        entry.answers.insert(shard, answer);
        if agreed >= usize::from(entry.quorum) {
            self.settle(now, slot, first, effects);
        } else {
            self.recount(slot);
        }
    }

    /// Asks for a settled request again, on behalf of nobody, behind all others.
    fn judge(&mut self, now: Micros, id: B256, request: GangRequest, effects: &mut Vec<Effect>) {
        let gang = Gang {
            id,
            sender: Address::ZERO,
            nonce: 0,
            value: 0,
            class: Class::Call,
            round: 1,
            arrival: Height(0),
            deadline: None,
            requests: vec![request],
        };
        self.enter(now, &gang, Known::Recomputes, effects);
    }

    pub(super) fn refused(
        &mut self,
        now: Micros,
        refused: &AssignmentRefused,
        effects: &mut Vec<Effect>,
    ) {
        let ours = self.epoch == Some(refused.epoch);
        if ours && refused.reason == RefuseReason::StaleEpoch {
            self.fenced = true;
            effects.push(Effect::Fenced);
            return;
        }
        let Some(&shard) = self.by_shard.get(&refused.shard) else {
            return;
        };
        let lease = self.leases.get(&refused.lease);
        if !ours || lease.is_none_or(|l| l.shard != shard) {
            return;
        }
        let member = &mut self.members[shard as usize];
        match refused.reason {
            RefuseReason::Late | RefuseReason::StaleEpoch => {}
            RefuseReason::Busy => self.back_off(now, shard),
            RefuseReason::NoModel => {
                if let Some(lease) = lease {
                    let model = lease.assignment.model;
                    member.hello.models.retain(|&m| m != model);
                    member.told.remove(&model);
                    self.costs_changed = true;
                }
            }
            RefuseReason::Draining => {
                member.hello.draining = true;
                self.urgent = true;
            }
            RefuseReason::OtherIncarnation => {
                for lease in member.leases.clone() {
                    self.release(now, lease, Released::Lost, effects);
                }
            }
            RefuseReason::EngineFailed => {
                self.release(now, refused.lease, Released::Failed, effects);
                self.strike(now, shard, effects);
            }
        }
        self.release(now, refused.lease, Released::Refused, effects);
    }
}
