//! What runs change, above a state that stays as it is.

use crate::state::{State, analyse};
use alloy_primitives::{Address, B256, Bytes, U256};
use penstock_rules::ids::Height;
use penstock_rules::state::{
    Account, AccountChange, CodeChange, EMPTY_CODE_HASH, SlotChange, StateDiff, StateRead,
};
use revm::bytecode::Bytecode;
use revm::database_interface::DBErrorMarker;
use revm::state::{AccountInfo, EvmState};
use std::collections::{BTreeMap, HashMap};

/// A state could not be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("state could not be read: {0}")]
pub struct BackendError(pub String);

impl DBErrorMarker for BackendError {}

/// Code as the EVM wants it.
#[derive(Clone, Debug)]
pub struct Code(Bytecode);

impl From<Bytes> for Code {
    fn from(bytes: Bytes) -> Self {
        Self(analyse(bytes))
    }
}

/// A state that the EVM can run on: the head's [`State`], or an old one as [`Historic`].
pub trait Backend: Send + Sync {
    /// The account, where there is one.
    ///
    /// # Errors
    /// Where the state can't be read.
    fn account(&self, address: Address) -> Result<Option<Account>, BackendError>;

    /// The slot's value; zero where there is none.
    ///
    /// # Errors
    /// Where the state can't be read.
    fn slot(&self, address: Address, slot: U256) -> Result<U256, BackendError>;

    /// Code by hash.
    ///
    /// # Errors
    /// Where the state can't be read.
    fn code(&self, hash: B256) -> Result<Code, BackendError>;

    /// Hash of an earlier block; zero where it is unknown.
    ///
    /// # Errors
    /// Where the state can't be read.
    fn block_hash(&self, height: Height) -> Result<B256, BackendError>;
}

impl Backend for State {
    fn account(&self, address: Address) -> Result<Option<Account>, BackendError> {
        Ok(self.account_at(address))
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, BackendError> {
        Ok(self.slot_at(address, slot))
    }

    fn code(&self, hash: B256) -> Result<Code, BackendError> {
        Ok(Code(self.bytecode(hash)))
    }

    fn block_hash(&self, height: Height) -> Result<B256, BackendError> {
        Ok(self.block_hash_at(height.0))
    }
}

/// Any state that can be read, for calls on old blocks. Code is analysed at each read.
#[derive(Clone, Debug)]
pub struct Historic<S>(pub S);

impl<S> Backend for Historic<S>
where
    S: StateRead + Send + Sync,
    S::Error: std::fmt::Display,
{
    fn account(&self, address: Address) -> Result<Option<Account>, BackendError> {
        self.0.account(address).map_err(failed)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, BackendError> {
        self.0.slot(address, slot).map_err(failed)
    }

    fn code(&self, hash: B256) -> Result<Code, BackendError> {
        self.0.code(hash).map(Code::from).map_err(failed)
    }

    fn block_hash(&self, height: Height) -> Result<B256, BackendError> {
        self.0.block_hash(height).map_err(failed)
    }
}

fn failed(error: impl std::fmt::Display) -> BackendError {
    BackendError(error.to_string())
}

/// What becomes of an account that was touched and holds nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Empties {
    /// It is gone: EIP-161, which all hardforks of our chains have.
    Gone,
    /// It is there: before Spurious Dragon, for Ethereum's tests alone.
    Kept,
}

/// Changes of the transactions so far, on a state that is given with each use.
#[derive(Clone, Debug, Default)]
pub(crate) struct Changes {
    accounts: HashMap<Address, Changed>,
    codes: HashMap<B256, Bytecode>,
}

#[derive(Clone, Debug, Default)]
struct Changed {
    /// `None`: as below. `Some(None)`: gone.
    now: Option<Option<Account>>,
    /// Nothing of the storage below counts.
    wiped: bool,
    slots: HashMap<U256, U256>,
}

impl Changes {
    /// Takes over what one transaction left. **Invariant:** that of a placeholder run goes into a world of discovery
    /// alone, which is dropped with it.
    pub(crate) fn commit(&mut self, state: EvmState) {
        self.commit_as(state, Empties::Gone);
    }

