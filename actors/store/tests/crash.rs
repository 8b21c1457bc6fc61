//! `kill -9` while blocks and journal items are written, items by two threads, so that syncs overlap.
//!
//! The test starts itself as a child that commits without end and says what was acknowledged, kills it at a random
//! moment, opens the folder, and finds everything that was acknowledged, and no half block. Again, on the same folder.
//! Where blocks ride on a journal, those are found that were committed before the last item that was acknowledged.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use penstock_rules::journal::Journal;
use penstock_rules::state::{Account, AccountChange, SlotChange, StateDiff};
use penstock_store::{Durability, NewBlock, Store, StoreConfig};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "PENSTOCK_STORE_CRASH_DIR";

/// Kills in one run. Each takes about a quarter of a second.
const ROUNDS: usize = 8;

const SLOTS: u64 = 20;

/// The first follows each block, the second is another thread's.
const JOURNALS: [&str; 2] = ["log", "accepted"];

fn address() -> Address {
    Address::repeat_byte(1)
}

/// Every slot, and the account, say the height: a half block would show.
fn diff(height: u64) -> StateDiff {
    StateDiff {
        accounts: vec![AccountChange {
            address: address(),
            now: vec![Account {
                nonce: height,
                ..Account::default()
            }],
            wiped: false,
        }],
        slots: (0..SLOTS)
            .map(|slot| SlotChange {
                address: address(),
                slot: U256::from(slot),
                now: U256::from(height),
            })
            .collect(),
        codes: vec![],
    }
}

fn item(seq: u64) -> Vec<u8> {
    seq.to_be_bytes().repeat(1 + (seq as usize * 37) % 200)
}

const fn config(durability: Durability) -> StoreConfig {
    StoreConfig {
        history_blocks: 8,
        archive: false,
        durability,
    }
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{line}").expect("the parent reads");
    out.flush().expect("the parent reads");
}

/// Adds items in pairs until it is killed.
fn append(store: &Store, name: &str) -> ! {
    let journal = store.journal(name).expect("a journal");
    loop {
        let seq = journal.last().expect("readable").0;
        let items = [item(seq + 1), item(seq + 2)];
        let seq = journal.append(&[&items[0], &items[1]]).expect("writable");
        say(&format!("{name} {seq}"));
    }
}

/// Writes until it is killed.
fn child(dir: &Path, durability: Durability) -> ! {
    let store = Store::open(dir, config(durability)).expect("our store");
    let other = store.clone();
    std::thread::spawn(move || append(&other, JOURNALS[1]));
    let journal = store.journal(JOURNALS[0]).expect("a journal");
    let mut next = store.head().map_or(0, |(height, _)| height.0 + 1);
    loop {
        let block = Block {
            header: Bytes::from(item(next)),
            transactions: vec![],
            witness: vec![],
            signature: Bytes::new(),
        };
        let committed = store.commit(&NewBlock {
            height: Height(next),
            hash: keccak256(next.to_be_bytes()),
            block: &block,
            receipts: &[],
            senders: &[],
            diff: &diff(next),
            log_seq: Seq(next),
        });
        committed.expect("follows");
        if durability == Durability::All {
            say(&format!("block {next}"));
        }
        let seq = journal.last().expect("readable").0;
        let items = [item(seq + 1), item(seq + 2)];
        let seq = journal.append(&[&items[0], &items[1]]).expect("writable");
        say(&format!("{} {seq}", JOURNALS[0]));
        say(&format!("block {next}"));
        next += 1;
    }
}

/// Looks at the folder after a kill.
fn check(dir: &Path, durability: Durability, block: Option<u64>, last: [u64; 2]) {
    let store = Store::open(dir, config(durability)).expect("a killed process leaves a good store");
    let (head, hash) = store.head().expect("blocks were acknowledged");
    assert!(
        Some(head.0) >= block,
        "block {block:?} is lost, head {head}"
    );
    assert_eq!(hash, keccak256(head.0.to_be_bytes()));
    for height in store.horizon().0..=head.0 {
        let record = store.block(Height(height)).expect("readable");
        let record = record.expect("no gap");
        assert_eq!(record.block.header[..], item(height)[..]);
        let account = store.account_at(address(), Height(height)).expect("kept");
        assert_eq!(account.map(|a| a.nonce), Some(height));
        for slot in 0..SLOTS {
            let value = store.slot_at(address(), U256::from(slot), Height(height));
            assert_eq!(value.expect("kept"), U256::from(height), "a half block");
        }
    }
    for (name, last) in JOURNALS.into_iter().zip(last) {
        let journal = store.journal(name).expect("the journal");
        let items = journal.read(Seq(1), usize::MAX).expect("readable");
        let found = journal.last().expect("readable").0;
        assert!(
            found >= last,
            "item {last} of {name} is lost, the last is {found}"
        );
        assert_eq!(items.len() as u64, found);
        for (seq, bytes) in items {
            assert_eq!(bytes, item(seq.0));
        }
    }
}

/// Kills a child of the test `name` again and again.
fn kills(name: &str, durability: Durability) {
    if let Some(dir) = std::env::var_os(CHILD) {
        child(Path::new(&dir), durability);
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (mut block, mut last) = (None, [0; 2]);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let mut note = |line: String| {
            let Some((what, number)) = line.split_once(' ') else {
                return;
            };
            let Ok(number) = number.parse() else {
                return;
            };
            match JOURNALS.iter().position(|name| *name == what) {
                Some(journal) => last[journal] = number,
                None if what == "block" => block = Some(number),
                None => {}
            }
        };
        // From the first acknowledgement on, any moment: the delay is the fault that is injected.
        for line in lines.by_ref() {
            let first = line.starts_with("block");
            note(line);
            if first {
                break;
            }
        }
        let millis = RandomState::new().hash_one(round) % 200;
        std::thread::sleep(Duration::from_millis(millis));
        child.kill().expect("it runs until it is killed");
        lines.for_each(note);
        child.wait().expect("it is ours");
        check(dir.path(), durability, block, last);
    }
    assert!(block > Some(ROUNDS as u64), "too few blocks to mean much");
    assert!(
        last.iter().all(|last| *last > ROUNDS as u64),
        "too few items to mean much"
    );
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    kills(
        "what_was_acknowledged_survives_a_kill_at_any_moment",
        Durability::All,
    );
}

#[test]
fn blocks_that_ride_on_a_journal_are_there_with_its_items_after_a_kill() {
    kills(
        "blocks_that_ride_on_a_journal_are_there_with_its_items_after_a_kill",
        Durability::Journals,
    );
}
