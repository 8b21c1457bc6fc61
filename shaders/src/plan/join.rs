//! Whether requests may share a run: which samples each element of a plan depends on.
//!
//! The plan for two samples is run over sets instead of numbers: an element holds the set of samples that had a say in
//! it. If no output of one sample holds the other, then no neighbour can change a sample's outcome, at any batch size:
//! a plan for more samples has the same steps with larger dimensions.

use crate::plan::{
    Buffer, Contract, Conv, Kind, Plan, Pool, Quantise, Reduce, Rows, Space, Step, Take, Trees,
    View, Window,
};

/// Sets of samples: bit 0 and bit 1.
type Set = u8;

/// Most elements that indices may reach in an analysis, over all steps. Beyond it the answer is no.
const REACH_MAX: u64 = 1 << 26;

/// Whether every output of `plan`, which is for two samples, keeps them apart.
pub(crate) fn joins(plan: &Plan) -> bool {
    let mut sets = Sets {
        arena: vec![0; plan.arena_words as usize],
        reach: 0,
    };
    for input in &plan.inputs {
        let half = input.len / 2;
        for i in 0..input.len {
            sets.put(input, i, 1 << (i / half.max(1)).min(1));
        }
    }
    for step in &plan.steps {
        sets.step(step);
        if sets.reach > REACH_MAX {
            return false;
        }
    }
    plan.outputs.iter().all(|output| {
        let half = output.len / 2;
        output.space == Space::Arena
            && output.len % 2 == 0
            && (0..output.len).all(|i| sets.get(output, i) & (2 >> (i / half.max(1)).min(1)) == 0)
    })
}

struct Sets {
    arena: Vec<Set>,
    reach: u64,
}

impl Sets {
    fn at(&self, space: Space, word: i64) -> Set {
        match space {
            Space::Weights => 0,
            Space::Arena => self.arena[word as usize],
        }
    }

    fn get(&self, buffer: &Buffer, i: u32) -> Set {
        self.at(
            buffer.space,
            i64::from(buffer.offset) + i64::from(i) * i64::from(buffer.kind.words()),
        )
    }

    fn put(&mut self, buffer: &Buffer, i: u32, set: Set) {
        self.arena[(buffer.offset + i * buffer.kind.words()) as usize] = set;
    }

