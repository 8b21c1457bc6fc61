//! What a transaction asked models for, and what a call would.

use crate::attest::Attesters;
use crate::call::{CallOutcome, CallRequest, Caller, failed, outcome};
use crate::overlay::{Backend, BackendError, View};
use crate::precompile::Used;
use crate::results::Results;
use crate::run::{Checks, Manner, run};
use crate::spec::{BlockEnv, ChainSpec};
use crate::trace::{BlockToTrace, Only, TraceError, replay};
use alloy_primitives::Bytes;
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::request::{Attestation, Outcome, Request, Settled};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// A request that a transaction consumed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Consumed {
    /// Its identity.
    pub key: RequestKey,
    /// Model, mode and input.
    pub request: Request,
    /// Inference units of one use; a repeated request is paid for again.
    pub igas: Igas,
}

impl From<Used> for Consumed {
    fn from(used: Used) -> Self {
        Self {
            key: used.key,
            request: used.request,
            igas: used.igas,
        }
    }
}

/// The requests of the transaction at `index` of a block, each once, in order of first use, and what it paid for.
///
/// # Errors
/// See [`TraceError`].
pub fn consumed(
    block: &BlockToTrace<'_>,
    index: usize,
) -> Result<(Vec<Consumed>, Igas), TraceError> {
    let (mut requests, mut igas) = (Vec::new(), Igas(0));
    replay(block, Only::Index(index), &mut |turn| {
        let last = turn.index == index;
        let (done, trace) = turn.run_traced()?;
        if last {
            igas = trace.igas;
            requests = trace.used.into_iter().map(Consumed::from).collect();
        }
        Ok(done)
    })?;
    Ok((requests, igas))
}

/// What a call would ask models for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InferenceEstimate {
    /// Rounds of discovery from no known answer on: links of the longest chain of requests.
    pub rounds: Vec<Vec<RequestKey>>,
    /// Requests, each once, in order of first use.
    pub requests: Vec<Consumed>,
    /// Inference units that it pays for (a repeated request counts again).
    pub igas: Igas,
    /// Gas that these cost at the state's multiplier.
    pub inference_gas: u64,
    /// What the call comes to.
    pub outcome: CallOutcome,
}

/// Answers of which only those count that somebody has asked for in an earlier round.
struct Revealed<'a> {
    all: &'a dyn Results,
    known: Mutex<BTreeMap<RequestKey, Arc<Settled>>>,
}

impl Results for Revealed<'_> {
    fn outcome(&self, key: &RequestKey) -> Option<Arc<Settled>> {
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        known.get(key).cloned()
    }
}

/// Runs a call round by round, as discovery of a transaction does, with answers that are all there.
///
/// # Errors
/// [`CallOutcome::Missing`] with what is not there; [`CallOutcome::Invalid`] where the call can't run.
pub fn estimate_inference(
    state: &dyn Backend,
    spec: &ChainSpec,
    env: &BlockEnv,
    request: &CallRequest,
    results: &dyn Results,
) -> Result<InferenceEstimate, CallOutcome> {
    let revealed = Revealed {
        all: results,
        known: Mutex::default(),
    };
    let caller = Caller::new(state, spec, env, request, &revealed)
        .map_err(|error| CallOutcome::Invalid(error.to_string()))?;
    let mut rounds = Vec::new();
    while let CallOutcome::Missing { mut requests } = caller.run(request, caller.gas_limit) {
        let mut known = revealed
            .known
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut round = Vec::new();
        requests.retain(|asked| match revealed.all.outcome(&asked.key) {
            Some(settled) => {
                known.insert(asked.key, settled);
                round.push(asked.key);
                false
            }
            // What is found behind a placeholder need not be what the execution asks for.
            None => asked.certain,
        });
        if !requests.is_empty() || round.is_empty() {
            return Err(CallOutcome::Missing { requests });
        }
        rounds.push(round);
    }
    let view = View {
        below: caller.state,
        changes: &caller.changes,
    };
    let manner = Manner {
        checks: Checks::Call,
        ..Manner::EXECUTE
    };
    let tx = caller.tx(request, caller.gas_limit);
    let (done, trace) = run(caller.scene(), view, tx, manner);
    let done = done.map_err(|error| failed(error, caller.gas_limit))?;
    Ok(InferenceEstimate {
        rounds,
        igas: trace.igas,
        inference_gas: trace.inference_gas,
        requests: trace.used.into_iter().map(Consumed::from).collect(),
        outcome: outcome(done.result),
    })
}

/// Answers as a test has them: taken for those of all registered shards, though none signed them.
///
/// # Errors
/// Where the state can't be read.
pub fn given(
    state: &dyn Backend,
    outputs: impl IntoIterator<Item = (RequestKey, Bytes)>,
) -> Result<BTreeMap<RequestKey, Arc<Settled>>, BackendError> {
    let attestations: Vec<_> = Attesters::of(state)?
        .shards
        .into_iter()
        .map(|shard| Attestation {
            shard,
            signature: Bytes::new(),
        })
        .collect();
    let settled = |(key, output)| {
        let settled = Settled {
            key,
            outcome: Outcome::Output(output),
            attestations: attestations.clone(),
        };
        (key, Arc::new(settled))
    };
    Ok(outputs.into_iter().map(settled).collect())
}
