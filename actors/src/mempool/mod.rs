//! Shell of the mempool: serves submissions, recovers senders in batches, writes the durable stream, follows the head.
//!
//! ```text
//!  bus "submit" --batch--> recover (all cores) --> machine --Persist--> one append at a time --> Persisted --> reply
//!  chain --------blocks------------------------------^  \--Pending, Gone, Advanced--> extractor, in order
//! ```

mod durable;
mod recover;

use crate::chain::{ChainHandle, ChainHead};
use crate::extractor::{ExtractorActor, FromMempool, Meet, Told};
use crate::outbox::Outbox;
use crate::shell::{Stop, listen, now};
use actix::prelude::*;
use alloy_primitives::{Address, Bytes};
use penstock_evm::next_env;
use penstock_rules::Machine;
use penstock_rules::dev::requests;
use penstock_rules::extractor;
use penstock_rules::ids::{Seq, TxHash};
use penstock_rules::mempool::{AccountView, Effect, Event, Limits, Mempool, Ticket};
use penstock_rules::message::{Discard, DiscardReply, Role, SubmitReply};
use penstock_rules::tx::{DropReason, PoolTx, Refusal};
use penstock_wire::trace::TraceParent;
use penstock_wire::{Delivery, Subjects, Transport, decode, encode};
use recover::{Recovered, Recovering, recover_deliveries, recover_delivery};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, info, warn};

/// Messages that wait for the mempool, in number: each is a batch, so a few are many transactions.
const MAILBOX: usize = 64;
/// Submissions that wait at the bus, in number: a tenth of a second at the rate that one core recovers senders.
const SUBMIT_INBOX: usize = 4_096;
/// Submissions recovered in one go, in number: 5 ms on two cores, so that the first does not wait long.
const RECOVER_BATCH: usize = 256;
/// Submissions recovered without other threads, in number, at some 40 us each: to wake others and wait saves little there.
const INLINE_RECOVER_MAX: usize = 2;
/// Events that wait for the extractor, in number. Beyond it the door is closed ("busy"): what is told must not be lost.
const EXTRACTOR_BACKLOG_MAX: usize = 65_536;
/// How often the machine is told the time: an expiry is this late at most.
const TICK: Duration = Duration::from_millis(500);
/// Queue group of all mempools of a chain: one of them takes each submission.
const GROUP: &str = "mempool";

/// What an account is at this head.
fn account(head: &ChainHead, address: Address) -> AccountView {
    use penstock_rules::state::StateRead;
    let account = match head.state.account(address) {
        Ok(account) => account.unwrap_or_default(),
        Err(never) => match never {},
    };
    AccountView {
        nonce: account.nonce,
        balance: account.balance,
    }
}

/// Wei per gas of the block that will be built on this head.
pub(crate) fn next_base_fee(head: &ChainHead) -> u128 {
    let env = next_env(&head.spec, &head.state, &head.header, head.header.timestamp);
    u128::from(env.base_fee)
}

/// The mempool's actor.
pub struct MempoolActor {
    machine: Mempool,
    transport: Transport,
    subjects: Subjects,
    status: Arc<str>,
    outbox: Option<Outbox>,
    chain: ChainHandle,
    /// The head that the machine knows of.
    head: Arc<ChainHead>,
    extractor: Addr<ExtractorActor>,
    /// What the extractor is to be told next, in order, and whether something is on its way.
    backlog: VecDeque<Told>,
    telling: bool,
    /// Who waits for which answer.
    waiting: BTreeMap<Ticket, Delivery>,
    tickets: u64,
    /// What is to be written next, and whether a write is on its way.
    unwritten: Vec<(TxHash, Bytes)>,
    writing: bool,
    /// Where each transaction stands in the durable stream.
    seqs: BTreeMap<TxHash, Seq>,
    forgotten: Vec<Seq>,
}

/// Submissions whose senders are recovered.
#[derive(Message)]
#[rtype(result = "()")]
struct Batch(Vec<Recovering>);

/// A new head, or, after blocks were missed, a head whose predecessors are unknown.
#[derive(Message)]
#[rtype(result = "()")]
struct NewHead {
    head: Arc<ChainHead>,
    missed: bool,
}

/// From the extractor, about transactions of the pool.
#[derive(Message)]
#[rtype(result = "()")]
pub struct Feedback(pub Vec<Event>);

