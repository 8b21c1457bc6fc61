//! Random blocks: building, verifying and a reference of all accounts come to the same roots.

use crate::conservation;
use crate::devnet::*;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, U256};
use alloy_trie::TrieAccount;
use penstock_evm::{Finding, Hardfork, PushError};
use penstock_rules::ids::Igas;
use penstock_rules::request::Mode;
use penstock_rules::state::{Account, StateDiff, StateRead};
use penstock_rules::tx::PoolTx;
use proptest::prelude::*;
use std::collections::BTreeMap;

const STORE: u8 = 0;
const WRITE_AND_REVERT: u8 = 1;
const DESTROY: u8 = 2;
const INVALID: u8 = 3;
const MAKE_AND_DESTROY: u8 = 4;
const LOG: u8 = 5;
const CREATE2: u8 = 6;

/// A contract that does what the first word of its calldata says, with the second and third as arguments.
fn puppet() -> Vec<u8> {
    let blocks: [&[u8]; 7] = [
        &[0x5b, 0x60, 0x40, 0x35, 0x60, 0x20, 0x35, 0x55, 0x00],
        &[0x5b, 0x60, 0x01, 0x5f, 0x55, 0x5f, 0x5f, 0xfd],
        &[0x5b, 0x33, 0xff],
        &[0x5b, 0xfe],
        // Makes a contract whose constructor destroys it (33 ff).
        &[
            0x5b, 0x61, 0x33, 0xff, 0x5f, 0x52, 0x60, 0x02, 0x60, 0x1e, 0x5f, 0xf0, 0x50, 0x00,
        ],
        &[0x5b, 0x60, 0x20, 0x35, 0x60, 0x20, 0x5f, 0xa1, 0x00],
        // Makes a contract that stores 7 in slot 1 and has no code, at an address that the argument decides.
        &[
            0x5b, 0x65, 0x60, 0x07, 0x60, 0x01, 0x55, 0x00, 0x5f, 0x52, 0x60, 0x20, 0x35, 0x60,
            0x06, 0x60, 0x1a, 0x5f, 0xf5, 0x50, 0x00,
        ],
    ];
    // Jumps to (word + 1) * 32.
    let mut code = Asm::new().op(&[0x5f, 0x35, 0x60, 0x01, 0x01, 0x60, 0x05, 0x1b, 0x56]);
    for (index, block) in blocks.into_iter().enumerate() {
        code = code.pad((index + 1) * 32).op(block);
    }
    code.deploy()
}

fn words(words: [u64; 3]) -> Vec<u8> {
    words
        .iter()
        .flat_map(|word| U256::from(*word).to_be_bytes::<32>())
        .collect()
}

#[derive(Clone, Debug)]
enum Step {
    Transfer {
        from: usize,
        to: u8,
        value: u64,
    },
    Make {
        from: usize,
    },
    Puppet {
        from: usize,
        which: usize,
        action: u8,
        a: u64,
        b: u64,
    },
    Infer {
        from: usize,
        first: u8,
        mode: u8,
    },
}

fn step() -> impl Strategy<Value = Step> {
    let from = 1usize..4;
    prop_oneof![
        2 => (from.clone(), 0u8..4, 0u64..3)
            .prop_map(|(from, to, value)| Step::Transfer { from, to, value }),
        1 => from.clone().prop_map(|from| Step::Make { from }),
        6 => (from.clone(), 0usize..3, 0u8..7, 0u64..4, 0u64..3)
            .prop_map(|(from, which, action, a, b)| Step::Puppet { from, which, action, a, b }),
        2 => (from, 0u8..3, 0u8..3).prop_map(|(from, first, mode)| Step::Infer { from, first, mode }),
    ]
}

/// All accounts by themselves, kept by the diffs alone.
#[derive(Clone, Default)]
pub struct Flat(BTreeMap<Address, (Account, BTreeMap<U256, U256>)>);

impl Flat {
    pub fn balance(&self, address: Address) -> U256 {
        self.0
            .get(&address)
            .map_or(U256::ZERO, |entry| entry.0.balance)
    }

    /// All money there is.
    pub fn total(&self) -> U256 {
        let balances = self.0.values().map(|entry| entry.0.balance);
        balances.fold(U256::ZERO, |sum, balance| sum + balance)
    }

    /// Changes a balance as no rule does.
    pub fn add(&mut self, address: Address, wei: i64) {
        let account = &mut self.0.entry(address).or_default().0;
        let change = U256::from(wei.unsigned_abs());
        if wei < 0 {
            account.balance -= change;
        } else {
            account.balance += change;
        }
    }

    pub fn apply(&mut self, diff: &StateDiff) {
        for change in &diff.accounts {
            let Some(now) = change.now.first() else {
                self.0.remove(&change.address);
                continue;
            };
            let entry = self.0.entry(change.address).or_default();
            entry.0 = *now;
            if change.wiped {
                entry.1.clear();
            }
        }
        for change in &diff.slots {
            let slots = &mut self.0.get_mut(&change.address).expect("an account").1;
            if change.now.is_zero() {
                slots.remove(&change.slot);
            } else {
                slots.insert(change.slot, change.now);
            }
        }
    }

