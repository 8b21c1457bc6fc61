//! Blobs in a JetStream object store, by keccak256.

use super::streams::{Names, until_ready};
use super::{Link, NatsConfig, NatsError, NatsRole};
use crate::blob::{BLOB_BYTES_MAX, BlobError, BlobStore};
use alloy_primitives::{B256, keccak256};
use async_nats::jetstream::object_store::{
    Config, DeleteErrorKind, GetErrorKind, InfoErrorKind, ObjectStore,
};
use async_trait::async_trait;
use bytes::Bytes;
use futures::StreamExt;
use tokio::io::AsyncReadExt;

/// Blobs in an object store.
pub(super) struct NatsBlobs {
    store: ObjectStore,
}

impl NatsBlobs {
    /// The bucket is not bound to a genesis: what it holds is named by its content, so chains may share it.
    pub(super) async fn open(
        link: &Link,
        config: &NatsConfig,
        names: &Names,
    ) -> Result<Self, NatsError> {
        let bucket = names.bucket();
        let wanted = || Config {
            bucket: bucket.clone(),
            num_replicas: config.replicas,
            ..Config::default()
        };
        let store = until_ready(&bucket, || async {
            match link.jetstream.get_object_store(&bucket).await {
                Ok(store) => Ok(store),
                // A shard waits until a node has made it.
                Err(error) if matches!(config.role, Some(NatsRole::Shard(_))) => {
                    Err(error.to_string())
                }
                Err(_) => {
                    let made = link.jetstream.create_object_store(wanted()).await;
                    made.map_err(|error| error.to_string())
                }
            }
        });
        Ok(Self {
            store: store.await?,
        })
    }
}

fn unreachable(error: impl std::fmt::Display) -> BlobError {
    BlobError::Unreachable(error.to_string())
}

#[async_trait]
impl BlobStore for NatsBlobs {
    async fn put(&self, bytes: Bytes) -> Result<B256, BlobError> {
        if bytes.len() > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge {
                size: bytes.len(),
                limit: BLOB_BYTES_MAX,
            });
        }
        let hash = keccak256(&bytes);
        let name = hash.to_string();
        match self.store.info(&name).await {
            Ok(info) if info.size == bytes.len() => return Ok(hash),
            Ok(_) => {}
            Err(error) if error.kind() == InfoErrorKind::NotFound => {}
            Err(error) => return Err(unreachable(error)),
        }
        let put = self.store.put(name.as_str(), &mut &bytes[..]).await;
        put.map_err(unreachable)?;
        Ok(hash)
    }

    async fn get(&self, hash: B256) -> Result<Option<Bytes>, BlobError> {
        let mut object = match self.store.get(hash.to_string()).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        };
        let size = object.info().size;
        if size > BLOB_BYTES_MAX {
            return Err(BlobError::TooLarge {
                size,
                limit: BLOB_BYTES_MAX,
            });
        }
        let mut bytes = Vec::with_capacity(size);
        object.read_to_end(&mut bytes).await.map_err(unreachable)?;
        let found = keccak256(&bytes);
        if found != hash {
            return Err(BlobError::Damaged {
                wanted: hash,
                found,
            });
        }
        Ok(Some(bytes.into()))
    }

    async fn list(&self) -> Result<Vec<B256>, BlobError> {
        let mut list = self.store.list().await.map_err(unreachable)?;
        let mut hashes = Vec::new();
        while let Some(object) = list.next().await {
            // An object with another name is not ours.
            if let Ok(hash) = object.map_err(unreachable)?.name.parse() {
                hashes.push(hash);
            }
        }
        hashes.sort_unstable();
        Ok(hashes)
    }

    async fn remove(&self, hash: B256) -> Result<(), BlobError> {
        match self.store.delete(hash.to_string()).await {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == DeleteErrorKind::NotFound => Ok(()),
            Err(error) => Err(unreachable(error)),
        }
    }

    async fn point(&self, name: &str, to: B256) -> Result<(), BlobError> {
        let put = self.store.put(name, &mut &to[..]).await;
        put.map_err(unreachable)?;
        Ok(())
    }

    async fn pointed(&self, name: &str) -> Result<Option<B256>, BlobError> {
        let mut object = match self.store.get(name).await {
            Ok(object) => object,
            Err(error) if error.kind() == GetErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(unreachable(error)),
        };
        let mut to = B256::ZERO;
        // Anyone may have written it: another length is no name of ours.
        if object.info().size != to.len() {
            return Ok(None);
        }
        object.read_exact(&mut to[..]).await.map_err(unreachable)?;
        Ok(Some(to))
    }
}
