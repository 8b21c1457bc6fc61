//! Tiles in 512-bit registers: up to four rows by four panels.

use super::pack::{Square, panels_body};
use super::{Cut, LANES, TILE_LANES, TILE_PANELS, TILE_ROWS, Tile};
use std::arch::x86_64::{
    __m512i, _mm512_add_epi64, _mm512_castsi512_si256, _mm512_cvtepi32_epi64, _mm512_dpwssd_epi32,
    _mm512_extracti64x4_epi64, _mm512_load_si512, _mm512_loadu_si512, _mm512_mul_epi32,
    _mm512_set1_epi32, _mm512_set1_epi64, _mm512_setzero_si512, _mm512_shuffle_i32x4,
    _mm512_storeu_si512, _mm512_unpackhi_epi32, _mm512_unpackhi_epi64, _mm512_unpacklo_epi32,
    _mm512_unpacklo_epi64,
};

/// Adds a tile's sums, times its factor, to its totals.
///
/// # Safety
/// The processor has AVX-512 F, BW, DQ and VNNI; `tile`'s rows and panels are readable in all its pairs.
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
pub(super) unsafe fn tile(tile: &Tile, totals: &mut [[i64; TILE_LANES]]) {
    macro_rules! sizes {
        ($($tall:literal)*) => {
            match (tile.tall, tile.wide) {
                // SAFETY: as the caller's.
                $(($tall, 4) => unsafe { run::<$tall, 4>(tile, totals) },
                ($tall, 3) => unsafe { run::<$tall, 3>(tile, totals) },
                ($tall, 2) => unsafe { run::<$tall, 2>(tile, totals) },
                ($tall, _) => unsafe { run::<$tall, 1>(tile, totals) },)*
                _ => unreachable!("a tile has 1 to 4 rows"),
            }
        };
    }
    sizes!(1 2 3 4);
}

/// Repeats a statement for each row of a tile, or for each panel: what a tile has beyond is left out when it is compiled.
/// With loops, the compiler keeps the sums of larger tiles in memory.
macro_rules! repeat {
    ($number:ident < $count:ident => $body:expr) => {
        repeat!(@ $number $count $body, 0 1 2 3)
    };
    (@ $number:ident $count:ident $body:expr, $($value:literal)*) => {
        {
            $(if $value < $count {
                const $number: usize = $value;
                $body
            })*
        }
    };
}

#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vnni")]
unsafe fn run<const TALL: usize, const WIDE: usize>(tile: &Tile, totals: &mut [[i64; TILE_LANES]]) {
    let zero = _mm512_setzero_si512();
    let row: [__m512i; TILE_PANELS] = [zero, zero, zero, zero];
    let mut sums: [[__m512i; TILE_PANELS]; TILE_ROWS] = [row, row, row, row];
    let totals = &mut totals[..TALL];
    for pair in 0..tile.pairs {
        let mut b = row;
        repeat!(PANEL < WIDE => {
            // SAFETY: the panels are readable in this pair, and begin on a cache line.
            b[PANEL] = unsafe {
                let word = tile.b.add(PANEL * tile.b_stride + pair * LANES);
                _mm512_load_si512(word.cast::<__m512i>())
            };
        });
        repeat!(ROW < TALL => {
            // SAFETY: the rows are readable in this pair.
            let a = _mm512_set1_epi32(unsafe { *tile.a.add(ROW * tile.a_stride + pair) });
            repeat!(PANEL < WIDE => {
                sums[ROW][PANEL] = _mm512_dpwssd_epi32(sums[ROW][PANEL], a, b[PANEL]);
            });
        });
    }
    let factor = _mm512_set1_epi64(i64::from(tile.factor));
    repeat!(ROW < TALL => repeat!(PANEL < WIDE => {
        let sum = sums[ROW][PANEL];
        let low = _mm512_cvtepi32_epi64(_mm512_castsi512_si256(sum));
        let high = _mm512_cvtepi32_epi64(_mm512_extracti64x4_epi64::<1>(sum));
        let totals = &mut totals[ROW][PANEL * LANES..][..LANES];
        let (first, second) = totals.split_at_mut(LANES / 2);
        // SAFETY: each half has 64 bytes.
        unsafe {
            add(first.as_mut_ptr(), _mm512_mul_epi32(low, factor));
            add(second.as_mut_ptr(), _mm512_mul_epi32(high, factor));
        }
    }));
}

/// Adds eight lanes to what stands at `totals`.
///
/// # Safety
/// There are eight integers.
#[target_feature(enable = "avx512f")]
unsafe fn add(totals: *mut i64, lanes: __m512i) {
    let totals = totals.cast::<__m512i>();
    // SAFETY: as the caller's.
    unsafe { _mm512_storeu_si512(totals, _mm512_add_epi64(_mm512_loadu_si512(totals), lanes)) };
}

/// Packs panels of rows that stand one after another.
#[target_feature(enable = "avx2,avx512f,avx512bw,avx512dq,avx512vl")]
pub(super) fn pack_panels(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) {
    panels_body(cut, parts, depth, values, words, |from, to| {
        transpose(from, to);
    });
}

/// Rows become columns: words change places in twos and fours of each 128-bit part, then the parts do.
#[target_feature(enable = "avx512f")]
fn transpose(from: &Square, to: &mut Square) {
    // SAFETY: a row has 64 bytes.
    let row = |i: usize| unsafe { _mm512_loadu_si512(from[i].as_ptr().cast::<__m512i>()) };
    // Part `l` of `fours[i][j]` has column `4 * l + j` of rows `4 * i` to `4 * i + 3`.
    let fours: [[__m512i; 4]; 4] = std::array::from_fn(|i| {
        let [a, b, c, d] = [row(4 * i), row(4 * i + 1), row(4 * i + 2), row(4 * i + 3)];
        let (ab, ab_high) = (_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
        let (cd, cd_high) = (_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
        [
            _mm512_unpacklo_epi64(ab, cd),
            _mm512_unpackhi_epi64(ab, cd),
            _mm512_unpacklo_epi64(ab_high, cd_high),
            _mm512_unpackhi_epi64(ab_high, cd_high),
        ]
    });
    for j in 0..4 {
        let [a, b, c, d] = fours.map(|part| part[j]);
        // Parts 0 and 2, and 1 and 3, of two each.
        let ab = _mm512_shuffle_i32x4::<0b10_00_10_00>(a, b);
        let ab_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(a, b);
        let cd = _mm512_shuffle_i32x4::<0b10_00_10_00>(c, d);
        let cd_odd = _mm512_shuffle_i32x4::<0b11_01_11_01>(c, d);
        for (column, value) in [
            (j, _mm512_shuffle_i32x4::<0b10_00_10_00>(ab, cd)),
            (8 + j, _mm512_shuffle_i32x4::<0b11_01_11_01>(ab, cd)),
            (4 + j, _mm512_shuffle_i32x4::<0b10_00_10_00>(ab_odd, cd_odd)),
            (
                12 + j,
                _mm512_shuffle_i32x4::<0b11_01_11_01>(ab_odd, cd_odd),
            ),
        ] {
            // SAFETY: a row has 64 bytes.
            unsafe { _mm512_storeu_si512(to[column].as_mut_ptr().cast::<__m512i>(), value) };
        }
    }
}
