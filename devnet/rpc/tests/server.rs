//! The server as clients meet it: batches, notifications, browsers, limits, subscriptions, and the quirks of `rpc.md`
//! that a recorded answer can't show.

#![allow(missing_docs)]

mod common;

use alloy_primitives::B256;
use common::ws::Ws;
use common::{ALICE, BOB, KEY, LOGGER, Node};
use penstock_rpc::ServerConfig;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;
use std::time::Duration;

async fn transfer(node: &Node) -> Value {
    let request = json!([{ "from": ALICE, "to": BOB, "value": "0x1" }]);
    node.result("eth_sendTransaction", request).await
}

async fn log(node: &Node) -> Value {
    let request = json!([{ "from": BOB, "to": LOGGER, "input": "0x1234" }]);
    node.result("eth_sendTransaction", request).await
}

#[tokio::test]
async fn a_batch_is_answered_in_order_with_an_error_for_each_bad_entry() {
    let node = Node::start().await;
    let batch = json!([
        { "jsonrpc": "2.0", "id": 1, "method": "eth_chainId", "params": [] },
        { "jsonrpc": "2.0", "method": "eth_chainId", "params": [] },
        { "jsonrpc": "2.0", "id": 2, "method": "eth_nonsense", "params": [] },
        5,
        { "jsonrpc": "2.0", "id": "three", "method": "net_version" },
    ]);
    let (_, body) = node.post(&batch.to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&body).expect("an array");
    let ids: Vec<_> = answers.iter().map(|answer| answer["id"].clone()).collect();
    assert_eq!(ids, [json!(1), json!(2), json!(null), json!("three")]);
    assert_eq!(answers[0]["result"], "0x7a69");
    assert_eq!(answers[1]["error"]["code"], -32601);
    assert_eq!(answers[2]["error"]["code"], -32600);
    assert_eq!(answers[3]["result"], "31337");
}

#[tokio::test]
async fn reads_in_a_batch_see_the_sends_before_them() {
    let node = Node::start().await;
    let send = json!({ "from": ALICE, "to": BOB });
    let call = |id: u32, method: &str, params: Value| json!({ "jsonrpc": "2.0", "id": id, "method": method, "params": params });
    let batch = json!([
        call(1, "eth_getTransactionCount", json!([ALICE, "pending"])),
        call(2, "eth_sendTransaction", json!([send])),
        call(3, "eth_sendTransaction", json!([send])),
        call(4, "eth_getTransactionCount", json!([ALICE, "pending"])),
    ]);
    let (_, body) = node.post(&batch.to_string()).await;
    let answers: Vec<Value> = serde_json::from_str(&body).expect("an array");
    assert_eq!(answers[0]["result"], "0x0");
    assert_eq!(answers[3]["result"], "0x2");
}

#[tokio::test]
async fn what_is_no_request_gets_the_code_that_json_rpc_has_for_it() {
    let node = Node::start().await;
    for (body, code) in [("{", -32700), ("[]", -32600), ("{\"id\":1}", -32600)] {
        let (_, answer) = node.post(body).await;
        let answer: Value = serde_json::from_str(&answer).expect("json");
        assert_eq!(answer["error"]["code"], code, "{body}");
    }
}

#[tokio::test]
async fn notifications_get_no_answer() {
    let node = Node::start().await;
    let one = json!({ "jsonrpc": "2.0", "method": "eth_chainId", "params": [] });
    for body in [one.clone(), json!([one])] {
        let (_, answer) = node.post(&body.to_string()).await;
        assert_eq!(answer, "");
    }
}

#[tokio::test]
async fn pages_of_any_origin_may_ask() {
    let node = Node::start().await;
    let (head, _) = node
        .http(
            "OPTIONS / HTTP/1.1\r\nHost: localhost\r\nOrigin: http://example.org\r\n\
             Access-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n\
             Connection: close\r\n\r\n",
        )
        .await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    for header in [
        "access-control-allow-origin: *",
        "access-control-allow-methods: *",
        "access-control-allow-headers: *",
    ] {
        assert!(head.contains(header), "{head}");
    }
    let request = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let (head, _) = node.post(&request.to_string()).await;
    assert!(head.contains("access-control-allow-origin: *"), "{head}");
}

