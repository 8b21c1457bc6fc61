//! How full the inference network is, as everybody may know it: who pays what waits about how long.
//!
//! ```text
//!  waiting work, dearest first   |####|########|################|...
//!  steps: (blocks, price)           ^ 1 block is worth more    ^ 2 blocks are worth at least this
//! ```

use super::certificate::{STEPS, edge, step};
use super::model::Verdict;
use super::policy::DENSITY_BITS;
use super::{Scheduler, Window};
use crate::ids::{Height, Micros};
use crate::tx::Reason;
use serde::{Deserialize, Serialize};

/// Steps of a schedule of prices at most: the first at one block, each at least an eighth further, to 2^20 blocks.
pub const STEPS_MAX: usize = 128;

/// Scheduler to gateways, with each head: what waits, and how well the last blocks used the shards' time.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Congestion {
    /// The block that is built next.
    pub height: Height,
    /// Transactions that wait for a place on a shard beyond the next two blocks.
    pub waiting: u32,
    /// Time that all shards have for one block, in microseconds.
    pub capacity: Micros,
    /// By descending price, and so by ascending blocks.
    pub steps: Vec<Step>,
    /// The certificate of the last blocks.
    pub window: Option<Window>,
}

/// A point of the schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Step {
    /// Blocks that the waiting work fills which is worth `price` or more.
    pub blocks: u32,
    /// Wei per igas.
    pub price: u128,
}

impl Congestion {
    /// Makes the schedule from waiting work by descending price: wei per igas, and microseconds.
    #[must_use]
    pub fn steps(capacity: Micros, work: impl IntoIterator<Item = (u128, u64)>) -> Vec<Step> {
        let (mut steps, mut sum): (Vec<Step>, u64) = (Vec::new(), 0);
        let mut end = None;
        for (price, micros) in work {
            sum = sum.saturating_add(micros);
            let blocks = sum.checked_div(capacity.0).unwrap_or(0);
            let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
            let last = steps.last().map_or(0, |step| step.blocks);
            let step = Step { blocks, price };
            if blocks > last.saturating_add(last / 8) && steps.len() + 1 < STEPS_MAX {
                steps.push(step);
            }
            end = Some(step);
        }
        // The whole of it is always told.
        let last = steps.last().map_or(0, |step| step.blocks);
        steps.extend(end.filter(|end| end.blocks > last));
        steps
    }

    /// Blocks of waiting work that is worth as much as this price, in wei per igas, or more.
    #[must_use]
    pub fn blocks(&self, price: u128) -> u32 {
        let before = self.steps.partition_point(|step| step.price >= price);
        before.checked_sub(1).map_or(0, |i| self.steps[i].blocks)
    }

    /// The least price, in wei per igas, that waits `blocks` blocks or less.
    #[must_use]
    pub fn price(&self, blocks: u32) -> u128 {
        let beyond = self.steps.iter().find(|step| step.blocks > blocks);
        beyond.map_or(0, |step| step.price.saturating_add(1))
    }
}

/// Upper bits of a rank that tell estimates apart: 16 steps per doubling.
const RANK_SHIFT: u32 = 51;

/// One look at all that wait.
#[derive(Debug)]
pub(super) struct Survey {
    /// Who waits, by slot, and its rank.
    pub(super) ranks: Vec<(u32, u64)>,
    /// By rank: microseconds that wait with it or a better one.
    ahead: Vec<u64>,
    /// By what they pay: microseconds that transactions wait for.
    paid: Vec<u64>,
    /// Transactions that wait.
    transactions: u32,
}

impl Survey {
    /// Microseconds of work that waits with this rank or a better one.
    pub(super) fn ahead(&self, rank: u64) -> u64 {
        self.ahead[(rank >> RANK_SHIFT) as usize]
    }
}

