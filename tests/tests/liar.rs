//! A shard that lies, over a real nats-server: wrong bits, signatures that are not its own, a key that nobody
//! registered, old answers again. Nothing of it is taken, and the first proven lie is the last work that it gets.

use alloy_primitives::{B256, Bytes};
use alloy_provider::Provider;
use penstock::genesis::shard_key;
use penstock_evm::{SigningKey, attest};
use penstock_rules::ids::{Height, Igas, Micros, ModelHash, RequestKey, ShardId};
use penstock_rules::message::{
    Answer, Assignment, AssignmentDone, Class, Gang, GangRequest, ShardHello,
};
use penstock_rules::request::{Mode, Outcome, Request, Settled};
use penstock_rules::tensor::{self, Tensor};
use penstock_tests::harness::cluster::{PATIENCE, nats, nats_binary};
use penstock_tests::harness::{Devnet, hello};
use penstock_wire::nats::{NatsConfig, shard_transport};
use penstock_wire::{Bus, Subjects, decode, encode};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

const CHAIN: u64 = 31_337;
/// Wrong answers of each kind: four kinds are ten thousand.
const EACH: usize = 2_500;
/// Requests that honest shards and the liar are asked for.
const REQUESTS: u64 = 48;

fn lie() -> Outcome {
    Outcome::Output(Bytes::from_static(b"lie"))
}

/// A request of the risk model, in the mode that two shards must agree on.
fn request(model: ModelHash, number: u64) -> GangRequest {
    let bits = (0..10).map(|column| ((number * 31 + column) as f32 / 97.0).to_bits());
    let tensor = Tensor::from_f32_bits("patient", &[1, 10], bits);
    let request = Request {
        model,
        mode: Mode::Tee,
        input: tensor::encode(&[tensor]).into(),
    };
    GangRequest {
        key: request.key(),
        model,
        mode: Mode::Tee,
        input: request.input,
        igas: Igas(1_000),
        certain: true,
    }
}

/// Whose calls these are, and who waits for them.
fn gang(request: &GangRequest, number: u64) -> Gang {
    Gang {
        id: B256::left_padding_from(&number.to_be_bytes()),
        sender: alloy_primitives::Address::repeat_byte(7),
        nonce: number,
        value: 1_000_000_000_000_000,
        class: Class::Block,
        round: 1,
        arrival: Height(0),
        deadline: None,
        requests: vec![request.clone()],
    }
}

fn done(shard: ShardId, of: Option<&Assignment>, answer: Answer) -> bytes::Bytes {
    let message = AssignmentDone {
        shard,
        lease: of.map(|work| work.lease).unwrap_or_default(),
        epoch: of.map(|work| work.epoch).unwrap_or_default(),
        answers: vec![answer],
        ran: Micros(1_000),
        batch: 1,
    };
    encode(&message)
}

