//! How long full plans take, by who waits and by shards: on this machine, in its own time.

use penstock_sim::overload::Pool;
use std::time::{Duration, Instant};

/// Plans of each pool: together shorter than the silence after which a shard is lost.
const PLANS: usize = 50;

/// Transactions that come, and that leave, between two plans: as many as in 50 ms at 20,000 a second.
const CHANGES: usize = 1_000;

/// What plans of a pool took: all that a scheduler does when it is due.
pub(in crate::commands::sim) struct Planned {
    pub(in crate::commands::sim) pending: usize,
    pub(in crate::commands::sim) shards: u8,
    pub(in crate::commands::sim) median: Duration,
    pub(in crate::commands::sim) most: Duration,
}

/// Plans for pools of several sizes.
pub(super) fn measure(short: bool) -> Vec<Planned> {
    let sizes = if short {
        &[(1_000, 8), (10_000, 8)][..]
    } else {
        &[
            (1_000, 8),
            (10_000, 8),
            (100_000, 8),
            (1_000, 32),
            (10_000, 32),
            (100_000, 32),
            (1_000, 64),
            (10_000, 64),
            (100_000, 64),
            (1_000_000, 64),
        ]
    };
    sizes
        .iter()
        .map(|&(pending, shards)| planned(pending, shards))
        .collect()
}

fn planned(pending: usize, shards: u8) -> Planned {
    let mut pool = Pool::new(pending, shards, 0);
    pool.tick();
    let mut times: Vec<Duration> = (0..PLANS)
        .map(|_| {
            pool.change(CHANGES.min(pending / 10));
            pool.wait();
            let start = Instant::now();
            pool.tick();
            start.elapsed()
        })
        .collect();
    times.sort();
    Planned {
        pending,
        shards,
        median: times[PLANS / 2],
        most: times[PLANS - 1],
    }
}
