//! The memory of a store does not grow with what is in it.

use alloy_primitives::{B256, keccak256};
use penstock_rules::journal::Journal;
use penstock_store::{Durability, Store, StoreConfig};

/// What is written, in MiB: five times the cache of the database.
const WRITTEN_MIB: u64 = 160;
/// What the process may take more afterwards, in MiB: the cache, as much again for what its pages cost beside their bytes,
/// and buffers on their way to the disk.
const GROWTH_MIB_MAX: u64 = 80;
/// Bytes of an item: a block with some transactions.
const ITEM_BYTES: usize = 8 << 10;
/// Items of one append.
const ITEMS: u64 = 64;

/// Memory of this process that is there now, in MiB.
fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux tells it");
    let line = status.lines().find(|line| line.starts_with("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a number of KiB") >> 10
}

/// Bytes that no page has twice.
fn item(number: u64) -> Vec<u8> {
    let seed = keccak256(number.to_be_bytes());
    let words = (0..ITEM_BYTES / B256::len_bytes()).map(|at| {
        let mut word = seed;
        word[..8].copy_from_slice(&at.to_be_bytes());
        word
    });
    words.flat_map(|word| word.0).collect()
}

#[test]
fn what_is_written_leaves_the_memory_again() {
    let dir = tempfile::tempdir().expect("a folder");
    let config = StoreConfig {
        durability: Durability::Nothing,
        ..StoreConfig::default()
    };
    let store = Store::open(dir.path(), config).expect("a new store");
    let journal = store.journal("log").expect("a journal");
    let before = resident_mib();
    let (mut written, mut most) = (0, 0);
    while written * (ITEM_BYTES as u64) < WRITTEN_MIB << 20 {
        let items: Vec<_> = (written..written + ITEMS).map(item).collect();
        let slices: Vec<_> = items.iter().map(Vec::as_slice).collect();
        journal.append(&slices).expect("writable");
        written += ITEMS;
        most = most.max(resident_mib().saturating_sub(before));
    }
    assert!(
        most < GROWTH_MIB_MAX,
        "{WRITTEN_MIB} MiB took {most} MiB of memory"
    );
    // It is all there.
    for number in [0, written / 2, written - 1] {
        let found = journal.read(penstock_rules::ids::Seq(number + 1), 1);
        let found = found.expect("readable").pop().expect("an item");
        assert_eq!(found.1, item(number));
    }
}
