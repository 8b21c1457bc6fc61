//! Blocks that are not what execution gives are refused, each for its reason.

use crate::devnet::*;
use alloy_consensus::Header;
use alloy_primitives::{Address, B256, Bytes, U256, keccak256};
use alloy_rlp::Decodable;
use penstock_evm::{PushError, VerifyError, attest, witness_root};
use penstock_rules::block::{Block, WitnessEntry};
use penstock_rules::ids::RequestKey;
use penstock_rules::request::{Mode, ModelError, Outcome};

/// A devnet with a valid next block of two inference transactions, the second of which needs two equal answers.
fn scene() -> (Devnet, Block) {
    let mut devnet = Devnet::new();
    let txs = [
        devnet.sign(Draft::call(1, F4, inference(1, Mode::Vanilla))),
        devnet.sign(Draft::call(2, F4, inference(2, Mode::Tee))),
    ];
    for tx in &txs {
        devnet.prepare(tx);
    }
    let (built, results) = devnet.build(&txs);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(built.block.witness.len(), 2);
    devnet
        .verify(&built.block)
        .expect("the block is valid before it is changed");
    (devnet, built.block)
}

/// Changes the header, and signs it as its producer would.
fn reforge(devnet: &Devnet, block: &mut Block, change: impl FnOnce(&mut Header)) {
    let mut header = Header::decode(&mut &block.header[..]).expect("a header");
    change(&mut header);
    block.header = alloy_rlp::encode(&header).into();
    block.signature = devnet.producer.sign(keccak256(&block.header));
}

fn check(
    name: &str,
    change: impl FnOnce(&Devnet, &mut Block),
    expected: impl FnOnce(&VerifyError) -> bool,
) {
    let (devnet, mut block) = scene();
    change(&devnet, &mut block);
    let error = devnet.verify(&block).expect_err(name);
    assert!(expected(&error), "{name}: {error}");
}

/// As [`check`], with a change of the witness that the header commits to.
fn check_witness(
    name: &str,
    change: impl FnOnce(&Devnet, &mut Vec<WitnessEntry>),
    expected: impl FnOnce(&VerifyError) -> bool,
) {
    let forge = |devnet: &Devnet, block: &mut Block| {
        change(devnet, &mut block.witness);
        let root = witness_root(&block.witness);
        reforge(devnet, block, |header| {
            header.extra_data = Bytes::copy_from_slice(&root[..])
        });
    };
    check(name, forge, expected);
}

#[test]
fn a_witness_that_is_not_what_was_consumed_is_refused() {
    check_witness(
        "missing",
        |_, witness| drop(witness.remove(0)),
        |error| {
            matches!(
                error,
                VerifyError::Transaction {
                    index: 0,
                    why: PushError::Missing(_)
                }
            )
        },
    );
    check_witness(
        "extra",
        |devnet, witness| {
            let key = RequestKey(B256::repeat_byte(9));
            let outcome = Outcome::Failed(ModelError::Domain);
            let attestations = vec![attest(
                &devnet.shards[0],
                devnet.spec.chain_id,
                key,
                outcome.hash(),
            )];
            witness.push(WitnessEntry {
                key,
                outcome,
                attestations,
            });
        },
        |error| matches!(error, VerifyError::WitnessExtra { index: 2, .. }),
    );
    check_witness(
        "twice",
        |_, witness| witness.push(witness[0].clone()),
        |error| matches!(error, VerifyError::WitnessTwice(_)),
    );
    check_witness(
        "another order",
        |_, witness| witness.swap(0, 1),
        |error| matches!(error, VerifyError::WitnessExtra { index: 0, .. }),
    );
    check(
        "not committed to",
        |_, block| block.witness.swap(0, 1),
        |error| {
            matches!(
                error,
                VerifyError::WitnessExtra { .. } | VerifyError::Field("extraData")
            )
        },
    );
}

#[test]
fn an_outcome_that_no_quorum_of_shards_signed_is_refused() {
    check_witness(
        "another outcome",
        |_, witness| witness[0].outcome = Outcome::Failed(ModelError::NotFinite),
        |error| matches!(error, VerifyError::Attestation { .. }),
    );
    check_witness(
        "wrong signature",
        |_, witness| {
            let mut signature = witness[0].attestations[0].signature.to_vec();
            signature[40] ^= 1;
            witness[0].attestations[0].signature = signature.into();
        },
        |error| matches!(error, VerifyError::Attestation { .. }),
    );
    check_witness(
        "for another chain",
        |devnet, witness| {
            let (key, hash) = (witness[0].key, witness[0].outcome.hash());
            witness[0].attestations = vec![attest(&devnet.shards[0], 1, key, hash)];
        },
        |error| matches!(error, VerifyError::Attestation { .. }),
    );
    check_witness(
        "nobody",
        |_, witness| witness[0].attestations.clear(),
        |error| matches!(error, VerifyError::Quorum(_)),
    );
    check_witness(
        "one of two",
        |_, witness| witness[1].attestations.truncate(1),
        |error| matches!(error, VerifyError::Quorum(_)),
    );
    check_witness(
        "the same twice",
        |_, witness| {
            let first = witness[1].attestations[0].clone();
            witness[1].attestations = vec![first.clone(), first];
        },
        |error| matches!(error, VerifyError::Quorum(_)),
    );
    check_witness(
        "a stranger",
        |devnet, witness| {
            let (key, hash) = (witness[0].key, witness[0].outcome.hash());
            witness[0].attestations = vec![attest(
                &key_of_a_stranger(),
                devnet.spec.chain_id,
                key,
                hash,
            )];
        },
        |error| matches!(error, VerifyError::Quorum(_)),
    );
}

