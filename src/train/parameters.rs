//! Weights that are trained: recipes become states with the file's own names and shapes, and the part of a
//! recipe that was the host's work (rows of a tensor, a turned matrix, a table of biases spread over distances)
//! becomes ops, so that gradients arrive in the file's layout and what is saved is what the file had.
//!
//! Of a weight with a product of low rank (LoRA) the two factors are states, under the names of the adapter's file,
//! and the weight beneath stays. A linear layer by it reads x·Wᵀ + s·(x·Aᵀ)·Bᵀ, so that no gradient is ever of the
//! size of W; anything else reads W + s·B·A.

use std::collections::BTreeMap;
use std::ops::Range;

use crate::checkpoint::materialise::{materialise, transformed};
use crate::checkpoint::{Change, Checkpoint, LowRank};
use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Part, Storage, Transform, Value, Weight};
use crate::ops::{MatMul, Op};
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

/// Makes states of the tensors of a checkpoint that `trained` names, and of those of an adapter that is laid over it,
/// by their own names.
///
/// # Errors
/// [`Error::Usage`] for a tensor that enters the graph in a way that has no way back.
pub fn parameterise(
    graph: &Graph,
    checkpoint: &Checkpoint,
    trained: &dyn Fn(&str) -> bool,
) -> Result<Parameterised> {
    let mut made = Maker {
        checkpoint,
        trained,
        g: Graph::new(),
        states: BTreeMap::new(),
        turned: BTreeMap::new(),
        parameters: vec![],
        constants: vec![],
    };
    let layers = only_of_layers(graph);
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (i, node) in graph.nodes().iter().enumerate() {
        let mut value = match &node.op {
            Op::Weight(weight) if layers[i] && made.low_rank(weight).is_some() => {
                made.beneath(weight, node.desc.shape)
            }
            Op::Weight(weight) if made.is_trained(weight) => made.weight(weight, node.desc.shape)?,
            _ => {
                let inputs = node.inputs.iter().map(|v| map[v.index()]).collect();
                made.g.insert(Node { inputs, ..node.clone() })
            }
        };
        if let (Op::MatMul(_), [x, w, ..]) = (&node.op, &node.inputs[..])
            && let Op::Weight(weight) = &graph.nodes()[w.index()].op
            && layers[w.index()]
            && let Some((low, rows)) = made.low_rank(weight)
        {
            value = made.beside(map[x.index()], value, &low, rows)?;
        }
        map.push(value);
    }
    for (name, v) in graph.outputs() {
        made.g.output(name.clone(), map[v.index()]);
    }
    made.g.check()?;
    Ok(Parameterised { graph: made.g, parameters: made.parameters, constants: made.constants })
}

