//! `penstock sim fees`: how long the inference market's price takes to clear a step of demand, and how steady it is then.
//!
//! The rule is the product's ([`penstock_evm::market::next_price`]); what asks is modelled here, as in the research that the
//! rule was chosen by. In each block transactions of one unit each arrive, as many as the demand is times what a block
//! takes. What each would pay is lognormal. Those who would pay the price are eligible; a block takes the dearest of
//! them, and whoever is not taken waits for ever. Demand is .6 of the capacity first, so the price stands at its floor,
//! and steps up then.

use crate::cli::SimFeesArgs;
use penstock_evm::market::next_price;
use penstock_rules::ids::Igas;
use penstock_sim::Random;

/// Transactions that a block takes.
const CAPACITY: u64 = 1_000;

/// Demand before the step, in transactions a block.
const BEFORE: u64 = CAPACITY * 6 / 10;

/// Blocks before the step: nothing is left of the start.
const QUIET: usize = 20;

/// Blocks behind the step.
const BLOCKS: usize = 300;

/// Blocks at the end over which use and price are looked at.
const STEADY: usize = 150;

/// The median that transactions would pay, in multiples of the floor: most are far above it.
const MEDIAN: f64 = 50.0;

/// Deviation of the logarithm of what they would pay.
const SPREAD: f64 = 1.2;

/// A step is cleared when no more is eligible than this part of a block's capacity.
const CLEARED: f64 = 1.1;

/// What a step came to.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Step {
    /// To how many times a block's capacity.
    pub(super) times: f64,
    /// Blocks until it was cleared; none where it never was.
    pub(super) cleared: Option<usize>,
    /// Part of the capacity that is used then.
    pub(super) used: f64,
    /// Deviation of the price then, over its mean.
    pub(super) variation: f64,
    /// Each block, from the step on.
    pub(super) blocks: Vec<Taken>,
}

/// What a block took.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Taken {
    /// The price, over its floor.
    pub(super) price: f64,
    /// Those who would pay it, over a block's capacity.
    pub(super) eligible: f64,
    /// Part of the capacity that was used.
    pub(super) used: f64,
}

/// Places of [`Waiting`] for each factor of e.
const FINENESS: f64 = 200.0;

/// Those who wait, by the logarithm of what they would pay over the floor.
struct Waiting(Vec<u64>);

impl Waiting {
    const PLACES: usize = 6_000;

    /// Where somebody stands who would pay e^`logarithm` times the floor.
    fn place(logarithm: f64) -> usize {
        ((logarithm * FINENESS).max(0.0) as usize).min(Self::PLACES - 1)
    }

    fn eligible(&self, from: usize) -> u64 {
        self.0[from..].iter().sum()
    }

    /// Takes the dearest, as many as there are and fit.
    fn take(&mut self, from: usize) -> u64 {
        let mut left = CAPACITY;
        for count in self.0[from..].iter_mut().rev() {
            let taken = left.min(*count);
            *count -= taken;
            left -= taken;
        }
        CAPACITY - left
    }
}

