//! `pipe_`: what inference came to, what it would cost, and who is told.

#![allow(missing_docs)]

mod common;

use alloy_primitives::Bytes;
use common::ws::Ws;
use common::{ALICE, ASKS, BOB, KEY, Node};
use penstock_rules::ids::Micros;
use penstock_rules::tx::{Stage, StatusUpdate};
use serde_json::{Value, json};

async fn included(node: &Node) -> Value {
    let request = json!([{ "from": ALICE, "to": BOB, "value": "0x1" }]);
    let hash = node.result("eth_sendTransaction", request).await;
    node.chain.mine();
    hash
}

#[tokio::test]
async fn a_receipt_is_null_until_the_transaction_is_in_a_block() {
    let node = Node::start().await;
    let request = json!([{ "from": ALICE, "to": BOB }]);
    let hash = node.result("eth_sendTransaction", request).await;
    let receipt = node.result("pipe_getInferenceReceipt", json!([hash])).await;
    assert!(receipt.is_null());
    node.chain.mine();
    let receipt = node.result("pipe_getInferenceReceipt", json!([hash])).await;
    assert_eq!(receipt["transactionHash"], hash);
    assert_eq!(
        (&receipt["status"], &receipt["blockNumber"]),
        (&json!("0x1"), &json!("0x1"))
    );
    // It paid for nothing, so it is not run again.
    assert_eq!(
        (&receipt["requests"], &receipt["igas"]),
        (&json!([]), &json!("0x0"))
    );
    assert_eq!(receipt["rounds"], "0x0");
}

#[tokio::test]
async fn an_estimate_says_rounds_requests_and_price() {
    let node = Node::start().await;
    let call = json!({ "to": BOB, "data": "0x01" });
    let estimate = node.result("pipe_estimate", json!([call])).await;
    assert_eq!(estimate["rounds"], json!([[KEY.0]]));
    assert_eq!(estimate["requests"][0]["cid"], "risk");
    assert_eq!(estimate["requests"][0]["mode"], "VANILLA");
    assert_eq!(
        (&estimate["igas"], &estimate["inferenceGas"]),
        (&json!("0x6e"), &json!("0x2af8"))
    );
    // 60,000 gas at a base fee of 1 gwei.
    assert_eq!(estimate["price"], "0x3691d6afc000");
    assert_eq!(estimate["expectedBlocks"], "0x1");
    let with = json!([call, "latest", { "answers": { KEY.0.to_string(): "0x01" } }]);
    node.result("pipe_estimate", with).await;
    let without = json!([call, "latest", { "answers": {} }]);
    let error = node.error("pipe_estimate", without).await;
    assert_eq!(
        (&error["code"], &error["data"]),
        (&json!(-32602), &json!(KEY.to_string()))
    );
    let wrong = json!([call, "latest", { "nonsense": 1 }]);
    assert_eq!(node.error("pipe_estimate", wrong).await["code"], -32602);
}

#[tokio::test]
async fn the_price_of_inference_is_told_block_by_block() {
    let node = Node::start().await;
    for _ in 0..3 {
        node.chain.mine();
    }
    let history = node.result("pipe_feeHistory", json!([2, "latest"])).await;
    assert_eq!(history["oldestBlock"], "0x2");
    // Of blocks 2 and 3, and of the one after: what stands in the state of blocks 1, 2 and 3.
    assert_eq!(history["multiplier"], json!(["0x65", "0x66", "0x67"]));
    assert_eq!(history["igasUsed"], json!(["0x2", "0x3"]));
    assert_eq!(history["igasUsedRatio"], json!([0.002, 0.003]));
    let all = node.result("pipe_feeHistory", json!(["0x400"])).await;
    assert_eq!(all["oldestBlock"], "0x0");
    assert_eq!(all["igasUsed"].as_array().map(Vec::len), Some(4));
    let error = node.error("pipe_feeHistory", json!([1, "0x99"])).await;
    assert_eq!(error["code"], -32000);
}