fn key_of_a_stranger() -> penstock_evm::SigningKey {
    key(77)
}

#[test]
fn each_field_of_the_header_is_checked() {
    type Change = fn(&mut Header);
    let fields: [(&str, Change); 21] = [
        ("parentHash", |h| h.parent_hash = B256::ZERO),
        ("sha3Uncles", |h| h.ommers_hash = B256::ZERO),
        ("miner", |h| h.beneficiary = Address::ZERO),
        ("stateRoot", |h| h.state_root = B256::ZERO),
        ("transactionsRoot", |h| h.transactions_root = B256::ZERO),
        ("receiptsRoot", |h| h.receipts_root = B256::ZERO),
        ("logsBloom", |h| h.logs_bloom.0[3] ^= 1),
        ("difficulty", |h| h.difficulty = U256::ONE),
        ("number", |h| h.number += 1),
        ("gasLimit", |h| h.gas_limit += 1),
        ("gasUsed", |h| h.gas_used += 1),
        ("timestamp", |h| h.timestamp = 1),
        ("extraData", |h| h.extra_data = Bytes::new()),
        ("mixHash", |h| h.mix_hash = B256::ZERO),
        ("nonce", |h| h.nonce = 1u64.into()),
        ("baseFeePerGas", |h| h.base_fee_per_gas = Some(1)),
        ("withdrawalsRoot", |h| h.withdrawals_root = Some(B256::ZERO)),
        ("blobGasUsed", |h| h.blob_gas_used = Some(1)),
        ("excessBlobGas", |h| h.excess_blob_gas = Some(1)),
        ("parentBeaconBlockRoot", |h| {
            h.parent_beacon_block_root = Some(B256::repeat_byte(1))
        }),
        ("requestsHash", |h| h.requests_hash = Some(B256::ZERO)),
    ];
    let (devnet, block) = scene();
    for (name, change) in fields {
        let mut block = block.clone();
        reforge(&devnet, &mut block, change);
        assert_eq!(devnet.verify(&block).err(), Some(VerifyError::Field(name)));
    }
    // A later timestamp changes what execution gives: the state (EIP-4788) at least.
    let mut late = block.clone();
    reforge(&devnet, &mut late, |h| h.timestamp += 1);
    assert_eq!(
        devnet.verify(&late).err(),
        Some(VerifyError::Field("stateRoot"))
    );
    // A field of a hardfork that is not there.
    let mut future = block;
    reforge(&devnet, &mut future, |h| {
        h.block_access_list_hash = Some(B256::ZERO)
    });
    assert_eq!(
        devnet.verify(&future).err(),
        Some(VerifyError::Field("unknown"))
    );
}

#[test]
fn signatures_of_producers_and_senders_are_checked() {
    check(
        "not signed",
        |_, block| block.signature = Bytes::new(),
        |error| *error == VerifyError::Signature,
    );
    check(
        "signed by a shard",
        |devnet, block| block.signature = devnet.shards[0].sign(keccak256(&block.header)),
        |error| *error == VerifyError::Signature,
    );
    check(
        "header is no header",
        |_, block| block.header = Bytes::from_static(&[0xc0]),
        |error| *error == VerifyError::HeaderRlp,
    );
    check(
        "bytes behind the header",
        |devnet, block| {
            block.header = [&block.header[..], &[0]].concat().into();
            block.signature = devnet.producer.sign(keccak256(&block.header));
        },
        |error| *error == VerifyError::HeaderRlp,
    );
    check(
        "transaction cut short",
        |_, block| {
            let raw = &block.transactions[1];
            block.transactions[1] = raw.slice(..raw.len() - 1);
        },
        |error| matches!(error, VerifyError::Decode { index: 1, .. }),
    );
    check(
        "transactions swapped",
        |_, block| block.transactions.swap(0, 1),
        |error| matches!(error, VerifyError::WitnessExtra { .. }),
    );
    check(
        "transaction twice",
        |_, block| block.transactions.push(block.transactions[0].clone()),
        |error| {
            matches!(
                error,
                VerifyError::Transaction {
                    index: 2,
                    why: PushError::Invalid(_)
                }
            )
        },
    );
}
