//! Products of many rows at once: integers cut into 16-bit parts, packed as the vector units read them, and a tile of
//! results in registers.
//!
//! ```text
//!  rows of a --pack--> Packed (rows)    --+
//!                                         +--tile (avx2 | avx512)--> sums of parts, 32 bits --> totals, 64 bits --> put
//!  rows of b --pack--> Packed (panels)  --+
//! ```
//!
//! The instruction multiplies pairs of 16-bit integers and adds them up in 32 bits (`vpdpwssd`, or `vpmaddwd` and an
//! addition): 16 lanes of two products each in a 512-bit register. A [`Cut`] says how wider integers become such parts, and
//! in which [`Pass`]es the parts are multiplied.
//! Sums are taken in 32 bits for as many products as fit, then in 64: no sum is ever rounded, so that every form has the
//! bits of [`crate::num::fixed::dot`].

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod form;
mod pack;

pub(crate) use form::{Form, for_each_form};
pub(crate) use pack::{LANES, Packed, Side};

/// How integers become 16-bit parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cut {
    /// 24 bits as `4096 * high + low`, both of 12 bits. Three products give four: the mixed sum `high * low + low * high`
    /// is `both * both - high * high - low * low` where `both` is `high + low`.
    Twelve,
    /// 16 bits: the first operand whole, the second as `256 * high + low`, both of 8 bits.
    Eight,
    /// 16 bits of which products and their sums are small: as they are.
    Whole,
}

/// Products of one part of each operand, summed over a row.
struct Pass {
    /// Part of the first operand.
    a: usize,
    /// Part of the second.
    b: usize,
    /// What a sum counts in the result.
    factor: i32,
    /// Pairs of products that are summed in 32 bits.
    chunk_pairs: usize,
}

const fn pass(a: usize, b: usize, factor: i32, chunk_pairs: usize) -> Pass {
    Pass {
        a,
        b,
        factor,
        chunk_pairs,
    }
}

impl Cut {
    /// What is multiplied.
    const fn passes(self) -> &'static [Pass] {
        match self {
            Self::Twelve => &TWELVE,
            Self::Eight => &EIGHT,
            Self::Whole => &WHOLE,
        }
    }
}

/// `low + 2^12 * (both - high - low) + 2^24 * high`.
const TWELVE: [Pass; 3] = [
    pass(LOW, LOW, 1 - (1 << 12), CHUNK_PAIRS_MAX),
    pass(HIGH, HIGH, (1 << 24) - (1 << 12), CHUNK_PAIRS_MAX),
    pass(BOTH, BOTH, 1 << 12, 64),
];
const EIGHT: [Pass; 2] = [
    pass(0, LOW, 1, CHUNK_PAIRS_MAX),
    pass(0, HIGH, 1 << 8, CHUNK_PAIRS_MAX),
];
const WHOLE: [Pass; 1] = [pass(0, 0, 1, CHUNK_PAIRS_MAX)];

/// Places of the parts of a [`Cut::Twelve`], and of the second operand of a [`Cut::Eight`].
const LOW: usize = 0;
const HIGH: usize = 1;
const BOTH: usize = 2;

/// Pairs that are summed in 32 bits at most: four panels of them are 32 KiB, which stay in a first-level cache while the rows
/// of a block pass.
const CHUNK_PAIRS_MAX: usize = 128;

/// Rows of a register tile: with four panels, 16 accumulators of 32 registers (AVX-512), which hide the five cycles of a
/// multiplication; with one panel, in two halves, 8 of 16 (AVX2).
const TILE_ROWS: usize = 4;

/// Rows whose totals are kept while a chunk's panels stay in the cache.
const BLOCK_ROWS: usize = 6 * TILE_ROWS;

/// Panels that a tile has at most, and what it has of results in a row.
const TILE_PANELS: usize = 4;
pub(crate) const TILE_LANES: usize = TILE_PANELS * LANES;

// Digits are -2048 to 2048, and not both at an end of one sign: their sum is at most 4095. Halves of 16 bits are at most
// 2^7, and meet a whole of less than 2^15. Integers that stand for themselves have 9 bits.
const _: () = assert!(2 * 64 * 4095 * 4095 <= i32::MAX as i64);
const _: () = assert!(2 * CHUNK_PAIRS_MAX as i64 * (1 << 22) < i32::MAX as i64);
const _: () = assert!(2 * CHUNK_PAIRS_MAX as i64 * (1 << 18) < i32::MAX as i64);

/// What a tile works on.
struct Tile {
    /// First pair of the tile's first row, and words from a row to the next.
    a: *const i32,
    a_stride: usize,
    /// First pair of the tile's first panel, and words from a panel to the next.
    b: *const i32,
    b_stride: usize,
    /// Pairs of products.
    pairs: usize,
    /// Rows, 1 to [`TILE_ROWS`].
    tall: usize,
    /// Panels, 1 to [`TILE_PANELS`].
    wide: usize,
    /// What a sum counts in the totals.
    factor: i32,
}

