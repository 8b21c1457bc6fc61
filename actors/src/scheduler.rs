//! Shell of the scheduler: checks signatures on blocking threads, tells it the time and the timetable, makes what is
//! settled durable and tells all.

mod answers;
mod durable;

use crate::chain::{ChainHandle, ChainHead};
use crate::decisions::DecisionLog;
use crate::recompute::Recompute;
use crate::shell::{Stop, listen, now, send};
use crate::traces::Traces;
use actix::prelude::*;
use bytes::Bytes;
use durable::Durable;
use penstock_evm::dev::settings;
use penstock_evm::{multiplier, shards};
use penstock_rules::Machine;
use penstock_rules::dev::requests;
use penstock_rules::ids::{Igas, Micros, ShardId};
use penstock_rules::message::{Gang, Role, ShardHello, Withdraw};
use penstock_rules::producer::{BUILD_LEAD_MAX, Timetable};
use penstock_rules::request::Settled;
use penstock_rules::scheduler;
use penstock_rules::scheduler::{Config, Effect, Event, Included, Scheduler, Slot, limits::TICK};
use penstock_wire::trace::TraceParent;
use penstock_wire::{Message as WireMessage, Subjects, Subscription, Transport, decode, encode};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::RecvError;
use tracing::{debug, error, info, warn};

/// Messages that wait for the scheduler, in number: a burst of gangs of a full pool.
const MAILBOX: usize = 65_536;
/// Messages that wait at the bus, in number, per subject.
const INBOX: usize = 65_536;
/// Messages of a subject that go to the machine together at most, before another subject's: some ten milliseconds of
/// work.
const TOGETHER: usize = 256;
/// Where there is no timetable, a block may come at any time: plans look this far ahead.
const AT_ONCE_WINDOW: Micros = Micros::from_millis(1_000);
/// How often the cut-off times are told anew where no block comes.
const SLOT_REFRESH: Duration = Duration::from_millis(250);

/// What a scheduler is started with.
#[derive(Clone, Debug)]
pub struct SchedulerConfig {
    /// The machine's.
    pub machine: Config,
    /// When blocks are made: work is planned against their cut-off.
    pub timetable: Timetable,
    /// Folder of decision logs, one per start; none: none is written.
    pub decisions: Option<PathBuf>,
}

/// The scheduler's actor.
pub struct SchedulerActor {
    machine: Scheduler,
    timetable: Timetable,
    transport: Transport,
    subjects: Subjects,
    chain: ChainHandle,
    recompute: Option<Recompute>,
    traces: Traces,
    decisions: Option<DecisionLog>,
    /// Whether a tick waits at the end of the mailbox already.
    tick_waits: bool,
    durable: Durable,
    /// Shards of the chain's registry, as the machine knows them.
    registered: Vec<ShardId>,
}

#[derive(Message)]
#[rtype(result = "()")]
struct Input(Event);

/// What came together.
#[derive(Message)]
#[rtype(result = "()")]
struct Inputs(Vec<Event>);

/// The end of a burst.
#[derive(Message)]
#[rtype(result = "()")]
struct Burst;

/// A block came.
#[derive(Message)]
#[rtype(result = "()")]
struct Block(Arc<ChainHead>);

/// Starts a scheduler on its own arbiter. What `recompute` finds false convicts who signed it.
#[must_use]
pub fn start(
    config: SchedulerConfig,
    transport: Transport,
    chain: ChainHandle,
    recompute: Option<Recompute>,
) -> Addr<SchedulerActor> {
    let arbiter = Arbiter::new();
    SchedulerActor::start_in_arbiter(&arbiter.handle(), move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let mut machine = config.machine;
        let decisions = config.decisions.as_deref();
        let decisions = decisions.and_then(|folder| begin_log(folder, &mut machine));
        SchedulerActor {
            machine: Scheduler::new(machine),
            decisions,
            timetable: config.timetable,
            subjects: Subjects::new(chain.head().spec.chain_id),
            transport,
            chain,
            recompute,
            traces: Traces::default(),
            tick_waits: false,
            durable: Durable::default(),
            registered: Vec::new(),
        }
    })
}

