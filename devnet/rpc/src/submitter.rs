//! Where signed transactions go, and the files of models that they register.

use crate::errors::RpcError;
use alloy_primitives::Bytes;
use async_trait::async_trait;
use penstock_rules::ids::{ModelHash, TxHash};
use penstock_rules::tx::Refusal;

/// Takes signed transactions.
#[async_trait]
pub trait TxSubmitter: Send + Sync + 'static {
    /// Takes one EIP-2718 envelope. When the hash is returned, the transaction is durable.
    ///
    /// # Errors
    /// Why it was refused; [`Refusal::Busy`] where the pool can't be reached now.
    async fn send_raw(&self, raw: Bytes) -> Result<TxHash, Refusal>;

    /// Takes an ONNX file, checks it, and keeps it where shards find it by its hash. It is of use once it is registered.
    ///
    /// # Errors
    /// Why the model can't be used, or kept.
    async fn put_model(&self, _file: Bytes) -> Result<ModelHash, RpcError> {
        Err(RpcError::MethodNotFound("pipe_uploadModel".into()))
    }
}
