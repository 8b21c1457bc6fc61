//! Shell of the extractor: runs discoveries on blocking threads, and speaks with scheduler and producer over the bus.
//!
//! ```text
//!  mempool --Pending, Gone, Head--> machine --Discover--> jobs --a few lanes each--> blocking threads --+
//!  result book --Settled------------^  ^  \--gang, withdraw, ready, unready, status--> bus              |
//!  bus --deferral, withheld------------+--------------------------- Discovered -------------------------+
//! ```

mod jobs;

use crate::chain::ChainHead;
use crate::mempool::{Feedback, MempoolActor, next_base_fee};
use crate::outbox::Outbox;
use crate::results::ResultBook;
use crate::shell::{Stop, listen, now};
use actix::prelude::*;
use jobs::Job;
use penstock_evm::{Results, multiplier};
use penstock_rules::Machine;
use penstock_rules::extractor::credit::CreditLimits;
use penstock_rules::extractor::{Effect, Event, Extractor, Limits};
use penstock_rules::ids::RequestKey;
use penstock_rules::mempool;
use penstock_rules::message::{Gang, Role, Withdraw};
use penstock_rules::producer::Timetable;
use penstock_wire::trace::TraceParent;
use penstock_wire::{Message as WireMessage, Subjects, Transport, decode};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::broadcast::error::{RecvError, TryRecvError};
use tracing::{debug, trace, warn};

/// Messages that wait for the extractor, in number: each is a batch.
const MAILBOX: usize = 256;
/// Deferrals and withheld transactions that wait at the bus, in number: a block's worth.
const BUS_INBOX: usize = 16_384;
/// Settled keys that are told at once, in number.
const SETTLED_BATCH: usize = 1_024;
/// How often the machine is told the time: the grain of its repeats.
const TICK: Duration = Duration::from_millis(100);

/// What an extractor is started with.
#[derive(Clone, Debug)]
pub struct ExtractorConfig {
    /// When blocks are made: discovery runs in the next one's environment.
    pub timetable: Timetable,
    /// The machine's limits.
    pub limits: Limits,
    /// Jobs that run at the same time: one per core, less one for the rest of the process.
    pub jobs_max: usize,
}

impl ExtractorConfig {
    /// The default limits but for the senders' credit, for this timetable and this machine's cores.
    #[must_use]
    pub fn new(timetable: Timetable, credit: CreditLimits) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            timetable,
            limits: Limits {
                credit,
                ..Limits::default()
            },
            jobs_max: cores.saturating_sub(1).max(1),
        }
    }
}

/// The mempool's address, so that it can be told what becomes of its transactions.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Meet(pub Addr<MempoolActor>);

/// What the mempool tells, in order.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct FromMempool(pub Vec<Told>);

/// One thing that the mempool tells.
pub(crate) enum Told {
    /// For the machine.
    Event(Event),
    /// The head moved, and all that this changed in the pool has been told.
    Head(Arc<ChainHead>),
}

/// Events for the machine.
#[derive(Message)]
#[rtype(result = "()")]
struct Inputs(Vec<Event>);

/// Some settled keys were missed.
#[derive(Message)]
#[rtype(result = "()")]
struct Missed;

/// How many rounds a transaction took so far, and whether it is known at all.
#[derive(Message)]
#[rtype(result = "Option<u32>")]
pub struct Rounds(pub penstock_rules::ids::TxHash);

/// The extractor's subjects, made once.
struct Names {
    gang: Arc<str>,
    withdraw: Arc<str>,
    settled: Arc<str>,
    ready: Arc<str>,
    unready: Arc<str>,
    status: Arc<str>,
}

/// The extractor's actor.
pub struct ExtractorActor {
    machine: Extractor,
    config: ExtractorConfig,
    transport: Transport,
    subjects: Subjects,
    names: Names,
    outbox: Option<Outbox>,
    results: ResultBook,
    head: Arc<ChainHead>,
    mempool: Option<Addr<MempoolActor>>,
    /// What the mempool is to be told next, and whether something is on its way.
    feedback: Vec<mempool::Event>,
    telling: bool,
    jobs: VecDeque<Job>,
    jobs_running: usize,
}

