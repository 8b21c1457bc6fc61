//! Blocks on time.

/// Whether tests run in their long form: `PENSTOCK_LONG_TESTS=1`.
#[must_use]
pub fn is_long() -> bool {
    std::env::var_os("PENSTOCK_LONG_TESTS").is_some_and(|value| value == "1")
}

/// Asserts that blocks came in their slots of one second. `times` are their timestamps, in seconds.
///
/// A slot that was missed shows as a gap. The long form, which is for a machine that does nothing else, allows none. The
/// short form runs beside other tests, where a process may stand still for a second: it allows gaps, and holds that fewer
/// slots are missed than are met. A builder that waits for inference misses nearly all.
///
/// # Panics
/// When two blocks share a slot, or too many slots are missed.
#[track_caller]
pub fn assert_on_time(times: &[u64]) {
    let Some((first, last)) = times.first().zip(times.last()) else {
        panic!("no blocks");
    };
    assert!(
        times.is_sorted_by(|a, b| a < b),
        "slots of their own: {times:?}"
    );
    let slots = (last - first + 1) as usize;
    let missed = slots - times.len();
    let allowed = if is_long() { 0 } else { times.len() - 1 };
    println!("{} blocks in {slots} slots", times.len());
    assert!(
        missed <= allowed,
        "{missed} of {slots} slots missed: {times:?}"
    );
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_slot_is_a_gap() {
        assert_on_time(&[7]);
        assert_on_time(&[7, 8, 9, 10]);
    }

    #[test]
    #[should_panic(expected = "of their own")]
    fn two_blocks_of_one_slot_are_not_on_time() {
        assert_on_time(&[7, 8, 8]);
    }

    #[test]
    #[should_panic(expected = "4 of 7 slots missed")]
    fn one_block_in_two_slots_is_not_on_time() {
        assert_on_time(&[7, 10, 13]);
    }
}
