//! From the schema's types to the graph: names resolved, order checked, constants copied.

use super::proto::attribute_proto::AttributeType;
use super::proto::tensor_shape_proto::dimension::Value as DimValue;
use super::proto::type_proto::Value as TypeValue;
use super::proto::{AttributeProto, GraphProto, ModelProto, NodeProto, ValueInfoProto};
use super::{Fixed, held, limit, read_tensor};
use crate::error::LoadError;
use crate::graph::{Attr, Attrs, Constant, Dim, Graph, Input, Node, Output, Subgraph, ValueId};
use crate::limits::Limits;
use crate::num::Mode;
use penstock_rules::tensor::ElementType;
use std::collections::HashMap;
use std::sync::Arc;

/// Versions of ONNX's own operator set that are taken.
const OPSETS: std::ops::RangeInclusive<i64> = 1..=22;

/// Versions of the classical operators' set that are taken.
const OPSETS_ML: std::ops::RangeInclusive<i64> = 1..=5;

struct Importer<'a> {
    limits: &'a Limits,
    fixed: &'a Fixed,
    versions: HashMap<String, i64>,
    values: Vec<Option<Arc<Constant>>>,
    /// Names in scope, innermost last.
    scopes: Vec<HashMap<String, ValueId>>,
}

/// Makes a graph of a decoded file.
pub(crate) fn import(
    model: &ModelProto,
    limits: &Limits,
    fixed: &Fixed,
) -> Result<Graph, LoadError> {
    if !model.functions.is_empty() {
        return Err(LoadError::Malformed("functions are not taken".into()));
    }
    let graph = model
        .graph
        .as_ref()
        .ok_or_else(|| LoadError::Malformed("there is no graph".into()))?;
    let mut importer = Importer {
        limits,
        fixed,
        versions: HashMap::new(),
        values: Vec::new(),
        scopes: vec![HashMap::new()],
    };
    for set in &model.opset_import {
        let domain = domain(set.domain());
        // A file may name a domain that none of its nodes uses, and a domain twice: the newest counts.
        let version = importer.versions.entry(domain).or_default();
        *version = set.version().max(*version);
    }
    importer.constants(graph)?;
    let mut inputs = Vec::new();
    for info in &graph.input {
        if importer.scopes[0].contains_key(info.name()) {
            continue;
        }
        if importer.fix(info)? {
            continue;
        }
        let (element, dims) = importer.port(info)?;
        let value = importer.define(info.name())?;
        inputs.push(Input {
            name: info.name().to_owned(),
            value,
            element,
            dims,
        });
    }
    let nodes = importer.nodes(graph)?;
    let mut outputs = Vec::new();
    for info in &graph.output {
        importer.name(info.name())?;
        outputs.push(Output {
            name: info.name().to_owned(),
            value: importer.resolve(info.name())?,
        });
    }
    if outputs.is_empty() {
        return Err(LoadError::Malformed("the graph has no outputs".into()));
    }
    if inputs.len().max(outputs.len()) > 255 {
        return Err(limit(
            "inputs or outputs",
            inputs.len().max(outputs.len()),
            255,
        ));
    }
    Ok(Graph {
        mode: mode(model)?,
        values: importer.values,
        inputs,
        nodes,
        outputs,
    })
}

/// The mode that the file's metadata choose.
fn mode(model: &ModelProto) -> Result<Mode, LoadError> {
    let chosen = model
        .metadata_props
        .iter()
        .rfind(|entry| entry.key() == Mode::KEY);
    let Some(entry) = chosen else {
        return Ok(Mode::default());
    };
    Mode::from_name(entry.value()).ok_or_else(|| LoadError::Mode(entry.value().to_owned()))
}

fn domain(name: &str) -> String {
    if name == "ai.onnx" { "" } else { name }.to_owned()
}

fn value_error(name: &str, reason: impl Into<String>) -> LoadError {
    LoadError::Value {
        name: name.chars().take(80).collect(),
        reason: reason.into(),
    }
}

