//! Head state in memory: flat maps for reads, tries for roots, all persistent, so that a clone is cheap.

use crate::range::StorageRange;
use crate::trie::Trie;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_trie::TrieAccount;
use penstock_rules::ids::Height;
use penstock_rules::state::{Account, AccountChange, CodeChange, SlotChange, StateDiff, StateRead};
use revm::bytecode::Bytecode;
use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;

/// Blocks that `BLOCKHASH` reaches back.
pub const BLOCK_HASHES: u64 = 256;

/// The state after some block. A clone shares everything with the original until either changes.
#[derive(Clone, Debug, Default)]
pub struct State {
    accounts: imbl::HashMap<Address, Entry>,
    codes: imbl::HashMap<B256, Bytecode>,
    hashes: imbl::OrdMap<u64, B256>,
    trie: Trie,
}

#[derive(Clone, Debug, Default)]
struct Entry {
    account: Account,
    slots: imbl::HashMap<U256, U256>,
    storage: Trie,
}

/// Code with its jump table. Bytes that only look like a delegation (EIP-7702) are code like any other.
pub(crate) fn analyse(code: Bytes) -> Bytecode {
    Bytecode::new_raw_checked(code.clone()).unwrap_or_else(|_| Bytecode::new_legacy(code))
}

/// What an account holds, and the trie nodes that prove it against the state root (EIP-1186).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccountProof {
    /// The account; none where the proof shows its absence.
    pub account: Option<Account>,
    /// Root of its storage.
    pub storage_root: B256,
    /// Nodes from the state root down, RLP.
    pub nodes: Vec<Bytes>,
    /// Of each slot that was asked for, in that order: its value, and nodes from the storage root down.
    pub slots: Vec<(U256, Vec<Bytes>)>,
}

impl State {
    /// An account and some of its slots, with their proofs.
    #[must_use]
    pub fn proof(&self, address: Address, slots: &[U256]) -> AccountProof {
        let entry = self.accounts.get(&address).cloned().unwrap_or_default();
        let slot = |slot: &U256| {
            let key = keccak256(slot.to_be_bytes::<32>());
            (self.slot_at(address, *slot), entry.storage.proof(key))
        };
        AccountProof {
            account: self.account_at(address),
            storage_root: entry.storage.root(),
            nodes: self.trie.proof(keccak256(address)),
            slots: slots.iter().map(slot).collect(),
        }
    }

    /// No accounts.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// Applies what a block changed. Applied in parts, the whole state is rebuilt from a store the same way.
    ///
    /// Slots of an account that neither the state nor the diff has are ignored: there is nothing that they belong to.
    pub fn apply(&mut self, diff: &StateDiff) {
        for code in &diff.codes {
            self.codes.insert(code.hash, analyse(code.code.clone()));
        }
        let mut touched = BTreeSet::new();
        for change in &diff.accounts {
            touched.insert(change.address);
            match change.now.first() {
                None => {
                    self.accounts.remove(&change.address);
                }
                Some(account) => {
                    let entry = self.accounts.entry(change.address).or_default();
                    entry.account = *account;
                    if change.wiped {
                        entry.slots.clear();
                        entry.storage = Trie::default();
                    }
                }
            }
        }
        for slots in diff.slots.chunk_by(|a, b| a.address == b.address) {
            let address = slots[0].address;
            let Some(entry) = self.accounts.get_mut(&address) else {
                continue;
            };
            touched.insert(address);
            for change in slots {
                let key = keccak256(change.slot.to_be_bytes::<32>());
                if change.now.is_zero() {
                    entry.slots.remove(&change.slot);
                    entry.storage.remove(key);
                } else {
                    entry.slots.insert(change.slot, change.now);
                    entry.storage.insert(key, &alloy_rlp::encode(change.now));
                }
            }
        }
        for address in touched {
            let key = keccak256(address);
            match self.accounts.get(&address) {
                None => self.trie.remove(key),
                Some(entry) => self.trie.insert(
                    key,
                    &alloy_rlp::encode(TrieAccount {
                        nonce: entry.account.nonce,
                        balance: entry.account.balance,
                        storage_root: entry.storage.root(),
                        code_hash: entry.account.code_hash,
                    }),
                ),
            }
        }
    }

