//! What outlives a scheduler, in the durable queue: the newest results, who lied, and what senders paid and wasted.

use super::{Input, SchedulerActor};
use crate::shell::now;
use actix::prelude::*;
use alloy_primitives::keccak256;
use penstock_rules::ids::{Epoch, Micros, Seq};
use penstock_rules::request::Settled;
use penstock_rules::scheduler::{Event, Evidence, Reputation};
use penstock_wire::{decode, encode};
use std::collections::VecDeque;
use tracing::{info, warn};

/// Settled results that stay in the durable queue, for who takes over: some seconds of a busy network.
const RESULTS_KEPT: usize = 65_536;
/// Results read at once at the start.
const REPLAY_CHUNK: usize = 1_024;
/// How often what senders paid and wasted is written, where it changed: what a killed scheduler forgets is younger.
const REPUTATION_EVERY: Micros = Micros::from_secs(10);

/// Where in the queue what is.
#[derive(Default)]
pub(super) struct Durable {
    /// Results, oldest first.
    kept: VecDeque<Seq>,
    /// The newest reputation: where, and what.
    remembered: Option<Seq>,
    reputation: Reputation,
    written: Micros,
}

/// Results are in the durable queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Kept(Vec<Seq>);

/// A reputation is in the durable queue.
#[derive(Message)]
#[rtype(result = "()")]
struct Remembered(Seq);

impl SchedulerActor {
    /// Takes over, with what an earlier scheduler settled.
    pub(super) fn recover(&self, ctx: &mut Context<Self>) {
        let (queue, addr) = (self.transport.results.clone(), ctx.address());
        let read = async move {
            let mut from = Seq(1);
            loop {
                let items = match queue.replay(from, REPLAY_CHUNK).await {
                    Ok(items) => items,
                    Err(error) => {
                        warn!(%error, "settled results can't be read: some will be computed again");
                        break;
                    }
                };
                let Some(last) = items.last() else { break };
                from = Seq(last.seq.0 + 1);
                let mut seqs = Vec::new();
                for item in items {
                    if let Ok(settled) = decode::<Settled>(&item.bytes) {
                        seqs.push(item.seq);
                        let _ = addr.send(Input(Event::Recovered(settled))).await;
                    } else if let Ok(reputation) = decode::<Reputation>(&item.bytes) {
                        let _ = addr.send(Input(Event::Reputation(reputation))).await;
                        let _ = addr.send(Remembered(item.seq)).await;
                    } else if let Ok(evidence) = decode::<Evidence>(&item.bytes) {
                        // It is not among what is removed when the queue is full: who lied is remembered.
                        let _ = addr.send(Input(Event::Convicted(evidence.shard))).await;
                    }
                }
                let _ = addr.send(Kept(seqs)).await;
            }
            // The time of start, in µs: later than that of any scheduler before.
            let epoch = Epoch(now().0);
            info!(epoch = epoch.0, "scheduler leads");
            let _ = addr.send(Input(Event::TookOver { epoch })).await;
        };
        ctx.spawn(read.into_actor(self));
    }

    /// Makes a conviction durable: who takes over knows whom not to ask.
    pub(super) fn keep_evidence(&self, evidence: &Evidence, ctx: &mut Context<Self>) {
        let id = keccak256(encode(evidence));
        let (queue, items) = (self.transport.results.clone(), vec![(id, encode(evidence))]);
        let append = async move {
            if let Err(error) = queue.append(items).await {
                warn!(%error, "evidence against a shard is not durable");
            }
        };
        ctx.spawn(append.into_actor(self));
    }

    /// Makes settled answers durable, so that who takes over does not compute them again.
    pub(super) fn keep(&self, settled: Vec<Settled>, ctx: &mut Context<Self>) {
        let items = settled
            .iter()
            .map(|answer| (answer.key.0, encode(answer)))
            .collect();
        let (queue, addr) = (self.transport.results.clone(), ctx.address());
        let append = async move {
            match queue.append(items).await {
                Ok(seqs) => {
                    let _ = addr.send(Kept(seqs)).await;
                }
                Err(error) => warn!(%error, "settled results are not durable"),
            }
        };
        ctx.spawn(append.into_actor(self));
    }

    /// Makes what senders paid and wasted durable, where that changed and was not just done.
    pub(super) fn keep_reputation(&mut self, ctx: &mut Context<Self>) {
        let at = now();
        if at < self.durable.written.saturating_add(REPUTATION_EVERY) {
            return;
        }
        self.durable.written = at;
        let reputation = self.machine.reputation(at);
        if reputation == self.durable.reputation {
            return;
        }
        let bytes = encode(&reputation);
        let (queue, addr) = (self.transport.results.clone(), ctx.address());
        let items = vec![(keccak256(&bytes), bytes)];
        let append = async move {
            match queue.append(items).await {
                Ok(seqs) => {
                    for seq in seqs {
                        let _ = addr.send(Remembered(seq)).await;
                    }
                }
                Err(error) => warn!(%error, "what senders paid and wasted is not durable"),
            }
        };
        ctx.spawn(append.into_actor(self));
        self.durable.reputation = reputation;
    }

