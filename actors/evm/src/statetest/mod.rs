//! State tests in the format of ethereum/tests: one transaction on a state, with the state root and the logs' hash that
//! must come of it, for each hardfork.
//!
//! Format: <https://eest.ethereum.org/main/consuming_tests/state_test/>. Each case runs on the machine that runs our own
//! blocks, twice: with our precompiles and without. Both must give what the file says.

mod format;

use crate::overlay::{Backend, BackendError, Changes, Code, Empties, View};
use crate::precompile::Own;
use crate::run::{RunError, run_bare};
use crate::state::State;
use alloy_primitives::{Address, B256, U256, keccak256};
use format::{Expected, Suite, Unit};
use penstock_rules::ids::Height;
use penstock_rules::state::{
    Account, AccountChange, CodeChange, EMPTY_CODE_HASH, SlotChange, StateDiff,
};
use revm::context::{BlockEnv, CfgEnv};
use revm::primitives::eip4844::{
    BLOB_BASE_FEE_UPDATE_FRACTION_CANCUN, BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
};
use revm::primitives::hardfork::SpecId;

/// A case, and what came of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Case {
    /// The test's name in its file.
    pub name: String,
    /// The hardfork.
    pub fork: String,
    /// Which data, gas limit and value.
    pub indexes: [usize; 3],
    /// What came of it.
    pub verdict: Verdict,
}

/// What came of a case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// What the file says, with our precompiles and without.
    Passed,
    /// A hardfork that the EVM does not know, or that never was.
    Skipped,
    /// Something else.
    Failed(String),
}

/// Runs all cases of a file.
///
/// # Errors
/// Where it is no file of state tests.
pub fn run_file(json: &[u8]) -> Result<Vec<Case>, serde_json::Error> {
    let units: Suite = serde_json::from_slice(json)?;
    let mut cases = Vec::new();
    for (name, unit) in &units {
        let state = before(unit);
        for (fork, tests) in &unit.post {
            for test in tests {
                let verdict = match format::fork(fork) {
                    None => Verdict::Skipped,
                    Some(fork) => check(unit, test, fork, &state),
                };
                let at = test.indexes;
                cases.push(Case {
                    name: name.clone(),
                    fork: fork.clone(),
                    indexes: [at.data, at.gas, at.value],
                    verdict,
                });
            }
        }
    }
    Ok(cases)
}

/// The state that a test begins with.
fn before(unit: &Unit) -> State {
    let mut diff = StateDiff::default();
    for (address, info) in &unit.pre {
        let code_hash = if info.code.is_empty() {
            EMPTY_CODE_HASH
        } else {
            let hash = keccak256(&info.code);
            diff.codes.push(CodeChange {
                hash,
                code: info.code.clone(),
            });
            hash
        };
        diff.accounts.push(AccountChange {
            address: *address,
            now: vec![Account {
                nonce: info.nonce.saturating_to(),
                balance: info.balance,
                code_hash,
            }],
            wiped: false,
        });
        diff.slots
            .extend(info.storage.iter().map(|(slot, now)| SlotChange {
                address: *address,
                slot: *slot,
                now: *now,
            }));
    }
    let mut state = State::empty();
    state.apply(&diff);
    state
}

/// A state whose block hashes are those that the tests agree on.
struct Tested<'a>(&'a State);

impl Backend for Tested<'_> {
    fn account(&self, address: Address) -> Result<Option<Account>, BackendError> {
        Backend::account(self.0, address)
    }

    fn slot(&self, address: Address, slot: U256) -> Result<U256, BackendError> {
        Backend::slot(self.0, address, slot)
    }

    fn code(&self, hash: B256) -> Result<Code, BackendError> {
        Backend::code(self.0, hash)
    }

    fn block_hash(&self, height: Height) -> Result<B256, BackendError> {
        Ok(keccak256(height.0.to_string()))
    }
}

fn check(unit: &Unit, test: &Expected, fork: SpecId, state: &State) -> Verdict {
    let with = once(unit, test, fork, state, Own::On);
    let without = once(unit, test, fork, state, Own::Off);
    match (without, with) {
        (Err(why), _) => Verdict::Failed(why),
        (Ok(()), Err(why)) => Verdict::Failed(format!("with our precompiles: {why}")),
        (Ok(()), Ok(())) => Verdict::Passed,
    }
}

fn once(unit: &Unit, test: &Expected, fork: SpecId, state: &State, own: Own) -> Result<(), String> {
    let mut cfg = CfgEnv::new_with_spec(fork);
    let chain_id = unit.env.chain_id.unwrap_or(U256::ONE);
    cfg.chain_id = chain_id.saturating_to();
    // EIP-7691 raised the blobs of a block to nine, EIP-7594 lowers those of a transaction to six again.
    cfg.set_max_blobs_per_tx(match fork {
        SpecId::PRAGUE => 9,
        _ => 6,
    });
    let block = block_env(unit, fork);
    let ran = unit.transaction.variant(test.indexes).and_then(|tx| {
        let changes = Changes::default();
        let below = Tested(state);
        let view = View {
            below: &below,
            changes: &changes,
        };
        run_bare(cfg.clone(), block, view, tx, own).map_err(|error| match error {
            RunError::Invalid(why) => why,
            other => format!("{other:?}"),
        })
    });
    let done = match (ran, &test.expect_exception) {
        (Err(_), Some(_)) => return Ok(()),
        (Err(why), None) => return Err(format!("transaction is refused: {why}")),
        (Ok(_), Some(expected)) => {
            return Err(format!("transaction is not refused, for {expected}"));
        }
        (Ok(done), None) => done,
    };
    let logs = keccak256(alloy_rlp::encode(done.result.logs().to_vec()));
    if done.result.is_success() && logs != test.logs {
        return Err(format!(
            "hash of logs is {logs}, the file says {}",
            test.logs
        ));
    }
    let mut changes = Changes::default();
    let empties = match cfg.spec().is_enabled_in(SpecId::SPURIOUS_DRAGON) {
        true => Empties::Gone,
        false => Empties::Kept,
    };
    changes.commit_as(done.state, empties);
    let mut after = state.clone();
    after.apply(&changes.diff(state));
    let root = after.root();
    if root != test.hash {
        return Err(format!("state root is {root}, the file says {}", test.hash));
    }
    Ok(())
}

fn block_env(unit: &Unit, fork: SpecId) -> BlockEnv {
    let env = &unit.env;
    let merged = fork.is_enabled_in(SpecId::MERGE);
    let mut block = BlockEnv {
        number: env.current_number,
        beneficiary: env.current_coinbase,
        timestamp: env.current_timestamp,
        gas_limit: env.current_gas_limit.saturating_to(),
        basefee: env.current_base_fee.unwrap_or_default().saturating_to(),
        difficulty: env.current_difficulty,
        prevrandao: merged.then(|| env.current_random.unwrap_or_default()),
        slot_num: env.slot_number.unwrap_or_default().saturating_to(),
        ..BlockEnv::default()
    };
    if let Some(excess) = env.current_excess_blob_gas {
        let fraction = match fork.is_enabled_in(SpecId::PRAGUE) {
            true => BLOB_BASE_FEE_UPDATE_FRACTION_PRAGUE,
            false => BLOB_BASE_FEE_UPDATE_FRACTION_CANCUN,
        };
        block.set_blob_excess_gas_and_price(excess.saturating_to(), fraction);
    }
    block
}