    /// The Merkle-Patricia root of all accounts. What did not change since the last call is not hashed again.
    #[must_use]
    pub fn root(&self) -> B256 {
        self.trie.root()
    }

    /// Remembers the hash of the block at `height`, and forgets what `BLOCKHASH` no longer reaches.
    pub fn push_block_hash(&mut self, height: Height, hash: B256) {
        self.hashes.insert(height.0, hash);
        while let Some(&(first, _)) = self.hashes.get_min() {
            if first + BLOCK_HASHES > height.0 {
                break;
            }
            self.hashes.remove(&first);
        }
    }

    /// The highest block whose hash is known: the one that this is the state of.
    #[must_use]
    pub fn head(&self) -> Option<(Height, B256)> {
        self.hashes
            .get_max()
            .map(|&(height, hash)| (Height(height), hash))
    }

    /// Code of an account, where it has some.
    pub(crate) fn code_of(&self, account: Account) -> Option<Bytes> {
        let code = self.codes.get(&account.code_hash)?;
        Some(code.original_bytes())
    }

    /// Slots of an account by hashed key, from `start` on.
    pub(crate) fn storage_range(
        &self,
        address: Address,
        start: B256,
        limit: usize,
    ) -> StorageRange {
        let Some(entry) = self.accounts.get(&address) else {
            return StorageRange::default();
        };
        let hashed =
            |(slot, value): (&U256, &U256)| (keccak256(slot.to_be_bytes::<32>()), *slot, *value);
        let mut slots: Vec<_> = entry
            .slots
            .iter()
            .map(hashed)
            .filter(|(key, ..)| *key >= start)
            .collect();
        slots.sort_unstable_by_key(|(key, ..)| *key);
        let next = slots.get(limit).map(|(key, ..)| *key);
        slots.truncate(limit);
        StorageRange { slots, next }
    }

    /// Gives every account with its storage.
    pub(crate) fn each(&self, take: &mut dyn FnMut(Address, Account, BTreeMap<U256, U256>)) {
        for (address, entry) in &self.accounts {
            let slots = entry.slots.iter().map(|(slot, value)| (*slot, *value));
            take(*address, entry.account, slots.collect());
        }
    }

    /// Gives every account that is another in `then`: what it is there, and each slot that differs, with its value there.
    /// What both share is not looked into.
    pub(crate) fn compare(
        &self,
        then: &Self,
        take: &mut dyn FnMut(Address, Option<Account>, Vec<(U256, U256)>),
    ) {
        for (address, entry) in &self.accounts {
            let Some(other) = then.accounts.get(address) else {
                take(*address, None, Vec::new());
                continue;
            };
            let mut slots = Vec::new();
            if !entry.slots.ptr_eq(&other.slots) {
                for (slot, value) in &entry.slots {
                    let was = other.slots.get(slot).copied().unwrap_or_default();
                    if was != *value {
                        slots.push((*slot, was));
                    }
                }
                let gone = other.slots.iter();
                slots.extend(
                    gone.filter(|(slot, _)| !entry.slots.contains_key(*slot))
                        .map(|(slot, value)| (*slot, *value)),
                );
            }
            if entry.account != other.account || !slots.is_empty() {
                take(*address, Some(other.account), slots);
            }
        }
        for (address, other) in &then.accounts {
            if !self.accounts.contains_key(address) {
                let slots = other.slots.iter().map(|(slot, value)| (*slot, *value));
                take(*address, Some(other.account), slots.collect());
            }
        }
    }

    /// Number of accounts.
    #[must_use]
    pub fn account_count(&self) -> usize {
        self.accounts.len()
    }

