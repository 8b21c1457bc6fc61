//! How busy one scheduler keeps many fast shards, in real time: `cargo bench -p penstock-tests --bench shards`.
//!
//! ```text
//!   gangs --> scheduler --assign--> 64 shards: each batch takes 10 ms, however many requests are in it
//!                 ^                    |
//!                 +------ done --------+   answers are signed, and checked by the scheduler
//! ```
//!
//! The scheduler is the product's actor; the bus is a real nats-server (`PENSTOCK_NATS_SERVER`), or the memory bus. Shards
//! are the product's machine with a simulated engine: a batch ends 10 ms after it began, and the next one begins then, if
//! it was there. What counts as busy is the time of batches that ended; all runs on this machine's processors, the shards'
//! signatures too. No block is built.
//!
//! `PENSTOCK_BENCH_SHARDS` (64), `PENSTOCK_BENCH_SECONDS` (10), `PENSTOCK_BENCH_BATCH` (1): requests in a
//! batch.

use actix::System;
use alloy_primitives::{Address, B256, keccak256};
use penstock_actors::scheduler::{SchedulerConfig, start};
use penstock_actors::{boot, chain, shell};
use penstock_evm::{ChainSpec, Genesis, SigningKey, attest};
use penstock_rules::Machine;
use penstock_rules::ids::{Epoch, Height, Igas, Micros, ModelHash, RequestKey, ShardId};
use penstock_rules::message::{Answer, AssignmentDone, Class, Gang, GangRequest, Prefetch};
use penstock_rules::producer::Timetable;
use penstock_rules::request::{Mode, Outcome};
use penstock_rules::scheduler::Config;
use penstock_rules::shard::{self, Answers, BatchId, Effect, Event, HEARTBEAT, Shard};
use penstock_store::Store;
use penstock_wire::nats::NatsConfig;
use penstock_wire::server::ServerConfig;
use penstock_wire::{
    Bus, FoundServer, NatsServer, Subjects, Transport, decode, encode, find_server, memory,
};
use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

const CHAIN_ID: u64 = 31_337;
/// What a batch takes.
const BATCH: Duration = Duration::from_millis(10);
const SLOT: Micros = Micros::from_secs(1);
/// Time before what is measured: costs are learned, queues fill.
const WARM: Duration = Duration::from_secs(4);
/// Requests of a transaction.
const WIDTH: u64 = 4;
/// Bytes of a request's input, and of its output.
const REQUEST_BYTES: usize = 1_024;
const SENDERS: u64 = 500;
/// Requests that wait from the start, in seconds of all shards' work.
const BACKLOG: f64 = 1.0;
/// Demand, over what all shards can do.
const DEMAND: f64 = 1.1;
const FEED: Duration = Duration::from_millis(10);
const MODEL: ModelHash = ModelHash(B256::repeat_byte(1));

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

/// What all shards did since the measurement began.
#[derive(Debug, Default)]
struct Done {
    batches: AtomicU64,
    requests: AtomicU64,
    refused: AtomicU64,
}

/// A shard: the product's machine, with an engine whose time goes on at its own pace. Where this machine wakes it late,
/// and work was there, the next batch began when the last one ended.
struct Simulated {
    machine: Shard,
    key: SigningKey,
    bus: Arc<dyn Bus>,
    /// The batch that runs: which, with how many requests, and when it ends.
    running: Option<(BatchId, usize, Instant)>,
    from: Instant,
    done: Arc<Done>,
}

