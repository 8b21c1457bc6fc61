//! What only a server between the processes can do wrong: lost answers, foreign chains, forbidden subjects, elections.

use super::log::{NONE, append, producer};
use super::proxy::{Cut, Proxy};
use super::{Backend, CHAIN_ID, Nats, PATIENCE, block, genesis, soon, until};
use crate::nats::{NatsConfig, NatsError, transport};
use crate::{AppendError, BlockLog, BusError, LogRecord, Transport, decode, encode};
use alloy_primitives::{B256, Bytes, keccak256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use std::sync::Arc;
use std::time::Duration;

struct Cuttable {
    backend: Nats,
    proxy: Proxy,
    /// Behind the proxy.
    far: Transport,
    near: Transport,
}

async fn cuttable(settle: Duration) -> Option<Cuttable> {
    let mut backend = Nats::start().await?;
    let proxy = Proxy::start(&backend.url()).await;
    let mut config = backend.config();
    config.url = proxy.url();
    config.settle = settle;
    let far = transport(config).await.expect("the proxy passes");
    let near = backend.connect().await;
    Some(Cuttable {
        backend,
        proxy,
        far,
        near,
    })
}

fn spawn_append(
    log: &Arc<dyn BlockLog>,
    epoch: penstock_rules::ids::Epoch,
    n: u64,
    expected: Seq,
) -> tokio::task::JoinHandle<Result<Seq, AppendError>> {
    let log = log.clone();
    tokio::spawn(async move { append(&*log, epoch, n, expected).await })
}

/// The append is in the log, and its acknowledgement is lost. Once the connection is back, the producer finds its block.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_whose_answer_was_lost_is_found_again() {
    let Some(net) = cuttable(PATIENCE).await else {
        return;
    };
    let epoch = net
        .far
        .log
        .take_over(producer(1), NONE)
        .await
        .expect("free");
    net.proxy.cut(Cut::Answers);
    let appending = spawn_append(&net.far.log, epoch, 1, Seq(epoch.0));
    until("the block is in the log", async || {
        matches!(net.near.log.head().await, Ok(Some(_)))
    })
    .await;
    assert!(!appending.is_finished(), "it can't know yet");
    until("the answer is swallowed", async || {
        net.proxy.swallowed()[1] > 0
    })
    .await;
    net.proxy.heal();
    let seq = soon("the append", appending).await.expect("no panic");
    let (head, bytes) = net.near.log.head().await.expect("readable").expect("there");
    assert_eq!((seq, bytes), (Ok(head), block(1).1));
    assert_eq!(net.near.log.last().await, Ok(head), "it is there once");
}

/// The same, and while the producer is cut off another takes over and builds on the block. Its append was a success all
/// the same; its next is refused.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_is_found_under_the_blocks_of_who_took_over() {
    let Some(net) = cuttable(PATIENCE).await else {
        return;
    };
    let old = net
        .far
        .log
        .take_over(producer(1), NONE)
        .await
        .expect("free");
    net.proxy.cut(Cut::Answers);
    let appending = spawn_append(&net.far.log, old, 1, Seq(old.0));
    until("the block is in the log", async || {
        matches!(net.near.log.head().await, Ok(Some(_)))
    })
    .await;
    let new = net
        .near
        .log
        .take_over(producer(2), old)
        .await
        .expect("seen");
    let two = append(&*net.near.log, new, 2, Seq(new.0))
        .await
        .expect("alone");
    net.proxy.heal();
    let seq = soon("the append", appending).await.expect("no panic");
    assert_eq!(seq, Ok(Seq(old.0 + 1)));
    let fenced = append(&*net.far.log, old, 3, two).await;
    assert!(matches!(fenced, Err(AppendError::Fenced(r)) if r.epoch == new));
    assert_eq!(net.near.log.last().await, Ok(two));
}

/// The append never reached the server, and another took over meanwhile: when the connection is back, its repetition
/// must not get in. Twenty times, with one connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_producer_that_was_cut_off_never_gets_a_block_in_with_its_old_epoch() {
    const ROUNDS: u8 = 20;
    let Some(net) = cuttable(PATIENCE).await else {
        return;
    };
    let mut epoch = NONE;
    let mut blocks = 0;
    for round in 0..ROUNDS {
        let old = net
            .far
            .log
            .take_over(producer(1), epoch)
            .await
            .expect("seen");
        net.proxy.cut(Cut::Both);
        let [before, _] = net.proxy.swallowed();
        let appending = spawn_append(&net.far.log, old, 1_000 + u64::from(round), Seq(old.0));
        let new = net
            .near
            .log
            .take_over(producer(2), old)
            .await
            .expect("seen");
        let n = u64::from(round);
        append(&*net.near.log, new, n, Seq(new.0))
            .await
            .expect("alone");
        blocks += 1;
        // Longer than a ping: it is the append that was sent, into the void.
        until("the append is sent", async || {
            net.proxy.swallowed()[0] > before + 200
        })
        .await;
        net.proxy.heal();
        let refused = soon("the append", appending).await.expect("no panic");
        assert!(matches!(refused, Err(AppendError::Fenced(r)) if r.epoch == new));
        epoch = new;
    }
    let all = net.near.log.read(Seq(0), 1_000).await.expect("readable");
    let found: Vec<_> = (all.into_iter())
        .filter_map(|(_, record)| match record {
            LogRecord::Block(bytes) => Some(bytes),
            LogRecord::Epoch(_) => None,
        })
        .collect();
    assert_eq!(found.len(), blocks);
    let expect: Vec<_> = (0..u64::from(ROUNDS)).map(|n| block(n).1).collect();
    assert_eq!(found, expect);
}

