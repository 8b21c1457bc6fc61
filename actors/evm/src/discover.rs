//! Discovery: which requests a pending transaction waits for.
//!
//! A transaction runs on the next block's state and in its environment. Up to the first request whose result is not
//! known this *is* its execution, so that request is certain. Execution would end there. Discovery goes on, in two
//! worlds with two different placeholder outputs, and takes those further requests that both worlds ask for: what
//! depends on the unknown output differs between them, and waits for its round.
//!
//! ```text
//!  tx 1 ---- known ---- known ---- end            Ready, its changes are the base of what follows
//!  tx 2 ---- known ---- UNKNOWN                   certain
//!                          |---- A ---- B ----    world 1: placeholder 1, its own changes
//!                          '---- A ---- C ----    world 2: placeholder 2, its own changes
//!                                                 A is speculative (certain: false); B and C wait
//!  tx 3      runs in both worlds, on what tx 2 leaves in each
//! ```
//!
//! All runs of one discovery see the same results, though answers come meanwhile (`Snapshot`).
//!
//! What is found behind a placeholder is speculative, because a contract that knows the true output can ask for
//! anything under any other. **Invariant:** the worlds are dropped at the end; nothing of them is committed or answered.

use crate::attest::Attesters;
use crate::overlay::{Backend, Changes, View};
use crate::placeholder::World;
use crate::precompile::{Bounds, Stop, Trace, Unknown};
use crate::recover::tx_env;
use crate::results::{Results, Snapshot};
use crate::run::{Checks, Done, Manner, RunError, Scene, run};
use crate::spec::{BlockEnv, ChainSpec};
use crate::state::State;
use crate::system;
use penstock_rules::ids::{Igas, RequestKey};
use penstock_rules::message::GangRequest;
use penstock_rules::tx::PoolTx;
use revm::context::TxEnv;
use std::collections::BTreeSet;

/// Rounds of one transaction: a chain of calls this long still ends, and a contract that asks for something new in
/// each round is dropped after a few blocks.
pub const ROUNDS_PER_TX_MAX: u32 = 16;
/// Different requests of one transaction: four times the 16 of a wide fan-out, and few enough that a gang fits a bus
/// message.
pub const REQUESTS_PER_TX_MAX: u32 = 64;
/// Bytes of all inputs of one transaction: a batch of images (64 of 16 kB), and far below a bus message's limit.
pub const INPUT_BYTES_PER_TX_MAX: u32 = 1 << 20;
/// Gas that discovery simulates for one sender and block, both worlds counted: four transactions of Osaka's cap.
pub const SIMULATION_GAS_PER_LANE_MAX: u64 = 4 << 24;

const _: () =
    assert!(SIMULATION_GAS_PER_LANE_MAX >= 2 * revm::primitives::eip7825::TX_GAS_LIMIT_CAP);

/// Bounds of discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DiscoverLimits {
    /// Rounds of one transaction; the extractor counts them.
    pub rounds_per_tx: u32,
    /// Different requests of one transaction.
    pub requests_per_tx: u32,
    /// Bytes of all inputs of one transaction.
    pub input_bytes_per_tx: u32,
    /// Gas per sender and block.
    pub simulation_gas_per_lane: u64,
}

impl Default for DiscoverLimits {
    fn default() -> Self {
        Self {
            rounds_per_tx: ROUNDS_PER_TX_MAX,
            requests_per_tx: REQUESTS_PER_TX_MAX,
            input_bytes_per_tx: INPUT_BYTES_PER_TX_MAX,
            simulation_gas_per_lane: SIMULATION_GAS_PER_LANE_MAX,
        }
    }
}

impl DiscoverLimits {
    pub(crate) const fn bounds(&self) -> Bounds {
        Bounds {
            requests: self.requests_per_tx,
            input_bytes: self.input_bytes_per_tx,
        }
    }
}

