//! What plans got wrong once, each as the smallest case that showed it.

use super::*;
use crate::scheduler::model::Pass;

/// A scheduler that leads, with this slot told, at [`START`].
fn scheduler_at(height: u64) -> Scheduler {
    let mut scheduler = Scheduler::new(Config::default());
    let slot = Slot {
        height: Height(height),
        cutoff: Micros(START + SLOT),
        next_cutoff: Micros(START + 2 * SLOT),
    };
    tell(&mut scheduler, START, Event::TookOver { epoch: Epoch(1) });
    tell(&mut scheduler, START, Event::Head(slot));
    scheduler
}

fn tell(scheduler: &mut Scheduler, at: u64, event: Event) -> Vec<Effect> {
    let mut effects = Vec::new();
    scheduler.apply(Micros(at), event, &mut effects);
    scheduler
        .check()
        .unwrap_or_else(|broken| panic!("{broken}"));
    effects
}

/// Work that began while a block was built was promised for that very block, and each such promise was broken.
#[test]
fn once_a_block_is_in_the_making_plans_are_for_the_one_after_it() {
    let mut scheduler = scheduler_at(5);
    assert_eq!(scheduler.problem().height, Height(6));
    let told = |height, late: u64| {
        Event::Head(Slot {
            height: Height(height),
            cutoff: Micros(START + (1 + late) * SLOT),
            next_cutoff: Micros(START + (2 + late) * SLOT),
        })
    };
    tell(&mut scheduler, START + SLOT / 2, told(5, 0));
    assert_eq!(scheduler.problem().height, Height(6), "told again");
    // By the time alone, or by the next cut-off that is told: whichever comes first.
    let mut other = scheduler.clone();
    tell(&mut scheduler, START + SLOT + MS, Event::Tick);
    tell(&mut other, START + SLOT + MS, told(5, 1));
    for scheduler in [&mut scheduler, &mut other] {
        assert_eq!(scheduler.problem().height, Height(7));
        tell(scheduler, START + SLOT + 2 * MS, told(5, 1));
        assert_eq!(scheduler.problem().height, Height(7), "told again");
        tell(scheduler, START + SLOT + 200 * MS, told(6, 1));
        assert_eq!(scheduler.problem().height, Height(7), "the block came");
        tell(scheduler, START + SLOT + 300 * MS, told(4, 1));
        assert_eq!(scheduler.problem().height, Height(7), "an older head");
    }
}

/// One shard, two models of which a batch of one takes `each`, and gangs of one request each.
fn problem(each: u64, variance: u64, gangs: u32) -> Problem {
    let gang = |n: u32| Candidate {
        id: B256::repeat_byte(n as u8 + 1),
        sender: n,
        live: true,
        value: 1_000_000,
        needs: vec![n],
        ..Candidate::default()
    };
    let mut problem = Problem {
        now: Micros(START),
        height: Height(6),
        deadlines: [Micros(START + SLOT), Micros(START + 2 * SLOT)],
        shards: vec![Lane::idle(shard_id(0), 1)],
        models: vec![model(1)],
        costs: vec![Cost {
            hosted: true,
            base: 0,
            each,
            variance,
            mean: each,
        }],
        keys: vec![
            KeyState {
                copies: 1,
                ..KeyState::default()
            };
            gangs as usize
        ],
        gangs: (0..gangs).map(gang).collect(),
        lanes: (0..gangs).map(|n| vec![n]).collect(),
        rooms: vec![u64::MAX; gangs as usize],
        ..Problem::default()
    };
    problem.shards[0].free_at = problem.now;
    problem
}

/// Each replan asked for the full margin anew, with ever less time: what had slipped a little was given up.
#[test]
fn what_was_promised_keeps_its_place_while_it_is_expected_in_time() {
    // Two runs of 400 ms that vary by 100 ms: together they leave less than three deviations.
    let mut problem = problem(400 * MS, (100 * MS).pow(2), 2);
    let placed = |problem: &Problem| policy::plan(problem).verdicts;
    assert_eq!(
        placed(&problem)
            .iter()
            .filter(|v| **v == Verdict::Placed(Pass::This))
            .count(),
        1
    );
    for gang in &mut problem.gangs {
        gang.committed = true;
    }
    assert_eq!(placed(&problem), [Verdict::Placed(Pass::This); 2]);
}

