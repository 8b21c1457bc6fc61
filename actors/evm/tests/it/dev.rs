//! Privileged entries: built, verified from the log's bytes alone, and refused where they may not be.

use crate::devnet::*;
use alloy_consensus::{TxEip1559, TypedTransaction};
use alloy_eips::eip2718::Encodable2718;
use alloy_eips::eip2935::HISTORY_STORAGE_ADDRESS;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256, keccak256};
use penstock_evm::dev::{dump, impersonated, settings};
use penstock_evm::{BlockBuilder, DevError, ExecutedBlock, Patch, State, VerifyError, recover};
use penstock_rules::dev::{AccountPatch, Privileged, SETTINGS, Settings};
use penstock_rules::ids::Height;
use penstock_rules::producer::Timetable;
use penstock_rules::request::Mode;
use penstock_rules::state::{Account, AccountChange, CodeChange, StateDiff, StateRead};
use penstock_rules::tx::{PoolTx, Refusal};
use proptest::prelude::*;

const NOBODY: Address = Address::repeat_byte(0x77);

fn sealed(devnet: &Devnet, entry: &Privileged, txs: &[PoolTx]) -> ExecutedBlock {
    let state = devnet.state().clone();
    let mut builder = BlockBuilder::privileged(state, &devnet.spec, devnet.env(), entry)
        .expect("this chain takes it");
    for tx in txs {
        builder
            .push(tx, &devnet.results)
            .expect("the transaction is included");
    }
    let mut built = builder.seal();
    built.block.signature = devnet.producer.sign(built.hash);
    built
}

/// A block of its own at the parent's time, with what `change` makes of the state.
fn own(devnet: &Devnet, change: impl FnOnce(&mut Patch<'_>)) -> Privileged {
    let mut patch = Patch::new(devnet.state());
    change(&mut patch);
    Privileged {
        timestamp_secs: devnet.head.header.timestamp,
        own: true,
        diff: patch.diff(),
    }
}

fn change(devnet: &mut Devnet, change: impl FnOnce(&mut Patch<'_>)) {
    let entry = own(devnet, change);
    let built = sealed(devnet, &entry, &[]);
    devnet.adopt(built);
}

fn set(devnet: &mut Devnet, settings: impl FnOnce(&mut Settings)) {
    change(devnet, |patch| patch.settings(settings));
}

fn slot(state: &State, address: Address, slot: u64) -> U256 {
    let Ok(value) = state.slot(address, U256::from(slot));
    value
}

#[test]
fn accounts_are_what_an_entry_says_and_followers_come_to_the_same() {
    let mut devnet = Devnet::new();
    let code = Bytes::from_static(&[0x60, 0x2a, 0x5f, 0x52, 0x60, 0x20, 0x5f, 0xf3]);
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: NOBODY,
            balance: Some(U256::from(5)),
            ..AccountPatch::default()
        });
        // The second change stands on the first.
        patch.account(&AccountPatch {
            address: NOBODY,
            nonce: Some(9),
            code: Some(code.clone()),
            slots: vec![(U256::from(1), U256::from(2))],
            ..AccountPatch::default()
        });
    });
    let Ok(account) = devnet.state().account(NOBODY);
    assert_eq!(
        account,
        Some(Account {
            nonce: 9,
            balance: U256::from(5),
            code_hash: keccak256(&code),
        })
    );
    assert_eq!(slot(devnet.state(), NOBODY, 1), U256::from(2));
    let penstock_evm::CallOutcome::Returned { output, .. } = devnet.call(NOBODY, vec![]) else {
        panic!("the code runs");
    };
    assert_eq!(U256::from_be_slice(&output), U256::from(42));
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: NOBODY,
            balance: Some(U256::ZERO),
            nonce: Some(0),
            code: Some(Bytes::new()),
            ..AccountPatch::default()
        });
    });
    assert_eq!(devnet.state().account(NOBODY), Ok(None));
}

#[test]
fn a_slot_set_on_an_account_that_is_not_there_stays() {
    let mut devnet = Devnet::new();
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: NOBODY,
            slots: vec![(U256::from(1), U256::from(2))],
            ..AccountPatch::default()
        });
    });
    assert_eq!(slot(devnet.state(), NOBODY, 1), U256::from(2));
}

