//! Reductions in one fixed order, so that a thread, a vector unit and a GPU agree.
//!
//! A sum of `n` values runs over blocks of [`BLOCK`] values, in order.
//! Within a block, lane `j` of eight adds the values `j, j + 8, j + 16, ...` in ascending order to `+0`; then the lanes
//! fold by halves: lane `j` adds lane `j + 4` (for `j < 4`), then `j + 2` (for `j < 2`), then `j + 1`.
//! The sums of the blocks are summed by the same rule, until one is left.
//! Eight lanes fit one AVX register; blocks make long sums parallel on a GPU, and keep their error small.

use super::float;

/// Lanes that a block is summed in.
pub const LANES: usize = 8;

/// Values in a block: 64 steps of eight lanes. Long enough that rows of common models (to 512 wide) are one block,
/// short enough that a GPU thread is done with one in microseconds.
pub const BLOCK: usize = 512;

/// The sum of a block: at most [`BLOCK`] values.
#[inline]
fn block_sum(range: std::ops::Range<usize>, get: &mut dyn FnMut(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let start = range.start;
    for i in range {
        lanes[(i - start) % LANES] += get(i);
    }
    fold(lanes)
}

/// Folds the lanes of a block by halves.
#[inline]
#[must_use]
pub fn fold(mut lanes: [f32; LANES]) -> f32 {
    for half in [4, 2, 1] {
        for j in 0..half {
            lanes[j] += lanes[j + half];
        }
    }
    lanes[0]
}

/// The sum of `get(0) .. get(count - 1)`, each asked for once and in order. No values give `+0`.
#[must_use]
pub fn sum_by(count: usize, mut get: impl FnMut(usize) -> f32) -> f32 {
    sum_dyn(count, &mut get)
}

fn sum_dyn(count: usize, get: &mut dyn FnMut(usize) -> f32) -> f32 {
    if count <= BLOCK {
        return block_sum(0..count, get);
    }
    sum_dyn(count.div_ceil(BLOCK), &mut |block| {
        let start = block * BLOCK;
        block_sum(start..count.min(start + BLOCK), get)
    })
}

/// The sum of `values`.
#[must_use]
pub fn sum(values: &[f32]) -> f32 {
    if values.len() <= BLOCK {
        return slice_sum(values);
    }
    sum_by(values.len().div_ceil(BLOCK), |block| {
        let start = block * BLOCK;
        slice_sum(&values[start..values.len().min(start + BLOCK)])
    })
}

/// As [`block_sum`], in a form that the compiler turns into vector instructions.
#[inline]
fn slice_sum(values: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (lane, value) in lanes.iter_mut().zip(chunk) {
            *lane += value;
        }
    }
    for (lane, value) in lanes.iter_mut().zip(rest) {
        *lane += value;
    }
    fold(lanes)
}

/// The largest of `get(0) .. get(count - 1)` as [`float::max`] has it, whatever the order; minus infinity for none.
#[inline]
#[must_use]
pub fn max_by(count: usize, mut get: impl FnMut(usize) -> f32) -> f32 {
    (0..count).fold(f32::NEG_INFINITY, |most, i| float::max(most, get(i)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_sum_by_hand_has_the_order_that_is_written_down() {
        // Lanes 0 and 4 hold a large pair that cancels only if they meet first.
        let mut values = [0.0f32; 16];
        values[0] = 1e20;
        values[4] = -1e20;
        values[8 + 1] = 3.0;
        values[2] = 0.5;
        assert_eq!(sum(&values), 3.5);
        values.swap(4, 1);
        assert_eq!(
            sum(&values),
            0.0,
            "the 3 and the half are absorbed before the pair meets"
        );
    }

    #[test]
    fn no_values_give_zero_and_minus_infinity() {
        assert_eq!(sum(&[]).to_bits(), 0);
        assert_eq!(sum(&[-0.0]).to_bits(), 0);
        assert_eq!(max_by(0, |_| 1.0), f32::NEG_INFINITY);
    }

    #[test]
    fn a_sum_of_blocks_is_the_sum_of_their_sums() {
        let values: Vec<f32> = (0..BLOCK * BLOCK + 77)
            .map(|i| ((i * 7919) % 1000) as f32 * 1e-3 - 0.4)
            .collect();
        let blocks: Vec<f32> = values.chunks(BLOCK).map(sum).collect();
        assert_eq!(sum(&values).to_bits(), sum(&blocks).to_bits());
        assert!(blocks.len() > BLOCK, "three levels");
    }

    proptest! {
        #[test]
        fn the_fast_form_and_the_general_form_agree_and_are_close_to_the_truth(
            values in proptest::collection::vec(-1e3f32..1e3, 0..2000),
        ) {
            let general = sum_by(values.len(), |i| values[i]);
            prop_assert_eq!(sum(&values).to_bits(), general.to_bits());
            let truth: f64 = values.iter().map(|&v| f64::from(v)).sum();
            let magnitude: f64 = values.iter().map(|&v| f64::from(v.abs())).sum();
            // 64 steps in a lane and 3 folds, twice: at most 2 * 67 roundings of half an ulp of the running sum.
            prop_assert!((f64::from(general) - truth).abs() <= magnitude * 134.0 * 2f64.powi(-24));
        }
    }
}
