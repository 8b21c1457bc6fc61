//! Development methods: what they make of their arguments, by every name that clients use.

mod common;

use alloy_primitives::{Address, B256, U256};
use common::{ALICE, BOB, Node};
use penstock_rules::dev::{AccountPatch, Change, DevOrder, MineTime, Setting};
use penstock_rules::ids::Micros;
use serde_json::{Value, json};
use std::sync::atomic::Ordering;

/// The one change that a method asks for, by each of its names.
async fn check(names: &[&str], params: Value, expect: Change) {
    let node = Node::start().await;
    for name in names {
        node.result(name, params.clone()).await;
        let ordered = node.chain.ordered();
        assert_eq!(ordered, [DevOrder::Change(vec![expect.clone()])], "{name}");
    }
}

fn account(change: impl FnOnce(&mut AccountPatch)) -> Change {
    let mut patch = AccountPatch {
        address: BOB,
        ..AccountPatch::default()
    };
    change(&mut patch);
    Change::Account(patch)
}

#[tokio::test]
async fn accounts_change_in_what_is_named_alone() {
    let balance = account(|patch| patch.balance = Some(U256::from(300)));
    let names = ["anvil_setBalance", "hardhat_setBalance"];
    check(&names, json!([BOB, "0x12c"]), balance.clone()).await;
    check(&names, json!([BOB, 300]), balance).await;
    check(
        &["anvil_setNonce", "hardhat_setNonce", "evm_setAccountNonce"],
        json!([BOB, "0x7"]),
        account(|patch| patch.nonce = Some(7)),
    )
    .await;
    check(
        &["anvil_setCode", "hardhat_setCode"],
        json!([BOB, "0x6001"]),
        account(|patch| patch.code = Some(vec![0x60, 1].into())),
    )
    .await;
    check(
        &["anvil_setStorageAt", "hardhat_setStorageAt"],
        json!([BOB, "0x0", B256::with_last_byte(9)]),
        account(|patch| patch.slots = vec![(U256::ZERO, U256::from(9))]),
    )
    .await;
    let more = U256::from(10).pow(U256::from(22)) + U256::from(1);
    check(
        &["anvil_addBalance"],
        json!([BOB, "0x1"]),
        account(|patch| patch.balance = Some(more)),
    )
    .await;
}

#[tokio::test]
async fn settings_have_all_their_names() {
    for (names, params, setting) in [
        (
            &["evm_increaseTime", "anvil_increaseTime"][..],
            json!([3600]),
            Setting::ClockBy(3600),
        ),
        (
            &["evm_setTime", "anvil_setTime"],
            json!(["0x10"]),
            Setting::ClockTo(16),
        ),
        (
            &["evm_setNextBlockTimestamp", "anvil_setNextBlockTimestamp"],
            json!(["1700000000"]),
            Setting::NextTimestamp(1_700_000_000),
        ),
        (
            &["anvil_setBlockTimestampInterval"],
            json!([12]),
            Setting::TimestampInterval(Some(12)),
        ),
        (
            &[
                "anvil_setNextBlockBaseFeePerGas",
                "hardhat_setNextBlockBaseFeePerGas",
            ],
            json!(["0x0"]),
            Setting::NextBaseFee(0),
        ),
        (
            &["anvil_setCoinbase", "hardhat_setCoinbase"],
            json!([ALICE]),
            Setting::Coinbase(ALICE),
        ),
        (
            &["anvil_setNextBlockPrevRandao", "hardhat_setPrevRandao"],
            json!([B256::repeat_byte(1)]),
            Setting::NextPrevrandao(B256::repeat_byte(1)),
        ),
        (
            &["evm_setBlockGasLimit", "anvil_setBlockGasLimit"],
            json!(["0x1c9c380"]),
            Setting::GasLimit(30_000_000),
        ),
        (
            &["evm_setAutomine", "anvil_setAutomine"],
            json!([false]),
            Setting::MineByHand,
        ),
        (
            &["evm_setAutomine", "anvil_setAutomine"],
            json!([true]),
            Setting::MineAtOnce,
        ),
        (
            &["evm_setIntervalMining", "anvil_setIntervalMining"],
            json!([2]),
            Setting::MineEvery(Micros::from_secs(2)),
        ),
        (&["evm_setIntervalMining"], json!([0]), Setting::MineByHand),
    ] {
        check(names, params, Change::Setting(setting)).await;
    }
}