/// A gateway asks for transactions to be dropped.
#[derive(Message)]
#[rtype(result = "()")]
struct Discarded(Delivery);

/// What the pool holds: the pending and the queued transactions by sender and nonce, for `txpool_*`.
#[derive(Message)]
#[rtype(result = "Vec<(PoolTx, bool)>")]
pub struct Content;

/// Starts a mempool: best on the arbiter of its extractor, since to wake another thread costs more than what a few
/// transactions ask of either. It serves submissions once the durable stream is replayed.
#[must_use]
pub fn start(
    on: &ArbiterHandle,
    limits: Limits,
    transport: Transport,
    chain: ChainHandle,
    extractor: Addr<ExtractorActor>,
) -> Addr<MempoolActor> {
    MempoolActor::start_in_arbiter(on, move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let head = chain.head();
        let limits = Limits {
            gas_max: limits.gas_max.min(head.spec.tx_gas_limit_max()),
            ..limits
        };
        let subjects = Subjects::new(head.spec.chain_id);
        MempoolActor {
            machine: Mempool::new(limits, head.height, next_base_fee(&head)),
            status: subjects.status().into(),
            subjects,
            transport,
            outbox: None,
            chain,
            head,
            extractor,
            backlog: VecDeque::new(),
            telling: false,
            waiting: BTreeMap::new(),
            tickets: 0,
            unwritten: Vec::new(),
            writing: false,
            seqs: BTreeMap::new(),
            forgotten: Vec::new(),
        }
    })
}

impl Actor for MempoolActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.outbox = Some(Outbox::start(self.transport.bus.clone()));
        let meet = self.extractor.send(Meet(ctx.address()));
        ctx.wait(meet.into_actor(self).map(|_, _, _| ()));
        self.tell(Told::Head(self.head.clone()), ctx);
        self.follow_head(ctx);
        self.replay(ctx);
        ctx.run_interval(TICK, |actor, ctx| actor.input(Event::Tick, ctx));
    }
}

impl MempoolActor {
    /// Brings every block to the machine, in order.
    fn follow_head(&self, ctx: &mut Context<Self>) {
        let (chain, addr) = (self.chain.clone(), ctx.address());
        let mut blocks = chain.blocks();
        let mut height = self.head.height;
        let follow = async move {
            // Blocks between the head that this actor was made with and the subscription.
            let mut missed = chain.head().height > height;
            loop {
                let head = if missed {
                    chain.head()
                } else {
                    match blocks.recv().await {
                        Ok(head) => head,
                        Err(RecvError::Lagged(count)) => {
                            warn!(count, "mempool lags behind the head");
                            missed = true;
                            continue;
                        }
                        Err(RecvError::Closed) => return,
                    }
                };
                if head.height <= height {
                    missed = false;
                    continue;
                }
                missed |= head.height > height.next();
                height = head.height;
                let message = NewHead { head, missed };
                if addr.send(message).await.is_err() {
                    return;
                }
                missed = false;
            }
        };
        ctx.spawn(follow.into_actor(self));
    }

