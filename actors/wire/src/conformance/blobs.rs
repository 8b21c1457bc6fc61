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

pub(super) async fn names_stand_for_blobs_and_blobs_can_be_removed(backend: &mut dyn Backend) {
    let (store, other) = (backend.connect().await.blobs, backend.connect().await.blobs);
    assert_eq!(store.pointed("snapshot").await, Ok(None));
    let first = store.put(Bytes::from_static(b"first")).await.expect("put");
    let second = store.put(Bytes::from_static(b"second")).await.expect("put");
    for hash in [first, second] {
        store.point("snapshot", hash).await.expect("pointed");
        assert_eq!(other.pointed("snapshot").await, Ok(Some(hash)));
    }
    assert_eq!(other.pointed("another").await, Ok(None));
    other.remove(first).await.expect("removed");
    other.remove(first).await.expect("removed already");
    assert_eq!(store.get(first).await, Ok(None));
    assert_eq!(store.list().await, Ok(vec![second]), "a name is no blob");
    assert_eq!(store.put(Bytes::from_static(b"first")).await, Ok(first));
    assert!(
        other.get(first).await.expect("asked").is_some(),
        "put again"
    );
}
