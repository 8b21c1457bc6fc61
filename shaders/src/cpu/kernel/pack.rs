//! Packed operands.
//!
//! A **row** has its parts one after another, each as 16-bit integers in order. A tile reads a pair of neighbours and spreads
//! it over a register.
//! A **panel** is [`LANES`] rows side by side: for each part, for each pair, one word a row. A tile reads a register of them.
//! What is beyond the last row or the last value of a row is zero.

use super::{Cut, Form, HIGH, LOW, form::for_each_form};
use crate::cpu::arena::Words;

/// Rows of a panel: the 32-bit lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;

/// Parts at most.
const PARTS_MAX: usize = 3;

/// Which operand it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    /// The first: rows.
    Rows,
    /// The second: panels of rows.
    Panels,
}

/// An operand in the form that tiles read. Packing again keeps the memory.
pub(crate) struct Packed {
    cut: Cut,
    side: Side,
    rows: usize,
    depth: usize,
    words: Words,
}

impl Default for Packed {
    fn default() -> Self {
        Self {
            cut: Cut::Whole,
            side: Side::Rows,
            rows: 0,
            depth: 0,
            words: Words::default(),
        }
    }
}

impl Packed {
    /// How its integers are cut.
    pub(super) fn cut(&self) -> Cut {
        self.cut
    }

    /// Rows of the operand.
    pub(super) fn rows(&self) -> usize {
        self.rows
    }

    /// Pairs of a row.
    pub(super) fn pairs(&self) -> usize {
        self.depth.div_ceil(2)
    }

    fn parts(&self) -> usize {
        match self.side {
            Side::Rows if self.cut != Cut::Twelve => 1,
            _ => self.cut.passes().len(),
        }
    }

    /// Words of a part of a row, or of a panel.
    fn part_words(&self) -> usize {
        match self.side {
            Side::Rows => self.pairs(),
            Side::Panels => self.pairs() * LANES,
        }
    }

    /// Words from a row, or from a panel, to the next.
    pub(super) fn stride(&self) -> usize {
        self.parts() * self.part_words()
    }

    /// Words of an operand of so many rows of so many values.
    pub(crate) fn words_of(cut: Cut, side: Side, [rows, depth]: [usize; 2]) -> usize {
        let planned = Self {
            cut,
            side,
            rows,
            depth,
            words: Words::default(),
        };
        planned.len()
    }

    fn len(&self) -> usize {
        match self.side {
            Side::Rows => self.rows * self.stride(),
            Side::Panels => self.rows.div_ceil(LANES) * self.stride(),
        }
    }

    /// A part of a row, or of a panel.
    pub(super) fn part(&self, number: usize, part: usize) -> &[i32] {
        let start = number * self.stride() + part * self.part_words();
        &bytemuck::cast_slice(self.words.all())[start..][..self.part_words()]
    }

    /// Whether it can be multiplied with the panels `b`.
    pub(super) fn fits(&self, b: &Self) -> bool {
        self.side == Side::Rows
            && b.side == Side::Panels
            && self.cut == b.cut
            && self.depth == b.depth
    }

    /// Packs rows of `depth` values, which stand one after another.
    pub(crate) fn pack(&mut self, form: Form, cut: Cut, side: Side, depth: usize, values: &[i32]) {
        (self.cut, self.side) = (cut, side);
        (self.rows, self.depth) = (values.len() / depth, depth);
        let (len, parts) = (self.len(), self.parts());
        let words = &mut self.words.at_least(len)[..len];
        match side {
            Side::Rows => pack_rows(form, cut, parts, depth, values, words),
            Side::Panels => pack_panels(form, cut, parts, depth, values, words),
        }
    }

    /// Packs panels of which the values stand side by side already: `columns` has, for each panel, for each of `depth`
    /// values, one of each of [`LANES`] rows.
    pub(crate) fn pack_columns(
        &mut self,
        form: Form,
        cut: Cut,
        [rows, depth]: [usize; 2],
        columns: &[i32],
    ) {
        (self.cut, self.side) = (cut, Side::Panels);
        (self.rows, self.depth) = (rows, depth);
        let (len, parts) = (self.len(), self.parts());
        let words = &mut self.words.at_least(len)[..len];
        pack_sides(form, cut, parts, depth, columns, words);
    }
}