#[test]
fn what_is_set_for_the_next_block_is_used_by_it_alone_and_outlives_blocks_of_changes() {
    let mut devnet = Devnet::new();
    let (random, coinbase) = (B256::repeat_byte(3), Address::repeat_byte(4));
    set(&mut devnet, |settings| {
        settings.clock.next_secs = Some(5_000);
        settings.base_fee_next = Some(0);
        settings.prevrandao_next = Some(random);
        settings.coinbase = Some(coinbase);
        settings.gas_limit = Some(40_000_000);
    });
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: NOBODY,
            balance: Some(U256::from(5)),
            ..AccountPatch::default()
        });
    });
    assert_eq!(devnet.head.header.timestamp, 1_000);
    let (other, _) = devnet.build(&[]);
    assert!(matches!(
        devnet.verify(&other.block),
        Err(VerifyError::Field("timestamp"))
    ));
    let clock = settings(devnet.state()).clock;
    let env = penstock_evm::BlockEnv {
        timestamp: clock.next_secs.expect("it is set"),
        ..devnet.env()
    };
    let mut built = BlockBuilder::new(devnet.state().clone(), &devnet.spec, env).seal();
    built.block.signature = devnet.producer.sign(built.hash);
    devnet.adopt(built);
    let header = &devnet.head.header;
    assert_eq!(
        (header.timestamp, header.base_fee_per_gas),
        (5_000, Some(0))
    );
    assert_eq!((header.mix_hash, header.beneficiary), (random, coinbase));
    assert_eq!(header.gas_limit, 40_000_000);
    let left = settings(devnet.state());
    assert_eq!(left, left.used());
    devnet.include(&[]);
    let header = &devnet.head.header;
    assert_ne!(header.mix_hash, random);
    assert_eq!(
        (header.beneficiary, header.gas_limit),
        (coinbase, 40_000_000)
    );
}

#[test]
fn a_restored_state_is_the_old_one_but_for_what_the_chain_writes_of_its_past() {
    let mut devnet = Devnet::new();
    let book = devnet.deploy("LoanBook");
    set(&mut devnet, |settings| {
        settings.mining = Some(Timetable::Manual)
    });
    let then = devnet.state().clone();
    let height = devnet.head.header.number;
    let time = devnet.head.header.timestamp;
    let made = devnet.deploy("Tracee");
    let call = devnet.sign(Draft::call(1, F4, inference(1, Mode::Vanilla)));
    devnet.run(&call);
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: book,
            slots: vec![(U256::from(200), U256::from(2))],
            ..AccountPatch::default()
        });
    });
    set(&mut devnet, |settings| {
        settings.mining = Some(Timetable::AtOnce)
    });
    let entry = Privileged {
        timestamp_secs: time,
        ..own(&devnet, |patch| patch.restore(&then))
    };
    let built = sealed(&devnet, &entry, &[]);
    devnet.adopt(built);
    assert_eq!(devnet.head.header.timestamp, time);
    assert_eq!(devnet.state().account(made), Ok(None));
    assert_eq!(slot(devnet.state(), book, 200), U256::ZERO);
    // How blocks are made stays as it was set last.
    assert_eq!(settings(devnet.state()).mining, Some(Timetable::AtOnce));
    // The hash of a block since then is still to be had.
    let between = devnet.state().block_hash(Height(height + 1));
    let kept = slot(devnet.state(), HISTORY_STORAGE_ADDRESS, height + 1);
    assert_eq!(between.map(|hash| hash.into()), Ok(kept));
    assert!(!kept.is_zero());
    let (mut now, mut before) = (dump(devnet.state()), dump(&then));
    for chains_own in [
        HISTORY_STORAGE_ADDRESS,
        alloy_eips::eip4788::BEACON_ROOTS_ADDRESS,
        penstock_evm::predeploys::INFERENCE_MARKET,
        SETTINGS,
    ] {
        now.remove(&chains_own);
        before.remove(&chains_own);
    }
    assert_eq!(now, before);
    // A transaction of that time is possible again, with the same hash.
    let again = devnet.run(&call);
    assert_eq!(again.tx_hash, call.hash);
}

fn as_somebody(devnet: &Devnet, from: Address, nonce: u64) -> Vec<u8> {
    let tx = TxEip1559 {
        chain_id: devnet.spec.chain_id,
        nonce,
        gas_limit: 50_000,
        max_fee_per_gas: 10_000_000_000,
        to: TxKind::Call(Address::repeat_byte(9)),
        value: U256::from(7),
        ..TxEip1559::default()
    };
    impersonated(TypedTransaction::Eip1559(tx), from).encoded_2718()
}

