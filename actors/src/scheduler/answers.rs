//! Shards' answers on their way in: decoded, and their signatures checked, on blocking threads.
//!
//! ```text
//!  answers --> (all that are there) --> checks, some to a thread --> the machine, in the order in which they came
//! ```
//!
//! One after the other, a scheduler would wait for a thread's wake-up with each: 64 fast shards then wait for it.

use super::{Inputs, SchedulerActor, pull};
use crate::shell::listen;
use actix::prelude::*;
use bytes::Bytes;
use penstock_evm::check_attestation;
use penstock_rules::message::{AssignmentDone, AssignmentRefused};
use penstock_rules::scheduler::Event;
use penstock_wire::{Message as _, codec, decode};
use tracing::warn;

/// Messages that one blocking thread checks: each takes some 50 microseconds and more, a thread's wake-up as much.
const TO_A_THREAD: usize = 8;

impl SchedulerActor {
    /// Brings answers to the machine, once their signatures are checked.
    pub(super) fn follow_answers(&self, ctx: &mut Context<Self>) {
        let (bus, addr) = (self.transport.bus.clone(), ctx.address());
        let (subject, chain_id) = (self.subjects.answers(), self.subjects.chain_id());
        let read = async move {
            let mut inbox = listen(&subject, || bus.subscribe(&subject, super::INBOX)).await;
            while let Some(payloads) = pull(&mut inbox).await {
                let check = |part: &[Bytes]| {
                    let part = part.to_vec();
                    let read = move |payload: &Bytes| read_answer(payload, chain_id);
                    tokio::task::spawn_blocking(move || {
                        part.iter().filter_map(read).collect::<Vec<_>>()
                    })
                };
                let checks: Vec<_> = payloads.chunks(TO_A_THREAD).map(check).collect();
                let mut events = Vec::with_capacity(payloads.len());
                for check in checks {
                    let Ok(genuine) = check.await else {
                        return;
                    };
                    events.extend(genuine);
                }
                if !events.is_empty() && addr.send(Inputs(events)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(read.into_actor(self));
    }
}

/// Decodes a shard's answer and checks its signatures.
fn read_answer(payload: &Bytes, chain_id: u64) -> Option<Event> {
    let kind = codec::kind(payload).ok()?;
    if kind == AssignmentRefused::KIND {
        return match decode::<AssignmentRefused>(payload) {
            Ok(refused) => Some(Event::Refused(refused)),
            Err(error) => {
                warn!(%error, "refusal is malformed");
                None
            }
        };
    }
    let done = match decode::<AssignmentDone>(payload) {
        Ok(done) => done,
        Err(error) => {
            warn!(%error, "answer is malformed");
            return None;
        }
    };
    let genuine = done.answers.iter().all(|answer| {
        answer.attestation.shard == done.shard
            && check_attestation(
                &answer.attestation,
                chain_id,
                answer.key,
                answer.outcome.hash(),
            )
    });
    if genuine {
        return Some(Event::Done(done));
    }
    warn!(shard = %done.shard, "answer with a forged signature");
    metrics::counter!("scheduler_forged_answers_total").increment(1);
    Some(Event::Forged { shard: done.shard })
}
