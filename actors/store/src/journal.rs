//! Journals: ordered lists of byte strings, one flush per append.

use crate::StoreError;
use crate::store::{Durability, Store};
use crate::writes::Writes;
use penstock_rules::ids::Seq;
use penstock_rules::journal::Journal;
use sled::Tree;

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
    /// Opens it. A process that was killed between an item and its position left the position behind.
    pub(crate) fn open(store: Store, tree: Tree) -> Result<Self, StoreError> {
        let given = tree.get(LAST)?.as_deref().map(position).transpose()?;
        let last = match tree.scan_prefix([ITEM]).next_back() {
            Some(found) => position(&found?.0[1..])?,
            None => Seq(0),
        };
        if given.unwrap_or(Seq(0)) < last {
            tree.insert(LAST, &last.0.to_be_bytes())?;
        }
        Ok(Self { tree, store })
    }

    /// Appends one item: first itself, then its position. That needs no batch, which costs (see [`Writes::apply`]); of the
    /// two, an item that nobody was told of may be there alone.
    fn append_one(&self, item: &[u8]) -> Result<Seq, StoreError> {
        let seq = Seq(self.last()?.0 + 1);
        self.tree.insert(key(seq), item)?;
        self.tree.insert(LAST, &seq.0.to_be_bytes())?;
        Ok(seq)
    }

    fn append_all(&self, items: &[&[u8]]) -> Result<Seq, StoreError> {
        let mut last = self.last()?;
        let mut writes = Writes::default();
        for item in items {
            last = Seq(last.0 + 1);
            writes.insert(&key(last), *item);
        }
        writes.insert(LAST, &last.0.to_be_bytes());
        writes.apply(&self.tree, self.store.config().durability)?;
        Ok(last)
    }
}

impl Journal for StoreJournal {
    type Error = StoreError;

    fn waits(&self) -> bool {
        self.store.config().durability != Durability::Nothing
    }

    fn append(&self, items: &[&[u8]]) -> Result<Seq, StoreError> {
        self.store.write(|| match items {
            [item] => self.append_one(item),
            items => self.append_all(items),
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
        for seq in items {
            self.tree.remove(key(*seq))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::StoreConfig;

    /// A process that is killed between an item and its position must not give that position again.
    #[test]
    fn an_item_without_its_position_counts_and_keeps_it_when_it_is_removed() {
        let dir = tempfile::tempdir().expect("a folder");
        let store = Store::open(dir.path(), StoreConfig::default()).expect("a new store");
        let journal = store.journal("queue").expect("a journal");
        journal.append(&[b"one"]).expect("writable");
        let killed = key(Seq(2));
        journal.tree.insert(killed, b"two").expect("writable");
        let journal = store.journal("queue").expect("a journal");
        assert_eq!(journal.last().expect("readable"), Seq(2));
        journal.remove(&[Seq(2)]).expect("writable");
        let journal = store.journal("queue").expect("a journal");
        assert_eq!(journal.append(&[b"three"]).expect("writable"), Seq(3));
        let all = journal.read(Seq(1), 9).expect("readable");
        assert_eq!(all, [(Seq(1), b"one".into()), (Seq(3), b"three".into())]);
    }
}
