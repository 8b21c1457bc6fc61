//! The short form of `penstock sim overload`: a few blocks on four shards.

use alloy_primitives::{B256, b256, keccak256};
use penstock_rules::scheduler::{DecisionLog, Policy};
use penstock_sim::overload::{Config, Delivery, Report, Workload, run};

/// See [`a_faster_planner_makes_the_same_plans`].
const PLANS: B256 = b256!("7d175753dd7417d2feb13aefd37d477617fd9c43dfd74b650cc06c03629bcdd9");

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

/// Chains of wide gangs: on each of these seeds a ticket was late. What its rounds asked for came after all that had
/// been promised in the meantime, in each of its last three blocks.
#[test]
fn a_ticket_of_three_rounds_is_served_in_time() {
    for seed in [3_025, 3_072, 3_137] {
        let config = Config::new(Workload::W7, Policy::Value, 200, seed);
        let report = run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"));
        assert!(report.figures.tickets > 500, "{:?}", report.figures);
        assert_eq!(report.figures.late, 0, "{seed}");
        // In a hundred thousand; some sixty before promises kept their shards.
        assert!(report.broken_share() < 20, "{seed}: {:?}", report.figures);
    }
}

/// An oracle's answer comes in a later block than its request, and in a still later one where it is committed to first.
#[test]
fn an_answer_in_a_transaction_of_its_own_comes_later() {
    let least_and_most = |delivery| {
        let mut config = Config::new(Workload::W1, Policy::Value, 150, 3);
        (config.blocks, config.shards, config.delivery) = (6, 4, delivery);
        let report = run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"));
        let mut waits = report.waits.keys().copied();
        (waits.next().expect("some are included"), waits.next_back())
    };
    let [same, oracle, fulfil] = Delivery::ALL.map(least_and_most);
    assert_eq!((same.0, oracle.0, fulfil.0), (0, 1, 2));
    assert!(same.1 >= Some(2), "some wait: {same:?}");
}

/// What experiments vary is what the scheduler goes by.
#[test]
fn numbers_of_the_policy_are_the_schedulers() {
    let with = |change: fn(&mut Config)| {
        let mut config = Config::new(Workload::W1, Policy::Value, 200, 5);
        (config.blocks, config.shards) = (12, 4);
        change(&mut config);
        run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"))
    };
    let plain = with(|_| {});
    assert!(plain.figures.tickets > 0 && (1..=8).contains(&plain.figures.ticket_wait_most));
    let none = with(|config| config.tuning.ticket_percent = 0);
    assert_eq!(
        (none.figures.tickets, none.figures.ticket_wait_most),
        (0, 0)
    );
    let short = with(|config| config.tuning.ticket_blocks = 6);
    assert!(short.figures.tickets > 0 && (1..=6).contains(&short.figures.ticket_wait_most));
    let careless = with(|config| config.tuning.margin_sigmas = 0);
    assert!(careless.broken_share() > plain.broken_share());
    // The last of the twelve blocks is not measured.
    assert_eq!(plain.certified.len(), 11);
    assert!(
        plain
            .certified
            .iter()
            .all(|share| (50_000..=100_000).contains(share))
    );
    let idle = with(|config| config.load_percent = 40);
    assert!(idle.fairness > 99_000 && plain.fairness < 90_000);
}

/// Who attacks is not asked how much: with nobody, nothing is wasted on them.
#[test]
fn attackers_take_time_and_none_takes_none() {
    let with = |attackers_in_million| {
        let mut config = Config::new(Workload::W9, Policy::Fifo, 150, 5);
        (config.blocks, config.shards) = (6, 4);
        config.attackers_in_million = attackers_in_million;
        run(&config).unwrap_or_else(|broken| panic!("{config:?}: {broken}"))
    };
    let (none, many) = (with(0), with(400_000));
    assert!(none.of_capacity(none.wasted) * 2 < many.of_capacity(many.wasted));
}