impl Actor for SchedulerActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let subjects = self.subjects;
        self.follow::<Gang>(subjects.gang(), Event::Submit, ctx);
        self.follow::<Withdraw>(subjects.withdraw(), Event::Withdraw, ctx);
        self.follow::<ShardHello>(subjects.shard_hello(), Event::Hello, ctx);
        self.follow_answers(ctx);
        self.follow_blocks(ctx);
        self.follow_recomputed(ctx);
        self.tell_registered(&self.chain.head(), ctx);
        self.tell_slot(ctx);
        self.recover(ctx);
        ctx.run_interval(SLOT_REFRESH, |actor, ctx| actor.tell_slot(ctx));
        ctx.run_interval(Duration::from_micros(TICK.0), |actor, ctx| {
            actor.input(Event::Tick, ctx);
        });
    }

    fn stopped(&mut self, _: &mut Self::Context) {
        self.flush_decisions();
        // What waits now waits elsewhere: autoscalers take the highest of all nodes.
        metrics::gauge!("scheduler_gangs_waiting").set(0.0);
        metrics::gauge!("scheduler_leases").set(0.0);
    }
}

impl SchedulerActor {
    /// Brings all messages of a subject to the machine.
    fn follow<M: WireMessage>(
        &self,
        subject: String,
        event: impl Fn(M) -> Event + 'static,
        ctx: &mut Context<Self>,
    ) {
        let (bus, addr) = (self.transport.bus.clone(), ctx.address());
        let read = async move {
            let mut inbox = listen(&subject, || bus.subscribe(&subject, INBOX)).await;
            while let Some(payloads) = pull(&mut inbox).await {
                let mut events = Vec::with_capacity(payloads.len());
                for payload in payloads {
                    match decode::<M>(&payload) {
                        Ok(message) => events.push(event(message)),
                        Err(error) => warn!(subject, %error, "message is malformed"),
                    }
                }
                if addr.send(Inputs(events)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(read.into_actor(self));
    }

    fn follow_blocks(&self, ctx: &mut Context<Self>) {
        let (mut blocks, chain, addr) = (self.chain.blocks(), self.chain.clone(), ctx.address());
        let read = async move {
            loop {
                let block = match blocks.recv().await {
                    Ok(block) => block,
                    // What was missed is paid for in the books by decay alone.
                    Err(RecvError::Lagged(missed)) => {
                        warn!(missed, "scheduler lags behind the chain");
                        chain.head()
                    }
                    Err(RecvError::Closed) => return,
                };
                if addr.send(Block(block)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(read.into_actor(self));
    }

    /// Brings what this process computed again and found false.
    fn follow_recomputed(&self, ctx: &mut Context<Self>) {
        let Some(recompute) = &self.recompute else {
            return;
        };
        let (mut found, addr) = (recompute.found(), ctx.address());
        // What was found before counts too: another scheduler may have been at work then.
        found.mark_changed();
        let read = async move {
            let mut told = BTreeSet::new();
            while found.changed().await.is_ok() {
                let all: Vec<_> = found.borrow_and_update().values().cloned().collect();
                for evidence in all {
                    if told.insert(evidence.shard)
                        && addr
                            .send(Input(Event::Recomputed(Box::new(evidence))))
                            .await
                            .is_err()
                    {
                        return;
                    }
                }
            }
        };
        ctx.spawn(read.into_actor(self));
    }

    /// Tells the machine which shards the chain knows, where that changed.
    fn tell_registered(&mut self, head: &ChainHead, ctx: &mut Context<Self>) {
        let registered = shards(&head.state);
        if registered != self.registered {
            self.registered = registered.clone();
            self.input(Event::Registered(registered), ctx);
        }
    }

    /// Tells the machine when the next two blocks stop taking results.
    fn tell_slot(&mut self, ctx: &mut Context<Self>) {
        let at = now();
        let (cutoff, next_cutoff) = match settings(&self.chain.head().state)
            .mining
            .unwrap_or(self.timetable)
        {
            Timetable::AtOnce | Timetable::Manual => {
                let cutoff = at.saturating_add(AT_ONCE_WINDOW);
                (cutoff, cutoff.saturating_add(AT_ONCE_WINDOW))
            }
            Timetable::Slots(slot) => {
                let lead = Micros((slot.0 / 5).min(BUILD_LEAD_MAX.0));
                let next = (at.saturating_add(lead).0 / slot.0 + 1) * slot.0;
                let cutoff = Micros(next).saturating_sub(lead);
                (cutoff, cutoff.saturating_add(slot))
            }
        };
        let slot = Slot {
            height: self.chain.head().height,
            cutoff,
            next_cutoff,
        };
        self.input(Event::Head(slot), ctx);
        let (gangs, leases, _) = self.machine.load();
        metrics::gauge!("scheduler_gangs_waiting").set(gangs as f64);
        metrics::gauge!("scheduler_leases").set(leases as f64);
        self.keep_reputation(ctx);
        self.flush_decisions();
    }

    /// What a killed process leaves is older than a turn at most.
    fn flush_decisions(&mut self) {
        if let Some(Err(error)) = self.decisions.as_mut().map(DecisionLog::flush) {
            error!(%error, "decision log ends: it can't be written");
            self.decisions = None;
        }
    }

    fn block(&mut self, head: &ChainHead, ctx: &mut Context<Self>) {
        if let Some(executed) = &head.executed {
            let price = multiplier(&head.state).max(1);
            // Requests are paid for block by block: the first transaction stands for all that were consumed.
            let mut keys: Vec<_> = requests(&executed.block.witness)
                .iter()
                .map(|e| e.key)
                .collect();
            for receipt in &executed.receipts {
                let included = Included {
                    id: receipt.tx_hash,
                    sender: receipt.from,
                    igas: Igas(receipt.inference_gas_used / price),
                    keys: std::mem::take(&mut keys),
                };
                self.input(Event::Included(included), ctx);
            }
        }
        self.tell_registered(head, ctx);
        self.tell_slot(ctx);
    }

    fn input(&mut self, event: Event, ctx: &mut Context<Self>) {
        let mut effects = Vec::new();
        let at = now();
        match &mut self.decisions {
            None => self.machine.apply(at, event, &mut effects),
            Some(log) => {
                self.machine.apply(at, event.clone(), &mut effects);
                if let Err(error) = log.add(at, &event, &effects) {
                    error!(file = %log.path().display(), %error, "decision log ends: it can't be written");
                    self.decisions = None;
                }
            }
        }
        let mut settled = Vec::new();
        for effect in effects {
            self.perform(effect, &mut settled, ctx);
        }
        if !settled.is_empty() {
            self.keep(settled, ctx);
        }
    }

    fn perform(&self, effect: Effect, settled: &mut Vec<Settled>, ctx: &mut Context<Self>) {
        let subjects = self.subjects;
        match effect {
            Effect::Assign(work) => {
                let traces = self
                    .traces
                    .of(work.requests.iter().map(|request| &request.key));
                debug!(lease = work.lease.0, shard = %work.shard, requests = work.requests.len(), ?traces, "assigned");
                self.publish(subjects.assign(work.shard), encode(&work), traces, ctx);
            }
            Effect::Cancel(cancel) => {
                self.publish(
                    subjects.cancel(cancel.shard),
                    encode(&cancel),
                    Vec::new(),
                    ctx,
                );
            }
            Effect::Prefetch(prefetch) => {
                let subject = subjects.prefetch(prefetch.shard);
                self.publish(subject, encode(&prefetch), Vec::new(), ctx);
            }
            Effect::Settle(answer) => {
                let traces = self.traces.of([answer.key].iter());
                self.publish(subjects.settled(), encode(&answer), traces, ctx);
                settled.push(answer);
            }
            Effect::Resend(answer) => {
                let traces = self.traces.of([answer.key].iter());
                self.publish(subjects.settled(), encode(&answer), traces, ctx);
            }
            Effect::Defer(deferral) => {
                let trace = TraceParent::of(deferral.id, Role::Scheduler.name());
                self.publish(subjects.deferral(), encode(&deferral), vec![trace], ctx);
            }
            Effect::Congestion(congestion) => {
                if let Some(window) = &congestion.window {
                    // Of the last ten blocks: what they included, of what no schedule could have exceeded.
                    metrics::gauge!("scheduler_value_share").set(window.share() as f64 / 100_000.0);
                }
                self.publish(subjects.congestion(), encode(&congestion), Vec::new(), ctx);
            }
            Effect::Quarantine(evidence) => {
                error!(
                    shard = %evidence.shard,
                    request = %evidence.answer.key,
                    said = %evidence.answer.outcome.hash(),
                    true_outcome = %evidence.outcome_hash,
                    recomputed = evidence.asked.is_some(),
                    "shard answered wrong bits: quarantined"
                );
                metrics::counter!("scheduler_quarantines_total").increment(1);
                self.publish(
                    self.subjects.evidence(),
                    encode(&*evidence),
                    Vec::new(),
                    ctx,
                );
                self.keep_evidence(&evidence, ctx);
            }
            Effect::Fenced => {
                error!("a younger scheduler is at work: this one stops");
                ctx.stop();
            }
            Effect::Log(record) => debug!(?record, "decision"),
        }
    }

    fn publish(
        &self,
        subject: String,
        payload: Bytes,
        traces: Vec<TraceParent>,
        ctx: &mut Context<Self>,
    ) {
        let bus = self.transport.bus.clone();
        ctx.spawn(send(bus, subject, payload, traces).into_actor(self));
    }
}

/// What a subject brought, as much as goes in together. None at its end.
async fn pull(inbox: &mut Subscription) -> Option<Vec<Bytes>> {
    let mut payloads = vec![inbox.next().await?.payload];
    while payloads.len() < TOGETHER
        && let Some(delivery) = inbox.try_next()
    {
        payloads.push(delivery.payload);
    }
    Some(payloads)
}

/// Begins a decision log, with plans in it. A devnet without it is better than none.
fn begin_log(folder: &Path, config: &mut Config) -> Option<DecisionLog> {
    config.decision_log = scheduler::DecisionLog::Plans;
    match DecisionLog::create(folder, now(), config) {
        Ok(log) => {
            info!(file = %log.path().display(), "decision log begins");
            Some(log)
        }
        Err(error) => {
            error!(folder = %folder.display(), %error, "no decision log: it can't be written");
            None
        }
    }
}

impl Handler<Input> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Input(event): Input, ctx: &mut Self::Context) {
        self.handle(Inputs(vec![event]), ctx);
    }
}

impl Handler<Inputs> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Inputs(events): Inputs, ctx: &mut Self::Context) {
        for event in events {
            if let Event::Submit(gang) = &event {
                self.traces.note(gang, Role::Scheduler.name());
            }
            self.input(event, ctx);
        }
        if !self.tick_waits {
            // At the end of the mailbox, so after the burst that this message is part of. Where there is no room the
            // interval's tick does it.
            self.tick_waits = ctx.address().try_send(Burst).is_ok();
        }
    }
}

impl Handler<Burst> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, _: Burst, ctx: &mut Self::Context) {
        self.tick_waits = false;
        self.input(Event::Tick, ctx);
    }
}

impl Handler<Block> for SchedulerActor {
    type Result = ();

    fn handle(&mut self, Block(head): Block, ctx: &mut Self::Context) {
        self.block(&head, ctx);
    }
}

impl Handler<Stop> for SchedulerActor {
    type Result = ();

    /// What is under way is left: shards answer, and who comes next takes it.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
