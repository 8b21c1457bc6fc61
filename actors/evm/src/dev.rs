//! Development methods on the state: what an entry of the log changes, and what an order comes to on a parent.
//!
//! See [`penstock_rules::dev`]. **Invariant:** `apply` is the only way from an entry into a state, for who builds, who
//! verifies and who traces, and it takes only what [`allowed`] lets in.

use crate::genesis::GenesisAccount;
use crate::overlay::{BackendError, Changes};
use crate::spec::ChainSpec;
use crate::state::State;
use alloy_consensus::{SignableTransaction, TxEnvelope, TypedTransaction};
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_eips::eip4788::BEACON_ROOTS_ADDRESS;
use alloy_primitives::{Address, B256, Signature, U256, keccak256};
use penstock_rules::dev::{AccountPatch, Privileged, SETTINGS, Settings};
use penstock_rules::state::{Account, AccountChange, EMPTY_CODE_HASH, SlotChange, StateDiff};
use std::collections::{BTreeMap, BTreeSet};

/// An entry can't be in a block of this chain.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DevError {
    /// The genesis names several producers, or none.
    #[error("genesis names {0} producers: only a chain with one takes privileged entries")]
    Producers(usize),
    /// The entry's block is its own, but has transactions.
    #[error("a privileged block of its own has transactions")]
    Transactions,
    /// Code that is not what its hash says, or that nobody has.
    #[error("code {0} is not there, or is not what its hash says")]
    Code(B256),
}

/// Whether a chain takes privileged entries and transactions without a signature.
#[must_use]
pub fn allowed(spec: &ChainSpec) -> bool {
    spec.producers.len() == 1
}

/// The settings that a state holds.
#[must_use]
pub fn settings(state: &State) -> Settings {
    // Most chains have none: one look says so.
    if state.account_at(SETTINGS).is_none() {
        return Settings::default();
    }
    Settings::read(|slot| state.slot_at(SETTINGS, slot))
}

/// What makes `new` the settings of a state.
#[must_use]
pub fn set_settings(state: &State, new: &Settings) -> StateDiff {
    let mut diff = StateDiff::default();
    if settings(state) == *new {
        return diff;
    }
    if state.account_at(SETTINGS).is_none() {
        diff.accounts.push(AccountChange {
            address: SETTINGS,
            // A nonce keeps it from being an empty account, which is none.
            now: vec![Account {
                nonce: 1,
                ..Account::default()
            }],
            wiped: false,
        });
    }
    let changed = new.slots().into_iter().map(|(slot, now)| SlotChange {
        address: SETTINGS,
        slot,
        now,
    });
    diff.slots = changed
        .filter(|change| state.slot_at(SETTINGS, change.slot) != change.now)
        .collect();
    diff
}

/// Uses up what was set for the block that begins.
pub(crate) fn use_settings(changes: &mut Changes, below: &State) {
    let before = settings(below);
    let after = before.used();
    if after != before {
        for (slot, value) in after.slots() {
            changes.set_slot(SETTINGS, slot, value);
        }
    }
}

/// Checks what does not depend on a state.
pub(crate) fn check(
    entry: &Privileged,
    spec: &ChainSpec,
    transactions: usize,
) -> Result<(), DevError> {
    if !allowed(spec) {
        return Err(DevError::Producers(spec.producers.len()));
    }
    if entry.own && transactions > 0 {
        return Err(DevError::Transactions);
    }
    Ok(())
}

/// Applies an entry's changes, before the block's first transaction.
pub(crate) fn apply(
    changes: &mut Changes,
    below: &State,
    diff: &StateDiff,
) -> Result<(), DevError> {
    let mut codes = BTreeSet::from([EMPTY_CODE_HASH]);
    for code in &diff.codes {
        if keccak256(&code.code) != code.hash {
            return Err(DevError::Code(code.hash));
        }
        codes.insert(code.hash);
    }
    for account in diff.accounts.iter().flat_map(|change| &change.now) {
        let code = account.code_hash;
        if !codes.contains(&code) && !below.has_code(code) {
            return Err(DevError::Code(code));
        }
    }
    replay(changes, diff);
    Ok(())
}

/// Applies changes that were checked before.
pub(crate) fn replay(changes: &mut Changes, diff: &StateDiff) {
    for code in &diff.codes {
        changes.add_code(code.code.clone());
    }
    for change in &diff.accounts {
        match change.now.first() {
            None => changes.remove(change.address),
            Some(account) => {
                if change.wiped {
                    changes.wipe(change.address);
                }
                changes.set_account(change.address, *account);
            }
        }
    }
    for change in &diff.slots {
        changes.set_slot(change.address, change.slot, change.now);
    }
}

/// Adds up changes on one state, each on what the ones before it leave.
#[derive(Debug)]
pub struct Patch<'a> {
    below: &'a State,
    changes: Changes,
}

