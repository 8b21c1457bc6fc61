//! Where execution looks up what requests came to.

use penstock_rules::ids::RequestKey;
use penstock_rules::request::Settled;
use std::collections::BTreeMap;
use std::sync::Arc;

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
