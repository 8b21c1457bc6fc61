//! Making a plan: operators ask the builder for steps, by tensors; places come later (`finish`).

use crate::cost::{
    COPY_TOUCHES, GATHER_TOUCHES, POOL_TOUCHES, RESULT_TOUCHES, fold_touches, touches,
};
use crate::graph::{Constant, ValueId, kind_of};
use crate::limits::Limits;
use crate::num::{Exponent, Mode, Width, fixed::DEPTH_MAX};
use crate::plan::prepared::{Form, align};
use crate::plan::tensor::broadcast_dims;
use crate::plan::{
    Access, Arg, Buffer, Component, Contract, Conv, Copy, Instr, Kind, LOADS_MAX, Map, MapOp,
    PROGRAM_MAX, Place, PoolOp, Prepared, Quantise, RANK_MAX, Reduce, ReduceOp, Rows, Space, Step,
    Take, Tensor, TreeFold, Trees, View, Window, contiguous_strides, count,
};
use penstock_rules::tensor::ElementType;
use std::collections::HashMap;
use std::sync::Arc;

/// Why an operator cannot be turned into steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Refuse {
    /// The engine does not have it.
    Unsupported(String),
    /// It breaks the operator's rules.
    Invalid(String),
    /// A limit is passed.
    Limit {
        what: &'static str,
        found: u64,
        limit: u64,
    },
}

/// Shorthand.
pub(crate) type Result<T> = std::result::Result<T, Refuse>;

/// Where a step's reference points to before places are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ref {
    /// A buffer of the builder.
    Virtual(u32),
    /// A word of the model's weights.
    Weights(u32),
    /// A word of the plan's locals.
    Local(u32),
}

/// A step whose offsets are relative to `refs`, in the order of [`Step::touches`].
#[derive(Debug)]
pub(crate) struct Pending {
    pub(crate) step: Step,
    pub(crate) refs: Vec<Ref>,
}

/// A tensor of 8-bit integers with its scale and zero point, as `DequantizeLinear` reads them.
#[derive(Clone, Debug)]
pub(crate) struct Dequantised {
    /// Values less the zero point, `I32`.
    pub(crate) whole: Tensor,
    /// One scale, or one per index of `axis`.
    pub(crate) scale: Tensor,
    /// Axis of the scales.
    pub(crate) axis: usize,
}

/// Fixed-point rows.
#[derive(Clone, Debug)]
pub(crate) struct Quantised {
    width: Width,
    q: (Ref, u32),
    exponent: (Ref, u32),
}

/// Turns operators' wishes into steps.
pub(crate) struct Builder<'a> {
    pub(crate) limits: &'a Limits,
    pub(crate) mode: Mode,
    /// In the mode `int8`: what was dequantised to give a value.
    pub(crate) dequantised: HashMap<ValueId, Dequantised>,
    pub(crate) access: Access<'a>,
    pub(crate) locals: Prepared,
    /// Constants computed from shapes that a step reads: their one value, or `None` where they have several.
    pub(crate) of_shape: Vec<Option<u64>>,
    /// Words of each buffer.
    pub(crate) virtuals: Vec<u64>,
    pub(crate) steps: Vec<Pending>,
    pub(crate) macs: u64,
    pub(crate) touched: u64,
}

/// A program under construction.
#[derive(Default)]
pub(crate) struct Program(Vec<Instr>);

impl Program {
    /// Adds an instruction.
    pub(crate) fn op(&mut self, op: MapOp, kind: Kind, args: &[Arg]) -> Arg {
        debug_assert_eq!(args.len(), op.arity(), "{op:?}");
        let mut all = [Arg::None; 3];
        all[..args.len()].copy_from_slice(args);
        self.0.push(Instr {
            op,
            kind,
            args: all,
        });
        Arg::Reg((self.0.len() - 1) as u8)
    }

    /// Adds an instruction on floats.
    pub(crate) fn f32(&mut self, op: MapOp, args: &[Arg]) -> Arg {
        self.op(op, Kind::F32, args)
    }
}

/// A float as an argument.
pub(crate) fn imm(value: f32) -> Arg {
    Arg::Imm(u64::from(value.to_bits()))
}

