//! State as it was: reads by height, and what is deleted when heights leave the window.
//!
//! ```text
//!   account A   versions at  0 ........ 7 ............ 12          read at 9 gives the version of 7
//!   horizon                        5 ->
//!   superseded  under 7: "version 0 of A", under 12: "version 7 of A"; carried out when the horizon passes 7, 12
//! ```
//!
//! An account that is destroyed leaves a wipe: slots older than it read as zero.

use crate::keys::{self, Kind};
use crate::records::{SupersededRecord, decode, decode_slot};
use crate::writes::Writes;
use crate::{Store, StoreError};
use alloy_primitives::{Address, B256, Bytes, U256};
use penstock_rules::ids::Height;
use penstock_rules::state::{Account, EMPTY_CODE_HASH, StateDiff, StateRead};
use sled::Tree;

/// Superseded records that one commit carries out at most, so that a shorter window than before does not stall one
/// block for minutes. A block changes far fewer keys, so a backlog shrinks.
const PRUNE_RECORDS_MAX: usize = 20_000;

/// The state after one block. Cheap; reads fail once the block's state is pruned.
#[derive(Clone, Debug)]
pub struct StateAt {
    pub(crate) store: Store,
    pub(crate) height: Height,
}

/// A piece of the head state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateItem {
    /// An account.
    Account(Address, Account),
    /// A slot that is not zero.
    Slot(Address, U256, U256),
    /// Code, by its hash.
    Code(B256, Bytes),
}

/// The newest version of `prefix` not above `height`.
pub(crate) fn newest(
    tree: &Tree,
    prefix: &[u8],
    height: Height,
) -> Result<Option<(Height, sled::IVec)>, StoreError> {
    let range = keys::version(prefix, Height(0))..=keys::version(prefix, height);
    let Some(found) = tree.range(range).next_back() else {
        return Ok(None);
    };
    let (key, value) = found?;
    Ok(keys::split_version(&key).map(|(_, height)| (height, value)))
}

pub(crate) fn account_at(
    tree: &Tree,
    address: Address,
    height: Height,
) -> Result<Option<Account>, StoreError> {
    let prefix = keys::account(address);
    match newest(tree, &prefix, height)? {
        Some((_, bytes)) if !bytes.is_empty() => decode(&prefix, &bytes).map(Some),
        _ => Ok(None),
    }
}

pub(crate) fn slot_at(
    tree: &Tree,
    address: Address,
    slot: U256,
    height: Height,
) -> Result<U256, StoreError> {
    let prefix = keys::slot(address, slot);
    let Some((written, bytes)) = newest(tree, &prefix, height)? else {
        return Ok(U256::ZERO);
    };
    let wiped = newest(tree, &keys::wipe(address), height)?;
    if bytes.is_empty() || wiped.is_some_and(|(wiped, _)| wiped > written) {
        return Ok(U256::ZERO);
    }
    decode_slot(&prefix, &bytes)
}

/// Adds a block's changes to `batch`, with notes on what they supersede where history is not kept for ever.
pub(crate) fn write_diff(
    tree: &Tree,
    batch: &mut Writes,
    height: Height,
    diff: &StateDiff,
    archive: bool,
) -> Result<(), StoreError> {
    let supersede = |batch: &mut Writes, prefix: &[u8], gone: bool| {
        if archive {
            return Ok::<_, StoreError>(());
        }
        let before = match height.0.checked_sub(1) {
            Some(parent) => newest(tree, prefix, Height(parent))?,
            None => None,
        };
        if before.is_none() && !gone {
            return Ok(());
        }
        let note = SupersededRecord {
            before: before.into_iter().map(|(height, _)| height).collect(),
            gone,
        };
        let key = keys::key(Kind::Superseded, &[&height.0.to_be_bytes(), prefix]);
        batch.insert(key, alloy_rlp::encode(&note));
        Ok(())
    };
    for change in &diff.accounts {
        let prefix = keys::account(change.address);
        let value = change
            .now
            .first()
            .map(alloy_rlp::encode)
            .unwrap_or_default();
        supersede(batch, &prefix, value.is_empty())?;
        batch.insert(keys::version(&prefix, height), value);
        if change.wiped {
            let prefix = keys::wipe(change.address);
            supersede(batch, &prefix, true)?;
            batch.insert(keys::version(&prefix, height), &[]);
        }
    }
    for change in &diff.slots {
        let prefix = keys::slot(change.address, change.slot);
        let value = crate::records::encode_slot(change.now);
        supersede(batch, &prefix, value.is_empty())?;
        batch.insert(keys::version(&prefix, height), value);
    }
    for code in &diff.codes {
        batch.insert(keys::code(code.hash), &code.code[..]);
    }
    Ok(())
}

