//! From pending steps to a plan: programs joined, dimensions merged, places given.

use crate::memory::Memory;
use crate::plan::alloc::Arena;
use crate::plan::build::{Builder, Pending, Ref, Refuse, Result};
use crate::plan::prepared::align;
use crate::plan::{
    Arg, Buffer, Instr, LOADS_MAX, Map, PROGRAM_MAX, Place, Plan, Space, Step, Tensor, View,
};

impl Builder<'_> {
    /// The plan: `inputs` stand in buffers of their own, `outputs` are what is wanted.
    pub(crate) fn finish(mut self, inputs: &[Tensor], outputs: &[Tensor]) -> Result<Plan> {
        let mut found = Vec::new();
        for output in outputs {
            found.push(self.output(output)?);
        }
        let wanted: Vec<Ref> = found.iter().map(|f| f.1).collect();
        let mut steps = without_dead(self.steps, &wanted, self.virtuals.len());
        fuse(&mut steps, &wanted, self.virtuals.len());
        for pending in &mut steps {
            merge_dimensions(&mut pending.step);
        }

        let locals_words = align(self.locals.words.len() as u64);
        let mut places = Places::new(&steps, &wanted, self.virtuals, locals_words);
        let mut slots = Vec::new();
        for input in inputs {
            let Place::Virtual(id) = input.place else {
                return Err(Refuse::Invalid("an input is no buffer".into()));
            };
            slots.push(Buffer {
                space: Space::Arena,
                kind: input.kind(),
                offset: 0,
                len: input.len() as u32,
            });
            places.open(id as usize);
        }
        for (at, pending) in steps.iter().enumerate() {
            for place in &pending.refs {
                if let Ref::Virtual(id) = place {
                    places.open(*id as usize);
                }
            }
            places.close(at);
        }
        let arena_words = places.arena.words();
        if arena_words > self.limits.arena_words_max {
            return Err(Refuse::Limit {
                what: "words of the arena",
                found: arena_words,
                limit: self.limits.arena_words_max,
            });
        }
        for (slot, input) in slots.iter_mut().zip(inputs) {
            if let Place::Virtual(id) = input.place {
                (slot.space, slot.offset) = places.of(Ref::Virtual(id));
            }
        }
        let steps = steps
            .into_iter()
            .map(|mut pending| {
                for (touch, place) in pending.step.touches().into_iter().zip(&pending.refs) {
                    let (space, base) = places.of(*place);
                    *touch.space = space;
                    *touch.offset += base;
                }
                pending.step
            })
            .collect();
        let place_output = |(mut buffer, place): (Buffer, Ref)| {
            let (space, base) = places.of(place);
            buffer.space = space;
            buffer.offset += base;
            buffer
        };
        let plan = Plan {
            inputs: slots,
            outputs: found.into_iter().map(place_output).collect(),
            output_shapes: outputs.iter().map(|t| t.dims.clone()).collect(),
            locals: self.locals.words,
            arena_words: arena_words as u32,
            steps,
            macs: self.macs,
            touched: self.touched,
        };
        let memory = Memory::of(&plan, self.access.pool().words.len() as u64);
        if memory.words() > self.limits.memory_words_max {
            return Err(Refuse::Limit {
                what: "words of weights, packed weights and the arena",
                found: memory.words(),
                limit: self.limits.memory_words_max,
            });
        }
        Ok(plan)
    }
}

/// Places of buffers in the arena, over the time of the steps.
struct Places {
    words: Vec<u64>,
    offsets: Vec<Option<u64>>,
    /// Step that touches a buffer last.
    last: Vec<usize>,
    /// Buffers to close after a step.
    closing: Vec<Vec<usize>>,
    arena: Arena,
}

