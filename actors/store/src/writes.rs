//! Changes that are made together.

use crate::StoreError;
use crate::store::Durability;
use sled::{Batch, IVec, Tree};

/// Changes of a tree, in order.
#[derive(Default)]
pub(crate) struct Writes(Vec<(IVec, Option<IVec>)>);

impl Writes {
    pub(crate) fn insert(&mut self, key: impl Into<IVec>, value: impl Into<IVec>) {
        self.0.push((key.into(), Some(value.into())));
    }

    pub(crate) fn remove(&mut self, key: impl Into<IVec>) {
        self.0.push((key.into(), None));
    }

    /// Makes them all or none, where the database is ever opened again.
    ///
    /// Where it is not they are made one after the other. For each batch sled writes two buffers out, and for each of these
    /// it wakes all of its seven threads: a quarter of a small transaction's processor time.
    pub(crate) fn apply(self, tree: &Tree, durability: Durability) -> Result<(), StoreError> {
        if durability == Durability::Nothing || self.0.len() == 1 {
            for (key, value) in self.0 {
                match value {
                    Some(value) => tree.insert(key, value)?,
                    None => tree.remove(key)?,
                };
            }
            return Ok(());
        }
        let mut batch = Batch::default();
        for (key, value) in self.0 {
            match value {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        Ok(tree.apply_batch(batch)?)
    }
}
