//! What was accepted is there after `kill -9` at any moment.

use alloy_primitives::{Address, B256};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::SolCall;
use penstock_tests::harness::{
    Devnet, Probes, Row, Wallet, binary, penstock, probe, receipt, rows, wallets,
};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// Kills of one chain. Its state grows from one to the next.
const KILLS: u64 = 20;
/// Seed of the moments.
const SEED: u64 = 7;
/// A kill comes within this time after the load began, in ms: blocks come every few ms, so every moment of one is hit.
const MOMENT_MS_MAX: u64 = 600;
/// Longest wait for a receipt on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);
/// Gas for a transaction with one call of a model.
const GAS: u64 = 2_000_000;

/// splitmix64.
fn roll(seed: &mut u64, below: u64) -> u64 {
    *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let mut z = *seed;
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    (z ^ (z >> 31)) % below
}

/// What the devnet has said so far, and must say again after a restart.
#[derive(Default)]
struct Said {
    accepted: Vec<B256>,
    receipts: BTreeMap<B256, TransactionReceipt>,
    head: Option<(u64, B256, B256)>,
}

async fn head(provider: &DynProvider) -> Option<(u64, B256, B256)> {
    let block = provider.get_block_by_number("latest".parse().ok()?).await;
    let header = block.ok()??.header;
    Some((header.number, header.hash, header.state_root))
}

/// Sends transfers and inferences of one account until the devnet is gone, and notes what it says.
async fn load(
    provider: DynProvider,
    mut wallet: Wallet,
    contract: Address,
    data: Vec<Row>,
    said: Arc<Mutex<Said>>,
) {
    let to = wallet.address();
    for number in 0.. {
        let sent = if number % 2 == 0 {
            wallet.sign(Some(to), 1, Default::default(), 21_000)
        } else {
            let row = &data[wallet.nonce as usize % data.len()];
            let call = Probes::fanCall {
                row: row.input.clone(),
                calls: 1u64.try_into().expect("one"),
            };
            wallet.sign(Some(contract), 0, call.abi_encode().into(), GAS)
        };
        let taken: Result<B256, _> = provider
            .raw_request("eth_sendRawTransaction".into(), (sent.raw,))
            .await;
        if taken.is_err() {
            return;
        }
        said.lock().expect("no panic").accepted.push(sent.hash);
        // One in four is waited for, so that there are receipts to be held to, and a queue.
        if number % 4 == 3 {
            loop {
                match provider.get_transaction_receipt(sent.hash).await {
                    Ok(Some(receipt)) => {
                        let mut said = said.lock().expect("no panic");
                        said.receipts.insert(sent.hash, receipt);
                        break;
                    }
                    Ok(None) => tokio::time::sleep(Duration::from_millis(2)).await,
                    Err(_) => return,
                }
            }
            let Some(now) = head(&provider).await else {
                return;
            };
            let mut said = said.lock().expect("no panic");
            said.head = said.head.max(Some(now));
        }
    }
}

/// All that was said before holds now.
async fn check(provider: &DynProvider, said: &Said) {
    if let Some((height, hash, root)) = said.head {
        let block = provider.get_block_by_number(height.into()).await;
        let header = block.expect("an answer").expect("the head is there").header;
        assert_eq!(
            (header.hash, header.state_root),
            (hash, root),
            "block {height}"
        );
    }
    for (hash, receipt) in &said.receipts {
        let now = provider.get_transaction_receipt(*hash).await;
        assert_eq!(now.expect("an answer").as_ref(), Some(receipt), "{hash}");
    }
    for hash in &said.accepted {
        let known = provider.get_transaction_by_hash(*hash).await;
        assert!(
            known.expect("an answer").is_some(),
            "{hash} was accepted, and is gone"
        );
    }
}

#[tokio::test]
async fn nothing_that_was_accepted_is_lost_at_twenty_kills_under_load() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let data = folder.path().join("data");
    let said = Arc::new(Mutex::new(Said::default()));
    let mut wallets = wallets(3);
    let (input, rows) = rows("risk");
    let decisions = folder.path().join("decisions");
    let decisions_path = decisions.to_string_lossy().into_owned();
    let logged = ["--decisions", decisions_path.as_str()];
    let mut devnet = Devnet::start_on(&data, &logged);
    let code = probe("Fanout", "risk", &input);
    let contract = wallets[0].deploy(&devnet.provider(), code).await;
    let mut seed = SEED;
    for kill in 0..KILLS {
        let loads: Vec<_> = wallets
            .iter()
            .map(|wallet| {
                let (wallet, rows, said) = (wallet.clone(), rows.clone(), said.clone());
                tokio::spawn(load(devnet.provider(), wallet, contract, rows, said))
            })
            .collect();
        // The moment is part of the case, not a wait for something.
        tokio::time::sleep(Duration::from_millis(roll(&mut seed, MOMENT_MS_MAX))).await;
        devnet.kill();
        for load in loads {
            load.await.expect("the load ends with the devnet");
        }
        devnet = Devnet::start_on(&data, &logged);
        let provider = devnet.provider();
        let known = std::mem::take(&mut *said.lock().expect("no panic"));
        println!(
            "kill {kill}: {} accepted, {} receipts, head {}",
            known.accepted.len(),
            known.receipts.len(),
            known.head.map_or(0, |(height, ..)| height)
        );
        check(&provider, &known).await;
        *said.lock().expect("no panic") = known;
        for wallet in &mut wallets {
            let next = provider.get_transaction_count(wallet.address()).pending();
            wallet.nonce = next.await.expect("a nonce");
        }
    }
    let provider = devnet.provider();
    let accepted = said.lock().expect("no panic").accepted.clone();
    let mut places = BTreeMap::new();
    for hash in accepted {
        let receipt = receipt(&provider, hash, PATIENCE).await;
        assert!(receipt.status());
        let place = (receipt.block_number, receipt.transaction_index);
        assert_eq!(places.insert(place, hash), None, "two in one place");
    }
    assert!(devnet.stop().success());
    replays(&data);
    // Each scheduler's decisions come again, whatever moment it was killed at.
    let mut logs = 0;
    for entry in std::fs::read_dir(&decisions).expect("decision logs") {
        let file = entry.expect("a file").path();
        let said = penstock(&["replay", "--decisions", &file.to_string_lossy()]);
        assert!(said.contains("decisions are equal"), "{said}");
        logs += 1;
    }
    assert_eq!(logs, KILLS + 1);
}

fn replays(data: &Path) {
    let said = penstock(&["replay", "--data", &data.to_string_lossy()]);
    assert!(said.contains("blocks are equal"), "{said}");
}

#[test]
fn a_folder_of_decision_logs_that_cannot_be_made_is_an_error_that_names_it() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("file");
    std::fs::write(&file, b"no folder").expect("a file");
    let under = file.join("decisions");
    let output = std::process::Command::new(binary())
        .args(["up", "--quiet", "--port", "0", "--health-port", "0"])
        .arg("--decisions")
        .arg(&under)
        .output()
        .expect("the binary starts");
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(&*under.to_string_lossy()), "{text}");
}
