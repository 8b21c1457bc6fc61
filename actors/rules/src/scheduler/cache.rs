//! Settled answers, kept for those who ask again. Bounded by bytes and count; what was used longest ago goes first.

use super::limits::{CACHE_BYTES_MAX, CACHE_COUNT_MAX};
use crate::ids::RequestKey;
use crate::request::Settled;
use std::collections::BTreeMap;

/// What an entry costs beside its outcome: key, attestations of a quorum of two, and the two trees' nodes, in bytes.
const ENTRY_BYTES: usize = 512;

/// The result cache.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cache {
    entries: BTreeMap<RequestKey, (u64, Settled)>,
    by_use: BTreeMap<u64, RequestKey>,
    uses: u64,
    bytes: usize,
}

impl Cache {
    pub(crate) fn contains(&self, key: &RequestKey) -> bool {
        self.entries.contains_key(key)
    }

    pub(crate) fn peek(&self, key: &RequestKey) -> Option<&Settled> {
        self.entries.get(key).map(|(_, settled)| settled)
    }

    /// The answer, which counts as used.
    pub(crate) fn get(&mut self, key: &RequestKey) -> Option<&Settled> {
        let (used, settled) = self.entries.get_mut(key)?;
        self.by_use.remove(used);
        self.uses += 1;
        *used = self.uses;
        self.by_use.insert(self.uses, *key);
        Some(settled)
    }

    /// Gives an answer away that proved false.
    pub(crate) fn remove(&mut self, key: &RequestKey) {
        if let Some((used, gone)) = self.entries.remove(key) {
            self.by_use.remove(&used);
            self.bytes -= gone.outcome.len() + ENTRY_BYTES;
        }
    }

    /// Keeps an answer, the first one for its key.
    pub(crate) fn insert(&mut self, settled: Settled) {
        if self.contains(&settled.key) {
            return;
        }
        self.uses += 1;
        self.bytes += settled.outcome.len() + ENTRY_BYTES;
        self.by_use.insert(self.uses, settled.key);
        self.entries.insert(settled.key, (self.uses, settled));
        while self.bytes > CACHE_BYTES_MAX || self.entries.len() > CACHE_COUNT_MAX {
            let Some((_, key)) = self.by_use.pop_first() else {
                break;
            };
            if let Some((_, gone)) = self.entries.remove(&key) {
                self.bytes -= gone.outcome.len() + ENTRY_BYTES;
            }
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    pub(crate) fn is_sound(&self) -> bool {
        self.bytes <= CACHE_BYTES_MAX
            && self.entries.len() <= CACHE_COUNT_MAX
            && self.entries.len() == self.by_use.len()
            && self.bytes
                == self
                    .entries
                    .values()
                    .map(|(_, s)| s.outcome.len() + ENTRY_BYTES)
                    .sum::<usize>()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::request::Outcome;
    use alloy_primitives::B256;

    fn settled(n: u8, bytes: usize) -> Settled {
        Settled {
            key: RequestKey(B256::repeat_byte(n)),
            outcome: Outcome::Output(vec![n; bytes].into()),
            attestations: Vec::new(),
        }
    }

    #[test]
    fn what_was_used_longest_ago_makes_room() {
        let mut cache = Cache::default();
        let third = CACHE_BYTES_MAX / 3 - ENTRY_BYTES;
        for n in 1..=3 {
            cache.insert(settled(n, third));
        }
        assert!(cache.get(&RequestKey(B256::repeat_byte(1))).is_some());
        cache.insert(settled(4, third));
        let kept = [1, 2, 3, 4].map(|n| cache.contains(&RequestKey(B256::repeat_byte(n))));
        assert_eq!(kept, [true, false, true, true]);
        assert!(cache.is_sound());
    }

    #[test]
    fn the_first_answer_stays() {
        let mut cache = Cache::default();
        cache.insert(settled(1, 1));
        cache.insert(settled(1, 2));
        let kept = cache.peek(&RequestKey(B256::repeat_byte(1)));
        assert_eq!(kept, Some(&settled(1, 1)));
        assert!(cache.is_sound() && cache.len() == 1);
    }
}
