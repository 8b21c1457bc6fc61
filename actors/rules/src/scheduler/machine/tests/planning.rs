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
