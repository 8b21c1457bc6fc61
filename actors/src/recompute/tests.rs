use super::*;
use penstock_evm::{SigningKey, attest};
use penstock_rules::ids::RequestKey;
use penstock_rules::request::{Mode, Settled};
use penstock_rules::tensor::{self, Tensor};
use penstock_wire::memory;

const CHAIN: u64 = 31_337;
const RISK: &[u8] = include_bytes!("../../../devnet/models/risk.onnx");

fn key(byte: u8) -> SigningKey {
    SigningKey::new(alloy_primitives::B256::repeat_byte(byte)).expect("a key")
}

fn request(model: ModelHash) -> Request {
    let bits = (0..10).map(|column| (column as f32).to_bits());
    Request {
        model,
        mode: Mode::Zk,
        input: tensor::encode(&[Tensor::from_f32_bits("patient", &[1, 10], bits)]).into(),
    }
}

fn entry(key: RequestKey, outcome: Outcome, signers: &[&SigningKey]) -> WitnessEntry {
    let hash = outcome.hash();
    WitnessEntry {
        key,
        attestations: signers
            .iter()
            .map(|s| attest(s, CHAIN, key, hash))
            .collect(),
        outcome,
    }
}

/// The thread alone, on a blob store that holds the risk model; and the model's hash.
async fn thread() -> (Recompute, ResultBook, ModelHash) {
    let blobs = memory::volatile().await.expect("a transport").blobs;
    let hash = ModelHash(blobs.put(RISK.into()).await.expect("stored"));
    let (jobs, inbox) = mpsc::sync_channel(QUEUE);
    let (tell, found) = watch::channel(Found::new());
    let models = Models::new(blobs);
    let results = ResultBook::default();
    let book = results.clone();
    std::thread::spawn(move || work(models, &inbox, CHAIN, &book, &tell));
    (Recompute { jobs, found }, results, hash)
}

async fn truth(recompute: &Recompute, request: &Request) -> Option<Outcome> {
    let (reply, computed) = oneshot::channel();
    let request = request.clone();
    let sent = recompute.jobs.send(Job::Claim { request, reply });
    sent.expect("the thread runs");
    computed.await.expect("an answer")
}

fn answered(recompute: &Recompute, request: &Request, entry: WitnessEntry) {
    let job = Job::Answer {
        height: Height(1),
        request: request.clone(),
        entry,
    };
    recompute.jobs.send(job).expect("the thread runs");
}

#[tokio::test(flavor = "multi_thread")]
async fn all_who_signed_a_false_answer_are_found_and_the_answer_is_forgotten() {
    let (recompute, results, model) = thread().await;
    let asked = request(model);
    let lie = Outcome::Output(vec![1, 2, 3].into());
    let false_entry = entry(asked.key(), lie.clone(), &[&key(1), &key(2)]);
    results.insert(Settled {
        key: asked.key(),
        outcome: lie,
        attestations: false_entry.attestations.clone(),
    });
    answered(&recompute, &asked, false_entry);
    let truth = truth(&recompute, &asked).await.expect("the model is here");
    let found = recompute.found().borrow().clone();
    let shards: Vec<_> = found.keys().copied().collect();
    let mut liars = [ShardId(key(1).address()), ShardId(key(2).address())];
    liars.sort();
    assert_eq!(shards, liars);
    assert!(results.is_empty());
    for evidence in found.values() {
        assert_eq!(evidence.outcome_hash, truth.hash());
        assert!(recompute.proves(evidence, CHAIN).await);
        assert!(
            !recompute.proves(evidence, CHAIN + 1).await,
            "of another chain"
        );
        let mut other = evidence.clone();
        other.outcome_hash.0[0] ^= 1;
        assert!(
            !recompute.proves(&other, CHAIN).await,
            "it does not come to that"
        );
        let mut slander = evidence.clone();
        slander.shard = ShardId(key(3).address());
        assert!(
            !recompute.proves(&slander, CHAIN).await,
            "signed by another"
        );
        let mut elsewhere = evidence.clone();
        elsewhere.asked = Some(request(ModelHash(alloy_primitives::B256::ZERO)));
        assert!(
            !recompute.proves(&elsewhere, CHAIN).await,
            "another request"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_true_answer_and_one_of_a_model_that_is_not_here_convict_nobody() {
    let (recompute, results, model) = thread().await;
    let asked = request(model);
    let truth_here = truth(&recompute, &asked).await.expect("the model is here");
    answered(
        &recompute,
        &asked,
        entry(asked.key(), truth_here, &[&key(1)]),
    );
    let unknown = request(ModelHash(alloy_primitives::B256::repeat_byte(9)));
    let lie = Outcome::Output(vec![1].into());
    answered(&recompute, &unknown, entry(unknown.key(), lie, &[&key(1)]));
    assert_eq!(truth(&recompute, &unknown).await, None);
    assert!(recompute.found().borrow().is_empty());
    assert!(results.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signature_that_is_not_its_own_convicts_nobody() {
    let (recompute, _, model) = thread().await;
    let asked = request(model);
    let mut forged = entry(asked.key(), Outcome::Output(vec![1].into()), &[&key(1)]);
    forged.attestations[0].shard = ShardId(key(2).address());
    answered(&recompute, &asked, forged);
    assert!(truth(&recompute, &asked).await.is_some());
    assert!(recompute.found().borrow().is_empty());
}
