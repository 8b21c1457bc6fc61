//! A loaded model: graph, weights, plans, cost.

use crate::cost;
use crate::error::LoadError;
use crate::graph::{Dim, Graph};
use crate::limits::Limits;
use crate::memory::Memory;
use crate::num::Mode;
use crate::onnx::Fixed;
use crate::ops::Refused;
use crate::plan::{Access, Bound, Plan, Prepared, Refuse, bind, joins};
use alloy_primitives::keccak256;
use parking_lot::Mutex;
use penstock_rules::ids::{Igas, ModelHash};
use penstock_rules::model::{ModelInfo, Port, Signature};
use penstock_rules::request::ModelError;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

/// Plans that are kept: as many as batch sizes of one shape. More shapes than that begin anew.
const PLANS_MAX: usize = 64;

/// Largest extent of a dimension that is the caller's choice and not the batch: constants that follow from shapes stay
/// small.
const EXTENT_MAX: u32 = 4_096;

/// Extents that are tried for dimensions that are not the batch, to find shapes that fit the graph, and its cost. The price
/// is made from those that fit; a request of any other shape is taken if the price covers it.
/// 48 is the height of a line of text to readers of it, which take no other.
const EXTENTS: [u32; 10] = [1, 4, 16, 32, 48, 64, 128, 256, 512, 1_024];

/// A model, checked and prepared. It is immutable but for its cache of plans.
#[derive(Debug)]
pub struct Model {
    hash: ModelHash,
    signature: Signature,
    igas_base: Igas,
    igas_per_unit: Igas,
    batch_max: u32,
    /// The largest shapes of one sample that the price was made from.
    extents_max: Vec<Vec<u32>>,
    limits: Limits,
    graph: Graph,
    pool: Prepared,
    cache: Mutex<Cache>,
}

#[derive(Debug, Default)]
struct Cache {
    plans: HashMap<Vec<Vec<u32>>, Result<Arc<Plan>, ModelError>>,
    /// Whether requests of these shapes (without the batch) may share a run.
    joins: HashMap<Vec<Vec<u32>>, bool>,
}

/// What a model asks of a machine, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Report {
    /// Operators, with how often each stands in the graph.
    pub operators: BTreeMap<String, usize>,
    /// Kernels of a run at batch 1, with how often each runs.
    pub kernels: BTreeMap<&'static str, usize>,
    /// Memory at batch 1.
    pub memory: Memory,
    /// Multiplications at batch 1.
    pub macs: u64,
}

impl Model {
    /// Reads an ONNX file, checks it against `limits`, and prepares its weights.
    ///
    /// # Errors
    /// Names what is wrong, unsupported or too large.
    pub fn load(onnx: &[u8], limits: &Limits) -> Result<Arc<Self>, LoadError> {
        Self::load_fixed(onnx, limits, &Fixed::new())
    }