    fn root(&self) -> B256 {
        let accounts = self.0.iter().map(|(address, (account, slots))| {
            let slots = slots
                .iter()
                .map(|(slot, value)| (B256::from(*slot), *value));
            let account = TrieAccount {
                nonce: account.nonce,
                balance: account.balance,
                storage_root: alloy_trie::root::storage_root_unhashed(slots),
                code_hash: account.code_hash,
            };
            (*address, account)
        });
        alloy_trie::root::state_root_unhashed(accounts)
    }
}

fn sign(devnet: &mut Devnet, puppets: &[Address], step: &Step) -> PoolTx {
    let draft = match *step {
        Step::Transfer { from, to, value } => Draft {
            value,
            ..Draft::call(from, Address::repeat_byte(to), vec![])
        },
        Step::Make { from } => Draft::create(from, puppet()),
        Step::Puppet {
            from,
            which,
            action,
            a,
            b,
        } => {
            let to = puppets[which % puppets.len()];
            Draft::call(from, to, words([u64::from(action), a, b]))
        }
        Step::Infer { from, first, mode } => {
            let mode = Mode::from_u8(mode).expect("a mode");
            Draft::call(from, F4, inference(i128::from(first), mode))
        }
    };
    devnet.sign(Draft {
        gas: 500_000,
        ..draft
    })
}

/// Discovers each sender's lane and settles, until nothing waits.
fn prepare_all(devnet: &mut Devnet, txs: &[PoolTx]) {
    let mut lanes: BTreeMap<Address, Vec<PoolTx>> = BTreeMap::new();
    for tx in txs {
        lanes.entry(tx.sender).or_default().push(tx.clone());
    }
    for lane in lanes.values() {
        for _ in 0..=lane.len() {
            for finding in devnet.discover(lane) {
                if let Finding::Waits { requests, .. } = finding {
                    devnet.settle(&requests);
                }
            }
        }
    }
}