impl Places {
    fn new(steps: &[Pending], wanted: &[Ref], words: Vec<u64>, locals: u64) -> Self {
        let end = steps.len();
        // What no step touches is an input without a reader, or an output that is an input: it stays.
        let mut last = vec![end; words.len()];
        for (at, pending) in steps.iter().enumerate() {
            for place in &pending.refs {
                if let Ref::Virtual(id) = place {
                    last[*id as usize] = at;
                }
            }
        }
        for place in wanted {
            if let Ref::Virtual(id) = place {
                last[*id as usize] = end;
            }
        }
        Self {
            offsets: vec![None; words.len()],
            words,
            last,
            closing: vec![Vec::new(); end + 1],
            arena: Arena::after(locals),
        }
    }

    fn open(&mut self, id: usize) {
        if self.offsets[id].is_none() {
            self.offsets[id] = Some(self.arena.take(self.words[id]));
            self.closing[self.last[id]].push(id);
        }
    }

    fn close(&mut self, step: usize) {
        for id in std::mem::take(&mut self.closing[step]) {
            let offset = self.offsets[id].expect("a buffer is opened before it is closed");
            self.arena.give(offset, self.words[id]);
        }
    }

    fn of(&self, place: Ref) -> (Space, u32) {
        match place {
            Ref::Weights(offset) => (Space::Weights, offset),
            Ref::Local(offset) => (Space::Arena, offset),
            Ref::Virtual(id) => {
                let offset = self.offsets[id as usize].unwrap_or(0);
                (Space::Arena, offset as u32)
            }
        }
    }
}

/// The virtual buffers that a pending step writes, and those that it reads.
fn split(pending: &mut Pending) -> (Vec<u32>, Vec<u32>) {
    let (mut writes, mut reads) = (Vec::new(), Vec::new());
    for (touch, place) in pending.step.touches().into_iter().zip(&pending.refs) {
        if let Ref::Virtual(id) = place {
            if touch.write {
                writes.push(*id);
            } else {
                reads.push(*id);
            }
        }
    }
    (writes, reads)
}

/// Drops steps whose results nobody reads.
fn without_dead(steps: Vec<Pending>, wanted: &[Ref], buffers: usize) -> Vec<Pending> {
    let mut needed = vec![false; buffers];
    for place in wanted {
        if let Ref::Virtual(id) = place {
            needed[*id as usize] = true;
        }
    }
    let mut kept = Vec::with_capacity(steps.len());
    for mut pending in steps.into_iter().rev() {
        let (writes, reads) = split(&mut pending);
        if writes.iter().any(|&id| needed[id as usize]) {
            for id in reads {
                needed[id as usize] = true;
            }
            kept.push(pending);
        }
    }
    kept.reverse();
    kept
}

/// Joins maps: one whose result is read by one map alone, index by index, becomes part of it. The operations and their
/// order stay, so the bits do.
fn fuse(steps: &mut Vec<Pending>, wanted: &[Ref], buffers: usize) {
    let mut uses = vec![0u32; buffers];
    for pending in steps.iter_mut() {
        for id in split(pending).1 {
            uses[id as usize] += 1;
        }
    }
    for place in wanted {
        if let Ref::Virtual(id) = place {
            uses[*id as usize] += 1;
        }
    }
    let mut writers = vec![0u32; buffers];
    for pending in steps.iter_mut() {
        for id in split(pending).0 {
            writers[id as usize] += 1;
        }
    }
    // A buffer that several steps write in parts is not a map's alone.
    for (used, &writers) in uses.iter_mut().zip(&writers) {
        if writers != 1 {
            *used = 0;
        }
    }
    let mut producer = vec![None; buffers];
    let mut slots: Vec<Option<Pending>> = Vec::with_capacity(steps.len());
    for mut pending in steps.drain(..) {
        while let Some(earlier) = absorbable(&pending, &slots, &producer, &uses) {
            let first = slots[earlier.0].take().expect("it was just found");
            pending = joined(first, pending, earlier.1);
        }
        if matches!(pending.step, Step::Map(_)) {
            let (writes, _) = split(&mut pending);
            for id in writes {
                producer[id as usize] = Some(slots.len());
            }
        }
        slots.push(Some(pending));
    }
    steps.extend(slots.into_iter().flatten());
}

