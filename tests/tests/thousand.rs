//! A burst of inferences and of plain transfers, alone on its machine: what it shows is a question of load.

use alloy_primitives::Address;
use alloy_provider::DynProvider;
use alloy_sol_types::SolCall;
use futures::future::join_all;
use penstock_tests::harness::{
    Devnet, Number, Probes, Sent, Wallet, number, probe, receipt, rows, submit, wallets,
};
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// Senders of each kind, and transactions of each.
const SENDERS: usize = 100;
const EACH: usize = 10;
/// Gas for a transaction with one call of a model.
const GAS: u64 = 400_000;
/// Longest wait for a receipt on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(120);

fn ask(wallet: &mut Wallet, contract: Address, row: Vec<Number>) -> Sent {
    let call = Probes::fanCall {
        row,
        calls: 1u64.try_into().expect("one"),
    };
    wallet.sign(Some(contract), 0, call.abi_encode().into(), GAS)
}

async fn submit_all(provider: &DynProvider, sent: &[Sent]) {
    join_all(sent.iter().map(|sent| submit(provider, sent))).await;
}

/// Each inference has a row of its own. All are pending at about one moment: the first nonces come last.
#[tokio::test]
async fn a_thousand_inferences_are_in_one_block_and_transfers_are_not_later_for_it() {
    let devnet = Devnet::start(&["--block-time", "10s", "--accounts", "200"]);
    let provider = devnet.provider();
    let mut wallets = wallets(2 * SENDERS as u32);
    let (input, rows) = rows("risk");
    let code = probe("Fanout", "risk", &input);
    let to = wallets[0].address();
    // The block after this one is ten seconds away.
    let contract = wallets[0].deploy(&provider, code).await;
    let (mut inferences, mut transfers) = (Vec::new(), Vec::new());
    for number_of in 0..EACH {
        for sender in 0..SENDERS {
            let row = &rows[(number_of * SENDERS + sender) % rows.len()];
            // More transactions than rows: the later ones are of people who are some years older.
            let age = number(&format!("{}.5", 20 + number_of));
            let row: Vec<Number> = [&[age], &row.input[1..]].concat();
            inferences.push(ask(&mut wallets[sender], contract, row));
            let other = &mut wallets[SENDERS + sender];
            transfers.push(other.sign(Some(to), 1, Default::default(), 21_000));
        }
    }
    let started = Instant::now();
    for later in [&inferences[SENDERS..], &transfers[SENDERS..]] {
        submit_all(&provider, later).await;
    }
    let first = Instant::now();
    for first in [&inferences[..SENDERS], &transfers[..SENDERS]] {
        submit_all(&provider, first).await;
    }
    println!(
        "2,000 accepted in {:?}, the last 200 of them in {:?}",
        started.elapsed(),
        first.elapsed()
    );
    let mut blocks = [BTreeSet::new(), BTreeSet::new()];
    for (kind, sent) in [&inferences, &transfers].into_iter().enumerate() {
        for sent in sent {
            let receipt = receipt(&provider, sent.hash, PATIENCE).await;
            assert!(receipt.status());
            blocks[kind].insert(receipt.block_number.expect("a block"));
        }
    }
    println!(
        "inferences in blocks {:?}, transfers in {:?}",
        blocks[0], blocks[1]
    );
    assert!(
        blocks[1].last() <= blocks[0].last(),
        "transfers are not later"
    );
    assert_eq!(blocks[0].len(), 1, "all in one block");
}