impl<'a> Builder<'a> {
    pub(crate) fn new(limits: &'a Limits, access: Access<'a>, mode: Mode) -> Self {
        Self {
            limits,
            mode,
            dequantised: HashMap::new(),
            access,
            locals: Prepared::default(),
            of_shape: Vec::new(),
            virtuals: Vec::new(),
            steps: Vec::new(),
            macs: 0,
            touched: 0,
        }
    }

    /// A new buffer for a tensor.
    pub(crate) fn alloc(&mut self, element: ElementType, dims: &[u32]) -> Result<Tensor> {
        let kind =
            kind_of(element).ok_or_else(|| Refuse::Unsupported("tensors of strings".to_owned()))?;
        let elements = count(dims);
        if elements > self.limits.elements_max {
            return Err(Refuse::Limit {
                what: "elements of a tensor",
                found: elements,
                limit: self.limits.elements_max,
            });
        }
        if dims.len() > RANK_MAX {
            return Err(Refuse::Limit {
                what: "rank of a tensor",
                found: dims.len() as u64,
                limit: RANK_MAX as u64,
            });
        }
        self.virtuals.push(elements * u64::from(kind.words()));
        Ok(Tensor {
            element,
            dims: dims.to_vec(),
            start: 0,
            strides: contiguous_strides(dims),
            place: Place::Virtual((self.virtuals.len() - 1) as u32),
        })
    }

    /// A constant of our own making.
    pub(crate) fn constant(&mut self, constant: Constant) -> Tensor {
        Tensor::constant(&self.access.intern(constant))
    }

    /// A constant that is made once per model, for the value `key.0`.
    pub(crate) fn memo(
        &mut self,
        key: (ValueId, u32),
        make: impl FnOnce() -> Result<Constant>,
    ) -> Result<Tensor> {
        if let Some(found) = self.access.memo(key) {
            return Ok(Tensor::constant(&found));
        }
        let constant = Arc::new(make()?);
        self.access.remember(key, &constant);
        Ok(Tensor::constant(&constant))
    }

    /// Where a form of a constant stands.
    fn form(
        &mut self,
        tensor: &Tensor,
        constant: &Constant,
        rows: Option<(usize, Width)>,
    ) -> Result<Ref> {
        let form = Form::of(tensor, constant, rows);
        if let Some(offset) = self.access.pool().find(&form) {
            return Ok(Ref::Weights(offset));
        }
        if let Some(offset) = self.locals.find(&form) {
            return Ok(Ref::Local(offset));
        }
        let too_large = |what, limit| Refuse::Limit {
            what,
            found: tensor.len(),
            limit,
        };
        match &mut self.access {
            Access::Open(pool) if !constant.of_shape => {
                let most = self.limits.weight_words_max;
                let offset = pool.add(form, constant, most);
                offset
                    .map(Ref::Weights)
                    .ok_or_else(|| too_large("words of weights", most))
            }
            _ => {
                let most = self.limits.arena_words_max;
                if constant.of_shape {
                    let bits = tensor.bits().unwrap_or_default();
                    let one = bits.first().filter(|b| bits.iter().all(|c| c == *b));
                    self.of_shape.push(one.copied());
                }
                let offset = self.locals.add(form, constant, most);
                offset
                    .map(Ref::Local)
                    .ok_or_else(|| too_large("words of the arena", most))
            }
        }
    }

