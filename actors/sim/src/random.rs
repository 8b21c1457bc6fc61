//! Chance, from a seed alone.

/// Increment of the counter: 2^64 divided by the golden ratio, odd.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;

/// SplitMix64 (Steele, Lea, Flood 2014): a counter and a mixing function. Not for secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Random {
    state: u64,
}

impl Random {
    /// The sequence of this seed.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { state: seed }
    }

    /// A sequence of its own for a part of the simulation: what another part draws does not change it.
    #[must_use]
    pub fn fork(&self, part: u64) -> Self {
        let mut seed = Self::new(self.state ^ part.wrapping_mul(GOLDEN).rotate_left(17));
        seed.next();
        Self::new(seed.next())
    }

    /// The next 64 bits.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> u64 {
        self.state = self.state.wrapping_add(GOLDEN);
        let mut z = self.state;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`, 0 where `end` is 0. Its bias is below `end` / 2^64.
    pub fn below(&mut self, end: u64) -> u64 {
        let wide = u128::from(self.next()) * u128::from(end);
        (wide >> 64) as u64
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: u64, high: u64) -> u64 {
        low + self.below(high.saturating_sub(low).saturating_add(1))
    }

    /// Whether something happens that happens in `in_million` of a million cases.
    pub fn chance(&mut self, in_million: u32) -> bool {
        self.below(1_000_000) < u64::from(in_million)
    }

    /// One of them; `None` where there is none.
    pub fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        let at = self.below(of.len() as u64) as usize;
        of.get(at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sequence_is_the_published_one() {
        let mut random = Random::new(1_234_567);
        let first: Vec<_> = (0..3).map(|_| random.next()).collect();
        assert_eq!(
            first,
            [
                6_457_827_717_110_365_317,
                3_203_168_211_198_807_973,
                9_817_491_932_198_370_423
            ]
        );
    }

    #[test]
    fn numbers_stay_within_their_bounds_and_reach_them() {
        let mut random = Random::new(7);
        let drawn: Vec<_> = (0..1_000).map(|_| random.between(3, 5)).collect();
        assert_eq!(
            (drawn.iter().min(), drawn.iter().max()),
            (Some(&3), Some(&5))
        );
        assert_eq!(random.below(0), 0);
        assert!(!random.chance(0) && random.chance(1_000_000));
        assert_eq!(random.pick::<u8>(&[]), None);
    }

    #[test]
    fn parts_draw_from_sequences_of_their_own() {
        let random = Random::new(7);
        assert_eq!(random.fork(1), random.fork(1));
        assert_ne!(random.fork(1), random.fork(2));
        assert_ne!(random.fork(1), Random::new(8).fork(1));
    }
}
