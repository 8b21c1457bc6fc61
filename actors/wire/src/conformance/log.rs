//! Cases for the block log.

use super::{Backend, block, soon};
use crate::codec::MESSAGE_BYTES_MAX;
use crate::{AppendError, BlockLog, EpochRecord, LogRecord, LogSubscription, TakeOverError};
use alloy_primitives::Address;
use bytes::Bytes;
use penstock_rules::ids::{Epoch, Height, Seq};
use std::sync::Arc;

pub(super) const NONE: Epoch = Epoch(0);

pub(super) fn producer(byte: u8) -> Address {
    Address::repeat_byte(byte)
}

pub(super) async fn append(
    log: &dyn BlockLog,
    epoch: Epoch,
    n: u64,
    expected: Seq,
) -> Result<Seq, AppendError> {
    let (id, bytes) = block(n);
    log.append(epoch, Height(n), id, expected, bytes).await
}

async fn next(subscription: &mut LogSubscription) -> (Seq, LogRecord) {
    let item = soon("an entry", subscription.next()).await;
    item.expect("the log is open").expect("readable")
}

fn is_block(record: &LogRecord, n: u64) -> bool {
    *record == LogRecord::Block(block(n).1)
}

pub(super) async fn entries_come_back_in_order(backend: &mut dyn Backend) {
    let (log, other) = (backend.connect().await.log, backend.connect().await.log);
    assert_eq!(log.head().await, Ok(None));
    assert_eq!(log.last().await, Ok(Seq(0)));
    assert_eq!(log.epoch().await, Ok(None));
    assert_eq!(log.read(Seq(0), 10).await, Ok(vec![]));
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let record = EpochRecord {
        epoch,
        producer: producer(1),
    };
    assert_eq!(other.epoch().await, Ok(Some(record)));
    let mut seqs = vec![Seq(epoch.0)];
    for n in 1..=20 {
        let seq = append(&*log, epoch, n, seqs[seqs.len() - 1]).await;
        seqs.push(seq.expect("alone"));
    }
    assert!(seqs.is_sorted_by(|a, b| a < b));
    assert_eq!(other.last().await, Ok(seqs[20]));
    assert_eq!(other.head().await, Ok(Some((seqs[20], block(20).1))));
    let all = other.read(Seq(0), 100).await.expect("readable");
    let positions: Vec<Seq> = all.iter().map(|(seq, _)| *seq).collect();
    assert_eq!(positions, seqs);
    assert_eq!(all[0].1, LogRecord::Epoch(record));
    for n in 1..=20 {
        assert!(is_block(&all[n as usize].1, n));
    }
    let some = other.read(seqs[3], 4).await.expect("readable");
    assert_eq!(some, all[3..7]);
    assert_eq!(other.read(Seq(seqs[20].0 + 1), 4).await, Ok(vec![]));
}

pub(super) async fn a_subscription_sees_old_and_new_entries_once(backend: &mut dyn Backend) {
    let (log, other) = (backend.connect().await.log, backend.connect().await.log);
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let mut head = Seq(epoch.0);
    for n in 1..=12 {
        head = append(&*log, epoch, n, head).await.expect("alone");
    }
    let mut all = other.subscribe(Seq(0)).await.expect("open");
    let mut late = other.subscribe(Seq(head.0 + 1)).await.expect("open");
    assert!(matches!(next(&mut all).await.1, LogRecord::Epoch(_)));
    for n in 1..=12 {
        assert!(is_block(&next(&mut all).await.1, n));
    }
    for n in 13..=24 {
        head = append(&*log, epoch, n, head).await.expect("alone");
        if n % 3 == 0 {
            assert!(is_block(&next(&mut late).await.1, n - 2));
            assert!(is_block(&next(&mut late).await.1, n - 1));
            assert_eq!(next(&mut late).await, (head, LogRecord::Block(block(n).1)));
        }
    }
    for n in 13..=24 {
        assert!(is_block(&next(&mut all).await.1, n));
    }
}