/// Adds to `batch` the deletion of versions that nobody can read once the horizon is at `horizon`.
pub(crate) fn prune(tree: &Tree, batch: &mut Writes, horizon: Height) -> Result<(), StoreError> {
    let due = keys::at(Kind::Superseded, Height(0))..keys::at(Kind::Superseded, horizon.next());
    for found in tree.range(due).take(PRUNE_RECORDS_MAX) {
        let (key, value) = found?;
        let note: SupersededRecord = decode(&key, &value)?;
        let rest = &key[1..];
        let Some((height, prefix)) = rest.split_first_chunk::<{ keys::HEIGHT_BYTES }>() else {
            continue;
        };
        let height = Height(u64::from_be_bytes(*height));
        if prefix.first() == Some(&(Kind::Wipe as u8)) {
            let slots = keys::slots(Address::from_slice(&prefix[1..]));
            for found in tree.scan_prefix(slots).keys() {
                let slot = found?;
                if keys::split_version(&slot).is_some_and(|(_, written)| written < height) {
                    batch.remove(slot);
                }
            }
        }
        for before in note.before {
            batch.remove(keys::version(prefix, before));
        }
        if note.gone {
            // All older versions go with it, so that none of them shows again: those of a time when the store was an
            // archive have no note of their own.
            let older = keys::version(prefix, Height(0))..=keys::version(prefix, height);
            for found in tree.range(older).keys() {
                batch.remove(found?);
            }
        }
        batch.remove(key);
    }
    Ok(())
}

/// Gives the last version of every key of a kind: its prefix, its height, its value.
fn latest<E: From<StoreError>>(
    tree: &Tree,
    kind: Kind,
    mut take: impl FnMut(&[u8], Height, &[u8]) -> Result<(), E>,
) -> Result<(), E> {
    // Versions of one key stand together, oldest first: the last of a run is the one that counts.
    let mut run: Option<(sled::IVec, sled::IVec)> = None;
    for found in tree.scan_prefix([kind as u8]) {
        let (key, value) = found.map_err(StoreError::from)?;
        if let Some((before, value_before)) = run.replace((key.clone(), value))
            && let Some((prefix, height)) = keys::split_version(&before)
            && keys::split_version(&key).is_none_or(|(other, _)| other != prefix)
        {
            take(prefix, height, &value_before)?;
        }
    }
    if let Some((key, value)) = run
        && let Some((prefix, height)) = keys::split_version(&key)
    {
        take(prefix, height, &value)?;
    }
    Ok(())
}

/// Gives every account, slot and code of the head state.
pub(crate) fn load<E: From<StoreError>>(
    tree: &Tree,
    mut take: impl FnMut(StateItem) -> Result<(), E>,
) -> Result<(), E> {
    latest(tree, Kind::Account, |prefix, _, value| {
        if value.is_empty() {
            return Ok(());
        }
        let address = Address::from_slice(&prefix[1..]);
        take(StateItem::Account(address, decode(prefix, value)?))
    })?;
    let mut wiped: Option<(Address, Option<Height>)> = None;
    latest(tree, Kind::Slot, |prefix, written, value| {
        let (address, slot) = prefix[1..].split_at(Address::len_bytes());
        let address = Address::from_slice(address);
        // Slots of an address stand together, so its wipe is looked up once.
        let wipe = match wiped {
            Some((of, wipe)) if of == address => wipe,
            _ => {
                let wipe = newest(tree, &keys::wipe(address), Height(u64::MAX))?;
                let wipe = wipe.map(|(height, _)| height);
                wiped = Some((address, wipe));
                wipe
            }
        };
        if value.is_empty() || wipe.is_some_and(|wipe| wipe > written) {
            return Ok(());
        }
        let value = decode_slot(prefix, value)?;
        take(StateItem::Slot(address, U256::from_be_slice(slot), value))
    })?;
    for found in tree.scan_prefix([Kind::Code as u8]) {
        let (key, code) = found.map_err(StoreError::from)?;
        let hash = B256::from_slice(&key[1..]);
        take(StateItem::Code(hash, Bytes::copy_from_slice(&code)))?;
    }
    Ok(())
}