    /// As [`Model::load`], in [`Mode::Fast`] whatever the file says. Its hash is not the file's, so that nothing takes it for
    /// the model that the file is.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_fast(onnx: &[u8], limits: &Limits) -> Result<Arc<Self>, LoadError> {
        let mut graph = crate::onnx::read(onnx, limits, &Fixed::new())?;
        graph.mode = Mode::Fast;
        let hash = keccak256([&keccak256(onnx)[..], Mode::Fast.name().as_bytes()].concat());
        Self::prepare(graph, ModelHash(hash), limits)
    }

    /// As [`Model::load`], with values for inputs that never change: they become constants, so that shapes may depend on
    /// them. The hash covers them.
    ///
    /// # Errors
    /// As [`Model::load`].
    pub fn load_fixed(onnx: &[u8], limits: &Limits, fixed: &Fixed) -> Result<Arc<Self>, LoadError> {
        let graph = crate::onnx::read(onnx, limits, fixed)?;
        let mut content = keccak256(onnx);
        for (name, constant) in fixed {
            let words: &[u8] = bytemuck::cast_slice(&constant.words);
            let dims: &[u8] = bytemuck::cast_slice(&constant.dims);
            content = keccak256([&content[..], name.as_bytes(), dims, words].concat());
        }
        Self::prepare(graph, ModelHash(content), limits)
    }

    fn prepare(graph: Graph, hash: ModelHash, limits: &Limits) -> Result<Arc<Self>, LoadError> {
        let mut pool = Prepared::default();

        // One binding opens the pool: every weight is prepared by it. Which extents fit is found by trying.
        let mut first = None;
        let mut refusal = None;
        let mut extents: Vec<u32> = EXTENTS.to_vec();
        if !has_free_extents(&graph) {
            extents.truncate(1);
        }
        for &extent in &extents {
            pool = Prepared::default();
            let shapes = shapes_at(&graph, 1, extent);
            match bind(&graph, limits, Access::Open(&mut pool), &shapes) {
                Ok(bound) => {
                    first = Some((extent, bound));
                    break;
                }
                Err(refused) => refusal = refusal.or(Some(refused)),
            }
        }
        let Some((extent, bound)) = first else {
            return Err(refusal.map_or(
                LoadError::Malformed("no shape fits the graph".into()),
                load_error,
            ));
        };

        // The cost at each extent that fits, of all choices together and of each alone; the price holds up to the largest.
        let mut points = Vec::new();
        let mut others = vec![bound.plan.output_shapes.clone()];
        let mut priced = |shapes: &[Vec<u32>]| {
            let Ok(other) = bind(&graph, limits, Access::Frozen(&pool), shapes) else {
                return false;
            };
            points.push((units(&graph, shapes), cost::run_ps(&other.plan)));
            others.push(other.plan.output_shapes);
            true
        };
        let mut extents_max = shapes_at(&graph, 1, extent);
        for &at in extents.iter().filter(|&&at| at >= extent) {
            let shapes = shapes_at(&graph, 1, at);
            if priced(&shapes) {
                extents_max = shapes;
            }
            priced(&shapes_at(&graph, 2, at));
        }
        for choice in choices(&graph) {
            let mut shapes = extents_max.clone();
            let largest = choice.first().map_or(0, |&(i, axis)| shapes[i][axis]);
            for &at in extents.iter().filter(|&&at| at > largest) {
                for &(i, axis) in &choice {
                    shapes[i][axis] = at;
                }
                if priced(&shapes) {
                    extents_max.clone_from(&shapes);
                }
            }
        }
        let (igas_base, igas_per_unit) = cost::igas(&points);
        let signature = signature(&graph, &bound, &others);
        let mut model = Self {
            hash,
            signature,
            igas_base: Igas(igas_base),
            igas_per_unit: Igas(igas_per_unit),
            batch_max: limits.batch_max,
            extents_max,
            limits: limits.clone(),
            graph,
            pool,
            cache: Mutex::default(),
        };
        if !model.joins(&shapes_at(&model.graph, 1, extent)) {
            model.batch_max = 1;
        }
        Ok(Arc::new(model))
    }

    /// keccak256 of the file.
    #[must_use]
    pub fn hash(&self) -> ModelHash {
        self.hash
    }

    /// Inputs and outputs.
    #[must_use]
    pub fn signature(&self) -> &Signature {
        &self.signature
    }

    /// Static cost of a request, without its units.
    #[must_use]
    pub fn igas_base(&self) -> Igas {
        self.igas_base
    }

    /// Static cost per unit.
    #[must_use]
    pub fn igas_per_unit(&self) -> Igas {
        self.igas_per_unit
    }

    /// Rows that are joined into one run, at most; 1 where requests cannot be joined.
    #[must_use]
    pub fn batch_max(&self) -> u32 {
        self.batch_max
    }

    /// What the registry holds of this model under the id `cid`.
    #[must_use]
    pub fn info(&self, cid: &str) -> ModelInfo {
        ModelInfo {
            cid: cid.into(),
            hash: self.hash,
            igas_base: self.igas_base,
            igas_per_unit: self.igas_per_unit,
            signature: self.signature.clone(),
        }
    }

    /// Prepared weights, the words of [`crate::plan::Space::Weights`]. They never change.
    #[must_use]
    pub fn weights(&self) -> &[u32] {
        &self.pool.words
    }

    /// How its contractions are computed.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.graph.mode
    }

    /// What the model asks of a machine; `None` where no plan at batch 1 exists.
    #[must_use]
    pub fn report(&self) -> Option<Report> {
        let plan = self.plan(&self.extents_max).ok()?;
        let mut operators = BTreeMap::new();
        for node in &self.graph.nodes {
            *operators.entry(node.op.clone()).or_default() += 1;
        }
        let mut kernels = BTreeMap::new();
        for step in &plan.steps {
            *kernels.entry(step.kernel()).or_default() += 1;
        }
        Some(Report {
            operators,
            kernels,
            memory: Memory::of(&plan, self.pool.words.len() as u64),
            macs: plan.macs,
        })
    }

    /// The plan for inputs of these shapes, in the signature's order, from the cache or new.
    ///
    /// # Errors
    /// [`ModelError::WrongInput`] where the shapes do not fit, [`ModelError::TooLarge`] beyond the limits.
    pub fn plan(&self, shapes: &[Vec<u32>]) -> Result<Arc<Plan>, ModelError> {
        if let Some(found) = self.cache.lock().plans.get(shapes) {
            return found.clone();
        }
        self.check(shapes)?;
        let made = bind(
            &self.graph,
            &self.limits,
            Access::Frozen(&self.pool),
            shapes,
        );
        let made = match made {
            // What a request costs beyond what it pays for is not done.
            Ok(bound) if cost::run_ps(&bound.plan) > self.paid_ps(shapes) => {
                Err(ModelError::TooLarge)
            }
            Ok(bound) => Ok(Arc::new(bound.plan)),
            Err(refused) => Err(match refused.why {
                Refuse::Limit { .. } => ModelError::TooLarge,
                Refuse::Invalid(_) | Refuse::Unsupported(_) => ModelError::WrongInput,
            }),
        };
        let mut cache = self.cache.lock();
        if cache.plans.len() >= PLANS_MAX {
            cache.plans.clear();
        }
        cache.plans.insert(shapes.to_vec(), made.clone());
        made
    }

    /// Picoseconds of a run that requests of these shapes pay for.
    fn paid_ps(&self, shapes: &[Vec<u32>]) -> u64 {
        let units = units(&self.graph, shapes);
        let igas = self.igas_per_unit.0.saturating_mul(units);
        cost::picoseconds(self.igas_base.0.saturating_add(igas))
    }

    /// Whether requests of these shapes, whatever their first dimension, may share a run.
    #[must_use]
    pub fn joins(&self, shapes: &[Vec<u32>]) -> bool {
        let batched = !shapes.is_empty()
            && self.graph.inputs.iter().zip(shapes).all(|(input, shape)| {
                !matches!(input.dims.first(), None | Some(Dim::Fixed(_)))
                    && shape[0] == shapes[0][0]
            });
        if !batched {
            return false;
        }
        let tails: Vec<Vec<u32>> = shapes.iter().map(|s| s[1..].to_vec()).collect();
        if let Some(&known) = self.cache.lock().joins.get(&tails) {
            return known;
        }
        let answer = self.find_joins(&tails);
        let mut cache = self.cache.lock();
        if cache.joins.len() >= PLANS_MAX {
            cache.joins.clear();
        }
        cache.joins.insert(tails, answer);
        answer
    }

    fn find_joins(&self, tails: &[Vec<u32>]) -> bool {
        let at = |batch: u32| {
            let shapes: Vec<Vec<u32>> = tails
                .iter()
                .map(|tail| [&[batch], &tail[..]].concat())
                .collect();
            bind(
                &self.graph,
                &self.limits,
                Access::Frozen(&self.pool),
                &shapes,
            )
        };
        let (Ok(one), Ok(two)) = (at(1), at(2)) else {
            return false;
        };
        let grows = one
            .plan
            .output_shapes
            .iter()
            .zip(&two.plan.output_shapes)
            .all(|(a, b)| {
                !a.is_empty() && a.len() == b.len() && a[0] * 2 == b[0] && a[1..] == b[1..]
            });
        // A constant that follows from the shape may not differ between one sample and two, nor inside itself.
        let steady = one.of_shape == two.of_shape && one.of_shape.iter().all(Option::is_some);
        grows && steady && joins(&two.plan)
    }

    /// Checks shapes against what the file declares.
    fn check(&self, shapes: &[Vec<u32>]) -> Result<(), ModelError> {
        if shapes.len() != self.graph.inputs.len() {
            return Err(ModelError::WrongInput);
        }
        let mut symbols: HashMap<&str, u32> = HashMap::new();
        let batches = batches(&self.graph);
        for (input, shape) in self.graph.inputs.iter().zip(shapes) {
            if shape.len() != input.dims.len() || shape.contains(&0) {
                return Err(ModelError::WrongInput);
            }
            for (axis, (dim, &extent)) in input.dims.iter().zip(shape).enumerate() {
                let fits = match dim {
                    Dim::Fixed(d) => *d == extent,
                    Dim::Symbol(name) => *symbols.entry(name).or_insert(extent) == extent,
                    Dim::Free => true,
                };
                if !fits {
                    return Err(ModelError::WrongInput);
                }
                let batch = matches!(dim, Dim::Symbol(name) if batches.contains(name.as_str()));
                let chosen = !matches!(dim, Dim::Fixed(_)) && !batch;
                if chosen && axis > 0 && extent > EXTENT_MAX {
                    return Err(ModelError::TooLarge);
                }
            }
        }
        Ok(())
    }
}