impl Simulated {
    async fn run(mut self) {
        let id = ShardId(self.key.address());
        let subjects = Subjects::new(CHAIN_ID);
        let (assign, cancel) = (subjects.assign(id), subjects.cancel(id));
        let mut assigned = self.bus.subscribe(&assign, 64).await.expect("it hears");
        let mut cancelled = self.bus.subscribe(&cancel, 64).await.expect("it hears");
        self.apply(Event::Prefetch(Prefetch {
            shard: id,
            epoch: Epoch(0),
            model: MODEL,
        }))
        .await;
        let mut tick = tokio::time::interval(Duration::from_micros(HEARTBEAT.0));
        loop {
            let end = self.running.map(|(_, _, end)| end);
            let ended = async {
                match end {
                    Some(end) => tokio::time::sleep_until(end.into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                biased;
                Some(delivery) = assigned.next() => {
                    self.apply(Event::Assign(decode(&delivery.payload).expect("work"))).await;
                }
                Some(delivery) = cancelled.next() => {
                    self.apply(Event::Cancel(decode(&delivery.payload).expect("a word"))).await;
                }
                _ = tick.tick() => self.apply(Event::Tick).await,
                () = ended => self.ran().await,
            }
        }
    }

    /// A batch ended.
    async fn ran(&mut self) {
        let Some((batch, requests, end)) = self.running.take() else {
            return;
        };
        if end - BATCH >= self.from {
            self.done.batches.fetch_add(1, Ordering::Relaxed);
            self.done
                .requests
                .fetch_add(requests as u64, Ordering::Relaxed);
        }
        let outcome = Outcome::Output(vec![1; REQUEST_BYTES].into());
        let ran = Event::Ran {
            batch,
            outcomes: vec![outcome; requests],
            took: Micros(BATCH.as_micros() as u64),
        };
        self.begin(ran, end).await;
    }

    async fn apply(&mut self, event: Event) {
        self.begin(event, Instant::now()).await;
    }

    /// Tells the machine of an event. A batch that it begins, begins at this time.
    async fn begin(&mut self, event: Event, at: Instant) {
        let subjects = Subjects::new(CHAIN_ID);
        let mut waiting = VecDeque::from([event]);
        while let Some(event) = waiting.pop_front() {
            let mut effects = Vec::new();
            self.machine.apply(shell::now(), event, &mut effects);
            for effect in effects {
                let (subject, message) = match effect {
                    Effect::Load(model) => {
                        waiting.push_back(Event::Loaded(model));
                        continue;
                    }
                    Effect::Run {
                        batch, requests, ..
                    } => {
                        self.running = Some((batch, requests.len(), at + BATCH));
                        continue;
                    }
                    Effect::Answer(answers) => (subjects.answers(), encode(&self.sign(answers))),
                    Effect::Refuse(refused) => {
                        self.done.refused.fetch_add(1, Ordering::Relaxed);
                        (subjects.answers(), encode(&refused))
                    }
                    Effect::Hello(hello) => (subjects.shard_hello(), encode(&hello)),
                    Effect::Unload(_) | Effect::Drained => continue,
                };
                self.bus.publish(&subject, message).await.expect("sent");
            }
        }
    }

    fn sign(&self, answers: Answers) -> AssignmentDone {
        let sign = |(key, outcome): (RequestKey, Outcome)| Answer {
            key,
            attestation: attest(&self.key, CHAIN_ID, key, outcome.hash()),
            outcome,
        };
        AssignmentDone {
            shard: ShardId(self.key.address()),
            lease: answers.lease,
            epoch: answers.epoch,
            answers: answers.outcomes.into_iter().map(sign).collect(),
            ran: answers.ran,
            batch: answers.batch,
        }
    }
}

/// The `n`th transaction: all its requests are new.
fn gang(n: u64) -> Gang {
    let name = |n: u64| keccak256(n.to_be_bytes());
    let request = |k: u64| GangRequest {
        key: RequestKey(name((1 << 40) | (n * WIDTH + k))),
        model: MODEL,
        mode: Mode::Vanilla,
        input: vec![3; REQUEST_BYTES].into(),
        igas: Igas(BATCH.as_micros() as u64),
        certain: true,
    };
    let id = name(n);
    Gang {
        id,
        sender: Address::left_padding_from(&(1 + n % SENDERS).to_be_bytes()),
        nonce: n / SENDERS,
        value: 1_000_000 + u128::from(id[0]) * 10_000,
        class: Class::Block,
        round: 1,
        arrival: Height(0),
        deadline: None,
        requests: (0..WIDTH).map(request).collect(),
    }
}

async fn measure(what: &str, here: Transport, there: Transport, shards: u64, batch_max: u32) {
    let keys: Vec<SigningKey> = (1..=shards)
        .map(|n| SigningKey::new(keccak256(n.to_be_bytes())).expect("a key"))
        .collect();
    let folder = tempfile::tempdir().expect("a folder");
    let store = Store::open(folder.path(), Default::default()).expect("a store");
    let genesis = Genesis {
        spec: ChainSpec::default(),
        timestamp: 1_000,
        alloc: Default::default(),
        owner: Address::ZERO,
        shards: keys.iter().map(|key| ShardId(key.address())).collect(),
        models: Vec::new(),
    };
    let head = boot::open(&store, &genesis).expect("a chain");
    assert_eq!(head.spec.chain_id, CHAIN_ID);
    let (_publisher, handle) = chain::chain(head);
    let config = SchedulerConfig {
        machine: Config::default(),
        timetable: Timetable::Slots(SLOT),
        decisions: None,
    };
    let scheduler = start(config, here, handle, None);
    let span = Duration::from_secs(number("PENSTOCK_BENCH_SECONDS", 10));
    let (from, done) = (Instant::now() + WARM, Arc::new(Done::default()));
    let mut tasks = Vec::new();
    for key in keys {
        let shard = Simulated {
            machine: Shard::new(shard::Config {
                shard: ShardId(key.address()),
                incarnation: 1,
                backend: "simulated".into(),
                batch_max,
                queue_max: 4,
                models_max: 1,
                engines: 1,
            }),
            key,
            bus: there.bus.clone(),
            running: None,
            from,
            done: done.clone(),
        };
        tasks.push(tokio::spawn(shard.run()));
    }
    let rate = shards as f64 * f64::from(batch_max) / BATCH.as_secs_f64() / WIDTH as f64;
    let (bus, subject) = (there.bus.clone(), Subjects::new(CHAIN_ID).gang());
    let begin = Instant::now();
    tasks.push(tokio::spawn(async move {
        let mut sent = 0;
        loop {
            let asked = rate * (BACKLOG + DEMAND * begin.elapsed().as_secs_f64());
            while sent < asked as u64 {
                sent += 1;
                bus.publish(&subject, encode(&gang(sent)))
                    .await
                    .expect("sent");
            }
            tokio::time::sleep(FEED).await;
        }
    }));
    tokio::time::sleep_until(from.into()).await;
    let before = processor_time();
    tokio::time::sleep_until((from + span).into()).await;
    let spent = (processor_time() - before).as_secs_f64() / span.as_secs_f64();
    let count = |of: &AtomicU64| of.load(Ordering::Relaxed) as f64 / span.as_secs_f64();
    let (batches, requests) = (count(&done.batches), count(&done.requests));
    println!(
        "{what:<12} batches of {batch_max}: busy {:.3}; {batches:.0} batches and {requests:.0} requests a second, {:.0} \
         refused; {spent:.2} processors",
        batches * BATCH.as_secs_f64() / shards as f64,
        count(&done.refused),
    );
    for task in tasks {
        task.abort();
    }
    shell::stop(&scheduler).await;
}

/// What this process used of all processors.
fn processor_time() -> Duration {
    let used = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(used.tv_sec as u64, used.tv_nsec as u32)
}

fn main() {
    let Ok(FoundServer::Binary(binary)) = find_server(None) else {
        eprintln!("PENSTOCK_NATS_SERVER names no nats-server");
        std::process::exit(1);
    };
    let shards = number("PENSTOCK_BENCH_SHARDS", 64);
    let system = System::with_tokio_rt(|| tokio::runtime::Runtime::new().expect("a runtime"));
    system.block_on(async {
        let batch_max = number("PENSTOCK_BENCH_BATCH", 1) as u32;
        let bus = memory::volatile().await.expect("a bus");
        measure("memory bus", bus.clone(), bus, shards, batch_max).await;
        let folder = tempfile::tempdir().expect("a folder");
        let config = ServerConfig::new(&binary, folder.path());
        let server = NatsServer::start(config).await.expect("nats-server starts");
        let connect = || async {
            let config = NatsConfig::new(server.url(), CHAIN_ID, B256::repeat_byte(9));
            penstock_wire::nats::transport(config)
                .await
                .expect("connected")
        };
        measure(
            "nats-server",
            connect().await,
            connect().await,
            shards,
            batch_max,
        )
        .await;
    });
}