/// Starts an extractor: best on the arbiter of its mempool, since they tell each other of every transaction.
#[must_use]
pub fn start(
    on: &ArbiterHandle,
    config: ExtractorConfig,
    transport: Transport,
    head: Arc<ChainHead>,
    results: ResultBook,
) -> Addr<ExtractorActor> {
    ExtractorActor::start_in_arbiter(on, move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let subjects = Subjects::new(head.spec.chain_id);
        ExtractorActor {
            machine: Extractor::new(
                config.limits.clone(),
                head.height,
                next_base_fee(&head),
                multiplier(&head.state),
            ),
            config,
            transport,
            names: Names {
                gang: subjects.gang().into(),
                withdraw: subjects.withdraw().into(),
                settled: subjects.settled().into(),
                ready: subjects.ready().into(),
                unready: subjects.unready().into(),
                status: subjects.status().into(),
            },
            subjects,
            outbox: None,
            results,
            head,
            mempool: None,
            feedback: Vec::new(),
            telling: false,
            jobs: VecDeque::new(),
            jobs_running: 0,
        }
    })
}

impl Actor for ExtractorActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        self.outbox = Some(Outbox::start(self.transport.bus.clone()));
        self.follow_results(ctx);
        self.follow_bus(self.subjects.deferral(), Event::Deferred, ctx);
        self.follow_bus(self.subjects.withheld(), Event::Withheld, ctx);
        ctx.run_interval(TICK, |actor, ctx| actor.input_all([Event::Tick], ctx));
    }
}

