//! `eth_call` and `eth_estimateGas`, with real inference.

use crate::devnet::*;
use alloy_primitives::{Address, B256, Bytes, U256};
use alloy_sol_types::{SolCall, SolError};
use penstock_evm::{AccountOverride, CallOutcome, CallRequest, Historic, call, env_of, estimate};
use penstock_rules::request::Mode;
use std::collections::BTreeMap;

fn request(to: Address, data: Vec<u8>) -> CallRequest {
    CallRequest {
        from: account(3).address(),
        to: Some(to),
        data: data.into(),
        ..CallRequest::default()
    }
}

fn run(devnet: &Devnet, request: &CallRequest) -> CallOutcome {
    let env = env_of(&devnet.head.header);
    call(devnet.state(), &devnet.spec, &env, request, &devnet.results)
}

fn estimated(devnet: &Devnet, request: &CallRequest) -> CallOutcome {
    let env = env_of(&devnet.head.header);
    estimate(devnet.state(), &devnet.spec, &env, request, &devnet.results)
}

#[test]
fn a_call_names_what_it_waits_for_and_then_returns() {
    let mut devnet = Devnet::new();
    let fanout = devnet.deploy("Fanout");
    let request = request(
        fanout,
        fanCall {
            row: row(1),
            calls: U256::from(3),
        }
        .abi_encode(),
    );
    let root = devnet.state().root();
    let CallOutcome::Missing { requests } = run(&devnet, &request) else {
        panic!("nothing is known");
    };
    assert_eq!(requests.len(), 3);
    devnet.settle(&requests);
    let CallOutcome::Returned { logs, .. } = run(&devnet, &request) else {
        panic!("all is known");
    };
    assert_eq!(
        logs.len(),
        6,
        "three events of the precompile, three of the contract"
    );
    assert_eq!(devnet.state().root(), root);
}

#[test]
fn a_state_that_is_only_read_gives_the_same_answer() {
    let mut devnet = Devnet::new();
    let chained = devnet.deploy("Chained");
    let request = request(
        chained,
        chainCall {
            row: row(1),
            links: U256::ONE,
        }
        .abi_encode(),
    );
    let CallOutcome::Missing { requests } = run(&devnet, &request) else {
        panic!("nothing is known");
    };
    devnet.settle(&requests);
    let old = Historic(devnet.state().clone());
    let env = env_of(&devnet.head.header);
    let outcome = call(&old, &devnet.spec, &env, &request, &devnet.results);
    assert!(matches!(outcome, CallOutcome::Returned { .. }));
    assert_eq!(outcome, run(&devnet, &request));
}

#[test]
fn an_estimate_is_enough_and_not_much_more() {
    let mut devnet = Devnet::new();
    let [chained, careful] = ["Chained", "TryCatch"].map(|name| devnet.deploy(name));
    let cases = [
        (
            chained,
            chainCall {
                row: row(1),
                links: U256::from(2),
            }
            .abi_encode(),
        ),
        // A contract that catches the failure would do with less gas, and never get its answer.
        (careful, attemptCall { row: row(2) }.abi_encode()),
        (Address::repeat_byte(5), vec![]),
    ];
    for (to, data) in cases {
        let tx = devnet.sign(Draft::call(3, to, data.clone()));
        devnet.prepare(&tx);
        devnet.rewind(3, 1);
        let CallOutcome::Returned { gas_used: gas, .. } =
            estimated(&devnet, &request(to, data.clone()))
        else {
            panic!("it returns");
        };
        let fits = |gas| {
            run(
                &devnet,
                &CallRequest {
                    gas: Some(gas),
                    ..request(to, data.clone())
                },
            )
        };
        assert!(matches!(fits(gas), CallOutcome::Returned { .. }));
        assert!(!matches!(fits(gas - gas / 50), CallOutcome::Returned { .. }) || gas == 21_000);
        let tx = devnet.sign(Draft {
            gas,
            ..Draft::call(3, to, data)
        });
        let receipt = devnet.run(&tx);
        assert!(receipt.success);
        assert!(events::<Caught>(&receipt).is_empty());
    }
}

