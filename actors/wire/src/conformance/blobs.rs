//! Cases for blobs.

use super::Backend;
use alloy_primitives::{B256, keccak256};
use bytes::Bytes;

/// Sizes around the pieces and chunks of the backends.
fn blobs() -> Vec<Bytes> {
    [0, 1, 65_535, 65_536, 65_537, 131_072, 3_000_000]
        .map(|size: u32| (0..size).map(|i| (i * 31 % 251) as u8).collect())
        .into()
}

pub(super) async fn a_blob_comes_back_by_its_hash(backend: &mut dyn Backend) {
    let (store, other) = (backend.connect().await.blobs, backend.connect().await.blobs);
    assert_eq!(store.list().await, Ok(vec![]));
    assert_eq!(store.get(B256::ZERO).await, Ok(None));
    let mut hashes = Vec::new();
    for blob in blobs() {
        let hash = keccak256(&blob);
        assert_eq!(store.put(blob.clone()).await, Ok(hash));
        assert_eq!(other.get(hash).await, Ok(Some(blob.clone())));
        assert_eq!(other.put(blob).await, Ok(hash));
        hashes.push(hash);
    }
    hashes.sort_unstable();
    assert_eq!(other.list().await, Ok(hashes));
}

pub(super) async fn blobs_survive_a_crash(backend: &mut dyn Backend) {
    let store = backend.connect().await.blobs;
    for blob in blobs() {
        store.put(blob).await.expect("stored");
    }
    backend.crash().await;
    let store = backend.connect().await.blobs;
    assert_eq!(store.list().await.map(|l| l.len()), Ok(blobs().len()));
    for blob in blobs() {
        assert_eq!(store.get(keccak256(&blob)).await, Ok(Some(blob)));
    }
}