    /// As [`Changes::commit`], by the rule of the hardfork for accounts that hold nothing.
    pub(crate) fn commit_as(&mut self, state: EvmState, empties: Empties) {
        for (address, account) in state {
            if !account.is_touched() {
                continue;
            }
            let changed = self.accounts.entry(address).or_default();
            if account.is_selfdestructed() || account.is_created() {
                changed.wiped = true;
                changed.slots.clear();
            }
            let gone = empties == Empties::Gone && account.is_empty();
            if account.is_selfdestructed() || gone {
                changed.now = Some(None);
                continue;
            }
            for (slot, value) in account.changed_storage_slots() {
                changed.slots.insert(*slot, value.present_value());
            }
            let code_hash = account.info.code_hash;
            if let Some(code) = account.info.code.filter(|code| !code.is_empty()) {
                self.codes.entry(code_hash).or_insert(code);
            }
            changed.now = Some(Some(Account {
                nonce: account.info.nonce,
                balance: account.info.balance,
                code_hash,
            }));
        }
    }

    /// Sets an account as a whole: for overrides.
    pub(crate) fn set_account(&mut self, address: Address, account: Account) {
        self.accounts.entry(address).or_default().now = Some(Some(account));
    }

    /// Takes an account away with all that it has: for privileged entries.
    pub(crate) fn remove(&mut self, address: Address) {
        self.wipe(address);
        self.accounts.entry(address).or_default().now = Some(None);
    }

    /// Forgets the storage below: for overrides.
    pub(crate) fn wipe(&mut self, address: Address) {
        let changed = self.accounts.entry(address).or_default();
        changed.wiped = true;
        changed.slots.clear();
    }

    /// Adds code: for overrides.
    pub(crate) fn add_code(&mut self, code: Bytes) -> B256 {
        let code = analyse(code);
        let hash = code.hash_slow();
        self.codes.entry(hash).or_insert(code);
        hash
    }

    /// Sets a slot without the EVM: for what a block does itself. A slot of an account that is not there stays unset.
    pub(crate) fn write(
        &mut self,
        below: &dyn Backend,
        address: Address,
        slot: U256,
        value: U256,
    ) -> Result<(), BackendError> {
        if self.account(below, address)?.is_some() {
            self.set_slot(address, slot, value);
        }
        Ok(())
    }

    /// Sets a slot: for overrides.
    pub(crate) fn set_slot(&mut self, address: Address, slot: U256, value: U256) {
        let changed = self.accounts.entry(address).or_default();
        changed.slots.insert(slot, value);
    }

    pub(crate) fn account(
        &self,
        below: &dyn Backend,
        address: Address,
    ) -> Result<Option<Account>, BackendError> {
        match self.accounts.get(&address).and_then(|changed| changed.now) {
            Some(now) => Ok(now),
            None => below.account(address),
        }
    }

    pub(crate) fn slot(
        &self,
        below: &dyn Backend,
        address: Address,
        slot: U256,
    ) -> Result<U256, BackendError> {
        if let Some(changed) = self.accounts.get(&address) {
            if let Some(value) = changed.slots.get(&slot) {
                return Ok(*value);
            }
            if changed.wiped || changed.now == Some(None) {
                return Ok(U256::ZERO);
            }
        }
        below.slot(address, slot)
    }

    /// All changes against `below`, sorted; what is as it was does not count.
    pub(crate) fn diff(&self, below: &State) -> StateDiff {
        let mut diff = StateDiff::default();
        let sorted: BTreeMap<_, _> = self.accounts.iter().collect();
        for (address, changed) in sorted {
            let before = below.account_at(*address);
            let now = changed.now.unwrap_or(before);
            let wiped = changed.wiped && before.is_some();
            if now != before || wiped {
                diff.accounts.push(AccountChange {
                    address: *address,
                    now: now.into_iter().collect(),
                    wiped,
                });
            }
            let Some(now) = now else {
                continue;
            };
            let new_code = (!below.has_code(now.code_hash))
                .then(|| self.codes.get(&now.code_hash))
                .flatten();
            if let Some(code) = new_code {
                diff.codes.push(CodeChange {
                    hash: now.code_hash,
                    code: code.original_bytes(),
                });
            }
            let slots: BTreeMap<_, _> = changed.slots.iter().collect();
            for (slot, value) in slots {
                let before = if changed.wiped {
                    U256::ZERO
                } else {
                    below.slot_at(*address, *slot)
                };
                if *value != before {
                    diff.slots.push(SlotChange {
                        address: *address,
                        slot: *slot,
                        now: *value,
                    });
                }
            }
        }
        diff.codes.sort_by_key(|code| code.hash);
        diff.codes.dedup_by_key(|code| code.hash);
        diff
    }
}

/// What one run reads from: changes above a state.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) below: &'a dyn Backend,
    pub(crate) changes: &'a Changes,
}

