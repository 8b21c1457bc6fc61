//! The invariant catalogue: what must hold at every moment, by id.
//!
//! Documents, machines, the simulator and production counters name invariants by the ids of this file. A machine that
//! keeps some of them has `check(&self) -> Result<(), Violation>`; those that span actors are checked by the simulator.

/// A property that holds at every moment, or at every event of its kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Invariant {
    /// Short name, stable for ever.
    pub id: &'static str,
    /// The property, as a sentence.
    pub says: &'static str,
}

/// An invariant that does not hold.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("invariant {} is broken ({}): {detail}", .invariant.id, .invariant.says)]
pub struct Violation {
    /// Which.
    pub invariant: Invariant,
    /// What was found, with its culprits.
    pub detail: String,
}

impl Invariant {
    /// Fails with `detail` unless `holds`.
    ///
    /// # Errors
    /// Where it does not hold.
    pub fn require(self, holds: bool, detail: impl FnOnce() -> String) -> Result<(), Violation> {
        if holds {
            return Ok(());
        }
        Err(Violation {
            invariant: self,
            detail: detail(),
        })
    }
}

macro_rules! catalogue {
    ($($name:ident = $id:literal, $says:literal;)*) => {
        $(
            #[doc = concat!($id, ": ", $says, ".")]
            pub const $name: Invariant = Invariant { id: $id, says: $says };
        )*

        /// All of them.
        pub const ALL: &[Invariant] = &[$($name),*];
    };
}

catalogue! {
    // The chain.
    ACCEPTED_STAYS = "I0", "a transaction whose hash was returned is in the pool until a block has it or it is dropped with a reason";
    ATOMIC_GANG = "I1", "a transaction is in a block only with valid attested results for the exact input at its place, and for no other input";
    NO_WAIT = "I2", "a block is on time whatever the shards do";
    INCLUDED_ONCE = "C1", "a transaction is in at most one block, unless a person took the state back to before it";
    ONE_BLOCK_PER_HEIGHT = "C2", "every follower has the same block at a height";
    NONCE_ORDER = "C3", "a sender's transactions are included in nonce order, without gaps";
    NOTHING_UNVERIFIED = "C4", "a follower takes no block whose witness it did not verify";
    PROGRESS = "C5", "once faults end, every transaction that can be included is";

    // The scheduler.
    FEASIBLE_PLAN = "I3", "per shard, what is planned fits before the deadline of its pass, with margin, batch cap and residency";
    WHOLE_PLAN = "I4", "after planning no transaction has some requests placed in the first pass and others not";
    NO_INVERSION = "I5", "who is placed pays at least what an outbid one pays, or is bound, due, or smaller";
    THIS_BLOCK_FIRST = "I6", "no batch for the next block precedes one for this block on a shard";
    TICKET = "I7", "every ticket is included by its due height, or invalidated by its sender, or capacity fell below the promise";
    STICKY = "I8", "a committed transaction is never displaced by a later arrival";
    SETTLED_ONCE = "I9", "a request key settles once, with one outcome, and at most one execution of it is charged";
    LEASED = "I10", "a request is absent, in flight under a lease that ends, or done; none is lost";
    EXPOSURE = "I11", "compute that is dispatched and unpaid is within the sender's credit";
    CONSERVATION = "I12", "what is paid equals what is burned and received; a deferral moves no money";
    FEE_RULE = "I13", "the price depends on the header chain alone, stays above its floor and moves by its bound at most";
    SAME_PLAN = "I14", "equal snapshots give byte-identical plans, in whatever order the pool was filled";
    BITWISE_OUTPUT = "I15", "an outcome is the same on every shard, in every batch and in every hedge copy";
    WEAK_DUALITY = "I16", "included value is at most the dual bound";
    WORK_CONSERVED = "I17", "no shard idles beside feasible work, but for a declared wait for a fuller batch";
    MONOTONE = "I18", "a higher tip never turns a dispatch into a deferral";
    NONCE_CHAIN = "I19", "a transaction is announced as ready only when all its sender's earlier ones are";
    SYBIL_NEUTRAL = "I20", "splitting over identities raises neither tickets nor exposure beyond the global caps";
    SINGLE_FLIGHT = "I21", "equal concurrent requests are executed once, and one waiter's leaving leaves the others served";
    REASONED = "I22", "every deferral and refusal has a reason";

    // The pool.
    POOL_INDEXED = "P1", "the pool's indexes name exactly the transactions that its lanes hold, one per sender and nonce";
    POOL_PENDING = "P2", "pending are exactly a lane's transactions from the account's nonce on, without gap, that its balance covers together";
    POOL_BOUNDED = "P3", "the pool holds no more transactions and bytes, in all and per sender, than its limits say";
    POOL_RANKED = "P4", "the pool knows for each lane what its tail is worth, at today's base fee";

    // The extractor.
    GANG_INDEXED = "X1", "who waits for a request is found by its key, and nobody else is";
    ONE_DISCOVERY = "X2", "a lane has one discovery in flight at most, and the total is bounded";
    READY_NEEDS_NOTHING = "X3", "a ready transaction waits for no request";
    EXPOSURE_COUNTED = "X4", "a sender's exposure is the sum of what was dispatched for its transactions";
    GANG_REPEATED = "X5", "a gang that was submitted and not withdrawn is due to be sent again";
    ROUNDS_BOUNDED = "X6", "rounds and requests of a transaction are within their limits";
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn ids_are_unique_and_every_property_is_said() {
        let ids: BTreeSet<_> = ALL.iter().map(|i| i.id).collect();
        assert_eq!(ids.len(), ALL.len());
        assert!(ALL.iter().all(|i| i.says.len() > 10));
    }

    #[test]
    fn a_violation_names_the_invariant_and_the_culprit() {
        let broken = EXPOSURE.require(false, || "sender 7".into()).unwrap_err();
        assert_eq!(broken.invariant, EXPOSURE);
        assert!(broken.to_string().contains("I11"));
        assert!(broken.to_string().contains("sender 7"));
        assert_eq!(EXPOSURE.require(true, String::new), Ok(()));
    }
}
