//! Places in the arena: buffers that live at the same time do not overlap.

use crate::plan::prepared::align;
use std::collections::BTreeMap;

/// Free runs of an arena that grows at its end, by offset.
#[derive(Debug, Default)]
pub(crate) struct Arena {
    free: BTreeMap<u64, u64>,
    end: u64,
}

impl Arena {
    /// An arena whose first `reserved` words are taken for good.
    pub(crate) fn after(reserved: u64) -> Self {
        Self {
            free: BTreeMap::new(),
            end: align(reserved),
        }
    }

    /// Takes `words`, at the tightest free run that fits.
    pub(crate) fn take(&mut self, words: u64) -> u64 {
        let words = align(words.max(1));
        let best = self
            .free
            .iter()
            .filter(|(_, size)| **size >= words)
            .min_by_key(|(_, size)| **size)
            .map(|(offset, size)| (*offset, *size));
        if let Some((offset, size)) = best {
            self.free.remove(&offset);
            if size > words {
                self.free.insert(offset + words, size - words);
            }
            return offset;
        }
        // A free run at the end grows, so that it is not lost.
        let offset = match self.free.last_key_value() {
            Some((&offset, &size)) if offset + size == self.end => {
                self.free.remove(&offset);
                offset
            }
            _ => self.end,
        };
        self.end = offset + words;
        offset
    }

    /// Gives back what [`Arena::take`] gave for `words` at `offset`.
    pub(crate) fn give(&mut self, offset: u64, words: u64) {
        let mut offset = offset;
        let mut size = align(words.max(1));
        if let Some(next) = self.free.remove(&(offset + size)) {
            size += next;
        }
        if let Some((&before, &length)) = self.free.range(..offset).next_back()
            && before + length == offset
        {
            self.free.remove(&before);
            offset = before;
            size += length;
        }
        self.free.insert(offset, size);
    }

    /// Words that were ever in use.
    pub(crate) fn words(&self) -> u64 {
        self.end
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_given_back_is_used_again_and_joined() {
        let mut arena = Arena::after(10);
        let (a, b, c) = (arena.take(64), arena.take(64), arena.take(64));
        assert_eq!((a, b, c), (64, 128, 192));
        arena.give(a, 64);
        arena.give(b, 64);
        assert_eq!(arena.take(128), 64);
        arena.give(c, 64);
        assert_eq!(arena.take(200), 192);
        assert_eq!(arena.words(), 192 + 256);
    }

    proptest! {
        #[test]
        fn runs_in_use_never_overlap(ops in proptest::collection::vec((1u64..500, any::<u8>()), 1..200)) {
            let mut arena = Arena::after(0);
            let mut used: Vec<(u64, u64)> = Vec::new();
            for (words, choice) in ops {
                if choice % 3 == 0 && !used.is_empty() {
                    let (offset, words) = used.swap_remove(choice as usize % used.len());
                    arena.give(offset, words);
                } else {
                    let offset = arena.take(words);
                    prop_assert_eq!(offset % 64, 0);
                    prop_assert!(used.iter().all(|&(o, w)| o + w <= offset || offset + words <= o));
                    prop_assert!(offset + words <= arena.words());
                    used.push((offset, words));
                }
            }
        }
    }
}
