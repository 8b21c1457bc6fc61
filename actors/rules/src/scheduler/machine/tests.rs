//! The scheduler with real shard machines around it, on a bus that loses, doubles and delays.

use super::*;
use crate::ids::{Igas, ModelHash, ShardId};
use crate::message::{Answer, AssignmentDone, Class, Gang, GangRequest, ShardHello, Withdraw};
use crate::request::{Attestation, Mode, Outcome, Request};
use crate::scheduler::Evidence;
use crate::scheduler::dice::Dice;
use crate::scheduler::limits::{BREAKER_OPEN, LEASE_MIN};
use crate::scheduler::model::{Candidate, Cost, KeyState, Lane};
use crate::shard::{self, BatchId, HEARTBEAT, Shard};
use alloy_primitives::{B256, Bytes};
use proptest::prelude::*;

mod mutants;
mod planning;
mod trust;
mod world;

use world::{Faults, Mail, World};

const MS: u64 = 1_000;
const SLOT: u64 = 1_000 * MS;
/// Virtual time starts here: zero is "never".
const START: u64 = 10 * SLOT;

fn sender(n: u8) -> Address {
    Address::repeat_byte(n)
}

fn shard_id(n: usize) -> ShardId {
    ShardId(Address::repeat_byte(0xa0 + n as u8))
}

fn model(n: u8) -> ModelHash {
    ModelHash(B256::repeat_byte(n))
}

fn request(of: u8, mode: Mode, input: u64) -> GangRequest {
    let request = Request {
        model: model(of),
        mode,
        input: Bytes::copy_from_slice(&input.to_be_bytes()),
    };
    GangRequest {
        key: request.key(),
        model: request.model,
        mode,
        input: request.input,
        igas: Igas(1_000),
        certain: true,
    }
}

fn gang(id: u64, requests: Vec<GangRequest>) -> Gang {
    Gang {
        id: B256::left_padding_from(&id.to_be_bytes()),
        sender: sender(1),
        nonce: id,
        value: 1_000_000_000,
        class: Class::Block,
        round: 1,
        arrival: Height(0),
        deadline: None,
        requests,
    }
}

#[test]
fn many_who_wait_for_one_request_cause_one_execution() {
    let mut world = World::new(4, 1, Faults::default());
    for id in 0..50 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, 7)])));
    }
    world.pass(SLOT);
    let key = request(1, Mode::Vanilla, 7).key;
    assert!(world.settled.contains_key(&key));
    assert_eq!(world.executions[&key], 1);
    assert_eq!(world.scheduler.load().0, 0, "nobody waits any more");
}

#[test]
fn who_asks_for_what_is_settled_hears_it_again_and_nothing_runs() {
    let mut world = World::new(2, 1, Faults::default());
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Vanilla, 7)])));
    world.pass(SLOT);
    let mut effects = Vec::new();
    let again = Event::Submit(gang(2, vec![request(1, Mode::Vanilla, 7)]));
    world
        .scheduler
        .apply(Micros(world.now), again, &mut effects);
    assert!(matches!(&effects[..], [Effect::Resend(_)]), "{effects:?}");
    // The same input in another mode is another request: it needs its own quorum.
    world.tell(Event::Submit(gang(3, vec![request(1, Mode::Tee, 7)])));
    world.pass(SLOT);
    assert_eq!(
        world.settled[&request(1, Mode::Tee, 7).key]
            .attestations
            .len(),
        2
    );
}