/// A part of each of `values`; the parts are numbered as the second operand has them. A loop of its own for each part, so
/// that the compiler vectorises it.
#[inline(always)]
fn cut_part(cut: Cut, part: usize, values: &[i32], out: &mut [i16]) {
    match (cut, part) {
        (Cut::Twelve, LOW) => each(values, out, low::<12>),
        (Cut::Twelve, HIGH) => each(values, out, high::<12>),
        (Cut::Twelve, _) => each(values, out, |q| low::<12>(q) + high::<12>(q)),
        (Cut::Eight, LOW) => each(values, out, low::<8>),
        (Cut::Eight, HIGH) => each(values, out, high::<8>),
        (Cut::Eight | Cut::Whole, _) => each(values, out, |q| q),
    }
}

#[inline(always)]
fn each(values: &[i32], out: &mut [i16], part: impl Fn(i32) -> i32) {
    for (out, &q) in out.iter_mut().zip(values) {
        *out = part(q) as i16;
    }
}

/// The upper part where the lower has `BITS` bits, and a sign of its own.
#[inline(always)]
fn high<const BITS: u32>(q: i32) -> i32 {
    (q + (1 << (BITS - 1))) >> BITS
}

#[inline(always)]
fn low<const BITS: u32>(q: i32) -> i32 {
    q - (high::<BITS>(q) << BITS)
}

for_each_form! {
    fn pack_rows(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) = rows_body
}

#[inline(always)]
fn rows_body(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) {
    let words: &mut [i16] = bytemuck::cast_slice_mut(words);
    let even = depth.next_multiple_of(2);
    // The first operand takes the last part where it has one alone.
    let first = PARTS_MAX - parts;
    for (row, out) in values
        .chunks_exact(depth)
        .zip(words.chunks_exact_mut(parts * even))
    {
        for (number, out) in out.chunks_exact_mut(even).enumerate() {
            let (out, rest) = out.split_at_mut(depth);
            cut_part(cut, first + number, row, out);
            rest.fill(0);
        }
    }
}

/// Packs panels of rows that stand one after another.
fn pack_panels(
    form: Form,
    cut: Cut,
    parts: usize,
    depth: usize,
    values: &[i32],
    words: &mut [u32],
) {
    match form {
        Form::Portable => panels_body(cut, parts, depth, values, words, transpose_plain),
        // SAFETY: these variants are made where the processor has the instructions.
        #[cfg(target_arch = "x86_64")]
        Form::Avx2 => unsafe { super::avx2::pack_panels(cut, parts, depth, values, words) },
        #[cfg(target_arch = "x86_64")]
        Form::Avx512 => unsafe { super::avx512::pack_panels(cut, parts, depth, values, words) },
    }
}

/// Words of one part: for each row of a panel, or, transposed, for each pair.
pub(super) type Square = [[u32; LANES]; LANES];

/// What every `transpose` does, in plain Rust.
pub(super) fn transpose_plain(from: &Square, to: &mut Square) {
    for (i, row) in from.iter().enumerate() {
        for (j, &word) in row.iter().enumerate() {
            to[j][i] = word;
        }
    }
}

/// [`pack_panels`], a square of rows and pairs at a time.
#[inline(always)]
pub(super) fn panels_body(
    cut: Cut,
    parts: usize,
    depth: usize,
    values: &[i32],
    words: &mut [u32],
    transpose: impl Fn(&Square, &mut Square),
) {
    let part_words = depth.div_ceil(2) * LANES;
    let mut square: Square = [[0; LANES]; LANES];
    let mut turned: Square = square;
    let panels = values.chunks(LANES * depth);
    for (rows, panel) in panels.zip(words.chunks_exact_mut(parts * part_words)) {
        for (part, out) in panel.chunks_exact_mut(part_words).enumerate() {
            for (number, out) in out.chunks_mut(LANES * LANES).enumerate() {
                let start = number * 2 * LANES;
                let lanes = rows.chunks_exact(depth).map(|row| &row[start..]);
                let count = lanes.len();
                for (lane, row) in square.iter_mut().zip(lanes) {
                    let lane: &mut [i16; 2 * LANES] = bytemuck::cast_mut(lane);
                    match row.first_chunk::<{ 2 * LANES }>() {
                        Some(row) => cut_part(cut, part, row, lane),
                        None => {
                            lane.fill(0);
                            cut_part(cut, part, row, lane);
                        }
                    }
                }
                square[count..].fill([0; LANES]);
                match <&mut [[u32; LANES]]>::try_into(out.as_chunks_mut::<LANES>().0) {
                    Ok(out) => transpose(&square, out),
                    Err(_) => {
                        transpose(&square, &mut turned);
                        out.copy_from_slice(&turned.as_flattened()[..out.len()]);
                    }
                }
            }
        }
    }
}