/// A map that `later` may take in: its slot, and the number of the load that reads it.
fn absorbable(
    later: &Pending,
    slots: &[Option<Pending>],
    producer: &[Option<usize>],
    uses: &[u32],
) -> Option<(usize, usize)> {
    let Step::Map(map) = &later.step else {
        return None;
    };
    map.loads.iter().enumerate().find_map(|(number, load)| {
        let Ref::Virtual(id) = later.refs[number] else {
            return None;
        };
        if uses[id as usize] != 1 || load.offset != 0 || !walks_all(load, &map.dims) {
            return None;
        }
        let slot = producer[id as usize]?;
        let first = slots[slot].as_ref()?;
        let Step::Map(earlier) = &first.step else {
            return None;
        };
        if earlier.dims != map.dims
            || earlier.program.len() + map.program.len() > PROGRAM_MAX
            || joined_loads(first, later, number).len() > LOADS_MAX
        {
            return None;
        }
        Some((slot, number))
    })
}

/// Whether a view reads a contiguous buffer of `dims` in order.
fn walks_all(view: &View, dims: &[u32]) -> bool {
    let mut stride = 1i64;
    for (&dim, &have) in dims.iter().zip(&view.strides).rev() {
        if dim != 1 && i64::from(have) != stride {
            return false;
        }
        stride *= i64::from(dim);
    }
    true
}

/// Loads of both maps without the one that is replaced, each once.
fn joined_loads(first: &Pending, later: &Pending, number: usize) -> Vec<(View, Ref)> {
    let mut out: Vec<(View, Ref)> = Vec::new();
    let mut add = |pending: &Pending, skip: Option<usize>| {
        let Step::Map(map) = &pending.step else {
            return;
        };
        for (i, (view, place)) in map.loads.iter().zip(&pending.refs).enumerate() {
            if Some(i) != skip && !out.iter().any(|(v, p)| v == view && p == place) {
                out.push((view.clone(), *place));
            }
        }
    };
    add(first, None);
    add(later, Some(number));
    out
}

fn joined(first: Pending, later: Pending, number: usize) -> Pending {
    let loads = joined_loads(&first, &later, number);
    let (Step::Map(earlier), Step::Map(map)) = (&first.step, &later.step) else {
        return later;
    };
    let place_of = |source: &Pending, view: &View, i: usize| {
        let at = loads
            .iter()
            .position(|(v, p)| v == view && *p == source.refs[i]);
        Arg::Load(at.expect("every load was taken over") as u8)
    };
    let shift = earlier.program.len() as u8;
    let mut program = Vec::new();
    let moved = |instr: &Instr, f: &dyn Fn(Arg) -> Arg| Instr {
        args: instr.args.map(f),
        ..*instr
    };
    for instr in &earlier.program {
        program.push(moved(instr, &|arg| match arg {
            Arg::Load(i) => place_of(&first, &earlier.loads[i as usize], i as usize),
            other => other,
        }));
    }
    for instr in &map.program {
        program.push(moved(instr, &|arg| match arg {
            Arg::Load(i) if i as usize == number => Arg::Reg(shift - 1),
            Arg::Load(i) => place_of(&later, &map.loads[i as usize], i as usize),
            Arg::Reg(r) => Arg::Reg(r + shift),
            other => other,
        }));
    }
    let mut refs: Vec<Ref> = loads.iter().map(|(_, p)| *p).collect();
    refs.push(later.refs[map.loads.len()]);
    Pending {
        step: Step::Map(Map {
            dims: map.dims.clone(),
            loads: loads.into_iter().map(|(v, _)| v).collect(),
            program,
            out: map.out,
        }),
        refs,
    }
}

