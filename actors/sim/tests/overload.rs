//! The short form of `penstock sim overload`: a few blocks on four shards.

use penstock_rules::scheduler::Policy;
use penstock_sim::overload::{Config, Report, Workload, run};

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
        for policy in [
            Policy::Value,
            Policy::Fifo,
            Policy::Tip,
            Policy::Density,
            Policy::Edf,
        ] {
            let report = short(workload, policy, 200, 3);
            assert!(report.all.included > 0, "{workload:?} {policy:?}");
            assert!(report.revenue <= report.bound, "{workload:?} {policy:?}");
            let spent = report.useful + report.pending + report.wasted + report.stale;
            assert!(spent <= report.capacity, "{workload:?} {policy:?}");
        }
    }
}