    fn remove(&self, old: Vec<Seq>, ctx: &mut Context<Self>) {
        let queue = self.transport.results.clone();
        let remove = async move {
            if let Err(error) = queue.remove(&old).await {
                warn!(%error, "what is old can't be removed from the durable queue");
            }
        };
        ctx.spawn(remove.into_actor(self));
    }
}

impl Handler<Kept> for SchedulerActor {
    type Result = ();

    /// The durable queue keeps the newest results alone.
    fn handle(&mut self, Kept(seqs): Kept, ctx: &mut Self::Context) {
        self.durable.kept.extend(seqs);
        let surplus = self.durable.kept.len().saturating_sub(RESULTS_KEPT);
        if surplus == 0 {
            return;
        }
        let old: Vec<_> = self.durable.kept.drain(..surplus).collect();
        self.remove(old, ctx);
    }
}

impl Handler<Remembered> for SchedulerActor {
    type Result = ();

    /// The newest has all that those before it had.
    fn handle(&mut self, Remembered(seq): Remembered, ctx: &mut Self::Context) {
        let known = self.durable.remembered.replace(seq).unwrap_or(seq);
        self.durable.remembered = Some(seq.max(known));
        if known != seq {
            self.remove(vec![seq.min(known)], ctx);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::boot;
    use crate::chain::chain;
    use crate::scheduler::{SchedulerConfig, start};
    use crate::shell;
    use alloy_primitives::{Address, B256};
    use penstock_evm::{ChainSpec, Genesis};
    use penstock_rules::ids::Igas;
    use penstock_rules::producer::Timetable;
    use penstock_rules::scheduler::{Config, Included};
    use penstock_store::Store;
    use penstock_wire::{Transport, memory};

    /// What the scheduler knows of senders.
    #[derive(Message)]
    #[rtype(result = "Reputation")]
    struct Ask;

    impl Handler<Ask> for SchedulerActor {
        type Result = MessageResult<Ask>;

        fn handle(&mut self, _: Ask, _: &mut Self::Context) -> Self::Result {
            MessageResult(self.machine.reputation(now()))
        }
    }

    /// As if it was last written long ago.
    #[derive(Message)]
    #[rtype(result = "()")]
    struct Write;

    impl Handler<Write> for SchedulerActor {
        type Result = ();

        fn handle(&mut self, _: Write, ctx: &mut Self::Context) {
            self.durable.written = Micros(0);
            self.keep_reputation(ctx);
        }
    }

    async fn written(transport: &Transport) -> Vec<Reputation> {
        let items = transport
            .results
            .replay(Seq(1), 100)
            .await
            .expect("a queue");
        let found = items.iter().filter_map(|item| decode(&item.bytes).ok());
        found.collect()
    }

    /// Looks again until it is so: all else would be a wait without end.
    async fn until(what: &str, mut look: impl AsyncFnMut() -> bool) {
        for _ in 0..1_000 {
            if look().await {
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        panic!("not in ten seconds: {what}");
    }

    #[actix_rt::test]
    async fn who_takes_over_knows_what_senders_paid_and_one_word_of_it_is_kept() {
        let folder = tempfile::tempdir().expect("a folder");
        let store = Store::open(folder.path(), Default::default()).expect("a store");
        let genesis = Genesis {
            spec: ChainSpec::default(),
            timestamp: 1_000,
            alloc: Default::default(),
            owner: Address::ZERO,
            shards: Vec::new(),
            models: Vec::new(),
        };
        let head = boot::open(&store, &genesis).expect("a chain");
        let (_publisher, handle) = chain(head);
        let transport = memory::volatile().await.expect("a transport");
        let config = SchedulerConfig {
            machine: Config::default(),
            timetable: Timetable::AtOnce,
            decisions: None,
        };
        let begin = || start(config.clone(), transport.clone(), handle.clone(), None);

        let first = begin();
        for (round, sender) in [(1, 7), (2, 8)] {
            let included = Event::Included(Included {
                id: B256::repeat_byte(sender),
                sender: Address::repeat_byte(sender),
                igas: Igas(5_000),
                keys: Vec::new(),
            });
            first.send(Input(included)).await.expect("it runs");
            first.send(Write).await.expect("it runs");
            let newest = async || {
                let all = written(&transport).await;
                all.len() == 1 && all[0].accounts.len() == round
            };
            until("the newest alone is kept", newest).await;
        }
        let known = first.send(Ask).await.expect("it runs");
        assert_eq!(known.accounts.len(), 2);
        shell::stop(&first).await;

        let second = begin();
        let told = async || second.send(Ask).await.expect("it runs") == known;
        until("the next scheduler knows the same", told).await;
        shell::stop(&second).await;
    }
}
