//! Two shards that sign the same lie, over a real nats-server: no vote can tell, whoever holds the model can. Every node
//! computes the answer again, shows who lied, asks nobody of them again, and gives the next who asks the truth. And what is
//! said of a transaction carries its trace.

use alloy_primitives::{Address, Bytes, hex};
use alloy_provider::{DynProvider, Provider};
use alloy_sol_types::SolCall;
use penstock::genesis::shard_key;
use penstock_evm::abi::{InferenceCall, NumberTensor, solidity};
use penstock_evm::predeploys::INFERENCE;
use penstock_evm::{SigningKey, attest};
use penstock_rules::ids::{Micros, ModelHash, ShardId};
use penstock_rules::message::{Answer, Assignment, AssignmentDone};
use penstock_rules::request::{Mode, Outcome};
use penstock_rules::tensor::{self, Tensor};
use penstock_tests::harness::cluster::{Kind, Member, PATIENCE, nats, nats_binary, until};
use penstock_tests::harness::{hello, receipt, rows, submit, wallets};
use penstock_wire::nats::{NatsConfig, shard_transport};
use penstock_wire::{Bus, Subjects, decode, encode};
use serde_json::Value;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

const CHAIN: u64 = 31_337;
/// Gas for a transaction with one call of a model.
const GAS: u64 = 8_000_000;

fn node(dir: &Path, name: &str, roles: &str, url: &str) -> Member {
    let data = dir.join(name).join("data");
    let config = format!(
        "roles = [{roles}]\ndata = {data:?}\n[nats]\nurl = \"{url}\"\n[health]\nport = 0\n[rpc]\nport = 0\n"
    );
    Member::start(dir, name, Kind::Node, &config, &[])
}

fn honest(dir: &Path, index: u16, url: &str) -> Member {
    let config = format!(
        "[shard]\nkey = \"derived:{index}\"\n[inference]\nbackend = \"cpu\"\n[nats]\nurl = \"{url}\"\n[health]\nport = 0\n"
    );
    Member::start(dir, &format!("shard-{index}"), Kind::Shard, &config, &[])
}

/// A call of the risk model whose answer is to be computed again.
fn call() -> Bytes {
    let (name, rows) = rows("risk");
    let values: Vec<_> = rows[0]
        .input
        .iter()
        .map(|number| penstock_evm::abi::Number {
            value: number.value,
            decimals: number.decimals,
        })
        .collect();
    let call = InferenceCall {
        mode: Mode::Zk,
        cid: "risk".into(),
        numbers: vec![NumberTensor {
            name,
            shape: vec![1, values.len() as u32],
            values,
        }],
        strings: vec![],
    };
    let request = (&call).into();
    solidity::runModelInferenceCall { request }
        .abi_encode()
        .into()
}

/// What the liars say: an output of the model's form, with a risk that no model gave.
fn lie() -> Outcome {
    let tensor = Tensor::from_f32_bits("risk", &[1, 1], [123.0_f32.to_bits()]);
    Outcome::Output(tensor::encode(&[tensor]).into())
}

/// Says hello and answers all that it is asked for with the lie.
async fn lying(bus: Arc<dyn Bus>, key: SigningKey, model: ModelHash) {
    let (of, shard) = (Subjects::new(CHAIN), ShardId(key.address()));
    let hello = hello(shard, model);
    let mut work = bus
        .subscribe(&of.assign(shard), 1_024)
        .await
        .expect("a subscription");
    let mut beats = tokio::time::interval(Duration::from_millis(250));
    loop {
        tokio::select! {
            _ = beats.tick() => {
                // Lost ones are said again.
                let _ = bus.publish(&of.shard_hello(), encode(&hello)).await;
            }
            Some(delivery) = work.next() => {
                let work: Assignment = decode(&delivery.payload).expect("an assignment");
                let answer = |key_of: &penstock_rules::message::AssignedRequest| Answer {
                    key: key_of.key,
                    outcome: lie(),
                    attestation: attest(&key, CHAIN, key_of.key, lie().hash()),
                };
                let done = AssignmentDone {
                    shard,
                    lease: work.lease,
                    epoch: work.epoch,
                    answers: work.requests.iter().map(answer).collect(),
                    ran: Micros(1_000),
                    batch: 1,
                };
                bus.publish(&of.answers(), encode(&done)).await.expect("sent");
            }
        }
    }
}

async fn ask(provider: &DynProvider, method: &'static str) -> Vec<Value> {
    provider
        .raw_request(method.into(), ())
        .await
        .expect("an answer")
}