    fn view(&self, view: &View, offset: i64) -> Set {
        self.at(
            view.space,
            i64::from(view.offset) + offset * i64::from(view.kind.words()),
        )
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Map(s) => {
                let mut all = Vec::new();
                let views: Vec<&View> = s.loads.iter().collect();
                walk(&s.dims, &views, |offsets| {
                    all.push(
                        views
                            .iter()
                            .zip(offsets)
                            .fold(0, |set, (v, &o)| set | self.view(v, o)),
                    );
                });
                self.fill(&s.out, &all);
            }
            Step::Copy(s) => {
                let mut moves = Vec::new();
                walk(&s.dims, &[&s.from, &s.to], |offsets| {
                    let set = self.view(&s.from, offsets[0]);
                    let words = i64::from(s.to.kind.words());
                    moves.push((i64::from(s.to.offset) + offsets[1] * words, set));
                });
                for (word, set) in moves {
                    self.arena[word as usize] = set;
                }
            }
            Step::Take(s) => self.take(s),
            Step::Reduce(Reduce {
                rows,
                cols,
                input,
                out,
                ..
            }) => {
                let sets = self.rows(rows, cols, input);
                self.fill(out, &sets);
            }
            Step::Quantise(Quantise {
                rows,
                cols,
                input,
                q,
                exponent,
                ..
            }) => {
                // The scale of a row is everybody's in the row.
                let sets = self.rows(rows, cols, input);
                let per = q.len as usize / sets.len().max(1);
                let all: Vec<Set> = sets.iter().flat_map(|s| vec![*s; per]).collect();
                self.fill(q, &all);
                self.fill(exponent, &sets);
            }
            Step::Contract(s) => self.contract(s),
            Step::Conv(s) => self.conv(s),
            Step::Pool(s) => self.pool(s),
            Step::Trees(Trees {
                rows,
                features,
                targets,
                input,
                out,
                ..
            }) => {
                let all: Vec<Set> = (0..*rows)
                    .flat_map(|r| {
                        let set = (0..*features)
                            .fold(0, |set, f| set | self.get(input, r * features + f));
                        vec![set; *targets as usize]
                    })
                    .collect();
                self.fill(out, &all);
            }
        }
    }

    fn fill(&mut self, out: &Buffer, sets: &[Set]) {
        for (i, &set) in sets.iter().enumerate() {
            self.put(out, i as u32, set);
        }
    }

    fn rows(&self, rows: &[u32], cols: &[u32], input: &View) -> Vec<Set> {
        let dims: Vec<u32> = rows.iter().chain(cols).copied().collect();
        let per = product(cols).max(1);
        let mut sets = vec![0; product(rows)];
        let mut i = 0usize;
        walk(&dims, &[input], |offsets| {
            sets[i / per] |= self.view(input, offsets[0]);
            i += 1;
        });
        sets
    }

    fn take(&mut self, s: &Take) {
        let reach: u64 = s
            .components
            .iter()
            .fold(1, |n: u64, c| n.saturating_mul(u64::from(c.extent)));
        if s.data.space == Space::Arena {
            self.reach = self
                .reach
                .saturating_add(reach.saturating_mul(product(&s.dims) as u64));
            if self.reach > REACH_MAX {
                return;
            }
        }
        let mut all = Vec::new();
        walk(&s.dims, &[&s.data, &s.index], |offsets| {
            let mut set = 0;
            for c in 0..s.components.len() as i64 {
                set |= self.view(&s.index, offsets[1] + c * i64::from(s.component_stride));
            }
            if s.data.space == Space::Arena {
                let dims: Vec<u32> = s.components.iter().map(|c| c.extent).collect();
                let strides = s.components.iter().map(|c| c.stride).collect();
                let reached = View {
                    strides,
                    ..s.data.clone()
                };
                walk(&dims, &[&reached], |inner| {
                    set |= self.view(&s.data, offsets[0] + inner[0]);
                });
            }
            all.push(set);
        });
        self.fill(&s.out, &all);
    }

    fn contract(&mut self, s: &Contract) {
        let side = |rows: &Rows, first: u32, count: u32| -> Vec<Set> {
            (first..first + count)
                .map(|r| {
                    (r * s.k..(r + 1) * s.k).fold(self.get(&rows.exponent, r), |set, i| {
                        set | self.get(&rows.q, i)
                    })
                })
                .collect()
        };
        let mut all = Vec::new();
        let walker = |rows: &Rows| View {
            space: Space::Arena,
            kind: Kind::I32,
            offset: 0,
            strides: rows.batch.iter().map(|&b| b as i32).collect(),
        };
        let (a, b) = (walker(&s.a), walker(&s.b));
        walk(&s.batch, &[&a, &b], |offsets| {
            let rows = side(&s.a, offsets[0] as u32, s.m);
            let cols = side(&s.b, offsets[1] as u32, s.n);
            for r in &rows {
                all.extend(cols.iter().map(|c| r | c));
            }
        });
        self.fill(&s.out, &all);
    }

    fn conv(&mut self, s: &Conv) {
        let per = s.out.len / (s.samples * s.groups).max(1);
        let mut all = Vec::with_capacity(s.out.len as usize);
        let inputs = s.input_q.len / (s.samples * s.groups).max(1);
        for plane in 0..s.samples * s.groups {
            // One scale for all of it, so all of it has a say.
            let set = (plane * inputs..(plane + 1) * inputs)
                .fold(self.get(&s.input_exponent, plane), |set, i| {
                    set | self.get(&s.input_q, i)
                });
            all.extend(vec![set; per as usize]);
        }
        self.fill(&s.out, &all);
    }

    fn pool(&mut self, s: &Pool) {
        let mut all = Vec::with_capacity(s.out.len as usize);
        let volume: u32 = s.window.input.iter().product();
        for plane in 0..s.planes {
            windows(&s.window, |inside| {
                all.push(
                    inside
                        .iter()
                        .fold(0, |set, &i| set | self.get(&s.input, plane * volume + i)),
                );
            });
        }
        self.fill(&s.out, &all);
    }
}

fn product(dims: &[u32]) -> usize {
    dims.iter().map(|&d| d as usize).product()
}

/// Calls `visit` with the offset of each view (in elements) at each index of `dims`, row-major.
fn walk(dims: &[u32], views: &[&View], mut visit: impl FnMut(&[i64])) {
    let mut index = vec![0u32; dims.len()];
    let mut offsets = vec![0i64; views.len()];
    loop {
        visit(&offsets);
        let mut axis = dims.len();
        loop {
            if axis == 0 {
                return;
            }
            axis -= 1;
            index[axis] += 1;
            let back = index[axis] == dims[axis];
            for (offset, view) in offsets.iter_mut().zip(views) {
                let stride = i64::from(view.strides[axis]);
                *offset += if back {
                    -stride * (i64::from(dims[axis]) - 1)
                } else {
                    stride
                };
            }
            if !back {
                break;
            }
            index[axis] = 0;
        }
    }
}

/// Calls `visit` with the input positions inside each window, ascending.
pub(crate) fn windows(w: &Window, mut visit: impl FnMut(&[u32])) {
    let mut inside = Vec::new();
    for x in 0..w.output[0] {
        for y in 0..w.output[1] {
            for z in 0..w.output[2] {
                inside.clear();
                let at = [x, y, z];
                let position = |axis: usize, k: u32| {
                    let p = i64::from(at[axis]) * i64::from(w.stride[axis])
                        + i64::from(k) * i64::from(w.dilation[axis])
                        - i64::from(w.pad_begin[axis]);
                    (p >= 0 && p < i64::from(w.input[axis])).then_some(p as u32)
                };
                for i in (0..w.kernel[0]).filter_map(|k| position(0, k)) {
                    for j in (0..w.kernel[1]).filter_map(|k| position(1, k)) {
                        for k in (0..w.kernel[2]).filter_map(|k| position(2, k)) {
                            inside.push((i * w.input[1] + j) * w.input[2] + k);
                        }
                    }
                }
                visit(&inside);
            }
        }
    }
}