    /// Gives the whole state in parts of at most `items` accounts, slots and codes, by ascending address, slot and hash:
    /// applied to an empty state in that order they make it again.
    ///
    /// # Errors
    /// What `take` says.
    pub fn export<E>(
        &self,
        items: usize,
        mut take: impl FnMut(StateDiff) -> Result<(), E>,
    ) -> Result<(), E> {
        let (mut part, mut count) = (StateDiff::default(), 0);
        let mut full = |part: &mut StateDiff| {
            count += 1;
            match count < items {
                true => Ok(()),
                false => {
                    count = 0;
                    take(std::mem::take(part))
                }
            }
        };
        let mut addresses: Vec<_> = self.accounts.keys().copied().collect();
        addresses.sort_unstable();
        for address in addresses {
            let Some(entry) = self.accounts.get(&address) else {
                continue;
            };
            part.accounts.push(AccountChange {
                address,
                now: vec![entry.account],
                wiped: false,
            });
            full(&mut part)?;
            let mut slots: Vec<_> = entry.slots.iter().collect();
            slots.sort_unstable();
            for (&slot, &now) in slots {
                part.slots.push(SlotChange { address, slot, now });
                full(&mut part)?;
            }
        }
        let mut codes: Vec<_> = self.codes.iter().collect();
        codes.sort_unstable_by_key(|(hash, _)| **hash);
        for (&hash, code) in codes {
            let code = code.original_bytes();
            part.codes.push(CodeChange { hash, code });
            full(&mut part)?;
        }
        if part == StateDiff::default() {
            return Ok(());
        }
        take(part)
    }

    pub(crate) fn account_at(&self, address: Address) -> Option<Account> {
        self.accounts.get(&address).map(|entry| entry.account)
    }

    pub(crate) fn slot_at(&self, address: Address, slot: U256) -> U256 {
        self.accounts
            .get(&address)
            .and_then(|entry| entry.slots.get(&slot))
            .copied()
            .unwrap_or_default()
    }

    /// Code with its jump table: analysed once, when it came into the state.
    pub(crate) fn bytecode(&self, hash: B256) -> Bytecode {
        self.codes.get(&hash).cloned().unwrap_or_default()
    }

    pub(crate) fn has_code(&self, hash: B256) -> bool {
        self.codes.contains_key(&hash)
    }

    pub(crate) fn block_hash_at(&self, height: u64) -> B256 {
        self.hashes.get(&height).copied().unwrap_or_default()
    }
}

/// Code that no account has reads as empty.
impl StateRead for State {
    type Error = Infallible;

