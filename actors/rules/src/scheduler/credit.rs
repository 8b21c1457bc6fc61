//! Unpaid compute: what each sender had computed and has not paid, and how much of that it may have.

use super::limits::{CREDIT_BASE, CREDIT_DECAY, CREDIT_MAX, CREDIT_PERCENT};
use crate::ids::{Igas, Micros, RequestKey};
use alloy_primitives::{Address, B256};
use std::collections::{BTreeMap, BTreeSet};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Account {
    /// Units that were paid for, decayed.
    paid: u64,
    /// Units that were computed in vain, decayed.
    debt: u64,
    /// Units that were given to shards, and are neither paid nor in vain yet.
    exposed: u64,
    /// Until when `paid` and `debt` are decayed.
    decayed: Micros,
}

/// A request that someone has to pay for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Owed {
    sender: Address,
    gang: B256,
    igas: u64,
}

/// The books.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Credit {
    accounts: BTreeMap<Address, Account>,
    owed: BTreeMap<RequestKey, Owed>,
    by_gang: BTreeMap<B256, BTreeSet<RequestKey>>,
}

impl Credit {
    fn account(&mut self, now: Micros, sender: Address) -> &mut Account {
        let account = self.accounts.entry(sender).or_insert(Account {
            decayed: now,
            ..Account::default()
        });
        // A day apart, 24 steps are left of what then was a third: more steps change little and cost time.
        let mut steps = 0;
        while now >= account.decayed.saturating_add(CREDIT_DECAY) && steps < 240 {
            account.paid -= account.paid.div_ceil(24);
            account.debt -= account.debt.div_ceil(24);
            account.decayed = account.decayed.saturating_add(CREDIT_DECAY);
            steps += 1;
        }
        account
    }

    /// Units that the sender may have computed beyond what it has unpaid now.
    pub(crate) fn room(&mut self, now: Micros, sender: Address) -> u64 {
        let account = self.account(now, sender);
        let earned = (account.paid / 100 * CREDIT_PERCENT).min(CREDIT_MAX.0);
        let unpaid = account.exposed.saturating_add(account.debt);
        (CREDIT_BASE.0 + earned).saturating_sub(unpaid)
    }

    /// Units that what the sender paid covers, beyond what it has unpaid now: nothing for a fresh identity, of which
    /// there are as many as anybody likes.
    pub(crate) fn cover(&mut self, now: Micros, sender: Address) -> u64 {
        self.room(now, sender).saturating_sub(CREDIT_BASE.0)
    }

    /// A request was given to a shard on behalf of a gang. Once per request: who came first pays.
    pub(crate) fn expose(
        &mut self,
        now: Micros,
        sender: Address,
        gang: B256,
        key: RequestKey,
        igas: Igas,
    ) {
        if self.owed.contains_key(&key) {
            return;
        }
        let igas = igas.0;
        self.owed.insert(key, Owed { sender, gang, igas });
        self.by_gang.entry(gang).or_default().insert(key);
        let account = self.account(now, sender);
        account.exposed = account.exposed.saturating_add(igas);
    }

    /// A transaction got into a block. What was computed for it and not consumed becomes debt.
    pub(crate) fn included(
        &mut self,
        now: Micros,
        gang: B256,
        sender: Address,
        igas: Igas,
        keys: &[RequestKey],
    ) {
        for key in keys {
            if let Some(owed) = self.owed.remove(key) {
                self.release(now, key, &owed);
            }
        }
        self.abandon(now, gang);
        let account = self.account(now, sender);
        account.paid = account.paid.saturating_add(igas.0);
    }

    /// A transaction is gone: what was computed for it alone becomes debt.
    pub(crate) fn abandon(&mut self, now: Micros, gang: B256) {
        for key in self.by_gang.remove(&gang).unwrap_or_default() {
            if let Some(owed) = self.owed.remove(&key) {
                self.release(now, &key, &owed);
                let account = self.account(now, owed.sender);
                account.debt = account.debt.saturating_add(owed.igas);
            }
        }
    }

    fn release(&mut self, now: Micros, key: &RequestKey, owed: &Owed) {
        let account = self.account(now, owed.sender);
        account.exposed = account.exposed.saturating_sub(owed.igas);
        if let Some(keys) = self.by_gang.get_mut(&owed.gang) {
            keys.remove(key);
            if keys.is_empty() {
                self.by_gang.remove(&owed.gang);
            }
        }
    }

    /// Whether the books add up.
    pub(crate) fn is_sound(&self) -> bool {
        let mut exposed: BTreeMap<Address, u64> = BTreeMap::new();
        for owed in self.owed.values() {
            *exposed.entry(owed.sender).or_default() += owed.igas;
        }
        let listed: usize = self.by_gang.values().map(BTreeSet::len).sum();
        listed == self.owed.len()
            && self.accounts.iter().all(|(sender, account)| {
                account.exposed == exposed.get(sender).copied().unwrap_or(0)
            })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALICE: Address = Address::repeat_byte(1);

    fn key(n: u8) -> RequestKey {
        RequestKey(B256::repeat_byte(n))
    }

    fn exposed() -> Credit {
        let mut credit = Credit::default();
        for n in 0..3 {
            credit.expose(Micros(0), ALICE, B256::repeat_byte(9), key(n), Igas(100));
        }
        credit
    }

    #[test]
    fn what_the_execution_did_not_use_becomes_debt_and_what_it_paid_becomes_credit() {
        let mut credit = exposed();
        assert_eq!(credit.room(Micros(0), ALICE), CREDIT_BASE.0 - 300);
        credit.included(Micros(0), B256::repeat_byte(9), ALICE, Igas(100), &[key(0)]);
        assert_eq!(credit.room(Micros(0), ALICE), CREDIT_BASE.0 + 100 - 200);
        assert!(credit.is_sound());
    }

    /// A thousand fresh identities had a thousand times the base.
    #[test]
    fn a_fresh_identity_has_room_but_no_cover() {
        let mut credit = Credit::default();
        assert_eq!(credit.room(Micros(0), ALICE), CREDIT_BASE.0);
        assert_eq!(credit.cover(Micros(0), ALICE), 0);
        credit.included(Micros(0), B256::ZERO, ALICE, Igas(5_000), &[]);
        assert_eq!(credit.cover(Micros(0), ALICE), 5_000);
    }

    #[test]
    fn a_request_is_charged_once_and_debt_decays() {
        let mut credit = exposed();
        credit.expose(
            Micros(0),
            Address::repeat_byte(2),
            B256::repeat_byte(8),
            key(0),
            Igas(100),
        );
        assert_eq!(
            credit.room(Micros(0), Address::repeat_byte(2)),
            CREDIT_BASE.0
        );
        credit.abandon(Micros(0), B256::repeat_byte(9));
        let day = Micros(24 * CREDIT_DECAY.0);
        let (before, after) = (credit.room(Micros(0), ALICE), credit.room(day, ALICE));
        assert_eq!(before, CREDIT_BASE.0 - 300);
        assert!(after > CREDIT_BASE.0 - 150 && after < CREDIT_BASE.0);
        assert!(credit.is_sound());
    }
}
