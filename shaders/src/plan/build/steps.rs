//! Steps that fold, pool, read at computed places or walk trees.

use super::{Builder, Refuse, Result};
use crate::cost::{POOL_TOUCHES, TAKE_TOUCHES, fold_touches};
use crate::plan::{
    Component, Kind, PoolOp, Reduce, ReduceOp, Step, Take, Tensor, TreeFold, Trees, Window, count,
};
use penstock_rules::tensor::ElementType;

impl Builder<'_> {
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
        let work = input.len().saturating_mul(fold_touches(op, input.kind()));
        self.push(step, vec![place, to], work)?;
        if matches!(op, ReduceOp::Sum | ReduceOp::Prod) {
            return self.wrapped(out);
        }
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
        let work = out.len().saturating_mul(TAKE_TOUCHES);
        self.push(step, vec![data_ref, index_ref, to], work)?;
        Ok(out)
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
}
