//! A transaction on its way through a gateway, where mempools are cut off: it is sent again, and is one all the same.

use penstock_actors::chain::chain;
use penstock_actors::gateway::{self, Gateway, GatewayConfig};
use penstock_actors::results::ResultBook;
use penstock_rpc::TxSubmitter;
use penstock_rules::ids::TxHash;
use penstock_rules::message::SubmitReply;
use penstock_rules::tx::Refusal;
use penstock_tests::harness::{at_genesis, wallets};
use penstock_wire::{Subjects, Transport, encode, memory};
use std::sync::Arc;
use std::time::Duration;

struct Bench {
    transport: Transport,
    gateway: Arc<Gateway>,
    _folder: tempfile::TempDir,
}

async fn bench() -> Bench {
    let folder = tempfile::tempdir().expect("a folder");
    let (store, head) = at_genesis(folder.path());
    let (publisher, chain) = chain(head);
    // It lives as long as the process: the gateway follows it.
    std::mem::forget(publisher);
    let transport = memory::volatile().await.expect("a transport");
    let config = GatewayConfig {
        submit_timeout: Duration::from_secs(30),
        ..GatewayConfig::default()
    };
    let results = ResultBook::default();
    let gateway = gateway::start(config, transport.clone(), store, chain, results, None).await;
    Bench {
        transport,
        gateway: gateway.expect("a gateway"),
        _folder: folder,
    }
}

/// A mempool that hears `silent` requests and answers none of them, then gives these answers.
async fn mempool(bench: &Bench, silent: usize, answer: Result<TxHash, Refusal>) {
    let bus = bench.transport.bus.clone();
    let subject = Subjects::new(31_337).submit();
    let mut inbox = bus.serve(&subject, "mempool", 16).await.expect("it serves");
    tokio::spawn(async move {
        for _ in 0..silent {
            inbox.next().await;
        }
        while let Some(delivery) = inbox.next().await {
            let reply = SubmitReply {
                result: answer.clone(),
            };
            // The one who asked may be gone.
            let _ = bus.reply(&delivery, encode(&reply)).await;
        }
    });
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_whose_answer_was_lost_is_the_one_that_the_mempool_knows() {
    let bench = bench().await;
    let sent = wallets(1)[0].sign(None, 0, Default::default(), 100_000);
    mempool(&bench, 2, Err(Refusal::AlreadyKnown)).await;
    assert_eq!(bench.gateway.send_raw(sent.raw).await, Ok(sent.hash));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_is_refused_is_refused_however_often_it_was_sent() {
    for (silent, refusal) in [
        (0, Refusal::AlreadyKnown),
        (0, Refusal::NonceTooLow { next: 2, nonce: 1 }),
        // It is in no block: another transaction has its nonce.
        (1, Refusal::NonceTooLow { next: 2, nonce: 1 }),
        (1, Refusal::Underpriced { fee: 1, minimum: 7 }),
    ] {
        let bench = bench().await;
        let sent = wallets(1)[0].sign(None, 0, Default::default(), 100_000);
        mempool(&bench, silent, Err(refusal.clone())).await;
        assert_eq!(bench.gateway.send_raw(sent.raw).await, Err(refusal));
    }
}
