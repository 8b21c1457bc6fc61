//! The memory of a store does not grow with what is in it.

use alloy_primitives::{B256, keccak256};
use peak_alloc::PeakAlloc;
use penstock_rules::journal::Journal;
use penstock_store::{Durability, Store, StoreConfig};
use std::time::{Duration, Instant};

/// What is written, in MiB: five times the cache of the database.
const WRITTEN_MIB: u64 = 160;
/// What may be in memory of it, in MiB: the cache, as much again for what its pages cost beside their bytes, and buffers on
/// their way to the disk.
const GROWTH_MIB_MAX: usize = 80;
/// Longest wait for the database to write what it was given and to collect its garbage, which it does in the background.
const PATIENCE: Duration = Duration::from_secs(120);
/// Bytes of an item: a block with some transactions.
const ITEM_BYTES: usize = 8 << 10;
/// Items of one append.
const ITEMS: u64 = 64;

#[global_allocator]
static ALLOCATOR: PeakAlloc = PeakAlloc;

/// Memory in use, in MiB.
fn used_mib() -> usize {
    ALLOCATOR.current_usage() >> 20
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
    let before = used_mib();
    let mut written = 0;
    while written * (ITEM_BYTES as u64) < WRITTEN_MIB << 20 {
        let items: Vec<_> = (written..written + ITEMS).map(item).collect();
        let slices: Vec<_> = items.iter().map(Vec::as_slice).collect();
        journal.append(&slices).expect("writable");
        written += ITEMS;
        let start = Instant::now();
        while used_mib().saturating_sub(before) >= GROWTH_MIB_MAX {
            let took = used_mib() - before;
            assert!(
                start.elapsed() < PATIENCE,
                "{} MiB take {took} MiB of memory",
                (written * ITEM_BYTES as u64) >> 20
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
    // It is all there.
    for number in [0, written / 2, written - 1] {
        let found = journal.read(penstock_rules::ids::Seq(number + 1), 1);
        let found = found.expect("readable").pop().expect("an item");
        assert_eq!(found.1, item(number));
    }
}
