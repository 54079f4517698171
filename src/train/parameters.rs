//! Weights that are trained: recipes become states with the file's own names and shapes, and the part of a
//! recipe that was the host's work (rows of a tensor, a turned matrix, a table of biases spread over distances)
//! becomes ops, so that gradients arrive in the file's layout and what is saved is what the file had.

use std::collections::BTreeMap;

use crate::checkpoint::Checkpoint;
use crate::checkpoint::materialise::{materialise, transformed};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Part, Storage, TensorIndex, Transform, Value, Weight};
use crate::ops::Op;
use crate::tensor::{DType, HostTensor, Shape, TensorDesc};

/// A tensor that is trained.
#[derive(Debug, Clone)]
pub struct Parameter {
    /// Name in the file, and of the state.
    pub name: String,
    /// Shape of the state: the file's, but for a position table at another image size.
    pub shape: Shape,
    /// What it begins with.
    pub initial: Weight,
}

/// A graph whose trained weights are states.
pub struct Parameterised {
    /// The graph; outputs as before.
    pub graph: Graph,
    /// The parameters, in the order in which the graph first reads them.
    pub parameters: Vec<Parameter>,
    /// States that never change, and what they hold: indices.
    pub constants: Vec<(String, HostTensor)>,
}

impl Parameterised {
    /// What the states begin with, by name: the constants, and the parameters as the checkpoint has them.
    ///
    /// # Errors
    /// If a weight cannot be made.
    pub(super) fn contents(&self, checkpoint: &Checkpoint) -> Result<Vec<(String, HostTensor)>> {
        let parameters = self
            .parameters
            .iter()
            .map(|p| Ok((p.name.clone(), materialise(&p.initial, p.shape, checkpoint)?)));
        self.constants.iter().cloned().map(Ok).chain(parameters).collect()
    }
}

/// Makes states of the weights of a graph that `trained` names; `index` holds the file's shapes.
///
/// # Errors
/// [`Error::Usage`] for a tensor that enters the graph in a way that has no way back.
pub fn parameterise(
    graph: &Graph,
    index: &TensorIndex,
    trained: &dyn Fn(&str) -> bool,
) -> Result<Parameterised> {
    let mut made = Maker {
        index,
        trained,
        g: Graph::new(),
        states: BTreeMap::new(),
        turned: BTreeMap::new(),
        parameters: vec![],
        constants: vec![],
    };
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for node in graph.nodes() {
        let value = match &node.op {
            Op::Weight(weight) if made.is_trained(weight) => made.weight(weight, node.desc.shape)?,
            _ => {
                let inputs = node.inputs.iter().map(|v| map[v.index()]).collect();
                made.g.insert(Node { inputs, ..node.clone() })
            }
        };
        map.push(value);
    }
    for (name, v) in graph.outputs() {
        made.g.output(name.clone(), map[v.index()]);
    }
    made.g.check()?;
    Ok(Parameterised { graph: made.g, parameters: made.parameters, constants: made.constants })
}

struct Maker<'a> {
    index: &'a TensorIndex,
    trained: &'a dyn Fn(&str) -> bool,
    g: Graph,
    /// Values of states by name: a tied table is one.
    states: BTreeMap<String, Value>,
    /// Turned ones.
    turned: BTreeMap<String, Value>,
    parameters: Vec<Parameter>,
    constants: Vec<(String, HostTensor)>,
}

