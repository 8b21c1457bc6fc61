//! `eth_simulateV1`: blocks of calls on a state of which nothing stays.

use crate::devnet::*;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_rpc_types_eth::{BlockOverrides, TransactionRequest};
use penstock_evm::{
    AccountOverride, CallOutcome, SimulateBlock, SimulateError, Simulated, TransferLogs,
    Validation, simulate,
};
use penstock_rules::request::Mode;

const RICH: Address = Address::repeat_byte(0x51);
const POOR: Address = Address::repeat_byte(0x52);

fn run(
    devnet: &Devnet,
    blocks: &[SimulateBlock],
    validation: Validation,
    transfers: TransferLogs,
) -> Result<Vec<Simulated>, SimulateError> {
    simulate(
        devnet.state(),
        &devnet.spec,
        &devnet.head.header,
        blocks,
        validation,
        transfers,
        &devnet.results,
    )
}

fn transfer(from: Address, to: Address, value: u64) -> TransactionRequest {
    TransactionRequest {
        from: Some(from),
        to: Some(TxKind::Call(to)),
        value: Some(U256::from(value)),
        ..TransactionRequest::default()
    }
}

/// A block in which [`RICH`] has 1,000 wei, and these calls.
fn rich(calls: Vec<TransactionRequest>) -> SimulateBlock {
    let account = AccountOverride {
        balance: Some(U256::from(1_000)),
        ..AccountOverride::default()
    };
    SimulateBlock {
        accounts: [(RICH, account)].into(),
        calls,
        ..SimulateBlock::default()
    }
}

fn at(number: u64, time: Option<u64>) -> SimulateBlock {
    SimulateBlock {
        env: BlockOverrides {
            number: Some(U256::from(number)),
            time,
            ..BlockOverrides::default()
        },
        ..SimulateBlock::default()
    }
}

fn error(blocks: &[SimulateBlock], validation: Validation) -> SimulateError {
    run(&Devnet::new(), blocks, validation, TransferLogs::No).expect_err("it can't be")
}

#[test]
fn what_one_call_leaves_the_next_one_finds_also_in_the_next_block() {
    let devnet = Devnet::new();
    let blocks = [
        rich(vec![transfer(RICH, POOR, 400), transfer(POOR, RICH, 100)]),
        SimulateBlock {
            calls: vec![transfer(POOR, RICH, 300)],
            ..SimulateBlock::default()
        },
    ];
    let root = devnet.state().root();
    let done = run(&devnet, &blocks, Validation::No, TransferLogs::No).expect("runs");
    let returned = |outcome: &CallOutcome| {
        matches!(
            outcome,
            CallOutcome::Returned {
                gas_used: 21_000,
                ..
            }
        )
    };
    assert!(done.iter().flat_map(|block| &block.calls).all(returned));
    assert_eq!(done[0].header.gas_used, 42_000);
    assert_eq!(done[0].header.base_fee_per_gas, Some(0));
    assert_eq!(done[1].header.parent_hash, done[0].hash);
    assert_eq!(done[1].header.timestamp, done[0].header.timestamp + 12);
    assert_ne!(done[1].header.state_root, done[0].header.state_root);
    assert_eq!(done[0].senders, [RICH, POOR]);
    assert_eq!(devnet.state().root(), root, "nothing stays");
    // One wei more than there is.
    let blocks = [rich(vec![transfer(RICH, POOR, 1_001)])];
    let error = run(&devnet, &blocks, Validation::No, TransferLogs::No).expect_err("too much");
    assert!(matches!(error, SimulateError::Invalid(_)), "{error:?}");
}

#[test]
fn gaps_are_filled_with_empty_blocks_and_the_order_is_held() {
    let devnet = Devnet::new();
    let done = run(&devnet, &[at(4, None)], Validation::No, TransferLogs::No).expect("runs");
    let numbers: Vec<_> = done.iter().map(|block| block.header.number).collect();
    assert_eq!(numbers, [1, 2, 3, 4]);
    for pair in done.windows(2) {
        assert_eq!(pair[1].header.parent_hash, pair[0].hash);
    }
    let check = |blocks: &[SimulateBlock], expect: fn(&SimulateError) -> bool| {
        let error = error(blocks, Validation::No);
        assert!(expect(&error), "{error:?}");
    };
    check(&[at(2, None), at(2, None)], |e| {
        matches!(e, SimulateError::Number { .. })
    });
    check(&[at(1, Some(1_000))], |e| {
        matches!(e, SimulateError::Time { .. })
    });
    check(&[at(257, None)], |e| *e == SimulateError::TooManyBlocks);
    check(&[at(200, None), at(257, None)], |e| {
        *e == SimulateError::TooManyBlocks
    });
}

