//! Contractions: dot products of fixed-point rows, scaled and rounded once.
//!
//! Rows are packed for register tiles (`kernel`); those of weights are packed once per model and kept. What is too small to
//! gain by it goes row by row (`dot`).

use crate::cpu::arena::Sources;
use crate::cpu::dot;
use crate::cpu::float;
use crate::cpu::kernel::{self, Cut, Form, LANES, Packed, Side, TILE_LANES, for_each_form};
use crate::cpu::pool::inside;
use crate::num::{Exponent, Width};
use crate::plan::{Buffer, Contract, Conv, Kind, Plan, Space, Step};
use std::collections::BTreeMap;
use std::ops::Range;

/// Integers of the positions that a convolution gathers at a time: half of a second-level cache.
const GATHER_WORDS: usize = 64 << 10;

/// Words of a block of rows that stays in the first-level cache while other rows pass, where rows are not packed.
const BLOCK_WORDS: usize = 4 << 10;

/// Least number of rows on either side for which packing rows that are no weights pays: below, a tile is mostly empty.
const PACKED_ROWS_MIN: usize = 4;

/// Weights of one model, packed when they are first used: by place, length, depth and form.
#[derive(Default)]
pub(crate) struct Kept(BTreeMap<(usize, usize, usize, Side, Cut), Packed>);

impl Kept {
    fn pack(
        &mut self,
        form: Form,
        (cut, side): (Cut, Side),
        depth: usize,
        all: &Buffer,
        at: Range<usize>,
        values: &[i32],
    ) -> &Packed {
        let key = (all.offset as usize + at.start, at.len(), depth, side, cut);
        self.0.entry(key).or_insert_with(|| {
            let mut packed = Packed::default();
            packed.pack(form, cut, side, depth, &values[at]);
            packed
        })
    }
}

/// Words of a plan's weights when they are packed, on a processor that has tiles.
pub(crate) fn packed_words(plan: &Plan) -> u64 {
    let mut packs = BTreeMap::new();
    for step in &plan.steps {
        // Where the weights stand, how many operands are packed of them, and the rows and values of each.
        let (weights, side, width, count, size) = match step {
            Step::Contract(step) => {
                let moves = step
                    .batch
                    .iter()
                    .zip(&step.b.batch)
                    .filter(|(_, rows)| **rows > 0);
                let count = moves.map(|(&extent, _)| u64::from(extent)).product();
                (&step.b.q, Side::Panels, step.width, count, [step.n, step.k])
            }
            Step::Conv(step) => {
                let depth = step.weight_q.len / (step.groups * step.cout);
                let count = u64::from(step.groups);
                (
                    &step.weight_q,
                    Side::Rows,
                    step.width,
                    count,
                    [step.cout, depth],
                )
            }
            _ => continue,
        };
        if weights.space == Space::Weights && width != Width::Float {
            let cut = cut_of(width);
            let words = Packed::words_of(cut, side, size.map(|s| s as usize)) as u64;
            packs.insert(
                (weights.offset, size, side, cut),
                words.saturating_mul(count),
            );
        }
    }
    packs.values().sum()
}

/// Memory of a contraction.
#[derive(Default)]
pub(crate) struct Scratch {
    a: Packed,
    b: Packed,
    columns: Vec<i32>,
}

fn exponent(words: &[i32], i: usize) -> Exponent {
    Exponent(words[i] as u8)
}

/// How the integers of a width are cut for tiles.
const fn cut_of(width: Width) -> Cut {
    match width {
        // Floats are not packed.
        Width::Bits24 | Width::Float => Cut::Twelve,
        Width::Bits16 => Cut::Eight,
        Width::Whole => Cut::Whole,
    }
}

/// What a sum becomes.
#[derive(Clone, Copy)]
struct Finish {
    width: Width,
    kind: Kind,
}

impl Finish {
    /// The word of one sum of a row of exponent `row` with one of exponent `column`.
    #[inline(always)]
    fn word(self, row: Exponent, column: Exponent, sum: i64) -> u32 {
        match self.kind {
            Kind::F32 => row.rescale(column, sum, self.width).to_bits(),
            _ => sum as u32,
        }
    }
}

for_each_form! {
    /// The words of several sums of one row: [`Finish::word`], vectorised.
    fn finish(how: Finish, row: Exponent, columns: &[i32], sums: &[i64], out: &mut [u32]) = finish_body
}

