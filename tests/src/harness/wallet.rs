//! Accounts that sign here and send raw transactions, so that a test decides every nonce.

use alloy_consensus::{SignableTransaction, TxEip1559, TxEnvelope};
use alloy_eips::eip2718::Encodable2718;
use alloy_primitives::{Address, B256, Bytes, TxKind, U256};
use alloy_provider::{DynProvider, Provider};
use alloy_rpc_types_eth::{TransactionReceipt, TransactionRequest};
use alloy_signer::SignerSync;
use alloy_signer_local::PrivateKeySigner;
use penstock_rpc::DevAccounts;
use std::time::{Duration, Instant};

/// Pause between two looks for a receipt.
const POLL: Duration = Duration::from_millis(10);

/// An account with a nonce of its own keeping.
#[derive(Clone, Debug)]
pub struct Wallet {
    signer: PrivateKeySigner,
    chain_id: u64,
    /// Nonce of the next transaction.
    pub nonce: u64,
    /// Wei per gas to the producer.
    pub tip: u128,
}

/// A transaction that was signed.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its hash.
    pub hash: B256,
    /// Its envelope.
    pub raw: Bytes,
}

/// The first `count` accounts of the default mnemonic.
///
/// # Panics
/// Never: the mnemonic is one.
#[must_use]
pub fn wallets(count: u32) -> Vec<Wallet> {
    let accounts = DevAccounts::from_mnemonic(penstock::config::MNEMONIC_DEFAULT, count)
        .expect("the default mnemonic");
    accounts
        .signers()
        .iter()
        .map(|signer| Wallet {
            signer: signer.clone(),
            chain_id: 31_337,
            nonce: 0,
            tip: 1_000_000_000,
        })
        .collect()
}

impl Wallet {
    /// Its address.
    #[must_use]
    pub fn address(&self) -> Address {
        self.signer.address()
    }

    /// Signs a transaction with the next nonce. `to`: none makes a contract.
    ///
    /// # Panics
    /// Never: the key is one.
    pub fn sign(&mut self, to: Option<Address>, value: u64, input: Bytes, gas_limit: u64) -> Sent {
        let tx = TxEip1559 {
            chain_id: self.chain_id,
            nonce: self.nonce,
            gas_limit,
            max_fee_per_gas: 100_000_000_000,
            max_priority_fee_per_gas: self.tip,
            to: to.map_or(TxKind::Create, TxKind::Call),
            value: U256::from(value),
            access_list: Default::default(),
            input,
        };
        self.nonce += 1;
        let signature = self
            .signer
            .sign_hash_sync(&tx.signature_hash())
            .expect("the key signs");
        let envelope = TxEnvelope::from(tx.into_signed(signature));
        Sent {
            hash: *envelope.tx_hash(),
            raw: envelope.encoded_2718().into(),
        }
    }

    /// Sends a transaction and waits for its receipt.
    ///
    /// # Panics
    /// Where it is refused, or in no block in time.
    pub async fn send(
        &mut self,
        provider: &DynProvider,
        to: Option<Address>,
        input: Bytes,
        gas_limit: u64,
    ) -> TransactionReceipt {
        let sent = self.sign(to, 0, input, gas_limit);
        submit(provider, &sent).await;
        receipt(provider, sent.hash, Duration::from_secs(60)).await
    }

    /// Makes a contract and returns its address.
    ///
    /// # Panics
    /// Where that fails.
    pub async fn deploy(&mut self, provider: &DynProvider, code: Bytes) -> Address {
        let receipt = self.send(provider, None, code, 10_000_000).await;
        assert!(receipt.status(), "contract was not made");
        receipt.contract_address.expect("a contract's address")
    }
}

/// Sends a signed transaction.
///
/// # Panics
/// Where it is refused.
pub async fn submit(provider: &DynProvider, sent: &Sent) {
    let hash: B256 = provider
        .raw_request("eth_sendRawTransaction".into(), (sent.raw.clone(),))
        .await
        .expect("the transaction is accepted");
    assert_eq!(hash, sent.hash);
}

/// Waits for a receipt.
///
/// # Panics
/// Where it does not come in time.
pub async fn receipt(provider: &DynProvider, hash: B256, patience: Duration) -> TransactionReceipt {
    let start = Instant::now();
    loop {
        let found = provider.get_transaction_receipt(hash).await;
        if let Some(receipt) = found.expect("the devnet answers") {
            return receipt;
        }
        if start.elapsed() > patience {
            let status: serde_json::Value = provider
                .raw_request("pipe_getTransactionStatus".into(), (hash,))
                .await
                .expect("the devnet answers");
            panic!("{hash} is in no block after {patience:?}: {status}");
        }
        tokio::time::sleep(POLL).await;
    }
}

/// Runs a view.
///
/// # Panics
/// Where it reverts.
pub async fn view(provider: &DynProvider, to: Address, input: Bytes) -> Bytes {
    let request = TransactionRequest::default().to(to).input(input.into());
    provider.call(request).await.expect("the call returns")
}
