//! The shard by itself: refusals, batches, and random lives.

use super::*;
use crate::request::{Mode, ModelError};
use alloy_primitives::{Address, B256, Bytes};
use proptest::prelude::*;

const SHARD: ShardId = ShardId(Address::repeat_byte(7));

fn model(n: u8) -> ModelHash {
    ModelHash(B256::repeat_byte(n))
}

fn config() -> Config {
    Config {
        shard: SHARD,
        incarnation: 1,
        backend: "cpu".into(),
        batch_max: 4,
        queue_max: 2,
        models_max: 2,
        engines: 1,
    }
}

fn key(lease: u64, place: u64) -> RequestKey {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&lease.to_be_bytes());
    bytes[8..16].copy_from_slice(&place.to_be_bytes());
    RequestKey(B256::from(bytes))
}

fn assignment(lease: u64, of: u8, count: u64) -> Assignment {
    Assignment {
        shard: SHARD,
        incarnation: 1,
        lease: LeaseId(lease),
        epoch: Epoch(1),
        model: model(of),
        requests: (0..count)
            .map(|place| AssignedRequest {
                key: key(lease, place),
                mode: Mode::Vanilla,
                input: Bytes::new(),
            })
            .collect(),
        must_start_by: Micros(1_000),
        expires: Micros(2_000),
    }
}

fn apply(shard: &mut Shard, now: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    shard.apply(Micros(now), event, &mut effects);
    shard.check().expect("a rule is broken");
    effects.retain(|e| !matches!(e, Effect::Hello(_)));
    effects
}

fn with_model(config: Config) -> Shard {
    let mut shard = Shard::new(config);
    apply(&mut shard, 0, Event::Loaded(model(1)));
    shard
}

fn refusal(effects: &[Effect]) -> Option<RefuseReason> {
    effects.iter().find_map(|e| match e {
        Effect::Refuse(refused) => Some(refused.reason),
        _ => None,
    })
}

#[test]
fn each_reason_to_refuse_is_given() {
    let check = |expect, shard: &mut Shard, now, assignment| {
        let effects = apply(shard, now, Event::Assign(assignment));
        assert_eq!(refusal(&effects), expect);
    };
    let shard = &mut with_model(config());
    check(Some(RefuseReason::Late), shard, 1_001, assignment(1, 1, 1));
    check(Some(RefuseReason::NoModel), shard, 0, assignment(2, 2, 1));
    let mut other = assignment(3, 1, 1);
    other.incarnation = 2;
    check(Some(RefuseReason::OtherIncarnation), shard, 0, other);
    for lease in 4..7 {
        check(None, shard, 0, assignment(lease, 1, 4));
    }
    check(Some(RefuseReason::Busy), shard, 0, assignment(7, 1, 1));
    let mut young = assignment(8, 1, 1);
    young.epoch = Epoch(2);
    // The younger scheduler's first word frees what the older one had waiting.
    check(Some(RefuseReason::StaleEpoch), shard, 0, young);
    check(
        Some(RefuseReason::StaleEpoch),
        shard,
        0,
        assignment(9, 1, 1),
    );
    apply(shard, 0, Event::Drain);
    let mut late = assignment(10, 1, 1);
    late.epoch = Epoch(2);
    check(Some(RefuseReason::Draining), shard, 0, late);
    let failed = apply(shard, 0, Event::RunFailed { batch: BatchId(1) });
    assert_eq!(refusal(&failed), Some(RefuseReason::EngineFailed));
    assert!(failed.contains(&Effect::Drained));
}

#[test]
fn assignments_of_one_model_that_wait_run_together() {
    let mut shard = with_model(config());
    let first = apply(&mut shard, 0, Event::Assign(assignment(1, 1, 1)));
    assert!(matches!(&first[..], [Effect::Run { requests, .. }] if requests.len() == 1));
    apply(&mut shard, 0, Event::Assign(assignment(2, 1, 2)));
    apply(&mut shard, 0, Event::Assign(assignment(3, 1, 3)));
    let outcome = Outcome::Failed(ModelError::Domain);
    let done = apply(
        &mut shard,
        5,
        Event::Ran {
            batch: BatchId(1),
            outcomes: vec![outcome.clone()],
            took: Micros(5),
        },
    );
    let [Effect::Answer(answers), Effect::Run { requests, .. }] = &done[..] else {
        panic!("{done:?}");
    };
    assert_eq!(answers.outcomes, vec![(key(1, 0), outcome.clone())]);
    let keys: Vec<RequestKey> = requests.iter().map(|r| r.key).collect();
    assert_eq!(keys, [key(2, 0), key(2, 1), key(3, 0), key(3, 1)]);
    let done = apply(
        &mut shard,
        9,
        Event::Ran {
            batch: BatchId(2),
            outcomes: vec![outcome; 4],
            took: Micros(4),
        },
    );
    // The third lease answers when its last request ran, and the second does not wait for it.
    assert!(
        matches!(&done[..], [Effect::Answer(a), Effect::Run { requests, .. }]
        if a.lease == LeaseId(2) && a.batch == 4 && requests.len() == 1)
    );
}

#[test]
fn what_has_not_started_can_be_taken_back_and_what_has_not_in_time_is_refused() {
    let mut shard = with_model(config());
    for lease in 1..4 {
        apply(&mut shard, 0, Event::Assign(assignment(lease, 1, 4)));
    }
    for lease in 1..3 {
        let cancel = CancelAssignment {
            shard: SHARD,
            lease: LeaseId(lease),
            epoch: Epoch(1),
        };
        assert_eq!(apply(&mut shard, 1, Event::Cancel(cancel)), []);
    }
    assert_eq!(shard.load(), (2, 1));
    let late = apply(&mut shard, 1_001, Event::Tick);
    assert_eq!(refusal(&late), Some(RefuseReason::Late));
    assert_eq!(shard.load(), (1, 1), "what runs is not late");
}