#[inline(always)]
fn finish_body(how: Finish, row: Exponent, columns: &[i32], sums: &[i64], out: &mut [u32]) {
    let mut rare = u32::from(row == Exponent::NOT_FINITE || how.kind != Kind::F32);
    // The conversion rounds once; where scaling by a power of two is exact too, this is all: else it is done again below.
    let base = i32::from(row.0) - 2 * how.width.unit();
    for ((out, &column), &sum) in out.iter_mut().zip(columns).zip(sums) {
        let power = base + column;
        let scaled = sum as f32 * f32::from_bits(((power + 127) as u32) << 23);
        *out = scaled.to_bits();
        let normal = scaled.abs() >= f32::MIN_POSITIVE || sum == 0;
        let exact = (-126..=127).contains(&power) && column != i32::from(Exponent::NOT_FINITE.0);
        rare |= u32::from(!(normal && exact));
    }
    if rare != 0 {
        for ((out, &column), &sum) in out.iter_mut().zip(columns).zip(sums) {
            *out = how.word(row, Exponent(column as u8), sum);
        }
    }
}

/// Runs products of rows; `out` is the result.
pub(crate) fn contract(
    form: Form,
    step: &Contract,
    sources: &Sources<'_>,
    out: &mut [u32],
    scratch: &mut Scratch,
    kept: &mut Kept,
) {
    if step.width == Width::Float {
        return float::contract(step, sources, out);
    }
    let [m, n, k] = [step.m as usize, step.n as usize, step.k as usize];
    let (a_all, b_all) = (sources.integers(&step.a.q), sources.integers(&step.b.q));
    let (a_exponents, b_exponents) = (
        sources.integers(&step.a.exponent),
        sources.integers(&step.b.exponent),
    );
    let cut = cut_of(step.width);
    let how = Finish {
        width: step.width,
        kind: step.out.kind,
    };
    let weights = step.b.q.space == Space::Weights;
    let tiles = form.has_tiles() && n >= PACKED_ROWS_MIN && (weights || m >= PACKED_ROWS_MIN);
    for (out, [a0, b0]) in out.chunks_exact_mut(m * n).zip(step.batches()) {
        let a = &a_all[a0 * k..(a0 + m) * k];
        let b_range = b0 * k..(b0 + n) * k;
        if tiles {
            let Scratch {
                a: rows, b: panels, ..
            } = scratch;
            rows.pack(form, cut, Side::Rows, k, a);
            let panels = if weights {
                kept.pack(form, (cut, Side::Panels), k, &step.b.q, b_range, b_all)
            } else {
                panels.pack(form, cut, Side::Panels, k, &b_all[b_range]);
                panels
            };
            kernel::multiply(form, rows, panels, &mut |i, j, sums| {
                let row = exponent(a_exponents, a0 + i);
                let columns = &b_exponents[b0 + j..][..sums.len()];
                finish(
                    form,
                    how,
                    row,
                    columns,
                    sums,
                    &mut out[i * n + j..][..sums.len()],
                );
            });
        } else {
            // Blocks of rows of `b` stay in the cache while all of `a` passes.
            let block = (BLOCK_WORDS / k).max(4).next_multiple_of(4);
            for (number, part) in b_all[b_range].chunks(block * k).enumerate() {
                let j0 = number * block;
                dot::rows(form, k, a, part, &mut |i, j, sum| {
                    let j = j0 + j;
                    let (a, b) = (exponent(a_exponents, a0 + i), exponent(b_exponents, b0 + j));
                    out[i * n + j] = how.word(a, b, sum);
                });
            }
        }
    }
}

