//! PIPE through the real binary: what a contract asks for is there in the transaction that asked.

use alloy_primitives::{Address, B256, U256, address};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::{SolCall, SolEvent, sol};
use penstock_tests::harness::{
    Devnet, Number, Probes, Wallet, binary, close, float, number, penstock, probe, receipt,
    repository, rows, submit, view, wallets,
};
use serde_json::Value;
use std::time::Duration;

sol! {
    /// What of Multicall3 is used here.
    #[allow(missing_docs)]
    interface Multicall {
        struct Call3 { address target; bool allowFailure; bytes callData; }
        function aggregate3(Call3[] calls) external;
    }
}

/// Where Multicall3 stands on every chain.
const MULTICALL3: Address = address!("cA11bde05977b3631167028862bE2a173976CA11");
/// Gas for a transaction with a few calls of a model.
const GAS: u64 = 16_000_000;
/// Longest wait for a receipt on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn risk_probe(
    provider: &DynProvider,
    wallet: &mut Wallet,
    name: &str,
) -> (Address, Vec<penstock_tests::harness::Row>) {
    let (input, rows) = rows("risk");
    let address = wallet.deploy(provider, probe(name, "risk", &input)).await;
    (address, rows)
}

fn answers(receipt: &TransactionReceipt) -> Vec<f32> {
    receipt
        .logs()
        .iter()
        .filter_map(|log| Probes::Answer::decode_log(&log.inner).ok())
        .map(|answer| float(answer.value, answer.decimals))
        .collect()
}

async fn status(provider: &DynProvider, hash: B256) -> Value {
    provider
        .raw_request("pipe_getTransactionStatus".into(), (hash,))
        .await
        .expect("a status")
}

/// The highest round of discovery that the transaction took.
fn rounds(status: &Value) -> u64 {
    let history = status["history"].as_array().expect("a history");
    history
        .iter()
        .filter_map(|step| step["round"].as_str())
        .map(|text| u64::from_str_radix(&text[2..], 16).expect("a quantity"))
        .max()
        .unwrap_or(0)
}

fn stages(status: &Value) -> Vec<String> {
    let history = status["history"].as_array().expect("a history");
    history
        .iter()
        .map(|step| {
            let reason = step["reason"].as_str().unwrap_or_default();
            format!("{}{reason}", step["stage"].as_str().unwrap_or_default())
        })
        .collect()
}

#[tokio::test]
async fn an_answer_is_there_in_the_transaction_that_asked_and_is_onnx_runtimes() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (fan, rows) = risk_probe(&provider, &mut alice, "Fanout").await;
    for row in &rows[..8] {
        let call = Probes::fanCall {
            row: row.input.clone(),
            calls: 1u64.try_into().expect("one"),
        };
        let receipt = alice
            .send(&provider, Some(fan), call.abi_encode().into(), GAS)
            .await;
        assert!(receipt.status());
        let answers = answers(&receipt);
        assert_eq!(answers.len(), 1);
        assert!(
            close(answers[0], row.output),
            "{} is not {}",
            answers[0],
            row.output
        );
    }
}

#[tokio::test]
async fn a_chained_call_takes_a_round_per_link_and_independent_calls_one_in_all() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (chain, rows) = risk_probe(&provider, &mut alice, "Chained").await;
    let (fan, _) = risk_probe(&provider, &mut alice, "Fanout").await;

    let call = Probes::chainCall {
        row: rows[0].input.clone(),
        links: 2u64.try_into().expect("two"),
    };
    let chained = alice
        .send(&provider, Some(chain), call.abi_encode().into(), GAS)
        .await;
    assert!(chained.status());
    let links = answers(&chained);
    assert_eq!(links.len(), 2);
    assert!(close(links[0], rows[0].output));
    assert_eq!(
        rounds(&status(&provider, chained.transaction_hash).await),
        2
    );

    let call = Probes::fanCall {
        row: rows[0].input.clone(),
        calls: 16u64.try_into().expect("sixteen"),
    };
    let fanned = alice
        .send(&provider, Some(fan), call.abi_encode().into(), GAS)
        .await;
    assert!(fanned.status());
    assert_eq!(answers(&fanned).len(), 16);
    assert_eq!(rounds(&status(&provider, fanned.transaction_hash).await), 1);
}