#[test]
fn an_account_without_a_key_sends_a_contract_too() {
    let mut devnet = Devnet::new();
    let book = devnet.deploy("LoanBook");
    change(&mut devnet, |patch| {
        patch.account(&AccountPatch {
            address: book,
            balance: Some(U256::from(10).pow(U256::from(18))),
            ..AccountPatch::default()
        });
    });
    let raw = as_somebody(&devnet, book, 1);
    let tx = recover(&raw, &devnet.spec).expect("it is taken");
    assert_eq!(tx.sender, book);
    assert!(devnet.run(&tx).success);
    assert_eq!(devnet.balance(Address::repeat_byte(9)), U256::from(7));
    let other = recover(&as_somebody(&devnet, NOBODY, 1), &devnet.spec).expect("it is taken");
    assert_ne!(other.hash, tx.hash, "another sender is another transaction");
}

#[test]
fn a_chain_with_several_producers_takes_neither_entries_nor_unsigned_transactions() {
    let mut devnet = Devnet::new();
    let entry = own(&devnet, |patch| {
        patch.account(&AccountPatch {
            address: NOBODY,
            balance: Some(U256::from(5)),
            ..AccountPatch::default()
        });
    });
    let block = sealed(&devnet, &entry, &[]).block;
    let raw = as_somebody(&devnet, NOBODY, 0);
    devnet.spec.producers.push(key(2).address());
    let error = devnet.verify(&block).expect_err("two producers");
    assert_eq!(error, VerifyError::Privileged(DevError::Producers(2)));
    let refusal = recover(&raw, &devnet.spec).expect_err("nobody signed it");
    assert_eq!(refusal, Refusal::Malformed("invalid signature".into()));
    let state = devnet.state().clone();
    let refused = BlockBuilder::privileged(state, &devnet.spec, devnet.env(), &entry);
    assert_eq!(refused.err(), Some(DevError::Producers(2)));
}

#[test]
fn entries_that_make_no_sense_are_refused() {
    let mut devnet = Devnet::new();
    let tx = devnet.sign(Draft::call(1, NOBODY, vec![]));
    let good = own(&devnet, |_| {});
    // A block of its own with a transaction.
    let block = sealed(&devnet, &good, &[tx]).block;
    let error = devnet.verify(&block).expect_err("it has a transaction");
    assert_eq!(error, VerifyError::Privileged(DevError::Transactions));
    // Code that nobody has, and code that is not what its hash says.
    let state = devnet.state().clone();
    let hash = B256::repeat_byte(1);
    let account = |code_hash| AccountChange {
        address: NOBODY,
        now: vec![Account {
            nonce: 1,
            code_hash,
            ..Account::default()
        }],
        wiped: false,
    };
    let wrong = CodeChange {
        hash,
        code: Bytes::from_static(&[1]),
    };
    for codes in [vec![], vec![wrong]] {
        let entry = Privileged {
            diff: StateDiff {
                accounts: vec![account(hash)],
                codes,
                ..StateDiff::default()
            },
            ..good.clone()
        };
        let refused = BlockBuilder::privileged(state.clone(), &devnet.spec, devnet.env(), &entry);
        assert_eq!(refused.err(), Some(DevError::Code(hash)));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    /// Whatever a chain does, restoring an earlier state gives its accounts back, to the root, for who builds and for
    /// who verifies.
    #[test]
    fn any_state_can_be_restored(
        before in proptest::collection::vec((0u8..6, 0u64..3, 0u64..4, 0u64..3), 0..12),
        after in proptest::collection::vec((0u8..6, 0u64..3, 0u64..4, 0u64..3), 0..12),
    ) {
        let mut devnet = Devnet::new();
        let run = |devnet: &mut Devnet, steps: Vec<(u8, u64, u64, u64)>| {
            for (who, balance, slot, value) in steps {
                change(devnet, |patch| patch.account(&AccountPatch {
                    address: Address::repeat_byte(0x50 + who),
                    balance: Some(U256::from(balance)),
                    nonce: Some(u64::from(who == 3)),
                    code: (value == 2).then(|| Bytes::from(vec![0x60, who])),
                    slots: vec![(U256::from(slot), U256::from(value))],
                }));
            }
        };
        run(&mut devnet, before);
        let then = devnet.state().clone();
        run(&mut devnet, after);
        change(&mut devnet, |patch| patch.restore(&then));
        let (mut now, mut was) = (dump(devnet.state()), dump(&then));
        for chains_own in [HISTORY_STORAGE_ADDRESS, alloy_eips::eip4788::BEACON_ROOTS_ADDRESS] {
            now.remove(&chains_own);
            was.remove(&chains_own);
        }
        prop_assert_eq!(now, was);
    }
}