#[test]
fn with_validation_calls_are_checked_as_transactions_are() {
    let fee = |request: TransactionRequest| TransactionRequest {
        max_fee_per_gas: Some(10_000_000_000),
        ..request
    };
    let sender = account(1).address();
    let sent = |change: fn(&mut TransactionRequest)| {
        let mut request = fee(transfer(account(1).address(), POOR, 1));
        change(&mut request);
        error(&[rich(vec![request])], Validation::Yes)
    };
    assert!(matches!(
        sent(|r| r.nonce = Some(5)),
        SimulateError::NonceTooHigh { next: 0, nonce: 5 }
    ));
    assert!(matches!(
        sent(|r| r.max_fee_per_gas = Some(1)),
        SimulateError::BaseFee { fee: 1, .. }
    ));
    assert!(matches!(
        sent(|r| r.gas = Some(20_000)),
        SimulateError::IntrinsicGas { have: 20_000, .. }
    ));
    assert!(matches!(
        sent(|r| r.from = Some(POOR)),
        SimulateError::Funds { .. }
    ));
    assert!(matches!(
        sent(|r| r.gas = Some(2_000_000_000)),
        SimulateError::BlockGas { .. }
    ));
    assert!(matches!(
        sent(|r| r.from = Some(F4)),
        SimulateError::SenderHasCode(F4)
    ));
    assert!(matches!(
        sent(|r| {
            r.to = Some(TxKind::Create);
            r.gas = Some(10_000_000);
            r.input = Bytes::from(vec![0; 50_000]).into();
        }),
        SimulateError::InitCode { size: 50_000 }
    ));
    let devnet = Devnet::new();
    let twice = [
        fee(transfer(sender, POOR, 1)),
        fee(transfer(sender, POOR, 1)),
    ];
    let blocks = [SimulateBlock {
        calls: twice.into(),
        ..SimulateBlock::default()
    }];
    let done = run(&devnet, &blocks, Validation::Yes, TransferLogs::No).expect("runs");
    assert!(done[0].header.base_fee_per_gas > Some(0));
    let again = [SimulateBlock {
        calls: vec![
            fee(transfer(sender, POOR, 1)),
            TransactionRequest {
                nonce: Some(0),
                ..fee(transfer(sender, POOR, 1))
            },
        ],
        ..SimulateBlock::default()
    }];
    let error = run(&devnet, &again, Validation::Yes, TransferLogs::No).expect_err("used");
    assert_eq!(error, SimulateError::NonceTooLow { next: 1, nonce: 0 });
}

#[test]
fn transfers_of_ether_show_as_logs_where_they_are_asked_for() {
    let devnet = Devnet::new();
    for (transfers, expect) in [(TransferLogs::Yes, 1), (TransferLogs::No, 0)] {
        let blocks = [rich(vec![transfer(RICH, POOR, 7)])];
        let done = run(&devnet, &blocks, Validation::No, transfers).expect("runs");
        let CallOutcome::Returned { logs, .. } = &done[0].calls[0] else {
            panic!("it returns");
        };
        assert_eq!(logs.len(), expect);
        if let Some(log) = logs.first() {
            assert_eq!(log.address, Address::repeat_byte(0xee));
            assert_eq!(log.topics()[1], B256::from(RICH.into_word()));
        }
    }
}

#[test]
fn a_reverting_call_says_so_and_the_rest_goes_on() {
    let mut devnet = Devnet::new();
    let tracee = devnet.deploy_with("Tracee", &[]);
    let call = TransactionRequest {
        to: Some(TxKind::Call(tracee)),
        input: Bytes::from_static(&[0xde, 0xad, 0xbe, 0xef]).into(),
        ..TransactionRequest::default()
    };
    let blocks = [rich(vec![call, transfer(RICH, POOR, 1)])];
    let done = run(&devnet, &blocks, Validation::No, TransferLogs::No).expect("runs");
    assert!(matches!(done[0].calls[0], CallOutcome::Reverted { .. }));
    assert!(matches!(done[0].calls[1], CallOutcome::Returned { .. }));
}

#[test]
fn simulated_calls_run_real_inference_and_say_what_is_missing() {
    let mut devnet = Devnet::new();
    let call = TransactionRequest {
        to: Some(TxKind::Call(F4)),
        input: Bytes::from(inference(1, Mode::Vanilla)).into(),
        ..TransactionRequest::default()
    };
    let blocks = [SimulateBlock {
        calls: vec![call],
        ..SimulateBlock::default()
    }];
    let missing = run(&devnet, &blocks, Validation::No, TransferLogs::No);
    let Err(SimulateError::Missing(requests)) = missing else {
        panic!("{missing:?}");
    };
    devnet.settle(&requests);
    let done = run(&devnet, &blocks, Validation::No, TransferLogs::No).expect("runs");
    let CallOutcome::Returned { output, .. } = &done[0].calls[0] else {
        panic!("it returns");
    };
    assert!(!output.is_empty());
}