/// Both transactions are candidates of one block. The one that changes the input pays more and calls a model too, so it
/// stands first.
#[tokio::test]
async fn an_input_that_an_earlier_transaction_changes_is_computed_anew_and_alone() {
    // Long enough that both are ready for the same block on a slow machine, where a discovery takes milliseconds.
    let devnet = Devnet::start(&["--block-time", "4s"]);
    let provider = devnet.provider();
    let mut wallets = wallets(2);
    let (input, rows) = rows("risk");
    let target = wallets[0].address().create(0);
    let fan = wallets[0].address().create(1);
    let set = |text: &str| {
        let head_ = number(text);
        Probes::setCall { head_ }.abi_encode()
    };
    // Three transactions of one block.
    let made = [
        wallets[0].sign(None, 0, probe("StatefulInput", "risk", &input), GAS),
        wallets[0].sign(None, 0, probe("Fanout", "risk", &input), GAS),
        wallets[0].sign(Some(target), 0, set("40").into(), GAS),
    ];
    for sent in &made {
        submit(&provider, sent).await;
    }
    for sent in &made {
        assert!(receipt(&provider, sent.hash, PATIENCE).await.status());
    }

    // Three of the ask's four requests do not depend on what the other transaction writes.
    let ask = Probes::askCall {
        row: rows[0].input.clone(),
        fixedCalls: 3u64.try_into().expect("three"),
    };
    let call = |target: Address, data: Vec<u8>| Multicall::Call3 {
        target,
        allowFailure: false,
        callData: data.into(),
    };
    let one = Probes::fanCall {
        row: rows[1].input.clone(),
        calls: 1u64.try_into().expect("one"),
    };
    let change = Multicall::aggregate3Call {
        calls: vec![call(target, set("60")), call(fan, one.abi_encode())],
    };
    wallets[0].tip *= 5;
    let asks = wallets[1].sign(Some(target), 0, ask.abi_encode().into(), GAS);
    let changes = wallets[0].sign(Some(MULTICALL3), 0, change.abi_encode().into(), GAS);
    submit(&provider, &asks).await;
    submit(&provider, &changes).await;
    let changed = receipt(&provider, changes.hash, PATIENCE).await;
    let asked = receipt(&provider, asks.hash, PATIENCE).await;
    assert!(changed.status() && asked.status());
    assert_eq!(answers(&asked).len(), 4);
    assert!(changed.block_number < asked.block_number);

    // Left out of the first block, with the reason; then one request, and the next block has it.
    let history = status(&provider, asks.hash).await;
    let stages = stages(&history);
    let stale = stages
        .iter()
        .position(|stage| stage == "deferredStaleInput");
    let stale = stale.unwrap_or_else(|| panic!("never stale: {stages:?}"));
    let after = &history["history"].as_array().expect("a history")[stale..];
    let requests: Vec<_> = after
        .iter()
        .filter(|step| step["stage"] == "inferring")
        .map(|step| step["requests"].as_str().expect("a quantity"))
        .collect();
    assert_eq!(requests, ["0x1"], "{history}");
    let row: Vec<Number> = [&[number("60")], &rows[0].input[1..]].concat();
    let expected = view_answer(&provider, fan, row).await;
    assert!(close(answers(&asked)[3], expected), "it read the new input");
}

/// What the model says to a row, by a call that changes nothing.
async fn view_answer(provider: &DynProvider, fan: Address, row: Vec<Number>) -> f32 {
    let call = Probes::fanCall {
        row,
        calls: 1u64.try_into().expect("one"),
    };
    let mut wallet = wallets(4).remove(3);
    let receipt = wallet
        .send(provider, Some(fan), call.abi_encode().into(), GAS)
        .await;
    answers(&receipt)[0]
}

#[tokio::test]
async fn a_contract_that_burns_all_gas_after_the_call_pays_and_leaves_nothing_else() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (burner, rows) = risk_probe(&provider, &mut alice, "GasBurner").await;
    let call = Probes::callThenBurnCall {
        row: rows[0].input.clone(),
    };
    let receipt = alice
        .send(&provider, Some(burner), call.abi_encode().into(), 2_000_000)
        .await;
    assert!(!receipt.status());
    assert_eq!(receipt.gas_used, 2_000_000);
    assert!(receipt.logs().is_empty());
    // What was consumed is witnessed and charged all the same.
    let witness: Value = provider
        .raw_request(
            "pipe_getWitness".into(),
            (format!("0x{:x}", receipt.block_number.expect("a block")),),
        )
        .await
        .expect("a witness");
    assert!(witness.to_string().contains("0x"), "{witness}");
}

