//! Development methods and `kill -9`: what they did is in the log, so it is there after a restart, and re-executes.

use alloy_primitives::{Address, B256, U256};
use alloy_provider::{DynProvider, Provider};
use penstock_store::{Store, StoreConfig};
use penstock_tests::harness::cluster::{Kind, Member, nats, nats_binary, until};
use penstock_tests::harness::{Devnet, binary, penstock, wallets};
use penstock_wire::BlockLog;
use penstock_wire::memory::MemoryLog;
use serde_json::{Value, json};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kills of one chain.
const KILLS: u64 = 6;
/// A kill comes this long after the work began, in ms, and a bit longer each time: each of the person's steps is some ms.
const MOMENT_MS: u64 = 300;
/// An account that only development methods touch.
const NOBODY: Address = Address::repeat_byte(0x77);

/// What the devnet said: a question, and its answer.
type Said = Arc<Mutex<Vec<(String, Value, Value)>>>;

async fn ask(provider: &DynProvider, method: &str, params: Value) -> Option<Value> {
    provider
        .raw_request::<_, Value>(method.to_owned().into(), params)
        .await
        .ok()
}

/// Asks, and remembers what was said of a block that stays what it is.
async fn note(provider: &DynProvider, said: &Said, method: &str, params: Value) -> Option<Value> {
    let answer = ask(provider, method, params.clone()).await?;
    let mut said = said.lock().expect("no panic");
    said.push((method.to_owned(), params, answer.clone()));
    Some(answer)
}

/// A person at work: every method in turn, and after each what there is to see at the head. Ends with the devnet.
async fn person(provider: DynProvider, said: Said, from: Address) -> Option<()> {
    let contract = {
        // Logs one word: PUSH1 7, PUSH0, MSTORE, PUSH1 32, PUSH0, LOG0; and stores how often at slot 0.
        let code = "0x60075f5260205fa05f546001015f5500";
        ask(&provider, "anvil_setCode", json!([NOBODY, code])).await?;
        NOBODY
    };
    for step in 0u64.. {
        match step % 8 {
            0 => {
                ask(
                    &provider,
                    "anvil_setBalance",
                    json!([NOBODY, U256::from(step)]),
                )
                .await?
            }
            1 => ask(&provider, "evm_increaseTime", json!([1_000])).await?,
            2 => ask(&provider, "anvil_mine", json!([3, 12])).await?,
            3 => {
                let id = ask(&provider, "evm_snapshot", json!([])).await?;
                ask(&provider, "anvil_setNonce", json!([NOBODY, step + 1])).await?;
                ask(&provider, "evm_revert", json!([id])).await?
            }
            4 => ask(&provider, "evm_setAutomine", json!([false])).await?,
            5 => {
                let call = json!([{ "from": from, "to": contract, "gas": "0x30000" }]);
                ask(&provider, "eth_sendTransaction", call).await?;
                ask(&provider, "evm_mine", json!([])).await?
            }
            6 => ask(&provider, "evm_setAutomine", json!([true])).await?,
            _ => {
                let slot = U256::from(step);
                let value = alloy_primitives::B256::from(slot);
                let params = json!([NOBODY, slot, value]);
                ask(&provider, "anvil_setStorageAt", params).await?
            }
        };
        let height = ask(&provider, "eth_blockNumber", json!([])).await?;
        note(
            &provider,
            &said,
            "eth_getBlockByNumber",
            json!([height, true]),
        )
        .await?;
        note(&provider, &said, "eth_getBlockReceipts", json!([height])).await?;
        note(&provider, &said, "eth_getBalance", json!([NOBODY, height])).await?;
        note(
            &provider,
            &said,
            "eth_getTransactionCount",
            json!([NOBODY, height]),
        )
        .await?;
        note(
            &provider,
            &said,
            "eth_getStorageAt",
            json!([NOBODY, "0x0", height]),
        )
        .await?;
        let filter = json!([{ "fromBlock": height, "toBlock": height }]);
        note(&provider, &said, "eth_getLogs", filter).await?;
    }
    None
}

/// Sends transfers until the devnet is gone.
async fn load(provider: DynProvider, from: Address) {
    loop {
        let transfer = json!([{ "from": from, "to": from, "value": "0x1", "gas": "0x5208" }]);
        if ask(&provider, "eth_sendTransaction", transfer)
            .await
            .is_none()
            && ask(&provider, "eth_blockNumber", json!([])).await.is_none()
        {
            return;
        }
    }
}

