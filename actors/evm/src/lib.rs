//! The EVM side of Penstock: discovery by abort, execution with a witness, predeploys and state roots.
//!
//! ```text
//!  raw bytes --recover--> PoolTx --discover_lane--> Finding: ready | waits for requests | ...
//!                            |                          (state, env of the next block, results so far)
//!                            v
//!                      BlockBuilder::push --seal--> ExecutedBlock { header, block + witness, receipts, diff, state }
//!                                                        |
//!  Block from the log --verify (re-executes)-------------+--> the same ExecutedBlock, or why it is not valid
//! ```
//!
//! **Invariant:** nothing here waits for inference, and no function holds a handle to a shard: a result is there or
//! it is not. **Invariant:** a run with placeholders ends in a [`discover::Finding`] or [`call::CallOutcome::Missing`],
//! never in a state. This crate is the only user of revm, and no type of revm is in its interface.

mod config;
mod overlay;
pub mod spec;
pub mod state;
mod trie;

pub mod genesis;
pub mod market;
pub mod predeploys;

pub mod abi;
pub mod preprocess;

pub mod attest;
pub mod recover;
pub mod results;

mod placeholder;
mod precompile;
mod run;

pub mod dev;

pub mod discover;
pub mod execute;
mod header;
mod system;
pub mod verify;

pub mod call;
mod flat;
pub mod simulate;
pub mod trace;

mod range;

pub mod inference;

pub mod statetest;

pub use attest::{SigningKey, attest, check_attestation};
pub use call::{
    AccessListed, AccountOverride, CallOutcome, CallRequest, call, create_access_list, estimate,
    trace_call,
};
pub use config::config;
pub use discover::{DiscoverLimits, Finding, discover_lane};
pub use execute::{BlockBuilder, ExecutedBlock, PushError};
pub use genesis::{Genesis, GenesisAccount, genesis_block};
pub use header::{consensus_receipt, witness_root};
pub use inference::{Consumed, InferenceEstimate, consumed, estimate_inference, given};
pub use overlay::{Backend, BackendError, Code, Historic};
pub use range::{StorageRange, storage_range};
pub use recover::{is_recovered, recover};
pub use results::{NoResults, Results};
pub use simulate::{SimulateBlock, SimulateError, Simulated, TransferLogs, Validation, simulate};
pub use spec::{BlockEnv, ChainSpec, Hardfork, env_of, next_env};
pub use state::{AccountProof, State};
pub use trace::{BlockToTrace, Only, TraceError, Traced, Tracer, trace_block};
pub use verify::{VerifyError, verify};

pub use dev::{DevError, Patch};

use penstock_rules::ids::ShardId;
use penstock_rules::model::ModelInfo;

/// The registered model with this id.
#[must_use]
pub fn model_info(state: &State, cid: &str) -> Option<ModelInfo> {
    predeploys::read_model(cid, &mut |address, slot| state.slot_at(address, slot))
}

/// All registered models, in order of registration.
#[must_use]
pub fn models(state: &State) -> Vec<ModelInfo> {
    predeploys::read_models(&mut |address, slot| state.slot_at(address, slot))
}

/// All registered shards, in order of registration.
#[must_use]
pub fn shards(state: &State) -> Vec<ShardId> {
    predeploys::read_shards(&mut |address, slot| state.slot_at(address, slot))
}

/// Gas per igas, in the block that follows.
#[must_use]
pub fn multiplier(state: &State) -> u64 {
    predeploys::read_multiplier(&mut |address, slot| state.slot_at(address, slot))
}