#[tokio::test]
async fn subscribers_hear_of_steps_blocks_and_changes() {
    let node = Node::start().await;
    let mut ws = Ws::connect(&node).await;
    let hash = alloy_primitives::B256::repeat_byte(5);
    let status = ws
        .result("pipe_subscribe", json!(["transactionStatus", hash]))
        .await;
    let step = |hash, stage| StatusUpdate {
        hash,
        at: Micros::from_millis(7),
        stage,
    };
    for of in [alloy_primitives::B256::repeat_byte(6), hash] {
        node.chain
            .statuses
            .send(step(of, Stage::Ready))
            .expect("somebody listens");
    }
    let heard = ws.notified(&status).await;
    assert_eq!(
        (&heard["hash"], &heard["stage"]),
        (&json!(hash), &json!("ready"))
    );

    let witness = ws.result("pipe_subscribe", json!(["witness"])).await;
    included(&node).await;
    let heard = ws.notified(&witness).await;
    assert_eq!(heard["entries"][0]["requestKey"], json!(KEY.0));
    assert!(ws.result("pipe_unsubscribe", json!([witness])).await == json!(true));

    let receipts = ws
        .result("pipe_subscribe", json!(["inferenceReceipt"]))
        .await;
    let asks = json!([{ "from": ALICE, "to": BOB, "input": Bytes::from_static(ASKS) }]);
    let asked = node.result("eth_sendTransaction", asks).await;
    node.chain.mine();
    let heard = ws.notified(&receipts).await;
    assert_eq!(
        (&heard["transactionHash"], &heard["inferenceGasUsed"]),
        (&asked, &json!("0x1388"))
    );
    ws.result("pipe_unsubscribe", json!([receipts])).await;

    let market = ws.result("pipe_subscribe", json!(["market"])).await;
    node.chain.mine();
    assert_eq!(ws.notified(&market).await["multiplier"], "0x67");
    ws.result("pipe_unsubscribe", json!([market])).await;

    for (kind, field) in [
        ("queue", "/requests"),
        ("valueCertificate", "/share"),
        ("models", "/0/cid"),
        ("shards", "/0/backend"),
    ] {
        let subscription = ws.result("pipe_subscribe", json!([kind])).await;
        let heard = ws.notified(&subscription).await;
        assert!(heard.pointer(field).is_some(), "{kind}: {heard}");
        ws.result("pipe_unsubscribe", json!([subscription])).await;
    }
    ws.send(
        json!({ "jsonrpc": "2.0", "id": 9, "method": "pipe_subscribe", "params": ["nonsense"] }),
    )
    .await;
    assert_eq!(ws.next().await["error"]["code"], -32602);
}

#[tokio::test]
async fn simulated_calls_have_their_errors_in_place_and_a_simulation_its_code() {
    let node = Node::start().await;
    let payload = json!([{ "blockStateCalls": [{ "calls": [{}] }] }]);
    let blocks = node.result("eth_simulateV1", payload).await;
    let calls = &blocks[0]["calls"];
    assert_eq!(
        (&calls[0]["status"], &calls[0]["returnData"]),
        (&json!("0x1"), &json!("0x01"))
    );
    assert!(calls[0].get("error").is_none());
    assert_eq!(
        (&calls[1]["status"], &calls[1]["error"]["code"]),
        (&json!("0x0"), &json!(3))
    );
    assert_eq!(calls[1]["error"]["data"], "0x02");
    assert_eq!(calls[2]["error"]["code"], -32015);
    let strict = json!([{ "blockStateCalls": [{}], "validation": true }]);
    assert_eq!(node.error("eth_simulateV1", strict).await["code"], -38014);
    let empty = json!([{ "blockStateCalls": [] }]);
    assert_eq!(node.error("eth_simulateV1", empty).await["code"], -32602);
}
