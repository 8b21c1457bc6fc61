use super::limits::WANTED_PATIENCE;
use super::*;
use crate::dev::{Clock, DevRefusal, MineTime};
use crate::extractor::READY_REPEAT_IDLE;
use crate::ids::{Igas, RequestKey};
use crate::tx::{PoolTx, Reason};
use alloy_primitives::{Address, Bytes, U256};

fn tx(id: u8, sender: u8, nonce: u64, tip: u128, inference: bool) -> Arc<ReadyTx> {
    Arc::new(ReadyTx {
        tx: PoolTx {
            hash: B256::repeat_byte(id),
            sender: Address::repeat_byte(sender),
            nonce,
            gas_limit: 21_000,
            max_fee_per_gas: 100,
            max_priority_fee_per_gas: tip,
            cost_max: U256::ZERO,
            raw: Bytes::new(),
        },
        keys: inference
            .then(|| RequestKey(B256::repeat_byte(id)))
            .into_iter()
            .collect(),
        igas: Igas(0),
        gas_used: 21_000,
        arrival: u64::from(id),
    })
}

fn parent(height: u64, seq: u64) -> Parent {
    Parent {
        height: Height(height),
        hash: B256::repeat_byte(height as u8),
        timestamp_secs: 0,
        seq: Seq(seq),
        next_base_fee: 10,
        clock: Clock::default(),
        mining: None,
    }
}

fn run(producer: &mut Producer, now_ms: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    producer.apply(Micros::from_millis(now_ms), event, &mut effects);
    effects
}

fn leader(timetable: Timetable) -> Producer {
    let mut producer = Producer::new(timetable, Start::Lead, parent(0, 1), Micros(0));
    assert!(run(&mut producer, 0, Event::Tick).contains(&Effect::TakeOver));
    assert_eq!(run(&mut producer, 0, Event::TookOver(Epoch(2))), []);
    // The epoch record is at position 2: the follower has to pass it first.
    run(
        &mut producer,
        0,
        Event::Head {
            parent: parent(0, 2),
            included: vec![],
        },
    );
    producer
}

fn attempt_of(effects: &[Effect]) -> Attempt {
    effects
        .iter()
        .find_map(|e| match e {
            Effect::Build { attempt, .. } => Some(*attempt),
            _ => None,
        })
        .expect("a build")
}

fn built(attempt: Attempt, included: &[u8], withheld: &[(u8, Reason)]) -> Event {
    Event::Built {
        attempt,
        hash: B256::repeat_byte(0xbb),
        included: included.iter().map(|id| B256::repeat_byte(*id)).collect(),
        withheld: withheld
            .iter()
            .map(|(id, r)| (B256::repeat_byte(*id), *r))
            .collect(),
    }
}

#[test]
fn a_ready_transaction_is_built_and_appended_at_once_after_the_epoch_record() {
    let mut producer = leader(Timetable::AtOnce);
    let effects = run(&mut producer, 1, Event::Ready(tx(1, 1, 0, 1, false)));
    let attempt = attempt_of(&effects);
    let effects = run(&mut producer, 2, built(attempt, &[1], &[]));
    assert_eq!(
        effects,
        [Effect::Append {
            attempt,
            height: Height(1),
            epoch: Epoch(2),
            expected: Seq(2),
        }]
    );
    run(
        &mut producer,
        3,
        Event::Appended {
            attempt,
            seq: Seq(3),
        },
    );
    // Nothing is built until the follower has the block.
    assert!(run(&mut producer, 3, Event::Ready(tx(2, 2, 0, 1, false))).is_empty());
    let effects = run(
        &mut producer,
        4,
        Event::Head {
            parent: parent(1, 3),
            included: vec![B256::repeat_byte(1)],
        },
    );
    assert_ne!(attempt_of(&effects), attempt);
    assert_eq!(producer.pool_len(), 1);
}