impl ExtractorActor {
    fn follow_results(&self, ctx: &mut Context<Self>) {
        let (mut settled, addr) = (self.results.subscribe(), ctx.address());
        let follow = async move {
            loop {
                let mut keys = match settled.recv().await {
                    Ok(key) => vec![key],
                    Err(RecvError::Lagged(count)) => {
                        warn!(count, "extractor lags behind the results");
                        if addr.send(Missed).await.is_err() {
                            return;
                        }
                        continue;
                    }
                    Err(RecvError::Closed) => return,
                };
                while keys.len() < SETTLED_BATCH {
                    match settled.try_recv() {
                        Ok(key) => keys.push(key),
                        // The next `recv` says so again.
                        Err(TryRecvError::Lagged(_) | TryRecvError::Empty) => break,
                        Err(TryRecvError::Closed) => return,
                    }
                }
                let inputs = Inputs(vec![Event::Settled { keys }]);
                if addr.send(inputs).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(follow.into_actor(self));
    }

    fn follow_bus<M: WireMessage + 'static>(
        &self,
        subject: String,
        event: fn(M) -> Event,
        ctx: &mut Context<Self>,
    ) {
        let (bus, addr) = (self.transport.bus.clone(), ctx.address());
        let follow = async move {
            let mut inbox = listen(&subject, || bus.subscribe(&subject, BUS_INBOX)).await;
            while let Some(first) = inbox.next().await {
                let mut events = Vec::new();
                let mut next = Some(first);
                while let Some(delivery) = next {
                    match decode::<M>(&delivery.payload) {
                        Ok(message) => events.push(event(message)),
                        Err(error) => warn!(%subject, %error, "message is malformed"),
                    }
                    next = inbox.try_next();
                }
                if addr.send(Inputs(events)).await.is_err() {
                    return;
                }
            }
        };
        ctx.spawn(follow.into_actor(self));
    }

    fn input_all(&mut self, events: impl IntoIterator<Item = Event>, ctx: &mut Context<Self>) {
        let (at, mut effects) = (now(), Vec::new());
        for event in events {
            trace!(?event);
            self.machine.apply(at, event, &mut effects);
        }
        // A gang may ask for what the result book has: the machine missed it, or the book had it before the gang.
        let mut known = Vec::new();
        for effect in effects {
            self.perform(effect, &mut known);
        }
        if !known.is_empty() {
            let mut effects = Vec::new();
            self.machine
                .apply(at, Event::Settled { keys: known }, &mut effects);
            for effect in effects {
                self.perform(effect, &mut Vec::new());
            }
        }
        self.run_jobs(ctx);
        self.tell_mempool(ctx);
    }

    fn perform(&mut self, effect: Effect, known: &mut Vec<RequestKey>) {
        let Some(outbox) = &self.outbox else { return };
        let of = |hash| TraceParent::of(hash, Role::Mempool.name());
        trace!(?effect);
        match effect {
            Effect::Discover {
                lane,
                generation,
                txs,
            } => self.jobs.push_back(Job {
                lane,
                generation,
                txs,
            }),
            Effect::Submit(gang) => {
                let keys = self.known(&gang);
                if keys.len() < gang.requests.len() {
                    debug!(tx = %gang.id, round = gang.round, requests = gang.requests.len(), "gang");
                    outbox.publish(&self.names.gang, &gang, of(gang.id));
                }
                known.extend(keys);
            }
            Effect::Withdraw { id } => {
                outbox.publish(&self.names.withdraw, &Withdraw { id }, of(id));
            }
            Effect::Share { keys } => {
                let known = keys.iter().filter_map(|key| self.results.outcome(key));
                for settled in known {
                    outbox.publish(&self.names.settled, settled.as_ref(), None);
                }
            }
            Effect::Ready(ready) => {
                debug!(tx = %ready.tx.hash, keys = ready.keys.len(), "ready");
                outbox.publish(&self.names.ready, &ready, of(ready.tx.hash));
            }
            Effect::Unready { hash } => {
                outbox.publish(&self.names.unready, &Withdraw { id: hash }, of(hash));
            }
            Effect::Dispatched { hash } => self.feedback.push(mempool::Event::Dispatched { hash }),
            Effect::Drop { hash, reason } => {
                self.feedback.push(mempool::Event::Drop { hash, reason });
            }
            Effect::Status(update) => {
                outbox.publish(&self.names.status, &update, of(update.hash));
            }
        }
    }

    /// Keys of a gang that the result book has.
    fn known(&self, gang: &Gang) -> Vec<RequestKey> {
        let keys = gang.requests.iter().map(|request| request.key);
        keys.filter(|key| self.results.outcome(key).is_some())
            .collect()
    }

    /// Tells the mempool, in order, without waiting here.
    fn tell_mempool(&mut self, ctx: &mut Context<Self>) {
        let Some(mempool) = self.mempool.clone() else {
            return;
        };
        if self.telling || self.feedback.is_empty() {
            return;
        }
        self.telling = true;
        let events = Feedback(std::mem::take(&mut self.feedback));
        let send = async move { mempool.send(events).await };
        ctx.spawn(send.into_actor(self).map(|result, actor, ctx| {
            actor.telling = false;
            if result.is_ok() {
                actor.tell_mempool(ctx);
            }
        }));
    }

    fn head_event(&self) -> Event {
        Event::Head {
            height: self.head.height,
            base_fee: next_base_fee(&self.head),
            multiplier: multiplier(&self.head.state),
        }
    }
}

impl Handler<Meet> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, Meet(mempool): Meet, ctx: &mut Self::Context) {
        self.mempool = Some(mempool);
        self.tell_mempool(ctx);
    }
}

impl Handler<FromMempool> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, FromMempool(told): FromMempool, ctx: &mut Self::Context) {
        let mut events = Vec::with_capacity(told.len());
        for told in told {
            events.push(match told {
                Told::Event(event) => event,
                Told::Head(head) => {
                    self.head = head;
                    self.head_event()
                }
            });
        }
        self.input_all(events, ctx);
    }
}

impl Handler<Inputs> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, Inputs(events): Inputs, ctx: &mut Self::Context) {
        self.input_all(events, ctx);
    }
}

impl Handler<Missed> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, _: Missed, ctx: &mut Self::Context) {
        let waited = self.machine.waited();
        let keys = waited
            .filter(|key| self.results.outcome(key).is_some())
            .collect();
        self.input_all([Event::Settled { keys }], ctx);
    }
}

impl Handler<Rounds> for ExtractorActor {
    type Result = Option<u32>;

    fn handle(&mut self, Rounds(hash): Rounds, _: &mut Self::Context) -> Self::Result {
        self.machine.rounds(&hash)
    }
}

impl Handler<Stop> for ExtractorActor {
    type Result = ();

    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        ctx.stop();
    }
}
