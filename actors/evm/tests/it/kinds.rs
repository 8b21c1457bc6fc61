//! Each way to reach the precompile, and each way in which it answers.

use crate::devnet::*;
use alloy_primitives::{Address, U256};
use alloy_sol_types::{SolCall, SolError, SolEvent};
use penstock_evm::Finding;
use penstock_rules::request::{Mode, ModelError};

const CALL: u8 = 0;
const STATICCALL: u8 = 1;
const DELEGATECALL: u8 = 2;
const CALLCODE: u8 = 3;

/// What the contract got, what the call cost, and whether F4 emitted its log and the block a witness.
struct Reached {
    success: bool,
    data: Vec<u8>,
    inference_gas: u64,
    logs: usize,
    witness: usize,
}

fn reach(kind: u8, value: u64, sent: u64) -> Reached {
    let mut devnet = Devnet::new();
    let kinds = devnet.deploy("CallKinds");
    let data = reachCall {
        kind,
        value: U256::from(value),
        row: row(1),
    };
    let tx = devnet.sign(Draft {
        value: sent,
        ..Draft::call(1, kinds, data.abi_encode())
    });
    let receipt = devnet.run(&tx);
    assert!(receipt.success);
    let returned = events::<Returned>(&receipt).remove(0);
    assert_eq!(
        devnet.balance(F4),
        U256::ZERO,
        "no value stays at the precompile"
    );
    let at_f4 = receipt.logs.iter().filter(|log| log.address == F4).count();
    assert_eq!(at_f4, events::<ModelInferenceEvent>(&receipt).len());
    Reached {
        success: returned.success,
        data: returned.data.to_vec(),
        inference_gas: receipt.inference_gas_used,
        logs: at_f4,
        witness: devnet.head.block.witness.len(),
    }
}

#[test]
fn call_delegatecall_and_callcode_answer_and_log_alike() {
    for kind in [CALL, DELEGATECALL, CALLCODE] {
        let reached = reach(kind, 0, 0);
        assert!(reached.success, "kind {kind}");
        let output = runModelInferenceCall::abi_decode_returns(&reached.data).expect("an output");
        assert!(!output.is_simulation_result);
        assert_eq!(output.numbers[0].shape, [1, 1]);
        assert_eq!(
            (reached.inference_gas, reached.logs, reached.witness),
            (PRICE, 1, 1)
        );
    }
}

#[test]
fn a_static_call_fails_as_any_that_would_log() {
    let reached = reach(STATICCALL, 0, 0);
    assert!(!reached.success);
    assert!(reached.data.is_empty());
    assert_eq!(
        (reached.inference_gas, reached.logs, reached.witness),
        (0, 0, 0)
    );
}

#[test]
fn value_reverts_and_comes_back() {
    for kind in [CALL, CALLCODE] {
        let reached = reach(kind, 5, 5);
        assert!(!reached.success, "kind {kind}");
        assert!(reached.data.is_empty());
        assert_eq!(
            (reached.inference_gas, reached.logs, reached.witness),
            (0, 0, 0)
        );
    }
    // A delegated call only shows the value of its caller, and is answered.
    assert!(reach(DELEGATECALL, 0, 5).success);
}

#[test]
fn a_transaction_can_call_the_precompile_itself() {
    let mut devnet = Devnet::new();
    let tx = devnet.sign(Draft::call(1, F4, inference(1, Mode::Vanilla)));
    let receipt = devnet.run(&tx);
    assert!(receipt.success);
    assert!(runModelInferenceCall::abi_decode_returns(&receipt.output).is_ok());
    let event = ModelInferenceEvent::decode_log_data(&receipt.logs[0].data).expect("the event");
    let key = devnet.head.block.witness[0].key;
    assert_eq!(event.inferenceID, key.to_string());
    assert_eq!(event.request.modelCID, MODEL);
    assert!(event.response.jsons.is_empty());
    devnet_value(&mut devnet);
}

