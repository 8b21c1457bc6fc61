//! Answers: computed once, counted to a quorum, judged where they differ.

use super::*;

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
