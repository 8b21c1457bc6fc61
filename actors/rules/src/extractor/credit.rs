//! What a sender may have computed before it has paid.
//!
//! ```text
//!  available = min(cap, initial + earned) - debt - exposure
//!  dispatched --> exposure --used by its block--> earned (a hundredth)
//!                     \-----not used, or dropped--> debt --> decays
//! ```

use crate::ids::{Igas, Micros};
use crate::invariants::{EXPOSURE, Violation};
use alloy_primitives::Address;
use std::collections::BTreeMap;

/// Limits on compute that nobody has paid for yet.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreditLimits {
    /// Speculative igas that a sender nobody knows may have dispatched. 2,000,000: two seconds of the reference shard,
    /// 64 requests of 30 ms in one round.
    pub initial: Igas,
    /// The most that anybody may. 60,000,000: a minute of the reference shard.
    pub cap: Igas,
    /// Percent of paid igas that become credit. 1, as ERC-7562's and geth's reputations: a hundred paid for one free.
    pub earn_percent: u8,
    /// Debt above which not even certain requests are dispatched. 600,000,000: ten minutes of the reference shard.
    pub debt_max: Igas,
    /// Debt and earned credit shrink by a sixteenth each time this passes. A minute: debt halves in eleven, so who
    /// wasted all of the initial credit gets it back at 3 % of a shard.
    pub decay_step: Micros,
    /// Senders that are remembered. 65,536: one for each transaction that the pool may hold.
    pub senders_max: usize,
}

impl Default for CreditLimits {
    fn default() -> Self {
        Self {
            initial: Igas(2_000_000),
            cap: Igas(60_000_000),
            earn_percent: 1,
            debt_max: Igas(600_000_000),
            decay_step: Micros::from_secs(60),
            senders_max: 65_536,
        }
    }
}

/// How surely a request is what the true execution asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It is the first unknown one.
    Certain,
    /// It was found behind a placeholder.
    Speculative,
}

#[derive(Clone, Copy, Debug, Default)]
struct Account {
    certain: u64,
    speculative: u64,
    debt: u64,
    earned: u64,
    /// Number of the decay step that debt and earned are of.
    step: u64,
}

impl Account {
    fn is_blank(&self) -> bool {
        self.certain == 0 && self.speculative == 0 && self.debt == 0 && self.earned == 0
    }
}

/// Every sender's exposure, credit and debt.
#[derive(Clone, Debug)]
pub struct Credit {
    limits: CreditLimits,
    accounts: BTreeMap<Address, Account>,
}

impl Credit {
    /// Nobody is known.
    #[must_use]
    pub fn new(limits: CreditLimits) -> Self {
        Self {
            limits,
            accounts: BTreeMap::new(),
        }
    }

    /// Speculative igas that may be dispatched for this sender now.
    #[must_use]
    pub fn available(&self, now: Micros, sender: Address) -> Igas {
        let account = self.view(now, sender);
        let allowance = self.limits.initial.0.saturating_add(account.earned);
        let used = account.debt.saturating_add(account.speculative);
        Igas(allowance.min(self.limits.cap.0).saturating_sub(used))
    }

    /// Whether the sender owes so much that nothing is dispatched for it.
    #[must_use]
    pub fn is_blocked(&self, now: Micros, sender: Address) -> bool {
        self.view(now, sender).debt > self.limits.debt_max.0
    }

    /// What the sender owes.
    #[must_use]
    pub fn debt(&self, now: Micros, sender: Address) -> Igas {
        Igas(self.view(now, sender).debt)
    }

    /// What was dispatched for the sender and is neither used nor given up: certain, speculative.
    #[must_use]
    pub fn exposure(&self, sender: Address) -> (Igas, Igas) {
        self.accounts.get(&sender).map_or((Igas(0), Igas(0)), |a| {
            (Igas(a.certain), Igas(a.speculative))
        })
    }

    /// Counts a request as dispatched.
    pub fn dispatch(&mut self, now: Micros, sender: Address, igas: Igas, kind: Kind) {
        let account = self.touch(now, sender);
        let side = side(account, kind);
        *side = side.saturating_add(igas.0);
    }

    /// A speculative request turned out to be certain.
    pub fn confirm(&mut self, now: Micros, sender: Address, igas: Igas) {
        self.release(now, sender, igas, Kind::Speculative);
        self.dispatch(now, sender, igas, Kind::Certain);
    }

    /// A block used it, and so it is paid for.
    pub fn used(&mut self, now: Micros, sender: Address, igas: Igas, kind: Kind) {
        self.release(now, sender, igas, kind);
        let gain = igas.0 / 100 * u64::from(self.limits.earn_percent)
            + igas.0 % 100 * u64::from(self.limits.earn_percent) / 100;
        let cap = self.limits.cap.0;
        let account = self.touch(now, sender);
        account.earned = account.earned.saturating_add(gain).min(cap);
        self.forget_if_blank(sender);
    }

    /// It was computed for nothing, as far as the chain goes.
    pub fn wasted(&mut self, now: Micros, sender: Address, igas: Igas, kind: Kind) {
        self.release(now, sender, igas, kind);
        let account = self.touch(now, sender);
        account.debt = account.debt.saturating_add(igas.0);
        self.bound();
    }

    fn release(&mut self, now: Micros, sender: Address, igas: Igas, kind: Kind) {
        let account = self.touch(now, sender);
        let side = side(account, kind);
        *side = side.saturating_sub(igas.0);
    }