#[test]
fn a_quorum_is_of_different_shards_and_who_lies_is_caught() {
    let mut caught = 0;
    for liar in 0..3 {
        let mut world = World::new(3, 5, Faults::default());
        world.liars = vec![liar];
        for id in 0..20 {
            world.tell(Event::Submit(gang(id, vec![request(1, Mode::Tee, id)])));
        }
        world.pass(3 * SLOT);
        for id in 0..20 {
            let settled = &world.settled[&request(1, Mode::Tee, id).key];
            assert_eq!(settled.outcome, World::truth(settled.key));
            let shards: Vec<ShardId> = settled.attestations.iter().map(|a| a.shard).collect();
            let honest: Vec<ShardId> = (0..3).filter(|&n| n != liar).map(shard_id).collect();
            assert!(
                shards.len() == 2 && (shards == honest),
                "ascending, different, honest"
            );
        }
        for evidence in &world.evidence {
            assert_eq!(evidence.shard, shard_id(liar));
            assert_ne!(evidence.answer.outcome.hash(), evidence.outcome_hash);
            assert!(evidence.against.len() >= 2);
        }
        caught += world.evidence.len();
    }
    assert_eq!(
        caught, 2,
        "one of the three was never asked: two replicas were enough"
    );
}

#[test]
fn a_quorum_that_no_shards_are_left_for_waits_with_a_reason() {
    let mut world = World::new(1, 1, Faults::default());
    world.pass(100 * MS);
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Tee, 1)])));
    world.pass(SLOT);
    assert!(world.settled.is_empty());
    assert!(world.reasons(1).contains(&Reason::NoShard));
}

#[test]
fn a_lost_shard_costs_a_lease_and_its_work_is_done_elsewhere() {
    let mut world = World::new(2, 1, Faults::default());
    world.tell(Event::Submit(gang(0, vec![request(1, Mode::Tee, 99)])));
    world.pass(SLOT);
    for id in 1..40 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, id)])));
    }
    world.tell(Event::Tick);
    world.shards[0] = None;
    world.pass(6 * SLOT);
    assert_eq!(world.settled.len(), 40);
    assert!(world.deferred.iter().any(|d| d.reason == Reason::ShardLost));
}

#[test]
fn an_assignment_that_the_bus_lost_is_noticed_within_three_heartbeats() {
    let mut world = World::new(1, 1, Faults::default());
    world.tell(Event::Submit(gang(0, vec![request(1, Mode::Vanilla, 0)])));
    world.pass(SLOT);
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Vanilla, 1)])));
    world.tell(Event::Tick);
    world.mail.retain(|_, mail| !matches!(mail, Mail::Shard(_, _, event) if matches!(**event, shard::Event::Assign(_))));
    world.pass(3 * HEARTBEAT.0 + 100 * MS);
    assert!(
        world
            .settled
            .contains_key(&request(1, Mode::Vanilla, 1).key)
    );
}

#[test]
fn work_is_taken_back_only_when_nobody_waits_for_any_of_it() {
    let mut world = World::new(1, 1, Faults::default());
    world.tell(Event::Submit(gang(0, vec![request(1, Mode::Vanilla, 0)])));
    world.pass(SLOT);
    for id in 1..4 {
        world.tell(Event::Submit(gang(
            id,
            vec![
                request(1, Mode::Vanilla, id),
                request(1, Mode::Vanilla, 100),
            ],
        )));
    }
    world.tell(Event::Tick);
    for id in [1, 2] {
        world.tell(Event::Withdraw(Withdraw {
            id: gang(id, vec![]).id,
        }));
        assert_eq!(world.cancels, 0);
    }
    world.tell(Event::Withdraw(Withdraw {
        id: gang(3, vec![]).id,
    }));
    assert_eq!(world.cancels, 1);
    // Somebody wants it again: whatever became of the copy, the answer comes.
    world.tell(Event::Submit(gang(5, vec![request(1, Mode::Vanilla, 100)])));
    world.pass(3 * SLOT);
    assert!(
        world
            .settled
            .contains_key(&request(1, Mode::Vanilla, 100).key)
    );
}