#[tokio::test]
async fn blocks_are_ordered_one_by_one_with_the_time_that_was_asked_for() {
    let node = Node::start().await;
    for (name, params, times) in [
        ("evm_mine", json!([]), vec![MineTime::Clock]),
        (
            "evm_mine",
            json!([1_700_000_000]),
            vec![MineTime::At(1_700_000_000)],
        ),
        ("evm_mine", json!(["0x10"]), vec![MineTime::At(16)]),
        (
            "evm_mine",
            json!([{ "timestamp": 20, "blocks": 2 }]),
            vec![MineTime::At(20), MineTime::Clock],
        ),
        ("anvil_mine", json!(["0x2"]), vec![MineTime::Clock; 2]),
        (
            "hardhat_mine",
            json!(["0x3", "0xc"]),
            vec![MineTime::Clock, MineTime::After(12), MineTime::After(12)],
        ),
        ("hardhat_mine", json!([]), vec![MineTime::Clock]),
    ] {
        node.result(name, params.clone()).await;
        let ordered: Vec<_> = node.chain.ordered();
        let wanted = Vec::new;
        let expect: Vec<_> = times
            .into_iter()
            .map(|time| DevOrder::Mine {
                wanted: wanted(),
                time,
            })
            .collect();
        assert_eq!(ordered, expect, "{name} {params}");
    }
    let error = node.error("anvil_mine", json!([10_001])).await;
    assert_eq!(error["code"], -32602);
    assert!(node.chain.ordered().is_empty());
}

#[tokio::test]
async fn snapshots_are_quantities_and_an_unknown_one_is_no_error() {
    let node = Node::start().await;
    for (take, back) in [
        ("evm_snapshot", "evm_revert"),
        ("anvil_snapshot", "anvil_revert"),
    ] {
        assert_eq!(node.result(take, json!([])).await, "0x1");
        assert_eq!(node.result(back, json!(["0x1"])).await, true);
        let restore = Change::Restore { snapshot: 1 };
        assert_eq!(node.chain.ordered(), [DevOrder::Change(vec![restore])]);
        assert_eq!(node.result(back, json!(["0x9"])).await, false);
    }
    for name in ["anvil_reset", "hardhat_reset"] {
        assert_eq!(node.result(name, json!([])).await, true);
        assert_eq!(
            node.chain.ordered(),
            [DevOrder::Change(vec![Change::Reset])]
        );
    }
    let fork = json!([{ "forking": { "jsonRpcUrl": "http://localhost" } }]);
    assert_eq!(node.error("hardhat_reset", fork).await["code"], -32602);
}

#[tokio::test]
async fn only_an_impersonated_account_sends_without_a_key() {
    let node = Node::start().await;
    let stranger = Address::repeat_byte(0x42);
    let request = json!([{ "from": stranger, "to": BOB, "value": "0x1" }]);
    let unknown = async |node: &Node| {
        let error = node.error("eth_sendTransaction", request.clone()).await;
        assert_eq!(error["message"], "unknown account");
    };
    unknown(&node).await;
    for (begin, end) in [
        ("anvil_impersonateAccount", "anvil_stopImpersonatingAccount"),
        (
            "hardhat_impersonateAccount",
            "hardhat_stopImpersonatingAccount",
        ),
    ] {
        node.result(begin, json!([stranger])).await;
        let hash = node.result("eth_sendTransaction", request.clone()).await;
        assert_eq!(hash, json!(stranger.into_word()));
        assert_eq!(node.result(end, json!([stranger])).await, true);
        unknown(&node).await;
    }
    let auto = "anvil_autoImpersonateAccount";
    node.result(auto, json!([true])).await;
    node.result("eth_sendTransaction", request.clone()).await;
    node.result(auto, json!([false])).await;
    unknown(&node).await;
}

