//! Memory of a run: words on cache lines, and the parts of it that a step may see.

use crate::plan::{Buffer, Space};

/// A cache line of words.
#[derive(Clone, Copy, bytemuck::Zeroable, bytemuck::Pod)]
#[repr(C, align(64))]
struct Line([u32; 16]);

/// Words that begin on a cache line.
#[derive(Default)]
pub(crate) struct Words(Vec<Line>);

impl Words {
    /// At least `words` words; what was there before is anything.
    pub(crate) fn at_least(&mut self, words: usize) -> &mut [u32] {
        let lines = words.div_ceil(16);
        if self.0.len() < lines {
            self.0.resize(lines, Line([0; 16]));
        }
        &mut bytemuck::cast_slice_mut(&mut self.0)[..words]
    }

    /// All words that there are.
    pub(crate) fn all(&self) -> &[u32] {
        bytemuck::cast_slice(&self.0)
    }
}

/// What a step reads: all but the part that it writes.
#[derive(Clone, Copy)]
pub(crate) struct Sources<'a> {
    weights: &'a [u32],
    left: &'a [u32],
    right: &'a [u32],
    right_at: usize,
}

impl<'a> Sources<'a> {
    /// The words from a place on, and the index of that place among them: a view may walk back from it.
    pub(crate) fn at(&self, space: Space, offset: u32) -> (&'a [u32], usize) {
        let offset = offset as usize;
        match space {
            Space::Weights => (self.weights, offset),
            Space::Arena if offset < self.left.len() => (self.left, offset),
            Space::Arena => (self.right, offset - self.right_at),
        }
    }

    /// The words of a buffer.
    pub(crate) fn words(&self, buffer: &Buffer) -> &'a [u32] {
        let (words, at) = self.at(buffer.space, buffer.offset);
        &words[at..at + len(buffer)]
    }

    /// The floats of a buffer.
    pub(crate) fn floats(&self, buffer: &Buffer) -> &'a [f32] {
        bytemuck::cast_slice(self.words(buffer))
    }

    /// The integers of a buffer.
    pub(crate) fn integers(&self, buffer: &Buffer) -> &'a [i32] {
        bytemuck::cast_slice(self.words(buffer))
    }
}

fn len(buffer: &Buffer) -> usize {
    buffer.len as usize * buffer.kind.words() as usize
}

/// The words of `out`, to write, and everything else, to read.
pub(crate) fn split<'a>(
    arena: &'a mut [u32],
    weights: &'a [u32],
    out: &Buffer,
) -> (&'a mut [u32], Sources<'a>) {
    split_range(arena, weights, out.offset as usize, len(out))
}

/// As [`split`], for a run of words.
pub(crate) fn split_range<'a>(
    arena: &'a mut [u32],
    weights: &'a [u32],
    start: usize,
    words: usize,
) -> (&'a mut [u32], Sources<'a>) {
    let (left, rest) = arena.split_at_mut(start);
    let (out, right) = rest.split_at_mut(words);
    let sources = Sources {
        weights,
        left,
        right,
        right_at: start + words,
    };
    (out, sources)
}