#[tokio::test]
async fn what_development_methods_did_is_there_after_kills_under_load() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let said = Said::default();
    let accounts: Vec<Address> = wallets(2).iter().map(|wallet| wallet.address()).collect();
    let mut devnet = Devnet::start_on(&data, &[]);
    let mut logs = 0;
    for kill in 1..=KILLS {
        let work = tokio::spawn(person(devnet.provider(), said.clone(), accounts[0]));
        let load = tokio::spawn(load(devnet.provider(), accounts[1]));
        // The moment is part of the case, not a wait for something.
        tokio::time::sleep(Duration::from_millis(MOMENT_MS * kill)).await;
        devnet.kill();
        assert!(work.await.expect("no panic").is_none());
        load.await.expect("no panic");
        devnet = Devnet::start_on(&data, &[]);
        let provider = devnet.provider();
        let known = std::mem::take(&mut *said.lock().expect("no panic"));
        println!("kill {kill}: {} answers", known.len());
        for (method, params, answer) in known {
            let again = ask(&provider, &method, params.clone()).await;
            assert_eq!(again.as_ref(), Some(&answer), "{method} {params}");
            if method == "eth_getLogs" {
                logs += answer.as_array().map_or(0, Vec::len);
            }
        }
    }
    assert!(logs > 0, "no log was ever compared");
    assert!(devnet.stop().success());
    let said = penstock(&["replay", "--data", &data.to_string_lossy()]);
    assert!(said.contains("blocks are equal"), "{said}");
}

#[tokio::test]
async fn settings_outlive_a_restart_and_snapshots_do_not() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut devnet = Devnet::start_on(&data, &[]);
    let provider = devnet.provider();
    let from = wallets(1)[0].address();
    let snapshot = ask(&provider, "evm_snapshot", json!([])).await;
    for (method, params) in [
        ("evm_setAutomine", json!([false])),
        ("evm_increaseTime", json!([1_000_000])),
        ("anvil_setNextBlockBaseFeePerGas", json!(["0x5"])),
    ] {
        assert!(ask(&provider, method, params).await.is_some(), "{method}");
    }
    let transfer = json!([{ "from": from, "to": NOBODY, "value": "0x1" }]);
    let hash = ask(&provider, "eth_sendTransaction", transfer).await;
    let before = ask(&provider, "eth_blockNumber", json!([])).await;
    devnet.kill();
    devnet = Devnet::start_on(&data, &[]);
    let provider = devnet.provider();
    assert_eq!(
        ask(&provider, "anvil_getAutomine", json!([])).await,
        Some(json!(false))
    );
    assert_eq!(ask(&provider, "eth_blockNumber", json!([])).await, before);
    ask(&provider, "evm_mine", json!([])).await.expect("mined");
    let block = ask(&provider, "eth_getBlockByNumber", json!(["latest", false])).await;
    let block = block.expect("a block");
    assert_eq!(block["transactions"], json!([hash.expect("sent")]));
    assert_eq!(block["baseFeePerGas"], "0x5");
    let real = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let real = U256::from(real.expect("after 1970").as_secs());
    let there: U256 = block["timestamp"]
        .as_str()
        .and_then(|t| t.parse().ok())
        .expect("a time");
    assert!(
        there >= real + U256::from(999_000),
        "the clock is still ahead"
    );
    let back = ask(&provider, "evm_revert", json!([snapshot.expect("taken")])).await;
    assert_eq!(back, Some(json!(false)));
}

#[tokio::test]
async fn an_exported_chain_is_imported_block_by_block_and_goes_on() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let data = folder.path().join("data");
    let mut devnet = Devnet::start_on(&data, &[]);
    let provider = devnet.provider();
    let from = wallets(1)[0].address();
    ask(&provider, "anvil_setBalance", json!([NOBODY, "0x5"])).await;
    let transfer = json!([{ "from": from, "to": NOBODY, "value": "0x1" }]);
    for _ in 0..3 {
        ask(&provider, "eth_sendTransaction", transfer.clone()).await;
        ask(&provider, "evm_mine", json!([])).await;
    }
    let latest = json!(["latest", true]);
    let head = ask(&provider, "eth_getBlockByNumber", latest.clone()).await;
    assert!(devnet.stop().success());
    for name in ["chain.txt", "chain.txt.gz"] {
        let file = path(name);
        let said = penstock(&["export", "--data", &data.to_string_lossy(), &file]);
        assert!(said.contains("blocks are in"), "{said}");
        let copy = path(&format!("{name}.data"));
        let said = penstock(&["import", "--data", &copy, &file]);
        assert!(said.contains("holds the chain"), "{said}");
        let mut devnet = Devnet::start_on(std::path::Path::new(&copy), &[]);
        let provider = devnet.provider();
        let there = ask(&provider, "eth_getBlockByNumber", latest.clone()).await;
        assert_eq!(there, head);
        ask(&provider, "evm_mine", json!([]))
            .await
            .expect("it goes on");
        assert!(devnet.stop().success());
        let said = penstock(&["replay", "--data", &copy]);
        assert!(said.contains("blocks are equal"), "{said}");
    }
}