/// Runs a convolution; `out` is the result.
pub(crate) fn conv(
    form: Form,
    step: &Conv,
    sources: &Sources<'_>,
    out: &mut [u32],
    scratch: &mut Scratch,
    kept: &mut Kept,
) {
    if step.width == Width::Float {
        return float::conv(step, sources, out, &mut scratch.columns);
    }
    let w = &step.window;
    let volume = |extents: &[u32; 3]| extents.iter().map(|&e| e as usize).product::<usize>();
    let (cin, cout) = (step.cin as usize, step.cout as usize);
    let (inputs, outputs, depth) = (volume(&w.input), volume(&w.output), cin * volume(&w.kernel));
    let input = sources.integers(&step.input_q);
    let weight = sources.integers(&step.weight_q);
    let input_exponents = sources.integers(&step.input_exponent);
    let weight_exponents = sources.integers(&step.weight_exponent);
    let cut = cut_of(step.width);
    let how = Finish {
        width: step.width,
        kind: step.out.kind,
    };
    let most = (GATHER_WORDS / depth / LANES).max(1) * LANES;
    let Scratch {
        a: rows,
        b: panels,
        columns,
    } = scratch;
    for (plane, out) in out.chunks_exact_mut(cout * outputs).enumerate() {
        let group = plane % step.groups as usize;
        let source = &input[plane * cin * inputs..(plane + 1) * cin * inputs];
        let range = group * cout * depth..(group + 1) * cout * depth;
        let scale = exponent(input_exponents, plane);
        let scales = [i32::from(scale.0); TILE_LANES];
        let channel = |c: usize| exponent(weight_exponents, group * cout + c);
        let rows = match form.has_tiles() {
            false => None,
            true if step.weight_q.space == Space::Weights => {
                let kind = (cut, Side::Rows);
                Some(kept.pack(form, kind, depth, &step.weight_q, range.clone(), weight))
            }
            true => {
                rows.pack(form, cut, Side::Rows, depth, &weight[range.clone()]);
                Some(&*rows)
            }
        };
        for first in (0..outputs).step_by(most) {
            let count = most.min(outputs - first);
            columns.clear();
            columns.resize(count.next_multiple_of(LANES) * depth, 0);
            let Some(rows) = rows else {
                for (position, row) in columns.chunks_exact_mut(depth).take(count).enumerate() {
                    gather(step, source, first + position, row);
                }
                let columns = &columns[..count * depth];
                dot::rows(
                    form,
                    depth,
                    &weight[range.clone()],
                    columns,
                    &mut |c, p, sum| {
                        out[c * outputs + first + p] = how.word(channel(c), scale, sum);
                    },
                );
                continue;
            };
            for (panel, columns) in columns.chunks_exact_mut(LANES * depth).enumerate() {
                let from = first + panel * LANES;
                let positions = from..(first + count).min(from + LANES);
                gather_panel(step, source, positions, LANES, columns);
            }
            panels.pack_columns(form, cut, [count, depth], columns);
            kernel::multiply(form, rows, panels, &mut |c, p, sums| {
                let out = &mut out[c * outputs + first + p..][..sums.len()];
                finish(form, how, channel(c), &scales[..sums.len()], sums, out);
            });
        }
    }
}

/// An output position's index over the three spatial dimensions.
fn position_index(step: &Conv, position: usize) -> [u32; 3] {
    let [_, oy, oz] = step.window.output.map(|e| e as usize);
    [position / (oy * oz), position / oz % oy, position % oz].map(|p| p as u32)
}

/// The inputs of one output position, in the order of a weight's row; what is outside stays zero.
fn gather(step: &Conv, source: &[i32], position: usize, row: &mut [i32]) {
    let w = &step.window;
    let at = position_index(step, position);
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

/// The inputs of up to `lanes` output positions side by side: for each value of a weight's row, one of each position. What
/// is outside stays zero.
#[inline(always)]
pub(super) fn gather_panel(
    step: &Conv,
    source: &[i32],
    positions: Range<usize>,
    lanes: usize,
    columns: &mut [i32],
) {
    let w = &step.window;
    let [ix, iy, iz] = w.input.map(|e| e as usize);
    let [kx, ky, kz] = w.kernel.map(|e| e as usize);
    let oz = w.output[2] as usize;
    let mut position = positions.start;
    // Positions of one row of outputs read one row of inputs.
    while position < positions.end {
        let at = position_index(step, position);
        let lane = position - positions.start;
        let run = (oz - at[2] as usize).min(positions.end - position);
        let part = |axis: usize| inside(w, axis, at[axis], 0, i64::from(w.input[axis]));
        let [(x0, xs), (y0, ys)] = [part(0), part(1)];
        let stride = w.stride[2] as usize;
        let z0 = i64::from(at[2]) * i64::from(w.stride[2]) - i64::from(w.pad_begin[2]);
        for k in 0..kz {
            let start = z0 + k as i64 * i64::from(w.dilation[2]);
            // Lanes before `low` read in front of the row, those from `high` on behind it.
            let low = ((-start).max(0) as usize).div_ceil(stride).min(run);
            let high = ((iz as i64 - start).max(0) as usize)
                .div_ceil(stride)
                .clamp(low, run);
            if low == high {
                continue;
            }
            let z = (start + (low * stride) as i64) as usize;
            for c in 0..step.cin as usize {
                for i in xs.clone() {
                    let x = (x0 + i64::from(i) * i64::from(w.dilation[0])) as usize;
                    for j in ys.clone() {
                        let y = (y0 + i64::from(j) * i64::from(w.dilation[1])) as usize;
                        let from = &source[((c * ix + x) * iy + y) * iz + z..];
                        let to = ((c * kx + i as usize) * ky + j as usize) * kz + k;
                        let to = &mut columns[to * lanes + lane + low..][..high - low];
                        if stride == 1 {
                            to.copy_from_slice(&from[..to.len()]);
                        } else {
                            for (to, from) in to.iter_mut().zip(from.iter().step_by(stride)) {
                                *to = *from;
                            }
                        }
                    }
                }
            }
        }
        position += run;
    }
}