impl Scheduler {
    /// Looks at all that wait.
    pub(super) fn survey(&self) -> Survey {
        let (problem, plan, index) = (&self.problem, &self.plan, &self.index);
        let mut survey = Survey {
            ranks: Vec::with_capacity(plan.deferred as usize),
            ahead: vec![0; 1 << (64 - RANK_SHIFT)],
            paid: vec![0; STEPS],
            transactions: 0,
        };
        for (slot, gang) in (0..plan.verdicts.len() as u32).zip(&problem.gangs) {
            let Verdict::Deferred(reason) = plan.verdict(index, slot) else {
                continue;
            };
            let (rank, time) = plan.standing(problem, index, slot);
            survey.ranks.push((slot, rank));
            let ahead = &mut survey.ahead[(rank >> RANK_SHIFT) as usize];
            *ahead = ahead.saturating_add(time);
            // Calls pay nothing, and what no shard serves takes nobody's time.
            if !gang.live || gang.call || reason == Reason::NoShard {
                continue;
            }
            survey.transactions += 1;
            let paid = &mut survey.paid[step(gang.value, gang.igas)];
            *paid = paid.saturating_add(time);
        }
        let mut sum = 0u64;
        for ahead in survey.ahead.iter_mut().rev() {
            sum = sum.saturating_add(*ahead);
            *ahead = sum;
        }
        survey
    }

    /// What waits now, by what it pays, and the certificate of the last blocks.
    #[must_use]
    pub fn congestion(&self) -> Congestion {
        self.congestion_of(&self.survey())
    }

    /// The same from a look at all that wait.
    pub(super) fn congestion_of(&self, survey: &Survey) -> Congestion {
        let problem = &self.problem;
        let live = problem.shards.iter().filter(|shard| shard.live).count() as u64;
        let capacity = Micros(live.saturating_mul(problem.slot()));
        let filled = survey
            .paid
            .iter()
            .enumerate()
            .rev()
            .filter(|(_, work)| **work > 0);
        let work = filled.map(|(bucket, work)| (edge(bucket) >> DENSITY_BITS, *work));
        Congestion {
            height: problem.height,
            waiting: survey.transactions,
            capacity,
            steps: Congestion::steps(capacity, work),
            window: self.certificate(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CAPACITY: Micros = Micros(1_000);

    fn congestion(work: &[(u128, u64)]) -> Congestion {
        Congestion {
            steps: Congestion::steps(CAPACITY, work.iter().copied()),
            ..Congestion::default()
        }
    }

    #[test]
    fn a_price_waits_for_what_is_worth_as_much() {
        let full = congestion(&[(90, 500), (80, 700), (50, 3_000), (7, 100_000)]);
        let waits = [91, 90, 80, 51, 50, 8, 7, 1].map(|price| full.blocks(price));
        assert_eq!(waits, [0, 0, 1, 1, 4, 4, 104, 104]);
        assert_eq!(
            [0, 1, 4, 103, 104].map(|n| full.price(n)),
            [81, 51, 8, 8, 0]
        );
    }

    #[test]
    fn nothing_waits_where_no_shard_is_counted_or_less_than_a_block_waits() {
        assert_eq!(congestion(&[(90, 999)]).steps, []);
        assert_eq!(Congestion::steps(Micros(0), [(90, 5_000)]), []);
    }

    /// A saturated sum overflowed.
    #[test]
    fn centuries_of_work_are_the_most_that_can_be_said() {
        let full = congestion(&[(2, u64::MAX), (1, u64::MAX)]);
        assert_eq!(full.blocks(1), u32::MAX);
    }

    proptest! {
        /// Who pays the price that is named waits no longer than was said, and one wei less would wait longer.
        #[test]
        fn the_price_for_a_wait_is_the_least_that_keeps_it(
            mut work in prop::collection::vec((0u128..1 << 90, 0u64..1 << 40), 0..200),
            blocks in 0u32..1 << 20,
        ) {
            work.sort_by(|a, b| b.cmp(a));
            let full = congestion(&work);
            prop_assert!(full.steps.len() <= STEPS_MAX);
            let price = full.price(blocks);
            prop_assert!(full.blocks(price) <= blocks);
            prop_assert!(price == 0 || full.blocks(price - 1) > blocks);
        }
    }
}
