//! Shell of the producer: builds on a blocking thread, signs, appends, keeps time, and carries out orders.

mod build;
mod orders;

use crate::chain::{ChainHandle, ChainHead, OwnBlocks};
use crate::results::ResultBook;
use crate::shell::{Stop, listen, now, until};
use actix::prelude::*;
use build::Work;
use orders::Snapshots;
use penstock_evm::dev::{self, settings};
use penstock_evm::{ExecutedBlock, Genesis, SigningKey, next_env};
use penstock_rules::Machine;
use penstock_rules::dev::{DevAnswer, DevAsk, DevDone, DevOrder, DevRefusal, requests};
use penstock_rules::ids::{Epoch, Height, Micros, Seq};
use penstock_rules::message::{Withdraw, Withheld};
use penstock_rules::producer::{
    AppendFailure, Attempt, Effect, Event, ORDERS_MAX, OrderId, Parent, Producer, Start, Timetable,
};
use penstock_rules::tx::ReadyTx;
use penstock_wire::{AppendError, Delivery, Subjects, Transport, decode, encode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tracing::{debug, info, warn};

/// Messages that wait for the producer, in number: a block's worth of ready transactions.
const MAILBOX: usize = 8_192;
/// Ready transactions that wait at the bus, in number.
const READY_INBOX: usize = 65_536;
/// Queue group of all producers: one of them takes each order. Orders are for chains with one.
const GROUP: &str = "producer";
/// How long a snapshot waits for a block that its asker has seen already.
const SNAPSHOT_PATIENCE: Duration = Duration::from_secs(5);

/// What a producer is started with.
#[derive(Clone, Debug)]
pub struct ProducerConfig {
    /// When blocks are made.
    pub timetable: Timetable,
    /// Whether it leads from the start.
    pub start: Start,
    /// Signs blocks. Its address is one of the chain's producers.
    pub key: SigningKey,
    /// What block 0 is made of, for a chain that is to be brought back to it.
    pub genesis: Option<Arc<Genesis>>,
}

/// The producer's actor.
pub struct ProducerActor {
    machine: Producer,
    transport: Transport,
    subjects: Subjects,
    chain: ChainHandle,
    results: ResultBook,
    own: OwnBlocks,
    key: SigningKey,
    builds: BTreeMap<Attempt, Build>,
    /// Who waits for which order.
    waiting: BTreeMap<OrderId, (Delivery, Arc<DevOrder>)>,
    orders: OrderId,
    snapshots: Snapshots,
    genesis: Option<Arc<Genesis>>,
    wake: Option<(Micros, SpawnHandle)>,
}

/// A block that was built, and the slot that it is for.
struct Build {
    block: Option<Arc<ExecutedBlock>>,
    slot: Option<Micros>,
}

/// An event for the machine.
#[derive(Message)]
#[rtype(result = "()")]
struct Input(Event);

/// A gateway asks for something.
#[derive(Message)]
#[rtype(result = "()")]
struct Asked(Delivery);

/// The fencing token, where this producer leads.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "Option<Epoch>")]
pub struct Leading;

/// Starts a producer on its own arbiter.
#[must_use]
pub fn start(
    config: ProducerConfig,
    transport: Transport,
    chain: ChainHandle,
    results: ResultBook,
    own: OwnBlocks,
) -> Addr<ProducerActor> {
    let arbiter = Arbiter::new();
    ProducerActor::start_in_arbiter(&arbiter.handle(), move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let head = chain.head();
        ProducerActor {
            machine: Producer::new(config.timetable, config.start, parent_of(&head), now()),
            subjects: Subjects::new(head.spec.chain_id),
            transport,
            chain,
            results,
            own,
            key: config.key,
            builds: BTreeMap::new(),
            waiting: BTreeMap::new(),
            orders: 0,
            snapshots: Snapshots::default(),
            genesis: config.genesis,
            wake: None,
        }
    })
}