#[test]
fn nothing_is_built_before_the_log_is_read_up_to_the_take_over() {
    let mut producer = Producer::new(Timetable::AtOnce, Start::Lead, parent(0, 1), Micros(0));
    run(&mut producer, 0, Event::Tick);
    run(&mut producer, 0, Event::TookOver(Epoch(5)));
    assert_eq!(
        run(&mut producer, 0, Event::Ready(tx(1, 1, 0, 1, false))),
        []
    );
    // A block of the former producer stands before the record.
    assert_eq!(
        run(
            &mut producer,
            1,
            Event::Head {
                parent: parent(1, 4),
                included: vec![],
            },
        ),
        []
    );
    let effects = run(
        &mut producer,
        2,
        Event::Head {
            parent: parent(1, 5),
            included: vec![],
        },
    );
    attempt_of(&effects);
}

#[test]
fn slots_are_kept_empty_or_not_and_never_twice() {
    let mut producer = leader(Timetable::Slots(Micros::from_millis(1_000)));
    let mut slots = Vec::new();
    for height in 1..=3u64 {
        let now = height * 1_000 - 100;
        let effects = run(&mut producer, now, Event::Tick);
        let attempt = attempt_of(&effects);
        let Some(Effect::Build { slot, .. }) =
            effects.iter().find(|e| matches!(e, Effect::Build { .. }))
        else {
            panic!("a build");
        };
        slots.push(slot.expect("a timetable").0 / 1_000_000);
        run(&mut producer, now + 10, built(attempt, &[], &[]));
        let seq = Seq(height + 2);
        run(&mut producer, now + 20, Event::Appended { attempt, seq });
        let head = Parent {
            timestamp_secs: height,
            ..parent(height, height + 2)
        };
        // The head may come before or after the slot itself.
        let effects = run(
            &mut producer,
            now + if height == 2 { 150 } else { 30 },
            Event::Head {
                parent: head,
                included: vec![],
            },
        );
        assert!(!effects.iter().any(|e| matches!(e, Effect::Build { .. })));
    }
    assert_eq!(slots, [1, 2, 3]);
}

#[test]
fn an_append_of_unknown_fate_is_tried_again_with_the_same_block() {
    let mut producer = leader(Timetable::AtOnce);
    let attempt = attempt_of(&run(&mut producer, 0, Event::Ready(tx(1, 1, 0, 1, false))));
    run(&mut producer, 0, built(attempt, &[1], &[]));
    let effects = run(
        &mut producer,
        10,
        Event::AppendFailed {
            attempt,
            error: AppendFailure::Unknown,
        },
    );
    assert_eq!(effects, [Effect::WakeAt(Micros::from_millis(260))]);
    let effects = run(&mut producer, 260, Event::Tick);
    assert!(matches!(effects[..], [Effect::Append { attempt: a, .. }] if a == attempt));
}

#[test]
fn a_fenced_producer_stands_by_and_leads_again_only_when_blocks_stay_away() {
    let mut producer = leader(Timetable::AtOnce);
    let attempt = attempt_of(&run(&mut producer, 0, Event::Ready(tx(1, 1, 0, 1, false))));
    run(&mut producer, 0, built(attempt, &[1], &[]));
    let effects = run(
        &mut producer,
        10,
        Event::AppendFailed {
            attempt,
            error: AppendFailure::Fenced,
        },
    );
    assert!(effects.contains(&Effect::Discard { attempt }));
    assert_eq!(producer.leading(), None);
    assert!(!run(&mut producer, 5_000, Event::Tick).contains(&Effect::TakeOver));
    assert!(run(&mut producer, 10_010, Event::Tick).contains(&Effect::TakeOver));
}

fn standby() -> Producer {
    let slots = Timetable::Slots(Micros::from_millis(1_000));
    let patience = Start::Standby(Micros::from_millis(2_000));
    Producer::new(slots, patience, parent(0, 1), Micros(0))
}

#[test]
fn a_standby_that_lost_the_race_waits_for_missing_blocks_again() {
    let mut producer = standby();
    assert!(!run(&mut producer, 1_999, Event::Tick).contains(&Effect::TakeOver));
    assert!(run(&mut producer, 2_000, Event::Tick).contains(&Effect::TakeOver));
    // Trying again at once would take over from the one that won.
    assert!(!run(&mut producer, 2_010, Event::TakeOverFailed).contains(&Effect::TakeOver));
    assert!(!run(&mut producer, 4_009, Event::Tick).contains(&Effect::TakeOver));
    assert!(run(&mut producer, 4_010, Event::Tick).contains(&Effect::TakeOver));
}