#[tokio::test]
async fn transactions_are_dropped_one_by_one_by_sender_and_all() {
    let node = Node::start().await;
    let send = async |from: Address, nonce: u64| {
        let request = json!([{ "from": from, "to": BOB, "nonce": U256::from(nonce) }]);
        node.result("eth_sendTransaction", request).await
    };
    let left = async || node.result("txpool_status", json!([])).await["pending"].clone();
    for name in ["anvil_dropTransaction", "hardhat_dropTransaction"] {
        let hash = send(ALICE, 0).await;
        assert_eq!(node.result(name, json!([hash])).await, true);
        assert_eq!(node.result(name, json!([hash])).await, false);
        assert_eq!(left().await, "0x0");
    }
    send(ALICE, 0).await;
    send(BOB, 0).await;
    node.result("anvil_removePoolTransactions", json!([BOB]))
        .await;
    assert_eq!(left().await, "0x1");
    node.result("anvil_dropAllTransactions", json!([])).await;
    assert_eq!(left().await, "0x0");
}

#[tokio::test]
async fn a_dump_is_loaded_again() {
    let node = Node::start().await;
    let dump = node.result("anvil_dumpState", json!([])).await;
    assert!(dump.as_str().is_some_and(|hex| hex.starts_with("0x1f8b")));
    assert_eq!(node.result("anvil_loadState", json!([dump])).await, true);
    let ordered = node.chain.ordered();
    let [DevOrder::Change(changes)] = &ordered[..] else {
        panic!("one block: {ordered:?}");
    };
    assert!(matches!(&changes[..], [Change::Account(patch)] if patch.address == common::LOGGER));
    let error = node.error("anvil_loadState", json!(["0x1234"])).await;
    assert_eq!(error["code"], -32602);
}

#[tokio::test]
async fn the_node_says_what_it_is() {
    let node = Node::start().await;
    let info = node.result("anvil_nodeInfo", json!([])).await;
    assert_eq!(info["currentBlockNumber"], "0x0");
    assert_eq!(info["environment"]["chainId"], 31337);
    assert_eq!(info["hardFork"], "osaka");
    for name in ["anvil_metadata", "hardhat_metadata"] {
        let metadata = node.result(name, json!([])).await;
        assert_eq!(metadata["chainId"], 31337);
        assert_eq!(metadata["latestBlockNumber"], 0);
    }
    assert_eq!(node.result("anvil_getAutomine", json!([])).await, true);
    assert!(
        node.result("anvil_getIntervalMining", json!([]))
            .await
            .is_null()
    );
}

#[tokio::test]
async fn a_chain_with_several_producers_refuses_them_all_with_the_reason() {
    let node = Node::start().await;
    node.chain.producers.store(3, Ordering::Relaxed);
    for name in [
        "evm_mine",
        "anvil_nodeInfo",
        "hardhat_setBalance",
        "evm_snapshot",
    ] {
        let error = node.error(name, json!([])).await;
        assert_eq!(error["code"], -32004, "{name}");
        let text = error["message"].as_str().unwrap_or_default();
        assert!(
            text.contains("one producer") && text.contains('3'),
            "{text}"
        );
    }
    assert!(node.chain.ordered().is_empty());
}

#[tokio::test]
async fn wrong_arguments_change_nothing() {
    let node = Node::start().await;
    for (name, params) in [
        ("anvil_setBalance", json!([BOB])),
        ("anvil_setBalance", json!([BOB, "x"])),
        ("anvil_setBalance", json!(["0x12", "0x1"])),
        ("anvil_setNonce", json!([BOB, -1])),
        ("anvil_setStorageAt", json!([BOB, "0x0", "0x1"])),
        ("evm_increaseTime", json!([1u64 << 60])),
        ("evm_setNextBlockTimestamp", json!([u64::MAX])),
        ("evm_setBlockGasLimit", json!([0])),
        ("evm_revert", json!([])),
        ("evm_mine", json!(["soon"])),
    ] {
        let error = node.error(name, params.clone()).await;
        assert_eq!(error["code"], -32602, "{name} {params}: {error}");
    }
    assert!(node.chain.ordered().is_empty());
}