/// A number of the standard normal distribution, by Box and Muller.
fn normal(random: &mut Random) -> f64 {
    let mut unit = || (random.next() >> 11) as f64 / (1u64 << 53) as f64;
    let (radius, angle) = (1.0 - unit(), unit());
    (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos()
}

/// Demand steps to `times` a block's capacity.
pub(super) fn step(times: f64, seed: u64) -> Step {
    let mut random = Random::new(seed);
    let floor = next_price(0, Igas(0), Igas(CAPACITY)).1;
    let mut waiting = Waiting(vec![0; Waiting::PLACES]);
    let (mut exponent, mut price) = (0, floor);
    let mut cleared = None;
    let (mut used, mut prices, mut blocks) = (0u64, Vec::new(), Vec::new());
    for block in 0..QUIET + BLOCKS {
        let mean = if block < QUIET {
            BEFORE as f64
        } else {
            CAPACITY as f64 * times
        };
        // Arrivals are Poisson's, which is normal for so many.
        let arrivals = (mean + mean.sqrt() * normal(&mut random)).max(0.0) as u64;
        for _ in 0..arrivals {
            let logarithm = MEDIAN.ln() + SPREAD * normal(&mut random);
            waiting.0[Waiting::place(logarithm)] += 1;
        }
        let from = Waiting::place((price as f64 / floor as f64).ln());
        let eligible = waiting.eligible(from);
        if block >= QUIET && eligible as f64 <= CLEARED * CAPACITY as f64 {
            cleared = cleared.or(Some(block - QUIET));
        }
        let taken = waiting.take(from);
        if block >= QUIET {
            blocks.push(Taken {
                price: price as f64 / floor as f64,
                eligible: eligible as f64 / CAPACITY as f64,
                used: taken as f64 / CAPACITY as f64,
            });
        }
        if block >= QUIET + BLOCKS - STEADY {
            used += taken;
            prices.push(price as f64);
        }
        (exponent, price) = next_price(exponent, Igas(taken), Igas(CAPACITY));
    }
    let mean = prices.iter().sum::<f64>() / prices.len() as f64;
    let square = prices.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / prices.len() as f64;
    Step {
        times,
        blocks,
        cleared,
        used: used as f64 / (STEADY as u64 * CAPACITY) as f64,
        variation: square.sqrt() / mean,
    }
}

/// Prints what steps of demand come to.
pub(super) fn run(args: &SimFeesArgs) -> eyre::Result<()> {
    for times in &args.step {
        eyre::ensure!(
            (0.1..=100.0).contains(times),
            "--step {times}: not between 0.1 and 100"
        );
    }
    let steps = args.step.iter().map(|&times| step(times, args.seed));
    print!("{}", table(&steps.collect::<Vec<_>>()));
    Ok(())
}

/// Steps, a line for each.
pub(super) fn table(steps: &[Step]) -> String {
    let mut text =
        String::from("demand steps to   cleared after   used then   price's deviation then\n");
    for found in steps {
        let cleared = match found.cleared {
            Some(blocks) => format!("{blocks} blocks"),
            None => format!("not in {BLOCKS}"),
        };
        text.push_str(&format!(
            "{:>14}x {cleared:>15} {:>11.3} {:>22.1} %\n",
            found.times,
            found.used,
            100.0 * found.variation
        ));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is wanted of the rule: a step to ten times the capacity is cleared within 45 blocks, from the floor; then .75
    /// to .85 of the capacity are used, at a price that deviates by a twentieth at most.
    #[test]
    fn a_step_of_ten_times_is_cleared_and_the_price_is_steady_then() {
        for seed in 0..3 {
            let found = step(10.0, seed);
            assert!(
                found.cleared.is_some_and(|blocks| blocks <= 45),
                "{found:?}"
            );
            assert!((0.75..=0.85).contains(&found.used), "{found:?}");
            assert!(found.variation <= 0.05, "{found:?}");
        }
    }

    #[test]
    fn demand_that_fits_moves_nothing() {
        let found = step(0.6, 1);
        assert_eq!((found.cleared, found.variation), (Some(0), 0.0));
        assert!((found.used - 0.6).abs() < 0.01, "{found:?}");
    }

    #[test]
    fn a_block_takes_the_dearest() {
        let mut waiting = Waiting(vec![0; Waiting::PLACES]);
        waiting.0[100] = CAPACITY;
        waiting.0[200] = CAPACITY / 2;
        waiting.0[10] = 7;
        assert_eq!(waiting.eligible(50), CAPACITY * 3 / 2);
        assert_eq!(waiting.take(50), CAPACITY);
        assert_eq!((waiting.0[200], waiting.0[100]), (0, CAPACITY / 2));
        assert_eq!(waiting.take(50), CAPACITY / 2);
        assert_eq!((waiting.take(50), waiting.0[10]), (0, 7));
    }
}