#[test]
fn a_younger_scheduler_fences_the_older_one_and_pays_nothing_twice() {
    let mut world = World::new(2, 1, Faults::default());
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Vanilla, 1)])));
    world.pass(SLOT);
    let mut old = std::mem::replace(&mut world.scheduler, Scheduler::new(Config::default()));
    for settled in world.settled.clone().into_values() {
        world.tell(Event::Recovered(settled));
    }
    world.tell(Event::TookOver { epoch: Epoch(2) });
    world.head();
    for id in 1..5 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, id)])));
    }
    world.pass(2 * SLOT);
    assert_eq!(world.settled.len(), 4);
    assert!(
        world.executions.values().all(|&n| n == 1),
        "{:?}",
        world.executions
    );
    // The old one wakes up and gives work: the shard refuses, and it stops.
    let mut effects = Vec::new();
    let now = Micros(world.now);
    let refresh = ShardHello {
        shard: shard_id(0),
        incarnation: 1,
        backend: "cpu".into(),
        engine_version: crate::request::ENGINE_VERSION,
        models: vec![model(1)],
        batch_max: 8,
        queue_max: 2,
        draining: false,
        held: vec![],
    };
    old.apply(now, Event::Hello(refresh), &mut effects);
    old.apply(
        now,
        Event::Submit(gang(9, vec![request(1, Mode::Vanilla, 9)])),
        &mut effects,
    );
    old.apply(now, Event::Tick, &mut effects);
    let Some(Effect::Assign(stale)) = effects.iter().find(|e| matches!(e, Effect::Assign(_)))
    else {
        panic!("{effects:?}");
    };
    let mut shard = world.shards[0].take().expect("alive");
    let mut answers = Vec::new();
    shard.apply(now, shard::Event::Assign(stale.clone()), &mut answers);
    let Some(shard::Effect::Refuse(refused)) = answers.first() else {
        panic!("{answers:?}");
    };
    let mut effects = Vec::new();
    old.apply(now, Event::Refused(*refused), &mut effects);
    assert_eq!(effects, [Effect::Fenced]);
}

#[test]
fn calls_wait_behind_transactions_have_a_quota_and_end_at_their_deadline() {
    let mut world = World::new(1, 1, Faults::default());
    world.tell(Event::Submit(gang(0, vec![request(1, Mode::Vanilla, 0)])));
    world.pass(SLOT);
    let call = |id: u64, deadline: u64| Gang {
        class: Class::Call,
        sender: sender(id as u8),
        deadline: Some(Micros(deadline)),
        ..gang(id, vec![request(1, Mode::Vanilla, id)])
    };
    world.tell(Event::Submit(call(50, world.now + 500 * MS)));
    for id in 1..9 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, id)])));
    }
    let mut effects = Vec::new();
    world
        .scheduler
        .apply(Micros(world.now), Event::Tick, &mut effects);
    let Some(Effect::Assign(first)) = effects.iter().find(|e| matches!(e, Effect::Assign(_)))
    else {
        panic!("{effects:?}");
    };
    let call_key = request(1, Mode::Vanilla, 50).key;
    assert!(
        first.requests.iter().all(|r| r.key != call_key),
        "eight transactions fill the first batch"
    );
    let mut world = World::new(0, 1, Faults::default());
    for id in 0..40 {
        world.tell(Event::Submit(Gang {
            sender: sender(1),
            ..call(id, world.now + 500 * MS)
        }));
    }
    assert_eq!(
        world
            .deferred
            .iter()
            .filter(|d| d.reason == Reason::SenderCap)
            .count(),
        8
    );
    world.pass(SLOT);
    assert_eq!(world.scheduler.load().0, 0, "their deadline passed");
    assert_eq!(
        world
            .deferred
            .iter()
            .filter(|d| d.reason == Reason::DeadlineInfeasible)
            .count(),
        32
    );
}