/// The fence: a producer that still has the right head, and not the epoch, gets nothing in.
pub(super) async fn an_old_producer_is_refused_after_a_take_over(backend: &mut dyn Backend) {
    let (a, b) = (backend.connect().await.log, backend.connect().await.log);
    let old = a.take_over(producer(1), NONE).await.expect("free");
    let one = append(&*a, old, 1, Seq(old.0)).await.expect("alone");
    let new = b.take_over(producer(2), old).await.expect("seen");
    assert!(new > old);
    let record = EpochRecord {
        epoch: new,
        producer: producer(2),
    };
    let fenced = Err(AppendError::Fenced(record));
    // It has not read the take-over; it has read it, and goes on all the same; and once more after the new one's block.
    assert_eq!(append(&*a, old, 2, one).await, fenced);
    assert_eq!(append(&*a, old, 2, Seq(new.0)).await, fenced);
    let two = append(&*b, new, 3, Seq(new.0))
        .await
        .expect("it is the producer");
    assert_eq!(append(&*a, old, 2, two).await, fenced);
    assert_eq!(append(&*a, old, 2, one).await, fenced);
    // Two that build on the same parent build the same block, above all an empty one: it is the new one's all the same.
    assert_eq!(append(&*a, old, 3, Seq(new.0)).await, fenced);
    let all = b.read(Seq(0), 10).await.expect("readable");
    let blocks: Vec<&LogRecord> = (all.iter().map(|(_, record)| record))
        .filter(|record| matches!(record, LogRecord::Block(_)))
        .collect();
    assert!(blocks.len() == 2 && is_block(blocks[0], 1) && is_block(blocks[1], 3));
    // A token that never was is no better.
    let ahead = append(&*a, Epoch(new.0 + 100), 2, two).await;
    assert_eq!(ahead, fenced);
}

pub(super) async fn a_take_over_needs_the_epoch_that_is_there(backend: &mut dyn Backend) {
    let log = backend.connect().await.log;
    let first = log.take_over(producer(1), NONE).await.expect("free");
    let record = EpochRecord {
        epoch: first,
        producer: producer(1),
    };
    for seen in [NONE, Epoch(first.0 + 1)] {
        let lost = log.take_over(producer(2), seen).await;
        assert_eq!(lost, Err(TakeOverError::Lost(record)));
    }
    let second = log.take_over(producer(1), first).await.expect("seen");
    assert!(second > first);
    assert_eq!(log.read(Seq(0), 10).await.map(|all| all.len()), Ok(2));
}

/// Four processes with one token (which the epoch does not keep apart) race for each position.
pub(super) async fn of_racing_appends_exactly_one_wins(backend: &mut dyn Backend) {
    const HEIGHTS: u64 = 25;
    const RACERS: u64 = 4;
    let mut logs: Vec<Arc<dyn BlockLog>> = Vec::new();
    for _ in 0..RACERS {
        logs.push(backend.connect().await.log);
    }
    let epoch = logs[0].take_over(producer(1), NONE).await.expect("free");
    let mut head = Seq(epoch.0);
    for height in 0..HEIGHTS {
        let race = logs.iter().zip(0..).map(|(log, racer)| {
            let log = log.clone();
            tokio::spawn(async move { append(&*log, epoch, height * RACERS + racer, head).await })
        });
        let results = soon("the race", futures::future::join_all(race)).await;
        let mut winner = None;
        let mut lost = Vec::new();
        for (racer, result) in (0..).zip(results) {
            match result.expect("no panic") {
                Ok(seq) => assert!(winner.replace((racer, seq)).is_none(), "two winners"),
                Err(AppendError::Lost(seq)) => lost.push(seq),
                Err(other) => panic!("neither won nor lost: {other}"),
            }
        }
        let (racer, seq) = winner.expect("somebody wins");
        assert_eq!(lost, vec![seq; RACERS as usize - 1]);
        let there = logs[0].read(Seq(head.0 + 1), 2).await.expect("readable");
        assert_eq!(there.len(), 1);
        assert_eq!(there[0].0, seq);
        assert!(is_block(&there[0].1, height * RACERS + racer));
        head = seq;
    }
}

pub(super) async fn of_racing_take_overs_exactly_one_wins(backend: &mut dyn Backend) {
    const RACERS: u8 = 4;
    let mut logs: Vec<Arc<dyn BlockLog>> = Vec::new();
    for _ in 0..RACERS {
        logs.push(backend.connect().await.log);
    }
    let mut seen = NONE;
    for _ in 0..10 {
        let race = logs.iter().zip(0..).map(|(log, racer)| {
            let log = log.clone();
            tokio::spawn(async move { log.take_over(producer(racer), seen).await })
        });
        let results = soon("the race", futures::future::join_all(race)).await;
        let current = logs[0].epoch().await.expect("readable").expect("taken");
        for (racer, result) in (0..).zip(results) {
            match result.expect("no panic") {
                Ok(epoch) => {
                    let mine = EpochRecord {
                        epoch,
                        producer: producer(racer),
                    };
                    assert_eq!(current, mine, "two winners");
                }
                Err(error) => assert_eq!(error, TakeOverError::Lost(current)),
            }
        }
        assert!(current.epoch > seen);
        seen = current.epoch;
    }
    assert_eq!(logs[0].last().await, Ok(Seq(seen.0)));
    assert_eq!(logs[0].read(Seq(0), 100).await.map(|a| a.len()), Ok(10));
}

