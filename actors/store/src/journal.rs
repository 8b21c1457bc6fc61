//! Journals: ordered lists of byte strings, one flush per append.

use crate::StoreError;
use crate::store::{Durability, Store};
use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;
use sled::{Batch, Tree};

/// Key of the last position that was given: it must outlive the item.
const LAST: &[u8] = &[0];

/// First byte of an item's key, before its big-endian position.
const ITEM: u8 = 1;

/// A journal of the store. Clones, and journals of the same name, are one journal.
#[derive(Clone, Debug)]
pub struct StoreJournal {
    /// Dropped before the store, whose folder is unlocked last.
    tree: Tree,
    store: Store,
}

fn key(seq: Seq) -> [u8; 9] {
    let mut key = [ITEM; 9];
    key[1..].copy_from_slice(&seq.0.to_be_bytes());
    key
}

fn position(bytes: &[u8]) -> Result<Seq, StoreError> {
    let bytes = bytes.try_into().map_err(|_| StoreError::Damaged {
        what: "journal position".into(),
        why: format!("it has 8 bytes, not {}", bytes.len()),
    })?;
    Ok(Seq(u64::from_be_bytes(bytes)))
}

impl StoreJournal {
    pub(crate) fn new(store: Store, tree: Tree) -> Self {
        Self { tree, store }
    }
}

impl Journal for StoreJournal {
    type Error = StoreError;

    fn waits(&self) -> bool {
        self.store.config().durability != Durability::Nothing
    }

    fn append(&self, items: &[&[u8]]) -> Result<Seq, StoreError> {
        self.store.write(|| {
            let mut last = self.last()?;
            let mut batch = Batch::default();
            for item in items {
                last = Seq(last.0 + 1);
                batch.insert(&key(last), *item);
            }
            batch.insert(LAST, &last.0.to_be_bytes());
            self.tree.apply_batch(batch)?;
            Ok(last)
        })
    }

    fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>, StoreError> {
        let range = key(from)..=key(Seq(u64::MAX));
        let found = self.tree.range(range).take(limit);
        found
            .map(|found| {
                let (key, item) = found?;
                Ok((position(&key[1..])?, item.to_vec()))
            })
            .collect()
    }

    fn last(&self) -> Result<Seq, StoreError> {
        match self.tree.get(LAST)? {
            Some(bytes) => position(&bytes),
            None => Ok(Seq(0)),
        }
    }

    /// Not flushed at once: an item that a killed process leaves behind is removed again by its reader.
    fn remove(&self, items: &[Seq]) -> Result<(), StoreError> {
        let mut batch = Batch::default();
        for seq in items {
            batch.remove(&key(*seq));
        }
        Ok(self.tree.apply_batch(batch)?)
    }
}
