//! Shell of a shard: one engine on one thread, signatures on blocking threads, messages over the bus.
//!
//! **One GPU, one thread, one process:** the engine lives on its own thread and is spoken to over a channel; the actor
//! never waits for it.

use crate::engine;
use crate::shell::{Stop, listen, now, send};
use actix::prelude::*;
use bytes::Bytes;
use penstock_evm::{SigningKey, attest};
use penstock_rules::Machine;
use penstock_rules::ids::{LeaseId, Micros, ModelHash, ShardId};
use penstock_rules::message::{Answer, AssignedRequest, AssignmentDone, Prefetch, Role};
use penstock_rules::shard::{Answers, BatchId, Config, Effect, Event, HEARTBEAT, Shard};
use penstock_shaders::{Executor, Limits};
use penstock_wire::trace::TraceParent;
use penstock_wire::{Message as WireMessage, Subjects, Transport, decode, encode};
use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::{Duration, Instant};
use tracing::{debug, error, info, warn};

/// Messages that wait for the shard, in number: far more than the machine's queue takes, so that it can say "busy".
const MAILBOX: usize = 1_024;
/// Assignments that wait at the bus, in number.
const INBOX: usize = 1_024;
/// Models that a shard keeps loaded at most.
const MODELS_MAX: u32 = 64;
/// Assignments that wait at most beside the one that runs: enough that the engine never idles between two.
const QUEUE_MAX: u32 = 8;
/// Wait between two looks for a model that nobody has stored yet. Nodes store models within a second of their start.
const PRELOAD_RETRY: Duration = Duration::from_secs(1);

/// Assignments whose trace context is kept, in number: more than wait here at once.
const TRACED_MAX: usize = 1_024;

/// What a shard is started with.
#[derive(Clone, Debug)]
pub struct ShardConfig {
    /// Signs its answers; its address is the shard's id.
    pub key: SigningKey,
    /// Chain whose requests it answers.
    pub chain_id: u64,
    /// Models to load at once, not when they are first asked for.
    pub preload: Vec<ModelHash>,
    /// For tests: how long answers of a model are held back, as if the model ran so long.
    pub test_delay: BTreeMap<ModelHash, Duration>,
}

/// The shard's actor.
pub struct ShardActor {
    machine: Shard,
    config: ShardConfig,
    id: ShardId,
    transport: Transport,
    subjects: Subjects,
    engine: mpsc::Sender<Job>,
    /// Whose transactions the assignments here serve, oldest first.
    traces: BTreeMap<LeaseId, Vec<TraceParent>>,
}

/// Work for the engine's thread.
enum Job {
    Load(ModelHash, Bytes),
    Run {
        batch: BatchId,
        model: ModelHash,
        requests: Vec<AssignedRequest>,
        delay: Duration,
    },
}

#[derive(Message)]
#[rtype(result = "()")]
struct Input(Event, Vec<TraceParent>);

/// Starts a shard on its own arbiter. `executor` is made on the engine's thread, where it stays.
///
/// # Errors
/// Where the executor can't be made.
pub fn start<E: std::fmt::Display + Send + 'static>(
    config: ShardConfig,
    executor: impl FnOnce() -> Result<Box<dyn Executor>, E> + Send + 'static,
    transport: Transport,
) -> Result<Addr<ShardActor>, E> {
    let (jobs, inbox) = mpsc::channel();
    let (made, made_inbox) = mpsc::channel();
    let (addresses, address_inbox) = mpsc::channel::<Addr<ShardActor>>();
    let id = ShardId(config.key.address());
    let thread = std::thread::Builder::new().name(format!("engine-{}", &id.to_string()[..8]));
    let spawned = thread.spawn(move || {
        let executor = match executor() {
            Ok(executor) => executor,
            Err(error) => {
                let _ = made.send(Err(error));
                return;
            }
        };
        let _ = made.send(Ok(executor.name()));
        if let Ok(actor) = address_inbox.recv() {
            work(executor, &inbox, &actor);
        }
    });
    if let Err(error) = spawned {
        panic!("no thread for an engine: {error}");
    }
    let backend = match made_inbox.recv() {
        Ok(Ok(name)) => name,
        Ok(Err(error)) => return Err(error),
        Err(_) => panic!("the engine's thread ended before it had an engine"),
    };
    info!(shard = %id, backend, "shard starts");
    let arbiter = Arbiter::new();
    let actor = ShardActor::start_in_arbiter(&arbiter.handle(), move |ctx| {
        ctx.set_mailbox_capacity(MAILBOX);
        let machine = Shard::new(Config {
            shard: id,
            // The time of start, in µs: no two incarnations of a shard have the same.
            incarnation: now().0,
            backend,
            batch_max: Limits::default().batch_max,
            queue_max: QUEUE_MAX,
            models_max: MODELS_MAX,
            engines: 1,
        });
        ShardActor {
            machine,
            id,
            subjects: Subjects::new(config.chain_id),
            config,
            transport,
            engine: jobs,
            traces: BTreeMap::new(),
        }
    });
    // The thread waits for it; it can't have ended.
    let _ = addresses.send(actor.clone());
    Ok(actor)
}

