use super::*;
use proptest::collection::vec;
use proptest::prelude::*;

const SLOT: u64 = 1_000_000;

fn id(n: usize) -> B256 {
    B256::left_padding_from(&(n as u64 + 1).to_be_bytes())
}

/// One shard's world: the block with which each transaction comes and goes, its value, its time.
#[derive(Clone, Debug)]
struct Job {
    from: u64,
    life: u64,
    value: u128,
    time: u64,
    taken: bool,
}

fn jobs() -> impl Strategy<Value = Vec<Job>> {
    let job = (
        0u64..14,
        0u64..6,
        1_000_000u128..1_000_000_000_000,
        1u64..SLOT / 2,
        any::<bool>(),
    );
    vec(
        job.prop_map(|(from, life, value, time, taken)| Job {
            from,
            life,
            value,
            time,
            taken,
        }),
        1..80,
    )
}

/// Runs any schedule that one shard can keep, in the order of the list, and gives each block's window.
fn run(jobs: &[Job], blocks: u64) -> Vec<Window> {
    let mut certificate = Certificate::default();
    let mut done = vec![false; jobs.len()];
    let mut windows = Vec::new();
    certificate.block(Micros(SLOT), Height(0), 1);
    for block in 0..blocks {
        for (n, job) in jobs.iter().enumerate() {
            if job.from == block {
                certificate.asked(id(n), job.value, 1, job.time);
            }
        }
        let mut left = SLOT;
        for (n, job) in jobs.iter().enumerate() {
            let here = job.from <= block && block <= job.from + job.life;
            if here && job.taken && !done[n] && job.time <= left {
                left -= job.time;
                done[n] = true;
                certificate.begun(id(n), job.time);
                certificate.included(id(n));
            }
            if block == job.from + job.life {
                certificate.left(id(n));
            }
        }
        certificate.block(Micros((block + 2) * SLOT), Height(block + 1), 1);
        assert!(certificate.is_sound());
        windows.extend(certificate.last());
    }
    windows
}

/// The value of the best fractional choice among those that a window saw, in its whole time.
fn knapsack(jobs: &[Job], blocks: std::ops::RangeInclusive<u64>) -> u128 {
    let (first, last) = (*blocks.start(), *blocks.end());
    let mut seen: Vec<&Job> = jobs
        .iter()
        .filter(|job| job.from <= last && job.from + job.life >= first)
        .collect();
    seen.sort_by(|a, b| (b.value * u128::from(a.time)).cmp(&(a.value * u128::from(b.time))));
    let (mut left, mut sum) = ((last - first + 1) * SLOT, 0);
    for job in seen {
        if job.time > left {
            return sum + job.value * u128::from(left) / u128::from(job.time) + 1;
        }
        left -= job.time;
        sum += job.value;
    }
    sum
}

proptest! {
    /// I16, for schedules good and bad.
    #[test]
    fn no_schedule_includes_more_than_its_bound(jobs in jobs()) {
        for window in run(&jobs, 20) {
            prop_assert!(window.included <= window.bound, "{window:?}");
        }
    }

    /// Where nothing is included or handed out, the bound is the relaxed optimum, but for the steps of the table.
    #[test]
    fn the_bound_is_the_relaxed_optimum_to_a_sixteenth(mut jobs in jobs()) {
        for job in &mut jobs {
            job.taken = false;
        }
        for window in run(&jobs, 20) {
            let first = window.first.0 - 1;
            let best = knapsack(&jobs, first..=window.last.0 - 1);
            prop_assert!(window.bound + 1 >= best, "{window:?} {best}");
            prop_assert!(window.bound <= best + best / 16 + 1_000, "{window:?} {best}");
        }
    }
}

fn one(value: u128, time: u64) -> Certificate {
    let mut certificate = Certificate::default();
    certificate.block(Micros(SLOT), Height(0), 1);
    certificate.asked(id(0), value, 1, time);
    certificate
}

#[test]
fn what_was_handed_out_before_the_window_costs_nothing_in_it() {
    let mut certificate = one(1_000_000, 40 * SLOT);
    certificate.begun(id(0), 40 * SLOT);
    let bound = |certificate: &mut Certificate, block: u64| {
        certificate.block(Micros((block + 1) * SLOT), Height(block), 1);
        certificate.last().map(|window| window.bound)
    };
    assert!(
        bound(&mut certificate, 1) < Some(100_000),
        "it needs 40 slots"
    );
    for block in 2..=10 {
        assert!(bound(&mut certificate, block) < Some(1_000_000));
    }
    assert_eq!(bound(&mut certificate, 11), Some(1_000_000));
}

#[test]
fn further_rounds_add_up_and_a_changed_one_replaces() {
    let time = |certificate: &Certificate| certificate.candidates[&id(0)].time;
    let mut certificate = one(1, 10);
    certificate.asked(id(0), 1, 2, 5);
    assert_eq!(time(&certificate), 15);
    certificate.asked(id(0), 1, 2, 7);
    assert_eq!(
        time(&certificate),
        7,
        "the earlier rounds may have changed with it"
    );
}