#[test]
fn the_model_that_was_idle_longest_makes_room() {
    let mut shard = with_model(config());
    apply(&mut shard, 1, Event::Loaded(model(2)));
    let prefetch = |n| {
        Event::Prefetch(Prefetch {
            shard: SHARD,
            epoch: Epoch(1),
            model: model(n),
        })
    };
    let effects = apply(&mut shard, 2, prefetch(3));
    assert_eq!(effects, [Effect::Unload(model(1)), Effect::Load(model(3))]);
    assert_eq!(apply(&mut shard, 2, prefetch(3)), [], "it loads already");
    assert_eq!(
        refusal(&apply(&mut shard, 3, Event::Assign(assignment(1, 1, 1)))),
        Some(RefuseReason::NoModel)
    );
}

#[derive(Clone, Debug)]
enum Act {
    Assign {
        model: u8,
        count: u64,
        epoch: u64,
        late: bool,
    },
    Repeat,
    Cancel(u64),
    Finish {
        fail: bool,
        short: bool,
    },
    Prefetch(u8),
    Loaded(u8),
    LoadFailed(u8),
    Drain,
    Wait(u64),
}

fn act() -> impl Strategy<Value = Act> {
    prop_oneof![
        8 => (1u8..4, 1u64..9, 1u64..3, prop::bool::weighted(0.1))
            .prop_map(|(model, count, epoch, late)| Act::Assign { model, count, epoch, late }),
        1 => Just(Act::Repeat),
        2 => (0u64..40).prop_map(Act::Cancel),
        8 => (prop::bool::weighted(0.1), prop::bool::weighted(0.05)).prop_map(|(fail, short)| Act::Finish { fail, short }),
        2 => (1u8..4).prop_map(Act::Prefetch),
        2 => (1u8..4).prop_map(Act::Loaded),
        1 => (1u8..4).prop_map(Act::LoadFailed),
        1 => Just(Act::Drain),
        3 => (0u64..700_000).prop_map(Act::Wait),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    /// Every lease that was sent ends once: answered in full and in order, refused once, or cancelled.
    #[test]
    fn every_lease_ends_once_and_no_batch_mixes_models(acts in prop::collection::vec(act(), 1..80), engines in 1u32..3) {
        let mut shard = Shard::new(Config { engines, ..config() });
        let mut now = 0;
        let (mut sent, mut ended) = (BTreeMap::new(), BTreeMap::<LeaseId, u32>::new());
        let mut running: BTreeMap<BatchId, usize> = BTreeMap::new();
        let mut last = None;
        for (number, act) in acts.into_iter().enumerate() {
            let event = match act {
                Act::Assign { model, count, epoch, late } => {
                    let mut a = assignment(number as u64, model, count);
                    a.epoch = Epoch(epoch);
                    a.must_start_by = Micros(if late { now } else { now + 600_000 });
                    sent.insert(a.lease, a.clone());
                    last = Some(a.clone());
                    Event::Assign(a)
                }
                Act::Repeat => match last.clone() {
                    Some(a) => Event::Assign(a),
                    None => continue,
                },
                Act::Cancel(lease) => Event::Cancel(CancelAssignment { shard: SHARD, lease: LeaseId(lease), epoch: Epoch(1) }),
                Act::Finish { fail, short } => match running.pop_first() {
                    Some((batch, _)) if fail => Event::RunFailed { batch },
                    Some((batch, count)) => Event::Ran {
                        batch,
                        outcomes: vec![Outcome::Failed(ModelError::Domain); count - usize::from(short)],
                        took: Micros(1),
                    },
                    None => continue,
                },
                Act::Prefetch(n) => Event::Prefetch(Prefetch { shard: SHARD, epoch: Epoch(1), model: model(n) }),
                Act::Loaded(n) => Event::Loaded(model(n)),
                Act::LoadFailed(n) => Event::LoadFailed(model(n)),
                Act::Drain => Event::Drain,
                Act::Wait(time) => {
                    now += time;
                    Event::Tick
                }
            };
            let mut effects = Vec::new();
            shard.apply(Micros(now), event, &mut effects);
            prop_assert_eq!(shard.check(), Ok(()));
            for effect in effects {
                match effect {
                    Effect::Run { batch, model, requests } => {
                        prop_assert!(requests.len() <= 4 && !requests.is_empty());
                        for request in &requests {
                            let lease = LeaseId(u64::from_be_bytes(request.key.0[..8].try_into().expect("8 bytes")));
                            prop_assert_eq!(sent[&lease].model, model);
                        }
                        running.insert(batch, requests.len());
                    }
                    Effect::Answer(answers) => {
                        *ended.entry(answers.lease).or_default() += 1;
                        let keys: Vec<RequestKey> = answers.outcomes.iter().map(|(key, _)| *key).collect();
                        let asked: Vec<RequestKey> = sent[&answers.lease].requests.iter().map(|r| r.key).collect();
                        prop_assert_eq!(keys, asked);
                    }
                    // Refused on arrival, it left nothing behind: it may come again, and be refused again.
                    Effect::Refuse(refused) if refused.reason == RefuseReason::EngineFailed => {
                        *ended.entry(refused.lease).or_default() += 1;
                    }
                    _ => {}
                }
            }
            for (lease, times) in &ended {
                prop_assert!(*times <= 1, "{} ended {} times", lease, times);
            }
        }
    }
}
