//! Whether the extractor's invariants hold.

use super::Extractor;
use super::credit::Kind;
use super::lane::State;
use crate::ids::Igas;
use crate::invariants::{
    EXPOSURE_COUNTED, GANG_INDEXED, GANG_REPEATED, NONCE_CHAIN, ONE_DISCOVERY, READY_NEEDS_NOTHING,
    ROUNDS_BOUNDED, Violation,
};

impl Extractor {
    /// Whether the extractor's invariants hold.
    ///
    /// # Errors
    /// The first that does not.
    pub fn check(&self) -> Result<(), Violation> {
        self.credit.check()?;
        let (mut running, mut count, mut waits, mut announced, mut repeats) = (0, 0, 0, 0, 0);
        for (sender, lane) in &self.lanes {
            running += usize::from(lane.running.is_some());
            count += lane.txs.len();
            let mut open = true;
            let (mut certain, mut speculative) = (Igas(0), Igas(0));
            for (nonce, tx) in &lane.txs {
                let hash = tx.tx.hash;
                let who = || format!("{hash} of {sender} at {nonce}");
                GANG_INDEXED.require(self.places.get(&hash) == Some(&(*sender, *nonce)), who)?;
                ROUNDS_BOUNDED.require(
                    tx.round <= self.limits.rounds_max
                        && tx.dispatched.len() <= self.limits.dispatched_max,
                    who,
                )?;
                for dispatched in tx.dispatched.values() {
                    let sum = match dispatched.kind {
                        Kind::Certain => &mut certain,
                        Kind::Speculative => &mut speculative,
                    };
                    *sum = sum.saturating_add(dispatched.igas);
                }
                if let State::Waiting(waiting) = &tx.state {
                    waits += waiting.gang.requests.len();
                    for request in &waiting.gang.requests {
                        let waiters = self.waiters.get(&request.key);
                        GANG_INDEXED.require(waiters.is_some_and(|w| w.contains(&hash)), who)?;
                    }
                    let due = self.repeats.contains(&(waiting.repeat_at, hash));
                    repeats += usize::from(due);
                    GANG_REPEATED.require(due != waiting.gang.requests.is_empty(), who)?;
                }
                open &= tx.is_ready();
                if let Some(at) = tx.announced {
                    announced += 1;
                    NONCE_CHAIN.require(open && self.announced.contains(&(at, hash)), who)?;
                }
            }
            EXPOSURE_COUNTED.require(
                self.credit.exposure(*sender) == (certain, speculative),
                || format!("{sender}: {certain:?} {speculative:?}"),
            )?;
        }
        ONE_DISCOVERY.require(
            running == self.discoveries && running <= self.limits.discoveries_max,
            || format!("{running} run, {} counted", self.discoveries),
        )?;
        // As many entries as waits: so none names a transaction that is ready, held or gone.
        let waiters: usize = self
            .waiters
            .values()
            .map(std::collections::BTreeSet::len)
            .sum();
        READY_NEEDS_NOTHING.require(waiters == waits, || format!("{waiters} for {waits}"))?;
        GANG_REPEATED.require(repeats == self.repeats.len(), || {
            format!("{} repeats for {repeats} gangs", self.repeats.len())
        })?;
        NONCE_CHAIN.require(announced == self.announced.len(), || {
            format!("{} announced, {announced} known", self.announced.len())
        })?;
        GANG_INDEXED.require(count == self.places.len(), || {
            format!("{count} transactions, {} places", self.places.len())
        })
    }
}
