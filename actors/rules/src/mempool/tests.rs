mod lives;

use super::*;
use alloy_primitives::{Bytes, U256, keccak256};

const GWEI: u128 = 1_000_000_000;

fn sender(n: u8) -> Address {
    Address::repeat_byte(n)
}

/// A transaction of gas limit 21,000; fee in gwei is the tip as well.
fn tx(from: u8, nonce: u64, gwei: u128) -> PoolTx {
    let raw = Bytes::from(format!("{from} {nonce} {gwei}").into_bytes());
    PoolTx {
        hash: keccak256(&raw),
        sender: sender(from),
        nonce,
        gas_limit: 21_000,
        max_fee_per_gas: gwei * GWEI,
        max_priority_fee_per_gas: gwei * GWEI,
        cost_max: U256::from(gwei),
        raw,
    }
}

fn limits() -> Limits {
    Limits {
        transactions_max: 8,
        per_sender_max: 6,
        queued_per_sender_max: 2,
        writing_max: 4,
        nonce_ahead_max: 10,
        ..Limits::default()
    }
}

struct Bench {
    pool: Mempool,
    now: Micros,
    account: AccountView,
    tickets: u64,
}

impl Bench {
    fn new(limits: Limits) -> Self {
        Self {
            pool: Mempool::new(limits, Height(0), GWEI),
            now: Micros(0),
            account: AccountView {
                nonce: 0,
                balance: U256::from(1_000),
            },
            tickets: 0,
        }
    }

    fn apply(&mut self, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.pool.apply(self.now, event, &mut effects);
        self.pool.check().expect("invariants hold");
        effects
    }

    fn submit_content(&mut self, tx: &PoolTx, content: u8) -> Vec<Effect> {
        self.tickets += 1;
        let event = Event::Submit {
            tx: tx.clone(),
            content: B256::repeat_byte(content),
            account: self.account,
            ticket: Ticket(self.tickets),
        };
        self.apply(event)
    }

    fn submit(&mut self, tx: &PoolTx) -> Vec<Effect> {
        self.submit_content(tx, 0)
    }

    /// Submits and persists; the refusal where there is one.
    fn add(&mut self, tx: &PoolTx) -> Result<Vec<Effect>, Refusal> {
        let effects = self.submit(tx);
        if let Some(Effect::Refuse { refusal, .. }) = effects.into_iter().next_back() {
            return Err(refusal);
        }
        Ok(self.apply(Event::Persisted { hash: tx.hash }))
    }

    fn block(&mut self, from: u8, nonce: u64, balance: u64, included: &[&PoolTx]) -> Vec<Effect> {
        let height = self.pool.height.next();
        self.apply(Event::Block {
            height,
            base_fee: GWEI,
            accounts: vec![(
                sender(from),
                AccountView {
                    nonce,
                    balance: U256::from(balance),
                },
            )],
            included: included.iter().map(|t| (t.hash, height)).collect(),
        })
    }
}

/// Nonces that were told to be pending, in the order of telling.
fn pending(effects: &[Effect]) -> Vec<u64> {
    let nonce = |e: &Effect| match e {
        Effect::Pending { tx, .. } => Some(tx.nonce),
        _ => None,
    };
    effects.iter().filter_map(nonce).collect()
}

fn gone(effects: &[Effect]) -> Vec<(TxHash, Departure)> {
    let gone = |e: &Effect| match e {
        Effect::Gone { hash, how } => Some((*hash, *how)),
        _ => None,
    };
    effects.iter().filter_map(gone).collect()
}

#[test]
fn a_hash_is_answered_only_after_the_durable_stream_has_it() {
    let mut bench = Bench::new(limits());
    let first = tx(1, 0, 2);
    assert_eq!(bench.submit(&first), [Effect::Persist(first.clone())]);
    assert!(bench.submit(&first).is_empty(), "the copy waits as well");
    let effects = bench.apply(Event::Persisted { hash: first.hash });
    let accepts = effects
        .iter()
        .filter(|e| matches!(e, Effect::Accept { .. }));
    assert_eq!(accepts.count(), 2);
    assert_eq!(pending(&effects), [0]);
    assert_eq!(bench.add(&first), Err(Refusal::AlreadyKnown));
}

#[test]
fn a_failed_write_is_busy_and_leaves_nothing() {
    let mut bench = Bench::new(limits());
    let first = tx(1, 0, 2);
    bench.submit(&first);
    let effects = bench.apply(Event::PersistFailed { hash: first.hash });
    assert!(matches!(
        effects[..],
        [Effect::Refuse {
            refusal: Refusal::Busy,
            ..
        }]
    ));
    assert!(bench.pool.is_empty() && bench.pool.lanes.is_empty());
    assert!(bench.add(&first).is_ok(), "and may be tried again");
}

