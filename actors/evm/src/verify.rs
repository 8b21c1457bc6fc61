//! Verification: a block is executed again from its transactions and witness alone, with no shard alive.

use crate::attest::{Attesters, check_attestation, signer_of};
use crate::dev::{self, DevError};
use crate::execute::{BlockBuilder, ExecutedBlock, PushError};
use crate::recover::recover;
use crate::spec::{ChainSpec, next_env};
use crate::state::State;
use alloy_consensus::Header;
use alloy_primitives::B256;
use alloy_rlp::Decodable;
use penstock_rules::block::{Block, WitnessEntry};
use penstock_rules::dev::{EntryError, Privileged, requests};
use penstock_rules::ids::{RequestKey, ShardId};
use penstock_rules::request::Settled;
use penstock_rules::tx::{PoolTx, Refusal};
use rayon::prelude::*;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a block is not valid.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum VerifyError {
    /// The header's bytes are no header, or not the canonical ones.
    #[error("header does not decode")]
    HeaderRlp,
    /// A field of the header is not what it must be.
    #[error("header field {0} is wrong")]
    Field(&'static str),
    /// No registered producer signed it.
    #[error("block is not signed by a producer")]
    Signature,
    /// A transaction's bytes are no signed transaction for this chain.
    #[error("transaction {index} does not decode: {why}")]
    Decode {
        /// Which.
        index: usize,
        /// Why.
        why: Refusal,
    },
    /// A transaction can't be at its place.
    #[error("transaction {index} is invalid: {why}")]
    Transaction {
        /// Which.
        index: usize,
        /// Why.
        why: PushError,
    },
    /// The privileged entry makes no sense.
    #[error(transparent)]
    Entry(#[from] EntryError),
    /// This chain does not take the privileged entry.
    #[error(transparent)]
    Privileged(#[from] DevError),
    /// The witness holds a request twice.
    #[error("witness holds request {0} twice")]
    WitnessTwice(RequestKey),
    /// The witness holds what execution did not consume, or in another order.
    #[error("witness entry {index} ({key}) is not what execution consumed there")]
    WitnessExtra {
        /// Which entry.
        index: usize,
        /// Its key.
        key: RequestKey,
    },
    /// Attestations of an entry are too few, not in order, or of shards that are not registered.
    #[error("attestations of request {0} make no quorum of registered shards")]
    Quorum(RequestKey),
    /// A signature of an attestation is wrong.
    #[error("attestation of shard {shard} for request {key} has a wrong signature")]
    Attestation {
        /// For what.
        key: RequestKey,
        /// Whose.
        shard: ShardId,
    },
}

/// Checks a block on its parent's state, and gives what follows from it.
///
/// Signatures are checked first, in parallel, because they are most of the cost and need no order; then all is
/// executed, and each field of the header is compared with what execution gives.
///
/// # Errors
/// The first reason found why it is not valid.
pub fn verify(
    state: &State,
    spec: &ChainSpec,
    parent: &Header,
    block: &Block,
) -> Result<ExecutedBlock, VerifyError> {
    let header = decode_header(block)?;
    let hash = alloy_primitives::keccak256(&block.header);
    check_producer(spec, hash, block)?;
    if header.parent_hash != parent.hash_slow() {
        return Err(VerifyError::Field("parentHash"));
    }
    let entry = Privileged::of(&block.witness)?;
    if !is_timestamp(&header, parent, state, entry.as_ref()) {
        return Err(VerifyError::Field("timestamp"));
    }
    let attesters = Attesters::of(state).map_err(|_| VerifyError::Field("parentHash"))?;
    let results = check_witness(requests(&block.witness), spec.chain_id, &attesters)?;
    let txs = recover_all(block, spec)?;

    let env = next_env(spec, state, parent, header.timestamp);
    let mut builder = match &entry {
        None => BlockBuilder::new(state.clone(), spec, env),
        Some(entry) => {
            dev::check(entry, spec, txs.len())?;
            BlockBuilder::privileged(state.clone(), spec, env, entry)?
        }
    };
    for (index, tx) in txs.iter().enumerate() {
        builder.push(tx, &results).map_err(|why| match why {
            // It is there, so its attestations are too few for the mode that execution asks for.
            PushError::Missing(key) if results.contains_key(&key) => VerifyError::Quorum(key),
            why => VerifyError::Transaction { index, why },
        })?;
    }
    let executed = builder.seal();
    for (index, entry) in block.witness.iter().enumerate() {
        if executed.block.witness.get(index).map(|used| used.key) != Some(entry.key) {
            return Err(VerifyError::WitnessExtra {
                index,
                key: entry.key,
            });
        }
    }
    compare(&header, &executed.header)?;
    Ok(ExecutedBlock {
        block: block.clone(),
        ..executed
    })
}

/// Whether a header has a timestamp that it may have.
fn is_timestamp(
    header: &Header,
    parent: &Header,
    state: &State,
    entry: Option<&Privileged>,
) -> bool {
    match (entry, dev::settings(state).clock.next_secs) {
        (Some(entry), _) => header.timestamp == entry.timestamp_secs,
        (None, Some(set)) => header.timestamp == set,
        // Equal is allowed: a devnet can make many blocks in a second, and must not run ahead of the clock for it.
        (None, None) => header.timestamp >= parent.timestamp,
    }
}

/// The header, if its bytes are the canonical ones.
fn decode_header(block: &Block) -> Result<Header, VerifyError> {
    let header = Header::decode(&mut &block.header[..]).map_err(|_| VerifyError::HeaderRlp)?;
    if alloy_rlp::encode(&header) != block.header {
        return Err(VerifyError::HeaderRlp);
    }
    Ok(header)
}

fn check_producer(spec: &ChainSpec, hash: B256, block: &Block) -> Result<(), VerifyError> {
    signer_of(hash, &block.signature)
        .filter(|signer| spec.producers.contains(signer))
        .map(drop)
        .ok_or(VerifyError::Signature)
}

/// Checks what does not depend on execution, and gives the entries as results.
fn check_witness(
    witness: &[WitnessEntry],
    chain_id: u64,
    attesters: &Attesters,
) -> Result<BTreeMap<RequestKey, Arc<Settled>>, VerifyError> {
    let mut results = BTreeMap::new();
    for entry in witness {
        let settled = Settled {
            key: entry.key,
            outcome: entry.outcome.clone(),
            attestations: entry.attestations.clone(),
        };
        if !attesters.known(&settled) {
            return Err(VerifyError::Quorum(entry.key));
        }
        if results.insert(entry.key, Arc::new(settled)).is_some() {
            return Err(VerifyError::WitnessTwice(entry.key));
        }
    }
    witness.par_iter().try_for_each(|entry| {
        let outcome = entry.outcome.hash();
        let wrong = entry
            .attestations
            .iter()
            .find(|attestation| !check_attestation(attestation, chain_id, entry.key, outcome));
        wrong.map_or(Ok(()), |attestation| {
            Err(VerifyError::Attestation {
                key: entry.key,
                shard: attestation.shard,
            })
        })
    })?;
    Ok(results)
}

fn recover_all(block: &Block, spec: &ChainSpec) -> Result<Vec<PoolTx>, VerifyError> {
    block
        .transactions
        .par_iter()
        .enumerate()
        .map(|(index, raw)| recover(raw, spec).map_err(|why| VerifyError::Decode { index, why }))
        .collect()
}

/// Names the first field in which the header is not what execution gives.
fn compare(given: &Header, computed: &Header) -> Result<(), VerifyError> {
    macro_rules! same {
        ($($field:ident: $name:literal),* $(,)?) => {
            $(if given.$field != computed.$field {
                return Err(VerifyError::Field($name));
            })*
        };
    }
    same! {
        number: "number",
        parent_hash: "parentHash",
        ommers_hash: "sha3Uncles",
        beneficiary: "miner",
        difficulty: "difficulty",
        nonce: "nonce",
        mix_hash: "mixHash",
        gas_limit: "gasLimit",
        base_fee_per_gas: "baseFeePerGas",
        withdrawals_root: "withdrawalsRoot",
        blob_gas_used: "blobGasUsed",
        excess_blob_gas: "excessBlobGas",
        parent_beacon_block_root: "parentBeaconBlockRoot",
        requests_hash: "requestsHash",
        extra_data: "extraData",
        transactions_root: "transactionsRoot",
        gas_used: "gasUsed",
        receipts_root: "receiptsRoot",
        logs_bloom: "logsBloom",
        state_root: "stateRoot",
    }
    // What is left: fields of hardforks that we don't know.
    if given == computed {
        Ok(())
    } else {
        Err(VerifyError::Field("unknown"))
    }
}