#[tokio::test]
async fn health_and_the_sdks_route_are_plain_http() {
    let node = Node::start().await;
    let get = async |path: &str| {
        node.http(&format!(
            "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
        ))
        .await
    };
    let (head, body) = get("/health").await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    assert_eq!(body, r#"{"head":0,"status":"ok"}"#);

    let route = "/artela-network/artela-rollkit/inference/tx/";
    let (head, body) = get(&format!("{route}{KEY}")).await;
    assert!(head.starts_with("http/1.1 200"), "{head}");
    // Unpacked as the SDK does it.
    let answer: Value = serde_json::from_str(&body).expect("json");
    let encoded = answer["inference_results"][0].as_str().expect("a string");
    let document = base64::Engine::decode(&base64::prelude::BASE64_STANDARD, encoded);
    let document: Value = serde_json::from_slice(&document.expect("base64")).expect("json within");
    let result = &document["InferenceResult"];
    let output = &result["VanillaResult"]["model_output"];
    assert_eq!(output["numbers"][0]["name"], "y");
    assert_eq!(output["numbers"][0]["values"][0]["value"], "-15");
    assert_eq!(output["numbers"][0]["values"][0]["decimals"], "1");
    assert_eq!(output["numbers"][0]["shape"], json!([1, 1]));
    assert_eq!(&result["ZkmlResult"]["model_output"], output);
    let tee = &result["TeeNodeResult"]["Response"]["VanillaResponse"];
    assert_eq!(&tee["model_output"], output);

    let (head, _) = get(&format!("{route}0x12")).await;
    assert!(head.starts_with("http/1.1 404"), "{head}");
}

#[tokio::test]
async fn requests_and_batches_beyond_the_limits_are_refused() {
    let config = ServerConfig {
        request_bytes_max: 1_000,
        batch_max: 2,
        ..ServerConfig::default()
    };
    let node = Node::with(config).await;
    let (head, _) = node.post(&" ".repeat(1_001)).await;
    assert!(head.starts_with("http/1.1 413"), "{head}");
    let one = json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_chainId" });
    let (_, body) = node.post(&json!([one, one]).to_string()).await;
    assert_eq!(body.matches("0x7a69").count(), 2);
    let (_, body) = node.post(&json!([one, one, one]).to_string()).await;
    assert!(body.contains("error"), "{body}");
}

#[tokio::test]
async fn heads_logs_and_pending_transactions_reach_their_subscribers() {
    let node = Node::start().await;
    let mut heads = Ws::connect(&node).await;
    let heads_id = heads.result("eth_subscribe", json!(["newHeads"])).await;
    assert!(heads_id.as_str().expect("a string").starts_with("0x"));
    let mut logs = Ws::connect(&node).await;
    let logs_id = logs
        .result("eth_subscribe", json!(["logs", { "address": LOGGER }]))
        .await;
    let mut pending = Ws::connect(&node).await;
    // web3.py sends `false` along.
    let pending_id = pending
        .result("eth_subscribe", json!(["newPendingTransactions", false]))
        .await;
    let mut full = Ws::connect(&node).await;
    let full_id = full
        .result("eth_subscribe", json!(["newPendingTransactions", true]))
        .await;

    let hash = log(&node).await;
    assert_eq!(pending.notified(&pending_id).await, hash);
    let transaction = full.notified(&full_id).await;
    assert_eq!(transaction["hash"], hash);
    assert_eq!(transaction["blockHash"], Value::Null);

    node.chain.mine();
    let head = heads.notified(&heads_id).await;
    assert_eq!(head["number"], "0x1");
    let log = logs.notified(&logs_id).await;
    assert_eq!(log["transactionHash"], hash);
    assert_eq!(log["removed"], false);

    let unsubscribed = heads.result("eth_unsubscribe", json!([heads_id])).await;
    assert_eq!(unsubscribed, true);
    node.chain.mine();
    // Nothing of the second block came before this answer.
    assert_eq!(heads.result("eth_blockNumber", json!([])).await, "0x2");
}

#[tokio::test]
async fn receipts_of_chosen_transactions_reach_their_subscriber() {
    let node = Node::start().await;
    let hash = transfer(&node).await;
    let _other = log(&node).await;
    let mut ws = Ws::connect(&node).await;
    let params = json!(["transactionReceipts", { "transactionHashes": [hash] }]);
    let id = ws.result("eth_subscribe", params).await;
    node.chain.mine();
    let receipts = ws.notified(&id).await;
    assert_eq!(receipts.as_array().expect("an array").len(), 1);
    assert_eq!(receipts[0]["transactionHash"], hash);
}

/// The chain's feed holds 4 blocks; the others are read from the chain.
#[tokio::test]
async fn a_subscription_that_lags_misses_no_block() {
    let node = Node::start().await;
    let mut ws = Ws::connect(&node).await;
    let id = ws.result("eth_subscribe", json!(["newHeads"])).await;
    for _ in 0..20 {
        node.chain.mine();
    }
    for number in 1..=20 {
        let head = ws.notified(&id).await;
        assert_eq!(head["number"], json!(format!("{number:#x}")));
    }
}

#[tokio::test]
async fn unknown_subscriptions_are_refused_and_http_has_none() {
    let node = Node::start().await;
    let mut ws = Ws::connect(&node).await;
    ws.send(json!({ "jsonrpc": "2.0", "id": 1, "method": "eth_subscribe", "params": ["x"] }))
        .await;
    let answer = ws.next().await;
    assert_eq!(answer["error"]["code"], -32602);
    let error = node.error("eth_subscribe", json!(["newHeads"])).await;
    assert!(error["code"].is_i64());
}

#[tokio::test]
async fn filters_give_what_is_new_since_the_last_poll() {
    let node = Node::start().await;
    let blocks = node.result("eth_newBlockFilter", json!([])).await;
    let pending = node
        .result("eth_newPendingTransactionFilter", json!([]))
        .await;
    let query = json!([{ "address": LOGGER, "topics": [common::TOPIC] }]);
    let logs = node.result("eth_newFilter", query).await;
    let poll = async |id: &Value| node.result("eth_getFilterChanges", json!([id])).await;
    for id in [&blocks, &pending, &logs] {
        assert_eq!(poll(id).await, json!([]));
    }

    let hash = log(&node).await;
    assert_eq!(poll(&pending).await, json!([hash]));
    let block = node.chain.mine();
    assert_eq!(poll(&blocks).await, json!([block.hash]));
    let found = poll(&logs).await;
    assert_eq!(found[0]["transactionHash"], hash);
    for id in [&blocks, &pending, &logs] {
        assert_eq!(poll(id).await, json!([]), "a second poll has nothing new");
    }
    let all = node.result("eth_getFilterLogs", json!([logs])).await;
    assert_eq!(all, found);
    let error = node.error("eth_getFilterLogs", json!([blocks])).await;
    assert_eq!(error["message"], "filter not found");

    assert_eq!(
        node.result("eth_uninstallFilter", json!([blocks])).await,
        true
    );
    let error = node.error("eth_getFilterChanges", json!([blocks])).await;
    assert_eq!(error["code"], -32000);
}

#[tokio::test]
async fn receipts_have_the_keys_of_the_specification_and_no_others() {
    let node = Node::start().await;
    let hash = transfer(&node).await;
    assert_eq!(
        node.result("eth_getTransactionReceipt", json!([hash]))
            .await,
        Value::Null
    );
    node.chain.mine();
    let receipt = node
        .result("eth_getTransactionReceipt", json!([hash]))
        .await;
    let keys: Vec<_> = receipt.as_object().expect("an object").keys().collect();
    let mut expected = [
        "transactionHash",
        "transactionIndex",
        "blockHash",
        "blockNumber",
        "from",
        "to",
        "cumulativeGasUsed",
        "gasUsed",
        "effectiveGasPrice",
        "contractAddress",
        "logs",
        "logsBloom",
        "status",
        "type",
    ];
    expected.sort_unstable();
    assert_eq!(keys, expected);
    assert_eq!(receipt["contractAddress"], Value::Null);
}

#[tokio::test]
async fn blocks_have_every_field_that_clients_read() {
    let node = Node::start().await;
    transfer(&node).await;
    node.chain.mine();
    for tag in ["latest", "pending", "safe", "finalized", "earliest", "0x1"] {
        let block = node
            .result("eth_getBlockByNumber", json!([tag, false]))
            .await;
        for key in [
            "hash",
            "parentHash",
            "sha3Uncles",
            "miner",
            "stateRoot",
            "transactionsRoot",
            "receiptsRoot",
            "logsBloom",
            "difficulty",
            "number",
            "gasLimit",
            "gasUsed",
            "timestamp",
            "extraData",
            "mixHash",
            "nonce",
            "baseFeePerGas",
            "size",
            "uncles",
            "transactions",
            "withdrawals",
            "withdrawalsRoot",
            "blobGasUsed",
            "excessBlobGas",
            "parentBeaconBlockRoot",
            "requestsHash",
        ] {
            assert!(!block[key].is_null(), "{tag} block has no {key}: {block}");
        }
        assert_eq!(block["difficulty"], "0x0");
        assert_eq!(block["nonce"], "0x0000000000000000");
        // web3.py takes 32 bytes at most.
        assert!(block["extraData"].as_str().expect("hex").len() <= 66);
    }
}

#[tokio::test]
async fn transactions_have_gas_price_and_parity_whatever_their_type() {
    let node = Node::start().await;
    let dynamic = transfer(&node).await;
    let request = json!([{ "from": BOB, "to": ALICE, "gasPrice": "0x77359400" }]);
    let legacy = node.result("eth_sendTransaction", request).await;
    node.chain.mine();
    let dynamic = node
        .result("eth_getTransactionByHash", json!([dynamic]))
        .await;
    assert_eq!(dynamic["type"], "0x2");
    // Base fee and tip, 1 gwei each; the fee cap is higher.
    assert_eq!(dynamic["gasPrice"], "0x77359400");
    for key in [
        "yParity",
        "v",
        "r",
        "s",
        "chainId",
        "accessList",
        "blockTimestamp",
    ] {
        assert!(!dynamic[key].is_null(), "{key}: {dynamic}");
    }
    let legacy = node
        .result("eth_getTransactionByHash", json!([legacy]))
        .await;
    assert_eq!(legacy["type"], "0x0");
    assert_eq!(legacy["chainId"], "0x7a69");
    assert_eq!(legacy["gasPrice"], "0x77359400");
    assert!(legacy["v"].is_string() && legacy["blockTimestamp"].is_string());
}

#[tokio::test]
async fn many_sends_from_one_account_at_once_take_different_nonces() {
    let node = Node::start().await;
    let sends = (0..20).map(|_| transfer(&node));
    let hashes = futures::future::join_all(sends).await;
    let distinct: std::collections::BTreeSet<_> = hashes.iter().map(Value::to_string).collect();
    assert_eq!(distinct.len(), 20);
    let next = node
        .result("eth_getTransactionCount", json!([ALICE, "pending"]))
        .await;
    assert_eq!(next, "0x14");
}

#[tokio::test]
async fn a_synchronous_send_answers_with_the_receipt_or_says_that_it_waited() {
    let node = Node::start().await;
    let request = json!([{ "from": ALICE, "to": BOB, "gas": "0x5208", "nonce": "0x0" }]);
    let signed = node.result("eth_signTransaction", request).await;
    let mining = async {
        while node.result("txpool_status", json!([])).await["pending"] == "0x0" {
            tokio::task::yield_now().await;
        }
        node.chain.mine();
    };
    let params = json!([signed["raw"]]);
    let (receipt, ()) = tokio::join!(node.result("eth_sendRawTransactionSync", params), mining);
    assert_eq!(receipt["blockNumber"], "0x1");

    let request = json!([{ "from": ALICE, "to": BOB, "gas": "0x5208", "nonce": "0x1" }]);
    let signed = node.result("eth_signTransaction", request).await;
    let error = node
        .error("eth_sendRawTransactionSync", json!([signed["raw"], 1]))
        .await;
    assert_eq!(error["code"], 4);
    assert_eq!(error["data"], signed["tx"]["hash"]);
}

/// A client that sends asks right away, and may ask again only after seconds.
#[tokio::test]
async fn a_receipt_waits_for_a_transaction_that_is_about_to_be_included_and_for_no_other() {
    let node = Node::with(ServerConfig {
        receipt_patience: Duration::from_secs(60),
        ..ServerConfig::default()
    })
    .await;
    node.chain.plain.store(true, Ordering::Relaxed);
    let hash = transfer(&node).await;
    let mining = async {
        while node.chain.watchers() == 0 {
            tokio::task::yield_now().await;
        }
        node.chain.mine();
    };
    let params = json!([hash]);
    let (receipt, ()) = tokio::join!(node.result("eth_getTransactionReceipt", params), mining);
    assert_eq!(receipt["blockNumber"], "0x1");

    // One that waits for inference, and one that nobody knows: the answer is there at once.
    node.chain.plain.store(false, Ordering::Relaxed);
    for hash in [transfer(&node).await, json!(B256::ZERO)] {
        let receipt = node.result("eth_getTransactionReceipt", json!([hash]));
        let receipt = tokio::time::timeout(Duration::from_secs(30), receipt).await;
        assert_eq!(receipt.expect("not waited for"), Value::Null);
    }
}

#[tokio::test]
async fn refusals_of_the_pool_keep_their_words() {
    let node = Node::start().await;
    let request = json!([{ "from": ALICE, "to": BOB, "gas": "0x5208", "nonce": "0x0" }]);
    let signed = node.result("eth_signTransaction", request).await;
    let raw = json!([signed["raw"]]);
    let hash = node.result("eth_sendRawTransaction", raw.clone()).await;
    assert_eq!(hash, signed["tx"]["hash"]);
    let error = node.error("eth_sendRawTransaction", raw.clone()).await;
    assert_eq!(
        (&error["code"], &error["message"]),
        (&json!(-32000), &json!("already known"))
    );
    node.chain.mine();
    let error = node.error("eth_sendRawTransaction", raw).await;
    let message = error["message"].as_str().expect("text");
    assert!(message.starts_with("nonce too low"), "{message}");
}

#[tokio::test]
async fn a_transactions_way_is_told_step_by_step() {
    let node = Node::start().await;
    let hash = transfer(&node).await;
    let status = node
        .result("pipe_getTransactionStatus", json!([hash]))
        .await;
    assert_eq!(status["stage"], "deferred");
    assert_eq!(status["reason"], "Outbid");
    assert_eq!(status["price"], "0x5");
    assert_eq!(status["blocks"], "0x2");
    let stages: Vec<_> = status["history"]
        .as_array()
        .expect("an array")
        .iter()
        .map(|step| step["stage"].as_str().expect("text"))
        .collect();
    assert_eq!(stages, ["accepted", "inferring", "deferred"]);
    assert_eq!(status["history"][1]["requests"], "0x3");
}