#[test]
fn calls_end_as_transactions_would() {
    let mut devnet = Devnet::new();
    let unknown = inference_of("nobody", 1, Mode::Vanilla);
    let CallOutcome::Reverted { output, .. } = run(&devnet, &request(F4, unknown.clone())) else {
        panic!("the model is unknown");
    };
    assert_eq!(
        output,
        UnknownModel {
            cid: "nobody".into()
        }
        .abi_encode()
    );
    assert!(matches!(
        estimated(&devnet, &request(F4, unknown)),
        CallOutcome::Reverted { .. }
    ));

    let known = request(F4, inference(1, Mode::Vanilla));
    let short = CallRequest {
        gas: Some(90_000),
        ..known.clone()
    };
    assert!(matches!(run(&devnet, &short), CallOutcome::Halted { .. }));
    let rich = CallRequest {
        value: U256::MAX,
        ..known
    };
    assert!(matches!(run(&devnet, &rich), CallOutcome::Invalid(_)));

    let burner = devnet.deploy("GasBurner");
    let burn = request(
        burner,
        burnThenCallCall {
            row: row(1),
            left: U256::from(100),
        }
        .abi_encode(),
    );
    assert!(matches!(
        run(&devnet, &burn),
        CallOutcome::Halted { .. } | CallOutcome::Reverted { .. }
    ));
}

#[test]
fn overrides_stand_in_for_accounts() {
    let devnet = Devnet::new();
    let to = Address::repeat_byte(0x66);
    // Returns slot 1 and the caller's balance.
    let code = Asm::new().op(&[
        0x60, 0x01, 0x54, 0x5f, 0x52, 0x33, 0x31, 0x60, 0x20, 0x52, 0x60, 0x40, 0x5f, 0xf3,
    ]);
    let code: Bytes = code.deploy()[10..].to_vec().into();
    let from = account(3).address();
    let mut request = request(to, vec![]);
    request.overrides = BTreeMap::from([
        (
            to,
            AccountOverride {
                code: Some(code),
                state: Some(BTreeMap::from([(U256::ONE, U256::from(5))])),
                ..AccountOverride::default()
            },
        ),
        (
            from,
            AccountOverride {
                balance: Some(U256::from(7)),
                ..AccountOverride::default()
            },
        ),
    ]);
    let CallOutcome::Returned { output, .. } = run(&devnet, &request) else {
        panic!("it returns");
    };
    assert_eq!(B256::from_slice(&output[..32]), B256::with_last_byte(5));
    assert_eq!(B256::from_slice(&output[32..]), B256::with_last_byte(7));
    let changed = request.overrides.get_mut(&to).expect("there");
    changed.state_diff = BTreeMap::from([(U256::ONE, U256::from(6))]);
    let CallOutcome::Returned { output, .. } = run(&devnet, &request) else {
        panic!("it returns");
    };
    assert_eq!(B256::from_slice(&output[..32]), B256::with_last_byte(6));
}

#[test]
fn a_creation_is_called_and_estimated_too() {
    let devnet = Devnet::new();
    let code = Asm::new().op(&[0x00]).deploy();
    let request = CallRequest {
        to: None,
        ..request(Address::ZERO, code)
    };
    let CallOutcome::Returned {
        output, created, ..
    } = run(&devnet, &request)
    else {
        panic!("it returns");
    };
    assert_eq!(output[..], [0x00]);
    assert_eq!(created, Some(account(3).address().create(0)));
    assert!(matches!(
        estimated(&devnet, &request),
        CallOutcome::Returned { .. }
    ));
}

/// The search for an estimate stops near the least gas, and said 21,165.
#[test]
fn the_estimate_of_a_plain_transfer_is_exact() {
    let devnet = Devnet::new();
    for value in [0, 1] {
        let transfer = CallRequest {
            value: U256::from(value),
            ..request(Address::repeat_byte(5), vec![])
        };
        let outcome = estimated(&devnet, &transfer);
        let CallOutcome::Returned { gas_used, .. } = outcome else {
            panic!("it returns: {outcome:?}");
        };
        assert_eq!(gas_used, 21_000);
    }
}
