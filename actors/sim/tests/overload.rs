//! The short form of `penstock sim overload`: a few blocks on four shards.

use alloy_primitives::{B256, b256, keccak256};
use penstock_rules::scheduler::{DecisionLog, Policy};
use penstock_sim::overload::{Config, Report, Workload, run};

/// See [`a_faster_planner_makes_the_same_plans`].
const PLANS: B256 = b256!("c4ce555094997d9512b422b48eaea55a74e44b3fe0b6b481001d6cbabd35a580");

fn short(workload: Workload, policy: Policy, load_percent: u64, blocks: u64) -> Report {
    let mut config = Config::new(workload, policy, load_percent, 1);
    config.blocks = blocks;
    config.shards = 4;
    run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"))
}

/// What the full form measures over minutes, with some room for so few blocks.
#[test]
fn at_twice_the_capacity_value_beats_tip_and_arrival_and_wastes_little() {
    let ours = short(Workload::W1, Policy::Value, 200, 12);
    let over = |policy| {
        let other = short(Workload::W1, policy, 200, 12);
        ours.revenue_share() * 100 / other.revenue_share()
    };
    let (tip, fifo) = (over(Policy::Tip), over(Policy::Fifo));
    assert!(ours.revenue_share() > 88_000, "{ours:?}");
    assert!(tip > 102 && fifo > 150, "{tip} % of tip, {fifo} % of fifo");
    assert!(ours.of_capacity(ours.useful) > 96_000, "{ours:?}");
    assert!(
        ours.of_capacity(ours.wasted + ours.stale) < 2_000,
        "{ours:?}"
    );
    assert!(ours.broken_share() < 200, "{ours:?}");
    assert_eq!(ours.figures.late, 0);
    // By tips alone even who wastes nothing stays below the bound, and not far.
    let tips = ours.tips_share();
    assert!((85_000..99_000).contains(&tips), "{tips}");
}

#[test]
fn a_run_is_a_function_of_its_seed() {
    let twice = || short(Workload::W10, Policy::Value, 150, 4);
    assert_eq!(twice(), twice());
}

/// No machine breaks a rule, nobody is called a liar, and no run exceeds its bound.
#[test]
fn every_workload_runs_under_every_policy_and_stays_below_its_bound() {
    for workload in Workload::ALL {
        for policy in Policy::ALL {
            let report = short(workload, policy, 200, 3);
            assert!(report.all.included > 0, "{workload:?} {policy:?}");
            assert!(report.revenue <= report.bound, "{workload:?} {policy:?}");
            let spent = report.useful + report.pending + report.wasted + report.stale;
            assert!(spent <= report.capacity, "{workload:?} {policy:?}");
        }
    }
}

/// Golden: a change of the planner that is meant to be faster alone leaves every full plan as it was, in every byte. One
/// that is meant to decide otherwise puts the new digest here.
#[test]
fn a_faster_planner_makes_the_same_plans() {
    let mut digests = Vec::new();
    for (workload, policy, load_percent) in [
        (Workload::W1, Policy::Value, 200),
        (Workload::W7, Policy::Value, 500),
        (Workload::W9, Policy::Value, 200),
        (Workload::W10, Policy::Value, 150),
        (Workload::W8, Policy::Tip, 200),
        (Workload::W1, Policy::Density, 200),
        (Workload::W1, Policy::Edf, 200),
        (Workload::W1, Policy::Fifo, 200),
    ] {
        let mut config = Config::new(workload, policy, load_percent, 7);
        config.blocks = 3;
        config.shards = 12;
        config.decision_log = DecisionLog::Plans;
        let report = run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"));
        digests.push(report.plans);
    }
    let all = keccak256(digests.concat());
    assert_eq!(all, PLANS, "{digests:#?}");
}