/// Whether a dimension beyond the first is the caller's choice.
fn has_free_extents(graph: &Graph) -> bool {
    graph
        .inputs
        .iter()
        .any(|i| i.dims.iter().skip(1).any(|d| !matches!(d, Dim::Fixed(_))))
}

/// Symbols of the batch: one that is somewhere a first dimension is the batch wherever it stands.
fn batches(graph: &Graph) -> BTreeSet<&str> {
    graph
        .inputs
        .iter()
        .filter_map(|input| match input.dims.first() {
            Some(Dim::Symbol(name)) => Some(name.as_str()),
            _ => None,
        })
        .collect()
}

/// Dimensions (input, axis) that are the caller's choice and not the batch, those of one symbol together.
fn choices(graph: &Graph) -> Vec<Vec<(usize, usize)>> {
    let batches = batches(graph);
    let mut of_symbol: BTreeMap<&str, Vec<(usize, usize)>> = BTreeMap::new();
    let mut out = Vec::new();
    for (i, input) in graph.inputs.iter().enumerate() {
        for (axis, dim) in input.dims.iter().enumerate() {
            match dim {
                Dim::Symbol(name) if !batches.contains(name.as_str()) => {
                    of_symbol.entry(name).or_default().push((i, axis));
                }
                Dim::Free if axis > 0 => out.push(vec![(i, axis)]),
                _ => {}
            }
        }
    }
    out.extend(of_symbol.into_values());
    out
}