impl Maker<'_> {
    fn is_trained(&self, weight: &Weight) -> bool {
        weight.parts.iter().flat_map(Part::names).any(self.trained)
    }

    /// A weight of the graph, out of its parameters: joined parts are laid one behind the other.
    fn weight(&mut self, weight: &Weight, shape: Shape) -> Result<Value> {
        self.g.scope(weight.to_string());
        let inner: usize = shape.dims().iter().skip(1).product();
        if let [part] = &weight.parts[..] {
            let whole = self.part(part, shape)?;
            return Ok(self.shaped(whole, shape));
        }
        let mut parts = Vec::with_capacity(weight.parts.len());
        for part in &weight.parts {
            let rows = match part {
                Part::Zeros { rows } => *rows,
                Part::Tensor { rows: Some(rows), .. } => rows.len(),
                Part::Tensor { name, .. } => self.index.get(name).map_or(0, |s| s.elements() / inner),
                _ => return Err(untrainable(&weight.to_string())),
            };
            let value = self.part(part, Shape::new(&[rows, inner]))?;
            parts.push(self.shaped(value, Shape::new(&[rows, inner])));
        }
        let joined = self.g.concat_tokens(1, &parts);
        Ok(self.shaped(joined, shape))
    }

    fn shaped(&mut self, v: Value, shape: Shape) -> Value {
        if self.g.shape(v) == shape { v } else { self.g.reshape(v, shape) }
    }

    /// One part, of as many elements as `shape`.
    fn part(&mut self, part: &Part, shape: Shape) -> Result<Value> {
        let alone = || Weight { parts: vec![part.clone()] };
        let Part::Tensor { name, rows, transform } = part else {
            let frozen = matches!(part, Part::Zeros { .. });
            return if frozen {
                Ok(self.g.weight(alone(), shape))
            } else {
                Err(untrainable(&alone().to_string()))
            };
        };
        if !(self.trained)(name) {
            return Ok(self.g.weight(alone(), shape));
        }
        let whole = match transform {
            Transform::None => self.parameter(name)?,
            Transform::Transpose => self.transposed(name)?,
            Transform::Positions { .. } => self.state(name, shape, alone()),
            Transform::RelativeBias { from, to } if from == to => self.spread(name, transform)?,
            Transform::DistanceBias { .. } => self.spread(name, transform)?,
            _ => return Err(untrainable(&alone().to_string())),
        };
        let Some(rows) = rows else { return Ok(whole) };
        let inner: usize = shape.dims().iter().skip(1).product();
        let total = self.g.shape(whole).elements() / inner;
        if rows.start == 0 && rows.end == total {
            return Ok(whole);
        }
        let table = self.shaped(whole, Shape::new(&[1, total, inner]));
        Ok(self.g.slice_tokens(table, rows.clone()))
    }

    /// The state of a tensor of the file.
    fn parameter(&mut self, name: &str) -> Result<Value> {
        let shape = self.index.get(name).copied().ok_or_else(|| {
            Error::usage(
                format!("the checkpoint has no tensor `{name}`"),
                "its names are listed by `inspect`",
            )
        })?;
        Ok(self.state(name, shape, Weight::tensor(name)))
    }

    fn state(&mut self, name: &str, shape: Shape, initial: Weight) -> Value {
        if let Some(&known) = self.states.get(name) {
            return known;
        }
        let v = self.g.state(name, TensorDesc::f32(shape), Storage::AsDeclared);
        self.states.insert(name.to_owned(), v);
        self.parameters.push(Parameter { name: name.to_owned(), shape, initial });
        v
    }

    fn transposed(&mut self, name: &str) -> Result<Value> {
        if let Some(&known) = self.turned.get(name) {
            return Ok(known);
        }
        let whole = self.parameter(name)?;
        let turned = self.g.transpose(whole);
        self.turned.insert(name.to_owned(), turned);
        Ok(turned)
    }

    /// A table (R,H) spread to (H,…): which row goes where is found by spreading the numbers of the rows.
    fn spread(&mut self, name: &str, transform: &Transform) -> Result<Value> {
        let table = self.parameter(name)?;
        let rows = self.g.shape(table).dims()[0];
        let numbers = transformed(transform, &[rows, 1], (0..rows).map(|r| r as f32).collect());
        let ids: Vec<u32> = numbers.iter().map(|&r| r as u32).collect();
        let desc = TensorDesc::new(DType::U32, [ids.len()]);
        let constant = format!("rows of {}", Weight::transformed(name, transform.clone()));
        let ids = HostTensor::u32([ids.len()], ids);
        if !self.constants.iter().any(|(known, _)| *known == constant) {
            self.constants.push((constant.clone(), ids));
        }
        let ids = self.g.state(&constant, desc, Storage::AsDeclared);
        let spread = self.g.gather(table, ids); // (…,H)
        Ok(self.g.transpose(spread))
    }
}

fn untrainable(recipe: &str) -> Error {
    let what = format!("`{recipe}` is changed before it is used, in a way that cannot be trained through");
    Error::usage(what, "freeze it")
}
