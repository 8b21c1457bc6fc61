//! What the bus costs, over a real nats-server on loopback, in one run: `cargo bench -p penstock-tests --bench bus`.
//!
//! ```text
//!   request/reply        client --request--> echo --reply--> client                        bare, 64 bytes
//!   dispatch to result   scheduler --assign--> shard --done--> scheduler                   a request of 1 KiB and a
//!                                                                                          trace, encoded, signed,
//!                                                                                          checked
//!   accepted             N submitters --append--> one commit after another --> file        a transfer each
//!   block                producer --append--> log                                          2 MB, with its witness
//! ```
//!
//! Ratios within a run count. `PENSTOCK_NATS_SERVER` is the server.

use alloy_primitives::{Address, B256};
use bytes::Bytes;
use penstock_evm::{SigningKey, attest, check_attestation};
use penstock_rules::ids::{Epoch, Height, LeaseId, Micros, ModelHash, RequestKey, Seq, ShardId};
use penstock_rules::message::{Answer, AssignedRequest, Assignment, AssignmentDone};
use penstock_rules::request::{Mode, Outcome};
use penstock_wire::nats::NatsConfig;
use penstock_wire::server::ServerConfig;
use penstock_wire::trace::TraceParent;
use penstock_wire::{
    Bus, FoundServer, NatsServer, Subjects, Transport, decode, encode, find_server,
};
use std::sync::Arc;
use std::time::{Duration, Instant};

const CHAIN_ID: u64 = 31_337;
/// Rounds of each line.
const ROUNDS: usize = 4_000;
/// Rounds before, which do not count.
const WARM: usize = 200;
/// Bytes of a request's input, and of its output.
const REQUEST_BYTES: usize = 1_024;
/// Bytes of a transfer.
const TRANSFER_BYTES: usize = 120;
/// Time over which acceptance is measured.
const SPAN: Duration = Duration::from_secs(3);
/// Bytes of a large block.
const BLOCK_BYTES: usize = 2_000_000;
const WAIT: Duration = Duration::from_secs(5);

fn report(what: &str, times: &mut [Duration]) -> Duration {
    times.sort();
    let at = |percent: usize| times[(times.len() - 1) * percent / 100];
    println!("{what:<44} p50 {:>9.1?}  p99 {:>9.1?}", at(50), at(99));
    at(50)
}

async fn request_reply(client: &Transport, server: &Transport) -> Duration {
    let subject = format!("penstock.{CHAIN_ID}.v1.bench");
    let mut inbox = server
        .bus
        .serve(&subject, "bench", 64)
        .await
        .expect("it serves");
    let bus = server.bus.clone();
    let echo = tokio::spawn(async move {
        while let Some(delivery) = inbox.next().await {
            let payload = delivery.payload.clone();
            bus.reply(&delivery, payload).await.expect("it replies");
        }
    });
    let payload = Bytes::from(vec![7; 64]);
    let mut times = Vec::new();
    for round in 0..WARM + ROUNDS {
        let start = Instant::now();
        let reply = client.bus.request(&subject, payload.clone(), WAIT).await;
        reply.expect("an answer");
        if round >= WARM {
            times.push(start.elapsed());
        }
    }
    echo.abort();
    report("bare request and reply, 64 bytes", &mut times)
}

