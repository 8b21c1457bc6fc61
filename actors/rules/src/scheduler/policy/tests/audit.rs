//! The invariants of single plans over random problems; for each a mutant that breaks it, which is caught.

use super::problems::{Extras, NOW, SLOT, Shape, problem};
use crate::ids::{Height, Micros};
use crate::invariants::{
    FEASIBLE_PLAN, Invariant, NO_INVERSION, NONCE_CHAIN, REASONED, THIS_BLOCK_FIRST, WHOLE_PLAN,
    WORK_CONSERVED,
};
use crate::scheduler::audit;
use crate::scheduler::dice::cases;
use crate::scheduler::model::{Pass, Plan, Problem, Verdict};
use crate::scheduler::policy::plan;
use crate::tx::Reason;
use proptest::prelude::*;

fn shape(gangs: u64, extras: Extras) -> Shape {
    Shape {
        shards: 5,
        models: 4,
        gangs,
        extras,
    }
}

proptest! {
    #![proptest_config(cases(200))]

    #[test]
    fn plans_keep_their_invariants(seed in any::<u64>(), shards in 1u64..20, gangs in 0u64..400) {
        let p = problem(seed, Shape { shards, models: 5, gangs, extras: Extras::All });
        audit(&p, &plan(&p)).map_err(|e| TestCaseError::fail(e.to_string()))?;
    }
}

/// Room that a batch kept for more requests was counted as free for them when nothing was kept any more, and a shard was
/// planned beyond the block's end.
#[test]
fn what_a_batch_kept_free_is_counted_once_it_is_used() {
    let p = problem(
        6_083_115_168_463_448_406,
        Shape {
            shards: 4,
            models: 5,
            gangs: 197,
            extras: Extras::All,
        },
    );
    assert_eq!(audit(&p, &plan(&p)), Ok(()));
}

/// Gangs above the cut that found no room for a good batch were not tried again when small batches were opened for
/// those below it.
#[test]
fn who_found_no_room_for_a_good_batch_comes_before_who_is_worth_less() {
    let p = problem(3, shape(600, Extras::None));
    assert_eq!(audit(&p, &plan(&p)), Ok(()));
}

/// What one asked for was planned for the next block on behalf of another. It waited, while one worth less had a place in
/// this block, as the search for places in a full next block ended before its turn.
#[test]
fn who_asks_for_what_is_planned_already_has_a_place_in_a_full_block() {
    let p = problem(
        15_514_093_616_238_841_160,
        Shape {
            shards: 3,
            models: 5,
            gangs: 189,
            extras: Extras::All,
        },
    );
    assert_eq!(audit(&p, &plan(&p)), Ok(()));
}

/// A problem whose plan has batches of both passes, and gangs that wait.
fn busy() -> (Problem, Plan) {
    let mut p = problem(3, shape(600, Extras::None));
    for cost in &mut p.costs {
        cost.hosted = true;
    }
    let plan = plan(&p);
    assert_eq!(audit(&p, &plan), Ok(()));
    assert!(plan.placed > 0 && plan.deferred > 0);
    (p, plan)
}

fn caught(by: Invariant, mutate: impl FnOnce(&mut Problem, &mut Plan)) {
    let (mut p, mut plan) = busy();
    mutate(&mut p, &mut plan);
    let broken = audit(&p, &plan).map_err(|violation| violation.invariant.id);
    assert_eq!(broken, Err(by.id));
}

/// The first gang that waits, with one request, and a batch for it to be slipped into.
fn waiting_single(p: &Problem, plan: &Plan) -> (usize, usize) {
    let waits = |g: &usize| {
        matches!(plan.verdicts[*g], Verdict::Deferred(Reason::Outbid(_)))
            && p.gangs[*g].needs.len() == 1
    };
    let gang = (0..p.gangs.len()).find(waits).expect("one waits");
    let model = p.keys[p.gangs[gang].needs[0] as usize].model;
    let batches = plan.batches();
    let batch = (0..batches.len())
        .filter(|&b| batches[b].model == model && !batches[b].keys.is_empty())
        .min_by_key(|&b| batches[b].keys.len())
        .expect("one of its model runs");
    (gang, batch)
}

