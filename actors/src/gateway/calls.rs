//! Calls with real inference: run; where an answer is missing, ask for it, wait, and run again.

use super::answers::Answers;
use super::reader::store_error;
use super::{Gateway, micros};
use crate::shell::now;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use alloy_rpc_types_eth::state::StateOverride;
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use parking_lot::Mutex;
use penstock_evm::predeploys::{INFERENCE_MARKET, MULTIPLIER_SLOT};
use penstock_evm::{
    AccountOverride, Backend, BlockEnv, CallOutcome, CallRequest, ChainSpec, Historic, Results,
    call, env_of, estimate,
};
use penstock_rpc::{At, ChainReader, Given, Overrides, RpcError};
use penstock_rules::ids::{Height, RequestKey};
use penstock_rules::message::{Class, Deferral, Gang, GangRequest, Role, Withdraw};
use penstock_rules::tx::Reason;
use penstock_wire::encode;
use penstock_wire::trace::TraceParent;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use tokio::sync::broadcast;
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;
use tracing::{debug, warn};

/// How often a call that waits looks again and repeats what it asks for: the bus may have lost either message.
const REPEAT: Duration = Duration::from_millis(500);
/// Rounds of one call: links of a chain of requests. Each takes an inference, so the deadline comes first.
const ROUNDS_MAX: u32 = 64;
/// An estimate is made at this multiple of today's multiplier, in halves: so it holds while the price rises by half,
/// which takes at least four full blocks. What is not used is not paid.
const MULTIPLIER_MARGIN_HALVES: u64 = 3;

/// Calls that are under way.
pub struct Calls {
    places: Semaphore,
    places_max: usize,
    waiting: Mutex<HashMap<B256, Option<Reason>>>,
    next: AtomicU64,
}

impl Calls {
    /// None yet.
    pub fn new(places_max: usize) -> Self {
        Self {
            places: Semaphore::new(places_max),
            places_max,
            waiting: Mutex::default(),
            next: AtomicU64::default(),
        }
    }

    /// How many wait for inference.
    pub fn waiting(&self) -> usize {
        self.waiting.lock().len()
    }

    /// The scheduler does not compute a gang now.
    pub fn deferred(&self, deferral: &Deferral) {
        if let Some(reason) = self.waiting.lock().get_mut(&deferral.id) {
            *reason = Some(deferral.reason);
        }
    }

    fn place(&self) -> Result<SemaphorePermit<'_>, RpcError> {
        self.places
            .try_acquire()
            .map_err(|_| RpcError::TooManyCalls(self.places_max))
    }

    /// An id that no other gang has: its time and number, and where in memory this process keeps its counter.
    fn id(&self) -> B256 {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = std::ptr::from_ref(&self.next) as u64;
        let parts = [now().0, number, place, u64::from(std::process::id())];
        keccak256(parts.map(u64::to_be_bytes).concat())
    }
}

/// A gang that a call waits for. Dropped before it is done, it is withdrawn: the client went, or time is up.
struct Waiting<'a> {
    gateway: &'a Gateway,
    id: B256,
}

impl<'a> Waiting<'a> {
    fn new(gateway: &'a Gateway) -> Self {
        let id = gateway.calls.id();
        gateway.calls.waiting.lock().insert(id, None);
        Self { gateway, id }
    }

    fn reason(&self) -> Option<Reason> {
        self.gateway.calls.waiting.lock().get(&self.id).copied()?
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.gateway.calls.waiting.lock().remove(&self.id);
        let (bus, subject) = (
            self.gateway.transport.bus.clone(),
            self.gateway.subjects.withdraw(),
        );
        let message = encode(&Withdraw { id: self.id });
        let trace = TraceParent::of(self.id, Role::Gateway.name());
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(async move {
                if let Err(error) = bus.publish_traced(&subject, message, &[trace]).await {
                    debug!(%error, "withdrawal was not sent");
                }
            });
        }
    }
}

