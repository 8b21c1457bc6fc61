//! Work that is with a shard: lost, taken back, doubled, fenced.

use super::*;

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

/// In its last quarter a batch was thought to take a quarter of its time still, though nothing was late: what had been
/// promised behind it found no place in time any more, went into a large batch of the next block, and was late.
#[test]
fn a_batch_is_thought_to_end_when_it_was_expected_until_it_is_overdue() {
    let mut world = World::new(1, 1, Faults::default());
    world.tell(Event::Submit(gang(1, vec![request(1, Mode::Vanilla, 1)])));
    world.pass(SLOT);
    world.tell(Event::Submit(gang(2, vec![request(1, Mode::Vanilla, 2)])));
    world.tell(Event::Tick);
    let (_, lease) = world.scheduler.leases.first_key_value().expect("given out");
    let mut lease = lease.clone();
    (lease.expected, lease.variance) = (400 * MS, (10 * MS).pow(2));
    let end = lease.done_at().0;
    let ends = |now: u64| lease.ends(Micros(now), None).0;
    for early in [390 * MS, 99 * MS, MS, 0] {
        assert_eq!(ends(end - early), end);
    }
    // Overdue by its noise, it needs little more; by far, it may be a straggler.
    assert_eq!(ends(end + 5 * MS), end + 20 * MS);
    assert_eq!(ends(end + 900 * MS), end + 1_000 * MS);
    // What waits behind another starts when that one ends.
    assert_eq!(lease.ends(Micros(end), Some(Micros(7))).0, 7 + 400 * MS);
}
