//! Two mempools lead for a while after a partition heals. Each answers a part of the submissions, and both write one
//! durable stream: the one that stays must know what the other one accepted.

use penstock_actors::chain::chain;
use penstock_actors::extractor::{self, ExtractorConfig};
use penstock_actors::mempool;
use penstock_actors::results::ResultBook;
use penstock_rules::ids::{Seq, TxHash};
use penstock_rules::message::{Submit, SubmitReply};
use penstock_rules::producer::Timetable;
use penstock_rules::tx::{Refusal, Stage, StatusUpdate};
use penstock_tests::harness::cluster::{nats, nats_binary};
use penstock_tests::harness::{Sent, at_genesis, wallets};
use penstock_wire::nats::{NatsConfig, transport};
use penstock_wire::{BusError, Subjects, Subscription, Transport, decode, encode};
use std::time::Duration;

const CHAIN_ID: u64 = 31_337;
/// Longest wait for anything, on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<T>(what: &str, future: impl Future<Output = T>) -> T {
    let result = tokio::time::timeout(PATIENCE, future).await;
    result.unwrap_or_else(|_| panic!("waited in vain: {what}"))
}

/// Waits until the pool has a transaction ready for a block.
async fn is_ready(statuses: &mut Subscription, hash: TxHash) {
    while let Some(delivery) = statuses.next().await {
        let update: StatusUpdate = decode(&delivery.payload).expect("a status");
        if update.hash == hash && update.stage == Stage::Ready {
            return;
        }
    }
    panic!("the subscription ended");
}

/// Submits as a gateway does, again where nobody serves yet.
async fn submit(transport: &Transport, sent: &Sent) -> Result<TxHash, Refusal> {
    let subject = Subjects::new(CHAIN_ID).submit();
    loop {
        let raw = sent.raw.clone();
        let request = encode(&Submit { raw });
        match transport.bus.request(&subject, request, PATIENCE).await {
            Ok(reply) => return decode::<SubmitReply>(&reply).expect("an answer").result,
            Err(BusError::NoResponder { .. }) => {
                tokio::time::sleep(Duration::from_millis(20)).await
            }
            Err(error) => panic!("{error}"),
        }
    }
}

async fn one_that_stays_takes_what_the_other_accepted(url: &str, folder: &std::path::Path) {
    let connect = async || {
        let config = NatsConfig::new(url, CHAIN_ID, Default::default());
        transport(config).await.expect("the server is ours")
    };
    let (here, other) = (connect().await, connect().await);
    let mut statuses = other
        .bus
        .subscribe(&Subjects::new(CHAIN_ID).status(), 1_024)
        .await
        .expect("a subscription");

    let (_store, head) = at_genesis(folder);
    let (_publisher, chain) = chain(head);
    let on = actix::Arbiter::new().handle();
    let extractor = extractor::start(
        &on,
        ExtractorConfig::new(Timetable::Manual, Default::default()),
        here.clone(),
        chain.head(),
        ResultBook::default(),
    );
    let _mempool = mempool::start(&on, Default::default(), here.clone(), chain, extractor);

    let mut alice = wallets(1).remove(0);
    let mut next = || alice.sign(None, 0, Default::default(), 100_000);
    let sent = [next(), next(), next()];
    let first = soon("it serves", submit(&other, &sent[0])).await;
    assert_eq!(first, Ok(sent[0].hash));
    soon("the first is ready", is_ready(&mut statuses, sent[0].hash)).await;

    // What the other one does before it hears of this one, and this one never heard of: the second transaction, and the
    // first, whose sender asked both.
    let twice = other
        .accepted
        .append(vec![
            (sent[1].hash, sent[1].raw.0.clone()),
            (sent[0].hash, sent[0].raw.0.clone()),
        ])
        .await;
    twice.expect("written");
    soon("the second is ready", is_ready(&mut statuses, sent[1].hash)).await;
    assert_eq!(submit(&other, &sent[2]).await, Ok(sent[2].hash));
    soon("the third is ready", is_ready(&mut statuses, sent[2].hash)).await;

    // What stands twice is taken out once.
    soon("each stands in the stream once", async {
        loop {
            let items = here.accepted.replay(Seq(0), 10).await.expect("readable");
            let mut ids: Vec<_> = items.iter().map(|item| item.id).collect();
            ids.sort_by_key(|id| sent.iter().position(|sent| sent.hash == *id));
            if ids == sent.each_ref().map(|sent| sent.hash) {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
}

#[test]
fn a_mempool_takes_what_another_one_accepted_beside_it() {
    let Some(server) = nats_binary() else { return };
    actix::System::new().block_on(async {
        let folder = tempfile::tempdir().expect("a folder");
        let server = nats(&server, folder.path()).await;
        one_that_stays_takes_what_the_other_accepted(server.url(), folder.path()).await;
    });
}
