//! Where signed transactions go.

use alloy_primitives::Bytes;
use async_trait::async_trait;
use penstock_rules::ids::TxHash;
use penstock_rules::tx::Refusal;

/// Takes signed transactions.
#[async_trait]
pub trait TxSubmitter: Send + Sync + 'static {
    /// Takes one EIP-2718 envelope. When the hash is returned, the transaction is durable.
    ///
    /// # Errors
    /// Why it was refused; [`Refusal::Busy`] where the pool can't be reached now.
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal>;
}
