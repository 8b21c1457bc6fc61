//! Where execution looks up what requests came to.

use penstock_rules::ids::RequestKey;
use penstock_rules::request::Settled;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Settled answers by key. Who fills it has checked the attestations' signatures ([`crate::attest()`]); execution counts
/// them against the quorum and the shard registry.
pub trait Results: Send + Sync {
    /// The settled answer, where there is one.
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>>;
}

/// No results at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoResults;

impl Results for NoResults {
    fn outcome(&self, _key: &RequestKey) -> Option<Arc<Settled>> {
        None
    }
}

impl Results for BTreeMap<RequestKey, Arc<Settled>> {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        self.get(key).cloned()
    }
}

/// Results as they are when each is first asked for, whatever is settled meanwhile.
///
/// A discovery runs a transaction several times, and compares. Answers keep coming while it does: without this, one that
/// came between two runs would be unknown in one and known in the other, and nothing would be asked for in both.
pub(crate) struct Snapshot<'a> {
    live: &'a dyn Results,
    seen: Mutex<BTreeMap<RequestKey, Option<Arc<Settled>>>>,
}

impl<'a> Snapshot<'a> {
    pub(crate) fn of(live: &'a dyn Results) -> Self {
        Self {
            live,
            seen: Mutex::default(),
        }
    }
}

impl Results for Snapshot<'_> {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let look = || self.live.outcome(key);
        seen.entry(*key).or_insert_with(look).clone()
    }
}
