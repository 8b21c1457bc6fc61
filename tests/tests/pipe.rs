//! PIPE through the real binary: what a contract asks for is there in the transaction that asked.

use alloy_primitives::{Address, B256};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::{SolCall, SolEvent};
use penstock_tests::harness::{
    Devnet, Number, Probes, Wallet, close, float, number, probe, receipt, rows, submit, wallets,
};
use serde_json::Value;
use std::time::Duration;

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

#[tokio::test]
async fn an_input_that_an_earlier_transaction_changes_is_computed_anew_and_alone() {
    let devnet = Devnet::start(&["--block-time", "1s"]);
    let provider = devnet.provider();
    let mut wallets = wallets(2);
    let (target, rows) = risk_probe(&provider, &mut wallets[0], "StatefulInput").await;
    let set = |text: &str| {
        Probes::setCall {
            head_: number(text),
        }
        .abi_encode()
    };
    wallets[0]
        .send(&provider, Some(target), set("40").into(), GAS)
        .await;

    // Both in one block: the second reads what the first writes. Three of its four requests stay the same.
    let ask = Probes::askCall {
        row: rows[0].input.clone(),
        fixedCalls: 3u64.try_into().expect("three"),
    };
    let asks = wallets[1].sign(Some(target), 0, ask.abi_encode().into(), GAS);
    let sets = wallets[0].sign(Some(target), 0, set("60").into(), GAS);
    submit(&provider, &asks).await;
    submit(&provider, &sets).await;
    let asked = receipt(&provider, asks.hash, PATIENCE).await;
    let was_set = receipt(&provider, sets.hash, PATIENCE).await;
    assert!(asked.status());
    assert_eq!(answers(&asked).len(), 4);

    // The input was either read before it was changed, or the change came first and the ask was left out of that block.
    // Which of the two is the producer's choice; inference goes first. So ask again with the change ahead by price.
    let (before, after) = (asked.block_number, was_set.block_number);
    assert!(before.is_some() && after.is_some());
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

#[tokio::test]
async fn the_junk_of_a_hostile_contract_is_bounded_by_its_senders_credit() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let mut alice = wallets(1).remove(0);
    let (junk, rows) = risk_probe(&provider, &mut alice, "JunkUnderPlaceholder").await;
    // The contract has to know the true answer: ask a fair one first.
    let (fan, _) = risk_probe(&provider, &mut alice, "Fanout").await;
    let call = Probes::fanCall {
        row: rows[0].input.clone(),
        calls: 1u64.try_into().expect("one"),
    };
    let fair = alice
        .send(&provider, Some(fan), call.abi_encode().into(), GAS)
        .await;
    let truth = fair
        .logs()
        .iter()
        .find_map(|log| Probes::Answer::decode_log(&log.inner).ok())
        .expect("an answer");
    let call = Probes::runCall {
        row: rows[0].input.clone(),
        truth: Number {
            value: truth.value,
            decimals: truth.decimals,
        },
        junk: 200u64.try_into().expect("two hundred"),
    };
    let receipt = alice
        .send(&provider, Some(junk), call.abi_encode().into(), GAS)
        .await;
    assert!(receipt.status());
    assert_eq!(answers(&receipt).len(), 1);
}
