//! `kill -9` while blocks and journal items are written.
//!
//! The test starts itself as a child that commits without end and says what was acknowledged, kills it at a random
//! moment, opens the folder, and finds everything that was acknowledged, and no half block. Again, on the same folder.

use alloy_primitives::{Address, Bytes, U256, keccak256};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq};
use penstock_rules::journal::Journal;
use penstock_rules::state::{Account, AccountChange, SlotChange, StateDiff};
use penstock_store::{NewBlock, Store, StoreConfig};
use std::hash::{BuildHasher, RandomState};
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

const CHILD: &str = "PENSTOCK_STORE_CRASH_DIR";
const NAME: &str = "what_was_acknowledged_survives_a_kill_at_any_moment";

/// Kills in one run. Each takes about a quarter of a second.
const ROUNDS: usize = 8;

const SLOTS: u64 = 20;

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

fn config() -> StoreConfig {
    StoreConfig {
        history_blocks: 8,
        archive: false,
    }
}

/// Writes until it is killed.
fn child(dir: &Path) -> ! {
    let store = Store::open(dir, config()).expect("our store");
    let journal = store.journal("accepted").expect("a journal");
    let mut out = std::io::stdout();
    let mut say = |line: String| {
        writeln!(out, "{line}").expect("the parent reads");
        out.flush().expect("the parent reads");
    };
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
        say(format!("block {next}"));
        next += 1;
        let seq = journal.last().expect("readable").0;
        let items = [item(seq + 1), item(seq + 2)];
        let seq = journal.append(&[&items[0], &items[1]]).expect("writable");
        say(format!("item {seq}"));
    }
}

/// Looks at the folder after a kill.
fn check(dir: &Path, block: Option<u64>, last: u64) {
    let store = Store::open(dir, config()).expect("a killed process leaves a good store");
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
    let journal = store.journal("accepted").expect("the journal");
    let items = journal.read(Seq(1), usize::MAX).expect("readable");
    let found = journal.last().expect("readable").0;
    assert!(found >= last, "item {last} is lost, the last is {found}");
    assert_eq!(items.len() as u64, found);
    for (seq, bytes) in items {
        assert_eq!(bytes, item(seq.0));
    }
}

#[test]
fn what_was_acknowledged_survives_a_kill_at_any_moment() {
    if let Some(dir) = std::env::var_os(CHILD) {
        child(Path::new(&dir));
    }
    let dir = tempfile::tempdir().expect("a folder");
    let (mut block, mut last) = (None, 0);
    for round in 0..ROUNDS {
        let mut child = Command::new(std::env::current_exe().expect("this test"))
            .args(["--exact", NAME, "--nocapture"])
            .env(CHILD, dir.path())
            .stdout(Stdio::piped())
            .spawn()
            .expect("this test starts");
        let lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let mut lines = lines.map(|line| line.expect("text"));
        let mut note = |line: String| match line.split_once(' ') {
            Some(("block", n)) => block = n.parse().ok(),
            Some(("item", n)) => last = n.parse().unwrap_or(last),
            _ => {}
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
        check(dir.path(), block, last);
    }
    assert!(block > Some(ROUNDS as u64), "too few blocks to mean much");
}