/// Value that a transaction itself sends to the precompile comes back too.
fn devnet_value(devnet: &mut Devnet) {
    let draft = Draft {
        value: 7,
        ..Draft::call(1, F4, inference(1, Mode::Vanilla))
    };
    let tx = devnet.sign(draft);
    let receipt = devnet.run(&tx);
    assert!(!receipt.success);
    assert_eq!(devnet.balance(F4), U256::ZERO);
}

#[test]
fn a_request_in_a_reverted_frame_is_witnessed_and_paid_for() {
    let mut devnet = Devnet::new();
    let kinds = devnet.deploy("CallKinds");
    let tx = devnet.send(1, kinds, inRevertedFrameCall { row: row(1) });
    let receipt = devnet.run(&tx);
    assert!(receipt.success);
    let returned = events::<Returned>(&receipt).remove(0);
    assert!(!returned.success);
    // Error selector, value, decimals: the answer came out of the frame, its log did not.
    assert_eq!(returned.data.len(), 4 + 64);
    assert!(events::<ModelInferenceEvent>(&receipt).is_empty());
    assert_eq!(receipt.inference_gas_used, PRICE);
    assert_eq!(devnet.head.block.witness.len(), 1);
}

#[test]
fn a_constructor_gets_an_answer() {
    let mut devnet = Devnet::new();
    let arguments = bytes_argument(&inference(4, Mode::Vanilla));
    let code = [creation_code("InConstructor"), arguments].concat();
    let tx = devnet.sign(Draft::create(1, code));
    let receipt = devnet.run(&tx);
    let made = receipt.contract_address.expect("made");
    assert!(devnet.read(made, successCall {}));
    let output = devnet.read(made, returnedCall {});
    assert!(runModelInferenceCall::abi_decode_returns(&output).is_ok());
    assert_eq!(receipt.inference_gas_used, PRICE);
}

#[test]
fn the_same_request_twice_is_computed_once_and_paid_twice() {
    let mut devnet = Devnet::new();
    let kinds = devnet.deploy("CallKinds");
    let data = || reachCall {
        kind: CALL,
        value: U256::ZERO,
        row: row(1),
    };
    let txs = [devnet.send(1, kinds, data()), devnet.send(2, kinds, data())];
    devnet.prepare(&txs[0]);
    assert_eq!(devnet.prepare(&txs[1]), 0);
    let receipts = devnet.include(&txs);
    assert_eq!(
        receipts.iter().map(|r| r.inference_gas_used).sum::<u64>(),
        2 * PRICE
    );
    assert_eq!(devnet.head.block.witness.len(), 1);
}

#[test]
fn what_can_not_be_asked_reverts_with_a_typed_error_and_asks_nobody() {
    let mut devnet = Devnet::new();
    let llm = penstock_evm::abi::solidity::runLLMChatCall::SELECTOR.to_vec();
    let mut cases = vec![
        (
            F4,
            inference_of("nobody", 1, Mode::Vanilla),
            UnknownModel {
                cid: "nobody".into(),
            }
            .abi_encode(),
        ),
        (F4, llm, Unsupported {}.abi_encode()),
        (
            penstock_evm::predeploys::HISTORICAL,
            penstock_evm::abi::solidity::queryHistoricalCandlesCall::SELECTOR.to_vec(),
            Unsupported {}.abi_encode(),
        ),
    ];
    let mut wrong = inference(1, Mode::Vanilla);
    let width = wrong.len();
    // The last word of the calldata is the end of the (empty) strings, before it stands the shape's 4.
    let at = (0..width - 31)
        .rev()
        .find(|&at| U256::from_be_slice(&wrong[at..at + 32]) == U256::from(4))
        .expect("the shape's last dimension");
    wrong[at + 31] = 3;
    cases.push((
        F4,
        wrong,
        ModelFailed {
            reason: ModelError::WrongInput as u8,
        }
        .abi_encode(),
    ));
    for (to, data, revert) in cases {
        let tx = devnet.sign(Draft::call(1, to, data));
        assert!(matches!(devnet.discover_one(&tx), Finding::Ready { keys, .. } if keys.is_empty()));
        let receipt = devnet.include(&[tx]).remove(0);
        assert!(!receipt.success);
        assert_eq!(receipt.output, revert);
        assert_eq!(receipt.inference_gas_used, 0);
    }
}