#[test]
fn a_standby_that_is_fenced_again_and_again_waits_longer_each_time() {
    let mut producer = standby();
    let (mut now, mut seq, mut waits) = (0, 1, Vec::new());
    for _ in 0..4 {
        let from = now;
        while !run(&mut producer, now, Event::Tick).contains(&Effect::TakeOver) {
            now += 100;
        }
        waits.push(now - from);
        seq += 1;
        run(&mut producer, now, Event::TookOver(Epoch(seq)));
        let passed = Event::Head {
            parent: parent(0, seq),
            included: vec![],
        };
        // It builds at once where the slot is near, else when its time comes.
        let mut effects = run(&mut producer, now, passed);
        while !effects.iter().any(|e| matches!(e, Effect::Build { .. })) {
            now += 100;
            effects = run(&mut producer, now, Event::Tick);
        }
        let attempt = attempt_of(&effects);
        run(&mut producer, now, built(attempt, &[], &[]));
        let error = AppendFailure::Fenced;
        run(&mut producer, now, Event::AppendFailed { attempt, error });
    }
    assert_eq!(waits, [2_000, 4_000, 8_000, 10_000]);
}

#[test]
fn a_stale_candidate_goes_back_and_one_without_room_stays() {
    let mut producer = leader(Timetable::Slots(Micros::from_millis(1_000)));
    for id in 1..=3 {
        run(&mut producer, 0, Event::Ready(tx(id, id, 0, 1, true)));
    }
    let attempt = attempt_of(&run(&mut producer, 900, Event::Tick));
    let withheld = [(1, Reason::StaleInput), (2, Reason::BlockFull)];
    let effects = run(&mut producer, 910, built(attempt, &[3], &withheld));
    let told: Vec<_> = effects
        .iter()
        .filter_map(|e| match e {
            Effect::Withheld(w) => Some(w.reason),
            _ => None,
        })
        .collect();
    assert_eq!(told, [Reason::StaleInput, Reason::BlockFull]);
    assert_eq!(producer.pool_len(), 2);
}

#[test]
fn a_block_built_on_an_old_head_is_discarded() {
    let mut producer = leader(Timetable::AtOnce);
    let old = attempt_of(&run(&mut producer, 0, Event::Ready(tx(1, 1, 0, 1, false))));
    let effects = run(
        &mut producer,
        1,
        Event::Head {
            parent: parent(1, 3),
            included: vec![],
        },
    );
    assert!(effects.contains(&Effect::Discard { attempt: old }));
    let effects = run(&mut producer, 2, built(old, &[1], &[]));
    assert_eq!(effects, [Effect::Discard { attempt: old }]);
}

#[test]
fn candidates_stand_by_tip_with_nonces_in_order_and_inference_first() {
    let pool = [
        tx(1, 1, 0, 1, false),
        tx(2, 1, 1, 50, false),
        tx(3, 2, 0, 20, false),
        tx(4, 3, 0, 2, true),
    ];
    let ids = |base_fee| -> Vec<u8> {
        order(pool.iter(), base_fee, 10)
            .iter()
            .map(|t| t.tx.hash.0[0])
            .collect()
    };
    assert_eq!(ids(10), [4, 3, 1, 2]);
    assert!(ids(101).is_empty());
    assert_eq!(order(pool.iter(), 10, 2).len(), 2);
}

/// An entry that is no block took the place; the follower passed it before the append's answer came.
#[test]
fn an_append_that_lost_to_what_the_follower_passed_already_is_built_anew() {
    let mut producer = leader(Timetable::AtOnce);
    let attempt = attempt_of(&run(&mut producer, 1, Event::Ready(tx(1, 1, 0, 1, false))));
    run(&mut producer, 2, built(attempt, &[1], &[]));
    let passed = Event::Head {
        parent: parent(0, 3),
        included: vec![],
    };
    run(&mut producer, 3, passed);
    let error = AppendFailure::Lost;
    let effects = run(&mut producer, 4, Event::AppendFailed { attempt, error });
    assert_ne!(attempt_of(&effects), attempt);
}

