//! The store itself: commit and reads.

use crate::StoreError;
use crate::folder::Folder;
use crate::history::{self, StateAt, StateItem};
use crate::journal::StoreJournal;
use crate::keys::{self, Kind};
use crate::records::{BlockRecord, HeadRecord, TxLocation, decode, encode};
use crate::sync::{Sync, Ticket};
use crate::writes::Writes;
use alloy_primitives::{Address, B256, Bytes, U256};
use parking_lot::{Mutex, RwLock};
use penstock_rules::block::Block;
use penstock_rules::ids::{Height, Seq, TxHash};
use penstock_rules::state::{Account, Receipt, StateDiff};
use sled::{Db, Tree};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// How much a store keeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// State can be read as it was after each of this many blocks before the head. 1,024 covers what wallets and
    /// debuggers look back, about 20 minutes of one-second slots, at a few hundred bytes a changed key.
    pub history_blocks: u64,
    /// State can be read at every height: nothing is pruned.
    pub archive: bool,
    /// What a write waits for.
    pub durability: Durability,
}

impl Default for StoreConfig {
    fn default() -> Self {
        Self {
            history_blocks: 1_024,
            archive: false,
            durability: Durability::All,
        }
    }
}

/// What is on disk when a write returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// All of it: what is here is nowhere else.
    All,
    /// All but blocks, because a journal of this store has them already. They get there with the next item of a journal,
    /// and within a second without one; a process that is killed before that finds them in the journal again.
    Journals,
    /// Nothing: nobody opens the folder again, and it goes when the store is dropped.
    Nothing,
}

/// A verified block with all that it brings.
#[derive(Clone, Copy, Debug)]
pub struct NewBlock<'a> {
    /// Height.
    pub height: Height,
    /// Hash of the header.
    pub hash: B256,
    /// The block.
    pub block: &'a Block,
    /// One per transaction.
    pub receipts: &'a [Receipt],
    /// One per transaction.
    pub senders: &'a [Address],
    /// What it changes.
    pub diff: &'a StateDiff,
    /// Where it stands in the block log; 0 for genesis, which is not in it.
    pub log_seq: Seq,
}

/// A node's store. Clones are one store; the folder is free again when the last is dropped.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    config: StoreConfig,
    /// Held over every write: one at a time. What is written is brought to the disk after it, so that the next goes on.
    writer: Mutex<()>,
    sync: Sync,
    head: RwLock<Option<HeadRecord>>,
    /// Raised before what is below it is deleted, and checked after every read, so no reader takes a pruned version for
    /// one that never was.
    horizon: AtomicU64,
    chain: Tree,
    db: Db,
    /// Dropped last: the lock goes when the database is closed.
    _folder: Folder,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Store").field("head", &self.head()).finish()
    }
}

impl Store {
    /// Opens the store in `dir`, or makes one where `dir` is empty or absent.
    ///
    /// # Errors
    /// Where the folder is foreign, of another schema, in use or damaged; see [`StoreError`].
    pub fn open(dir: impl AsRef<Path>, config: StoreConfig) -> Result<Self, StoreError> {
        let folder = Folder::open(dir.as_ref())?;
        let db = folder.database(config.durability)?;
        let chain = db.open_tree("chain")?;
        let read = |kind: Kind| chain.get([kind as u8]);
        let head = match read(Kind::Head)? {
            Some(bytes) => Some(decode::<HeadRecord>(&[Kind::Head as u8], &bytes)?),
            None => None,
        };
        let horizon = match read(Kind::Horizon)? {
            Some(bytes) => decode::<Height>(&[Kind::Horizon as u8], &bytes)?,
            None => Height(0),
        };
        Ok(Self {
            inner: Arc::new(Inner {
                config,
                writer: Mutex::new(()),
                head: RwLock::new(head),
                horizon: AtomicU64::new(horizon.0),
                chain,
                sync: Sync::new(db.clone(), folder.main_file()?),
                db,
                _folder: folder,
            }),
        })
    }

    /// Runs a write alone, then waits until it is on disk. Writes that come meanwhile share the next wait.
    pub(crate) fn write<R>(
        &self,
        write: impl FnOnce() -> Result<R, StoreError>,
    ) -> Result<R, StoreError> {
        let (result, ticket) = self.put(write)?;
        if self.inner.config.durability != Durability::Nothing {
            self.inner.sync.wait(ticket)?;
        }
        Ok(result)
    }

    /// Runs a write alone. What it gives beside its result is what to wait for.
    fn put<R>(
        &self,
        write: impl FnOnce() -> Result<R, StoreError>,
    ) -> Result<(R, Ticket), StoreError> {
        let _alone = self.inner.writer.lock();
        let result = write()?;
        Ok((result, self.inner.sync.ticket()))
    }

    #[cfg(test)]
    pub(crate) fn chain(&self) -> &Tree {
        &self.inner.chain
    }