/// What discovery found of one transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Finding {
    /// All its results are there: it can be in the next block.
    Ready {
        /// Requests that it consumed, each once, in order of first use.
        keys: Vec<RequestKey>,
        /// Inference units that it pays for (a repeated request counts again).
        igas: Igas,
        /// Gas used, inference included.
        gas_used: u64,
    },
    /// It waits for results.
    Waits {
        /// Never empty. The certain ones first (one, at most), then those found behind placeholders.
        requests: Vec<GangRequest>,
        /// Inference units of these requests.
        igas: Igas,
    },
    /// The gas limit is too low for today's multiplier, or the fee is below the base fee.
    FeeBelowMarket,
    /// Nothing can be said now: a predecessor waits, and what this one does depends on it, or the lane's simulation gas
    /// is used up.
    Behind,
    /// It asks for more than the limits allow.
    TooMany,
    /// It can't be executed on this state (funds, nonce).
    Invalid(String),
}

/// Discovers the transactions of one sender, in nonce order, on the state and in the environment of the next block.
///
/// One finding per transaction. Each runs on what its predecessors leave.
#[must_use]
pub fn discover_lane(
    state: &State,
    spec: &ChainSpec,
    env: &BlockEnv,
    txs: &[PoolTx],
    results: &dyn Results,
    limits: &DiscoverLimits,
) -> Vec<Finding> {
    let mut changes = Changes::default();
    let begun = system::begin(&mut changes, state, spec, env).and_then(|()| Attesters::of(state));
    let attesters = match begun {
        Ok(attesters) => attesters,
        Err(error) => return vec![Finding::Invalid(error.to_string()); txs.len()],
    };
    let snapshot = Snapshot::of(results);
    let mut lane = Lane {
        scene: Scene {
            spec,
            env,
            attesters: &attesters,
            results: &snapshot,
        },
        below: state,
        bounds: limits.bounds(),
        gas_left: limits.simulation_gas_per_lane,
        base: Base::Certain(changes),
        checks: Checks::All,
    };
    txs.iter().map(|tx| lane.discover(tx)).collect()
}

/// On what the next transaction of a lane runs.
enum Base {
    /// All before it was executed with known results.
    Certain(Changes),
    /// A placeholder was given out: one per world.
    Worlds([Changes; 2]),
    /// Nothing is known: a predecessor did not get through.
    Blocked,
}

struct Lane<'a> {
    scene: Scene<'a>,
    below: &'a dyn Backend,
    bounds: Bounds,
    gas_left: u64,
    base: Base,
    /// Of the transaction that is looked at.
    checks: Checks,
}