impl std::fmt::Debug for View<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("View").finish_non_exhaustive()
    }
}

impl revm::DatabaseRef for View<'_> {
    type Error = BackendError;

    fn basic_ref(&self, address: Address) -> Result<Option<AccountInfo>, BackendError> {
        let account = self.changes.account(self.below, address)?;
        Ok(account.map(|account| AccountInfo {
            balance: account.balance,
            nonce: account.nonce,
            code_hash: account.code_hash,
            code: None,
            account_id: None,
        }))
    }

    fn code_by_hash_ref(&self, hash: B256) -> Result<Bytecode, BackendError> {
        if hash == EMPTY_CODE_HASH {
            return Ok(Bytecode::default());
        }
        match self.changes.codes.get(&hash) {
            Some(code) => Ok(code.clone()),
            None => self.below.code(hash).map(|code| code.0),
        }
    }

    fn storage_ref(&self, address: Address, slot: U256) -> Result<U256, BackendError> {
        self.changes.slot(self.below, address, slot)
    }

    fn block_hash_ref(&self, number: u64) -> Result<B256, BackendError> {
        self.below.block_hash(Height(number))
    }
}

impl revm::Database for View<'_> {
    type Error = BackendError;

    fn basic(&mut self, address: Address) -> Result<Option<AccountInfo>, BackendError> {
        revm::DatabaseRef::basic_ref(self, address)
    }

    fn code_by_hash(&mut self, hash: B256) -> Result<Bytecode, BackendError> {
        revm::DatabaseRef::code_by_hash_ref(self, hash)
    }

    fn storage(&mut self, address: Address, slot: U256) -> Result<U256, BackendError> {
        revm::DatabaseRef::storage_ref(self, address, slot)
    }

    fn block_hash(&mut self, number: u64) -> Result<B256, BackendError> {
        revm::DatabaseRef::block_hash_ref(self, number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHO: Address = Address::repeat_byte(1);

    fn one(balance: u64) -> Account {
        Account {
            balance: U256::from(balance),
            ..Account::default()
        }
    }

    fn below() -> State {
        let mut state = State::empty();
        state.apply(&StateDiff {
            accounts: vec![AccountChange {
                address: WHO,
                now: vec![one(5)],
                wiped: false,
            }],
            slots: vec![SlotChange {
                address: WHO,
                slot: U256::ONE,
                now: U256::from(7),
            }],
            codes: vec![],
        });
        state
    }

    #[test]
    fn what_is_as_it_was_is_no_change() {
        let (below, mut changes) = (below(), Changes::default());
        changes.set_account(WHO, one(6));
        changes.set_slot(WHO, U256::ONE, U256::from(8));
        assert_eq!(changes.diff(&below).accounts.len(), 1);
        assert_eq!(changes.diff(&below).slots.len(), 1);
        changes.set_account(WHO, one(5));
        changes.set_slot(WHO, U256::ONE, U256::from(7));
        assert_eq!(changes.diff(&below), StateDiff::default());
    }

    #[test]
    fn a_wiped_account_reads_as_empty_and_keeps_only_new_slots() {
        let (below, mut changes) = (below(), Changes::default());
        changes.wipe(WHO);
        changes.set_slot(WHO, U256::from(2), U256::from(9));
        assert_eq!(changes.slot(&below, WHO, U256::ONE), Ok(U256::ZERO));
        let diff = changes.diff(&below);
        assert!(diff.accounts[0].wiped);
        let mut after = below;
        after.apply(&diff);
        assert_eq!(after.slot_at(WHO, U256::ONE), U256::ZERO);
        assert_eq!(after.slot_at(WHO, U256::from(2)), U256::from(9));
    }

    #[test]
    fn a_slot_of_nobody_is_not_written() {
        let (below, mut changes) = (State::empty(), Changes::default());
        assert_eq!(changes.write(&below, WHO, U256::ONE, U256::ONE), Ok(()));
        assert_eq!(changes.diff(&below), StateDiff::default());
    }
}