#[test]
fn what_waits_for_a_lower_nonce_is_pending_once_that_comes() {
    let mut bench = Bench::new(limits());
    let effects = bench.add(&tx(1, 1, 2)).expect("queued");
    assert!(pending(&effects).is_empty());
    assert!(effects.iter().any(|e| matches!(
        e,
        Effect::Status(StatusUpdate {
            stage: Stage::Queued,
            ..
        })
    )));
    assert_eq!(pending(&bench.add(&tx(1, 0, 2)).expect("head")), [0, 1]);
    assert_eq!(bench.pool.next_nonce(sender(1)), Some(2));
}

#[test]
fn a_replacement_needs_a_tenth_more_and_takes_the_place() {
    let mut bench = Bench::new(limits());
    let old = tx(1, 0, 100);
    bench.add(&old).expect("first");
    bench.add(&tx(1, 1, 2)).expect("successor");
    assert_eq!(
        bench.add(&tx(1, 0, 109)),
        Err(Refusal::ReplacementUnderpriced)
    );
    let new = tx(1, 0, 110);
    let effects = bench.add(&new).expect("bumped");
    assert_eq!(pending(&effects), [0], "the successor stays pending");
    let how = Departure::Dropped(DropReason::Replaced(new.hash));
    assert_eq!(gone(&effects), [(old.hash, how)]);
    assert!(effects.contains(&Effect::Forget { hash: old.hash }));
}

#[test]
fn two_replacements_at_once_are_compared_with_each_other() {
    let mut bench = Bench::new(limits());
    bench.add(&tx(1, 0, 10)).expect("first");
    let (better, worse) = (tx(1, 0, 20), tx(1, 0, 21));
    bench.submit(&better);
    assert!(matches!(
        bench.submit(&worse)[..],
        [Effect::Refuse {
            refusal: Refusal::ReplacementUnderpriced,
            ..
        }]
    ));
    let best = tx(1, 0, 22);
    assert_eq!(bench.submit(&best), [Effect::Persist(best.clone())]);
    // Acknowledged in the other order: the later arrival still wins, and the other one is told.
    bench.apply(Event::Persisted { hash: best.hash });
    let effects = bench.apply(Event::Persisted { hash: better.hash });
    let how = Departure::Dropped(DropReason::Replaced(best.hash));
    assert_eq!(gone(&effects), [(better.hash, how)]);
    assert!(bench.pool.get(&best.hash).is_some());
}

#[test]
fn once_dispatched_only_the_same_content_is_replaced_cheaply() {
    let mut bench = Bench::new(limits());
    let old = tx(1, 0, 100);
    bench.add(&old).expect("first");
    bench.apply(Event::Dispatched { hash: old.hash });
    for (gwei, content, expect) in [(110, 1, false), (199, 1, false), (110, 0, true)] {
        let effects = bench.submit_content(&tx(1, 0, gwei), content);
        let taken = matches!(effects[..], [Effect::Persist(_)]);
        assert_eq!(taken, expect, "{gwei} {content}");
    }
    let mut other = Bench::new(limits());
    other.add(&old).expect("first");
    other.apply(Event::Dispatched { hash: old.hash });
    assert!(matches!(
        other.submit_content(&tx(1, 0, 200), 1)[..],
        [Effect::Persist(_)]
    ));
}

#[test]
fn a_full_pool_gives_up_its_worst_tail_and_never_a_middle() {
    let mut bench = Bench::new(limits());
    for nonce in 0..4 {
        bench.add(&tx(1, nonce, 5)).expect("room");
        bench
            .add(&tx(2, nonce, 3 + u128::from(nonce == 1)))
            .expect("room");
    }
    assert_eq!(bench.add(&tx(3, 0, 3)), Err(Refusal::PoolFull), "equal pay");
    assert_eq!(
        bench.add(&tx(3, 1, 9)),
        Err(Refusal::PoolFull),
        "with a gap"
    );
    let effects = bench.add(&tx(3, 0, 4)).expect("better paid");
    let how = Departure::Dropped(DropReason::Evicted);
    assert_eq!(gone(&effects), [(tx(2, 3, 3).hash, how)]);
    // The tail counts as the least paid before it: 2's second, at 4, is worth the 3 of its first.
    bench.add(&tx(4, 0, 4)).expect("better paid");
    bench.add(&tx(5, 0, 4)).expect("better paid");
    bench.add(&tx(6, 0, 4)).expect("better paid");
    assert_eq!(bench.pool.len(), 8);
    assert!(!bench.pool.lanes.contains_key(&sender(2)));
}