fn signed(signer: &SigningKey, named: ShardId, key: RequestKey, outcome: Outcome) -> Answer {
    let mut attestation = attest(signer, CHAIN, key, outcome.hash());
    attestation.shard = named;
    Answer {
        key,
        outcome,
        attestation,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn of_ten_thousand_wrong_answers_none_is_taken_and_the_liar_is_shown() {
    let Some(binary) = nats_binary() else { return };
    let dir = tempfile::tempdir().expect("a folder");
    let server = nats(&binary, dir.path()).await;
    let devnet = Devnet::start(&["--nats", server.url(), "--shards", "2", "--backend", "cpu"]);
    let provider = devnet.provider();
    let transport = shard_transport(NatsConfig::new(server.url(), CHAIN, B256::ZERO)).await;
    let transport = transport.expect("a connection");
    let (bus, of) = (transport.bus.clone(), Subjects::new(CHAIN));
    let models: Vec<serde_json::Value> = provider
        .raw_request("pipe_models".into(), ())
        .await
        .expect("models");
    let risk = models.iter().find(|model| model["cid"] == "risk");
    let hash = risk.expect("risk is built in")["hash"].as_str();
    let model = ModelHash(hash.expect("a hash").parse().expect("a hash"));

    // A registered shard that lies, one that nobody knows, and the two honest ones of the devnet.
    let liar = shard_key(CHAIN, 5);
    let stranger = SigningKey::new(B256::repeat_byte(3)).expect("a key");
    let honest = ShardId(shard_key(CHAIN, 0).address());
    let liar_id = ShardId(liar.address());
    let mut settled_inbox = bus
        .subscribe(&of.settled(), 65_536)
        .await
        .expect("a subscription");
    let mut work = bus
        .subscribe(&of.assign(liar_id), 1_024)
        .await
        .expect("a subscription");
    let hello = hello(liar_id, model);
    let saying = tokio::spawn(say_hello(bus.clone(), of, hello));

    let requests: Vec<_> = (0..REQUESTS).map(|number| request(model, number)).collect();
    for (number, request) in requests.iter().enumerate() {
        let gang = gang(request, number as u64);
        bus.publish(&of.gang(), encode(&gang)).await.expect("sent");
    }
    let mut settled: BTreeMap<RequestKey, Settled> = BTreeMap::new();
    let mut lies = 0;
    let start = Instant::now();
    while settled.len() < requests.len() {
        assert!(
            start.elapsed() < PATIENCE,
            "{} of {REQUESTS} are settled",
            settled.len()
        );
        tokio::select! {
            Some(delivery) = settled_inbox.next() => {
                let answer: Settled = decode(&delivery.payload).expect("a settled answer");
                settled.insert(answer.key, answer);
            }
            Some(delivery) = work.next() => {
                let work: Assignment = decode(&delivery.payload).expect("an assignment");
                for asked in &work.requests {
                    let answer = signed(&liar, liar_id, asked.key, lie());
                    let message = done(liar_id, Some(&work), answer);
                    bus.publish(&of.answers(), message).await.expect("sent");
                    lies += 1;
                }
            }
            () = tokio::time::sleep(Duration::from_millis(100)) => {
                // What got lost on the way is asked for again, as the extractor does.
                for (number, request) in requests.iter().enumerate() {
                    if !settled.contains_key(&request.key) {
                        let gang = gang(request, number as u64);
                        bus.publish(&of.gang(), encode(&gang)).await.expect("sent");
                    }
                }
            }
        }
    }
    assert!(lies > 0, "the liar was asked");

    // Ten thousand more, of four kinds, on what is settled and on what nobody asked.
    let old: Vec<_> = settled.values().cloned().collect();
    for number in 0..EACH {
        let key = requests[number % requests.len()].key;
        let replayed = &old[number % old.len()];
        let theirs = Answer {
            key,
            outcome: old[(number + 1) % old.len()].outcome.clone(),
            attestation: replayed.attestations[0].clone(),
        };
        for message in [
            done(liar_id, None, signed(&liar, liar_id, key, lie())),
            done(honest, None, signed(&liar, honest, key, lie())),
            done(
                ShardId(stranger.address()),
                None,
                signed(&stranger, ShardId(stranger.address()), key, lie()),
            ),
            done(theirs.attestation.shard, None, theirs),
        ] {
            bus.publish(&of.answers(), message).await.expect("sent");
        }
    }

    // The devnet goes on, asks the honest alone, and shows the proof.
    let after: Vec<_> = (REQUESTS..2 * REQUESTS)
        .map(|n| request(model, n))
        .collect();
    let start = Instant::now();
    while !after
        .iter()
        .all(|request| settled.contains_key(&request.key))
    {
        assert!(start.elapsed() < PATIENCE, "the devnet stands still");
        for (number, request) in after.iter().enumerate() {
            let gang = gang(request, 1_000 + number as u64);
            bus.publish(&of.gang(), encode(&gang)).await.expect("sent");
        }
        while let Ok(Some(delivery)) =
            tokio::time::timeout(Duration::from_millis(200), settled_inbox.next()).await
        {
            let answer: Settled = decode(&delivery.payload).expect("a settled answer");
            settled.insert(answer.key, answer);
        }
    }
    saying.abort();
    for answer in settled.values() {
        assert_ne!(answer.outcome, lie(), "a lie was settled");
        assert!(answer.attestations.len() >= 2);
        let signers = answer.attestations.iter().map(|a| a.shard);
        assert!(
            signers.into_iter().all(|s| s != liar_id),
            "the liar stands for it"
        );
    }
    let shards: Vec<serde_json::Value> = provider
        .raw_request("pipe_shards".into(), ())
        .await
        .expect("shards");
    let shown = |id: ShardId| {
        let id = id.to_string();
        let found = shards.iter().find(|shard| {
            let shown = shard["shard"].as_str().unwrap_or_default();
            shown.eq_ignore_ascii_case(&id)
        });
        found.unwrap_or_else(|| panic!("{id} is not shown")).clone()
    };
    let caught = shown(liar_id);
    assert_eq!(caught["quarantined"], true);
    assert!(caught["evidence"]["signature"].is_string(), "{caught}");
    assert_eq!(
        shown(honest)["quarantined"],
        false,
        "slander convicts nobody"
    );
}

async fn say_hello(bus: Arc<dyn Bus>, of: Subjects, hello: ShardHello) {
    loop {
        // Lost ones are said again.
        let _ = bus.publish(&of.shard_hello(), encode(&hello)).await;
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
}