#[test]
fn a_model_that_fails_is_witnessed_paid_for_and_reverts_with_its_reason() {
    let mut devnet = Devnet::new();
    let careful = devnet.deploy("TryCatch");
    let tx = devnet.send(
        1,
        careful,
        attemptCall {
            row: row(FAILS_FROM),
        },
    );
    let receipt = devnet.run(&tx);
    let caught = events::<Caught>(&receipt).remove(0);
    let expected = ModelFailed {
        reason: ModelError::NotFinite as u8,
    }
    .abi_encode();
    assert_eq!(caught.reason, expected);
    assert_eq!(receipt.inference_gas_used, PRICE);
    assert_eq!(devnet.head.block.witness.len(), 1);
    assert!(events::<ModelInferenceEvent>(&receipt).is_empty());
}

#[test]
fn the_price_follows_the_units_of_the_input() {
    let mut devnet = Devnet::new();
    let values: Vec<_> = (0..3).flat_map(row).collect();
    let request = ModelInferenceRequest {
        mode: 0,
        modelCID: MODEL.into(),
        input: Input {
            numbers: vec![Tensors {
                name: "x".into(),
                values,
                shape: vec![3, 4],
            }],
            strings: vec![],
        },
    };
    let tx = devnet.sign(Draft::call(
        1,
        F4,
        runModelInferenceCall { request }.abi_encode(),
    ));
    let receipt = devnet.run(&tx);
    assert!(receipt.success);
    assert_eq!(
        receipt.inference_gas_used,
        (IGAS_BASE + 3 * IGAS_PER_UNIT) * 100
    );
}

#[test]
fn preprocessing_needs_no_round() {
    let mut devnet = Devnet::new();
    let values = row(3)
        .into_iter()
        .map(|n| penstock_evm::abi::solidity::Number {
            value: n.value,
            decimals: n.decimals,
        })
        .collect();
    let data = penstock_evm::abi::solidity::maxCall { values }.abi_encode();
    let tx = devnet.sign(Draft::call(
        1,
        penstock_evm::predeploys::PREPROCESSING,
        data,
    ));
    assert_eq!(devnet.prepare(&tx), 0);
    let receipt = devnet.include(&[tx]).remove(0);
    assert!(receipt.success);
    assert_eq!(U256::from_be_slice(&receipt.output[..32]), U256::from(3));
}

#[test]
fn code_that_is_delegated_to_the_precompile_is_its_one_byte() {
    // EIP-7702 gives an account the code of another address, and at F4 that is an invalid instruction, not a model.
    use alloy_consensus::TxEip7702;
    use alloy_eips::eip2718::Encodable2718;
    let mut devnet = Devnet::new();
    let authorization = alloy_eips::eip7702::Authorization {
        chain_id: U256::from(devnet.spec.chain_id),
        address: F4,
        nonce: 0,
    };
    let bytes = account(5).sign(authorization.signature_hash());
    let signature =
        alloy_primitives::Signature::from_bytes_and_parity(&bytes[..64], bytes[64] == 1);
    let tx = TxEip7702 {
        chain_id: devnet.spec.chain_id,
        nonce: 0,
        gas_limit: 500_000,
        max_fee_per_gas: 10_000_000_000,
        max_priority_fee_per_gas: 1,
        to: account(5).address(),
        value: U256::ZERO,
        access_list: Default::default(),
        authorization_list: vec![authorization.into_signed(signature)],
        input: inference(1, Mode::Vanilla).into(),
    };
    let raw = signed(tx, &account(4)).encoded_2718();
    let tx = penstock_evm::recover(&raw, &devnet.spec).expect("a good transaction");
    let receipt = devnet.include(&[tx]).remove(0);
    assert!(!receipt.success);
    assert_eq!(receipt.inference_gas_used, 0);
    let Ok(delegated) =
        penstock_rules::state::StateRead::account(devnet.state(), account(5).address());
    assert_ne!(
        delegated.expect("an account").code_hash,
        penstock_rules::state::EMPTY_CODE_HASH
    );
    assert_ne!(account(5).address(), Address::ZERO);
}