    fn get(&self, key: &[u8]) -> Result<Option<sled::IVec>, StoreError> {
        Ok(self.inner.chain.get(key)?)
    }

    /// Height and hash of the last committed block.
    #[must_use]
    pub fn head(&self) -> Option<(Height, B256)> {
        self.inner.head.read().map(|head| (head.height, head.hash))
    }

    /// How much it keeps.
    #[must_use]
    pub fn config(&self) -> StoreConfig {
        self.inner.config
    }

    /// Whether [`Store::commit`] waits for the disk.
    #[must_use]
    pub fn waits(&self) -> bool {
        self.inner.config.durability == Durability::All
    }

    /// The lowest height whose state can be read.
    #[must_use]
    pub fn horizon(&self) -> Height {
        Height(self.inner.horizon.load(Ordering::SeqCst))
    }

    /// Stores a block that follows the head, in one atomic batch, and returns once it is on disk, as far as
    /// [`StoreConfig::durability`] asks for that. In an empty store the first may have any height: genesis, or a snapshot
    /// whose diff is the whole state.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] where it does not follow; else the database failed, and the block is there whole or
    /// not at all.
    pub fn commit(&self, new: &NewBlock<'_>) -> Result<(), StoreError> {
        let inner = &*self.inner;
        let head = HeadRecord {
            height: new.height,
            hash: new.hash,
        };
        let ((), ticket) = self.put(|| {
            let mut horizon = self.horizon();
            match *inner.head.read() {
                Some(head) if head.height.next() != new.height => {
                    return Err(StoreError::OutOfOrder {
                        height: new.height,
                        head: head.height,
                    });
                }
                Some(_) if inner.config.archive => {}
                Some(_) => {
                    let oldest = new.height.0.saturating_sub(inner.config.history_blocks);
                    horizon = horizon.max(Height(oldest));
                }
                None => horizon = new.height,
            }
            let mut batch = Writes::default();
            let record = BlockRecord {
                height: new.height,
                hash: new.hash,
                block: new.block.clone(),
                senders: new.senders.into(),
                log_seq: new.log_seq,
            };
            batch.insert(keys::at(Kind::Block, new.height), encode(&record));
            let receipts = new.receipts.to_vec();
            batch.insert(keys::at(Kind::Receipts, new.height), encode(&receipts));
            batch.insert(keys::height_of(new.hash), encode(&new.height));
            batch.insert(keys::at(Kind::HashOf, new.height), encode(&new.hash));
            for (index, receipt) in (0..).zip(new.receipts) {
                let place = TxLocation {
                    height: new.height,
                    index,
                };
                batch.insert(keys::tx(receipt.tx_hash), encode(&place));
            }
            history::write_diff(
                &inner.chain,
                &mut batch,
                new.height,
                new.diff,
                inner.config.archive,
            )?;
            if !inner.config.archive {
                history::prune(&inner.chain, &mut batch, horizon)?;
            }
            batch.insert(&[Kind::Horizon as u8], encode(&horizon));
            batch.insert(&[Kind::Head as u8], encode(&head));
            inner.horizon.store(horizon.0, Ordering::SeqCst);
            batch.apply(&inner.chain, inner.config.durability)?;
            *inner.head.write() = Some(head);
            Ok(())
        })?;
        match inner.config.durability {
            Durability::All => inner.sync.wait(ticket),
            // Genesis is in no journal.
            Durability::Journals if new.log_seq == Seq(0) => inner.sync.wait(ticket),
            Durability::Journals | Durability::Nothing => Ok(()),
        }
    }

