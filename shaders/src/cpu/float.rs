//! Contractions with native floats: the mode `fast`. Order and fusing of the sums are the library's, so the bits are
//! nobody else's.

use crate::cpu::arena::Sources;
use crate::cpu::contract::gather_panel;
use crate::plan::{Contract, Conv};
use bytemuck::{cast_slice, cast_slice_mut};
use ndarray::linalg::{general_mat_mul, general_mat_vec_mul};
use ndarray::{ArrayView2, ArrayViewMut2};

/// Values of the positions that a convolution gathers at a time.
const GATHER_WORDS: usize = 1 << 20;

/// `out = a b`, of these dimensions; where `transposed`, the rows of `b` are its columns.
fn product(a: &[f32], b: &[f32], [m, n, k]: [usize; 3], transposed: bool, out: &mut [u32]) {
    let shape = if transposed { (n, k) } else { (k, n) };
    let a = ArrayView2::from_shape((m, k), a);
    let b = ArrayView2::from_shape(shape, b);
    let out = ArrayViewMut2::from_shape((m, n), cast_slice_mut(out));
    if let (Ok(a), Ok(b), Ok(mut out)) = (a, b, out) {
        // A product with one row reads each value of `b` once: nothing is gained by packing it.
        if transposed && m == 1 {
            return general_mat_vec_mul(1.0, &b, &a.row(0), 0.0, &mut out.row_mut(0));
        }
        let b = if transposed { b.reversed_axes() } else { b };
        general_mat_mul(1.0, &a, &b, 0.0, &mut out);
    } else {
        debug_assert!(false, "{m} by {n} by {k}");
    }
}

/// Runs products of rows; `out` is the result.
pub(crate) fn contract(step: &Contract, sources: &Sources<'_>, out: &mut [u32]) {
    let [m, n, k] = [step.m as usize, step.n as usize, step.k as usize];
    let (a, b) = (sources.floats(&step.a.q), sources.floats(&step.b.q));
    for (out, [a0, b0]) in out.chunks_exact_mut(m * n).zip(step.batches()) {
        let (a, b) = (&a[a0 * k..][..m * k], &b[b0 * k..][..n * k]);
        product(a, b, [m, n, k], true, out);
    }
}

/// Runs a convolution; `out` is the result. `columns` is memory.
pub(crate) fn conv(step: &Conv, sources: &Sources<'_>, out: &mut [u32], columns: &mut Vec<i32>) {
    let volume = |extents: &[u32; 3]| extents.iter().map(|&e| e as usize).product::<usize>();
    let (cin, cout) = (step.cin as usize, step.cout as usize);
    let (inputs, outputs) = (volume(&step.window.input), volume(&step.window.output));
    let depth = cin * volume(&step.window.kernel);
    // What is gathered are words; zero is the float's zero.
    let input = sources.integers(&step.input_q);
    let weight = sources.floats(&step.weight_q);
    let most = (GATHER_WORDS / depth).max(1);
    let mut part = Vec::new();
    for (plane, out) in out.chunks_exact_mut(cout * outputs).enumerate() {
        let group = plane % step.groups as usize;
        let source = &input[plane * cin * inputs..][..cin * inputs];
        let rows = &weight[group * cout * depth..][..cout * depth];
        for first in (0..outputs).step_by(most) {
            let count = most.min(outputs - first);
            columns.clear();
            columns.resize(count * depth, 0);
            gather_panel(step, source, first..first + count, count, columns);
            part.clear();
            part.resize(cout * count, 0);
            let shape = [cout, count, depth];
            product(rows, cast_slice(columns), shape, false, &mut part);
            for (channel, values) in part.chunks_exact(count).enumerate() {
                out[channel * outputs + first..][..count].copy_from_slice(values);
            }
        }
    }
}
