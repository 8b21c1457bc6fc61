//! Steps over rows: folds, fixed point.

use crate::cpu::arena::{Sources, split};
use crate::cpu::kernel::{Form, for_each_form};
use crate::cpu::map::read;
use crate::cpu::scalar::{self, INTEGRAL};
use crate::num::float::{CANONICAL_NAN, from_order_key};
use crate::num::reduce::{BLOCK, LANES};
use crate::num::{self, Exponent, Width};
use crate::plan::{Kind, MapOp, Quantise, RANK_MAX, Reduce, ReduceOp, View};

/// Rows of a strided view, gathered one after another.
struct Gather<'a> {
    words: &'a [u32],
    base: i64,
    view: &'a View,
    rows: &'a [u32],
    cols: &'a [u32],
    index: [u32; RANK_MAX],
    offset: i64,
}

impl<'a> Gather<'a> {
    fn new(sources: &Sources<'a>, view: &'a View, rows: &'a [u32], cols: &'a [u32]) -> Self {
        let (words, base) = sources.at(view.space, view.offset);
        Self {
            words,
            base: base as i64,
            view,
            rows,
            cols,
            index: [0; RANK_MAX],
            offset: 0,
        }
    }

    /// The current row, if its elements stand one after another; else it is put into `scratch`.
    fn row<'s>(&self, scratch: &'s mut Vec<u32>) -> &'s [u32]
    where
        'a: 's,
    {
        let per = i64::from(self.view.kind.words());
        let strides = &self.view.strides[self.rows.len()..];
        let start = self.base + self.offset * per;
        if self.cols.len() == 1 && strides[0] == 1 {
            let words = self.cols[0] as usize * per as usize;
            return &self.words[start as usize..start as usize + words];
        }
        scratch.clear();
        let mut index = [0u32; RANK_MAX];
        let mut offset = 0i64;
        let last = self.cols.len() - 1;
        loop {
            let at = (start + offset * per) as usize;
            let count = self.cols[last] as usize;
            match (strides[last], per) {
                (1, _) => scratch.extend_from_slice(&self.words[at..at + count * per as usize]),
                (stride @ 1.., 1) => {
                    scratch.extend(self.words[at..].iter().step_by(stride as usize).take(count));
                }
                (stride, _) => scratch.extend((0..count as i64).flat_map(|i| {
                    let at = at as i64 + i * i64::from(stride) * per;
                    &self.words[at as usize..(at + per) as usize]
                })),
            }
            let mut axis = last;
            loop {
                if axis == 0 {
                    return scratch;
                }
                axis -= 1;
                index[axis] += 1;
                offset += i64::from(strides[axis]);
                if index[axis] < self.cols[axis] {
                    break;
                }
                index[axis] = 0;
                offset -= i64::from(strides[axis]) * i64::from(self.cols[axis]);
            }
        }
    }

    fn next(&mut self) {
        for axis in (0..self.rows.len()).rev() {
            self.index[axis] += 1;
            self.offset += i64::from(self.view.strides[axis]);
            if self.index[axis] < self.rows[axis] {
                return;
            }
            self.index[axis] = 0;
            self.offset -= i64::from(self.view.strides[axis]) * i64::from(self.rows[axis]);
        }
    }
}

/// Runs a fold; `out` is its result.
pub(crate) fn reduce(
    form: Form,
    step: &Reduce,
    sources: &Sources<'_>,
    out: &mut [u32],
    scratch: &mut Vec<u32>,
) {
    let mut gather = Gather::new(sources, &step.input, &step.rows, &step.cols);
    let kind = step.input.kind;
    for element in out.chunks_exact_mut(step.out.kind.words() as usize) {
        let bits = fold(form, step.op, kind, gather.row(scratch));
        element[0] = bits as u32;
        if let Some(high) = element.get_mut(1) {
            *high = (bits >> 32) as u32;
        }
        gather.next();
    }
}

fn fold(form: Form, op: ReduceOp, kind: Kind, row: &[u32]) -> u64 {
    let per = kind.words() as usize;
    let count = row.len() / per;
    let at = |i: usize| read(row, i * per, kind);
    let with = |op: MapOp| (1..count).fold(at(0), |a, i| scalar::eval(op, kind, a, at(i), 0));
    match (op, kind) {
        (ReduceOp::Sum, Kind::F32) => {
            let floats: &[f32] = bytemuck::cast_slice(row);
            u64::from(num::sum(floats).to_bits())
        }
        (ReduceOp::Prod, Kind::F32) => {
            let floats: &[f32] = bytemuck::cast_slice(row);
            u64::from(product(floats).to_bits())
        }
        (ReduceOp::Sum, _) => with(MapOp::Add),
        (ReduceOp::Prod, _) => with(MapOp::Mul),
        (ReduceOp::Min, Kind::F32) => u64::from(least(form, row)),
        (ReduceOp::Max, Kind::F32) => u64::from(largest(form, row)),
        (ReduceOp::Min, _) => with(MapOp::Min),
        (ReduceOp::Max, _) => with(MapOp::Max),
        (ReduceOp::ArgMin, _) => arg(count, |a, b| below(kind, at(a), at(b))),
        (ReduceOp::ArgMax, _) => arg(count, |a, b| above(kind, at(a), at(b))),
        (ReduceOp::ArgMinLast, _) => arg(count, |a, b| !below(kind, at(b), at(a))),
        (ReduceOp::ArgMaxLast, _) => arg(count, |a, b| !above(kind, at(b), at(a))),
    }
}