impl Actor for ShardActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        let subjects = self.subjects;
        self.follow(subjects.assign(self.id), Event::Assign, ctx);
        self.follow(subjects.cancel(self.id), Event::Cancel, ctx);
        self.follow(subjects.prefetch(self.id), Event::Prefetch, ctx);
        for model in self.config.preload.clone() {
            let prefetch = Prefetch {
                shard: self.id,
                epoch: Default::default(),
                model,
            };
            self.input(Event::Prefetch(prefetch), ctx);
        }
        self.input(Event::Tick, ctx);
        ctx.run_interval(Duration::from_micros(HEARTBEAT.0), |actor, ctx| {
            actor.input(Event::Tick, ctx);
        });
    }
}

impl ShardActor {
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
            while let Some(delivery) = inbox.next().await {
                match decode::<M>(&delivery.payload) {
                    Ok(message) => {
                        if addr
                            .send(Input(event(message), delivery.traces))
                            .await
                            .is_err()
                        {
                            return;
                        }
                    }
                    Err(error) => warn!(subject, %error, "message is malformed"),
                }
            }
        };
        ctx.spawn(read.into_actor(self));
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
            Effect::Load(model) => self.load(model, ctx),
            // The engine keeps weights by use; what is not asked for costs memory alone.
            Effect::Unload(model) => debug!(%model, "model is no longer announced"),
            Effect::Run {
                batch,
                model,
                requests,
            } => {
                let delay = self.config.test_delay.get(&model).copied();
                self.job(Job::Run {
                    batch,
                    model,
                    requests,
                    delay: delay.unwrap_or_default(),
                });
            }
            Effect::Answer(answers) => self.answer(answers, ctx),
            Effect::Refuse(refused) => {
                let traces = self.traces.remove(&refused.lease).unwrap_or_default();
                debug!(lease = refused.lease.0, reason = ?refused.reason, ?traces, "assignment refused");
                self.publish(self.subjects.answers(), encode(&refused), traces, ctx);
            }
            Effect::Hello(hello) => {
                let subject = self.subjects.shard_hello();
                self.publish(subject, encode(&hello), Vec::new(), ctx);
            }
            Effect::Drained => {
                info!(shard = %self.id, "shard is drained");
                ctx.stop();
            }
        }
    }

    fn job(&self, job: Job) {
        if self.engine.send(job).is_err() {
            panic!("the engine's thread of shard {} is gone", self.id);
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

    /// Fetches a model's file, whose hash the blob store checks, and hands it to the engine.
    ///
    /// One that was asked for at the start is waited for: whoever stores it may start later than this shard.
    fn load(&self, model: ModelHash, ctx: &mut Context<Self>) {
        let blobs = self.transport.blobs.clone();
        let patient = self.config.preload.contains(&model);
        let fetch = async move {
            loop {
                match blobs.get(model.0).await {
                    Ok(Some(bytes)) => return Some(bytes),
                    Ok(None) => warn!(%model, "model is not in the blob store"),
                    Err(error) => warn!(%model, %error, "model can't be fetched"),
                }
                if !patient {
                    return None;
                }
                tokio::time::sleep(PRELOAD_RETRY).await;
            }
        };
        ctx.spawn(
            fetch
                .into_actor(self)
                .map(move |bytes, actor, ctx| match bytes {
                    Some(bytes) => actor.job(Job::Load(model, bytes)),
                    None => actor.input(Event::LoadFailed(model), ctx),
                }),
        );
    }

    fn answer(&mut self, answers: Answers, ctx: &mut Context<Self>) {
        let traces = self.traces.remove(&answers.lease).unwrap_or_default();
        debug!(
            lease = answers.lease.0,
            requests = answers.outcomes.len(),
            ?traces,
            "answers"
        );
        let (key, chain_id, shard) = (self.config.key.clone(), self.config.chain_id, self.id);
        let (bus, subject) = (self.transport.bus.clone(), self.subjects.answers());
        let work = tokio::task::spawn_blocking(move || sign(answers, &key, chain_id, shard));
        let publish = async move {
            if let Ok(done) = work.await {
                send(bus, subject, encode(&done), traces).await;
            }
        };
        ctx.spawn(publish.into_actor(self));
    }
}

fn sign(answers: Answers, key: &SigningKey, chain_id: u64, shard: ShardId) -> AssignmentDone {
    let signed = answers.outcomes.into_iter().map(|(request, outcome)| {
        let attestation = attest(key, chain_id, request, outcome.hash());
        Answer {
            key: request,
            outcome,
            attestation,
        }
    });
    AssignmentDone {
        shard,
        lease: answers.lease,
        epoch: answers.epoch,
        answers: signed.collect(),
        ran: answers.ran,
        batch: answers.batch,
    }
}

/// The engine's thread: one job after the other, until the actor is gone.
fn work(mut executor: Box<dyn Executor>, jobs: &mpsc::Receiver<Job>, actor: &Addr<ShardActor>) {
    while let Ok(job) = jobs.recv() {
        let event = match job {
            Job::Load(hash, bytes) => match engine::load(executor.as_mut(), hash, &bytes) {
                Ok(()) => Event::Loaded(hash),
                Err(why) => {
                    warn!(model = %hash, why, "model can't be used here");
                    Event::LoadFailed(hash)
                }
            },
            Job::Run {
                batch,
                model,
                requests,
                delay,
            } => {
                let start = Instant::now();
                let inputs = requests.iter().map(|request| &request.input[..]);
                let outcomes = engine::run(executor.as_mut(), model, inputs);
                if !delay.is_zero() {
                    std::thread::sleep(delay);
                }
                let took = Micros(u64::try_from(start.elapsed().as_micros()).unwrap_or(u64::MAX));
                metrics::histogram!("shard_batch_requests").record(requests.len() as f64);
                metrics::histogram!("shard_batch_seconds").record(took.0 as f64 / 1e6);
                match outcomes {
                    Ok(outcomes) => Event::Ran {
                        batch,
                        outcomes,
                        took,
                    },
                    Err(why) => {
                        error!(%model, why, "engine failed");
                        Event::RunFailed { batch }
                    }
                }
            }
        };
        if futures::executor::block_on(actor.send(Input(event, Vec::new()))).is_err() {
            return;
        }
    }
}

impl Handler<Input> for ShardActor {
    type Result = ();

    fn handle(&mut self, Input(event, traces): Input, ctx: &mut Self::Context) {
        if let Event::Assign(work) = &event {
            let sent_on = traces.iter().map(|trace| trace.at(Role::Shard.name()));
            self.traces.insert(work.lease, sent_on.collect());
            while self.traces.len() > TRACED_MAX {
                self.traces.pop_first();
            }
        }
        self.input(event, ctx);
    }
}

impl Handler<Stop> for ShardActor {
    type Result = ();

    /// Finishes what is here, takes nothing new.
    fn handle(&mut self, _: Stop, ctx: &mut Self::Context) {
        self.input(Event::Drain, ctx);
    }
}
