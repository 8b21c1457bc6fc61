//! Work of other kinds than a transaction that competes for a block: calls, work longer than a slot, speculation.

use super::*;

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
