//! Contractions: dot products of fixed-point rows, scaled and rounded once.

use crate::cpu::arena::Sources;
use crate::cpu::dot::Dot;
use crate::cpu::rows::inside;
use crate::num::Exponent;
use crate::plan::{Contract, Conv, Kind};

/// Integers of a panel of positions that a convolution gathers at a time: half of a second-level cache.
const PANEL_WORDS: usize = 64 << 10;

/// Rows of a block of weights: with [`BLOCK_WORDS`], what stays in the first-level cache while other rows pass.
const BLOCK_WORDS: usize = 4 << 10;

fn exponent(words: &[i32], i: usize) -> Exponent {
    Exponent(words[i] as u8)
}

/// Runs products of rows; `out` is the result.
pub(crate) fn contract(step: &Contract, sources: &Sources<'_>, out: &mut [u32], dot: Dot) {
    let [m, n, k] = [step.m as usize, step.n as usize, step.k as usize];
    let (a_all, b_all) = (sources.integers(&step.a.q), sources.integers(&step.b.q));
    let (a_exponents, b_exponents) = (
        sources.integers(&step.a.exponent),
        sources.integers(&step.b.exponent),
    );
    let mut index = vec![0u32; step.batch.len()];
    for out in out.chunks_exact_mut(m * n) {
        let first = |strides: &[u32]| -> usize {
            index
                .iter()
                .zip(strides)
                .map(|(&i, &s)| i as usize * s as usize)
                .sum()
        };
        let (a0, b0) = (first(&step.a.batch), first(&step.b.batch));
        let a = &a_all[a0 * k..(a0 + m) * k];
        let b = &b_all[b0 * k..(b0 + n) * k];
        // Blocks of rows of `b` stay in the cache while all of `a` passes.
        let block = (BLOCK_WORDS / k).max(4).next_multiple_of(4);
        for (number, part) in b.chunks(block * k).enumerate() {
            let j0 = number * block;
            dot.rows(k, a, part, &mut |i, j, sum| {
                let j = j0 + j;
                out[i * n + j] = match step.out.kind {
                    Kind::F32 => exponent(a_exponents, a0 + i)
                        .rescale(exponent(b_exponents, b0 + j), sum, step.width)
                        .to_bits(),
                    _ => sum as u32,
                };
            });
        }
        for axis in (0..index.len()).rev() {
            index[axis] += 1;
            if index[axis] < step.batch[axis] {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Runs a convolution; `out` is the result.
pub(crate) fn conv(
    step: &Conv,
    sources: &Sources<'_>,
    out: &mut [u32],
    dot: Dot,
    panel: &mut Vec<i32>,
) {
    let w = &step.window;
    let volume = |extents: &[u32; 3]| extents.iter().map(|&e| e as usize).product::<usize>();
    let (cin, cout) = (step.cin as usize, step.cout as usize);
    let (inputs, outputs, depth) = (volume(&w.input), volume(&w.output), cin * volume(&w.kernel));
    let input = sources.integers(&step.input_q);
    let weight = sources.integers(&step.weight_q);
    let input_exponents = sources.integers(&step.input_exponent);
    let weight_exponents = sources.integers(&step.weight_exponent);
    let positions = (PANEL_WORDS / depth).clamp(1, outputs);
    for (plane, out) in out.chunks_exact_mut(cout * outputs).enumerate() {
        let group = plane % step.groups as usize;
        let source = &input[plane * cin * inputs..(plane + 1) * cin * inputs];
        let weights = &weight[group * cout * depth..(group + 1) * cout * depth];
        let scale = exponent(input_exponents, plane);
        let mut first = 0;
        while first < outputs {
            let count = positions.min(outputs - first);
            panel.clear();
            panel.resize(count * depth, 0);
            for (i, row) in panel.chunks_exact_mut(depth).enumerate() {
                gather(step, source, first + i, row);
            }
            dot.rows(depth, weights, panel, &mut |c, p, sum| {
                out[c * outputs + first + p] = match step.out.kind {
                    Kind::F32 => exponent(weight_exponents, group * cout + c)
                        .rescale(scale, sum, step.width)
                        .to_bits(),
                    _ => sum as u32,
                };
            });
            first += count;
        }
    }
}

/// The inputs of one output position, in the order of a weight's row; what is outside stays zero.
fn gather(step: &Conv, source: &[i32], position: usize, row: &mut [i32]) {
    let w = &step.window;
    let [_, oy, oz] = w.output.map(|e| e as usize);
    let at = [position / (oy * oz), position / oz % oy, position % oz].map(|p| p as u32);
    let part = |axis: usize| inside(w, axis, at[axis], 0, i64::from(w.input[axis]));
    let [(x0, xs), (y0, ys), (z0, zs)] = [part(0), part(1), part(2)];
    let [ix, iy, iz] = w.input.map(|e| e as usize);
    let [kx, ky, kz] = w.kernel.map(|e| e as usize);
    for c in 0..step.cin as usize {
        for i in xs.clone() {
            let x = (x0 + i64::from(i) * i64::from(w.dilation[0])) as usize;
            for j in ys.clone() {
                let y = (y0 + i64::from(j) * i64::from(w.dilation[1])) as usize;
                let from = ((c * ix + x) * iy + y) * iz;
                let to = ((c * kx + i as usize) * ky + j as usize) * kz;
                let z = |k: u32| (z0 + i64::from(k) * i64::from(w.dilation[2])) as usize;
                for k in zs.clone() {
                    row[to + k as usize] = source[from + z(k)];
                }
            }
        }
    }
}