/// The messages' way, and what is done with them: the model's own time is none.
async fn dispatch(scheduler: &Transport, shard: &Transport, signed: bool) -> Duration {
    let subjects = Subjects::new(CHAIN_ID);
    let key = SigningKey::new(B256::repeat_byte(7)).expect("a key");
    let id = ShardId(key.address());
    let mut assigned = shard
        .bus
        .subscribe(&subjects.assign(id), 64)
        .await
        .expect("it hears");
    let mut answers = scheduler
        .bus
        .subscribe(&subjects.answers(), 64)
        .await
        .expect("it hears");
    let bus: Arc<dyn Bus> = shard.bus.clone();
    let worker = tokio::spawn(async move {
        while let Some(delivery) = assigned.next().await {
            let work: Assignment = decode(&delivery.payload).expect("work");
            let outcome = Outcome::Output(vec![1; REQUEST_BYTES].into());
            let answer = |request: &AssignedRequest| Answer {
                key: request.key,
                attestation: attest(&key, CHAIN_ID, request.key, outcome.hash()),
                outcome: outcome.clone(),
            };
            let done = AssignmentDone {
                shard: work.shard,
                lease: work.lease,
                epoch: work.epoch,
                answers: match signed {
                    true => work.requests.iter().map(answer).collect(),
                    false => vec![],
                },
                ran: Micros(0),
                batch: 1,
            };
            let subject = subjects.answers();
            let sent = bus.publish_traced(&subject, encode(&done), &delivery.traces);
            sent.await.expect("sent");
        }
    });
    let mut times = Vec::new();
    for round in 0..WARM + ROUNDS {
        let start = Instant::now();
        let work = Assignment {
            shard: id,
            incarnation: 1,
            lease: LeaseId(round as u64),
            epoch: Epoch(1),
            model: ModelHash(B256::repeat_byte(1)),
            requests: vec![AssignedRequest {
                key: RequestKey(B256::from(alloy_primitives::U256::from(round))),
                mode: Mode::Vanilla,
                input: vec![3; REQUEST_BYTES].into(),
            }],
            must_start_by: Micros(u64::MAX),
            expires: Micros(u64::MAX),
        };
        let subject = subjects.assign(id);
        let traces = [TraceParent::of(B256::repeat_byte(1), "scheduler")];
        let sent = scheduler
            .bus
            .publish_traced(&subject, encode(&work), &traces);
        sent.await.expect("sent");
        let answer = answers.next().await.expect("an answer");
        let done: AssignmentDone = decode(&answer.payload).expect("an answer");
        assert_eq!(done.lease, work.lease);
        for answer in &done.answers {
            let hash = answer.outcome.hash();
            assert!(check_attestation(
                &answer.attestation,
                CHAIN_ID,
                answer.key,
                hash
            ));
        }
        if round >= WARM {
            times.push(start.elapsed());
        }
    }
    worker.abort();
    let what = match signed {
        true => "dispatch to result, signed and checked",
        false => "dispatch to result, messages alone",
    };
    report(what, &mut times)
}

async fn accepted(transport: &Transport, submitters: usize) {
    let start = Instant::now();
    let mut tasks = Vec::new();
    for submitter in 0..submitters {
        let queue = transport.accepted.clone();
        tasks.push(tokio::spawn(async move {
            let (mut times, mut number) = (Vec::new(), 0_u64);
            while start.elapsed() < SPAN {
                number += 1;
                let id = (submitter as u64) << 32 | number;
                let id = B256::from(alloy_primitives::U256::from(id));
                let began = Instant::now();
                let item = (id, Bytes::from(vec![5; TRANSFER_BYTES]));
                queue.append(vec![item]).await.expect("durable");
                times.push(began.elapsed());
            }
            times
        }));
    }
    let mut times = Vec::new();
    for task in tasks {
        times.extend(task.await.expect("a submitter"));
    }
    let rate = times.len() as f64 / start.elapsed().as_secs_f64();
    let what = format!("accepted, {submitters} submitters: {rate:.0} a second");
    report(&what, &mut times);
}

async fn blocks(transport: &Transport) {
    let log = &transport.log;
    let epoch = log.take_over(Address::repeat_byte(1), Epoch(0)).await;
    let epoch = epoch.expect("it leads");
    let (mut last, mut times) = (Seq(epoch.0), Vec::new());
    for height in 1..=40 {
        let block = Bytes::from(vec![height as u8; BLOCK_BYTES]);
        let id = B256::repeat_byte(height as u8);
        let start = Instant::now();
        last = log
            .append(epoch, Height(height), id, last, block)
            .await
            .expect("in the log");
        times.push(start.elapsed());
    }
    report("a block of 2 MB into the log", &mut times);
}

fn main() {
    let Ok(FoundServer::Binary(binary)) = find_server(None) else {
        eprintln!("PENSTOCK_NATS_SERVER names no nats-server");
        std::process::exit(1);
    };
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    for sync_always in [false, true] {
        println!(
            "sync_interval: {}",
            if sync_always { "always" } else { "the default" }
        );
        runtime.block_on(async {
            let folder = tempfile::tempdir().expect("a folder");
            let config = ServerConfig {
                sync_always,
                ..ServerConfig::new(&binary, folder.path())
            };
            let server = NatsServer::start(config).await.expect("nats-server starts");
            let connect = || async {
                let config = NatsConfig::new(server.url(), CHAIN_ID, B256::repeat_byte(9));
                penstock_wire::nats::transport(config)
                    .await
                    .expect("connected")
            };
            let (here, there) = (connect().await, connect().await);
            let bare = request_reply(&here, &there).await;
            for signed in [false, true] {
                let way = dispatch(&here, &there, signed).await;
                println!(
                    "{:<44} {:.2} times",
                    "",
                    way.as_secs_f64() / bare.as_secs_f64()
                );
            }
            for submitters in [1, 64, 1_024] {
                accepted(&here, submitters).await;
            }
            blocks(&here).await;
        });
    }
}
