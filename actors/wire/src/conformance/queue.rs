//! Cases for queues.

use super::{Backend, soon};
use crate::codec::MESSAGE_BYTES_MAX;
use crate::{Queue, QueueError, QueueItem};
use alloy_primitives::{B256, keccak256};
use bytes::Bytes;
use penstock_rules::ids::Seq;
use std::collections::BTreeSet;
use std::sync::Arc;

fn item(n: u64) -> (B256, Bytes) {
    let bytes = Bytes::from(format!("item {n}"));
    (keccak256(&bytes), bytes)
}

async fn all(queue: &dyn Queue) -> Vec<QueueItem> {
    queue.replay(Seq(0), usize::MAX).await.expect("readable")
}

fn ids(items: &[QueueItem]) -> Vec<B256> {
    items.iter().map(|item| item.id).collect()
}

pub(super) async fn items_come_back_in_order_from_any_position(backend: &mut dyn Backend) {
    let queue = backend.connect().await.accepted;
    let other = backend.connect().await.accepted;
    assert_eq!(queue.replay(Seq(0), 10).await, Ok(vec![]));
    assert_eq!(queue.append(vec![]).await, Ok(vec![]));
    let mut expect = Vec::new();
    for n in [0..3, 3..4, 4..9] {
        let items: Vec<_> = n.map(item).collect();
        let seqs = queue.append(items.clone()).await.expect("written");
        assert_eq!(seqs.len(), items.len());
        for ((id, bytes), seq) in items.into_iter().zip(seqs) {
            expect.push(QueueItem { seq, id, bytes });
        }
    }
    assert!(expect.is_sorted_by(|a, b| a.seq < b.seq));
    for queue in [&queue, &other] {
        assert_eq!(all(&**queue).await, expect);
        for (i, from) in expect.iter().enumerate() {
            let some = queue.replay(from.seq, 3).await.expect("readable");
            assert_eq!(some, expect[i..expect.len().min(i + 3)]);
        }
        let after = Seq(expect[8].seq.0 + 1);
        assert_eq!(queue.replay(after, 3).await, Ok(vec![]));
    }
}

pub(super) async fn calls_at_the_same_time_share_commits_and_keep_their_order(
    backend: &mut dyn Backend,
) {
    const CALLS: u64 = 200;
    let queue = backend.connect().await.accepted;
    let calls = (0..CALLS).map(|n| {
        let queue = queue.clone();
        tokio::spawn(async move { queue.append(vec![item(2 * n), item(2 * n + 1)]).await })
    });
    let mut seqs = BTreeSet::new();
    let results = soon("all calls", futures::future::join_all(calls)).await;
    for result in results {
        let pair = result.expect("no panic").expect("written");
        assert!(pair.len() == 2 && pair[0] < pair[1]);
        seqs.extend(pair);
    }
    assert_eq!(seqs.len() as u64, 2 * CALLS);
    let items = all(&*queue).await;
    let positions: BTreeSet<Seq> = items.iter().map(|item| item.seq).collect();
    assert_eq!(positions, seqs);
    let expect: BTreeSet<B256> = (0..2 * CALLS).map(|n| item(n).0).collect();
    assert_eq!(ids(&items).into_iter().collect::<BTreeSet<_>>(), expect);
}

pub(super) async fn a_removed_item_does_not_come_again(backend: &mut dyn Backend) {
    let queue = backend.connect().await.accepted;
    let seqs = queue.append((0..6).map(item).collect()).await;
    let seqs = seqs.expect("written");
    let more = queue.append(vec![item(6)]).await.expect("written");
    queue
        .remove(&[seqs[1], seqs[4], Seq(999_999)])
        .await
        .expect("done");
    let left = [0, 2, 3, 5, 6].map(|n| item(n).0);
    assert_eq!(ids(&all(&*queue).await), left);
    queue.remove(&[seqs[1], more[0]]).await.expect("done");
    assert_eq!(ids(&all(&*queue).await), left[..4]);
    queue.remove(&seqs).await.expect("done");
    assert_eq!(all(&*queue).await, vec![]);
    // What is wholly removed is gone for other clients too, and after a crash, and its positions are not used again.
    backend.crash().await;
    let queue = backend.connect().await.accepted;
    assert_eq!(all(&*queue).await, vec![]);
    let again = queue.append(vec![item(0)]).await.expect("written");
    assert!(again[0] > more[0]);
    assert_eq!(ids(&all(&*queue).await), [item(0).0]);
}

