//! Packed operands.
//!
//! A **row** has its parts one after another, each as 16-bit integers in order. A tile reads a pair of neighbours and spreads
//! it over a register.
//! A **panel** is [`LANES`] rows side by side: for each part, for each pair, one word a row. A tile reads a register of them.
//! What is beyond the last row or the last value of a row is zero.

use super::{Cut, Form, form::for_each_form};
use crate::cpu::arena::Words;

/// Rows of a panel: the 32-bit lanes of a 512-bit register.
pub(crate) const LANES: usize = 16;

/// Values that are cut at a time.
const BLOCK: usize = 32;

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

/// The 16-bit parts of up to [`BLOCK`] values.
type Parts = [[i16; BLOCK]; PARTS_MAX];

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

/// The parts of a value, as the second operand has them; the first takes the last of them where it has one alone.
#[inline(always)]
fn cut_value(cut: Cut, q: i32) -> [i16; PARTS_MAX] {
    match cut {
        Cut::Twelve => {
            let high = (q + (1 << 11)) >> 12;
            let low = q - (high << 12);
            [low as i16, high as i16, (low + high) as i16]
        }
        Cut::Eight => {
            let high = (q + (1 << 7)) >> 8;
            [(q - (high << 8)) as i16, high as i16, q as i16]
        }
        Cut::Whole => [q as i16; PARTS_MAX],
    }
}

#[inline(always)]
fn cut_block(cut: Cut, values: &[i32], parts: &mut Parts) {
    let mut block = [0i32; BLOCK];
    block[..values.len()].copy_from_slice(values);
    let [x, y, z] = parts;
    for (((q, x), y), z) in block.iter().zip(x).zip(y).zip(z) {
        [*x, *y, *z] = cut_value(cut, *q);
    }
}

for_each_form! {
    fn pack_rows(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) = rows_body
}

#[inline(always)]
fn rows_body(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) {
    let words: &mut [i16] = bytemuck::cast_slice_mut(words);
    let even = depth.next_multiple_of(2);
    let mut block: Parts = [[0; BLOCK]; PARTS_MAX];
    for (row, out) in values
        .chunks_exact(depth)
        .zip(words.chunks_exact_mut(parts * even))
    {
        for (number, values) in row.chunks(BLOCK).enumerate() {
            cut_block(cut, values, &mut block);
            let count = values.len().next_multiple_of(2);
            let from = &block[PARTS_MAX - parts..];
            for (out, part) in out.chunks_exact_mut(even).zip(from) {
                out[number * BLOCK..][..count].copy_from_slice(&part[..count]);
            }
        }
    }
}

for_each_form! {
    fn pack_panels(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) = panels_body
}

#[inline(always)]
fn panels_body(cut: Cut, parts: usize, depth: usize, values: &[i32], words: &mut [u32]) {
    let part_words = depth.div_ceil(2) * LANES;
    let mut block: Parts = [[0; BLOCK]; PARTS_MAX];
    let panels = values.chunks(LANES * depth);
    for (rows, panel) in panels.zip(words.chunks_exact_mut(parts * part_words)) {
        if rows.len() < LANES * depth {
            panel.fill(0);
        }
        for (lane, row) in rows.chunks_exact(depth).enumerate() {
            for (number, values) in row.chunks(BLOCK).enumerate() {
                cut_block(cut, values, &mut block);
                let outs = panel.chunks_exact_mut(part_words);
                for (out, part) in outs.zip(&block[..parts]) {
                    let out = out[number * BLOCK / 2 * LANES..].iter_mut().skip(lane);
                    let pairs = part.as_chunks::<2>().0;
                    for (out, pair) in out.step_by(LANES).zip(pairs) {
                        *out = join(pair[0], pair[1]);
                    }
                }
            }
        }
    }
}

/// Two neighbours in a word, the first in the lower half.
#[inline(always)]
fn join(first: i16, second: i16) -> u32 {
    u32::from(first as u16) | u32::from(second as u16) << 16
}

for_each_form! {
    fn pack_sides(cut: Cut, parts: usize, depth: usize, columns: &[i32], words: &mut [u32]) = sides_body
}

#[inline(always)]
fn sides_body(cut: Cut, parts: usize, depth: usize, columns: &[i32], words: &mut [u32]) {
    let part_words = depth.div_ceil(2) * LANES;
    let panels = columns.chunks_exact(depth * LANES);
    for (columns, panel) in panels.zip(words.chunks_exact_mut(parts * part_words)) {
        for (number, pair) in columns.chunks(2 * LANES).enumerate() {
            let (first, second) = pair.split_at(LANES);
            let mut both = [[0i32; LANES]; 2];
            both[0].copy_from_slice(first);
            if let Ok(second) = second.try_into() {
                both[1] = second;
            }
            for (part, out) in panel.chunks_exact_mut(part_words).enumerate() {
                let out = &mut out[number * LANES..][..LANES];
                for ((out, &x), &y) in out.iter_mut().zip(&both[0]).zip(&both[1]) {
                    *out = join(cut_value(cut, x)[part], cut_value(cut, y)[part]);
                }
            }
        }
    }
}
