//! A network that fails on purpose, by its seed.

use crate::Random;
use penstock_rules::ids::Micros;

/// What goes wrong on the way, in millionths of all messages, and how long messages take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faults {
    /// Messages that are lost.
    pub drop: u32,
    /// Messages that come twice.
    pub duplicate: u32,
    /// Messages that come after up to [`Faults::delay_max`]: late, and behind younger ones.
    pub delay: u32,
    /// Least time on the way.
    pub latency_min: Micros,
    /// Most time on the way, of a message that is not delayed. Messages overtake each other within it.
    pub latency_max: Micros,
    /// Most time on the way of one that is.
    pub delay_max: Micros,
}

impl Faults {
    /// A network that does its work: 0.1 to 1 ms, nothing lost.
    pub const NONE: Self = Self {
        drop: 0,
        duplicate: 0,
        delay: 0,
        latency_min: Micros(100),
        latency_max: Micros(1_000),
        delay_max: Micros(1_000),
    };
}

/// The network.
#[derive(Clone, Debug)]
pub struct Network {
    random: Random,
    /// What goes wrong from now on.
    pub faults: Faults,
}

impl Network {
    /// A network with chances of its own.
    #[must_use]
    pub const fn new(random: Random, faults: Faults) -> Self {
        Self { random, faults }
    }

    /// How long the copies of a message are on the way: none where it is lost.
    pub fn send(&mut self) -> impl Iterator<Item = Micros> {
        let faults = self.faults;
        let copies = if self.random.chance(faults.drop) {
            0
        } else {
            1 + usize::from(self.random.chance(faults.duplicate))
        };
        let mut spans = [Micros(0); 2];
        for span in &mut spans[..copies] {
            let most = if self.random.chance(faults.delay) {
                faults.delay_max
            } else {
                faults.latency_max
            };
            *span = Micros(self.random.between(faults.latency_min.0, most.0));
        }
        spans.into_iter().take(copies)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_without_faults_brings_each_message_once_and_soon() {
        let mut network = Network::new(Random::new(1), Faults::NONE);
        for _ in 0..100 {
            let spans: Vec<_> = network.send().collect();
            assert!(matches!(spans[..], [Micros(100..=1_000)]), "{spans:?}");
        }
    }

    #[test]
    fn faults_come_as_often_as_they_are_asked_for() {
        let faults = Faults {
            drop: 100_000,
            duplicate: 200_000,
            ..Faults::NONE
        };
        let mut network = Network::new(Random::new(1), faults);
        let counts: Vec<_> = (0..10_000).map(|_| network.send().count()).collect();
        let share = |n: usize| counts.iter().filter(|c| **c == n).count() / 100;
        assert!((8..=12).contains(&share(0)), "a tenth is lost");
        assert!(
            (16..=20).contains(&share(2)),
            "a fifth of the rest is doubled"
        );
    }
}