/// What was promised was placed without its margin wherever it was done first, though another shard had the margin: each
/// replan took a little of it, until nothing was left.
#[test]
fn what_was_promised_keeps_its_margin_where_a_shard_has_it() {
    let mut problem = problem(100 * MS, 0, 1);
    problem.gangs[0].committed = true;
    // Free at once, and none knows when; free later, and sure.
    problem.shards[0].variance = (400 * MS).pow(2);
    let sure = Lane {
        free_at: Micros(START + 300 * MS),
        ..Lane::idle(shard_id(1), 1)
    };
    problem.shards.push(sure);
    problem.costs.push(problem.costs[0]);
    let shard = |problem: &Problem| {
        let plan = policy::plan(problem);
        assert_eq!(plan.verdicts, [Verdict::Placed(Pass::This)]);
        plan.batches()[0].shard
    };
    assert_eq!(shard(&problem), 1);
    problem.shards[1].live = false;
    assert_eq!(
        shard(&problem),
        0,
        "better without a margin than not at all"
    );
}

/// Two shards with a slot of 1 s each, and gangs of one request of their own model each, that takes so many milliseconds.
fn packing(times: &[u64]) -> Problem {
    let mut problem = problem(0, 0, times.len() as u32);
    problem.shards.push(Lane::idle(shard_id(1), 1));
    problem.costs.clear();
    for (n, time) in times.iter().enumerate() {
        let cost = Cost {
            hosted: true,
            base: 0,
            each: time * MS,
            variance: 0,
            mean: time * MS,
        };
        problem.costs.extend([cost, cost]);
        problem.keys[n].model = n as u32;
        // All are worth the same for their time, and the first more than the next.
        problem.gangs[n].value = u128::from(time * (100 - n as u64));
    }
    problem.models = (1..=times.len() as u8).map(model).collect();
    problem
}

/// Each plan packed anew what was promised, one by one where it is done first. What had filled the shards to the brim
/// found no place any more as often as not, and a chain of wide gangs broke a promise in a thousand.
#[test]
fn what_was_promised_stays_where_it_has_a_place() {
    let mut problem = packing(&[500, 500, 400, 600]);
    for gang in &mut problem.gangs {
        gang.committed = true;
    }
    let late = policy::plan(&problem);
    assert_eq!(count(&late, Pass::This), 3, "one by one they do not fit");
    // The plan that promised them had them so.
    problem.homes = [(0, 0b10), (1, 0b10), (2, 0b01), (3, 0b01)].into();
    let plan = policy::plan(&problem);
    assert_eq!(count(&plan, Pass::This), 4);
    // A home that is gone, or has no room, is none.
    problem.shards[1].free_at = Micros(START + SLOT);
    problem.gangs.truncate(2);
    problem.keys.truncate(2);
    problem.lanes.truncate(2);
    let moved = policy::plan(&problem);
    assert_eq!(count(&moved, Pass::This), 2);
    assert!(moved.batches().iter().all(|batch| batch.shard == 0));
}

/// A ticket of three rounds that is due is served before what was promised: more is promised while its block's time
/// passes, and it came last until there was no time left, in each of its last three blocks.
#[test]
fn a_ticket_that_is_due_goes_first() {
    let mut problem = packing(&[300, 300, 300]);
    problem.shards[1].live = false;
    problem.gangs[0].committed = true;
    problem.gangs[2].due = Some(Height(6));
    let order = |problem: &Problem| -> Vec<u32> {
        let plan = policy::plan(problem);
        let queue = plan.queues[0].iter();
        queue.map(|&b| plan.batches()[b as usize].model).collect()
    };
    assert_eq!(order(&problem), [2, 0, 1]);
    problem.gangs[2].committed = true;
    assert_eq!(order(&problem), [2, 0, 1], "and still once its work began");
    problem.gangs[2].due = Some(Height(20));
    assert_eq!(order(&problem), [0, 2, 1], "later there is time enough");
}

/// What was under way was taken to be done at its expected time to the microsecond, and was promised.
#[test]
fn work_under_way_needs_its_margin_to_be_promised() {
    let mut problem = problem(10 * MS, 0, 1);
    problem.keys[0] = KeyState {
        copies: 0,
        ready_at: Micros(START + SLOT - 20 * MS),
        variance: (10 * MS).pow(2),
        ..KeyState::default()
    };
    assert_eq!(
        policy::plan(&problem).verdicts,
        [Verdict::Placed(Pass::Next)]
    );
    problem.gangs[0].committed = true;
    assert_eq!(
        policy::plan(&problem).verdicts,
        [Verdict::Placed(Pass::This)]
    );
}

fn count(plan: &Plan, pass: Pass) -> usize {
    let placed = |v: &&Verdict| **v == Verdict::Placed(pass);
    plan.verdicts.iter().filter(placed).count()
}

