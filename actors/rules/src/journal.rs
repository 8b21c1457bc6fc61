//! The one thing that the memory bus's durable parts need from a store.

use crate::ids::Seq;

/// A durable, ordered list of byte strings, with positions from 1. Synchronous: shells call it on a blocking thread where
/// it may wait.
///
/// `wire` builds its in-process log, queue and blob store on it; `store` implements it on sled.
pub trait Journal: Send + Sync {
    /// Why an operation failed.
    type Error: std::error::Error + Send + Sync + 'static;

    /// Whether an append waits for a disk. One that does not takes as long as to copy it.
    fn waits(&self) -> bool;

    /// Appends all items, in order, in one atomic and flushed batch; returns the position of the last.
    ///
    /// # Errors
    /// Nothing was appended, or it is unknown whether.
    fn append(&self, items: &[&[u8]]) -> Result<Seq, Self::Error>;

    /// Items from `from` on, at most `limit`.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>, Self::Error>;

    /// The last position that was ever given; 0 where there is none.
    ///
    /// # Errors
    /// Where the store can't be read.
    fn last(&self) -> Result<Seq, Self::Error>;

    /// Removes items. Unknown positions are ignored.
    ///
    /// # Errors
    /// Where the store can't be written.
    fn remove(&self, items: &[Seq]) -> Result<(), Self::Error>;
}