    fn forget_if_blank(&mut self, sender: Address) {
        if self.accounts.get(&sender).is_some_and(Account::is_blank) {
            self.accounts.remove(&sender);
        }
    }

    /// Forgets senders beyond the limit: those with nothing dispatched, the least known first.
    fn bound(&mut self) {
        if self.accounts.len() <= self.limits.senders_max {
            return;
        }
        let idle = self
            .accounts
            .iter()
            .filter(|(_, a)| a.certain == 0 && a.speculative == 0);
        let mut least: Vec<_> = idle.map(|(s, a)| (a.debt.max(a.earned), *s)).collect();
        least.sort_unstable();
        // A sixteenth at once, so that the sort is not paid for each newcomer.
        let surplus = self.accounts.len() - self.limits.senders_max + self.limits.senders_max / 16;
        for (_, sender) in least.into_iter().take(surplus) {
            self.accounts.remove(&sender);
        }
    }

    fn step(&self, now: Micros) -> u64 {
        now.0 / self.limits.decay_step.0.max(1)
    }

    fn view(&self, now: Micros, sender: Address) -> Account {
        let step = self.step(now);
        let fresh = Account {
            step,
            ..Account::default()
        };
        decayed(self.accounts.get(&sender).copied().unwrap_or(fresh), step)
    }

    fn touch(&mut self, now: Micros, sender: Address) -> &mut Account {
        let step = self.step(now);
        let account = self.accounts.entry(sender).or_insert(Account {
            step,
            ..Account::default()
        });
        *account = decayed(*account, step);
        account
    }

    /// Whether nobody's speculative exposure is above the cap.
    ///
    /// # Errors
    /// Names a sender whose is.
    pub fn check(&self) -> Result<(), Violation> {
        for (sender, account) in &self.accounts {
            EXPOSURE.require(account.speculative <= self.limits.cap.0, || {
                format!("{sender}: {account:?}")
            })?;
        }
        Ok(())
    }
}

fn side(account: &mut Account, kind: Kind) -> &mut u64 {
    match kind {
        Kind::Certain => &mut account.certain,
        Kind::Speculative => &mut account.speculative,
    }
}

fn decayed(mut account: Account, step: u64) -> Account {
    while account.step < step {
        if account.debt == 0 && account.earned == 0 {
            account.step = step;
            break;
        }
        // At least one, so that it ends.
        account.debt -= account.debt.div_ceil(16);
        account.earned -= account.earned.div_ceil(16);
        account.step += 1;
    }
    account
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Micros = Micros(0);
    const ALICE: Address = Address::repeat_byte(1);

    fn credit() -> Credit {
        Credit::new(CreditLimits::default())
    }

    #[test]
    fn exposure_lowers_what_is_available_until_it_is_used() {
        let mut credit = credit();
        credit.dispatch(NOW, ALICE, Igas(500_000), Kind::Speculative);
        credit.dispatch(NOW, ALICE, Igas(900_000), Kind::Certain);
        assert_eq!(credit.available(NOW, ALICE), Igas(1_500_000));
        credit.used(NOW, ALICE, Igas(500_000), Kind::Speculative);
        assert_eq!(credit.available(NOW, ALICE), Igas(2_005_000));
        assert_eq!(credit.exposure(ALICE), (Igas(900_000), Igas(0)));
    }

    #[test]
    fn waste_becomes_debt_and_decays() {
        let mut credit = credit();
        credit.dispatch(NOW, ALICE, Igas(2_000_000), Kind::Speculative);
        assert_eq!(credit.available(NOW, ALICE), Igas(0));
        credit.wasted(NOW, ALICE, Igas(2_000_000), Kind::Speculative);
        assert_eq!(credit.available(NOW, ALICE), Igas(0));
        let after = |minutes: u64| credit.available(Micros::from_secs(minutes * 60), ALICE);
        assert_eq!(after(1), Igas(125_000));
        assert!(after(11) > Igas(1_000_000), "half is back");
        assert_eq!(after(100_000), Igas(2_000_000), "all is back, and no more");
    }

    #[test]
    fn a_confirmed_request_leaves_room_for_speculation() {
        let mut credit = credit();
        credit.dispatch(NOW, ALICE, Igas(2_000_000), Kind::Speculative);
        credit.confirm(NOW, ALICE, Igas(2_000_000));
        assert_eq!(credit.available(NOW, ALICE), Igas(2_000_000));
    }

    #[test]
    fn great_debt_blocks_even_certain_requests() {
        let mut credit = credit();
        credit.dispatch(NOW, ALICE, Igas(600_000_001), Kind::Certain);
        assert!(!credit.is_blocked(NOW, ALICE));
        credit.wasted(NOW, ALICE, Igas(600_000_001), Kind::Certain);
        assert!(credit.is_blocked(NOW, ALICE));
        assert!(!credit.is_blocked(Micros::from_secs(60), ALICE));
    }

    #[test]
    fn memory_is_bounded_and_keeps_who_matters() {
        let mut credit = Credit::new(CreditLimits {
            senders_max: 16,
            ..CreditLimits::default()
        });
        for n in 1..=100u8 {
            let sender = Address::repeat_byte(n);
            credit.dispatch(NOW, sender, Igas(u64::from(n)), Kind::Certain);
            credit.wasted(NOW, sender, Igas(u64::from(n)), Kind::Certain);
        }
        assert!(credit.accounts.len() <= 16);
        assert_eq!(credit.debt(NOW, Address::repeat_byte(100)), Igas(100));
    }
}