/// The machine's view of a head.
fn parent_of(head: &ChainHead) -> Parent {
    let next = next_env(&head.spec, &head.state, &head.header, head.header.timestamp);
    let set = settings(&head.state);
    Parent {
        height: head.height,
        hash: head.hash,
        timestamp_secs: head.header.timestamp,
        seq: head.log_seq,
        next_base_fee: u128::from(next.base_fee),
        clock: set.clock,
        mining: set.mining,
    }
}

impl Actor for ProducerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.follow_head(ctx);
        self.follow_bus(ctx);
        self.serve(ctx);
        ctx.notify(Input(Event::Tick));
    }
}

impl ProducerActor {
    /// Brings every head to the machine, and log positions that pass without one.
    fn follow_head(&self, ctx: &mut Context<Self>) {
        let (mut heads, addr) = (self.chain.subscribe(), ctx.address());
        let mut seen = self.chain.head().height;
        let mut blocks = self.chain.blocks();
        // The head may have moved since the machine was made: without this it would build on the old one for ever.
        heads.mark_changed();
        ctx.spawn(
            async move {
                while heads.changed().await.is_ok() {
                    let head = heads.borrow_and_update().clone();
                    // Heads in between were skipped by the watch: their transactions are told too.
                    let mut included = Vec::new();
                    while let Ok(block) = blocks.try_recv() {
                        included.extend_from_slice(&block.included);
                    }
                    if head.height > seen {
                        included.extend_from_slice(&head.included);
                        seen = head.height;
                    }
                    let event = Event::Head {
                        parent: parent_of(&head),
                        included,
                    };
                    if addr.send(Input(event)).await.is_err() {
                        return;
                    }
                }
            }
            .into_actor(self),
        );
    }

