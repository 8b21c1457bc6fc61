//! How far a plan is from the best one, by an exact solver.
//!
//! What is placed for one of the two blocks has to fit before the second one's deadline, on each shard. So the plan is
//! held against
//!
//! ```text
//!   maximise    sum of value * x(gang)
//!   such that   x(gang) <= sum over shards of y(key, shard)                        for each key that it needs
//!               sum of y(key, shard) over a model's keys <= cap * z(model, shard)  batches
//!               sum of base * z + each * sum of y <= time until the second deadline
//!               x, y in 0..1, z whole
//! ```
//!
//! With all of them whole it is the optimum; relaxed it is more than that, and quick.

// The solver computes in floats; the planner does not.
#![allow(clippy::float_arithmetic)]

use super::problems::{Extras, SLOT, Shape, problem};
use crate::scheduler::limits::BATCH_SLOT_PERCENT;
use crate::scheduler::model::{Problem, Verdict};
use crate::scheduler::policy::plan;
use good_lp::{Expression, Solution, SolverModel, constraint, microlp, variable, variables};

/// Whether fractions of gangs and batches count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Parts {
    Whole,
    Any,
}

fn best(p: &Problem, parts: Parts) -> f64 {
    let mut vars = variables!();
    let whole = parts == Parts::Whole;
    let unit = || {
        let v = variable().min(0).max(1);
        if whole { v.integer() } else { v }
    };
    let gangs: Vec<_> = p.gangs.iter().map(|_| vars.add(unit())).collect();
    let (shards, models) = (p.shards.len() as u32, p.models.len() as u32);
    let mut rules = Vec::new();
    let mut time = vec![Expression::from(0); shards as usize];
    let mut asked = vec![Expression::from(0); (shards * models) as usize];
    for (key, state) in p.keys.iter().enumerate() {
        let mut served = Expression::from(0);
        for s in (0..shards).filter(|s| p.hosts(state.model) & 1 << s != 0) {
            let y = vars.add(unit());
            served += y;
            time[s as usize] += p.cost(state.model, s).each as f64 * y;
            asked[(state.model * shards + s) as usize] += y;
        }
        for (gang, x) in p.gangs.iter().zip(&gangs) {
            if gang.needs.contains(&(key as u32)) {
                rules.push(constraint!(*x <= served.clone()));
            }
        }
    }
    for m in 0..models {
        for s in 0..shards {
            let cost = p.cost(m, s);
            let most = u64::from(p.shards[s as usize].batch_max);
            let fits = (SLOT * BATCH_SLOT_PERCENT / 100).saturating_sub(cost.base) / cost.each;
            let z = variable().min(0);
            let z = vars.add(if whole { z.integer() } else { z });
            let asked = std::mem::take(&mut asked[(m * shards + s) as usize]);
            rules.push(constraint!(asked <= fits.clamp(1, most) as f64 * z));
            time[s as usize] += cost.base as f64 * z;
        }
    }
    let left = p.deadlines[1].saturating_sub(p.now).0 as f64;
    rules.extend(time.into_iter().map(|time| constraint!(time <= left)));
    let value = gangs
        .iter()
        .zip(&p.gangs)
        .map(|(x, gang)| gang.value as f64 / 1e6 * *x)
        .sum::<Expression>();
    let mut model = vars.maximise(value.clone()).using(microlp);
    for rule in rules {
        model.add_constraint(rule);
    }
    model
        .solve()
        .expect("nothing placed is a solution")
        .eval(value)
}

/// What the planner places, in parts of the best.
fn share(seed: u64, shape: Shape, parts: Parts) -> f64 {
    let p = problem(seed, shape);
    let plan = plan(&p);
    let placed = plan.verdicts.iter().zip(&p.gangs);
    let placed: f64 = placed
        .filter(|(verdict, _)| matches!(verdict, Verdict::Placed(_)))
        .map(|(_, gang)| gang.value as f64 / 1e6)
        .sum();
    let best = best(&p, parts);
    assert!(
        placed <= best * (1.0 + 1e-6),
        "{placed} of {best}: seed {seed}"
    );
    if best == 0.0 { 1.0 } else { placed / best }
}

fn shares(seeds: u64, shape: Shape, parts: Parts) -> (f64, f64) {
    let all: Vec<f64> = (0..seeds).map(|seed| share(seed, shape, parts)).collect();
    let mean = all.iter().sum::<f64>() / all.len() as f64;
    let least = all.into_iter().fold(1.0, f64::min);
    println!("{shape:?} {parts:?}: mean {mean:.4}, least {least:.4}");
    (mean, least)
}

fn shape(shards: u64, models: u64, gangs: u64) -> Shape {
    Shape {
        shards,
        models,
        gangs,
        extras: Extras::None,
    }
}

#[test]
fn two_hundred_transactions_are_placed_within_a_tenth_of_the_relaxed_optimum() {
    let (mean, least) = shares(12, shape(4, 5, 200), Parts::Any);
    assert!(mean > 0.90 && least > 0.80, "{mean} {least}");
}

#[test]
fn a_dozen_transactions_are_placed_within_a_tenth_of_the_optimum() {
    let (mean, least) = shares(12, shape(2, 2, 12), Parts::Whole);
    assert!(mean > 0.90 && least > 0.70, "{mean} {least}");
}