#[test]
fn a_model_longer_than_a_slot_gets_done_and_holds_up_nobody() {
    let mut world = World::new(2, 1, Faults::default());
    for n in 0..2 {
        world.tell(Event::Submit(gang(n, vec![request(1, Mode::Tee, n)])));
    }
    world.pass(SLOT);
    // A model of 60 slots: its registry entry says so.
    let long = GangRequest {
        igas: Igas(60 * SLOT),
        ..request(2, Mode::Vanilla, 0)
    };
    world.tell(Event::Submit(gang(10, vec![long.clone()])));
    for id in 100..200 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, id)])));
    }
    world.pass(SLOT);
    assert_eq!(
        world.settled.len(),
        103,
        "all short ones, and the long one's shard was quick after all"
    );
    assert!(world.settled.contains_key(&long.key));
}

#[test]
fn a_shard_that_fails_again_and_again_is_left_alone_and_tried_again_later() {
    let mut world = World::new(
        2,
        3,
        Faults {
            engine: 1,
            ..Faults::default()
        },
    );
    for id in 0..10 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Vanilla, id)])));
    }
    world.pass(2 * SLOT);
    let opened = world
        .decisions
        .iter()
        .filter(|d| matches!(d, Decision::BreakerOpened(_)))
        .count();
    assert!(opened >= 2 && world.settled.is_empty());
    world.faults = Faults::default();
    world.pass(BREAKER_OPEN.0 + 2 * SLOT);
    assert_eq!(world.settled.len(), 10);
}

#[test]
fn a_late_copy_that_differs_is_judged_by_a_further_shard() {
    let mut world = World::new(3, 1, Faults::default());
    world.tell(Event::Submit(gang(0, vec![request(1, Mode::Tee, 0)])));
    world.pass(SLOT);
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Vanilla, 1)])));
    world.tell(Event::Tick);
    let (_, lease) = world.scheduler.leases.first_key_value().expect("given out");
    let lease = lease.assignment.clone();
    let key = lease.requests[0].key;
    let done = |shard: ShardId, outcome: Outcome, lease| {
        Event::Done(AssignmentDone {
            shard,
            lease,
            epoch: Epoch(1),
            answers: vec![Answer {
                key,
                outcome,
                attestation: Attestation {
                    shard,
                    signature: Bytes::new(),
                },
            }],
            ran: Micros(1),
            batch: 1,
        })
    };
    // Another shard's word settles it, then the one that holds the lease says something else.
    let other = (0..3)
        .map(shard_id)
        .find(|&id| id != lease.shard)
        .expect("three");
    world.tell(done(other, World::truth(key), LeaseId(0)));
    assert!(world.settled.contains_key(&key));
    world.tell(done(
        lease.shard,
        Outcome::Output(Bytes::from_static(b"lie")),
        lease.lease,
    ));
    assert!(world.evidence.is_empty(), "one word against one");
    world.pass(SLOT);
    let accused: Vec<ShardId> = world.evidence.iter().map(|e| e.shard).collect();
    assert_eq!(accused, [lease.shard]);
    assert!(world.scheduler.load().0 == 0);
}

#[test]
fn a_straggler_that_holds_a_promise_is_doubled() {
    let mut world = World::new(2, 1, Faults::default());
    for id in 0..6 {
        world.tell(Event::Submit(gang(id, vec![request(1, Mode::Tee, id)])));
        world.pass(SLOT / 5);
    }
    world.faults.straggle = 1;
    world.tell(Event::Submit(gang(50, vec![request(1, Mode::Vanilla, 50)])));
    world.tell(Event::Tick);
    world.pass(MS);
    world.faults.straggle = 0;
    world.pass(60 * MS);
    let key = request(1, Mode::Vanilla, 50).key;
    assert_eq!(world.executions.get(&key), Some(&2));
    assert!(
        world.settled.contains_key(&key),
        "the copy was done before the straggler"
    );
}