#[test]
fn a_long_slots_block_is_built_early_and_appended_shortly_before_it() {
    let mut producer = leader(Timetable::Slots(Micros::from_millis(10_000)));
    let attempt = attempt_of(&run(&mut producer, 9_000, Event::Tick));
    let effects = run(&mut producer, 9_300, built(attempt, &[], &[]));
    assert_eq!(effects, [Effect::WakeAt(Micros::from_millis(9_900))]);
    let effects = run(&mut producer, 9_900, Event::Tick);
    assert!(
        matches!(effects[..], [Effect::Append { .. }]),
        "{effects:?}"
    );
}

/// Found by the simulator: in slots of 200 ms a block's timestamp (whole seconds) says nothing of its slot, and its head
/// came before the slot itself, so that another block was built for it.
#[test]
fn a_slot_shorter_than_a_second_gets_one_block() {
    let mut producer = leader(Timetable::Slots(Micros::from_millis(200)));
    let attempt = attempt_of(&run(&mut producer, 160, Event::Tick));
    run(&mut producer, 165, built(attempt, &[], &[]));
    let head = Parent {
        hash: B256::repeat_byte(0xbb),
        ..parent(1, 3)
    };
    let included = vec![];
    let head = Event::Head {
        parent: head,
        included,
    };
    let effects = run(&mut producer, 170, head);
    assert_eq!(effects, [Effect::WakeAt(Micros::from_millis(360))]);
}

/// The follower passes an entry that is no valid block before the log's answer comes back: nothing more comes after it.
#[test]
fn a_producer_builds_on_when_its_follower_was_faster_than_the_log() {
    let append = |answer: fn(Attempt) -> Event| {
        let mut producer = leader(Timetable::AtOnce);
        let attempt = attempt_of(&run(&mut producer, 0, Event::Ready(tx(1, 1, 0, 1, false))));
        run(&mut producer, 0, built(attempt, &[1], &[]));
        let passed = Event::Head {
            parent: parent(0, 3),
            included: vec![],
        };
        assert_eq!(run(&mut producer, 1, passed), []);
        attempt_of(&run(&mut producer, 2, answer(attempt)))
    };
    append(|attempt| Event::AppendFailed {
        attempt,
        error: AppendFailure::Lost,
    });
    append(|attempt| Event::Appended {
        attempt,
        seq: Seq(3),
    });
}

#[test]
fn a_block_that_is_too_large_for_the_log_is_built_anew_with_half_of_it() {
    let mut producer = leader(Timetable::Slots(Micros::from_millis(1_000)));
    for id in 1..=4 {
        run(&mut producer, 0, Event::Ready(tx(id, id, 0, 1, true)));
    }
    let mut effects = run(&mut producer, 900, Event::Tick);
    for expected in [4, 2, 1] {
        let Some(Effect::Build { candidates, .. }) =
            effects.iter().find(|e| matches!(e, Effect::Build { .. }))
        else {
            panic!("a build");
        };
        assert_eq!(candidates.len(), expected);
        let attempt = attempt_of(&effects);
        run(&mut producer, 910, built(attempt, &[1], &[]));
        let error = AppendFailure::TooLarge;
        effects = run(&mut producer, 911, Event::AppendFailed { attempt, error });
    }
    // The one that is too large alone does not hold up the others.
    assert_eq!(producer.pool_len(), 3);
}

fn ready(id: u8, tip: u128) -> Arc<ReadyTx> {
    tx(id, id, 0, tip, false)
}

fn ordered(id: u64, order: DevOrder) -> Event {
    Event::Order {
        id,
        order: Arc::new(order),
    }
}

fn mine(wanted: &[u8]) -> DevOrder {
    DevOrder::Mine {
        wanted: wanted.iter().map(|id| ready(*id, 1).tx.hash).collect(),
        time: MineTime::Clock,
    }
}