fn play(hardfork: Hardfork, blocks: &[Vec<Step>]) -> Result<(), TestCaseError> {
    let mut devnet = Devnet::with(|genesis| genesis.spec.hardfork = hardfork);
    let mut flat = Flat::default();
    flat.apply(&devnet.head.diff);
    prop_assert_eq!(flat.root(), devnet.head.header.state_root);
    let tx = devnet.sign(Draft::create(0, puppet()));
    let mut puppets = vec![devnet.include(&[tx])[0].contract_address.expect("made")];
    flat.apply(&devnet.head.diff);
    for block in blocks {
        let txs: Vec<_> = block
            .iter()
            .map(|step| sign(&mut devnet, &puppets, step))
            .collect();
        prepare_all(&mut devnet, &txs);
        let multiplier = penstock_evm::multiplier(devnet.state());
        let (built, receipts) = devnet.build(&txs);
        for receipt in receipts {
            let receipt = receipt.map_err(|error| TestCaseError::fail(error.to_string()))?;
            prop_assert!(receipt.inference_gas_used <= receipt.gas_used);
            puppets.extend(receipt.contract_address);
        }
        // Sorted, without a change that is none.
        prop_assert!(
            built
                .diff
                .accounts
                .is_sorted_by(|a, b| a.address < b.address)
        );
        prop_assert!(
            built
                .diff
                .slots
                .is_sorted_by(|a, b| (a.address, a.slot) < (b.address, b.slot))
        );
        for change in &built.diff.slots {
            let wiped = built
                .diff
                .accounts
                .iter()
                .any(|a| a.address == change.address && a.wiped);
            let Ok(before) = devnet.state().slot(change.address, change.slot);
            prop_assert!(wiped || before != change.now);
        }
        devnet.adopt(built);
        let before = flat.clone();
        flat.apply(&devnet.head.diff);
        prop_assert_eq!(flat.root(), devnet.head.header.state_root);
        let infers = block.iter().filter(|s| matches!(s, Step::Infer { .. }));
        let asked = Igas((IGAS_BASE + IGAS_PER_UNIT) * infers.count() as u64);
        conservation::check(&before, &flat, &devnet.head, asked, multiplier)
            .map_err(TestCaseError::fail)?;
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Contracts made, destroyed (for good before Cancun), made anew at the same address; reverts; out of gas; logs;
    /// inference in each mode.
    #[test]
    fn random_blocks_verify_to_the_roots_of_the_reference(
        blocks in proptest::collection::vec(proptest::collection::vec(step(), 0..12), 1..5),
        hardfork in prop_oneof![
            Just(Hardfork::Shanghai), Just(Hardfork::Cancun), Just(Hardfork::Prague), Just(Hardfork::Osaka),
        ],
    ) {
        play(hardfork, &blocks)?;
    }
}

#[test]
fn a_contract_that_is_destroyed_and_made_anew_in_one_block_has_only_its_new_storage() {
    let puppet_step = |action, a, b| Step::Puppet {
        from: 1,
        which: 0,
        action,
        a,
        b,
    };
    let blocks = [
        vec![puppet_step(STORE, 1, 2), puppet_step(CREATE2, 3, 0)],
        vec![
            puppet_step(CREATE2, 3, 0),
            puppet_step(MAKE_AND_DESTROY, 0, 0),
            puppet_step(LOG, 1, 0),
        ],
        vec![
            puppet_step(DESTROY, 0, 0),
            puppet_step(STORE, 1, 5),
            puppet_step(WRITE_AND_REVERT, 0, 0),
        ],
        vec![puppet_step(INVALID, 0, 0), puppet_step(STORE, 2, 1)],
    ];
    for hardfork in [Hardfork::Shanghai, Hardfork::Osaka] {
        play(hardfork, &blocks).expect("all roots are equal");
    }
}

#[test]
fn genesis_is_the_same_each_time_and_differs_with_its_contents() {
    assert_eq!(Devnet::new().head.hash, Devnet::new().head.hash);
    let other = Devnet::with(|genesis| genesis.models.clear());
    assert_ne!(other.head.hash, Devnet::new().head.hash);
    assert_eq!(penstock_evm::models(Devnet::new().state()), [model()]);
    assert_eq!(
        penstock_evm::model_info(Devnet::new().state(), MODEL),
        Some(model())
    );
    assert_eq!(penstock_evm::shards(Devnet::new().state()).len(), 3);
}

#[test]
fn the_block_hash_of_the_parent_stands_in_the_state_as_eip_2935_has_it() {
    let mut devnet = Devnet::new();
    let (genesis, number) = (devnet.head.hash, devnet.head.header.number);
    devnet.include(&[]);
    let Ok(stored) = devnet
        .state()
        .slot(HISTORY_STORAGE_ADDRESS, U256::from(number));
    assert_eq!(stored, U256::from_be_bytes(genesis.0));
}

#[test]
fn the_base_fee_follows_execution_gas_alone_and_the_multiplier_follows_inference() {
    // Limits so low that one request fills the inference of a block, and one transfer is above half of its execution.
    let mut devnet = Devnet::with(|genesis| {
        genesis.spec.igas_limit = Igas(IGAS_BASE + IGAS_PER_UNIT);
        genesis.spec.execution_gas_limit = 200_000;
    });
    let tx = devnet.sign(Draft::call(1, F4, inference(1, Mode::Vanilla)));
    let before = devnet.env().base_fee;
    let receipt = devnet.run(&tx);
    assert!(
        receipt.gas_used > 100_000,
        "with inference it is above the target"
    );
    assert!(receipt.gas_used - receipt.inference_gas_used < 100_000);
    assert!(devnet.env().base_fee < before);
    // A full block: the price rises by e^(1/8), rounded down.
    assert_eq!(penstock_evm::multiplier(devnet.state()), 113);
    devnet.include(&[]);
    assert_eq!(penstock_evm::multiplier(devnet.state()), 100);
}

#[test]
fn inference_and_execution_each_have_their_own_room() {
    let mut devnet = Devnet::with(|genesis| {
        genesis.spec.igas_limit = Igas(2 * (IGAS_BASE + IGAS_PER_UNIT));
    });
    let txs: Vec<_> = (1..5)
        .map(|from| devnet.sign(Draft::call(from, F4, inference(1, Mode::Vanilla))))
        .collect();
    devnet.prepare(&txs[0]);
    let plain = devnet.sign(Draft {
        value: 1,
        ..Draft::call(5, Address::repeat_byte(9), vec![])
    });
    let (built, results) = devnet.build(&[&txs[..], &[plain]].concat());
    let room: Vec<_> = results.iter().map(|result| result.is_ok()).collect();
    assert_eq!(room, [true, true, false, false, true]);
    assert_eq!(results[2], Err(PushError::NoRoom));
    devnet.adopt(built);
}

#[test]
fn a_transaction_that_can_not_run_is_left_out_without_a_trace() {
    let mut devnet = Devnet::new();
    let good = devnet.sign(Draft {
        value: 1,
        ..Draft::call(1, Address::repeat_byte(9), vec![])
    });
    let skipped = devnet.sign(Draft::call(1, Address::repeat_byte(9), vec![]));
    let gap = devnet.sign(Draft::call(1, Address::repeat_byte(9), vec![]));
    let poor = devnet.sign(Draft {
        max_fee: u128::MAX >> 40,
        ..Draft::call(2, Address::ZERO, vec![])
    });
    let (with_all, results) = devnet.build(&[good.clone(), gap, poor, good.clone()]);
    assert!(results[0].is_ok());
    assert!(
        results[1..]
            .iter()
            .all(|result| matches!(result, Err(PushError::Invalid(_))))
    );
    assert_eq!(with_all.hash, devnet.build(&[good]).0.hash);
    assert_eq!(skipped.nonce, 1);
    devnet.adopt(with_all);
}