/// What is run, again and again until nothing is missing.
#[derive(Clone)]
pub(super) struct Job {
    pub(super) state: Arc<dyn Backend>,
    pub(super) spec: Arc<ChainSpec>,
    pub(super) env: BlockEnv,
    pub(super) request: CallRequest,
    pub(super) answers: Answers,
    kind: Kind,
}

#[derive(Clone, Copy)]
pub(super) enum Kind {
    Call,
    Estimate,
}

impl Gateway {
    /// `eth_call`.
    pub(super) async fn run_call(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<Bytes, RpcError> {
        let job = self.job(request, at, overrides, Kind::Call).await?;
        match self.run(job).await? {
            CallOutcome::Returned { output, .. } => Ok(output),
            other => Err(failed(other)),
        }
    }

    /// `eth_estimateGas`.
    pub(super) async fn run_estimate(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
    ) -> Result<u64, RpcError> {
        let job = self.job(request, at, overrides, Kind::Estimate).await?;
        let gas_max = gas_max(&job);
        let dearer = self.run(with_margin(job.clone())).await?;
        if let CallOutcome::Returned { gas_used, .. } = dearer {
            return Ok(gas_used);
        }
        // At a higher price it may not fit into a transaction; at today's it may.
        match self.run(job).await? {
            CallOutcome::Returned { gas_used, .. } => Ok(gas_used),
            CallOutcome::Halted { reason, .. } if is_out_of_gas(&reason) => {
                Err(RpcError::GasAllowance(gas_max))
            }
            other => Err(failed(other)),
        }
    }

    pub(super) async fn job(
        &self,
        request: TransactionRequest,
        at: At,
        overrides: Overrides,
        kind: Kind,
    ) -> Result<Job, RpcError> {
        let head = self.head();
        let state = || Arc::new(head.chain.state.clone());
        let (state, mut env): (Arc<dyn Backend>, _) = match at {
            At::Pending => (state(), head.env()),
            At::Head => (state(), env_of(&head.chain.header)),
            At::Height(height) => match self.blocks.state(height) {
                Some(chain) => (Arc::new(chain.state.clone()), env_of(&chain.header)),
                None => {
                    let block = ChainReader::block_by_height(self, height).await?;
                    let block = block.ok_or(RpcError::HeaderNotFound)?;
                    let state = self.store.at(height).map_err(store_error)?;
                    (Arc::new(Historic(state)), env_of(&block.header))
                }
            },
        };
        if let Some(block) = &overrides.block {
            override_block(&mut env, block);
        }
        let mut request = convert(request)?;
        let answers = self.answers(overrides.answers, &state).await?;
        request.overrides = override_accounts(overrides.state)?;
        Ok(Job {
            state,
            spec: head.chain.spec.clone(),
            env,
            request,
            answers,
            kind,
        })
    }

    /// What counts as answers in a run on `state`.
    pub(super) async fn answers(
        &self,
        given: Option<Given>,
        state: &Arc<dyn Backend>,
    ) -> Result<Answers, RpcError> {
        match given {
            Some(outputs) => Answers::of_client(outputs, state.clone()).await,
            None => Ok(Answers::Shards(self.results.clone())),
        }
    }

    /// State of the block at `height`, from memory or from the store.
    pub(super) fn backend(&self, height: Height) -> Result<Arc<dyn Backend>, RpcError> {
        Ok(match self.blocks.state(height) {
            Some(chain) => Arc::new(chain.state.clone()),
            None => Arc::new(Historic(self.store.at(height).map_err(store_error)?)),
        })
    }

    /// Runs until nothing is missing, or the deadline passes.
    pub(super) async fn run(&self, job: Job) -> Result<CallOutcome, RpcError> {
        self.until_answered(job.request.from, &job.answers, || {
            let job = job.clone();
            move || {
                let run = match job.kind {
                    Kind::Call => call,
                    Kind::Estimate => estimate,
                };
                match run(&*job.state, &job.spec, &job.env, &job.request, &job.answers) {
                    CallOutcome::Missing { requests } => Err(requests),
                    outcome => Ok(outcome),
                }
            }
        })
        .await
    }

    /// Runs what `run` makes, on a blocking thread, until it has no requests left that it waits for, or the deadline
    /// passes. `from` is whose requests these are. `answers` is what the runs look into: where the client gave them, nobody
    /// is asked for others.
    pub(super) async fn until_answered<T, R>(
        &self,
        from: Address,
        answers: &Answers,
        run: impl Fn() -> R,
    ) -> Result<T, RpcError>
    where
        T: Send + 'static,
        R: FnOnce() -> Result<T, Vec<GangRequest>> + Send + 'static,
    {
        let _place = self.calls.place()?;
        let start = Instant::now();
        let deadline = start + self.config.call_deadline;
        let mut waiting: Option<Waiting<'_>> = None;
        for round in 1..=ROUNDS_MAX {
            // Subscribed before the run, so that no answer comes unseen between run and wait.
            let settled = self.results.subscribe();
            let done = tokio::task::spawn_blocking(run()).await;
            let requests = match done.map_err(|error| RpcError::Internal(error.to_string()))? {
                Err(requests) => requests,
                Ok(outcome) => return Ok(outcome),
            };
            if let Some(error) = answers.lacking(&requests) {
                return Err(error);
            }
            let waiting = waiting.get_or_insert_with(|| Waiting::new(self));
            let gang = self.gang(waiting.id, from, round, requests, deadline);
            if let Err(missing) = self.wait(&gang, settled, deadline).await {
                let reason = waiting.reason();
                return Err(RpcError::InferenceNotReady {
                    missing,
                    waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
                    reason: reason
                        .map_or("no answer yet", penstock_rpc::pipe::reason_name)
                        .into(),
                });
            }
        }
        Err(RpcError::InferenceNotReady {
            missing: 1,
            waited_ms: u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            reason: format!("more than {ROUNDS_MAX} rounds"),
        })
    }

    fn gang(
        &self,
        id: B256,
        sender: Address,
        round: u32,
        requests: Vec<GangRequest>,
        deadline: Instant,
    ) -> Gang {
        let left = deadline.saturating_duration_since(Instant::now());
        Gang {
            id,
            sender,
            nonce: 0,
            value: 0,
            class: Class::Call,
            round,
            arrival: self.head().block.height(),
            deadline: Some(now().saturating_add(micros(left))),
            requests,
        }
    }

    /// Asks for a gang and waits until all that it certainly needs is answered; an error with what is missing where
    /// that takes too long.
    async fn wait(
        &self,
        gang: &Gang,
        mut settled: broadcast::Receiver<RequestKey>,
        deadline: Instant,
    ) -> Result<(), usize> {
        loop {
            self.ask(gang).await;
            let again = deadline.min(Instant::now() + REPEAT);
            loop {
                if self.missing(gang) == 0 {
                    return Ok(());
                }
                // Which key was settled does not matter: that one was, or some were lost, is reason to look.
                match tokio::time::timeout_at(again, settled.recv()).await {
                    Ok(Err(broadcast::error::RecvError::Closed)) => return Err(self.missing(gang)),
                    Ok(_) => {}
                    Err(_) => break,
                }
            }
            if Instant::now() >= deadline {
                return Err(self.missing(gang));
            }
        }
    }

    /// Certain requests without an answer; all of them where none is certain.
    fn missing(&self, gang: &Gang) -> usize {
        let any_certain = gang.requests.iter().any(|request| request.certain);
        gang.requests
            .iter()
            .filter(|request| request.certain || !any_certain)
            .filter(|request| self.results.outcome(&request.key).is_none())
            .count()
    }

    async fn ask(&self, gang: &Gang) {
        let subject = self.subjects.gang();
        let trace = TraceParent::of(gang.id, Role::Gateway.name());
        let bus = &self.transport.bus;
        if let Err(error) = bus.publish_traced(&subject, encode(gang), &[trace]).await {
            warn!(%error, "inference was not asked for");
        }
    }
}

/// The error of an outcome that is no success.
pub(super) fn failed(outcome: CallOutcome) -> RpcError {
    match outcome {
        CallOutcome::Reverted { output, .. } => RpcError::Reverted(output),
        CallOutcome::Halted { reason, .. } => RpcError::halted(&reason),
        CallOutcome::Invalid(why) => RpcError::rejected(&why),
        CallOutcome::Returned { .. } | CallOutcome::Missing { .. } => {
            RpcError::Internal("call ended without an outcome".into())
        }
    }
}

fn is_out_of_gas(reason: &str) -> bool {
    reason
        .to_ascii_lowercase()
        .replace([' ', '_'], "")
        .contains("outofgas")
}

fn gas_max(job: &Job) -> u64 {
    let most = job.spec.tx_gas_limit_max();
    job.request.gas.map_or(most, |gas| gas.min(most))
}

/// The job at a higher multiplier: what it takes without inference is the same.
fn with_margin(mut job: Job) -> Job {
    // A state that can't be read fails the run itself.
    let multiplier = job.state.slot(INFERENCE_MARKET, MULTIPLIER_SLOT);
    let dearer =
        multiplier.unwrap_or_default() * U256::from(MULTIPLIER_MARGIN_HALVES) / U256::from(2);
    let market = job.request.overrides.entry(INFERENCE_MARKET).or_default();
    if market.state.is_none() {
        market.state_diff.entry(MULTIPLIER_SLOT).or_insert(dearer);
    }
    job
}

fn convert(request: TransactionRequest) -> Result<CallRequest, RpcError> {
    if request.authorization_list.is_some() || request.blob_versioned_hashes.is_some() {
        return Err(RpcError::InvalidParams(
            "calls with authorizations or blobs are not supported".into(),
        ));
    }
    let access_list = request.access_list.unwrap_or_default();
    Ok(CallRequest {
        from: request.from.unwrap_or_default(),
        to: match request.to {
            Some(TxKind::Call(to)) => Some(to),
            Some(TxKind::Create) | None => None,
        },
        value: request.value.unwrap_or_default(),
        data: request.input.into_input().unwrap_or_default(),
        gas: request.gas,
        gas_price: request.gas_price.or(request.max_fee_per_gas),
        access_list: access_list
            .0
            .into_iter()
            .map(|item| (item.address, item.storage_keys))
            .collect(),
        overrides: BTreeMap::new(),
    })
}

pub(super) fn override_accounts(
    overrides: Option<StateOverride>,
) -> Result<BTreeMap<Address, AccountOverride>, RpcError> {
    let slots = |map: alloy_primitives::map::B256HashMap<B256>| {
        map.into_iter()
            .map(|(slot, value)| (slot.into(), value.into()))
            .collect::<BTreeMap<U256, U256>>()
    };
    overrides
        .unwrap_or_default()
        .into_iter()
        .map(|(address, account)| {
            if account.move_precompile_to.is_some() {
                return Err(RpcError::InvalidParams(
                    "precompiles can't be moved here".into(),
                ));
            }
            if account.state.is_some() && account.state_diff.is_some() {
                return Err(RpcError::InvalidParams(format!(
                    "account {address} has both 'state' and 'stateDiff'"
                )));
            }
            let account = AccountOverride {
                balance: account.balance,
                nonce: account.nonce,
                code: account.code,
                state: account.state.map(slots),
                state_diff: account.state_diff.map(slots).unwrap_or_default(),
            };
            Ok((address, account))
        })
        .collect()
}

fn override_block(env: &mut BlockEnv, block: &BlockOverrides) {
    if let Some(number) = block.number {
        env.number = Height(number.saturating_to());
    }
    if let Some(time) = block.time {
        env.timestamp = time;
    }
    if let Some(gas_limit) = block.gas_limit {
        env.gas_limit = gas_limit;
    }
    if let Some(coinbase) = block.coinbase {
        env.coinbase = coinbase;
    }
    if let Some(random) = block.random {
        env.prevrandao = random;
    }
    if let Some(base_fee) = block.base_fee {
        env.base_fee = base_fee.saturating_to();
    }
}