impl Importer<'_> {
    fn name(&self, name: &str) -> Result<(), LoadError> {
        if name.len() > self.limits.string_bytes_max {
            return Err(limit(
                "bytes of a name",
                name.len(),
                self.limits.string_bytes_max,
            ));
        }
        Ok(())
    }

    fn define(&mut self, name: &str) -> Result<ValueId, LoadError> {
        self.name(name)?;
        if name.is_empty() {
            return Err(value_error(name, "a value needs a name"));
        }
        let id = self.values.len();
        self.values.push(None);
        let scope = self.scopes.last_mut().expect("a scope is open");
        if scope.insert(name.to_owned(), id).is_some() {
            return Err(value_error(name, "written more than once"));
        }
        Ok(id)
    }

    fn resolve(&self, name: &str) -> Result<ValueId, LoadError> {
        self.scopes
            .iter()
            .rev()
            .find_map(|scope| scope.get(name).copied())
            .ok_or_else(|| value_error(name, "read before it is written"))
    }

    fn constants(&mut self, graph: &GraphProto) -> Result<(), LoadError> {
        if !graph.sparse_initializer.is_empty() {
            return Err(LoadError::Malformed(
                "sparse initialisers are not taken".into(),
            ));
        }
        for tensor in &graph.initializer {
            let constant = read_tensor(tensor, self.limits)?;
            let id = self.define(tensor.name())?;
            self.values[id] = Some(Arc::new(constant));
        }
        Ok(())
    }

    /// Gives an input its fixed value, if it has one.
    fn fix(&mut self, info: &ValueInfoProto) -> Result<bool, LoadError> {
        let Some(constant) = self.fixed.get(info.name()) else {
            return Ok(false);
        };
        let id = self.define(info.name())?;
        self.values[id] = Some(constant.clone());
        Ok(true)
    }

    fn port(&self, info: &ValueInfoProto) -> Result<(ElementType, Vec<Dim>), LoadError> {
        let name = info.name();
        let Some(TypeValue::TensorType(tensor)) =
            info.r#type.as_ref().and_then(|t| t.value.as_ref())
        else {
            return Err(value_error(name, "not a tensor"));
        };
        let number = tensor.elem_type();
        let element = held(number)
            .ok_or_else(|| value_error(name, format!("element type {number} is not supported")))?;
        let shape = tensor
            .shape
            .as_ref()
            .ok_or_else(|| value_error(name, "an input needs a rank"))?;
        let mut dims = Vec::new();
        for dim in &shape.dim {
            dims.push(match &dim.value {
                Some(DimValue::DimValue(v)) if *v > 0 => Dim::Fixed(
                    u32::try_from(*v)
                        .map_err(|_| value_error(name, format!("dimension {v} is out of range")))?,
                ),
                Some(DimValue::DimParam(symbol)) if !symbol.is_empty() && symbol != "?" => {
                    self.name(symbol)?;
                    Dim::Symbol(symbol.clone())
                }
                // Exporters write 0, -1 or "?" for an extent that they don't know.
                _ => Dim::Free,
            });
        }
        if dims.len() > crate::plan::RANK_MAX {
            return Err(limit("rank of an input", dims.len(), crate::plan::RANK_MAX));
        }
        Ok((element, dims))
    }

    fn nodes(&mut self, graph: &GraphProto) -> Result<Vec<Node>, LoadError> {
        graph.node.iter().map(|node| self.node(node)).collect()
    }

    fn node(&mut self, node: &NodeProto) -> Result<Node, LoadError> {
        let domain = domain(node.domain());
        for text in [node.op_type(), node.name(), &domain] {
            self.name(text)?;
        }
        let version = self.versions.get(&domain).copied().unwrap_or(0);
        let known = match domain.as_str() {
            "" => OPSETS.contains(&version),
            "ai.onnx.ml" => OPSETS_ML.contains(&version),
            _ => false,
        };
        if !known {
            return Err(LoadError::Opset { domain, version });
        }
        let name = if node.name().is_empty() {
            node.output.first().map_or("", String::as_str)
        } else {
            node.name()
        };
        let name: String = name.chars().take(80).collect();
        let optional = |importer: &Self, text: &String| {
            (!text.is_empty())
                .then(|| importer.resolve(text))
                .transpose()
        };
        let inputs = node
            .input
            .iter()
            .map(|text| optional(self, text))
            .collect::<Result<Vec<_>, _>>()?;
        let mut attrs = Attrs::default();
        for attribute in &node.attribute {
            self.name(attribute.name())?;
            if let Some(value) = self.attribute(attribute)? {
                attrs.0.insert(attribute.name().to_owned(), value);
            }
        }
        let outputs = node
            .output
            .iter()
            .map(|text| (!text.is_empty()).then(|| self.define(text)).transpose())
            .collect::<Result<Vec<_>, _>>()?;
        Ok(Node {
            op: node.op_type().to_owned(),
            domain,
            version,
            name,
            inputs,
            outputs,
            attrs,
        })
    }

    fn attribute(&mut self, a: &AttributeProto) -> Result<Option<Attr>, LoadError> {
        if !a.ref_attr_name().is_empty() {
            return Err(value_error(
                a.name(),
                "references to attributes are not taken",
            ));
        }
        let text = |bytes: &[u8]| {
            std::str::from_utf8(bytes)
                .map(str::to_owned)
                .map_err(|_| value_error(a.name(), "attribute is not utf-8"))
        };
        Ok(Some(match a.r#type() {
            AttributeType::Float => Attr::Float(a.f()),
            AttributeType::Int => Attr::Int(a.i()),
            AttributeType::String => Attr::Str(text(a.s())?),
            AttributeType::Floats => Attr::Floats(a.floats.clone()),
            AttributeType::Ints => Attr::Ints(a.ints.clone()),
            AttributeType::Strings => Attr::Strs(
                a.strings
                    .iter()
                    .map(|s| text(s))
                    .collect::<Result<_, _>>()?,
            ),
            AttributeType::Tensor => {
                let tensor =
                    a.t.as_ref()
                        .ok_or_else(|| value_error(a.name(), "attribute has no tensor"))?;
                Attr::Tensor(Arc::new(read_tensor(tensor, self.limits)?))
            }
            AttributeType::Graph => {
                let graph =
                    a.g.as_ref()
                        .ok_or_else(|| value_error(a.name(), "attribute has no graph"))?;
                Attr::Graph(Arc::new(self.subgraph(graph)?))
            }
            // Old files leave the type out where the operator makes it plain; none of an opset from 7 on does.
            AttributeType::Undefined => return Ok(None),
            other => {
                return Err(value_error(
                    a.name(),
                    format!("attributes of type {other:?} are not taken"),
                ));
            }
        }))
    }

    fn subgraph(&mut self, graph: &GraphProto) -> Result<Subgraph, LoadError> {
        self.scopes.push(HashMap::new());
        let result = self.open_subgraph(graph);
        self.scopes.pop();
        result
    }

    fn open_subgraph(&mut self, graph: &GraphProto) -> Result<Subgraph, LoadError> {
        self.constants(graph)?;
        let mut inputs = Vec::new();
        for info in &graph.input {
            inputs.push(self.define(info.name())?);
        }
        let nodes = self.nodes(graph)?;
        let outputs = graph
            .output
            .iter()
            .map(|info| self.resolve(info.name()))
            .collect::<Result<_, _>>()?;
        Ok(Subgraph {
            inputs,
            nodes,
            outputs,
        })
    }
}