#[test]
fn a_speculative_request_beyond_the_credit_is_not_computed() {
    let mut world = World::new(1, 1, Faults::default());
    let junk = |n: u64| GangRequest {
        igas: Igas(100_000),
        certain: false,
        ..request(1, Mode::Vanilla, 1_000 + n)
    };
    let mut requests = vec![request(1, Mode::Vanilla, 0)];
    requests.extend((0..200).map(junk));
    world.tell(Event::Submit(gang(1, requests)));
    world.pass(2 * SLOT);
    assert!(
        world
            .settled
            .contains_key(&request(1, Mode::Vanilla, 0).key)
    );
    let computed = (0..200)
        .filter(|&n| world.executions.contains_key(&junk(n).key))
        .count();
    assert_eq!(computed, 10, "a credit of a million units, 100,000 each");
    // None of it was used: it is debt now, and the next junk finds no credit.
    world.tell(Event::Included(Included {
        id: gang(1, vec![]).id,
        sender: sender(1),
        igas: Igas(1_000),
        keys: vec![request(1, Mode::Vanilla, 0).key],
    }));
    world.tell(Event::Submit(gang(
        2,
        vec![request(1, Mode::Vanilla, 2), junk(500)],
    )));
    world.pass(SLOT);
    assert!(!world.executions.contains_key(&junk(500).key));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    /// Under loss, doubling, delay, crashes, failing engines and one liar: every rule of `check` after every event, and
    /// once the faults stop, every gang that was not withdrawn is answered, rightly.
    #[test]
    fn nothing_is_lost_settled_twice_or_settled_wrongly(seed in any::<u64>()) {
        let faults = Faults { drop: 12, double: 12, crash: 60, engine: 40, straggle: 30 };
        let mut world = World::new(5, seed, faults);
        world.liars = vec![(seed % 5) as usize];
        let mut dice = Dice(seed ^ 1);
        let mut waiting: BTreeMap<u64, Vec<GangRequest>> = BTreeMap::new();
        for step in 0..40u64 {
            for _ in 0..dice.below(6) {
                let id = dice.below(60);
                if dice.one_in(6) {
                    world.tell(Event::Withdraw(Withdraw { id: gang(id, vec![]).id }));
                    waiting.remove(&id);
                    continue;
                }
                let requests: Vec<GangRequest> = (0..=dice.below(4))
                    .map(|_| {
                        // A vanilla answer is one shard's word: under a liar only quorum modes are sure to be right.
                        let mode = if dice.one_in(2) { Mode::Tee } else { Mode::Zk };
                        request(dice.below(3) as u8, mode, dice.below(40))
                    })
                    .collect();
                let class = if dice.one_in(8) { Class::Call } else { Class::Block };
                if class == Class::Block {
                    waiting.insert(id, requests.clone());
                } else {
                    waiting.remove(&id);
                }
                let gang = Gang {
                    class,
                    sender: sender(dice.below(9) as u8),
                    value: u128::from(dice.below(1_000_000)),
                    arrival: Height(world.height),
                    ..gang(id, requests)
                };
                world.tell(Event::Submit(gang));
            }
            if dice.one_in(20) {
                world.tell(Event::TookOver { epoch: Epoch(2 + step) });
            }
            let time = dice.below(300 * MS);
            world.pass(time / (5 * MS) * 5 * MS);
        }
        world.faults = Faults::default();
        world.pass(LEASE_MIN.0 + BREAKER_OPEN.0 + 10 * SLOT);
        for (id, requests) in waiting {
            for request in requests {
                let settled = world.settled.get(&request.key);
                prop_assert!(settled.is_some(), "gang {id} waits for {}: {:?}", request.key, world.reasons(id));
                prop_assert_eq!(&settled.expect("checked").outcome, &World::truth(request.key));
            }
        }
        for evidence in &world.evidence {
            prop_assert!(world.liars.iter().any(|&n| shard_id(n) == evidence.shard), "an honest shard was accused");
        }
        prop_assert_eq!(world.scheduler.load().1, 0, "no lease is left");
        prop_assert!(!world.fenced);
    }

    /// I14: equal snapshots give equal plans, whatever order they came in.
    #[test]
    fn the_order_of_arrival_changes_no_plan(seed in any::<u64>()) {
        let mut digests = Vec::new();
        for turn in 0..3u64 {
            let mut scheduler = Scheduler::new(Config { decision_log: DecisionLog::Plans, ..Config::default() });
            let mut effects = Vec::new();
            let mut apply = |event| scheduler.apply(Micros(START), event, &mut effects);
            apply(Event::Head(Slot { height: Height(5), cutoff: Micros(START + SLOT), next_cutoff: Micros(START + 2 * SLOT) }));
            let mut dice = Dice(seed);
            let mut events: Vec<Event> = (0..4).map(|n| Event::Hello(ShardHello {
                shard: shard_id(n),
                incarnation: 1,
                backend: "cpu".into(),
                engine_version: crate::request::ENGINE_VERSION,
                models: (0..3).filter(|_| !dice.one_in(3)).map(model).collect(),
                batch_max: 8,
                queue_max: 2,
                draining: false,
                held: vec![],
            })).collect();
            events.extend((0..200).map(|id| {
                let requests = (0..=dice.below(3)).map(|_| GangRequest {
                    igas: Igas(10_000),
                    ..request(dice.below(3) as u8, Mode::Vanilla, dice.below(400))
                }).collect();
                Event::Submit(Gang {
                    sender: sender(dice.below(40) as u8),
                    value: u128::from(dice.below(50) * 1_000_000),
                    arrival: Height(dice.below(5)),
                    nonce: dice.below(4),
                    ..gang(id, requests)
                })
            }));
            let mut shuffle = Dice(seed ^ turn << 7);
            for i in (1..events.len()).rev() {
                events.swap(i, shuffle.below(i as u64 + 1) as usize);
            }
            events.into_iter().for_each(&mut apply);
            apply(Event::Tick);
            prop_assert_eq!(scheduler.check_plan(), Ok(()));
            prop_assert_eq!(scheduler.check_whole(), Ok(()));
            digests.extend(effects.into_iter().filter_map(|e| match e {
                Effect::Log(Record { decision: Decision::Planned { digest, placed, .. }, .. }) => Some((digest, placed)),
                _ => None,
            }).last());
        }
        prop_assert!(digests.len() == 3 && digests.iter().all(|d| d == &digests[0]), "{digests:?}");
        prop_assert!(digests[0].1 > 0);
    }
}

