//! Dot products of 32-bit integers in 64 bits, row by row: for contractions too small to pack, and on processors without
//! register tiles.
//!
//! The order of an integer sum does not matter, so each form gives the same bits.

use crate::cpu::kernel::Form;

/// Calls `put(i, j, dot)` for each row `i` of `a` and row `j` of `b`, rows of `k` words one after another.
pub(crate) fn rows(
    form: Form,
    k: usize,
    a: &[i32],
    b: &[i32],
    put: &mut impl FnMut(usize, usize, i64),
) {
    match form {
        Form::Portable => portable(k, a, b, put),
        // SAFETY: these variants are made where the processor has AVX2.
        #[cfg(target_arch = "x86_64")]
        Form::Avx2 | Form::Avx512 => unsafe { avx2::rows(k, a, b, put) },
    }
}

fn portable(k: usize, a: &[i32], b: &[i32], put: &mut impl FnMut(usize, usize, i64)) {
    for (i, x) in a.chunks_exact(k).enumerate() {
        for (j, y) in b.chunks_exact(k).enumerate() {
            put(i, j, crate::num::fixed::dot(x, y));
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod avx2 {
    use std::arch::x86_64::{
        __m256i, _mm256_add_epi64, _mm256_loadu_si256, _mm256_mul_epi32, _mm256_setzero_si256,
        _mm256_srli_epi64, _mm256_storeu_si256,
    };

    /// Rows of `b` that share the loads of a row of `a`.
    const WIDE: usize = 4;

    #[target_feature(enable = "avx2")]
    pub(super) fn rows(k: usize, a: &[i32], b: &[i32], put: &mut impl FnMut(usize, usize, i64)) {
        let (m, n) = (a.len() / k, b.len() / k);
        let row = |of: &[i32], i: usize| -> *const i32 { of[i * k..(i + 1) * k].as_ptr() };
        let mut j = 0;
        while j < n {
            let wide = if n - j >= WIDE { WIDE } else { 1 };
            let mut i = 0;
            while i < m {
                let tall = if m - i >= 2 { 2 } else { 1 };
                match (tall, wide) {
                    (2, WIDE) => {
                        // SAFETY: `row` checked that each row has `k` integers.
                        let sums = unsafe {
                            tile::<2, WIDE>(
                                k,
                                std::array::from_fn(|t| row(a, i + t)),
                                std::array::from_fn(|t| row(b, j + t)),
                            )
                        };
                        emit(i, j, &sums, put);
                    }
                    (1, WIDE) => {
                        // SAFETY: as above.
                        let sums = unsafe {
                            tile::<1, WIDE>(k, [row(a, i)], std::array::from_fn(|t| row(b, j + t)))
                        };
                        emit(i, j, &sums, put);
                    }
                    (2, _) => {
                        // SAFETY: as above.
                        let sums = unsafe {
                            tile::<2, 1>(k, std::array::from_fn(|t| row(a, i + t)), [row(b, j)])
                        };
                        emit(i, j, &sums, put);
                    }
                    _ => {
                        // SAFETY: as above.
                        let sums = unsafe { tile::<1, 1>(k, [row(a, i)], [row(b, j)]) };
                        emit(i, j, &sums, put);
                    }
                }
                i += tall;
            }
            j += wide;
        }
    }

    fn emit<const M: usize, const N: usize>(
        i: usize,
        j: usize,
        sums: &[[i64; N]; M],
        put: &mut impl FnMut(usize, usize, i64),
    ) {
        for (t, row) in sums.iter().enumerate() {
            for (u, &sum) in row.iter().enumerate() {
                put(i + t, j + u, sum);
            }
        }
    }

    /// Dot products of `M` rows with `N` rows.
    ///
    /// # Safety
    /// Each pointer has `k` readable integers.
    #[target_feature(enable = "avx2")]
    unsafe fn tile<const M: usize, const N: usize>(
        k: usize,
        a: [*const i32; M],
        b: [*const i32; N],
    ) -> [[i64; N]; M] {
        let mut sums = [[_mm256_setzero_si256(); N]; M];
        let whole = k / 8 * 8;
        let mut at = 0;
        while at < whole {
            let mut even = [_mm256_setzero_si256(); M];
            let mut odd = [_mm256_setzero_si256(); M];
            for t in 0..M {
                // SAFETY: `at + 8 <= k`.
                even[t] = unsafe { _mm256_loadu_si256(a[t].add(at).cast::<__m256i>()) };
                odd[t] = _mm256_srli_epi64::<32>(even[t]);
            }
            for u in 0..N {
                // SAFETY: `at + 8 <= k`.
                let y = unsafe { _mm256_loadu_si256(b[u].add(at).cast::<__m256i>()) };
                let y_odd = _mm256_srli_epi64::<32>(y);
                for t in 0..M {
                    // The multiplication reads the low half of each 64-bit lane, with its sign.
                    let products = _mm256_add_epi64(
                        _mm256_mul_epi32(even[t], y),
                        _mm256_mul_epi32(odd[t], y_odd),
                    );
                    sums[t][u] = _mm256_add_epi64(sums[t][u], products);
                }
            }
            at += 8;
        }
        let mut out = [[0i64; N]; M];
        for t in 0..M {
            for u in 0..N {
                let mut lanes = [0i64; 4];
                // SAFETY: the array has 32 bytes.
                unsafe { _mm256_storeu_si256(lanes.as_mut_ptr().cast::<__m256i>(), sums[t][u]) };
                let mut sum = lanes[0] + lanes[1] + lanes[2] + lanes[3];
                for i in whole..k {
                    // SAFETY: `i < k`.
                    sum += unsafe { i64::from(*a[t].add(i)) * i64::from(*b[u].add(i)) };
                }
                out[t][u] = sum;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn every_form_gives_the_same_sums(
            k in 1usize..40,
            m in 1usize..6,
            n in 1usize..10,
            seed in any::<u64>(),
        ) {
            let mut state = seed | 1;
            let mut next = || {
                state ^= state << 13;
                state ^= state >> 7;
                state ^= state << 17;
                (state as i32 % (1 << 23)).clamp(-(1 << 23), 1 << 23)
            };
            let a: Vec<i32> = (0..m * k).map(|_| next()).collect();
            let b: Vec<i32> = (0..n * k).map(|_| next()).collect();
            let all = |form: Form| {
                let mut out = vec![0i64; m * n];
                rows(form, k, &a, &b, &mut |i, j, sum| out[i * n + j] = sum);
                out
            };
            prop_assert_eq!(all(Form::detect()), all(Form::Portable));
        }
    }
}