#[tokio::test]
async fn plain_transfers_do_not_wait_for_inference() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let mut wallets = wallets(2);
    let to = wallets[1].address();
    let sent = wallets[0].sign(Some(to), 7, Default::default(), 21_000);
    submit(&provider, &sent).await;
    let receipt = receipt(&provider, sent.hash, PATIENCE).await;
    assert_eq!(receipt.gas_used, 21_000);
    let status = status(&provider, sent.hash).await;
    assert!(!stages(&status).iter().any(|s| s.starts_with("inferring")));
}

/// The contract knows the true answer before the network does, and asks for 200 others under any placeholder. Method: with
/// one shard every computation is an answer, so the shard's count is what the network computed; the sender's credit is set
/// to what ten requests cost, far below what limits the requests of a transaction.
#[tokio::test]
async fn the_junk_of_a_hostile_contract_costs_no_more_than_its_senders_credit() {
    const CREDIT_REQUESTS: u64 = 10;
    // Another devnet has told what the answer will be, and what a request costs.
    let (truth, igas) = {
        let devnet = Devnet::start(&[]);
        let provider = devnet.provider();
        let mut alice = wallets(1).remove(0);
        let (fan, rows) = risk_probe(&provider, &mut alice, "Fanout").await;
        let call = Probes::fanCall {
            row: rows[0].input.clone(),
            calls: 1u64.try_into().expect("one"),
        };
        let fair = alice
            .send(&provider, Some(fan), call.abi_encode().into(), GAS)
            .await;
        let mut logs = fair.logs().iter();
        let truth = logs
            .find_map(|log| Probes::Answer::decode_log(&log.inner).ok())
            .expect("an answer");
        (truth, igas_of(&provider, "risk").await)
    };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let config = folder.path().join("penstock.toml");
    let credit = CREDIT_REQUESTS * igas;
    std::fs::write(&config, format!("[inference]\ncredit = {credit}\n")).expect("a file");
    let devnet = Devnet::start(&["--shards", "1", "--config", &config.to_string_lossy()]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (junk, rows) = risk_probe(&provider, &mut alice, "JunkUnderPlaceholder").await;
    let call = Probes::runCall {
        row: rows[0].input.clone(),
        truth: Number {
            value: truth.value,
            decimals: truth.decimals,
        },
        junk: 200u64.try_into().expect("two hundred"),
    }
    .abi_encode();
    // Only shards that have said hello are counted.
    let before = loop {
        let (shards, answers) = answered(&provider).await;
        if shards == 1 {
            break answers;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    };
    let receipt = alice
        .send(&provider, Some(junk), call.clone().into(), GAS)
        .await;
    assert!(receipt.status());
    assert_eq!(answers(&receipt).len(), 1, "the execution asks for one");
    let witness: Value = provider
        .raw_request(
            "pipe_getWitness".into(),
            (format!("0x{:x}", receipt.block_number.expect("a block")),),
        )
        .await
        .expect("a witness");
    assert_eq!(witness["entries"].as_array().map(Vec::len), Some(1));
    let history = status(&provider, receipt.transaction_hash).await;
    assert_eq!(rounds(&history), 1);
    // Its own request is certain and paid for; all else is junk. The junk was found, or this would assert nothing.
    let junk = answered(&provider).await.1 - before - 1;
    assert!(
        (1..=CREDIT_REQUESTS).contains(&junk),
        "{junk} junk requests"
    );

    // What was wasted is debt now: the next contract of this sender finds no credit, and is served all the same.
    let (again, _) = risk_probe(&provider, &mut alice, "JunkUnderPlaceholder").await;
    let before = answered(&provider).await.1;
    let receipt = alice.send(&provider, Some(again), call.into(), GAS).await;
    assert!(receipt.status());
    assert_eq!(
        answered(&provider).await.1,
        before,
        "the answer is known, and there is no credit for junk"
    );
}

/// What a request of this model costs.
async fn igas_of(provider: &DynProvider, cid: &str) -> u64 {
    let models: Vec<Value> = provider
        .raw_request("pipe_models".into(), ())
        .await
        .expect("models");
    let model = models
        .iter()
        .find(|model| model["cid"] == cid)
        .expect("the model is listed");
    ["igasBase", "igasPerUnit"]
        .iter()
        .map(|part| {
            let text = model[part].as_str().expect("a quantity");
            u64::from_str_radix(&text[2..], 16).expect("hex")
        })
        .sum()
}

/// Shards that are listed, and the answers that they have given so far.
async fn answered(provider: &DynProvider) -> (usize, u64) {
    let shards: Vec<Value> = provider
        .raw_request("pipe_shards".into(), ())
        .await
        .expect("shards");
    let count = |shard: &Value| {
        let text = shard["answers"].as_str().expect("a quantity");
        u64::from_str_radix(&text[2..], 16).expect("hex")
    };
    (shards.len(), shards.iter().map(count).sum())
}

/// The file goes up over JSON-RPC, the registry's owner registers it, and shards load it when it is first asked for.
#[tokio::test]
async fn a_model_that_is_added_to_a_running_devnet_answers_contracts() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let file = repository().join("devnet/models/risk.onnx");
    let (file, url) = (file.to_string_lossy(), devnet.url());
    let add = [
        "model",
        "add",
        &file,
        "--cid",
        "newcomer",
        "--rpc-url",
        &url,
    ];
    assert!(penstock(&add).contains("newcomer is registered"));
    let list = penstock(&["model", "list", "--rpc-url", &url]);
    assert!(list.contains("newcomer"), "{list}");

    let mut alice = wallets(2).remove(1);
    let (input, rows) = rows("risk");
    let code = probe("Fanout", "newcomer", &input);
    let fan = alice.deploy(&provider, code).await;
    let call = Probes::fanCall {
        row: rows[3].input.clone(),
        calls: 1u64.try_into().expect("one"),
    };
    let receipt = alice
        .send(&provider, Some(fan), call.abi_encode().into(), GAS)
        .await;
    assert!(close(answers(&receipt)[0], rows[3].output));

    // An id stands for one content, and what is no model never gets there.
    for (args, culprit) in [
        (&add[..], "newcomer"),
        (
            &["model", "add", "/nowhere.onnx", "--rpc-url", &url][..],
            "/nowhere.onnx",
        ),
    ] {
        let output = std::process::Command::new(binary())
            .args(args)
            .output()
            .expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && said.contains(culprit), "{said}");
    }
    let junk: Result<Value, _> = provider
        .raw_request("pipe_uploadModel".into(), ("0x6a756e6b",))
        .await;
    let error = junk.expect_err("no model");
    assert_eq!(
        error.as_error_resp().map(|e| e.code),
        Some(-32602),
        "{error}"
    );
}