/// A machine that stood still for a second during one run taught a variance that no deadline left room for: nothing of
/// that model was ever computed again, and so nothing better learned.
#[test]
fn an_idle_shard_takes_a_model_however_much_its_time_varies() {
    for each in [1, 10_000, 300_000, 700_000, 999_000, 1_000_000, 5_000_000] {
        for sigma in [
            0,
            1_000,
            100_000,
            333_000,
            650_000,
            2_000_000,
            60_000_000u64,
        ] {
            for passed in [0, 500_000, 999_999] {
                let mut problem = Problem {
                    now: Micros(START + passed),
                    deadlines: [Micros(START + SLOT), Micros(START + 2 * SLOT)],
                    shards: vec![Lane::idle(shard_id(0), 8)],
                    models: vec![model(1)],
                    costs: vec![Cost {
                        hosted: true,
                        base: 1_000,
                        each,
                        variance: sigma * sigma,
                        mean: each + 1_000,
                    }],
                    keys: vec![KeyState {
                        copies: 1,
                        ..KeyState::default()
                    }],
                    gangs: vec![Candidate {
                        live: true,
                        value: 1,
                        needs: vec![0],
                        ..Candidate::default()
                    }],
                    lanes: vec![vec![0]],
                    rooms: vec![0],
                    ..Problem::default()
                };
                problem.shards[0].free_at = problem.now;
                let plan = policy::plan(&problem);
                assert!(
                    matches!(plan.verdicts[0], Verdict::Placed(_)),
                    "{each} +- {sigma} after {passed}: {:?}",
                    plan.verdicts[0]
                );
            }
        }
    }
}
