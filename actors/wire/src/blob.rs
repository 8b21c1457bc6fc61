//! Large immutable objects by their content: model weights, snapshots.

use alloy_primitives::B256;
use async_trait::async_trait;
use bytes::Bytes;

/// Why a blob store did not do what it was asked to.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BlobError {
    /// The store can't be reached now.
    #[error("blob store is not reachable: {0}")]
    Unreachable(String),
    /// What is stored under this hash has another hash.
    #[error("blob {wanted} is damaged: its content hashes to {found}")]
    Damaged {
        /// keccak256 that was asked for.
        wanted: B256,
        /// keccak256 of what is there.
        found: B256,
    },
    /// The blob is larger than the store takes.
    #[error("blob of {size} bytes is larger than the store takes: {limit} bytes")]
    TooLarge {
        /// Bytes.
        size: usize,
        /// Bytes.
        limit: usize,
    },
}

/// Largest blob, in bytes. A blob is held in memory whole; models beyond 1 GiB do not fit the shards that we know.
pub const BLOB_BYTES_MAX: usize = 1 << 30;

/// Objects by keccak256.
#[async_trait]
pub trait BlobStore: Send + Sync + 'static {
    /// Stores and returns the hash. Durable before it returns. Storing the same again changes nothing.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn put(&self, bytes: Bytes) -> Result<B256, BlobError>;

    /// The blob with this hash, checked against it.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn get(&self, hash: B256) -> Result<Option<Bytes>, BlobError>;

    /// Hashes of all blobs, ascending.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn list(&self) -> Result<Vec<B256>, BlobError>;

    /// Removes a blob. One that is not there is no error.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn remove(&self, hash: B256) -> Result<(), BlobError>;

    /// Lets a name stand for a blob, whatever it stood for before. The name is no hash.
    ///
    /// Over the memory bus a name is gone with the process: nobody else could ask for it.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn point(&self, name: &str, to: B256) -> Result<(), BlobError>;

    /// What a name stands for. **Anyone who may store blobs may point names**: what is found has to be checked.
    ///
    /// # Errors
    /// See [`BlobError`].
    async fn pointed(&self, name: &str) -> Result<Option<B256>, BlobError>;
}
