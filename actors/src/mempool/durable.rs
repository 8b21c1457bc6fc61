//! The durable stream of accepted transactions: read at start, written before a hash is returned, shortened by what left.

use super::recover::{Recovered, recover_items};
use super::{MempoolActor, account};
use actix::prelude::*;
use penstock_rules::ids::Seq;
use penstock_rules::mempool::Event;
use penstock_wire::QueueError;
use std::time::Duration;
use tracing::{info, warn};

/// Items read at once from the durable stream at start.
const REPLAY_CHUNK: usize = 1_024;
/// Wait between two attempts to read it while its servers are away.
const REPLAY_RETRY: Duration = Duration::from_millis(500);

/// Transactions of the durable stream, at start.
#[derive(Message)]
#[rtype(result = "()")]
struct Replay(Vec<(Seq, Recovered)>);

/// The durable stream was read to its end.
#[derive(Message)]
#[rtype(result = "()")]
struct Replayed;

impl MempoolActor {
    /// Reads the durable stream, then opens the door.
    pub(super) fn replay(&self, ctx: &mut Context<Self>) {
        let (queue, spec, addr) = (
            self.transport.accepted.clone(),
            self.head.spec.clone(),
            ctx.address(),
        );
        let replay = async move {
            let mut from = Seq(1);
            loop {
                let items = match queue.replay(from, REPLAY_CHUNK).await {
                    Ok(items) => items,
                    // A standby takes over when it hears no leader: also when the servers are gone for both. They come
                    // back, and no restart would bring them.
                    Err(error @ QueueError::Unreachable { .. }) => {
                        warn!(%error, "accepted transactions can't be read yet");
                        tokio::time::sleep(REPLAY_RETRY).await;
                        continue;
                    }
                    Err(error) => panic!("accepted transactions can't be read: {error}"),
                };
                let Some(last) = items.last() else { break };
                from = Seq(last.seq.0 + 1);
                let spec = spec.clone();
                let work = tokio::task::spawn_blocking(move || recover_items(items, &spec));
                let Ok(batch) = work.await else { return };
                if addr.send(Replay(batch)).await.is_err() {
                    return;
                }
            }
            let _ = addr.send(Replayed).await;
        };
        ctx.spawn(replay.into_actor(self));
    }

    /// Writes what waits, unless a write is on its way: what comes meanwhile is the next one.
    pub(super) fn write(&mut self, ctx: &mut Context<Self>) {
        if self.writing || self.unwritten.is_empty() {
            return;
        }
        self.writing = true;
        let items = std::mem::take(&mut self.unwritten);
        let hashes: Vec<_> = items.iter().map(|(hash, _)| *hash).collect();
        let items = items.into_iter().map(|(hash, raw)| (hash, raw.0)).collect();
        let queue = self.transport.accepted.clone();
        let append = async move { queue.append(items).await };
        ctx.spawn(append.into_actor(self).map(move |result, actor, ctx| {
            actor.writing = false;
            let events: Vec<_> = match result {
                Ok(seqs) => {
                    let written = hashes.into_iter().zip(seqs);
                    written
                        .map(|(hash, seq)| {
                            actor.seqs.insert(hash, seq);
                            Event::Persisted { hash }
                        })
                        .collect()
                }
                Err(error) => {
                    warn!(%error, count = hashes.len(), "accepted transactions were not written");
                    let failed = hashes.into_iter();
                    failed.map(|hash| Event::PersistFailed { hash }).collect()
                }
            };
            actor.input_all(events, ctx);
        }));
    }

    pub(super) fn forget(&mut self, ctx: &mut Context<Self>) {
        if self.forgotten.is_empty() {
            return;
        }
        let seqs = std::mem::take(&mut self.forgotten);
        let queue = self.transport.accepted.clone();
        let remove = async move {
            // What stays in the stream is known by its nonce at the next start.
            if let Err(error) = queue.remove(&seqs).await {
                warn!(%error, count = seqs.len(), "durable stream was not shortened");
            }
        };
        ctx.spawn(remove.into_actor(self));
    }
}

impl Handler<Replay> for MempoolActor {
    type Result = ();

    fn handle(&mut self, Replay(batch): Replay, ctx: &mut Self::Context) {
        let mut events = Vec::with_capacity(batch.len());
        for (seq, Recovered { tx, content }) in batch {
            self.seqs.insert(tx.hash, seq);
            events.push(Event::Replayed {
                account: account(&self.head, tx.sender),
                tx,
                content,
            });
        }
        self.input_all(events, ctx);
    }
}

impl Handler<Replayed> for MempoolActor {
    type Result = ();

    fn handle(&mut self, _: Replayed, ctx: &mut Self::Context) {
        info!(transactions = self.machine.len(), "durable stream replayed");
        self.serve(ctx);
        self.serve_discards(ctx);
    }
}