/// The evidence against a shard, as a node shows it.
async fn evidence(provider: &DynProvider, shard: Address) -> Option<Value> {
    let shards = ask(provider, "pipe_shards").await;
    let found = shards.into_iter().find(|one| {
        let shown = one["shard"].as_str().unwrap_or_default();
        shown.eq_ignore_ascii_case(&shard.to_string())
    })?;
    (found["quarantined"] == true).then(|| found["evidence"].clone())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lie_that_a_whole_quorum_signed_is_found_by_every_node_and_not_told_again() {
    let Some(binary) = nats_binary() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let server = nats(&binary, dir.path()).await;
    let all = "\"mempool\", \"scheduler\", \"producer\", \"gateway\"";
    let main = node(dir.path(), "main", all, server.url());
    let mut other = node(dir.path(), "other", "\"gateway\"", server.url());
    until("both are ready", || {
        (main.is_ready() && other.is_ready()).then_some(())
    });
    let provider = main.provider();
    let models = ask(&provider, "pipe_models").await;
    let risk = models
        .iter()
        .find(|model| model["cid"] == "risk")
        .expect("risk is built in");
    let hash = risk["hash"].as_str().expect("a hash");
    let model = ModelHash(hash.parse().expect("a hash"));

    let transport = shard_transport(NatsConfig::new(server.url(), CHAIN, Default::default())).await;
    let bus = transport.expect("a connection").bus;
    let liars = [shard_key(CHAIN, 0), shard_key(CHAIN, 1)];
    let lies: Vec<_> = liars
        .iter()
        .map(|key| tokio::spawn(lying(bus.clone(), key.clone(), model)))
        .collect();

    // The lie gets into a block: it has its quorum, and the block is valid on every node.
    let mut wallet = wallets(1).remove(0);
    let sent = wallet.sign(Some(INFERENCE), 0, call(), GAS);
    submit(&provider, &sent).await;
    let first = receipt(&provider, sent.hash, PATIENCE).await;
    assert!(first.status(), "the lie has the form of an answer");
    for liar in &liars {
        for node in [&provider, &other.provider()] {
            let mut shown = None;
            let start = std::time::Instant::now();
            while shown.is_none() {
                assert!(
                    start.elapsed() < PATIENCE,
                    "{} is not caught",
                    liar.address()
                );
                tokio::time::sleep(Duration::from_millis(50)).await;
                shown = evidence(node, liar.address()).await;
            }
            let shown = shown.expect("evidence");
            assert!(
                shown["recomputed"]
                    .as_str()
                    .is_some_and(|input| input.len() > 2),
                "{shown}"
            );
            assert_eq!(
                shown["against"],
                Value::Array(vec![]),
                "nobody signed otherwise"
            );
            assert_ne!(shown["outcomeHash"], hex::encode_prefixed(lie().hash()));
        }
    }

    // The liars are asked no more; honest ones that come are, and what they say is taken.
    let shards: Vec<_> = (2..4)
        .map(|index| honest(dir.path(), index, server.url()))
        .collect();
    // Whoever listens sees on each message whose transaction it serves.
    let of = Subjects::new(CHAIN);
    let mut inboxes = Vec::new();
    for index in 2..4 {
        let subject = of.assign(ShardId(shard_key(CHAIN, index).address()));
        inboxes.push(bus.subscribe(&subject, 64).await.expect("a subscription"));
    }
    for subject in [
        of.gang(),
        of.answers(),
        of.settled(),
        of.ready(),
        of.status(),
    ] {
        inboxes.push(bus.subscribe(&subject, 64).await.expect("a subscription"));
    }
    let again = wallet.sign(Some(INFERENCE), 0, call(), GAS);
    submit(&provider, &again).await;
    let second = receipt(&provider, again.hash, PATIENCE).await;
    assert!(second.status());
    let said = |receipt: &alloy_rpc_types_eth::TransactionReceipt| {
        receipt.logs().last().map(|log| log.inner.data.clone())
    };
    assert!(said(&first).is_some());
    assert_ne!(said(&first), said(&second), "the lie was told again");
    let trace = hex::encode(&again.hash[..16]);
    for inbox in &mut inboxes {
        let mut traced = false;
        let start = std::time::Instant::now();
        while !traced {
            let left = PATIENCE.saturating_sub(start.elapsed());
            let delivery = tokio::time::timeout(left, inbox.next()).await;
            let delivery = delivery
                .expect("a message with the trace")
                .expect("the bus is open");
            traced = delivery.traces.iter().any(|one| one.trace_id() == trace);
        }
    }

    // A node that starts again knows who lied, though it computed nothing since.
    other.kill();
    other.restart();
    until("it is ready", || other.is_ready().then_some(()));
    let start = std::time::Instant::now();
    while evidence(&other.provider(), liars[0].address())
        .await
        .is_none()
    {
        assert!(start.elapsed() < PATIENCE, "the evidence is forgotten");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let start = std::time::Instant::now();
    let last = second.block_number.expect("a block");
    while other.provider().get_block_number().await.expect("a number") < last {
        assert!(start.elapsed() < PATIENCE, "the other node does not follow");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for lie in lies {
        lie.abort();
    }
    drop(shards);
}