struct Maker<'a> {
    checkpoint: &'a Checkpoint,
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
        weight.parts.iter().flat_map(Part::names).any(|name| self.trains(name))
    }

    /// Whether a tensor, or what an adapter makes of it, is trained.
    fn trains(&self, name: &str) -> bool {
        match self.checkpoint.change_of(name) {
            Some(Change::LowRank(low)) => (self.trained)(&low.a) || (self.trained)(&low.b),
            Some(Change::Replaced(by)) => (self.trained)(by),
            None => (self.trained)(name),
        }
    }

    /// The trained product of a weight (N,K) that is one tensor, and which of its rows are taken.
    fn low_rank(&self, weight: &Weight) -> Option<(LowRank, Option<Range<usize>>)> {
        let [Part::Tensor { name, rows, transform }] = &weight.parts[..] else { return None };
        let Some(Change::LowRank(low)) = self.checkpoint.change_of(name) else { return None };
        let out_in = match transform {
            Transform::None => !low.turned,
            Transform::Transpose => low.turned,
            _ => false,
        };
        (out_in && self.trains(name)).then(|| (low.clone(), rows.clone()))
    }

    /// A weight without its product.
    fn beneath(&mut self, weight: &Weight, shape: Shape) -> Value {
        let base = |part: &Part| match part {
            Part::Tensor { name, rows, transform } => Part::Tensor {
                name: Checkpoint::base_layer(name),
                rows: rows.clone(),
                transform: transform.clone(),
            },
            other => other.clone(),
        };
        self.g.weight(Weight { parts: weight.parts.iter().map(base).collect() }, shape)
    }

    /// What the product adds to a linear layer. x: (…,K), y: (…,N); returns (…,N).
    fn beside(&mut self, x: Value, y: Value, low: &LowRank, rows: Option<Range<usize>>) -> Result<Value> {
        self.g.scope(low.a.clone());
        let [a, b] = [self.factor(&low.a)?, self.factor(&low.b)?];
        let inner = self.g.linear(x, a, None); // (…,r)
        let b = self.rows(b, rows.as_ref());
        let product = self.g.linear(inner, b, None); // (…,N)
        let product = self.g.scale(product, low.scale);
        Ok(self.g.add(y, product))
    }

    /// A factor of a product as a matrix: frozen ones may be among them.
    fn factor(&mut self, name: &str) -> Result<Value> {
        let whole = if (self.trained)(name) {
            self.parameter(name)?
        } else {
            self.g.weight(Weight::tensor(name), self.shape_of(name)?)
        };
        let shape = self.g.shape(whole);
        let first = shape.dims()[0];
        Ok(self.shaped(whole, Shape::new(&[first, shape.elements() / first])))
    }

    /// Some rows of a matrix, or all.
    fn rows(&mut self, matrix: Value, rows: Option<&Range<usize>>) -> Value {
        let shape = self.g.shape(matrix);
        let (total, inner) = (shape.dims()[0], shape.width());
        match rows {
            Some(rows) if *rows != (0..total) => {
                let table = self.shaped(matrix, Shape::new(&[1, total, inner]));
                let taken = self.g.slice_tokens(table, rows.clone());
                self.shaped(taken, Shape::new(&[rows.len(), inner]))
            }
            _ => matrix,
        }
    }

    /// W + s·B·A, or some rows of it, as a part of a weight has it.
    fn adapted(&mut self, part: &Part, low: &LowRank, shape: Shape) -> Result<Value> {
        let alone = Weight { parts: vec![part.clone()] };
        let Part::Tensor { rows, transform: transform @ (Transform::None | Transform::Transpose), .. } = part
        else {
            return Err(untrainable(&alone.to_string()));
        };
        let base = self.beneath(&alone, shape);
        let [a, b] = [self.factor(&low.a)?, self.factor(&low.b)?];
        let a = self.g.transpose(a); // (K,r)
        let in_out = low.turned != (*transform == Transform::Transpose);
        let (left, right) = if in_out { (a, b) } else { (b, a) };
        let left = self.rows(left, rows.as_ref());
        let product = self.g.linear(left, right, None);
        let product = self.g.scale(product, low.scale);
        let product = self.shaped(product, shape);
        Ok(self.g.add(base, product))
    }

    fn shape_of(&self, name: &str) -> Result<Shape> {
        self.checkpoint.readable(name).map_err(|_| {
            Error::usage(
                format!("the checkpoint has no tensor `{name}`"),
                "its names are listed by `inspect`",
            )
        })
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
                Part::Rotary(table) => table.rows(),
                Part::Tensor { rows: Some(rows), .. } => rows.len(),
                Part::Tensor { name, .. } => self.shape_of(name)?.elements() / inner,
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
            let frozen = matches!(part, Part::Zeros { .. } | Part::Rotary(_));
            return if frozen {
                Ok(self.g.weight(alone(), shape))
            } else {
                Err(untrainable(&alone().to_string()))
            };
        };
        if !self.trains(name) {
            return Ok(self.g.weight(alone(), shape));
        }
        let checkpoint = self.checkpoint;
        let name = match checkpoint.change_of(name) {
            Some(Change::LowRank(low)) => return self.adapted(part, low, shape),
            Some(Change::Replaced(by)) => by,
            None => name,
        };
        let whole = match transform {
            Transform::None => self.parameter(name)?,
            Transform::Transpose => self.transposed(name)?,
            Transform::Positions { .. } => self.state(name, shape, renamed(part, name)),
            Transform::RelativeBias { from, to } if from == to => self.spread(name, transform)?,
            Transform::DistanceBias { .. } => self.spread(name, transform)?,
            _ => return Err(untrainable(&alone().to_string())),
        };
        if rows.is_none() {
            return Ok(whole);
        }
        let inner: usize = shape.dims().iter().skip(1).product();
        let total = self.g.shape(whole).elements() / inner;
        let matrix = self.shaped(whole, Shape::new(&[total, inner]));
        Ok(self.rows(matrix, rows.as_ref()))
    }

    /// The state of a tensor of the file.
    fn parameter(&mut self, name: &str) -> Result<Value> {
        let shape = self.shape_of(name)?;
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

/// The recipe of a part, from a tensor of another name.
fn renamed(part: &Part, name: &str) -> Weight {
    let mut part = part.clone();
    if let Part::Tensor { name: own, .. } = &mut part {
        name.clone_into(own);
    }
    Weight { parts: vec![part] }
}

/// Whether what each node gives is read by linear layers only, as their weight, and is no output.
fn only_of_layers(graph: &Graph) -> Vec<bool> {
    let mut only = vec![true; graph.nodes().len()];
    for node in graph.nodes() {
        let plain = matches!(&node.op, Op::MatMul(op) if *op == MatMul::default());
        for (at, v) in node.inputs.iter().enumerate() {
            only[v.index()] &= plain && at == 1;
        }
    }
    graph.outputs().iter().for_each(|(_, v)| only[v.index()] = false);
    only
}

fn untrainable(recipe: &str) -> Error {
    let what = format!("`{recipe}` is changed before it is used, in a way that cannot be trained through");
    Error::usage(what, "freeze it")
}
