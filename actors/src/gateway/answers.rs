//! Where a call finds the answers of its requests: at the shards, or among those that its client gave.

use super::traces::blocking;
use crate::results::ResultBook;
use penstock_evm::{Backend, Results, given};
use penstock_rpc::{Given, RpcError};
use penstock_rules::ids::RequestKey;
use penstock_rules::message::GangRequest;
use penstock_rules::request::Settled;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Answers that a run may use. Cheap to clone.
#[derive(Clone)]
pub(super) enum Answers {
    /// What shards say; what is missing can be asked for.
    Shards(ResultBook),
    /// What the client says; what is missing stays missing.
    Given(Arc<BTreeMap<RequestKey, Arc<Settled>>>),
}

impl Answers {
    /// Those of the client, taken for those of all shards that `state` has registered.
    pub(super) async fn of_client(
        outputs: Given,
        state: Arc<dyn Backend>,
    ) -> Result<Self, RpcError> {
        let settled = blocking(move || given(&*state, outputs)).await?;
        let settled = settled.map_err(|error| RpcError::Internal(error.to_string()))?;
        Ok(Self::Given(Arc::new(settled)))
    }

    /// The error of a run that lacks these, where nobody can be asked.
    pub(super) fn lacking(&self, requests: &[GangRequest]) -> Option<RpcError> {
        match self {
            Self::Shards(_) => None,
            Self::Given(_) => {
                // What is found behind a placeholder need not be what the execution asks for.
                let certain = requests.iter().filter(|request| request.certain);
                let mut keys: Vec<_> = certain.map(|request| request.key).collect();
                if keys.is_empty() {
                    keys = requests.iter().map(|request| request.key).collect();
                }
                Some(RpcError::AnswerMissing(keys))
            }
        }
    }
}

impl Results for Answers {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        match self {
            Self::Shards(book) => book.outcome(key),
            Self::Given(given) => given.outcome(key),
        }
    }
}
