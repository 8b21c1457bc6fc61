//! The header, which commits to all of a block.

use crate::spec::{BASE_FEE_INITIAL, BlockEnv, ChainSpec, Hardfork};
use alloy_consensus::proofs::{calculate_receipt_root, ordered_trie_root_encoded};
use alloy_consensus::{EMPTY_OMMER_ROOT_HASH, EthereumReceipt, Header, TxReceipt, TxType};
use alloy_eips::eip7685::EMPTY_REQUESTS_HASH;
use alloy_primitives::{Address, B64, B256, Bloom, Bytes, U256, keccak256};
use alloy_trie::EMPTY_ROOT_HASH;
use penstock_rules::block::{Block, WitnessEntry};
use penstock_rules::ids::Height;
use penstock_rules::state::Receipt;

/// A header with its hash, and the log's entry, unsigned.
pub(crate) struct Sealed {
    pub(crate) header: Header,
    pub(crate) hash: B256,
    pub(crate) block: Block,
}

/// What a block holds.
pub(crate) struct Contents<'a> {
    pub(crate) transactions: Vec<Bytes>,
    pub(crate) receipts: &'a [Receipt],
    pub(crate) witness: Vec<WitnessEntry>,
    pub(crate) state_root: B256,
}

/// The root that stands in `extraData`: of an ordered trie over the entries' RLP.
#[must_use]
pub fn witness_root(witness: &[WitnessEntry]) -> B256 {
    alloy_trie::root::ordered_trie_root(witness)
}

/// The receipt as Ethereum's receipts root covers it.
#[must_use]
pub fn consensus_receipt(receipt: &Receipt) -> EthereumReceipt {
    EthereumReceipt {
        // Types past these are refused at admission, so no receipt has one.
        tx_type: TxType::try_from(receipt.tx_type).unwrap_or(TxType::Legacy),
        success: receipt.success,
        cumulative_gas_used: receipt.cumulative_gas_used,
        logs: receipt.logs.clone(),
    }
}

/// All post-merge fields of the hardfork. Those that speak of what a devnet lacks (withdrawals, blobs, a beacon, requests
/// to it) have the value that stands for none.
pub(crate) fn seal(spec: &ChainSpec, env: &BlockEnv, contents: Contents<'_>) -> Sealed {
    let receipts: Vec<_> = contents
        .receipts
        .iter()
        .map(|receipt| consensus_receipt(receipt).into_with_bloom())
        .collect();
    let logs_bloom = receipts
        .iter()
        .fold(Bloom::ZERO, |bloom, receipt| bloom | receipt.bloom());
    let cancun = spec.hardfork >= Hardfork::Cancun;
    let header = Header {
        parent_hash: env.parent_hash,
        ommers_hash: EMPTY_OMMER_ROOT_HASH,
        beneficiary: env.coinbase,
        state_root: contents.state_root,
        transactions_root: ordered_trie_root_encoded(&contents.transactions),
        receipts_root: calculate_receipt_root(&receipts),
        logs_bloom,
        difficulty: U256::ZERO,
        number: env.number.0,
        gas_limit: env.gas_limit,
        gas_used: contents
            .receipts
            .last()
            .map_or(0, |receipt| receipt.cumulative_gas_used),
        timestamp: env.timestamp,
        extra_data: Bytes::copy_from_slice(&witness_root(&contents.witness)[..]),
        mix_hash: env.prevrandao,
        nonce: B64::ZERO,
        base_fee_per_gas: Some(env.base_fee),
        withdrawals_root: (spec.hardfork >= Hardfork::Shanghai).then_some(EMPTY_ROOT_HASH),
        blob_gas_used: cancun.then_some(0),
        excess_blob_gas: cancun.then_some(env.excess_blob_gas),
        parent_beacon_block_root: cancun.then_some(env.parent_beacon_root),
        requests_hash: (spec.hardfork >= Hardfork::Prague).then_some(EMPTY_REQUESTS_HASH),
        ..Header::default()
    };
    let rlp = alloy_rlp::encode(&header);
    Sealed {
        hash: keccak256(&rlp),
        block: Block {
            header: rlp.into(),
            transactions: contents.transactions,
            witness: contents.witness,
            signature: Bytes::new(),
        },
        header,
    }
}

/// The header of block 0.
pub(crate) fn genesis_header(spec: &ChainSpec, timestamp: u64, state_root: B256) -> Sealed {
    let env = BlockEnv {
        number: Height(0),
        timestamp,
        base_fee: BASE_FEE_INITIAL,
        gas_limit: spec.block_gas_limit,
        coinbase: Address::ZERO,
        prevrandao: B256::ZERO,
        parent_hash: B256::ZERO,
        parent_beacon_root: B256::ZERO,
        excess_blob_gas: 0,
    };
    let contents = Contents {
        transactions: Vec::new(),
        receipts: &[],
        witness: Vec::new(),
        state_root,
    };
    seal(spec, &env, contents)
}