pub(super) async fn of_others_is_what_another_process_appended(backend: &mut dyn Backend) {
    let queue = backend.connect().await.accepted;
    let other = backend.connect().await.accepted;
    let mut expect = Vec::new();
    for n in 0..12 {
        let by = if n % 3 == 0 { &other } else { &queue };
        let seqs = by.append(vec![item(n)]).await.expect("written");
        // One process alone writes a queue in memory: both are the same there.
        if n % 3 == 0 && !Arc::ptr_eq(&queue, &other) {
            expect.push((seqs[0], item(n).0));
        }
    }
    let (mut read, mut from) = (Vec::new(), Seq(0));
    soon("all that the other appended", async {
        while read.len() < expect.len() {
            let (items, next) = queue.others(from, 2).await.expect("readable");
            assert!(items.len() <= 2 && items.iter().all(|item| item.seq < next));
            read.extend(items.into_iter().map(|item| (item.seq, item.id)));
            from = next;
        }
    })
    .await;
    assert_eq!(read, expect);
    let (items, from) = queue.others(from, 2).await.expect("readable");
    assert!(items.is_empty());
    queue.append(vec![item(12)]).await.expect("written");
    let (items, _) = queue.others(from, 2).await.expect("readable");
    assert!(items.is_empty());
}

pub(super) async fn one_large_call_is_split_and_an_oversized_item_is_refused(
    backend: &mut dyn Backend,
) {
    let queue = backend.connect().await.results;
    // 5,000 are more than a segment has places for, and 60 of 100 kB more than its bytes.
    let many: Vec<_> = (0..5_000).map(item).collect();
    let large: Vec<_> = (0..60u8)
        .map(|n| (B256::repeat_byte(n), Bytes::from(vec![n; 100_000])))
        .collect();
    for items in [many, large] {
        let count = items.len();
        let seqs = soon("a large call", queue.append(items.clone())).await;
        let seqs = seqs.expect("written");
        assert_eq!(seqs.len(), count);
        let read = queue.replay(seqs[0], usize::MAX).await.expect("readable");
        let read: Vec<_> = read.into_iter().map(|i| (i.id, i.bytes)).collect();
        assert!(read == items);
    }
    let over = (B256::ZERO, Bytes::from(vec![1; MESSAGE_BYTES_MAX]));
    let refused = queue.append(vec![item(0), over]).await;
    assert!(matches!(refused, Err(QueueError::TooLarge { .. })));
}

pub(super) async fn queues_are_apart_and_survive_a_crash(backend: &mut dyn Backend) {
    let transport = backend.connect().await;
    let accepted = transport.accepted.append((0..5).map(item).collect()).await;
    let accepted = accepted.expect("written");
    let results = transport.results.append(vec![item(9)]).await;
    results.expect("written");
    transport
        .accepted
        .remove(&accepted[..1])
        .await
        .expect("done");
    backend.crash().await;
    let transport = backend.connect().await;
    let items = all(&*transport.accepted).await;
    // A removed item of a segment that is not empty may come again; nothing else may be missing.
    let found: BTreeSet<B256> = ids(&items).into_iter().collect();
    assert!((1..5).all(|n| found.contains(&item(n).0)));
    assert!(items.iter().all(|i| accepted.contains(&i.seq)));
    assert_eq!(ids(&all(&*transport.results).await), [item(9).0]);
}
