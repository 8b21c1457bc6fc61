//! All machines together in virtual time, under faults, by seed.
//!
//! `PENSTOCK_SIM_SEEDS` and `PENSTOCK_SIM_BLOCKS` make the sweep longer; what fails prints how to run it again.
//! Lying shards have a sweep of their own, with a bus that loses: see `devnet/docs/simulator.md` for what is open there.

// The sweep runs on all cores; what it runs is pure.
#![allow(clippy::disallowed_types)]

use penstock_rules::invariants::{
    ATOMIC_GANG, BITWISE_OUTPUT, Invariant, LEASED, NO_WAIT, NOTHING_UNVERIFIED, PROGRESS,
    SETTLED_ONCE,
};
use penstock_sim::chain::{Class, Config, Failure, Mutant, Report, run, shrink};
use std::collections::BTreeSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};

/// Seeds and blocks of the sweep: 10,000 blocks.
const SWEEP: (u64, u64) = (100, 100);

/// Seeds and blocks of the sweep with a shard that lies.
const LIES: (u64, u64) = (20, 60);

/// Seeds in which a mutant has to be found.
const MUTANT_SEEDS: u64 = 20;

const ALL_BUT_LIES: &[Class] = &[
    Class::Bus,
    Class::Shards,
    Class::Log,
    Class::Forgery,
    Class::Front,
    Class::Schedulers,
    Class::Producers,
];

/// Runs that once broke an invariant, each with what it showed.
const PINNED: &[(u64, u64, &[Class])] = &[
    // The certificate's bound left out who took no time any more, where a microsecond's price was above their value.
    (135, 100, ALL_BUT_LIES),
    (318, 100, ALL_BUT_LIES),
    // A message about a transaction came after its block, and took from the bound what the block had.
    (686, 100, ALL_BUT_LIES),
    // A settled answer that a producer never heard of: its transactions came back as `StaleInput` for ever.
    (1, 60, &[Class::Bus]),
    // A doubled request whose only copy was lost asked for one shard more than there was: it was never placed again.
    (8, 60, &[Class::Bus, Class::Lies]),
    // A promised request whose model turned out longer than a slot: it was placed neither as promised nor as long.
    (66, 100, ALL_BUT_LIES),
    // Slots of 200 ms: two blocks for one slot.
    (7, 30, &[]),
    // The base fee dipped only while nobody looked: a transaction that covered the dips was never looked at in one.
    (1, 30, &[]),
];

fn number(name: &str, default: u64) -> u64 {
    match std::env::var(name) {
        Ok(text) => text.parse().expect("a number"),
        Err(_) => default,
    }
}

/// Runs the seeds on all cores; the first failure, shrunk.
fn sweep(seeds: u64, blocks: u64, faults: &[Class]) -> Result<Report, Box<Failure>> {
    let next = AtomicU64::new(0);
    let found = Mutex::new(Ok(Report::default()));
    let work = || {
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= seeds || found.lock().expect("no panic").is_err() {
                return;
            }
            let mut config = Config::new(seed, blocks);
            config.faults = faults.iter().copied().collect();
            let result = run(&config);
            let mut found = found.lock().expect("no panic");
            match (&mut *found, result) {
                (Ok(all), Ok(report)) => *all = all.and(&report),
                (Ok(_), Err(failure)) => *found = Err(failure),
                (Err(_), _) => {}
            }
        }
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(work);
        }
    });
    found.into_inner().expect("no panic")
}

#[test]
fn every_invariant_holds_in_ten_thousand_blocks_under_faults() {
    check(SWEEP, ALL_BUT_LIES);
}

#[test]
fn every_invariant_holds_though_a_shard_lies() {
    check(LIES, &[Class::Lies, Class::Bus]);
}

fn check(size: (u64, u64), faults: &[Class]) {
    let (seeds, blocks) = (
        number("PENSTOCK_SIM_SEEDS", size.0),
        number("PENSTOCK_SIM_BLOCKS", size.1),
    );
    match sweep(seeds, blocks, faults) {
        Ok(report) => {
            assert!(report.blocks >= seeds * blocks, "{report:?}");
            assert!(report.inferences > report.blocks, "{report:?}");
            println!("{report:?}");
        }
        Err(failure) => panic!(
            "{failure}\nthe smallest that shows it:\n{}",
            shrink(*failure.clone())
        ),
    }
}

#[test]
fn what_the_simulator_found_once_stays_mended() {
    for (seed, blocks, faults) in PINNED {
        let mut config = Config::new(*seed, *blocks);
        config.faults = faults.iter().copied().collect();
        if let Err(failure) = run(&config) {
            panic!("{failure}");
        }
    }
}

#[test]
fn a_seed_is_the_same_run_every_time() {
    let config = Config::new(3, 30);
    assert_eq!(run(&config), run(&config));
    assert_ne!(run(&config), run(&Config::new(4, 30)));
}

/// Each mutant is found within a few seeds, by an invariant that it breaks, and a smaller run shows it too.
#[test]
fn each_mutant_is_caught() {
    for mutant in Mutant::ALL {
        let breaks: &[Invariant] = match mutant {
            Mutant::SettlesAgain => &[SETTLED_ONCE],
            Mutant::LeasesNeverEnd => &[PROGRESS, LEASED],
            Mutant::WitnessUnchecked => &[NOTHING_UNVERIFIED],
            Mutant::StaleInputTaken | Mutant::ModeNotInKey => &[ATOMIC_GANG],
            Mutant::BuilderWaits => &[NO_WAIT],
            Mutant::BatchInOutput => &[BITWISE_OUTPUT],
        };
        let faults: BTreeSet<Class> = match mutant {
            // Where log and producers fail, blocks may be late.
            Mutant::BuilderWaits => [Class::Shards, Class::Bus].into(),
            _ => Class::ALL.into(),
        };
        let failure = (0..MUTANT_SEEDS)
            .find_map(|seed| {
                let mut config = Config::new(seed, 20);
                config.mutant = Some(mutant);
                config.faults = faults.clone();
                run(&config).err()
            })
            .unwrap_or_else(|| panic!("{mutant:?} is not caught"));
        assert!(
            breaks.contains(&failure.violation.invariant),
            "{mutant:?} is caught by another invariant: {failure}"
        );
        let smaller = shrink(*failure.clone());
        assert!(smaller.config.faults.len() <= failure.config.faults.len());
        assert_eq!(smaller.violation.invariant, failure.violation.invariant);
        assert!(!smaller.trace.is_empty());
    }
}
