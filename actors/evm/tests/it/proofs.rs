//! EIP-1186 proofs, checked against the state root by alloy's verifier.

use crate::devnet::*;
use alloy_primitives::{Address, B256, U256, keccak256};
use alloy_trie::proof::verify_proof;
use alloy_trie::{Nibbles, TrieAccount};
use penstock_evm::State;
use penstock_evm::predeploys::{INFERENCE_MARKET, MULTIPLIER_SLOT};

fn check(state: &State, root: B256, address: Address, slots: &[U256]) {
    let proof = state.proof(address, slots);
    let account = proof.account.map(|account| {
        alloy_rlp::encode(TrieAccount {
            nonce: account.nonce,
            balance: account.balance,
            storage_root: proof.storage_root,
            code_hash: account.code_hash,
        })
    });
    let key = Nibbles::unpack(keccak256(address));
    assert_eq!(
        verify_proof(root, key, account, &proof.nodes),
        Ok(()),
        "{address}"
    );
    assert_eq!(proof.slots.len(), slots.len());
    for (slot, (value, nodes)) in slots.iter().zip(&proof.slots) {
        let key = Nibbles::unpack(keccak256(slot.to_be_bytes::<32>()));
        let value = (!value.is_zero()).then(|| alloy_rlp::encode(value));
        assert_eq!(
            verify_proof(proof.storage_root, key, value, nodes),
            Ok(()),
            "{address} {slot}"
        );
    }
}

#[test]
fn proofs_of_accounts_and_slots_that_are_there_and_that_are_not_hold_against_the_root() {
    let mut devnet = Devnet::new();
    let contract = devnet.deploy("Fanout");
    let (state, root) = (devnet.state(), devnet.head.header.state_root);
    let slots: Vec<U256> = (0..8).map(U256::from).collect();
    check(state, root, contract, &slots);
    check(state, root, INFERENCE_MARKET, &[MULTIPLIER_SLOT]);
    check(state, root, account(0).address(), &[U256::ZERO]);
    for byte in 0..64 {
        check(state, root, Address::repeat_byte(byte), &[U256::ZERO]);
    }
    assert!(
        devnet
            .state()
            .proof(Address::repeat_byte(9), &[])
            .account
            .is_none()
    );
}