/// Timed out means unknown, never failed.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_that_stays_cut_off_is_unknown_and_can_be_asked_again() {
    let Some(net) = cuttable(Duration::from_millis(200)).await else {
        return;
    };
    let epoch = net
        .far
        .log
        .take_over(producer(1), NONE)
        .await
        .expect("free");
    net.proxy.cut(Cut::Answers);
    let unknown = append(&*net.far.log, epoch, 1, Seq(epoch.0)).await;
    assert!(
        matches!(unknown, Err(AppendError::Unknown(_))),
        "{unknown:?}"
    );
    net.proxy.heal();
    let mut again = Err(AppendError::Unknown(String::new()));
    until("the answer", async || {
        again = append(&*net.far.log, epoch, 1, Seq(epoch.0)).await;
        again.is_ok()
    })
    .await;
    assert_eq!(again, Ok(Seq(epoch.0 + 1)));
    assert_eq!(net.near.log.last().await, Ok(Seq(epoch.0 + 1)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn queue_items_whose_answer_was_lost_are_there_once() {
    let Some(net) = cuttable(PATIENCE).await else {
        return;
    };
    let queue = net.far.accepted.clone();
    let id = keccak256("item");
    net.proxy.cut(Cut::Answers);
    let appending = tokio::spawn(async move { queue.append(vec![(id, "item".into())]).await });
    until("the item is there", async || {
        let items = net.near.accepted.replay(Seq(0), 10).await;
        items.is_ok_and(|items| items.len() == 1)
    })
    .await;
    net.proxy.heal();
    let seqs = soon("the append", appending).await.expect("no panic");
    let items = net
        .near
        .accepted
        .replay(Seq(0), 10)
        .await
        .expect("readable");
    assert_eq!(items.len(), 1);
    assert_eq!(seqs, Ok(vec![items[0].seq]));
}

/// A follower goes on by itself after its connection was cut, and misses nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_to_the_log_outlives_a_cut_and_a_crash_of_the_server() {
    let Some(mut net) = cuttable(PATIENCE).await else {
        return;
    };
    let mut follower = net.far.log.subscribe(Seq(0)).await.expect("open");
    let epoch = net
        .near
        .log
        .take_over(producer(1), NONE)
        .await
        .expect("free");
    let mut head = Seq(epoch.0);
    let mut expect = Vec::new();
    for n in 0..30 {
        match n {
            5 => net.proxy.cut(Cut::Both),
            10 => net.proxy.heal(),
            20 => net.backend.crash().await,
            _ => {}
        }
        head = append(&*net.near.log, epoch, n, head).await.expect("alone");
        expect.push((head, LogRecord::Block(block(n).1)));
    }
    let first = soon("the epoch", follower.next()).await;
    assert!(matches!(first, Some(Ok((_, LogRecord::Epoch(_))))));
    for entry in expect {
        let next = soon("an entry", follower.next()).await;
        assert_eq!(next, Some(Ok(entry)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_of_another_chain_with_the_same_id_is_refused_when_it_connects() {
    let Some(mut backend) = Nats::start().await else {
        return;
    };
    backend.connect().await;
    let mut config = backend.config();
    config.genesis = keccak256("another");
    let refused = transport(config.clone()).await;
    assert!(matches!(
        refused,
        Err(NatsError::OtherChain { theirs, .. }) if theirs == genesis().to_string()
    ));
    config.chain_id += 1;
    transport(config)
        .await
        .expect("another id is another chain");
}

/// Streams are told apart by when they were made: one that was deleted and made anew counts from 1 again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_was_deleted_and_made_anew_stops_its_followers() {
    let Some(mut backend) = Nats::start().await else {
        return;
    };
    let log = backend.connect().await.log;
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    append(&*log, epoch, 1, Seq(epoch.0)).await.expect("alone");
    let mut follower = log.subscribe(Seq(epoch.0 + 1)).await.expect("open");
    assert!(matches!(soon("it", follower.next()).await, Some(Ok(_))));
    let client = async_nats::connect(backend.url()).await.expect("it runs");
    let jetstream = async_nats::jetstream::new(client);
    let name = format!("PENSTOCK_{CHAIN_ID}_LOG");
    jetstream.delete_stream(name).await.expect("it is there");
    let anew = backend.connect().await.log;
    anew.take_over(producer(2), NONE).await.expect("free");
    let error = soon("an error", follower.next()).await;
    assert!(
        matches!(error, Some(Err(crate::LogError::Replaced(_)))),
        "{error:?}"
    );
}

/// async-nats hides what the server forbids: here each call says it, and at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_forbids_is_heard_at_once() {
    let subjects = format!("penstock.{CHAIN_ID}.v1");
    let extra = format!(
        "authorization {{ users: [\n\
         {{ user: admin, password: x }}\n\
         {{ user: shard, password: x, permissions: {{\n\
           publish: [\"$JS.API.>\", \"{subjects}.bus.barrier.>\", \"_INBOX.>\", \"ok.>\"]\n\
           subscribe: [\"_INBOX.>\", \"{subjects}.bus.barrier.>\", \"ok.>\"] }} }}\n] }}\n"
    );
    let Some(backend) = Nats::start_with(&extra).await else {
        return;
    };
    let url = |user: &str| {
        backend
            .url()
            .replace("nats://", &format!("nats://{user}:x@"))
    };
    let config = |user: &str| NatsConfig::new(&url(user), CHAIN_ID, genesis());
    transport(config("admin")).await.expect("it may do all");
    let bus = transport(config("shard")).await.expect("it may look").bus;
    bus.subscribe("ok.here", 1).await.expect("allowed");
    let quick = Duration::from_secs(2);
    for pattern in ["forbidden.x", "forbidden.>"] {
        let lone = tokio::time::timeout(quick, bus.subscribe(pattern, 1)).await;
        assert!(matches!(lone, Ok(Err(BusError::Denied(_)))), "{lone:?}");
        let served = tokio::time::timeout(quick, bus.serve(pattern, "group", 1)).await;
        assert!(matches!(served, Ok(Err(BusError::Denied(_)))), "{served:?}");
    }
    let asked = bus.request("forbidden.y", "?".into(), PATIENCE);
    let asked = tokio::time::timeout(quick, asked).await;
    assert!(matches!(asked, Ok(Err(BusError::Denied(_)))), "{asked:?}");
    // The first publish is gone before the server can object; it is known from then on.
    until("a forbidden publish is an error", async || {
        let sent = bus.publish("forbidden.z", "x".into()).await;
        matches!(sent, Err(BusError::Denied(_)))
    })
    .await;
    bus.publish("ok.there", "x".into()).await.expect("allowed");
}

/// A real message, over the wire and through the log, with its bytes checked at the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_block_passes_the_log_byte_for_byte() {
    let Some(mut backend) = Nats::start().await else {
        return;
    };
    let log = backend.connect().await.log;
    let sent = Block {
        header: Bytes::from(vec![1; 600]),
        transactions: vec![Bytes::from(vec![2; 200]); 50],
        witness: vec![],
        signature: Bytes::from(vec![3; 65]),
    };
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let id = B256::repeat_byte(9);
    let appended = log.append(epoch, Height(1), id, Seq(epoch.0), encode(&sent));
    appended.await.expect("alone");
    let (_, bytes) = log.head().await.expect("readable").expect("there");
    assert_eq!(decode::<Block>(&bytes), Ok(sent));
}

/// R3: the stream's leader is killed while a producer appends; every append succeeds in the end, each block is there
/// once, and nothing that was acknowledged is missing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn appends_go_on_after_the_leader_of_the_stream_was_killed() {
    let Some(mut backend) = Nats::start_cluster().await else {
        return;
    };
    let log = backend.connect().await.log;
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let mut head = Seq(epoch.0);
    let mut expect = Vec::new();
    let mut killed = 0;
    for n in 0..60 {
        if n % 20 == 10 {
            killed = leader(&backend).await;
            backend.servers[killed].kill().expect("it is ours");
        }
        head = append(&*log, epoch, n, head).await.expect("elections pass");
        expect.push((head, LogRecord::Block(block(n).1)));
        if n % 20 == 15 {
            let restarted = backend.servers[killed].restart().await;
            restarted.expect("it starts again");
            until_current(&backend).await;
        }
    }
    let found = log.read(Seq(epoch.0 + 1), 100).await.expect("readable");
    assert_eq!(found, expect);
}

async fn info(backend: &Nats) -> Option<async_nats::jetstream::stream::Info> {
    let alive = (backend.servers.iter()).map(|server| server.url().to_owned());
    let client = async_nats::connect(alive.collect::<Vec<_>>()).await.ok()?;
    let jetstream = async_nats::jetstream::new(client);
    let name = format!("PENSTOCK_{CHAIN_ID}_LOG");
    let stream = jetstream.get_stream(name).await.ok()?;
    Some(stream.cached_info().clone())
}

async fn leader(backend: &Nats) -> usize {
    let info = info(backend).await.expect("it is led");
    let leader = info.cluster.and_then(|c| c.leader).expect("it is led");
    leader.trim_start_matches('n').parse().expect("our name")
}

async fn until_current(backend: &Nats) {
    until("all replicas are current", async || {
        let cluster = info(backend).await.and_then(|info| info.cluster);
        cluster.is_some_and(|c| c.leader.is_some() && c.replicas.iter().all(|r| r.current))
    })
    .await;
}