/// Walks adjacent dimensions as one where every view allows it, and drops those of extent 1. The walk of the result,
/// where there is one, is contiguous and so always allows it. At least `least` dimensions stay.
fn merge(dims: &mut Vec<u32>, views: &mut [&mut Vec<i32>], least: usize) {
    let mut axis = 0;
    while axis < dims.len() && dims.len() > least {
        if dims[axis] == 1 {
            dims.remove(axis);
            for view in views.iter_mut() {
                view.remove(axis);
            }
        } else {
            axis += 1;
        }
    }
    let mut axis = dims.len();
    while axis > 1 {
        axis -= 1;
        let inner = i64::from(dims[axis]);
        let fits = views
            .iter()
            .all(|v| i64::from(v[axis - 1]) == i64::from(v[axis]) * inner);
        if fits && dims.len() > least {
            dims[axis - 1] *= dims[axis];
            dims.remove(axis);
            for view in views.iter_mut() {
                view[axis - 1] = view[axis];
                view.remove(axis);
            }
        }
    }
}

fn merge_dimensions(step: &mut Step) {
    match step {
        Step::Map(s) => {
            pad_rank(&mut s.dims, s.loads.iter_mut().map(|v| &mut v.strides));
            let mut views: Vec<_> = s.loads.iter_mut().map(|v| &mut v.strides).collect();
            merge(&mut s.dims, &mut views, 1);
        }
        Step::Copy(s) => {
            pad_rank(
                &mut s.dims,
                [&mut s.from.strides, &mut s.to.strides].into_iter(),
            );
            merge(
                &mut s.dims,
                &mut [&mut s.from.strides, &mut s.to.strides],
                1,
            );
        }
        Step::Take(s) => {
            pad_rank(
                &mut s.dims,
                [&mut s.data.strides, &mut s.index.strides].into_iter(),
            );
            merge(
                &mut s.dims,
                &mut [&mut s.data.strides, &mut s.index.strides],
                1,
            );
        }
        Step::Reduce(s) => merge_rows(&mut s.rows, &mut s.cols, &mut s.input.strides),
        Step::Quantise(s) => merge_rows(&mut s.rows, &mut s.cols, &mut s.input.strides),
        Step::Contract(_) | Step::Conv(_) | Step::Pool(_) | Step::Trees(_) => {}
    }
}

fn merge_rows(rows: &mut Vec<u32>, cols: &mut Vec<u32>, strides: &mut Vec<i32>) {
    let mut col_strides = strides.split_off(rows.len());
    pad_rank(cols, [&mut col_strides].into_iter());
    merge(rows, &mut [strides], 0);
    merge(cols, &mut [&mut col_strides], 1);
    strides.append(&mut col_strides);
}

/// A scalar is walked as one dimension of extent 1.
fn pad_rank<'a>(dims: &mut Vec<u32>, views: impl Iterator<Item = &'a mut Vec<i32>>) {
    if dims.is_empty() {
        dims.push(1);
        for view in views {
            view.push(0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(dims: &[u32], views: &[&[i32]], expect: (&[u32], &[&[i32]])) {
        let mut dims = dims.to_vec();
        let mut views: Vec<Vec<i32>> = views.iter().map(|v| v.to_vec()).collect();
        merge(&mut dims, &mut views.iter_mut().collect::<Vec<_>>(), 1);
        assert_eq!(dims, expect.0);
        assert_eq!(views, expect.1);
    }

    #[test]
    fn dimensions_merge_where_every_view_walks_them_as_one() {
        check(&[2, 3, 4], &[&[12, 4, 1]], (&[24], &[&[1]]));
        check(
            &[2, 3, 4],
            &[&[12, 4, 1], &[0, 0, 1]],
            (&[6, 4], &[&[4, 1], &[0, 1]]),
        );
        check(&[2, 1, 4], &[&[4, 9, 1]], (&[8], &[&[1]]));
        check(&[4, 3], &[&[1, 4]], (&[4, 3], &[&[1, 4]]));
        check(&[1, 1], &[&[7, 7]], (&[1], &[&[7]]));
        check(&[5, 4], &[&[0, 0]], (&[20], &[&[0]]));
    }
}