    /// A place and a relative word offset for a strided view.
    fn view(&mut self, tensor: &Tensor, dims: &[u32]) -> Result<(View, Ref)> {
        let kind = tensor.kind();
        let make = |start: i64, strides: &[i64]| -> Result<View> {
            let narrow = |v: i64| {
                i32::try_from(v).map_err(|_| Refuse::Invalid("stride is out of range".into()))
            };
            Ok(View {
                space: Space::Arena,
                kind,
                offset: u32::try_from(start * i64::from(kind.words()))
                    .map_err(|_| Refuse::Invalid("offset is out of range".into()))?,
                strides: strides.iter().map(|&s| narrow(s)).collect::<Result<_>>()?,
            })
        };
        debug_assert_eq!(tensor.strides.len(), dims.len(), "views have a step's rank");
        match &tensor.place {
            Place::Virtual(id) => Ok((make(tensor.start, &tensor.strides)?, Ref::Virtual(*id))),
            Place::Const(constant) => {
                // What a broadcast repeats is not repeated in memory: dimensions of stride 0 stay one element.
                let tight: Vec<u32> = tensor
                    .dims
                    .iter()
                    .zip(&tensor.strides)
                    .map(|(&d, &s)| if s == 0 { 1 } else { d })
                    .collect();
                let tight = tensor.viewed(tight, tensor.strides.clone());
                let place = self.form(&tight, constant, None)?;
                let strides: Vec<i64> = contiguous_strides(&tight.dims)
                    .into_iter()
                    .zip(&tensor.strides)
                    .map(|(new, old)| if *old == 0 { 0 } else { new })
                    .collect();
                Ok((make(0, &strides)?, place))
            }
        }
    }

    /// A contiguous buffer of a tensor's elements; copies where they stand otherwise.
    fn buffer(&mut self, tensor: &Tensor) -> Result<(Buffer, Ref)> {
        let make = |kind| Buffer {
            space: Space::Arena,
            kind,
            offset: 0,
            len: tensor.len() as u32,
        };
        match &tensor.place {
            Place::Const(constant) => {
                let place = self.form(tensor, constant, None)?;
                Ok((make(tensor.kind()), place))
            }
            Place::Virtual(id) if tensor.is_whole() => Ok((make(tensor.kind()), Ref::Virtual(*id))),
            Place::Virtual(_) => {
                let copy = self.copied(tensor)?;
                self.buffer(&copy)
            }
        }
    }

    fn push(&mut self, step: Step, refs: Vec<Ref>, work: u64) -> Result<()> {
        self.touched = self.touched.saturating_add(work);
        if self.steps.len() >= self.limits.steps_max {
            return Err(Refuse::Limit {
                what: "steps of a plan",
                found: self.steps.len() as u64 + 1,
                limit: self.limits.steps_max as u64,
            });
        }
        self.steps.push(Pending { step, refs });
        Ok(())
    }

    /// Counts the work of constants that are computed while the plan is made.
    pub(crate) fn spend(&mut self, macs: u64, touched: u64) -> Result<()> {
        let limit = self.limits.macs_max;
        let found = macs.max(touched);
        if found > limit {
            return Err(Refuse::Limit {
                what: "work on constants",
                found,
                limit,
            });
        }
        Ok(())
    }

    fn work(&mut self, macs: u64) -> Result<()> {
        self.macs = self.macs.saturating_add(macs);
        if self.macs > self.limits.macs_max {
            return Err(Refuse::Limit {
                what: "multiplications of a run",
                found: self.macs,
                limit: self.limits.macs_max,
            });
        }
        Ok(())
    }

    /// A contiguous copy in a new buffer.
    pub(crate) fn copied(&mut self, tensor: &Tensor) -> Result<Tensor> {
        let out = self.alloc(tensor.element, &tensor.dims)?;
        self.copy_into(tensor, &out)?;
        Ok(out)
    }

    /// Copies `from` to the view `to` of a new buffer.
    pub(crate) fn copy_into(&mut self, from: &Tensor, to: &Tensor) -> Result<()> {
        debug_assert_eq!(from.dims, to.dims, "a copy keeps the shape");
        if to.len() == 0 {
            return Ok(());
        }
        let (source, from_ref) = self.view(from, &from.dims)?;
        let (target, to_ref) = self.view(to, &to.dims)?;
        let step = Step::Copy(Copy {
            dims: from.dims.clone(),
            from: source,
            to: target,
        });
        let work = to.len().saturating_mul(COPY_TOUCHES);
        self.push(step, vec![from_ref, to_ref], work)
    }

