//! Copies and element-wise steps.

use super::{Builder, Result};
use crate::cost::{COPY_TOUCHES, WIDE_TOUCHES, touches};
use crate::plan::{
    Arg, Copy, Instr, Kind, LOADS_MAX, Map, MapOp, PROGRAM_MAX, Step, Tensor, broadcast_dims,
};
use penstock_rules::tensor::ElementType;

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

impl Builder<'_> {
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
        let each: u64 = program.0.iter().map(|i| touches(i.op, i.kind)).sum();
        let wide = kind == Kind::I64
            || loads.iter().any(|l| l.kind == Kind::I64)
            || program.0.iter().any(|i| i.kind == Kind::I64);
        let base = if wide { WIDE_TOUCHES } else { 0 };
        let work = out.len().saturating_mul(each + base);
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

    /// Wraps 8-bit integers.
    pub(super) fn wrapped(&mut self, tensor: Tensor) -> Result<Tensor> {
        match tensor.element {
            ElementType::U8 | ElementType::I8 => {
                self.map(tensor.element, &tensor.dims, &[&tensor], |_, args| args[0])
            }
            _ => Ok(tensor),
        }
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