impl<'a> Patch<'a> {
    /// No change yet.
    #[must_use]
    pub fn new(below: &'a State) -> Self {
        Self {
            below,
            changes: Changes::default(),
        }
    }

    /// Changes an account.
    pub fn account(&mut self, patch: &AccountPatch) {
        let before = known(self.changes.account(self.below, patch.address));
        let mut account = before.unwrap_or_default();
        account.balance = patch.balance.unwrap_or(account.balance);
        account.nonce = patch.nonce.unwrap_or(account.nonce);
        if let Some(code) = &patch.code {
            account.code_hash = if code.is_empty() {
                EMPTY_CODE_HASH
            } else {
                self.changes.add_code(code.clone())
            };
        }
        // EIP-161: an account with nothing is none. Slots alone make no account either, so it gets a nonce for them, as
        // a contract has.
        let slots = patch.slots.iter().any(|(_, value)| !value.is_zero());
        if account == Account::default() && slots {
            account.nonce = 1;
        }
        if account == Account::default() && before.is_none() {
            return;
        }
        if account == Account::default() {
            self.changes.remove(patch.address);
            return;
        }
        self.changes.set_account(patch.address, account);
        for (slot, value) in &patch.slots {
            self.changes.set_slot(patch.address, *slot, *value);
        }
    }

    /// Changes the settings.
    pub fn settings(&mut self, change: impl FnOnce(&mut Settings)) {
        let (changes, below) = (&self.changes, self.below);
        let here = known(changes.account(below, SETTINGS));
        let mut settings = match here {
            None => Settings::default(),
            Some(_) => Settings::read(|slot| known(changes.slot(below, SETTINGS, slot))),
        };
        change(&mut settings);
        if here.is_none() {
            let account = Account {
                nonce: 1,
                ..Account::default()
            };
            self.changes.set_account(SETTINGS, account);
        }
        for (slot, value) in settings.slots() {
            self.changes.set_slot(SETTINGS, slot, value);
        }
    }

    /// Makes the state what it was in `then`. What a chain itself writes about its past stays: the contracts of EIP-2935
    /// and EIP-4788 go on telling of the blocks that were; so does the way in which blocks are made.
    ///
    /// # Panics
    /// Never: changes before it are forgotten, and states are in memory.
    pub fn restore(&mut self, then: &State) {
        let mining = settings(self.below).mining;
        self.changes = Changes::default();
        let kept = [HISTORY_STORAGE_ADDRESS, BEACON_ROOTS_ADDRESS];
        self.below.compare(then, &mut |address, now, slots| {
            if kept.contains(&address) {
                return;
            }
            match now {
                None => self.changes.remove(address),
                Some(account) => {
                    if let Some(code) = then.code_of(account) {
                        self.changes.add_code(code);
                    }
                    self.changes.set_account(address, account);
                    for (slot, value) in slots {
                        self.changes.set_slot(address, slot, value);
                    }
                }
            }
        });
        let same = known(self.changes.account(self.below, SETTINGS)).is_none() && mining.is_none();
        if !same {
            self.settings(|settings| settings.mining = mining);
        }
    }

    /// All of it, against the state.
    #[must_use]
    pub fn diff(&self) -> StateDiff {
        self.changes.diff(self.below)
    }
}

/// States are in memory, and their reads never fail.
fn known<T>(read: Result<T, BackendError>) -> T {
    read.expect("the head's state is in memory")
}

/// All accounts, as a genesis has them.
#[must_use]
pub fn dump(state: &State) -> BTreeMap<Address, GenesisAccount> {
    let mut all = BTreeMap::new();
    state.each(&mut |address, account, slots| {
        let account = GenesisAccount {
            balance: account.balance,
            nonce: account.nonce,
            code: state.code_of(account).unwrap_or_default(),
            storage: slots,
        };
        all.insert(address, account);
    });
    all
}

/// A transaction in the name of an account whose key nobody here has.
///
/// Its "signature" has the account's address as `r` and zero as `s`: a form that no key makes, and that
/// [`crate::recover()`] takes for what it is on a chain with one producer alone.
#[must_use]
pub fn impersonated(tx: TypedTransaction, from: Address) -> TxEnvelope {
    let signature = Signature::new(from.into_word().into(), U256::ZERO, false);
    tx.into_signed(signature).into()
}

/// In whose name a transaction is, where it is one of [`impersonated`]'s.
#[must_use]
pub fn impersonates(envelope: &TxEnvelope) -> Option<Address> {
    let signature = envelope.signature();
    let r = B256::from(signature.r());
    let is_address = r[..12].iter().all(|byte| *byte == 0);
    (signature.s().is_zero() && !signature.v() && is_address).then(|| Address::from_word(r))
}
