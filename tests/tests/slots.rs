//! Blocks on time, whatever inference does.
//!
//! With `PENSTOCK_LONG_TESTS=1` the slow model takes 60 s over 60 slots; without, 10 s over 10.

use alloy_primitives::Address;
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::TransactionReceipt;
use alloy_sol_types::SolCall;
use penstock_tests::harness::{
    Devnet, Number, Probes, Sent, Wallet, assert_on_time, is_long, probe, receipt, rows, submit,
    wallets,
};
use std::time::Duration;

/// Gas for a transaction with one call of a model.
const GAS: u64 = 400_000;
/// Longest wait for a receipt on a loaded machine, beside the slow model's time.
const PATIENCE: Duration = Duration::from_secs(120);

fn seconds() -> u64 {
    if is_long() { 60 } else { 10 }
}

/// How late each block was sealed, in µs, by the producer's log.
fn lateness(log: &str) -> Vec<u64> {
    let sealed = log.lines().filter(|line| line.contains("sealed height="));
    let late = sealed.filter_map(|line| line.rsplit_once("late_us=")?.1.trim().parse().ok());
    late.collect()
}

/// Timestamps of the blocks from `first` on, `count` of them.
async fn timestamps(provider: &DynProvider, first: u64, count: u64) -> Vec<u64> {
    let mut times = Vec::new();
    for height in first..first + count {
        let block = provider.get_block_by_number(height.into()).await;
        let block = block.expect("an answer").expect("a block");
        times.push(block.header.timestamp);
    }
    times
}

/// Waits until `count` more blocks are there, and gives the first one's height.
async fn slots(provider: &DynProvider, count: u64) -> u64 {
    let first = provider.get_block_number().await.expect("a height") + 1;
    while provider.get_block_number().await.expect("a height") < first + count - 1 {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    first
}

fn ask(wallet: &mut Wallet, contract: Address, row: Vec<Number>) -> Sent {
    let call = Probes::fanCall {
        row,
        calls: 1u64.try_into().expect("one"),
    };
    wallet.sign(Some(contract), 0, call.abi_encode().into(), GAS)
}

#[tokio::test]
async fn slots_are_on_time_while_a_slow_model_runs() {
    let seconds = seconds();
    let folder = tempfile::tempdir().expect("a temporary folder");
    let file = folder.path().join("slow.toml");
    let text = format!("[inference.test_delay_ms]\nrisk = {}\n", seconds * 1_000);
    std::fs::write(&file, text).expect("a file");
    let mut worst = Vec::new();
    for slow in [false, true] {
        let config = file.to_string_lossy();
        let mut args = vec!["--block-time", "1s"];
        if slow {
            args.extend(["--config", &config]);
        }
        let devnet = Devnet::start(&args);
        let provider = devnet.provider();
        let mut wallets = wallets(2);
        let (input, rows) = rows("risk");
        let code = probe("Fanout", "risk", &input);
        let contract = wallets[0].deploy(&provider, code).await;
        let before = lateness(&devnet.log()).len();
        let sent = ask(&mut wallets[0], contract, rows[0].input.clone());
        submit(&provider, &sent).await;
        let (mut other, to) = (wallets.remove(1), wallets[0].address());
        let plain = other.sign(Some(to), 1, Default::default(), 21_000);
        submit(&provider, &plain).await;
        let first = slots(&provider, seconds).await;
        let times = timestamps(&provider, first, seconds).await;
        assert_on_time(&times);
        let plain = receipt(&provider, plain.hash, PATIENCE).await;
        let asked = receipt(&provider, sent.hash, PATIENCE).await;
        assert!(asked.status());
        let height = |receipt: &TransactionReceipt| receipt.block_number.expect("it is in a block");
        if slow {
            // A builder that waited for the answer would have sealed both in one block.
            let between = height(&asked) - height(&plain);
            assert!(between >= seconds / 2, "{plain:?}, {asked:?}");
        }
        let late = &lateness(&devnet.log())[before..];
        let late = &late[..(seconds as usize).min(late.len())];
        worst.push(late.iter().copied().max().expect("blocks"));
    }
    println!(
        "worst lateness of {seconds} slots: {} us without, {} us with a model that takes {seconds} s",
        worst[0], worst[1]
    );
}