/// Builds, appends and follows the block of the last build; gives the effects of its head.
fn through(producer: &mut Producer, now: u64, attempt: Attempt, height: u64) -> Vec<Effect> {
    run(producer, now, built(attempt, &[], &[]));
    let seq = Seq(height + 2);
    run(producer, now, Event::Appended { attempt, seq });
    let head = Event::Head {
        parent: Parent {
            hash: B256::repeat_byte(0xbb),
            ..parent(height, height + 2)
        },
        included: vec![],
    };
    run(producer, now, head)
}

fn is_done(effects: &[Effect], order: u64, height: u64) -> bool {
    effects.iter().any(|effect| {
        matches!(effect, Effect::Ordered { id, result: Ok(done) } if *id == order && done.height == Height(height))
    })
}

#[test]
fn an_ordered_block_is_made_though_it_is_empty_and_its_order_is_answered_by_its_head() {
    for timetable in [Timetable::AtOnce, Timetable::Manual] {
        let mut producer = leader(timetable);
        let attempt = attempt_of(&run(&mut producer, 0, ordered(7, mine(&[]))));
        assert!(is_done(&through(&mut producer, 1, attempt, 1), 7, 1));
        assert!(run(&mut producer, 2, Event::Tick).is_empty());
    }
}

#[test]
fn orders_are_carried_out_one_after_the_other() {
    let mut producer = leader(Timetable::Manual);
    let first = attempt_of(&run(&mut producer, 0, ordered(1, mine(&[]))));
    assert!(run(&mut producer, 0, ordered(2, DevOrder::Change(vec![]))).is_empty());
    let effects = through(&mut producer, 1, first, 1);
    assert!(is_done(&effects, 1, 1));
    let second = attempt_of(&effects);
    assert!(is_done(&through(&mut producer, 2, second, 2), 2, 2));
}

#[test]
fn nothing_is_made_by_hand_until_it_is_ordered_and_a_change_takes_no_transactions() {
    let mut producer = leader(Timetable::Manual);
    assert!(run(&mut producer, 0, Event::Ready(ready(1, 20))).is_empty());
    let effects = run(&mut producer, 0, ordered(1, DevOrder::Change(vec![])));
    assert!(matches!(&effects[..], [Effect::Build { candidates, .. }] if candidates.is_empty()));
    let effects = through(&mut producer, 1, attempt_of(&effects), 1);
    assert!(is_done(&effects, 1, 1));
    let effects = run(&mut producer, 2, ordered(2, mine(&[1])));
    assert!(matches!(&effects[..], [Effect::Build { candidates, .. }] if candidates.len() == 1));
}

#[test]
fn an_order_waits_a_moment_for_what_its_asker_knows_to_be_ready() {
    let mut producer = leader(Timetable::Manual);
    let wait = [Effect::WakeAt(WANTED_PATIENCE)];
    assert_eq!(run(&mut producer, 0, ordered(1, mine(&[1, 2]))), wait);
    assert_eq!(run(&mut producer, 1, Event::Ready(ready(1, 20))), wait);
    let effects = run(&mut producer, 2, Event::Ready(ready(2, 20)));
    assert!(matches!(&effects[..], [Effect::Build { candidates, .. }] if candidates.len() == 2));
    // A message that was lost comes again, and is waited for: the block was empty after a restart. What does not come then
    // is not waited for any longer.
    let mut producer = leader(Timetable::Manual);
    run(&mut producer, 0, ordered(1, mine(&[3])));
    let repeated = READY_REPEAT_IDLE.0 / 1_000;
    assert_eq!(run(&mut producer, repeated, Event::Tick), wait);
    attempt_of(&run(&mut producer, WANTED_PATIENCE.0 / 1_000, Event::Tick));
}