impl StateAt {
    /// The block after which the state is.
    #[must_use]
    pub const fn height(&self) -> Height {
        self.height
    }
}

impl StateRead for StateAt {
    type Error = StoreError;

    fn account(&self, address: Address) -> Result<Option<Account>, StoreError> {
        self.store.account_at(address, self.height)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, StoreError> {
        self.store.slot_at(address, slot, self.height)
    }

    fn code(&self, hash: B256) -> Result<Bytes, StoreError> {
        if hash == EMPTY_CODE_HASH {
            return Ok(Bytes::new());
        }
        let code = self.store.code(hash)?;
        code.ok_or(StoreError::UnknownCode(hash))
    }

    fn block_hash(&self, height: Height) -> Result<B256, StoreError> {
        if height > self.height {
            return Ok(B256::ZERO);
        }
        Ok(self.store.hash_of(height)?.unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{NewBlock, StoreConfig};
    use penstock_rules::block::Block;
    use penstock_rules::ids::Seq;
    use penstock_rules::state::{AccountChange, SlotChange};

    const WINDOW: u64 = 4;

    fn commit(store: &Store, height: u64, diff: &StateDiff) {
        let block = Block {
            header: Bytes::new(),
            transactions: vec![],
            witness: vec![],
            signature: Bytes::new(),
        };
        let committed = store.commit(&NewBlock {
            height: Height(height),
            hash: B256::with_last_byte(height as u8),
            block: &block,
            receipts: &[],
            senders: &[],
            diff,
            log_seq: Seq(height),
        });
        committed.expect("follows");
    }

    fn count(store: &Store, kind: Kind) -> usize {
        store.chain().scan_prefix([kind as u8]).count()
    }

    /// What the window has passed is really deleted: versions, wipes, slots of destroyed accounts, and the notes.
    #[test]
    fn nothing_is_kept_that_no_read_needs() {
        let dir = tempfile::tempdir().expect("a folder");
        let config = StoreConfig {
            history_blocks: WINDOW,
            archive: false,
            ..StoreConfig::default()
        };
        let store = Store::open(dir.path(), config).expect("a new store");
        let address = Address::repeat_byte(1);
        for height in 0..20 {
            let now = Account {
                nonce: height,
                ..Account::default()
            };
            let account = AccountChange {
                address,
                now: vec![now],
                wiped: false,
            };
            let slot = |slot: u64| SlotChange {
                address,
                slot: U256::from(slot),
                now: U256::from(height + 1),
            };
            let diff = StateDiff {
                accounts: vec![account],
                slots: vec![slot(0), slot(100 + height)],
                codes: vec![],
            };
            commit(&store, height, &diff);
        }
        // The window's own heights, and the one that its oldest reads see.
        let versions = WINDOW as usize + 1;
        assert_eq!(count(&store, Kind::Account), versions);
        assert_eq!(count(&store, Kind::Slot), versions + 20);
        assert_eq!(count(&store, Kind::Superseded), 2 * WINDOW as usize);

        let destroy = StateDiff {
            accounts: vec![AccountChange {
                address,
                now: vec![],
                wiped: true,
            }],
            ..StateDiff::default()
        };
        commit(&store, 20, &destroy);
        for height in 21..=20 + WINDOW {
            assert!(count(&store, Kind::Slot) > 0, "still in the window");
            commit(&store, height, &StateDiff::default());
        }
        for kind in [Kind::Account, Kind::Slot, Kind::Wipe, Kind::Superseded] {
            assert_eq!(count(&store, kind), 0, "{kind:?}");
        }
    }
}