for_each_form! {
    /// The bits of the largest of a row of floats, by [`num::max`].
    fn largest(row: &[u32]) -> u32 = largest_body
}

for_each_form! {
    /// The bits of the smallest of a row of floats, by [`num::min`].
    fn least(row: &[u32]) -> u32 = least_body
}

#[inline(always)]
fn largest_body(row: &[u32]) -> u32 {
    extreme(row, i32::MIN, i32::max)
}

#[inline(always)]
fn least_body(row: &[u32]) -> u32 {
    extreme(row, i32::MAX, i32::min)
}

/// An extreme by order key, for which the order of the row does not matter; a NaN where there is one.
#[inline(always)]
fn extreme(row: &[u32], start: i32, better: impl Fn(i32, i32) -> i32) -> u32 {
    let (key, magnitude) = row.iter().fold((start, 0), |(key, magnitude), &bits| {
        let next = num::order_key(f32::from_bits(bits));
        (better(key, next), magnitude.max(bits & 0x7fff_ffff))
    });
    if magnitude > f32::INFINITY.to_bits() {
        return CANONICAL_NAN;
    }
    from_order_key(key).to_bits()
}

/// The product of `values`, over the tree of [`num::sum`], with lanes that begin at one.
fn product(values: &[f32]) -> f32 {
    let block = |values: &[f32]| {
        let mut lanes = [1.0f32; LANES];
        for (i, value) in values.iter().enumerate() {
            lanes[i % LANES] *= value;
        }
        for half in [4, 2, 1] {
            for j in 0..half {
                lanes[j] *= lanes[j + half];
            }
        }
        lanes[0]
    };
    if values.len() <= BLOCK {
        return block(values);
    }
    product(&values.chunks(BLOCK).map(block).collect::<Vec<_>>())
}

/// The index that wins: a later one replaces the best so far where `better(later, best)`.
fn arg(count: usize, better: impl Fn(usize, usize) -> bool) -> u64 {
    (1..count).fold(0, |best, i| if better(i, best) { i } else { best }) as u64
}

/// Whether `a` is strictly smaller; a NaN is smaller than any number.
fn below(kind: Kind, a: u64, b: u64) -> bool {
    let nan = |x: u64| kind == Kind::F32 && f32::from_bits(x as u32).is_nan();
    match (nan(a), nan(b)) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => scalar::eval(MapOp::Less, kind, a, b, 0) != 0,
    }
}

/// Whether `a` is strictly larger; a NaN is larger than any number.
fn above(kind: Kind, a: u64, b: u64) -> bool {
    let nan = |x: u64| kind == Kind::F32 && f32::from_bits(x as u32).is_nan();
    match (nan(a), nan(b)) {
        (_, true) => false,
        (true, false) => true,
        (false, false) => scalar::eval(MapOp::Less, kind, b, a, 0) != 0,
    }
}

/// Turns rows of floats to fixed point.
pub(crate) fn quantise(
    form: Form,
    step: &Quantise,
    weights: &[u32],
    arena: &mut [u32],
    scratch: &mut Vec<u32>,
    exponents: &mut Vec<u32>,
) {
    exponents.clear();
    let (out, sources) = split(arena, weights, &step.q);
    let out: &mut [i32] = bytemuck::cast_slice_mut(out);
    let mut gather = Gather::new(&sources, &step.input, &step.rows, &step.cols);
    let cols = step.q.len as usize / step.exponent.len as usize;
    for q in out.chunks_exact_mut(cols) {
        let row: &[f32] = bytemuck::cast_slice(gather.row(scratch));
        let exponent = quantise_row(form, row, q, step.width);
        exponents.push(u32::from(exponent.0));
        gather.next();
    }
    let (out, _) = split(arena, weights, &step.exponent);
    out.copy_from_slice(exponents);
}

for_each_form! {
    /// As [`num::fixed::quantise_into`], with the rounding of IEEE additions in the place of shifts.
    fn quantise_row(row: &[f32], q: &mut [i32], width: Width) -> Exponent = quantise_body
}