#[test]
fn a_refused_order_is_answered_and_the_next_one_goes_on() {
    let mut producer = leader(Timetable::Manual);
    let attempt = attempt_of(&run(&mut producer, 0, ordered(1, DevOrder::Change(vec![]))));
    run(&mut producer, 0, ordered(2, mine(&[])));
    let why = DevRefusal::Snapshot(5);
    let effects = run(&mut producer, 1, Event::OrderRefused { attempt, why });
    assert!(effects.contains(&Effect::Ordered {
        id: 1,
        result: Err(DevRefusal::Snapshot(5))
    }));
    assert!(is_done(
        &through(&mut producer, 2, attempt_of(&effects), 1),
        2,
        1
    ));
}

#[test]
fn an_order_that_was_lost_to_another_entry_is_built_again() {
    let mut producer = leader(Timetable::Manual);
    let attempt = attempt_of(&run(&mut producer, 0, ordered(1, mine(&[]))));
    run(&mut producer, 1, built(attempt, &[], &[]));
    let error = AppendFailure::Lost;
    run(&mut producer, 2, Event::AppendFailed { attempt, error });
    let effects = run(
        &mut producer,
        3,
        Event::Head {
            parent: parent(1, 3),
            included: vec![],
        },
    );
    assert!(!is_done(&effects, 1, 1));
    assert!(is_done(
        &through(&mut producer, 4, attempt_of(&effects), 2),
        1,
        2
    ));
}

#[test]
fn an_order_that_nobody_can_carry_out_is_refused_in_time() {
    let mut producer = Producer::new(Timetable::Manual, Start::Lead, parent(0, 1), Micros(0));
    run(&mut producer, 0, ordered(1, mine(&[])));
    let effects = run(&mut producer, 8_000, Event::Tick);
    assert!(effects.contains(&Effect::Ordered {
        id: 1,
        result: Err(DevRefusal::NotLeading)
    }));
}

#[test]
fn a_change_that_no_block_can_carry_is_refused() {
    let mut producer = leader(Timetable::AtOnce);
    let attempt = attempt_of(&run(&mut producer, 0, ordered(1, DevOrder::Change(vec![]))));
    run(&mut producer, 1, built(attempt, &[], &[]));
    let error = AppendFailure::TooLarge;
    let effects = run(&mut producer, 2, Event::AppendFailed { attempt, error });
    assert!(effects.contains(&Effect::Ordered {
        id: 1,
        result: Err(DevRefusal::TooLarge)
    }));
}

#[test]
fn an_ordered_block_between_two_slots_takes_neither() {
    let mut producer = leader(Timetable::Slots(Micros::from_secs(10)));
    let attempt = attempt_of(&run(&mut producer, 2_000, ordered(1, mine(&[]))));
    let effects = through(&mut producer, 2_001, attempt, 1);
    assert!(is_done(&effects, 1, 1));
    assert!(effects.contains(&Effect::WakeAt(Micros::from_secs(9))));
}

#[test]
fn how_blocks_are_made_follows_the_state() {
    let mut producer = leader(Timetable::AtOnce);
    let by_hand = Parent {
        mining: Some(Timetable::Manual),
        ..parent(1, 3)
    };
    let head = |parent| Event::Head {
        parent,
        included: vec![],
    };
    run(&mut producer, 0, head(by_hand));
    assert!(run(&mut producer, 0, Event::Ready(ready(1, 20))).is_empty());
    let every = Parent {
        mining: Some(Timetable::Slots(Micros::from_secs(1))),
        ..parent(2, 4)
    };
    let effects = run(&mut producer, 100, head(every));
    assert_eq!(effects, [Effect::WakeAt(Micros::from_millis(800))]);
    attempt_of(&run(&mut producer, 200, head(parent(3, 5))));
}

#[test]
fn timestamps_follow_the_chains_clock() {
    let mut producer = leader(Timetable::AtOnce);
    let head = Parent {
        clock: Clock {
            offset_secs: 1_000,
            ..Clock::default()
        },
        ..parent(1, 3)
    };
    let included = vec![];
    run(
        &mut producer,
        0,
        Event::Head {
            parent: head,
            included,
        },
    );
    let effects = run(&mut producer, 5_000, Event::Ready(ready(1, 20)));
    assert!(matches!(
        &effects[..],
        [Effect::Build {
            timestamp_secs: 1_005,
            ..
        }]
    ));
}
