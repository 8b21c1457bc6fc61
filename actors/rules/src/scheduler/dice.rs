//! Dice for tests: seeded, and the same on every machine.

use alloy_primitives::B256;
use proptest::test_runner::Config;

/// So many percent of the cases that proptest runs where nothing is said: 256, or what `PROPTEST_CASES` has.
pub(crate) fn cases(percent: u32) -> Config {
    let default = Config::default();
    Config {
        cases: (u64::from(default.cases) * u64::from(percent)).div_ceil(100) as u32,
        ..default
    }
}

/// splitmix64.
#[derive(Clone, Debug)]
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    pub(crate) fn below(&mut self, n: u64) -> u64 {
        self.next() % n
    }

    pub(crate) fn percent(&mut self, n: u64) -> bool {
        self.below(100) < n
    }

    pub(crate) fn one_in(&mut self, n: u64) -> bool {
        n > 0 && self.below(n) == 0
    }

    pub(crate) fn hash(&mut self) -> B256 {
        let mut hash = B256::ZERO;
        for word in hash.0.chunks_mut(8) {
            word.copy_from_slice(&self.next().to_be_bytes());
        }
        hash
    }
}