    /// Serves submissions: while one batch is recovered, the next one gathers at the bus.
    fn serve(&self, ctx: &mut Context<Self>) {
        let (bus, subject) = (self.transport.bus.clone(), self.subjects.submit());
        let (spec, addr) = (self.head.spec.clone(), ctx.address());
        let serve = async move {
            let mut inbox = listen(&subject, || bus.serve(&subject, GROUP, SUBMIT_INBOX)).await;
            info!("mempool takes transactions");
            while let Some(first) = inbox.next().await {
                let mut deliveries = vec![first];
                while deliveries.len() < RECOVER_BATCH
                    && let Some(next) = inbox.try_next()
                {
                    deliveries.push(next);
                }
                let batch = if deliveries.len() <= INLINE_RECOVER_MAX {
                    let recover = |delivery| recover_delivery(delivery, &spec);
                    deliveries.into_iter().map(recover).collect()
                } else {
                    let spec = spec.clone();
                    let work =
                        tokio::task::spawn_blocking(move || recover_deliveries(deliveries, &spec));
                    let Ok(batch) = work.await else { return };
                    batch
                };
                if addr.send(Batch(batch)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(serve.into_actor(self));
    }

    /// Drops what gateways ask to be dropped.
    fn serve_discards(&self, ctx: &mut Context<Self>) {
        let (bus, subject, addr) = (
            self.transport.bus.clone(),
            self.subjects.discard(),
            ctx.address(),
        );
        let serve = async move {
            let mut inbox = listen(&subject, || bus.serve(&subject, GROUP, MAILBOX)).await;
            while let Some(delivery) = inbox.next().await {
                if addr.send(Discarded(delivery)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(serve.into_actor(self));
    }

    fn discard(&mut self, delivery: Delivery, ctx: &mut Context<Self>) {
        let asked = match decode::<Discard>(&delivery.payload) {
            Ok(asked) => asked,
            Err(error) => return warn!(%error, "discard is malformed"),
        };
        let allowed = penstock_evm::dev::allowed(&self.head.spec);
        let hashes = asked.hashes.unwrap_or_else(|| {
            let all = self.machine.iter();
            all.map(|(tx, _)| tx.hash).collect()
        });
        let gone: Vec<_> = hashes
            .into_iter()
            .filter(|hash| allowed && self.machine.get(hash).is_some())
            .collect();
        let reason = DropReason::Asked;
        let events = gone.iter().map(|&hash| Event::Drop { hash, reason });
        self.input_all(events.collect::<Vec<_>>(), ctx);
        let (bus, reply) = (self.transport.bus.clone(), DiscardReply { gone });
        let send = async move {
            if let Err(error) = bus.reply(&delivery, encode(&reply)).await {
                debug!(%error, "answer to a discard was not sent");
            }
        };
        ctx.spawn(send.into_actor(self));
    }

    fn input(&mut self, event: Event, ctx: &mut Context<Self>) {
        self.input_all([event], ctx);
    }

    fn input_all(&mut self, events: impl IntoIterator<Item = Event>, ctx: &mut Context<Self>) {
        let (at, mut effects) = (now(), Vec::new());
        for event in events {
            self.machine.apply(at, event, &mut effects);
        }
        let mut replies = Vec::new();
        for effect in effects {
            self.perform(effect, &mut replies, ctx);
        }
        self.reply(replies, ctx);
        self.write(ctx);
        self.forget(ctx);
        metrics::gauge!("mempool_transactions").set(self.machine.len() as f64);
    }

    fn perform(
        &mut self,
        effect: Effect,
        replies: &mut Vec<(Delivery, SubmitReply)>,
        ctx: &mut Context<Self>,
    ) {
        match effect {
            Effect::Persist(tx) => self.unwritten.push((tx.hash, tx.raw)),
            Effect::Accept { ticket, hash } => {
                metrics::counter!("mempool_accepted_total").increment(1);
                debug!(tx = %hash, "accepted");
                self.answer(ticket, Ok(hash), replies);
            }
            Effect::Refuse { ticket, refusal } => self.answer(ticket, Err(refusal), replies),
            Effect::Pending { tx, arrival } => {
                let event = extractor::Event::Pending { tx, arrival };
                self.tell(Told::Event(event), ctx);
            }
            Effect::Parked { hash } => {
                self.tell(Told::Event(extractor::Event::Parked { hash }), ctx);
            }
            Effect::Gone { hash, how } => {
                debug!(tx = %hash, ?how, "left the pool");
                self.tell(Told::Event(extractor::Event::Gone { hash, how }), ctx);
            }
            Effect::Advanced { .. } => self.tell(Told::Head(self.head.clone()), ctx),
            Effect::Forget { hash } => self.forgotten.extend(self.seqs.remove(&hash)),
            Effect::Status(update) => {
                if let Some(outbox) = &self.outbox {
                    let trace = TraceParent::of(update.hash, Role::Mempool.name());
                    outbox.publish(&self.status, &update, trace);
                }
            }
        }
    }

    fn answer(
        &mut self,
        ticket: Ticket,
        result: Result<TxHash, Refusal>,
        replies: &mut Vec<(Delivery, SubmitReply)>,
    ) {
        if let Some(delivery) = self.waiting.remove(&ticket) {
            replies.push((delivery, SubmitReply { result }));
        }
    }

    fn reply(&self, replies: Vec<(Delivery, SubmitReply)>, ctx: &mut Context<Self>) {
        if replies.is_empty() {
            return;
        }
        let bus = self.transport.bus.clone();
        let send = async move {
            for (delivery, reply) in replies {
                if let Err(refusal) = &reply.result {
                    metrics::counter!("mempool_refused_total").increment(1);
                    debug!(%refusal, "refused");
                }
                if let Err(error) = bus.reply(&delivery, encode(&reply)).await {
                    debug!(%error, "answer to a submission was not sent");
                }
            }
        };
        ctx.spawn(send.into_actor(self));
    }

    /// Tells the extractor, in order, without waiting here.
    fn tell(&mut self, told: Told, ctx: &mut Context<Self>) {
        self.backlog.push_back(told);
        self.tell_next(ctx);
    }

    fn tell_next(&mut self, ctx: &mut Context<Self>) {
        if self.telling || self.backlog.is_empty() {
            return;
        }
        self.telling = true;
        // Spawned, it runs after the handler that calls this: all that the handler adds goes with it.
        let send = async {}.into_actor(self).then(|(), actor, _| {
            let events = FromMempool(std::mem::take(&mut actor.backlog).into());
            let extractor = actor.extractor.clone();
            async move { extractor.send(events).await }.into_actor(actor)
        });
        ctx.spawn(send.map(|result, actor, ctx| {
            actor.telling = false;
            if result.is_ok() {
                actor.tell_next(ctx);
            }
        }));
    }

    /// What the blocks up to this head mean for the machine.
    fn block_event(&self, missed: bool) -> Event {
        let head = &self.head;
        let at = head.height;
        let included = head.included.iter().map(|hash| (*hash, at)).collect();
        let accounts = match &head.executed {
            Some(executed) if !missed => executed
                .diff
                .accounts
                .iter()
                .map(|change| {
                    let account = change.now.first().copied().unwrap_or_default();
                    let view = AccountView {
                        nonce: account.nonce,
                        balance: account.balance,
                    };
                    (change.address, view)
                })
                .collect(),
            _ => {
                let senders = self.machine.senders();
                senders
                    .map(|sender| (sender, account(head, sender)))
                    .collect()
            }
        };
        Event::Block {
            height: head.height,
            base_fee: next_base_fee(head),
            accounts,
            included,
        }
    }
}

impl Handler<Batch> for MempoolActor {
    type Result = ();

    fn handle(&mut self, Batch(batch): Batch, ctx: &mut Self::Context) {
        let busy = self.backlog.len() > EXTRACTOR_BACKLOG_MAX;
        let (mut events, mut replies) = (Vec::with_capacity(batch.len()), Vec::new());
        for (delivery, result) in batch {
            let result = if busy { Err(Refusal::Busy) } else { result };
            match result {
                Err(refusal) => {
                    let result = Err(refusal);
                    replies.push((delivery, SubmitReply { result }));
                }
                Ok(Recovered { tx, content }) => {
                    self.tickets += 1;
                    let ticket = Ticket(self.tickets);
                    self.waiting.insert(ticket, delivery);
                    events.push(Event::Submit {
                        account: account(&self.head, tx.sender),
                        tx,
                        content,
                        ticket,
                    });
                }
            }
        }
        self.reply(replies, ctx);
        self.input_all(events, ctx);
    }
}

impl Handler<NewHead> for MempoolActor {
    type Result = ();

    fn handle(&mut self, NewHead { head, missed }: NewHead, ctx: &mut Self::Context) {
        self.head = head;
        if let Some(executed) = &self.head.executed {
            let keys = requests(&executed.block.witness)
                .iter()
                .map(|entry| entry.key)
                .collect();
            self.tell(Told::Event(extractor::Event::Consumed { keys }), ctx);
        }
        let event = self.block_event(missed);
        self.input(event, ctx);
    }
}

impl Handler<Feedback> for MempoolActor {
    type Result = ();

    fn handle(&mut self, Feedback(events): Feedback, ctx: &mut Self::Context) {
        self.input_all(events, ctx);
    }
}

impl Handler<Discarded> for MempoolActor {
    type Result = ();

    fn handle(&mut self, Discarded(delivery): Discarded, ctx: &mut Self::Context) {
        self.discard(delivery, ctx);
    }
}

impl Handler<Content> for MempoolActor {
    type Result = MessageResult<Content>;

    fn handle(&mut self, _: Content, _: &mut Self::Context) -> Self::Result {
        let all = self.machine.iter();
        MessageResult(all.map(|(tx, pending)| (tx.clone(), pending)).collect())
    }
}

impl Handler<Stop> for MempoolActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        // Whose transaction is not written yet gets no answer: it may send it again.
        ctx.stop();
    }
}