#[test]
fn a_lane_beyond_its_balance_is_refused_and_parked_when_the_money_goes() {
    let mut bench = Bench::new(limits());
    bench.account.balance = U256::from(10);
    bench.add(&tx(1, 0, 4)).expect("4 of 10");
    bench.add(&tx(1, 1, 4)).expect("8 of 10");
    assert!(matches!(
        bench.add(&tx(1, 2, 4)),
        Err(Refusal::InsufficientFunds { .. })
    ));
    let effects = bench.block(1, 0, 5, &[]);
    assert!(effects.contains(&Effect::Parked {
        hash: tx(1, 1, 4).hash
    }));
    assert!(effects.iter().any(|e| matches!(
        e,
        Effect::Status(StatusUpdate {
            stage: Stage::Deferred {
                reason: Reason::Unfunded,
                ..
            },
            ..
        })
    )));
    assert_eq!(
        pending(&bench.block(1, 0, 8, &[])),
        [1],
        "back with the money"
    );
}

#[test]
fn a_block_takes_what_it_includes_and_what_its_nonces_shut_out() {
    let mut bench = Bench::new(limits());
    let (first, second, third) = (tx(1, 0, 2), tx(1, 1, 2), tx(1, 2, 2));
    for t in [&first, &second, &third] {
        bench.add(t).expect("room");
    }
    let effects = bench.block(1, 2, 1_000, &[&first]);
    assert_eq!(
        gone(&effects),
        [
            (first.hash, Departure::Included(Height(1))),
            (second.hash, Departure::Dropped(DropReason::NonceUsed)),
        ]
    );
    assert_eq!(
        effects.last(),
        Some(&Effect::Advanced { height: Height(1) })
    );
    assert!(bench.pool.get(&third.hash).is_some());
}

#[test]
fn limits_per_sender_are_held() {
    let mut bench = Bench::new(limits());
    for nonce in [2, 3] {
        bench.add(&tx(1, nonce, 2)).expect("queued");
    }
    assert_eq!(
        bench.add(&tx(1, 4, 2)),
        Err(Refusal::SenderLimit { limit: 2 })
    );
    assert!(matches!(
        bench.add(&tx(1, 10, 2)),
        Err(Refusal::NonceTooHigh { .. })
    ));
    for nonce in [0, 1, 4, 5] {
        bench.add(&tx(1, nonce, 2)).expect("room");
    }
    assert_eq!(
        bench.add(&tx(1, 6, 2)),
        Err(Refusal::SenderLimit { limit: 6 })
    );
}

#[test]
fn the_door_names_what_is_wrong() {
    let mut bench = Bench::new(Limits {
        gas_max: 30_000,
        ..limits()
    });
    bench.account.nonce = 1;
    let mut big = tx(1, 1, 2);
    big.gas_limit = 30_001;
    let mut tip = tx(1, 1, 2);
    tip.max_priority_fee_per_gas += 1;
    let mut cheap = tx(1, 1, 2);
    (cheap.max_fee_per_gas, cheap.max_priority_fee_per_gas) = (6, 6);
    let mut long = tx(1, 1, 2);
    long.raw = Bytes::from(vec![0; (128 << 10) + 1]);
    for (tx, expect) in [
        (
            big,
            Refusal::GasLimit {
                have: 30_001,
                limit: 30_000,
            },
        ),
        (tip, Refusal::TipAboveFee),
        (cheap, Refusal::Underpriced { fee: 6, minimum: 7 }),
        (
            long,
            Refusal::Oversized {
                size: (128 << 10) + 1,
                limit: 128 << 10,
            },
        ),
        (tx(1, 0, 2), Refusal::NonceTooLow { next: 1, nonce: 0 }),
    ] {
        assert_eq!(bench.add(&tx), Err(expect));
    }
    assert!(bench.pool.lanes.is_empty(), "refusals leave nothing");
}

#[test]
fn what_waits_too_long_expires_and_its_successors_are_parked() {
    let mut bench = Bench::new(limits());
    bench.add(&tx(1, 0, 2)).expect("room");
    bench.now = Micros::from_secs(60);
    bench.add(&tx(1, 1, 2)).expect("room");
    bench.now = bench.pool.limits.life;
    let effects = bench.apply(Event::Tick);
    assert_eq!(
        gone(&effects),
        [(tx(1, 0, 2).hash, Departure::Dropped(DropReason::Expired))]
    );
    assert!(effects.contains(&Effect::Parked {
        hash: tx(1, 1, 2).hash
    }));
}

#[test]
fn a_restart_replays_what_is_not_in_a_block() {
    let mut bench = Bench::new(limits());
    let account = AccountView {
        nonce: 1,
        balance: U256::from(100),
    };
    let mut pendings = Vec::new();
    for (t, expect_gone) in [
        (tx(1, 0, 2), true),
        (tx(1, 2, 2), false),
        (tx(1, 1, 2), false),
    ] {
        let effects = bench.apply(Event::Replayed {
            tx: t.clone(),
            content: B256::ZERO,
            account,
        });
        assert_eq!(
            effects.contains(&Effect::Forget { hash: t.hash }),
            expect_gone
        );
        assert!(!effects.iter().any(|e| matches!(e, Effect::Persist(_))));
        pendings.extend(pending(&effects));
    }
    assert_eq!(pendings, [1, 2]);
}
