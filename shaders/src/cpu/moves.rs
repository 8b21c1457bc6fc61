//! Steps that move elements: copies and reads at computed indices.

use crate::cpu::arena::{Sources, split_range};
use crate::cpu::map::read;
use crate::num::float::CANONICAL_NAN;
use crate::plan::{Copy, Kind, RANK_MAX, Take, View};

/// Calls `visit` with the offset, in elements, of the first element of each innermost run of two views.
fn runs(dims: &[u32], a: &View, b: &View, mut visit: impl FnMut(i64, i64)) {
    let outer = dims.len() - 1;
    let mut index = [0u32; RANK_MAX];
    let (mut x, mut y) = (0i64, 0i64);
    loop {
        visit(x, y);
        let mut axis = outer;
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            x += i64::from(a.strides[axis]);
            y += i64::from(b.strides[axis]);
            if index[axis] < dims[axis] {
                break;
            }
            index[axis] = 0;
            x -= i64::from(a.strides[axis]) * i64::from(dims[axis]);
            y -= i64::from(b.strides[axis]) * i64::from(dims[axis]);
        }
    }
}

/// First and last element that a view touches.
fn reach(dims: &[u32], view: &View) -> (i64, i64) {
    dims.iter()
        .zip(&view.strides)
        .fold((0, 0), |(low, high), (&dim, &stride)| {
            let far = i64::from(dim - 1) * i64::from(stride);
            (low + far.min(0), high + far.max(0))
        })
}

/// Runs a copy.
pub(crate) fn copy(step: &Copy, weights: &[u32], arena: &mut [u32]) {
    let per = i64::from(step.to.kind.words());
    let (low, high) = reach(&step.dims, &step.to);
    let start = i64::from(step.to.offset) + low * per;
    let words = ((high - low + 1) * per) as usize;
    let (out, sources) = split_range(arena, weights, start as usize, words);
    let (from, base) = sources.at(step.from.space, step.from.offset);
    let last = step.dims.len() - 1;
    let (in_stride, out_stride) = (
        i64::from(step.from.strides[last]),
        i64::from(step.to.strides[last]),
    );
    let count = step.dims[last] as usize;
    runs(&step.dims, &step.from, &step.to, |x, y| {
        let x = base as i64 + x * per;
        let y = (y - low) * per;
        if in_stride == 1 && out_stride == 1 {
            let words = count * per as usize;
            out[y as usize..y as usize + words]
                .copy_from_slice(&from[x as usize..x as usize + words]);
            return;
        }
        for i in 0..count as i64 {
            let (x, y) = (x + i * in_stride * per, y + i * out_stride * per);
            for w in 0..per {
                out[(y + w) as usize] = from[(x + w) as usize];
            }
        }
    });
}

/// Runs reads at computed indices; `out` is the result.
pub(crate) fn take(step: &Take, sources: &Sources<'_>, out: &mut [u32]) {
    let (data, data_base) = sources.at(step.data.space, step.data.offset);
    let (index, index_base) = sources.at(step.index.space, step.index.offset);
    let per = step.data.kind.words() as usize;
    let index_words = i64::from(step.index.kind.words());
    let last = step.dims.len() - 1;
    let poison = match step.data.kind {
        Kind::F32 => CANONICAL_NAN,
        _ => 0,
    };
    let mut elements = out.chunks_exact_mut(per);
    runs(&step.dims, &step.data, &step.index, |x, y| {
        for i in 0..i64::from(step.dims[last]) {
            let mut at = x + i * i64::from(step.data.strides[last]);
            let first = y + i * i64::from(step.index.strides[last]);
            let mut inside = true;
            for (c, component) in step.components.iter().enumerate() {
                let word = index_base as i64
                    + (first + c as i64 * i64::from(step.component_stride)) * index_words;
                let bits = read(index, word as usize, step.index.kind);
                let mut value = match step.index.kind {
                    Kind::I64 => bits as i64,
                    _ => i64::from(bits as i32),
                };
                let extent = i64::from(component.extent);
                if value < 0 {
                    value = value.saturating_add(extent);
                }
                if (0..extent).contains(&value) {
                    at += value * i64::from(component.stride);
                } else {
                    inside = false;
                }
            }
            let Some(element) = elements.next() else {
                return;
            };
            if inside {
                let word = (data_base as i64 + at * per as i64) as usize;
                element.copy_from_slice(&data[word..word + per]);
            } else {
                element.fill(poison);
            }
        }
    });
}