#[inline(always)]
fn quantise_body(row: &[f32], q: &mut [i32], width: Width) -> Exponent {
    let exponent = Exponent::of(row);
    if exponent == Exponent::NOT_FINITE {
        q.fill(0);
        return exponent;
    }
    // `x * 2^(unit - e)` has at most 24 bits, so both products are exact, unless the first falls below the normal range: it
    // is far below half a unit there, and becomes zero as it should.
    let [first, second] = scales(width.unit() - i32::from(exponent.0));
    let most = width.most();
    for (q, &x) in q.iter_mut().zip(row) {
        let scaled = x * first * second;
        // Less than 2^23: in the sum a unit is the mantissa's last bit, to which the addition rounds.
        let rounded = (scaled.abs() + INTEGRAL).to_bits() as i32 - INTEGRAL.to_bits() as i32;
        let sign = scaled.to_bits() as i32 >> 31;
        *q = (rounded.min(most) ^ sign) - sign;
    }
    exponent
}

/// Two normal floats of which the product is `2^power`; `power` is -113 to 148.
#[inline(always)]
fn scales(power: i32) -> [f32; 2] {
    let first = power.min(127);
    [first, power - first].map(|power| f32::from_bits(((power + 127) as u32) << 23))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn check(row: &[f32]) {
        for width in [Width::Bits24, Width::Bits16] {
            let mut expect = vec![0; row.len()];
            let exponent = num::fixed::quantise_into(row, &mut expect, width);
            for form in Form::all() {
                let mut found = vec![i32::MIN; row.len()];
                assert_eq!(
                    quantise_row(form, row, &mut found, width),
                    exponent,
                    "{form:?}"
                );
                assert_eq!(found, expect, "{form:?} {width:?} {row:?}");
            }
        }
    }

    #[test]
    fn hostile_rows_are_quantised_as_the_definition_has_it() {
        let least = f32::from_bits(1);
        for hostile in [f32::NAN, -f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            check(&[1.0, hostile, -2.5, 0.0]);
        }
        // Every exponent that a row can have, with values that fall on halves of a unit, just off them, and far below.
        for exponent in 0..=254u32 {
            let top = f32::from_bits(exponent << 23 | 0x7f_ffff);
            let mut row = vec![
                top,
                -top,
                0.0,
                -0.0,
                least,
                -least,
                f32::from_bits(exponent << 23 | 0x2a_aaab),
            ];
            for below in 1..=26u32 {
                for mantissa in [0, 1, 0x40_0000, 0x3f_ffff, 0x40_0001, 0x7f_ffff] {
                    let bits = exponent.saturating_sub(below) << 23 | mantissa;
                    row.extend([f32::from_bits(bits), -f32::from_bits(bits)]);
                }
            }
            check(&row);
        }
        check(&[least, -least, f32::from_bits(3), f32::MIN_POSITIVE]);
        check(&[0.0; 33]);
    }

    fn check_extremes(row: &[f32]) {
        let words: &[u32] = bytemuck::cast_slice(row);
        for form in Form::all() {
            let expect = row
                .iter()
                .copied()
                .reduce(num::max)
                .map(num::float::canonical);
            assert_eq!(Some(largest(form, words)), expect.map(f32::to_bits));
            let expect = row
                .iter()
                .copied()
                .reduce(num::min)
                .map(num::float::canonical);
            assert_eq!(Some(least(form, words)), expect.map(f32::to_bits));
        }
    }

    #[test]
    fn extremes_know_the_signs_of_zeros_infinities_and_nan() {
        check_extremes(&[-0.0, 0.0, -0.0]);
        check_extremes(&[0.0, -0.0]);
        check_extremes(&[f32::NEG_INFINITY, -1.0, f32::INFINITY]);
        check_extremes(&[-f32::NAN, 1.0]);
        check_extremes(&[f32::NAN]);
    }

    proptest! {
        #[test]
        fn any_row_is_quantised_as_the_definition_has_it(
            bits in proptest::collection::vec(any::<u32>(), 1..70),
            base in 0u32..=254,
            spread in 1u32..40,
        ) {
            // Any words, of which most rows have a NaN; and rows whose exponents lie close together.
            check(&bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>());
            check_extremes(&bits.iter().map(|&b| f32::from_bits(b)).collect::<Vec<_>>());
            let near = |b: &u32| (base.saturating_sub((b >> 23 & 0xff) % spread)) << 23 | b & 0x807f_ffff;
            let near: Vec<f32> = bits.iter().map(|b| f32::from_bits(near(b))).collect();
            check(&near);
            check_extremes(&near);
        }
    }
}
