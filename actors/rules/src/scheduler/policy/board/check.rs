//! Whether the board is what its batches add up to.

use super::{Board, Margin, Room, Side};
use crate::scheduler::model::{Batch, Pass, Problem};

impl Board {
    /// Shards that are planned beyond a deadline, as `(shard slot, pass)`: none, ever. What was promised may use up its
    /// margin.
    pub(crate) fn overruns(&self, p: &Problem) -> Vec<(u32, Pass)> {
        let mut found = Vec::new();
        for shard in 0..self.shards as u32 {
            for pass in [Pass::This, Pass::Next] {
                let bound = |b: &Batch| {
                    b.shard == shard
                        && b.urgency.committed
                        && b.pass <= Pass::Next
                        && !b.keys.is_empty()
                };
                let margin = if self.batches.iter().any(bound) {
                    Margin::Off
                } else {
                    self.margin
                };
                if self.sides[shard as usize].load[pass as usize] > 0
                    && !self.fits_with(p, shard, pass, (0, 0), u64::MAX, (margin, Room::Used))
                {
                    found.push((shard, pass));
                }
            }
        }
        found
    }

    /// Whether loads and counts are what the batches add up to: an undo that left a trace shows here.
    pub(crate) fn adds_up(&self, p: &Problem) -> bool {
        let mut sides = vec![Side::default(); self.shards];
        let mut placed = vec![0u8; self.spots.len()];
        for batch in self.batches.iter().filter(|b| !b.keys.is_empty()) {
            let cost = p.cost(batch.model, batch.shard);
            let (at, side) = (batch.pass as usize, &mut sides[batch.shard as usize]);
            side.load[at] += cost.batch(batch.keys.len() as u64);
            side.variance[at] += cost.variance;
            for &key in &batch.keys {
                placed[key as usize] += 1;
            }
        }
        for (batch, time) in self.batches.iter().zip(&self.batch_kept) {
            sides[batch.shard as usize].kept[batch.pass as usize] += time;
        }
        sides == self.sides
            && placed.iter().eq(self.spots.iter().map(|spot| &spot.placed))
            && self.batches.len() == self.batch_kept.len()
    }
}