    fn follow_bus(&self, ctx: &mut Context<Self>) {
        let (bus, subjects, addr) = (self.transport.bus.clone(), self.subjects, ctx.address());
        let ready = async move {
            let subject = subjects.ready();
            let mut inbox = listen(&subject, || bus.subscribe(&subject, READY_INBOX)).await;
            while let Some(delivery) = inbox.next().await {
                match decode::<ReadyTx>(&delivery.payload) {
                    Ok(tx) => {
                        if addr.send(Input(Event::Ready(Arc::new(tx)))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => warn!(%error, "ready message is malformed"),
                }
            }
        };
        ctx.spawn(ready.into_actor(self));
        let (bus, addr) = (self.transport.bus.clone(), ctx.address());
        let unready = async move {
            let subject = subjects.unready();
            let mut inbox = listen(&subject, || bus.subscribe(&subject, READY_INBOX)).await;
            while let Some(delivery) = inbox.next().await {
                match decode::<Withdraw>(&delivery.payload) {
                    Ok(gone) => {
                        if addr.send(Input(Event::Unready(gone.id))).await.is_err() {
                            return;
                        }
                    }
                    Err(error) => warn!(%error, "withdrawal is malformed"),
                }
            }
        };
        ctx.spawn(unready.into_actor(self));
    }

    /// Takes what gateways ask for.
    fn serve(&self, ctx: &mut Context<Self>) {
        let (bus, subject, addr) = (
            self.transport.bus.clone(),
            self.subjects.dev(),
            ctx.address(),
        );
        let serve = async move {
            let mut inbox = listen(&subject, || bus.serve(&subject, GROUP, ORDERS_MAX)).await;
            while let Some(delivery) = inbox.next().await {
                if addr.send(Asked(delivery)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(serve.into_actor(self));
    }

    fn asked(&mut self, delivery: Delivery, ctx: &mut Context<Self>) {
        let refusal = match decode::<DevAsk>(&delivery.payload) {
            Err(error) => DevRefusal::Failed(error.to_string()),
            Ok(_) if !dev::allowed(&self.chain.head().spec) => DevRefusal::Producers {
                producers: u32::try_from(self.chain.head().spec.producers.len())
                    .unwrap_or(u32::MAX),
            },
            Ok(DevAsk::Block(order)) => {
                self.orders += 1;
                let id = self.orders;
                let order = Arc::new(order);
                self.waiting.insert(id, (delivery, order.clone()));
                return self.input(Event::Order { id, order }, ctx);
            }
            Ok(DevAsk::Snapshot { at }) => return self.snapshot(at, delivery, ctx),
            Ok(DevAsk::Forget { hashes }) => {
                for hash in hashes {
                    self.input(Event::Unready(hash), ctx);
                }
                let head = self.chain.head();
                let done = DevDone {
                    height: head.height,
                    hash: head.hash,
                    snapshot: 0,
                };
                return self.answer(&delivery, Ok(done), ctx);
            }
        };
        self.answer(&delivery, Err(refusal), ctx);
    }

    /// Remembers the state, once this process has seen what the asker has.
    fn snapshot(&self, at: Height, delivery: Delivery, ctx: &mut Context<Self>) {
        let mut heads = self.chain.subscribe();
        let seen = async move {
            let seen = heads.wait_for(|head| head.height >= at);
            let head = tokio::time::timeout(SNAPSHOT_PATIENCE, seen).await;
            head.ok().and_then(Result::ok).map(|head| head.clone())
        };
        ctx.spawn(seen.into_actor(self).map(move |head, actor, ctx| {
            let result = match head {
                None => Err(DevRefusal::Failed(format!("block {at} is not here yet"))),
                Some(head) => Ok(DevDone {
                    height: head.height,
                    hash: head.hash,
                    snapshot: actor.snapshots.take(&head),
                }),
            };
            actor.answer(&delivery, result, ctx);
        }));
    }

    fn answer(
        &self,
        delivery: &Delivery,
        result: Result<DevDone, DevRefusal>,
        ctx: &mut Context<Self>,
    ) {
        let (bus, delivery) = (self.transport.bus.clone(), delivery.clone());
        let send = async move {
            if let Err(refusal) = &result {
                debug!(%refusal, "order refused");
            }
            if let Err(error) = bus.reply(&delivery, encode(&DevAnswer { result })).await {
                debug!(%error, "answer to an order was not sent");
            }
        };
        ctx.spawn(send.into_actor(self));
    }

    fn input(&mut self, event: Event, ctx: &mut Context<Self>) {
        let mut effects = Vec::new();
        self.machine.apply(now(), event, &mut effects);
        for effect in effects {
            self.perform(effect, ctx);
        }
    }

    fn perform(&mut self, effect: Effect, ctx: &mut Context<Self>) {
        match effect {
            Effect::TakeOver => self.take_over(ctx),
            Effect::Build {
                attempt,
                parent,
                timestamp_secs,
                slot,
                candidates,
                order,
            } => {
                let work = Work {
                    timestamp_secs,
                    candidates,
                    order,
                };
                self.build(attempt, parent, slot, work, ctx);
            }
            Effect::Append {
                attempt,
                epoch,
                expected,
                ..
            } => self.append(attempt, epoch, expected, ctx),
            Effect::Discard { attempt } => {
                self.builds.remove(&attempt);
            }
            Effect::Withheld(withheld) => self.publish_withheld(withheld, ctx),
            Effect::Ordered { id, result } => {
                if let Some((delivery, order)) = self.waiting.remove(&id) {
                    if result.is_ok() {
                        self.snapshots.used(&order);
                    }
                    self.answer(&delivery, result, ctx);
                }
            }
            Effect::WakeAt(at) => self.wake_at(at, ctx),
        }
    }

    fn take_over(&self, ctx: &mut Context<Self>) {
        let (log, address) = (self.transport.log.clone(), self.key.address());
        let attempt = async move {
            let seen = log.epoch().await.map_err(|e| e.to_string())?;
            let seen = seen.map_or(Epoch(0), |record| record.epoch);
            log.take_over(address, seen)
                .await
                .map_err(|e| e.to_string())
        };
        ctx.spawn(attempt.into_actor(self).map(|result, actor, ctx| {
            let event = match result {
                Ok(epoch) => {
                    info!(epoch = epoch.0, "producer leads");
                    Event::TookOver(epoch)
                }
                Err(error) => {
                    warn!(error, "take-over failed");
                    Event::TakeOverFailed
                }
            };
            actor.input(event, ctx);
        }));
    }

    fn append(&self, attempt: Attempt, epoch: Epoch, expected: Seq, ctx: &mut Context<Self>) {
        let Some(Build {
            block: Some(block),
            slot,
        }) = self.builds.get(&attempt)
        else {
            warn!(attempt, "append of a block that is not here");
            return;
        };
        let (log, block, slot) = (self.transport.log.clone(), block.clone(), *slot);
        self.own.put(block.clone());
        let append = async move {
            let bytes = encode(&block.block);
            let height = penstock_rules::ids::Height(block.header.number);
            let result = log.append(epoch, height, block.hash, expected, bytes).await;
            if result.is_ok() {
                report(&block, slot);
            }
            result
        };
        ctx.spawn(append.into_actor(self).map(move |result, actor, ctx| {
            let event = match result {
                Ok(seq) => {
                    actor.builds.remove(&attempt);
                    Event::Appended { attempt, seq }
                }
                Err(error) => {
                    warn!(%error, "block was not appended");
                    let error = match error {
                        AppendError::Lost(_) => AppendFailure::Lost,
                        AppendError::TooLarge { .. } => AppendFailure::TooLarge,
                        AppendError::Fenced(_) => AppendFailure::Fenced,
                        AppendError::Unknown(_) => AppendFailure::Unknown,
                    };
                    Event::AppendFailed { attempt, error }
                }
            };
            actor.input(event, ctx);
        }));
    }

    fn publish_withheld(&self, withheld: Withheld, ctx: &mut Context<Self>) {
        debug!(tx = %withheld.hash, reason = ?withheld.reason, "withheld");
        let (bus, subject) = (self.transport.bus.clone(), self.subjects.withheld());
        ctx.spawn(
            async move {
                if let Err(error) = bus.publish(&subject, encode(&withheld)).await {
                    warn!(%error, "withheld message was not sent");
                }
            }
            .into_actor(self),
        );
    }

    /// One timer, for the earliest time that was asked for: every tick asks again for what is still to come.
    fn wake_at(&mut self, at: Micros, ctx: &mut Context<Self>) {
        if let Some((set, handle)) = self.wake {
            if set <= at {
                return;
            }
            ctx.cancel_future(handle);
        }
        let handle = ctx.run_later(until(at).max(Duration::from_micros(1)), |actor, ctx| {
            actor.wake = None;
            actor.input(Event::Tick, ctx);
        });
        self.wake = Some((at, handle));
    }
}

/// Logs a block that is in the log, and how late it is.
fn report(block: &ExecutedBlock, slot: Option<Micros>) {
    let late = slot.map(|slot| now().saturating_sub(slot));
    if let Some(late) = late {
        metrics::histogram!("producer_slot_lateness_seconds").record(late.0 as f64 / 1e6);
    }
    info!(
        height = block.header.number,
        hash = %block.hash,
        txs = block.receipts.len(),
        inferences = requests(&block.block.witness).len(),
        gas = block.header.gas_used,
        late_us = late.map(|l| l.0),
        "sealed"
    );
}

impl Handler<Asked> for ProducerActor {
    type Result = ();

    fn handle(&mut self, Asked(delivery): Asked, ctx: &mut Self::Context) {
        self.asked(delivery, ctx);
    }
}

impl Handler<Input> for ProducerActor {
    type Result = ();

    fn handle(&mut self, Input(event): Input, ctx: &mut Self::Context) {
        self.input(event, ctx);
    }
}

impl Handler<Leading> for ProducerActor {
    type Result = Option<Epoch>;

    fn handle(&mut self, _: Leading, _: &mut Self::Context) -> Self::Result {
        self.machine.leading()
    }
}

impl Handler<Stop> for ProducerActor {
    type Result = ();

    /// What is under way is left: the log says what became of it.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