/// Whoever does not know whether an append got in calls again: also after others wrote, and after a take-over.
pub(super) async fn a_repeated_append_returns_the_same_position(backend: &mut dyn Backend) {
    let (a, b) = (backend.connect().await.log, backend.connect().await.log);
    let old = a.take_over(producer(1), NONE).await.expect("free");
    let start = Seq(old.0);
    let one = append(&*a, old, 1, start).await.expect("alone");
    assert_eq!(append(&*a, old, 1, start).await, Ok(one));
    let two = append(&*a, old, 2, one).await.expect("alone");
    assert_eq!(append(&*a, old, 1, start).await, Ok(one));
    let new = b.take_over(producer(2), old).await.expect("seen");
    assert_eq!(append(&*a, old, 2, one).await, Ok(two));
    let three = append(&*b, new, 3, Seq(new.0)).await.expect("alone");
    assert_eq!(append(&*a, old, 2, one).await, Ok(two));
    assert_eq!(b.last().await, Ok(three));
    assert_eq!(b.read(Seq(0), 10).await.map(|all| all.len()), Ok(5));
}

/// A caller that read further than the log reaches: the log went back, or the caller is wrong. Not for the log to say.
pub(super) async fn an_append_behind_the_end_is_unknown(backend: &mut dyn Backend) {
    let log = backend.connect().await.log;
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let result = append(&*log, epoch, 1, Seq(epoch.0 + 7)).await;
    assert!(matches!(result, Err(AppendError::Unknown(_))), "{result:?}");
    assert_eq!(log.last().await, Ok(Seq(epoch.0)));
}

pub(super) async fn what_was_acknowledged_survives_a_crash(backend: &mut dyn Backend) {
    let log = backend.connect().await.log;
    let old = log.take_over(producer(1), NONE).await.expect("free");
    let mut head = Seq(old.0);
    for n in 1..=10 {
        head = append(&*log, old, n, head).await.expect("alone");
    }
    let before = log.read(Seq(0), 100).await.expect("readable");
    backend.crash().await;
    let log = backend.connect().await.log;
    assert_eq!(log.read(Seq(0), 100).await, Ok(before));
    assert_eq!(log.head().await, Ok(Some((head, block(10).1))));
    assert_eq!(
        append(&*log, old, 11, Seq(old.0)).await,
        Err(AppendError::Lost(Seq(old.0 + 1)))
    );
    let eleven = append(&*log, old, 11, head).await.expect("same epoch");
    let new = log.take_over(producer(2), old).await.expect("seen");
    let fenced = append(&*log, old, 12, eleven).await;
    assert!(matches!(fenced, Err(AppendError::Fenced(r)) if r.epoch == new));
    append(&*log, new, 12, Seq(new.0)).await.expect("new epoch");
}

pub(super) async fn a_large_block_passes_and_one_too_large_is_refused(backend: &mut dyn Backend) {
    let (log, other) = (backend.connect().await.log, backend.connect().await.log);
    let epoch = log.take_over(producer(1), NONE).await.expect("free");
    let mut subscription = other.subscribe(Seq(0)).await.expect("open");
    assert!(matches!(
        next(&mut subscription).await.1,
        LogRecord::Epoch(_)
    ));
    let mut head = Seq(epoch.0);
    for n in 0..3u64 {
        let large: Bytes = n.to_le_bytes().repeat(2 << 17).into();
        let appended = log.append(epoch, Height(n), block(n).0, head, large.clone());
        head = appended.await.expect("2 MB fit");
        assert_eq!(
            next(&mut subscription).await,
            (head, LogRecord::Block(large))
        );
    }
    let over = Bytes::from(vec![1; MESSAGE_BYTES_MAX + 1]);
    let refused = log.append(epoch, Height(9), block(9).0, head, over).await;
    assert!(matches!(refused, Err(AppendError::TooLarge { .. })));
    assert_eq!(log.last().await, Ok(head));
}
