//! Tiles in 256-bit registers: up to four rows by a panel, in two halves.

use super::pack::{Square, panels_body};
use super::{Cut, LANES, TILE_LANES, Tile};
use std::arch::x86_64::{
    __m256i, _mm256_add_epi32, _mm256_add_epi64, _mm256_castsi256_si128, _mm256_cvtepi32_epi64,
    _mm256_extracti128_si256, _mm256_load_si256, _mm256_loadu_si256, _mm256_madd_epi16,
    _mm256_mul_epi32, _mm256_permute2x128_si256, _mm256_set1_epi32, _mm256_set1_epi64x,
    _mm256_setzero_si256, _mm256_storeu_si256, _mm256_unpackhi_epi32, _mm256_unpackhi_epi64,
    _mm256_unpacklo_epi32, _mm256_unpacklo_epi64,
};

/// Lanes of a register.
const HALF: usize = LANES / 2;

/// Adds a tile's sums, times its factor, to its totals.
///
/// # Safety
/// The processor has AVX2; `tile`'s rows and panels are readable in all its pairs.
#[target_feature(enable = "avx2")]
pub(super) unsafe fn tile(tile: &Tile, totals: &mut [[i64; TILE_LANES]]) {
    for panel in 0..tile.wide {
        macro_rules! sizes {
            ($($tall:literal)*) => {
                match tile.tall {
                    // SAFETY: as the caller's.
                    $($tall => unsafe { run::<$tall>(tile, panel, totals) },)*
                    _ => unreachable!("a tile has 1 to 4 rows"),
                }
            };
        }
        sizes!(1 2 3 4);
    }
}

#[target_feature(enable = "avx2")]
unsafe fn run<const TALL: usize>(tile: &Tile, panel: usize, totals: &mut [[i64; TILE_LANES]]) {
    let mut sums = [[_mm256_setzero_si256(); 2]; TALL];
    for pair in 0..tile.pairs {
        let b: [__m256i; 2] = std::array::from_fn(|half| {
            // SAFETY: the panels are readable in this pair, and begin on a cache line.
            unsafe {
                let word = panel * tile.b_stride + pair * LANES + half * HALF;
                _mm256_load_si256(tile.b.add(word).cast::<__m256i>())
            }
        });
        for (row, sums) in sums.iter_mut().enumerate() {
            // SAFETY: the rows are readable in this pair.
            let a = _mm256_set1_epi32(unsafe { *tile.a.add(row * tile.a_stride + pair) });
            for (sum, &b) in sums.iter_mut().zip(&b) {
                *sum = _mm256_add_epi32(*sum, _mm256_madd_epi16(a, b));
            }
        }
    }
    let factor = _mm256_set1_epi64x(i64::from(tile.factor));
    for (sums, totals) in sums.iter().zip(totals) {
        let totals = totals[panel * LANES..][..LANES].as_chunks_mut::<HALF>().0;
        for (&sum, totals) in sums.iter().zip(totals) {
            let (first, second) = totals.split_at_mut(HALF / 2);
            let low = _mm256_cvtepi32_epi64(_mm256_castsi256_si128(sum));
            let high = _mm256_cvtepi32_epi64(_mm256_extracti128_si256::<1>(sum));
            // SAFETY: each half has 32 bytes.
            unsafe {
                add(first.as_mut_ptr(), _mm256_mul_epi32(low, factor));
                add(second.as_mut_ptr(), _mm256_mul_epi32(high, factor));
            }
        }
    }
}

/// Adds four lanes to what stands at `totals`.
///
/// # Safety
/// There are four integers.
#[target_feature(enable = "avx2")]
unsafe fn add(totals: *mut i64, lanes: __m256i) {
    let totals = totals.cast::<__m256i>();
    // SAFETY: as the caller's.
    unsafe { _mm256_storeu_si256(totals, _mm256_add_epi64(_mm256_loadu_si256(totals), lanes)) };
}

/// Packs panels of rows that stand one after another.
#[target_feature(enable = "avx2")]
pub(super) fn pack_panels(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) {
    panels_body(cut, parts, depth, values, words, |from, to| {
        transpose(from, to);
    });
}

/// Rows become columns, a quarter of the square at a time: words change places in twos and fours of each 128-bit part, then
/// the parts do.
#[target_feature(enable = "avx2")]
fn transpose(from: &Square, to: &mut Square) {
    for (top, left) in [(0, 0), (0, HALF), (HALF, 0), (HALF, HALF)] {
        let row = |i: usize| {
            let words = from[top + i][left..][..HALF].as_ptr();
            // SAFETY: half a row has 32 bytes.
            unsafe { _mm256_loadu_si256(words.cast::<__m256i>()) }
        };
        // Part `l` of `fours[i][j]` has column `4 * l + j` of rows `4 * i` to `4 * i + 3`.
        let fours: [[__m256i; 4]; 2] = std::array::from_fn(|i| {
            let [a, b, c, d] = [row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3)];
            let (ab, ab_high) = (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let (cd, cd_high) = (_mm256_unpacklo_epi32(c, d), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(ab_high, cd_high),
                _mm256_unpackhi_epi64(ab_high, cd_high),
            ]
        });
        for (j, (&a, &b)) in fours[0].iter().zip(&fours[1]).enumerate() {
            for (column, value) in [
                (j, _mm256_permute2x128_si256::<0x20>(a, b)),
                (4 + j, _mm256_permute2x128_si256::<0x31>(a, b)),
            ] {
                let words = to[left + column][top..][..HALF].as_mut_ptr();
                // SAFETY: half a row has 32 bytes.
                unsafe { _mm256_storeu_si256(words.cast::<__m256i>(), value) };
            }
        }
    }
}