/// Discovery ran each of these contracts several times before its execution did. Nothing of that is left, and what the
/// log and the witnesses say is all that there was.
#[tokio::test]
async fn contracts_that_catch_and_spy_see_one_execution_and_leave_one() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut devnet = Devnet::start_on(&data, &[]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (catcher, rows) = risk_probe(&provider, &mut alice, "TryCatch").await;
    let (spy, _) = risk_probe(&provider, &mut alice, "Spy").await;
    let row = |place: usize| rows[place].input.clone();
    let count = async |contract: Address, call: Vec<u8>| -> u64 {
        let bytes = view(&provider, contract, call.into()).await;
        U256::from_be_slice(&bytes).to()
    };

    let call = Probes::attemptCall { row: row(0) }.abi_encode();
    let tried = alice.send(&provider, Some(catcher), call.into(), GAS).await;
    assert!(tried.status());
    assert_eq!(
        tried.logs().len(),
        2,
        "the precompile's event, and the answer"
    );
    assert!(close(answers(&tried)[0], rows[0].output));
    assert_eq!(count(catcher, Probes::caughtCall {}.abi_encode()).await, 0);
    assert_eq!(
        count(catcher, Probes::answeredCall {}.abi_encode()).await,
        1
    );

    let call = Probes::spyCall { row: row(1) }.abi_encode();
    let spied = alice.send(&provider, Some(spy), call.into(), GAS).await;
    assert!(spied.status());
    assert_eq!(
        spied.logs().len(),
        2,
        "the precompile's event, and what it saw"
    );
    assert_eq!(count(spy, Probes::simulationsCall {}.abi_encode()).await, 0);

    // Its input is a hash of block, gas, balances and the precompile's code.
    let call = Probes::spyByEnvironmentCall { row: row(2) }.abi_encode();
    let spied = alice.send(&provider, Some(spy), call.into(), GAS).await;
    assert!(spied.status());
    assert_eq!(answers(&spied).len(), 1);

    assert!(devnet.stop().success());
    let said = penstock(&["replay", "--data", &data.to_string_lossy()]);
    assert!(
        said.contains("blocks are equal") && said.contains("3 inferences"),
        "{said}"
    );
}