/// Shapes with `batch` as first dimension where it is the caller's choice, and `extent` for every other choice.
fn shapes_at(graph: &Graph, batch: u32, extent: u32) -> Vec<Vec<u32>> {
    let batches = batches(graph);
    let extent_of = |axis: usize, dim: &Dim| match dim {
        Dim::Fixed(d) => *d,
        Dim::Symbol(name) if batches.contains(name.as_str()) => batch,
        Dim::Free if axis == 0 => batch,
        _ => extent,
    };
    graph
        .inputs
        .iter()
        .map(|input| {
            input
                .dims
                .iter()
                .enumerate()
                .map(|(axis, dim)| extent_of(axis, dim))
                .collect()
        })
        .collect()
}

fn units(graph: &Graph, shapes: &[Vec<u32>]) -> u64 {
    let ports = graph.inputs.iter().map(port).collect();
    let signature = Signature {
        inputs: ports,
        outputs: Vec::new(),
    };
    signature.units(shapes.iter().map(Vec::as_slice))
}

fn port(input: &crate::graph::Input) -> Port {
    Port {
        name: input.name.clone(),
        element: input.element,
        shape: input
            .dims
            .iter()
            .map(|d| match d {
                Dim::Fixed(d) => *d,
                Dim::Symbol(_) | Dim::Free => 0,
            })
            .collect(),
    }
}

/// The signature: an output's dimension is fixed where it was the same in every binding.
fn signature(graph: &Graph, bound: &Bound, others: &[Vec<Vec<u32>>]) -> Signature {
    let outputs = graph
        .outputs
        .iter()
        .enumerate()
        .map(|(i, output)| {
            let shape = &bound.plan.output_shapes[i];
            let steady = |axis: usize| {
                others
                    .iter()
                    .all(|o| o[i].get(axis) == shape.get(axis) && o[i].len() == shape.len())
            };
            Port {
                name: output.name.clone(),
                element: bound.elements[i],
                shape: (0..shape.len())
                    .map(|axis| if steady(axis) { shape[axis] } else { 0 })
                    .collect(),
            }
        })
        .collect();
    Signature {
        inputs: graph.inputs.iter().map(port).collect(),
        outputs,
    }
}

fn load_error(refused: Refused) -> LoadError {
    let Refused { op, node, why } = refused;
    match why {
        Refuse::Unsupported(reason) => LoadError::Unsupported { op, node, reason },
        Refuse::Invalid(reason) => LoadError::Invalid { op, node, reason },
        Refuse::Limit { what, found, limit } => LoadError::Limit { what, found, limit },
    }
}
