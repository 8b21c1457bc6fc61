//! The durable stream of accepted transactions: read at start and on, written before a hash is returned, shortened by what left.

use super::recover::{Recovered, recover_items};
use super::{MempoolActor, account};
use actix::prelude::*;
use penstock_rules::ids::{Seq, TxHash};
use penstock_rules::mempool::Event;
use penstock_wire::QueueError;
use std::time::Duration;
use tracing::{debug, error, info, warn};

/// Items read at once from the durable stream.
const REPLAY_CHUNK: usize = 1_024;
/// Wait between two attempts to read it while its servers are away.
const REPLAY_RETRY: Duration = Duration::from_millis(500);
/// How often the durable stream is looked at for what another mempool accepted. Twice this is how late such a transaction
/// is at most; a look that finds nothing is one request.
const LOOK: Duration = Duration::from_millis(500);

/// Transactions of the durable stream.
#[derive(Message)]
#[rtype(result = "()")]
struct Replay(Vec<(Seq, Recovered)>);

/// The durable stream was read to its end: where it goes on.
#[derive(Message)]
#[rtype(result = "()")]
struct Replayed(Seq);

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
            let _ = addr.send(Replayed(from)).await;
        };
        ctx.spawn(replay.into_actor(self));
    }

    /// Reads on what others accept. After a partition two mempools lead until one hears of the other, and each answers a
    /// part of the submissions: what the other one accepted is durable, and nobody else would bring it into a block.
    fn read_on(&self, mut from: Seq, ctx: &mut Context<Self>) {
        let (queue, spec, addr) = (
            self.transport.accepted.clone(),
            self.head.spec.clone(),
            ctx.address(),
        );
        let read_on = async move {
            loop {
                tokio::time::sleep(LOOK).await;
                let items = match queue.others(from, REPLAY_CHUNK).await {
                    Ok((items, next)) => {
                        from = next;
                        items
                    }
                    // The next look may find the servers back.
                    Err(error @ QueueError::Unreachable { .. }) => {
                        debug!(%error, "what other mempools accepted can't be read now");
                        continue;
                    }
                    Err(error) => {
                        error!(%error, "what other mempools accepted can't be read, nor what is behind it");
                        return;
                    }
                };
                if items.is_empty() {
                    continue;
                }
                info!(count = items.len(), "another mempool accepted transactions");
                let spec = spec.clone();
                let work = tokio::task::spawn_blocking(move || recover_items(items, &spec));
                let Ok(batch) = work.await else { return };
                // The other one may have brought them into a block that gateways do not know of yet. Without this wait
                // they would hear first that the nonce is used.
                tokio::time::sleep(LOOK).await;
                if addr.send(Replay(batch)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(read_on.into_actor(self));
    }

    /// Notes where a transaction stands in the durable stream. It may stand there twice: two mempools accepted it.
    fn note(&mut self, hash: TxHash, seq: Seq) {
        let before = self.seqs.insert(hash, seq);
        self.forgotten.extend(before.filter(|old| *old != seq));
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
                            actor.note(hash, seq);
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
            self.note(tx.hash, seq);
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

    fn handle(&mut self, Replayed(end): Replayed, ctx: &mut Self::Context) {
        info!(transactions = self.machine.len(), "durable stream replayed");
        self.serve(ctx);
        self.serve_discards(ctx);
        self.read_on(end, ctx);
    }
}