/// After a kill the log may have blocks that the store has not: a copy without them would look whole.
#[tokio::test]
async fn a_store_that_is_behind_its_log_is_neither_exported_nor_replayed() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let mut devnet = Devnet::start_on(&data, &[]);
    ask(&devnet.provider(), "evm_mine", json!([])).await;
    assert!(devnet.stop().success());
    let store = Store::open(data.join("store"), StoreConfig::default()).expect("it is closed");
    let (head, _) = store.head().expect("a block");
    let log = MemoryLog::open(store.journal("log").expect("a journal"));
    let log = log.await.expect("a log");
    let epoch = log.epoch().await.expect("readable").expect("a producer");
    let (last, block) = log.head().await.expect("readable").expect("a block");
    let appended = log.append(epoch.epoch, head.next(), B256::ZERO, last, block);
    appended.await.expect("writable");
    drop((log, store));
    let (data, file) = (data.to_string_lossy(), folder.path().join("chain.txt"));
    for command in [
        &["export", "--data", &data, &file.to_string_lossy()][..],
        &["replay", "--data", &data],
    ] {
        let output = Command::new(binary()).args(command).output();
        let output = output.expect("the binary starts");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{command:?}");
        assert!(said.contains("are in its block log alone"), "{said}");
    }
    assert!(!file.exists());
}

/// The producer is another process than the gateway that is asked, and the gateway's follower verifies what it does.
#[tokio::test]
async fn orders_go_over_the_bus_and_every_process_comes_to_the_same_state() {
    let Some(binary) = nats_binary() else {
        return;
    };
    let dir = tempfile::tempdir().expect("a folder");
    let server = nats(&binary, dir.path()).await;
    let node = |name: &str, roles: &str| {
        let data = dir.path().join(name).join("data");
        let config = format!(
            "roles = [{roles}]\ndata = {data:?}\n[chain]\nproducers = 1\n[producer]\nkey = \"derived:0\"\n\
             [nats]\nurl = \"{}\"\n[health]\nport = 0\n[rpc]\nport = 0\n",
            server.url()
        );
        Member::start(dir.path(), name, Kind::Node, &config, &[])
    };
    let worker = node(
        "worker",
        "\"mempool\", \"scheduler\", \"producer\", \"gateway\"",
    );
    let gateway = node("gateway", "\"gateway\"");
    for member in [&worker, &gateway] {
        until("it is ready", || member.is_ready().then_some(()));
    }
    let (near, far) = (worker.provider(), gateway.provider());
    let from = wallets(1)[0].address();
    let ordered = async |method: &str, params: Value| {
        let answer = ask(&far, method, params).await;
        answer.unwrap_or_else(|| panic!("{method} was refused"))
    };
    ordered("anvil_setBalance", json!([NOBODY, "0x5"])).await;
    let id = ordered("evm_snapshot", json!([])).await;
    ordered("evm_increaseTime", json!([1_000])).await;
    ordered("evm_setAutomine", json!([false])).await;
    ordered("anvil_impersonateAccount", json!([NOBODY])).await;
    ordered("anvil_setBalance", json!([NOBODY, "0xde0b6b3a7640000"])).await;
    let sent = json!([{ "from": NOBODY, "to": from, "value": "0x1" }]);
    let hash = ordered("eth_sendTransaction", sent).await;
    ordered("evm_mine", json!([])).await;
    let latest = ordered("eth_getBlockByNumber", json!(["latest", false])).await;
    assert_eq!(latest["transactions"], json!([hash]));
    assert_eq!(ordered("evm_revert", json!([id])).await, true);
    let balance = json!([NOBODY, "latest"]);
    assert_eq!(ordered("eth_getBalance", balance).await, "0x5");
    let head = ordered("eth_getBlockByNumber", json!(["latest", true])).await;
    let number = json!([head["number"], true]);
    for _ in 0..1_000 {
        if ask(&near, "eth_getBlockByNumber", number.clone())
            .await
            .as_ref()
            == Some(&head)
        {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the two processes have different blocks");
}

/// The producer heard of a dropped transaction by another way than of the block that was asked for next, and took it in.
#[tokio::test]
async fn what_was_dropped_is_in_no_later_block() {
    let devnet = Devnet::start(&[]);
    let provider = devnet.provider();
    let wallets = wallets(2);
    let asked = async |method: &str, params: Value| {
        let answer = ask(&provider, method, params).await;
        answer.unwrap_or_else(|| panic!("{method} was refused"))
    };
    asked("evm_setAutomine", json!([false])).await;
    for round in 0..50 {
        let mut hashes = Vec::new();
        for wallet in &wallets {
            let sent = json!([{ "from": wallet.address(), "to": NOBODY, "value": "0x1", "gas": "0x5208" }]);
            hashes.push(asked("eth_sendTransaction", sent).await);
        }
        // One alone, or all.
        let kept = match round % 2 {
            0 => {
                asked("anvil_dropTransaction", json!([hashes[1]])).await;
                &hashes[..1]
            }
            _ => {
                asked("anvil_dropAllTransactions", json!([])).await;
                &[]
            }
        };
        asked("evm_mine", json!([])).await;
        let block = asked("eth_getBlockByNumber", json!(["latest", false])).await;
        assert_eq!(block["transactions"], json!(kept), "round {round}");
    }
}