/// Near a block's end each gap took one more batch of one request, at the price of a whole batch's base.
#[test]
fn where_more_is_asked_for_than_can_be_done_a_batch_is_opened_with_room_to_fill() {
    let with = |gangs: u32| {
        let mut problem = problem(10 * MS, 0, gangs);
        problem.shards[0].batch_max = 9;
        problem.costs[0].base = 50 * MS;
        // Room for one, not for the three that are a third of a batch.
        problem.deadlines[0] = Micros(START + 65 * MS);
        policy::plan(&problem)
    };
    assert_eq!(count(&with(1), Pass::This), 1, "nobody else wants the time");
    let plan = with(100);
    assert_eq!(count(&plan, Pass::This), 0);
    assert!(count(&plan, Pass::Next) >= 9);
}

/// Cheap work of little worth fitted into the last gaps of a block, and the next block's dear work came too late.
#[test]
fn what_is_not_worth_its_time_waits_for_what_is() {
    let mut problem = problem(260 * MS, 0, 104);
    problem.deadlines = [Micros(START + 50 * MS), Micros(START + 50 * MS + SLOT)];
    problem.models.push(model(2));
    problem.costs.push(Cost {
        each: 2 * MS,
        mean: 2 * MS,
        ..problem.costs[0]
    });
    for (n, gang) in problem.gangs.iter_mut().enumerate() {
        gang.value = if n < 4 { 1_000_000_000 } else { 1_000 };
    }
    for key in &mut problem.keys[4..] {
        key.model = 1;
    }
    let plan = policy::plan(&problem);
    assert_eq!(plan.verdicts[..4], [Verdict::Placed(Pass::Next); 4]);
    assert!(plan.bar > 0);
}

/// Between two full plans each arrival opened a batch of its own, whatever it was worth.
#[test]
fn an_arrival_below_the_cut_opens_no_batch() {
    let mut problem = problem(100 * MS, 0, 40);
    problem.shards[0].batch_max = 4;
    let mut plan = policy::plan(&problem);
    let before = plan.batches().len();
    for value in [1, 1_000_000_000] {
        let n = problem.gangs.len() as u32;
        problem.keys.push(problem.keys[0]);
        problem.gangs.push(Candidate {
            id: B256::repeat_byte(200),
            sender: n,
            value,
            needs: vec![n],
            ..problem.gangs[0].clone()
        });
        problem.lanes.push(vec![n]);
        problem.rooms.push(u64::MAX);
        policy::insert(&problem, &mut plan, n);
        let verdict = plan.verdicts[n as usize];
        assert!(
            matches!(verdict, Verdict::Deferred(Reason::Outbid(price)) if price > 0)
                || value > 1 && verdict == Verdict::Deferred(Reason::Outbid(0)),
            "{verdict:?}"
        );
        assert_eq!(plan.batches().len(), before);
    }
}

/// Half-computed gangs were outbid by fresh ones until they left, and what was computed was lost.
#[test]
fn what_began_is_finished_before_something_else_begins() {
    let mut problem = problem(600 * MS, 0, 2);
    problem.gangs[1].value = 900_000;
    assert_eq!(
        policy::plan(&problem).verdicts[0],
        Verdict::Placed(Pass::This)
    );
    problem.gangs[1].started = true;
    let plan = policy::plan(&problem);
    assert_eq!(
        plan.verdicts,
        [Verdict::Placed(Pass::Next), Verdict::Placed(Pass::This)]
    );
}

/// Each plan had its own cap: with twenty plans a block, fresh identities had twenty times their part.
#[test]
fn what_was_given_to_those_without_cover_counts_until_the_block_is_built() {
    let mut problem = problem(10 * MS, 0, 240);
    for gang in &mut problem.gangs[..100] {
        gang.value *= 2;
        gang.igas = 10_000;
    }
    for room in &mut problem.rooms[..100] {
        *room = 0;
    }
    let uncovered = |problem: &Problem| {
        let plan = policy::plan(problem);
        let this = |v: &&Verdict| **v == Verdict::Placed(Pass::This);
        let kept = |v: &&Verdict| **v == Verdict::Deferred(Reason::UnbondedCap);
        let first = &plan.verdicts[..100];
        (
            first.iter().filter(this).count(),
            first.iter().any(|v| kept(&v)),
        )
    };
    // 2 % of a second.
    assert_eq!(uncovered(&problem), (2, true));
    problem.used_uncovered = 15 * MS;
    assert_eq!(uncovered(&problem), (0, true));
}

