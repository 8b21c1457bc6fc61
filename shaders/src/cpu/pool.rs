//! Windows over planes, and their pooling.

use crate::cpu::arena::Sources;
use crate::num;
use crate::plan::{Pool, PoolOp, Window};

/// Pools planes; `out` is the result.
pub(crate) fn pool(step: &Pool, sources: &Sources<'_>, out: &mut [u32]) {
    let input = sources.floats(&step.input);
    let out: &mut [f32] = bytemuck::cast_slice_mut(out);
    let w = &step.window;
    let volume = w.input.iter().map(|&d| d as usize).product::<usize>();
    let mut results = out.iter_mut();
    for plane in input.chunks_exact(volume) {
        for x in 0..w.output[0] {
            for y in 0..w.output[1] {
                for z in 0..w.output[2] {
                    let Some(result) = results.next() else {
                        return;
                    };
                    *result = window(step.op, w, plane, [x, y, z]);
                }
            }
        }
    }
}

/// The part of a window's positions along one axis that is inside `low..high`, as kernel indices.
pub(crate) fn inside(
    w: &Window,
    axis: usize,
    at: u32,
    low: i64,
    high: i64,
) -> (i64, std::ops::Range<u32>) {
    let start = i64::from(at) * i64::from(w.stride[axis]) - i64::from(w.pad_begin[axis]);
    let dilation = i64::from(w.dilation[axis]);
    let kernel = i64::from(w.kernel[axis]);
    // Ceiling division of the distance to each end.
    let first = ((low - start).max(0) + dilation - 1) / dilation;
    let end = ((high - start).max(0) + dilation - 1) / dilation;
    let first = first.min(kernel);
    (start, first as u32..end.clamp(first, kernel) as u32)
}

fn window(op: PoolOp, w: &Window, plane: &[f32], at: [u32; 3]) -> f32 {
    let part = |axis: usize| inside(w, axis, at[axis], 0, i64::from(w.input[axis]));
    let [(x0, xs), (y0, ys), (z0, zs)] = [part(0), part(1), part(2)];
    let mut best: Option<f32> = None;
    let mut sum = 0.0f32;
    let mut count = 0u32;
    for i in xs {
        let x = x0 + i64::from(i) * i64::from(w.dilation[0]);
        for j in ys.clone() {
            let y = y0 + i64::from(j) * i64::from(w.dilation[1]);
            for k in zs.clone() {
                let z = z0 + i64::from(k) * i64::from(w.dilation[2]);
                let value =
                    plane[((x * i64::from(w.input[1]) + y) * i64::from(w.input[2]) + z) as usize];
                match op {
                    PoolOp::Max => best = Some(best.map_or(value, |b| num::max(b, value))),
                    PoolOp::Average | PoolOp::AverageWithPad => sum += value,
                }
                count += 1;
            }
        }
    }
    match op {
        PoolOp::Max => best.unwrap_or(f32::NEG_INFINITY),
        PoolOp::Average => sum / count as f32,
        PoolOp::AverageWithPad => {
            let padded = |axis: usize| {
                let low = -i64::from(w.pad_begin[axis]);
                let high = i64::from(w.input[axis]) + i64::from(w.pad_end[axis]);
                inside(w, axis, at[axis], low, high).1.len() as u32
            };
            sum / (padded(0) * padded(1) * padded(2)) as f32
        }
    }
}