#[test]
fn a_planner_that_overfills_a_shard_is_caught() {
    caught(FEASIBLE_PLAN, |p, _| {
        p.shards[0].free_at = Micros(NOW + 3 * SLOT)
    });
}

#[test]
fn a_planner_that_forgets_the_margin_is_caught() {
    caught(FEASIBLE_PLAN, |p, _| {
        for lane in &mut p.shards {
            lane.variance = SLOT.pow(2);
        }
    });
}

#[test]
fn a_planner_that_gives_work_to_a_shard_without_the_model_is_caught() {
    caught(FEASIBLE_PLAN, |p, plan| {
        let batch = &plan.batches()[0];
        let at = batch.model as usize * p.shards.len() + batch.shard as usize;
        p.costs[at].hosted = false;
    });
}

#[test]
fn a_planner_without_gang_rollback_is_caught() {
    // A piece of a gang that waits stays on the board.
    caught(WHOLE_PLAN, |p, plan| {
        let (gang, batch) = waiting_single(p, plan);
        let key = p.gangs[gang].needs[0];
        let removed = plan.board.batches[batch].keys.pop();
        plan.board.batches[batch].keys.push(key);
        // Who had that place waits for it in vain otherwise.
        for other in 0..p.gangs.len() {
            if removed.is_some_and(|r| p.gangs[other].needs.contains(&r)) {
                plan.verdicts[other] = Verdict::Deferred(Reason::Outbid(1));
            }
        }
    });
}

#[test]
fn a_planner_that_promises_half_a_gang_is_caught() {
    caught(WHOLE_PLAN, |p, plan| {
        let (gang, _) = waiting_single(p, plan);
        plan.verdicts[gang] = Verdict::Placed(Pass::This);
    });
}

#[test]
fn a_planner_that_places_the_lesser_value_first_is_caught() {
    caught(NO_INVERSION, |p, plan| {
        let (gang, _) = waiting_single(p, plan);
        plan.ranks[gang].0 = u64::MAX;
    });
}

#[test]
fn a_planner_that_runs_the_next_block_first_is_caught() {
    caught(THIS_BLOCK_FIRST, |_, plan| {
        let batches = plan.board.batches.clone();
        let both = |queue: &&mut std::collections::VecDeque<u32>| {
            let has = |pass| queue.iter().any(|&b| batches[b as usize].pass == pass);
            has(Pass::This) && has(Pass::Next)
        };
        let queue = plan
            .queues
            .iter_mut()
            .find(both)
            .expect("a shard with both");
        queue.make_contiguous().reverse();
    });
}

#[test]
fn a_planner_that_leaves_a_shard_idle_is_caught() {
    caught(WORK_CONSERVED, |p, plan| {
        for deadline in &mut p.deadlines {
            *deadline = deadline.saturating_add(Micros(SLOT / 2));
        }
        let _ = plan;
    });
}

#[test]
fn a_planner_that_skips_a_nonce_is_caught() {
    caught(NONCE_CHAIN, |p, plan| {
        let (gang, _) = waiting_single(p, plan);
        let placed = |v: &Verdict| matches!(v, Verdict::Placed(_));
        let next = plan
            .verdicts
            .iter()
            .position(placed)
            .expect("one is placed");
        let sender = p.gangs[gang].sender as usize;
        p.lanes[p.gangs[next].sender as usize].clear();
        p.lanes[sender] = vec![gang as u32, next as u32];
        p.gangs[next].sender = sender as u32;
    });
}

#[test]
fn a_planner_without_reasons_is_caught() {
    caught(REASONED, |p, plan| {
        let (gang, _) = waiting_single(p, plan);
        plan.verdicts[gang] = Verdict::Deferred(Reason::Outbid(0));
        p.height = Height(101);
    });
}