/// A transaction of several rounds lost its ticket with each round that was answered.
#[test]
fn a_ticket_is_kept_from_round_to_round() {
    let mut scheduler = scheduler_at(5);
    let hello = ShardHello {
        shard: shard_id(0),
        incarnation: 1,
        backend: "cpu".into(),
        engine_version: crate::request::ENGINE_VERSION,
        models: vec![],
        batch_max: 8,
        queue_max: 2,
        draining: false,
        held: vec![],
    };
    tell(&mut scheduler, START, Event::Hello(hello));
    let round = |n| gang(1, vec![request(1, Mode::Vanilla, n)]);
    tell(&mut scheduler, START, Event::Submit(round(1)));
    tell(&mut scheduler, START, Event::Tick);
    let slot = Slot {
        height: Height(6),
        cutoff: Micros(START + 2 * SLOT),
        next_cutoff: Micros(START + 3 * SLOT),
    };
    tell(&mut scheduler, START + SLOT, Event::Head(slot));
    let due = |scheduler: &Scheduler| {
        let mut gangs = scheduler.problem().gangs.iter().filter(|gang| gang.live);
        gangs.next().map(|gang| gang.due)
    };
    let before = due(&scheduler);
    assert!(matches!(before, Some(Some(_))), "{before:?}");
    let settled = Settled {
        key: request(1, Mode::Vanilla, 1).key,
        outcome: Outcome::Output(Bytes::new()),
        attestations: vec![],
    };
    tell(&mut scheduler, START + SLOT, Event::Recovered(settled));
    assert_eq!(due(&scheduler), None, "the round is answered");
    tell(&mut scheduler, START + SLOT, Event::Submit(round(2)));
    assert_eq!(due(&scheduler), before);
    // In the end nothing is held for anybody: `check` counts it.
    let id = gang(1, vec![]).id;
    tell(
        &mut scheduler,
        START + SLOT,
        Event::Withdraw(Withdraw { id }),
    );
    assert_eq!(scheduler.tickets_held, 0);
}

/// What is told of congestion is what the plan left: by price, in blocks of the shards' time.
#[test]
fn congestion_says_how_many_blocks_of_work_pay_more() {
    let mut scheduler = scheduler_at(5);
    scheduler.problem = problem(SLOT / 4, 0, 60);
    for (n, gang) in (1u128..).zip(&mut scheduler.problem.gangs) {
        // A price of a hundred wei per unit, two hundred, and so on.
        (gang.igas, gang.value) = (1_000, n * 100_000);
    }
    scheduler.plan = policy::plan(&scheduler.problem);
    let full = scheduler.congestion();
    assert_eq!((full.height, full.capacity), (Height(6), Micros(SLOT)));
    let placed = scheduler.plan.placed;
    assert!((4..=8).contains(&placed), "{placed} of four a block");
    assert_eq!(full.waiting, 60 - placed);
    assert_eq!(full.blocks(0), full.waiting / 4);
    assert_eq!(full.blocks(6_001), 0, "the best paid of all");
    // Half of those that wait pay more than this.
    let middle = full.blocks(u128::from(full.waiting) / 2 * 100);
    assert!((full.waiting / 8).abs_diff(middle) <= 1, "{middle}");
    assert!(full.price(3) > full.price(6) && full.price(6) > 0);

    // What no shard serves takes nobody's time: no price would bring it sooner.
    scheduler.problem.costs[0].hosted = false;
    scheduler.plan = policy::plan(&scheduler.problem);
    let unserved = scheduler.congestion();
    assert_eq!((unserved.waiting, unserved.steps), (0, Vec::new()));
}

/// Gateways hear of it with each head, and once a slot passed without one; not each time that the slot is told again.
#[test]
fn congestion_is_told_with_each_head_and_each_slot_without_one() {
    let mut scheduler = scheduler_at(5);
    let mut told = |at, event| {
        let effects = tell(&mut scheduler, at, event);
        effects
            .iter()
            .filter(|effect| matches!(effect, Effect::Congestion(_)))
            .count()
    };
    let slot = |height| {
        Event::Head(Slot {
            height: Height(height),
            cutoff: Micros(START + SLOT),
            next_cutoff: Micros(START + 2 * SLOT),
        })
    };
    assert_eq!(told(START + MS, slot(5)), 0, "the same again");
    assert_eq!(told(START + 2 * MS, slot(6)), 1);
    assert_eq!(told(START + 3 * MS, Event::Tick), 0);
    assert_eq!(told(START + SLOT + MS, Event::Tick), 1, "no block came");
}