    /// Element-wise work on tensors that broadcast to `dims`. `body` gets their arguments and gives the result's.
    pub(crate) fn map(
        &mut self,
        element: ElementType,
        dims: &[u32],
        inputs: &[&Tensor],
        body: impl FnOnce(&mut Program, &[Arg]) -> Arg,
    ) -> Result<Tensor> {
        let out = self.alloc(element, dims)?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (mut loads, mut refs, mut args) = (Vec::new(), Vec::new(), Vec::new());
        for tensor in inputs {
            let tensor = tensor.broadcast(dims)?;
            let single = match tensor.bits_if_single() {
                Some(bits) if !tensor.of_shape() => Some(bits),
                _ => None,
            };
            args.push(match single {
                Some(bits) => Arg::Imm(bits),
                None => {
                    let (view, place) = self.view(&tensor, dims)?;
                    loads.push(view);
                    refs.push(place);
                    Arg::Load((loads.len() - 1) as u8)
                }
            });
        }
        debug_assert!(loads.len() <= LOADS_MAX, "operators have few operands");
        let mut program = Program::default();
        let result = body(&mut program, &args);
        let kind = out.kind();
        if program.0.is_empty() || result != Arg::Reg((program.0.len() - 1) as u8) {
            program.op(MapOp::Move, kind, &[result]);
        }
        match element {
            ElementType::U8 => drop(program.op(MapOp::WrapU8, kind, &[last(&program)])),
            ElementType::I8 => drop(program.op(MapOp::WrapI8, kind, &[last(&program)])),
            _ => {}
        }
        debug_assert!(program.0.len() <= PROGRAM_MAX, "operators are short");
        let (buffer, place) = self.buffer(&out)?;
        refs.push(place);
        let each = program.0.iter().map(|i| touches(i.op, i.kind)).sum();
        let work = out.len().saturating_mul(each);
        let step = Step::Map(Map {
            dims: dims.to_vec(),
            loads,
            program: program.0,
            out: buffer,
        });
        self.push(step, refs, work)?;
        Ok(out)
    }

    /// As [`Builder::map`], to the shape to which the inputs broadcast.
    pub(crate) fn zip(
        &mut self,
        element: ElementType,
        inputs: &[&Tensor],
        body: impl FnOnce(&mut Program, &[Arg]) -> Arg,
    ) -> Result<Tensor> {
        let shapes: Vec<&[u32]> = inputs.iter().map(|t| &t.dims[..]).collect();
        let dims = broadcast_dims(&shapes)?;
        self.map(element, &dims, inputs, body)
    }

    /// One operation on inputs of one type.
    pub(crate) fn op(&mut self, op: MapOp, inputs: &[&Tensor]) -> Result<Tensor> {
        let element = inputs[0].element;
        let kind = inputs[0].kind();
        let out = match op.result(kind) {
            same if same == kind && !is_comparison(op) => element,
            _ => ElementType::Bool,
        };
        self.zip(out, inputs, |p, args| p.op(op, kind, args))
    }

    /// One operation on a tensor and a float.
    pub(crate) fn op_imm(&mut self, op: MapOp, a: &Tensor, b: f32) -> Result<Tensor> {
        self.map(a.element, &a.dims, &[a], |p, args| {
            p.f32(op, &[args[0], imm(b)])
        })
    }

    /// A buffer filled with one value.
    pub(crate) fn filled(
        &mut self,
        element: ElementType,
        dims: &[u32],
        bits: u64,
    ) -> Result<Tensor> {
        self.map(element, dims, &[], |_, _| Arg::Imm(bits))
    }