for_each_form! {
    fn pack_sides(cut: Cut, parts: usize, depth: usize, columns: &[i32], words: &mut [u32]) = sides_body
}

#[inline(always)]
fn sides_body(cut: Cut, parts: usize, depth: usize, columns: &[i32], words: &mut [u32]) {
    let part_words = depth.div_ceil(2) * LANES;
    let panels = columns.chunks_exact(depth * LANES);
    for (columns, panel) in panels.zip(words.chunks_exact_mut(parts * part_words)) {
        let (pairs, odd) = columns.as_chunks::<{ 2 * LANES }>();
        for (part, out) in panel.chunks_exact_mut(part_words).enumerate() {
            let (out, last) = out.split_at_mut(pairs.len() * LANES);
            for (pair, out) in pairs.iter().zip(out.as_chunks_mut::<LANES>().0) {
                join(cut, part, pair, out);
            }
            if let (Ok(last), Ok(odd)) = (last.try_into(), <[i32; LANES]>::try_from(odd)) {
                let mut pair = [0; 2 * LANES];
                pair[..LANES].copy_from_slice(&odd);
                join(cut, part, &pair, last);
            }
        }
    }
}

/// Parts of two values of each row in a word, the first in the lower half.
#[inline(always)]
fn join(cut: Cut, part: usize, pair: &[i32; 2 * LANES], out: &mut [u32; LANES]) {
    let mut parts = [0i16; 2 * LANES];
    cut_part(cut, part, pair, &mut parts);
    let (first, second) = parts.split_at(LANES);
    for ((out, &x), &y) in out.iter_mut().zip(first).zip(second) {
        *out = u32::from(x as u16) | u32::from(y as u16) << 16;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn largest(cut: Cut) -> i32 {
        match cut {
            Cut::Twelve => crate::num::fixed::QUANTISED_MAX,
            Cut::Eight => i32::from(i16::MAX),
            Cut::Whole => 255,
        }
    }

    /// The word of a pair of a panel's row, by the definition.
    fn word(cut: Cut, part: usize, pair: [i32; 2]) -> u32 {
        let part = |q: i32| {
            let digit = match cut {
                Cut::Twelve => 12,
                Cut::Eight => 8,
                Cut::Whole => return q,
            };
            let high = (f64::from(q) / f64::from(1 << digit) + 0.5).floor() as i32;
            let low = q - (high << digit);
            [low, high, low + high][part]
        };
        u32::from(part(pair[0]) as u16) | u32::from(part(pair[1]) as u16) << 16
    }

    proptest! {
        #[test]
        fn every_form_packs_panels_of_rows_and_of_columns_as_the_definition_has_it(
            cut in prop_oneof![Just(Cut::Twelve), Just(Cut::Eight), Just(Cut::Whole)],
            rows in 1usize..40,
            depth in 1usize..80,
            seed in any::<u32>(),
        ) {
            let most = largest(cut);
            let mut state = seed;
            let values: Vec<i32> = (0..rows * depth)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    match state >> 29 {
                        0 => most,
                        1 => -most,
                        _ => (state >> 4) as i32 % (most + 1) * (1 - (state as i32 >> 3 & 2)),
                    }
                })
                .collect();
            let value = |row: usize, at: usize| match row < rows && at < depth {
                true => values[row * depth + at],
                false => 0,
            };
            let panels = rows.div_ceil(LANES);
            let mut columns = vec![0; panels * LANES * depth];
            for (i, column) in columns.iter_mut().enumerate() {
                *column = value(i / (LANES * depth) * LANES + i % LANES, i / LANES % depth);
            }
            for form in Form::all() {
                let (mut from_rows, mut from_columns) = (Packed::default(), Packed::default());
                from_rows.pack(form, cut, Side::Panels, depth, &values);
                from_columns.pack_columns(form, cut, [rows, depth], &columns);
                for panel in 0..panels {
                    for part in 0..cut.passes().len() {
                        let (found, other) = (from_rows.part(panel, part), from_columns.part(panel, part));
                        prop_assert_eq!(found, other, "{:?} part {}", form, part);
                        for (i, &found) in found.iter().enumerate() {
                            let (row, at) = (panel * LANES + i % LANES, i / LANES * 2);
                            let expect = word(cut, part, [value(row, at), value(row, at + 1)]);
                            prop_assert_eq!(found as u32, expect, "{:?} part {} word {}", form, part, i);
                        }
                    }
                }
            }
        }
    }
}