    fn account(&self, address: Address) -> Result<Option<Account>, Infallible> {
        Ok(self.account_at(address))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, Infallible> {
        Ok(self.slot_at(address, slot))
    }

    fn code(&self, hash: B256) -> Result<Bytes, Infallible> {
        Ok(self.bytecode(hash).original_bytes())
    }

    fn block_hash(&self, height: Height) -> Result<B256, Infallible> {
        Ok(self.block_hash_at(height.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    type Plain = BTreeMap<Address, (Account, BTreeMap<U256, U256>)>;

    /// The root by alloy_trie's own functions, from all accounts.
    fn reference(plain: &Plain) -> B256 {
        alloy_trie::root::state_root_unhashed(plain.iter().map(|(address, (account, slots))| {
            let slots = slots
                .iter()
                .map(|(slot, value)| (B256::from(*slot), *value));
            let account = TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: alloy_trie::root::storage_root_unhashed(slots),
                code_hash: account.code_hash,
            };
            (*address, account)
        }))
    }

    fn change() -> impl Strategy<Value = (u8, u8, Vec<(u8, u8)>)> {
        (
            0u8..12,
            0u8..8,
            proptest::collection::vec((0u8..6, 0u8..3), 0..5),
        )
    }

    /// Parts of any size make the same state again, codes included, and none is larger than asked for.
    #[test]
    fn a_state_is_made_again_from_its_parts() {
        let mut diff = StateDiff::default();
        for who in 1u8..20 {
            let address = Address::repeat_byte(who);
            let code = Bytes::from(vec![who; 3]);
            let hash = keccak256(&code);
            let account = Account {
                nonce: who.into(),
                balance: U256::from(who),
                code_hash: hash,
            };
            diff.accounts.push(AccountChange {
                address,
                now: vec![account],
                wiped: false,
            });
            diff.codes.push(CodeChange { hash, code });
            for slot in 1..=who % 5 {
                let (slot, now) = (U256::from(slot), U256::from(who));
                diff.slots.push(SlotChange { address, slot, now });
            }
        }
        let mut state = State::empty();
        state.apply(&diff);
        for items in [1, 2, 7, 1_000] {
            let mut again = State::empty();
            let take = |part: StateDiff| {
                assert!(part.accounts.len() + part.slots.len() + part.codes.len() <= items);
                again.apply(&part);
                Ok::<_, Infallible>(())
            };
            let Ok(()) = state.export(items, take);
            assert_eq!(again.root(), state.root());
            for code in &diff.codes {
                let Ok(found) = again.code(code.hash);
                assert_eq!(found, code.code);
            }
        }
        let none = State::empty().export(1, |_| Err(()));
        assert_eq!(none, Ok(()), "nothing is no part");
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(100))]

        /// Blocks of random changes (accounts made, changed, wiped, destroyed; slots set and cleared) on the state and
        /// on plain maps: roots and reads agree after each block, and a clone taken before does not move.
        #[test]
        fn roots_and_reads_follow_every_block(
            blocks in proptest::collection::vec(
                proptest::collection::btree_map(0u8..12, change(), 0..6), 1..8),
        ) {
            let (mut state, mut plain) = (State::empty(), Plain::new());
            for block in blocks {
                let (before, root) = (state.clone(), state.root());
                let mut diff = StateDiff::default();
                for (who, (balance, kind, slots)) in block {
                    let address = Address::repeat_byte(who);
                    let account = Account { balance: U256::from(balance), ..Account::default() };
                    let wiped = kind == 1;
                    if kind == 0 {
                        plain.remove(&address);
                        diff.accounts.push(AccountChange { address, now: vec![], wiped: true });
                        continue;
                    }
                    let entry = plain.entry(address).or_default();
                    entry.0 = account;
                    if wiped {
                        entry.1.clear();
                    }
                    diff.accounts.push(AccountChange { address, now: vec![account], wiped });
                    for (slot, now) in slots.into_iter().collect::<BTreeMap<_, _>>() {
                        let (slot, now) = (U256::from(slot), U256::from(now));
                        if now.is_zero() { entry.1.remove(&slot); } else { entry.1.insert(slot, now); }
                        diff.slots.push(SlotChange { address, slot, now });
                    }
                }
                state.apply(&diff);
                prop_assert_eq!(state.root(), reference(&plain));
                prop_assert_eq!(before.root(), root);
                for (address, (account, slots)) in &plain {
                    prop_assert_eq!(state.account_at(*address), Some(*account));
                    for (slot, value) in slots {
                        prop_assert_eq!(state.slot_at(*address, *slot), *value);
                    }
                }
                prop_assert_eq!(state.account_count(), plain.len());
            }
        }
    }

    #[test]
    fn block_hashes_reach_back_256_blocks() {
        let mut state = State::empty();
        assert_eq!(state.head(), None);
        for height in 0..=300u64 {
            state.push_block_hash(Height(height), B256::from(U256::from(height)));
        }
        assert_eq!(
            state.head(),
            Some((Height(300), B256::from(U256::from(300))))
        );
        assert_eq!(state.block_hash_at(45), B256::from(U256::from(45)));
        assert_eq!(state.block_hash_at(44), B256::ZERO);
    }

    #[test]
    fn code_comes_back_as_it_was() {
        let mut state = State::empty();
        let code = Bytes::from_static(&[0x60, 0x00, 0x56, 0x5b]);
        let hash = keccak256(&code);
        state.apply(&StateDiff {
            codes: vec![CodeChange {
                hash,
                code: code.clone(),
            }],
            ..StateDiff::default()
        });
        assert_eq!(StateRead::code(&state, hash), Ok(code));
        assert_eq!(StateRead::code(&state, B256::ZERO), Ok(Bytes::new()));
    }
}