#[test]
fn who_left_is_a_candidate_until_the_window_has_passed_and_then_forgotten() {
    let mut certificate = one(500, 1);
    certificate.left(id(0));
    for block in 1..=CERTIFICATE_BLOCKS as u64 {
        certificate.block(Micros((block + 1) * SLOT), Height(block), 1);
        assert_eq!(certificate.last().map(|window| window.bound), Some(500));
    }
    certificate.block(Micros(20 * SLOT), Height(11), 1);
    assert_eq!(certificate.last().map(|window| window.bound), Some(0));
    assert!(certificate.candidates.is_empty());
}

/// A scheduler that follows, or has just come to lead, hears of blocks whose work others gave out.
#[test]
fn what_nobody_here_handed_out_costs_nothing() {
    let mut certificate = one(1_000_000, 40 * SLOT);
    certificate.included(id(0));
    certificate.block(Micros(SLOT + 1), Height(1), 1);
    let window = certificate.last().expect("a window");
    assert_eq!((window.included, window.bound), (1_000_000, 1_000_000));
    assert!(certificate.is_sound());
}

/// Seed 686 of the simulator: the value of a transaction fell with the base fee, and a delayed message said so late.
#[test]
fn what_is_said_of_a_transaction_after_its_block_takes_no_value_from_it() {
    let mut certificate = one(1_000_000, SLOT);
    certificate.begun(id(0), SLOT);
    certificate.included(id(0));
    certificate.asked(id(0), 600_000, 1, 2 * SLOT);
    certificate.block(Micros(2 * SLOT), Height(1), 1);
    let window = certificate.last().expect("a window");
    assert_eq!(window.included, 1_000_000);
    assert!(window.bound >= window.included, "{window:?}");
    let known = certificate.candidates[&id(0)];
    assert_eq!((known.value, known.time), (1_000_000, SLOT));
    assert!(certificate.is_sound());
}

/// However dear a microsecond is, who needs none of them pays nothing.
#[test]
fn no_price_is_too_high_for_who_takes_no_time() {
    let mut certificate = one(1_000_000, 0);
    certificate.asked(id(1), 50_000_000_000, 1, 1);
    certificate.included(id(0));
    certificate.block(Micros(SLOT), Height(1), 1);
    let window = certificate.last().expect("a window");
    assert_eq!(window.included, 1_000_000);
    // The other one would have taken a microsecond, and no shard had any: its price is right to a sixteenth.
    let free = window.bound.saturating_sub(50_000_000_000 / 16);
    assert!(
        window.bound >= window.included && free <= 1_000_000,
        "{window:?}"
    );
}

#[test]
fn what_was_computed_elsewhere_costs_nothing_though_it_was_handed_out_here() {
    let mut certificate = one(1_000_000, 50 * SLOT);
    certificate.begun(id(0), 30 * SLOT);
    certificate.begun(id(0), 20 * SLOT);
    certificate.elsewhere(id(0), 30 * SLOT);
    let known = certificate.candidates[&id(0)];
    assert_eq!((known.time, known.begun), (20 * SLOT, 20 * SLOT));
    certificate.elsewhere(id(0), 20 * SLOT);
    certificate.included(id(0));
    certificate.block(Micros(SLOT + 1), Height(1), 1);
    let window = certificate.last().expect("a window");
    assert_eq!((window.included, window.bound), (1_000_000, 1_000_000));
    assert!(certificate.is_sound());
}

/// Heads that come together leave no time between them: what is in them was handed out before.
#[test]
fn blocks_that_come_together_are_paid_by_the_time_since_the_work_began() {
    let mut certificate = one(1_000_000, SLOT);
    certificate.begun(id(0), SLOT);
    for block in 1..=CERTIFICATE_BLOCKS as u64 {
        certificate.block(Micros(2 * SLOT + block), Height(block), 1);
        assert!(certificate.last().expect("a window").bound >= 900_000);
    }
    certificate.included(id(0));
    certificate.block(Micros(2 * SLOT + 11), Height(11), 1);
    let window = certificate.last().expect("a window");
    assert_eq!((window.included, window.bound), (1_000_000, 1_000_000));
}

#[test]
fn who_never_asked_counts_on_neither_side() {
    let mut certificate = one(500, 1);
    certificate.included(id(7));
    certificate.block(Micros(2 * SLOT), Height(1), 1);
    let window = certificate.last().expect("a window");
    assert_eq!((window.included, window.share()), (0, 0));
}

/// Mutants of the books: each shows.
#[test]
fn a_table_that_does_not_add_up_is_unsound() {
    let mut certificate = one(500, 1);
    assert!(certificate.is_sound());
    certificate.books.table[step(500, 1)].time += 1;
    assert!(!certificate.is_sound());
}