    /// Folds the last `cols` dimensions of `input`.
    pub(crate) fn reduce(&mut self, op: ReduceOp, input: &Tensor, cols: usize) -> Result<Tensor> {
        let split = input.rank() - cols;
        let element = match op {
            ReduceOp::ArgMin | ReduceOp::ArgMax | ReduceOp::ArgMinLast | ReduceOp::ArgMaxLast => {
                ElementType::I64
            }
            _ => input.element,
        };
        let out = self.alloc(element, &input.dims[..split])?;
        if out.len() == 0 {
            return Ok(out);
        }
        if count(&input.dims[split..]) == 0 {
            return Err(Refuse::Invalid("nothing to reduce".into()));
        }
        let (view, place) = self.view(input, &input.dims)?;
        let (buffer, to) = self.buffer(&out)?;
        let step = Step::Reduce(Reduce {
            op,
            rows: input.dims[..split].to_vec(),
            cols: input.dims[split..].to_vec(),
            input: view,
            out: buffer,
        });
        let work = input.len().saturating_mul(fold_touches(op));
        self.push(step, vec![place, to], work)?;
        if matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
            return self.wrapped(out);
        }
        Ok(out)
    }

    /// Wraps 8-bit integers.
    fn wrapped(&mut self, tensor: Tensor) -> Result<Tensor> {
        match tensor.element {
            ElementType::U8 | ElementType::I8 => {
                self.map(tensor.element, &tensor.dims, &[&tensor], |_, args| args[0])
            }
            _ => Ok(tensor),
        }
    }

    /// Fixed-point rows of floats, or of integers that stand for themselves: the first `rows` dimensions are rows.
    pub(crate) fn quantise(&mut self, input: &Tensor, rows: usize) -> Result<Quantised> {
        if input.kind() != Kind::F32 {
            return self.whole(input, rows);
        }
        let width = match self.mode {
            Mode::Exact24 | Mode::Int8 => Width::Bits24,
            Mode::Exact16 => Width::Bits16,
        };
        let row_count = count(&input.dims[..rows]);
        if let Place::Const(constant) = &input.place {
            let constant = constant.clone();
            let place = self.form(input, &constant, Some((rows, width)))?;
            return Ok(Quantised {
                width,
                q: (place, 0),
                exponent: (place, align(input.len()) as u32),
            });
        }
        let q = self.alloc(ElementType::I32, &input.dims)?;
        let exponent = self.alloc(ElementType::I32, &[row_count as u32])?;
        let (view, place) = self.view(input, &input.dims)?;
        let (q_buffer, q_ref) = self.buffer(&q)?;
        let (e_buffer, e_ref) = self.buffer(&exponent)?;
        let step = Step::Quantise(Quantise {
            width,
            rows: input.dims[..rows].to_vec(),
            cols: input.dims[rows..].to_vec(),
            input: view,
            q: q_buffer,
            exponent: e_buffer,
        });
        self.push(step, vec![place, q_ref, e_ref], input.len())?;
        Ok(Quantised {
            width,
            q: (q_ref, 0),
            exponent: (e_ref, 0),
        })
    }

    /// Rows of `I32`, each at the exponent of a unit.
    fn whole(&mut self, input: &Tensor, rows: usize) -> Result<Quantised> {
        debug_assert_eq!(input.kind(), Kind::I32, "8-bit integers are widened first");
        let count = count(&input.dims[..rows]) as u32;
        let unit = u32::from(Exponent::UNIT.0);
        // Both stand in one space: constants with constants, buffers with buffers.
        let exponent = if input.is_const() {
            let words = vec![unit; count as usize];
            let constant = Constant::new(ElementType::I32, vec![count], words);
            self.constant(constant.marked(input.of_shape()))
        } else {
            self.filled(ElementType::I32, &[count], u64::from(unit))?
        };
        let q = self.buffer(input)?.1;
        let exponent = self.buffer(&exponent)?.1;
        Ok(Quantised {
            width: Width::Whole,
            q: (q, 0),
            exponent: (exponent, 0),
        })
    }

    fn fixed(part: (Ref, u32), len: u64) -> Buffer {
        Buffer {
            space: Space::Arena,
            kind: Kind::I32,
            offset: part.1,
            len: len as u32,
        }
    }

    /// `out[batch, m, n]`: dot products of the rows of `a` `[batch_a, m, k]` and of `b` `[batch_b, n, k]`.
    /// `batch_*` are rows per step of each batch dimension. The result is `F32`, or the sums themselves as `I32`.
    pub(crate) fn contract(
        &mut self,
        element: ElementType,
        batch: &[u32],
        mnk: [u32; 3],
        a: (&Quantised, Vec<u32>),
        b: (&Quantised, Vec<u32>),
        rows: (u64, u64),
    ) -> Result<Tensor> {
        let [m, n, k] = mnk;
        check_depth(u64::from(k))?;
        let mut dims = batch.to_vec();
        dims.extend([m, n]);
        let out = self.alloc(element, &dims)?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (buffer, to) = self.buffer(&out)?;
        let side = |side: (&Quantised, Vec<u32>), rows: u64| Rows {
            q: Self::fixed(side.0.q, rows * u64::from(k)),
            exponent: Self::fixed(side.0.exponent, rows),
            batch: side.1,
        };
        let refs = vec![a.0.q.0, a.0.exponent.0, b.0.q.0, b.0.exponent.0, to];
        debug_assert_eq!(a.0.width, b.0.width, "both operands are of one width");
        let step = Step::Contract(Contract {
            width: a.0.width,
            batch: batch.to_vec(),
            m,
            n,
            k,
            a: side(a, rows.0),
            b: side(b, rows.1),
            out: buffer,
        });
        self.work(out.len().saturating_mul(u64::from(k)))?;
        self.push(step, refs, out.len().saturating_mul(RESULT_TOUCHES))?;
        Ok(out)
    }

    /// A convolution; `out` has samples, channels, and the window's output extents as three dimensions. Its element is as
    /// [`Builder::contract`]'s.
    pub(crate) fn conv(
        &mut self,
        element: ElementType,
        [samples, groups, cin, cout]: [u32; 4],
        window: Window,
        input: &Quantised,
        weight: &Quantised,
    ) -> Result<Tensor> {
        let volume = |extents: &[u32; 3]| count(extents);
        let depth = u64::from(cin).saturating_mul(volume(&window.kernel));
        check_depth(depth)?;
        let [x, y, z] = window.output;
        let channels = groups
            .checked_mul(cout)
            .ok_or_else(|| Refuse::Invalid("too many channels".into()))?;
        let out = self.alloc(element, &[samples, channels, x, y, z])?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (buffer, to) = self.buffer(&out)?;
        let planes = u64::from(samples) * u64::from(groups);
        debug_assert_eq!(input.width, weight.width, "both operands are of one width");
        let step = Step::Conv(Conv {
            width: input.width,
            samples,
            groups,
            cin,
            cout,
            window,
            input_q: Self::fixed(input.q, planes * u64::from(cin) * volume(&window.input)),
            input_exponent: Self::fixed(input.exponent, planes),
            weight_q: Self::fixed(weight.q, u64::from(channels) * depth),
            weight_exponent: Self::fixed(weight.exponent, u64::from(channels)),
            out: buffer,
        });
        self.work(out.len().saturating_mul(depth))?;
        let refs = vec![
            input.q.0,
            input.exponent.0,
            weight.q.0,
            weight.exponent.0,
            to,
        ];
        let gathered = (out.len() / u64::from(cout.max(1))).saturating_mul(depth);
        let work = out.len().saturating_mul(RESULT_TOUCHES);
        let work = work.saturating_add(gathered.saturating_mul(GATHER_TOUCHES));
        self.push(step, refs, work)?;
        Ok(out)
    }

    /// Pools planes; `out` has the window's output extents as three last dimensions.
    pub(crate) fn pool(
        &mut self,
        op: PoolOp,
        input: &Tensor,
        planes: u32,
        window: Window,
    ) -> Result<Tensor> {
        let [x, y, z] = window.output;
        let out = self.alloc(ElementType::F32, &[planes, x, y, z])?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (from, place) = self.buffer(input)?;
        let (to, out_ref) = self.buffer(&out)?;
        let work = out.len().saturating_mul(count(&window.kernel));
        let work = work.saturating_mul(POOL_TOUCHES);
        let step = Step::Pool(crate::plan::Pool {
            op,
            planes,
            window,
            input: from,
            out: to,
        });
        self.push(step, vec![place, out_ref], work)?;
        Ok(out)
    }

    /// Reads `data` at computed indices; `data` and `index` have the dimensions of the result.
    pub(crate) fn take(
        &mut self,
        data: &Tensor,
        index: &Tensor,
        component_stride: i64,
        components: Vec<Component>,
        extent_ok: u64,
    ) -> Result<Tensor> {
        debug_assert_eq!(data.dims, index.dims, "both walk the result");
        let out = self.alloc(data.element, &data.dims)?;
        if out.len() == 0 {
            return Ok(out);
        }
        if extent_ok == 0 {
            return Err(Refuse::Invalid("nothing to take from".into()));
        }
        let index_ok = matches!(index.kind(), Kind::I32 | Kind::I64);
        if !index_ok {
            return Err(Refuse::Invalid("indices must be signed integers".into()));
        }
        let (data_view, data_ref) = self.whole_view(data)?;
        let (index_view, index_ref) = self.whole_view(index)?;
        let (buffer, to) = self.buffer(&out)?;
        let step = Step::Take(Take {
            dims: data.dims.clone(),
            data: data_view,
            index: index_view,
            component_stride: i32::try_from(component_stride)
                .map_err(|_| Refuse::Invalid("stride is out of range".into()))?,
            components,
            out: buffer,
        });
        let work = out.len().saturating_mul(2 * COPY_TOUCHES);
        self.push(step, vec![data_ref, index_ref, to], work)?;
        Ok(out)
    }

    /// A view whose place is the whole of its constant or buffer: reading goes beyond the view's own elements.
    fn whole_view(&mut self, tensor: &Tensor) -> Result<(View, Ref)> {
        match &tensor.place {
            Place::Virtual(_) => self.view(tensor, &tensor.dims),
            Place::Const(constant) => {
                let place = self.form(&Tensor::constant(constant), constant, None)?;
                let kind = tensor.kind();
                let narrow = |v: i64| {
                    i32::try_from(v).map_err(|_| Refuse::Invalid("stride is out of range".into()))
                };
                let view = View {
                    space: Space::Arena,
                    kind,
                    offset: u32::try_from(tensor.start * i64::from(kind.words()))
                        .map_err(|_| Refuse::Invalid("offset is out of range".into()))?,
                    strides: tensor
                        .strides
                        .iter()
                        .map(|&s| narrow(s))
                        .collect::<Result<_>>()?,
                };
                Ok((view, place))
            }
        }
    }

    /// Tree ensembles: `tables` are roots, nodes and weights.
    pub(crate) fn trees(
        &mut self,
        input: &Tensor,
        tables: [&Tensor; 3],
        [trees, targets, depth]: [u32; 3],
        fold: TreeFold,
    ) -> Result<Tensor> {
        let (rows, features) = (input.dims[0], input.dims[1]);
        let out = self.alloc(ElementType::F32, &[rows, targets])?;
        if out.len() == 0 {
            return Ok(out);
        }
        let (from, from_ref) = self.buffer(input)?;
        let (roots, roots_ref) = self.buffer(tables[0])?;
        let (nodes, nodes_ref) = self.buffer(tables[1])?;
        let (weights, weights_ref) = self.buffer(tables[2])?;
        let (to, to_ref) = self.buffer(&out)?;
        let work = u64::from(rows) * u64::from(trees) * (u64::from(depth) + u64::from(targets));
        let step = Step::Trees(Trees {
            rows,
            features,
            targets,
            trees,
            depth,
            fold,
            input: from,
            roots,
            nodes,
            weights,
            out: to,
        });
        let refs = vec![from_ref, roots_ref, nodes_ref, weights_ref, to_ref];
        self.push(step, refs, work)?;
        Ok(out)
    }

    /// Where an output's elements stand.
    pub(crate) fn output(&mut self, tensor: &Tensor) -> Result<(Buffer, Ref)> {
        self.buffer(tensor)
    }
}

fn last(program: &Program) -> Arg {
    Arg::Reg((program.0.len() - 1) as u8)
}

fn is_comparison(op: MapOp) -> bool {
    matches!(
        op,
        MapOp::Equal | MapOp::Less | MapOp::LessEqual | MapOp::IsNan | MapOp::IsInf
    )
}

fn check_depth(depth: u64) -> Result<()> {
    if depth > DEPTH_MAX as u64 {
        return Err(Refuse::Limit {
            what: "terms of a dot product",
            found: depth,
            limit: DEPTH_MAX as u64,
        });
    }
    if depth == 0 {
        return Err(Refuse::Invalid("nothing to contract".into()));
    }
    Ok(())
}

impl Tensor {
    /// The bits of a constant that has one element, however often it is repeated.
    fn bits_if_single(&self) -> Option<u64> {
        let Place::Const(constant) = &self.place else {
            return None;
        };
        let single = self
            .dims
            .iter()
            .zip(&self.strides)
            .all(|(&d, &s)| d == 1 || s == 0);
        single.then(|| constant.bits(self.start as usize))
    }
}
