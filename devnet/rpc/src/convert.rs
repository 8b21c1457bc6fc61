//! Blocks, transactions, receipts and logs as Ethereum's JSON has them.
//!
//! The forms are alloy's, which follow execution-apis. What clients rely on beyond the types stands in `rpc.md`'s list
//! of quirks, and is held by the fixtures in `devnet/rpc/tests`.

use crate::reader::{ChainBlock, PendingTx};
use alloy_consensus::transaction::Recovered;
use alloy_consensus::{
    Eip658Value, Receipt as ConsensusReceipt, ReceiptEnvelope, ReceiptWithBloom, Sealed,
    Transaction as _, TxEnvelope,
};
use alloy_primitives::{Bloom, U256};
use alloy_rpc_types_eth::{Block, BlockTransactions, Header, Log, Transaction, TransactionReceipt};

/// A block's header, with hash and size.
pub fn header(block: &ChainBlock) -> Header {
    Header::from_consensus(
        Sealed::new_unchecked(block.header.clone(), block.hash),
        None,
        Some(U256::from(block.size)),
    )
}

/// How much of its transactions a block's JSON shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Their hashes.
    Hashes,
    /// All of them.
    Full,
}

impl From<bool> for Detail {
    fn from(full: bool) -> Self {
        if full { Self::Full } else { Self::Hashes }
    }
}

/// A block.
pub fn block(block: &ChainBlock, detail: Detail) -> Block {
    let transactions = match detail {
        Detail::Hashes => {
            BlockTransactions::Hashes(block.transactions.iter().map(|tx| *tx.tx_hash()).collect())
        }
        Detail::Full => BlockTransactions::Full(
            (0..block.transactions.len())
                .filter_map(|index| transaction(block, index))
                .collect(),
        ),
    };
    Block {
        header: header(block),
        uncles: Vec::new(),
        transactions,
        withdrawals: block
            .header
            .withdrawals_root
            .is_some()
            .then(Default::default),
    }
}

/// The transaction at `index` of a block.
pub fn transaction(block: &ChainBlock, index: usize) -> Option<Transaction> {
    let envelope = block.transactions.get(index)?;
    let sender = *block.senders.get(index)?;
    Some(Transaction {
        inner: Recovered::new_unchecked(envelope.clone(), sender),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        transaction_index: Some(index as u64),
        effective_gas_price: Some(envelope.effective_gas_price(block.header.base_fee_per_gas)),
        block_timestamp: Some(block.header.timestamp),
    })
}

/// A transaction of the pool. The block's fields are null.
pub fn pending_transaction(pending: &PendingTx) -> Transaction {
    unmined(pending.envelope.clone(), pending.tx.sender)
}

/// A transaction that is in no block.
pub fn unmined(envelope: TxEnvelope, sender: alloy_primitives::Address) -> Transaction {
    let price = envelope.max_fee_per_gas();
    Transaction {
        inner: Recovered::new_unchecked(envelope, sender),
        block_hash: None,
        block_number: None,
        transaction_index: None,
        effective_gas_price: Some(price),
        block_timestamp: None,
    }
}

/// The receipt at `index` of a block.
pub fn receipt(block: &ChainBlock, index: usize) -> Option<TransactionReceipt> {
    let envelope = block.transactions.get(index)?;
    let receipt = block.receipts.get(index)?;
    let logs_bloom: Bloom = receipt.logs.iter().collect();
    let inner = ReceiptEnvelope::from_typed(
        envelope.tx_type(),
        ReceiptWithBloom {
            receipt: ConsensusReceipt {
                status: Eip658Value::Eip658(receipt.success),
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: logs(block, index).collect(),
            },
            logs_bloom,
        },
    );
    Some(TransactionReceipt {
        inner,
        transaction_hash: receipt.tx_hash,
        transaction_index: Some(index as u64),
        block_hash: Some(block.hash),
        block_number: Some(block.header.number),
        gas_used: receipt.gas_used,
        effective_gas_price: receipt.effective_gas_price,
        blob_gas_used: None,
        blob_gas_price: None,
        from: receipt.from,
        to: envelope.to(),
        contract_address: receipt.contract_address,
    })
}

/// The receipt at `index` of a block, as the receipts root covers it.
pub fn consensus_receipt(block: &ChainBlock, index: usize) -> Option<ReceiptEnvelope> {
    let receipt = block.receipts.get(index)?;
    Some(ReceiptEnvelope::from_typed(
        block.transactions.get(index)?.tx_type(),
        ReceiptWithBloom {
            receipt: ConsensusReceipt {
                status: Eip658Value::Eip658(receipt.success),
                cumulative_gas_used: receipt.cumulative_gas_used,
                logs: receipt.logs.clone(),
            },
            logs_bloom: receipt.logs.iter().collect(),
        },
    ))
}

/// All receipts of a block.
pub fn receipts(block: &ChainBlock) -> Vec<TransactionReceipt> {
    (0..block.receipts.len())
        .filter_map(|index| receipt(block, index))
        .collect()
}

/// The logs of the transaction at `index` of a block.
pub fn logs(block: &ChainBlock, index: usize) -> impl Iterator<Item = Log> + '_ {
    let first = block.first_log.get(index).copied().unwrap_or_default();
    block
        .receipts
        .get(index)
        .into_iter()
        .flat_map(move |receipt| {
            receipt
                .logs
                .iter()
                .zip(first..)
                .map(move |(log, log_index)| Log {
                    inner: log.clone(),
                    block_hash: Some(block.hash),
                    block_number: Some(block.header.number),
                    block_timestamp: Some(block.header.timestamp),
                    transaction_hash: Some(receipt.tx_hash),
                    transaction_index: Some(index as u64),
                    log_index: Some(log_index),
                    removed: false,
                })
        })
}
