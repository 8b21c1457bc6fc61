//! Whose folder it is, and journals in it.

use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;
use penstock_store::{Store, StoreConfig, StoreError};
use std::fs;
use std::path::Path;

fn open(dir: &Path) -> Result<Store, StoreError> {
    Store::open(dir, StoreConfig::default())
}

#[test]
fn a_foreign_folder_is_refused_and_left_as_it_was() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("thesis.tex"), "chapter 1").expect("writable");
    assert!(matches!(open(dir.path()), Err(StoreError::Foreign(_))));
    let names: Vec<_> = fs::read_dir(dir.path()).expect("readable").collect();
    assert_eq!(names.len(), 1);
    fs::write(dir.path().join("PENSTOCK"), "something else").expect("writable");
    assert!(matches!(open(dir.path()), Err(StoreError::Foreign(_))));
}

#[test]
fn a_folder_of_another_schema_is_refused_by_its_version() {
    let dir = tempfile::tempdir().expect("a folder");
    drop(open(dir.path()).expect("a new store"));
    fs::write(dir.path().join("PENSTOCK"), "penstock store schema 99\n").expect("writable");
    assert!(matches!(
        open(dir.path()),
        Err(StoreError::Schema { found, .. }) if found == "99"
    ));
}

#[test]
fn a_folder_in_use_is_refused_until_it_is_free() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("a new store");
    let journal = store.journal("log").expect("a journal");
    assert!(matches!(open(dir.path()), Err(StoreError::InUse(_))));
    drop(store);
    assert!(matches!(open(dir.path()), Err(StoreError::InUse(_))));
    drop(journal);
    open(dir.path()).expect("it is free");
}

#[test]
fn what_a_killed_process_left_does_not_hinder_opening() {
    let dir = tempfile::tempdir().expect("a folder");
    fs::write(dir.path().join("PENSTOCK.new"), "penst").expect("writable");
    let store = open(dir.path()).expect("as good as empty");
    store.meta_put("name", b"value").expect("writable");
    drop(store);
    let torn = dir.path().join("sled/snap.0000000000000000.generating");
    fs::write(&torn, "torn").expect("writable");
    let store = open(dir.path()).expect("torn snapshots go");
    assert!(!torn.exists());
    assert_eq!(
        store.meta_get("name").expect("readable"),
        Some(b"value".to_vec())
    );
}

#[test]
fn a_journal_keeps_order_gaps_and_its_last_position() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("a new store");
    let journal = store.journal("accepted").expect("a journal");
    assert_eq!(journal.last().expect("readable"), Seq(0));
    assert_eq!(
        journal.append(&[b"a", b"b", b""]).expect("writable"),
        Seq(3)
    );
    assert_eq!(journal.append(&[]).expect("writable"), Seq(3));
    assert_eq!(journal.append(&[b"d"]).expect("writable"), Seq(4));
    journal
        .remove(&[Seq(1), Seq(4), Seq(99)])
        .expect("writable");
    let other = store.journal("results").expect("a journal");
    assert_eq!(other.last().expect("readable"), Seq(0));
    drop((journal, other, store));

    let store = open(dir.path()).expect("our store");
    let journal = store.journal("accepted").expect("the journal");
    assert_eq!(journal.last().expect("readable"), Seq(4));
    let read = journal.read(Seq(0), 10).expect("readable");
    assert_eq!(read, [(Seq(2), b"b".to_vec()), (Seq(3), vec![])]);
    assert_eq!(journal.read(Seq(3), 10).expect("readable").len(), 1);
    assert_eq!(journal.read(Seq(0), 1).expect("readable").len(), 1);
    assert_eq!(journal.append(&[b"e"]).expect("writable"), Seq(5));
}

/// A model's weights are one append of many large items.
#[test]
fn an_append_of_many_megabytes_comes_back() {
    let dir = tempfile::tempdir().expect("a folder");
    let store = open(dir.path()).expect("a new store");
    let journal = store.journal("blobs").expect("a journal");
    let items: Vec<Vec<u8>> = (0..256u32)
        .map(|i| i.to_le_bytes().repeat(16 << 10))
        .collect();
    let slices: Vec<&[u8]> = items.iter().map(|item| &item[..]).collect();
    journal.append(&slices).expect("writable");
    drop((journal, store));
    let store = open(dir.path()).expect("our store");
    let journal = store.journal("blobs").expect("the journal");
    let read = journal.read(Seq(1), usize::MAX).expect("readable");
    assert!(read.into_iter().map(|(_, item)| item).eq(items));
}