/// Calls `put(i, j, sums)` with the dot products of row `i` of `a` and the rows `j..` of `b`; every product comes once.
///
/// # Panics
/// Where the operands are not packed for each other, or `form` has no tile.
pub(crate) fn multiply(
    form: Form,
    a: &Packed,
    b: &Packed,
    put: &mut impl FnMut(usize, usize, &[i64]),
) {
    assert!(a.fits(b), "operands are packed for each other");
    let panels = b.rows().div_ceil(LANES);
    let pairs = b.pairs();
    let mut totals = [[0i64; TILE_LANES]; BLOCK_ROWS];
    for panel in (0..panels).step_by(TILE_PANELS) {
        let wide = TILE_PANELS.min(panels - panel);
        let lanes = (wide * LANES).min(b.rows() - panel * LANES);
        for first in (0..a.rows()).step_by(BLOCK_ROWS) {
            let rows = BLOCK_ROWS.min(a.rows() - first);
            totals[..rows].fill([0; TILE_LANES]);
            for pass in a.cut().passes() {
                for start in (0..pairs).step_by(pass.chunk_pairs) {
                    for row in (0..rows).step_by(TILE_ROWS) {
                        let tall = TILE_ROWS.min(rows - row);
                        let tile = Tile {
                            a: a.part(first + row, pass.a)[start..].as_ptr(),
                            a_stride: a.stride(),
                            b: b.part(panel, pass.b)[start * LANES..].as_ptr(),
                            b_stride: b.stride(),
                            pairs: pass.chunk_pairs.min(pairs - start),
                            tall,
                            wide,
                            factor: pass.factor,
                        };
                        // SAFETY: `part` has checked that the first row and the first panel are there; rows and panels
                        // stand `stride` words apart, and `tall` and `wide` end with the last of them; each part holds all
                        // pairs.
                        unsafe { form.tile(&tile, &mut totals[row..row + tall]) };
                    }
                }
            }
            for (row, totals) in totals[..rows].iter().enumerate() {
                put(first + row, panel * LANES, &totals[..lanes]);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::num::fixed;
    use proptest::prelude::*;

    fn largest(cut: Cut) -> i32 {
        match cut {
            Cut::Twelve => fixed::QUANTISED_MAX,
            Cut::Eight => i32::from(i16::MAX),
            Cut::Whole => 255,
        }
    }

    fn check(cut: Cut, [m, n, k]: [usize; 3], a: &[i32], b: &[i32]) {
        let mut expect = vec![0i64; m * n];
        for i in 0..m {
            for j in 0..n {
                expect[i * n + j] = fixed::dot(&a[i * k..][..k], &b[j * k..][..k]);
            }
        }
        for form in Form::all().into_iter().filter(|form| form.has_tiles()) {
            let (mut rows, mut panels) = (Packed::default(), Packed::default());
            rows.pack(form, cut, Side::Rows, k, a);
            panels.pack(form, cut, Side::Panels, k, b);
            let mut found = vec![0i64; m * n];
            multiply(form, &rows, &panels, &mut |i, j, sums| {
                found[i * n + j..][..sums.len()].copy_from_slice(sums);
            });
            assert!(found == expect, "{form:?} {cut:?} {m} x {n} x {k}");
        }
    }

    #[test]
    fn the_largest_integers_of_both_signs_do_not_overflow_a_chunk() {
        for cut in [Cut::Twelve, Cut::Eight, Cut::Whole] {
            let most = largest(cut);
            // Digits of 2048 and -2048, and the values whose mixed sum is largest.
            for (x, y) in [
                (most, most),
                (most, -most),
                (-most, -most),
                (most - 2048, 2048 - most),
            ] {
                let (x, y) = (x.clamp(-most, most), y.clamp(-most, most));
                let k = 1_100;
                check(cut, [5, 33, k], &vec![x; 5 * k], &vec![y; 33 * k]);
            }
        }
    }

    proptest! {
        #[test]
        fn every_form_gives_the_sums_of_the_definition(
            cut in prop_oneof![Just(Cut::Twelve), Just(Cut::Eight), Just(Cut::Whole)],
            m in 1usize..30,
            n in 1usize..70,
            k in 1usize..300,
            seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let most = largest(cut);
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                match state % 8 {
                    0 => most,
                    1 => -most,
                    _ => (state >> 20) as i32 % (most + 1),
                }
            };
            let a: Vec<i32> = (0..m * k).map(|_| next()).collect();
            let b: Vec<i32> = (0..n * k).map(|_| next()).collect();
            check(cut, [m, n, k], &a, &b);
        }
    }
}
