//! Reads memory in one go: what lies all over it is waited for once and not one after the other.

use std::hint::black_box;

/// Lines that are read ahead: as many as a core waits for at a time, about.
pub(super) const AHEAD: usize = 16;

/// Reads what `of` gives of each.
pub(super) fn read<T>(items: impl IntoIterator<Item = T>, of: impl Fn(T) -> u32) {
    black_box(items.into_iter().fold(0, |sum, item| sum ^ of(item)));
}