    /// Returns once all that was written is on disk, where the folder is ever opened again. Dropping the store does not do
    /// that: a process ends while threads still hold it.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn flush(&self) -> Result<(), StoreError> {
        match self.inner.config.durability {
            Durability::All | Durability::Journals => {
                self.inner.sync.wait(self.inner.sync.ticket())
            }
            Durability::Nothing => Ok(()),
        }
    }

    /// Keeps hashes of blocks before the first one that will be committed: a chain that begins with a snapshot knows
    /// what `BLOCKHASH` reaches, without the blocks. On disk when it returns.
    ///
    /// # Errors
    /// [`StoreError::OutOfOrder`] where the store has a block; else the database failed.
    pub fn put_ancestors(&self, ancestors: &[(Height, B256)]) -> Result<(), StoreError> {
        self.write(|| {
            if let (Some((head, _)), Some(&(height, _))) = (self.head(), ancestors.first()) {
                return Err(StoreError::OutOfOrder { height, head });
            }
            let mut batch = Writes::default();
            for (height, hash) in ancestors {
                batch.insert(keys::height_of(*hash), encode(height));
                batch.insert(keys::at(Kind::HashOf, *height), encode(hash));
            }
            batch.apply(&self.inner.chain, self.inner.config.durability)
        })
    }

    /// The block at this height.
    ///
    /// # Errors
    /// Where the database fails or the record is damaged.
    pub fn block(&self, height: Height) -> Result<Option<BlockRecord>, StoreError> {
        self.record(&keys::at(Kind::Block, height))
    }

    /// The block with this hash.
    ///
    /// # Errors
    /// As [`Store::block`].
    pub fn block_by_hash(&self, hash: B256) -> Result<Option<BlockRecord>, StoreError> {
        match self.height_of(hash)? {
            Some(height) => self.block(height),
            None => Ok(None),
        }
    }

    /// Height of the block with this hash.
    ///
    /// # Errors
    /// As [`Store::block`].
    pub fn height_of(&self, hash: B256) -> Result<Option<Height>, StoreError> {
        self.record(&keys::height_of(hash))
    }

    /// Hash of the block at this height.
    ///
    /// # Errors
    /// As [`Store::block`].
    pub fn hash_of(&self, height: Height) -> Result<Option<B256>, StoreError> {
        self.record(&keys::at(Kind::HashOf, height))
    }

    /// Receipts of the block at this height.
    ///
    /// # Errors
    /// As [`Store::block`].
    pub fn receipts(&self, height: Height) -> Result<Option<Vec<Receipt>>, StoreError> {
        self.record(&keys::at(Kind::Receipts, height))
    }

    /// Where a transaction is.
    ///
    /// # Errors
    /// As [`Store::block`].
    pub fn tx_location(&self, hash: TxHash) -> Result<Option<TxLocation>, StoreError> {
        self.record(&keys::tx(hash))
    }

    fn record<T: alloy_rlp::Decodable>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let found = self.get(key)?;
        found.map(|bytes| decode(key, &bytes)).transpose()
    }

    /// Whether the state at `height` can be read now.
    fn check(&self, height: Height) -> Result<(), StoreError> {
        let (head, _) = self.head().ok_or(StoreError::Empty)?;
        if height > head {
            return Err(StoreError::Future { height, head });
        }
        let oldest = self.horizon();
        if height < oldest {
            return Err(StoreError::Pruned { height, oldest });
        }
        Ok(())
    }

    /// The state after the block at this height.
    ///
    /// # Errors
    /// [`StoreError::Pruned`], [`StoreError::Future`] or [`StoreError::Empty`] where it is not here.
    pub fn at(&self, height: Height) -> Result<StateAt, StoreError> {
        self.check(height)?;
        Ok(StateAt {
            store: self.clone(),
            height,
        })
    }

    /// An account as it was after the block at this height.
    ///
    /// # Errors
    /// As [`Store::at`].
    pub fn account_at(
        &self,
        address: Address,
        height: Height,
    ) -> Result<Option<Account>, StoreError> {
        let found = history::account_at(&self.inner.chain, address, height)?;
        self.check(height)?;
        Ok(found)
    }

    /// A slot as it was after the block at this height.
    ///
    /// # Errors
    /// As [`Store::at`].
    pub fn slot_at(
        &self,
        address: Address,
        slot: U256,
        height: Height,
    ) -> Result<U256, StoreError> {
        let found = history::slot_at(&self.inner.chain, address, slot, height)?;
        self.check(height)?;
        Ok(found)
    }

    /// Code by hash.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn code(&self, hash: B256) -> Result<Option<Bytes>, StoreError> {
        let found = self.get(&keys::code(hash))?;
        Ok(found.map(|code| Bytes::copy_from_slice(&code)))
    }

    /// Gives every account, slot and code of the head state, accounts first: to rebuild it in memory. Nothing may be
    /// committed meanwhile.
    ///
    /// # Errors
    /// Where the database fails, and what `take` says.
    pub fn load_state<E: From<StoreError>>(
        &self,
        take: impl FnMut(StateItem) -> Result<(), E>,
    ) -> Result<(), E> {
        history::load(&self.inner.chain, take)
    }

    /// The journal with this name: made where there is none.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn journal(&self, name: &str) -> Result<StoreJournal, StoreError> {
        let tree = self.inner.db.open_tree(format!("journal.{name}"))?;
        StoreJournal::open(self.clone(), tree)
    }

    /// A value of the node's own (genesis, chain spec).
    ///
    /// # Errors
    /// Where the database fails.
    pub fn meta_get(&self, name: &str) -> Result<Option<Vec<u8>>, StoreError> {
        let found = self.get(&keys::key(Kind::Meta, &[name.as_bytes()]))?;
        Ok(found.map(|value| value.to_vec()))
    }

    /// Keeps a value of the node's own; on disk when it returns.
    ///
    /// # Errors
    /// Where the database fails.
    pub fn meta_put(&self, name: &str, value: &[u8]) -> Result<(), StoreError> {
        self.write(|| {
            let key = keys::key(Kind::Meta, &[name.as_bytes()]);
            self.inner.chain.insert(key, value)?;
            Ok(())
        })
    }
}