impl Lane<'_> {
    fn discover(&mut self, tx: &PoolTx) -> Finding {
        let (env, checks) = match tx_env(tx, self.scene.spec) {
            Ok(env) if self.gas_left > 0 => env,
            Ok(_) => {
                self.base = Base::Blocked;
                return Finding::Behind;
            }
            Err(why) => {
                self.base = Base::Blocked;
                return Finding::Invalid(why.to_string());
            }
        };
        self.checks = checks;
        // Whatever goes wrong from here on leaves the lane blocked behind this transaction.
        match std::mem::replace(&mut self.base, Base::Blocked) {
            Base::Certain(changes) => self.on_certain(env, changes),
            Base::Worlds(worlds) => self.on_worlds(env, worlds),
            Base::Blocked => Finding::Behind,
        }
    }

    fn on_certain(&mut self, env: TxEnv, mut changes: Changes) -> Finding {
        let (first, trace) = self.simulate(World::First, &env, &changes, false);
        if trace.unknown.is_empty() {
            return match first {
                Ok(Done { result, state }) => {
                    changes.commit(state);
                    self.base = Base::Certain(changes);
                    Finding::Ready {
                        keys: trace.used.iter().map(|used| used.key).collect(),
                        igas: trace.igas,
                        gas_used: result.tx_gas_used(),
                    }
                }
                Err(error) => failed(error),
            };
        }
        let (second, other) = self.simulate(World::Second, &env, &changes, false);
        let requests = common(trace.unknown, &other);
        if let (Ok(first), Ok(second)) = (first, second) {
            let mut worlds = [changes.clone(), changes];
            worlds[0].commit(first.state);
            worlds[1].commit(second.state);
            self.base = Base::Worlds(worlds);
        }
        waits(requests)
    }

    fn on_worlds(&mut self, env: TxEnv, mut worlds: [Changes; 2]) -> Finding {
        let (first, trace) = self.simulate(World::First, &env, &worlds[0], true);
        let (second, other) = self.simulate(World::Second, &env, &worlds[1], true);
        if let (Ok(first), Ok(second)) = (first, second) {
            worlds[0].commit(first.state);
            worlds[1].commit(second.state);
            self.base = Base::Worlds(worlds);
        }
        let requests = common(trace.unknown, &other);
        if requests.is_empty() {
            // It may be ready once its predecessor is, or fail then: that is seen when the predecessor's result is here.
            return Finding::Behind;
        }
        waits(requests)
    }

    fn simulate(
        &mut self,
        world: World,
        env: &TxEnv,
        changes: &Changes,
        tainted: bool,
    ) -> (Result<Done, RunError>, Trace) {
        let manner = Manner {
            unknown: Unknown::Placeholder(world),
            bounds: Some(self.bounds),
            tainted,
            checks: self.checks,
        };
        let view = View {
            below: self.below,
            changes,
        };
        let (done, trace) = run(self.scene, view, env.clone(), manner);
        let gas = match &done {
            Ok(done) => done.result.tx_gas_used(),
            // How far it came is not known: it could have been all.
            Err(RunError::Stopped(_)) => env.gas_limit,
            Err(_) => 0,
        };
        self.gas_left = self.gas_left.saturating_sub(gas);
        (done, trace)
    }
}

/// What a run says that met nothing unknown.
fn failed(error: RunError) -> Finding {
    match error {
        RunError::Stopped(Stop::FeeBelowMarket) | RunError::BaseFee => Finding::FeeBelowMarket,
        RunError::Stopped(Stop::TooMany | Stop::Missing(_)) => Finding::TooMany,
        RunError::Invalid(why) => Finding::Invalid(why),
    }
}

/// Requests of one world that the other asks for too.
fn common(requests: Vec<GangRequest>, other: &Trace) -> Vec<GangRequest> {
    let keys: BTreeSet<_> = other.unknown.iter().map(|request| request.key).collect();
    requests
        .into_iter()
        .filter(|request| keys.contains(&request.key))
        .collect()
}

fn waits(requests: Vec<GangRequest>) -> Finding {
    let igas = requests
        .iter()
        .fold(Igas(0), |sum, request| sum.saturating_add(request.igas));
    Finding::Waits { requests, igas }
}

/// Runs a call as discovery does: its end where all results are known, else what it waits for.
pub(crate) fn probe(
    scene: Scene<'_>,
    below: &dyn Backend,
    changes: &Changes,
    env: &TxEnv,
    bounds: Bounds,
) -> Result<Done, Probed> {
    let manner = |world| Manner {
        unknown: Unknown::Placeholder(world),
        bounds: Some(bounds),
        checks: Checks::Call,
        tainted: false,
    };
    let snapshot = Snapshot::of(scene.results);
    let scene = Scene {
        results: &snapshot,
        ..scene
    };
    let view = View { below, changes };
    let (first, trace) = run(scene, view, env.clone(), manner(World::First));
    if trace.unknown.is_empty() {
        return first.map_err(Probed::Failed);
    }
    let (_, other) = run(scene, view, env.clone(), manner(World::Second));
    Err(Probed::Missing(common(trace.unknown, &other)))
}

/// Why a probed call has no result.
pub(crate) enum Probed {
    Missing(Vec<GangRequest>),
    Failed(RunError),
}
