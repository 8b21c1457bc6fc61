//! Faults planted in the scheduler's own books: each is seen by `check`, under the id of what it breaks.

use super::*;

/// A scheduler in the middle of its work: some requests are under way, one gang waits for two of them.
fn busy() -> Scheduler {
    let mut world = World::new(2, 1, Faults::default());
    // A first request has the model loaded.
    world.tell(Event::Submit(gang(99, vec![request(1, Mode::Vanilla, 99)])));
    world.pass(SLOT / 2);
    for id in 0..60 {
        let requests = vec![
            request(1, Mode::Vanilla, id),
            request(1, Mode::Tee, id / 2 + 100),
        ];
        world.tell(Event::Submit(gang(id, requests)));
    }
    world.tell(Event::Tick);
    assert!(world.scheduler.load().1 > 0, "something is under way");
    world.scheduler
}

/// The id that `check` names.
fn caught(id: &str, mutate: impl FnOnce(&mut Scheduler)) {
    let mut scheduler = busy();
    assert_eq!(scheduler.check(), Ok(()));
    mutate(&mut scheduler);
    let broken = scheduler.check().err().unwrap_or_default();
    assert_eq!(broken.split(':').next(), Some(id), "{broken}");
}

/// A request that nothing of is under way.
fn idle_request(scheduler: &Scheduler) -> u32 {
    let idle = |slot: &u32| {
        let entry = scheduler.entries[*slot as usize].as_ref();
        entry.is_some_and(|entry| entry.leases.is_empty())
    };
    let mut slots = scheduler.by_key.values().copied();
    slots.find(idle).expect("one waits")
}

#[test]
fn a_ticket_that_is_held_for_nobody_is_caught() {
    caught("I7", |scheduler| scheduler.tickets_held += 1);
}

#[test]
fn a_request_that_is_settled_and_computed_again_is_caught() {
    caught("I9", |scheduler| {
        let key = *scheduler.by_key.keys().next().expect("a request");
        scheduler.cache.insert(Settled {
            key,
            outcome: Outcome::Output(Bytes::new()),
            attestations: vec![],
        });
    });
}

#[test]
fn more_copies_than_a_quorum_and_a_hedge_are_caught() {
    caught("I9", |scheduler| {
        let slot = idle_request(scheduler);
        scheduler.problem.keys[slot as usize].copies += 2;
    });
}

#[test]
fn a_request_that_is_lost_is_caught() {
    caught("I10", |scheduler| {
        let slot = idle_request(scheduler);
        scheduler.entries[slot as usize] = None;
    });
}

#[test]
fn a_request_that_waits_for_nothing_is_caught() {
    caught("I10", |scheduler| {
        let slot = idle_request(scheduler);
        scheduler.problem.keys[slot as usize].copies = 0;
    });
}

#[test]
fn a_lease_that_the_book_forgot_is_caught() {
    caught("I10", |scheduler| {
        scheduler.leases.pop_first();
    });
}

#[test]
fn a_waiter_that_does_not_wait_is_caught() {
    caught("I21", |scheduler| {
        let slot = idle_request(scheduler);
        let others = scheduler.by_gang.values().copied().find(|&gang| {
            let needs = &scheduler.problem.gangs[gang as usize].needs;
            !needs.contains(&slot)
        });
        let entry = scheduler.entries[slot as usize].as_mut();
        entry.expect("it is there").waiters.extend(others);
    });
}

/// I8: of a promise that is half under way, the rest has to stay where the plan had it.
#[test]
fn a_promise_that_loses_its_shard_is_caught() {
    let mut world = World::new(2, 1, Faults::default());
    world.tell(Event::Submit(gang(99, vec![request(1, Mode::Vanilla, 99)])));
    world.pass(SLOT / 2);
    let wide = (0..100).map(|n| request(1, Mode::Vanilla, n)).collect();
    world.tell(Event::Submit(gang(98, wide)));
    world.head();
    world.tell(Event::Tick);
    // Its first batches went out, and the next plan has the others.
    let mut scheduler = world.scheduler;
    scheduler.urgent = true;
    scheduler.apply(scheduler.problem.now, Event::Tick, &mut Vec::new());
    assert_eq!(scheduler.check_plan(), Ok(()));
    scheduler.problem.homes.clear();
    let broken = scheduler.check_plan().err().unwrap_or_default();
    assert_eq!(broken.split(':').next(), Some("I8"), "{broken}");
}

/// A third assignment behind a long one would keep what is in it from every other shard.
#[test]
fn a_third_assignment_behind_a_long_one_is_caught() {
    let mut scheduler = busy();
    let held = &mut scheduler.members[0].leases;
    let (first, second) = (held[0], held[1]);
    held.push_back(first);
    let waits = scheduler.leases.get_mut(&second).expect("it is held");
    waits.expected = ROUND_TRIP.0;
    let broken = scheduler.check().err().unwrap_or_default();
    assert!(broken.contains("has 3 assignments"), "{broken}");
}

/// I7: the count of late tickets is what says that one was late.
#[test]
fn a_ticket_that_is_not_served_is_counted_as_late() {
    let mut scheduler = busy();
    let slot = *scheduler.by_gang.values().next().expect("a gang") as usize;
    let next = scheduler.problem.height;
    scheduler.problem.gangs[slot].due = Some(next);
    assert_eq!(scheduler.figures().late, 0);
    let mut effects = Vec::new();
    let head = Slot {
        height: next,
        cutoff: Micros(START + 2 * SLOT),
        next_cutoff: Micros(START + 3 * SLOT),
    };
    scheduler.apply(Micros(START + SLOT), Event::Head(head), &mut effects);
    assert_eq!(scheduler.figures().late, 1);
}
