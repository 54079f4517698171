//! What to compute, and nothing else: a list of nodes in topological order.
//!
//! A [`Graph`] is built by straight-line code (a model's `build`), printed as text, rewritten by
//! `plan::fuse`, and compiled into a `Plan`. It knows no buffers, kernels or files: a weight is a
//! *recipe* ([`Weight`]) naming tensors of a checkpoint. Builder methods live beside their op in
//! [`crate::ops`].
//!
//! Builders never fail one by one: the first shape error is kept and returned by
//! [`Graph::check`], so that model code stays straight-line.

mod differentiate;
mod recipe;
mod recompute;

use std::collections::BTreeMap;
use std::fmt;

use crate::error::{Error, Result};
use crate::ops::Op;
use crate::tensor::{Shape, TensorDesc};
pub use differentiate::{Backward, Gradient, differentiate};
pub use recipe::{Base, BatchNorm, Epsilon, Part, Places, PositionFilter, RotaryTable, Transform, Weight};
pub use recompute::{layer_of, recompute};

/// One tensor of one [`Graph`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Value(pub(crate) u32);

impl Value {
    /// Position of the producing node in [`Graph::nodes`].
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What is known of a checkpoint before reading any element: tensor names and shapes.
pub type TensorIndex = BTreeMap<String, Shape>;

/// How a state is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Storage {
    /// In the type it is declared with.
    AsDeclared,
    /// In f16 where activations are.
    AsActivations,
}

/// One operation and the tensor it makes.
#[derive(Debug, Clone)]
pub struct Node {
    /// What is computed.
    pub op: Op,
    /// Operands, in the order the op documents.
    pub inputs: Vec<Value>,
    /// Type and shape of the result.
    pub desc: TensorDesc,
    /// Where in the model this stands: `layer.3.attention`. Names GPU objects and profile rows.
    pub label: String,
}

/// Operations in topological order, and which of their results are wanted.
#[derive(Debug, Clone, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    outputs: Vec<(String, Value)>,
    scope: String,
    error: Option<Error>,
}

impl Graph {
    /// An empty graph.
    pub fn new() -> Self {
        Self::default()
    }

    /// Nodes, operands before users.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// The value made by the node at `index` of [`Graph::nodes`].
    pub fn value(&self, index: usize) -> Option<Value> {
        (index < self.nodes.len()).then_some(Value(index as u32))
    }

    /// The node that makes a value.
    pub fn node(&self, v: Value) -> &Node {
        &self.nodes[v.index()]
    }

    /// Type and shape of a value.
    pub fn desc(&self, v: Value) -> TensorDesc {
        self.node(v).desc
    }

    /// Shape of a value.
    pub fn shape(&self, v: Value) -> Shape {
        self.desc(v).shape
    }

    /// Named results, in the order they were declared.
    pub fn outputs(&self) -> &[(String, Value)] {
        &self.outputs
    }

    /// Sets the label given to the nodes built from here on (`layer.3.attention`).
    pub fn scope(&mut self, label: impl Into<String>) {
        self.scope = label.into();
    }

    /// A tensor the caller passes on every run.
    pub fn input(&mut self, name: &str, desc: TensorDesc) -> Value {
        let op = Op::Input { name: name.to_owned() };
        self.insert(Node { op, inputs: vec![], desc, label: name.to_owned() })
    }

    /// A weight of the given shape: a recipe, or the name of a tensor of the checkpoint. Element type is f32
    /// here; `plan` may store it narrower.
    pub fn weight(&mut self, weight: impl Into<Weight>, shape: impl Into<Shape>) -> Value {
        let weight = weight.into();
        let label = weight.to_string();
        let op = Op::Weight(weight);
        self.insert(Node { op, inputs: vec![], desc: TensorDesc::f32(shape), label })
    }

    /// A tensor that lies on the device and survives runs: a KV cache, the place in a sequence. Every
    /// executor that shares the [`States`](crate::gpu::States) and names it sees the same contents,
    /// zeros at first. Ops that change it say so in [`OpDef::writes`](crate::ops::OpDef::writes).
    pub fn state(&mut self, name: &str, desc: TensorDesc, store: Storage) -> Value {
        let op = Op::State { name: name.to_owned(), store };
        self.insert(Node { op, inputs: vec![], desc, label: name.to_owned() })
    }

    /// Declares a result under a name. A later declaration of the same name replaces the earlier.
    pub fn output(&mut self, name: impl Into<String>, v: Value) {
        let name = name.into();
        self.outputs.retain(|(n, _)| *n != name);
        self.outputs.push((name, v));
    }

    /// Appends a computed node; a shape error is kept for [`Graph::check`].
    pub fn push(&mut self, op: impl Into<Op>, inputs: Vec<Value>) -> Value {
        let op = op.into();
        let descs: Vec<TensorDesc> = inputs.iter().map(|&v| self.desc(v)).collect();
        let desc = match op.infer(&descs) {
            Ok(desc) => desc,
            Err(e) => {
                self.error.get_or_insert(Error::model(
                    &self.scope,
                    format!("{}: {e}", op.name()),
                    "the configuration and the tensors do not fit each other",
                ));
                descs.first().copied().unwrap_or(TensorDesc::f32([1]))
            }
        };
        let label = self.scope.clone();
        self.insert(Node { op, inputs, desc, label })
    }

    /// Appends a node as it is (graph rewrites, which keep descs and labels).
    pub fn insert(&mut self, node: Node) -> Value {
        let v = Value(u32::try_from(self.nodes.len()).expect("a graph has fewer than 2^32 nodes"));
        self.nodes.push(node);
        v
    }

    /// The first shape error met while building, if any.
    pub fn check(&self) -> Result<()> {
        self.error.clone().map_or(Ok(()), Err)
    }

    /// How many operands across the graph (and declared outputs) read each value.
    pub fn uses(&self) -> Vec<u32> {
        let mut uses = vec![0; self.nodes.len()];
        for node in &self.nodes {
            for v in &node.inputs {
                uses[v.index()] += 1;
            }
        }
        for (_, v) in &self.outputs {
            uses[v.index()] += 1;
        }
        uses
    }

    /// The part of the graph that the named outputs need, with only those outputs, in that order.
    /// What changes a state is needed, too.
    ///
    /// # Errors
    /// [`Error::Usage`] if the graph has no output of a given name, or a name comes twice.
    pub fn select(&self, names: &[&str]) -> Result<Graph> {
        self.check()?;
        let mut wanted = Vec::with_capacity(names.len());
        for (i, &name) in names.iter().enumerate() {
            if names[..i].contains(&name) {
                return Err(Error::usage(format!("output `{name}` is asked for twice"), "name it once"));
            }
            let found = self.outputs.iter().find(|(n, _)| n == name);
            let (_, v) = found.ok_or_else(|| {
                let all: Vec<&str> = self.outputs.iter().map(|(n, _)| n.as_str()).collect();
                Error::usage(
                    format!("this model has no output `{name}`"),
                    format!("it has: {}", all.join(", ")),
                )
            })?;
            wanted.push((name.to_owned(), *v));
        }
        let mut live = vec![false; self.nodes.len()];
        for (_, v) in &wanted {
            live[v.index()] = true;
        }
        for i in (0..self.nodes.len()).rev() {
            live[i] |= self.nodes[i].op.def().is_some_and(|d| !d.writes().is_empty());
            if live[i] {
                for v in &self.nodes[i].inputs {
                    live[v.index()] = true;
                }
            }
        }
        let mut out = Graph::new();
        let mut map = vec![None; self.nodes.len()];
        for (i, node) in self.nodes.iter().enumerate().filter(|(i, _)| live[*i]) {
            let inputs = node.inputs.iter().map(|v| map[v.index()].expect("operands come before users"));
            map[i] = Some(out.insert(Node { inputs: inputs.collect(), ..node.clone() }));
        }
        out.outputs =
            wanted.into_iter().map(|(n, v)| (n, map[v.index()].expect("outputs were marked live"))).collect();
        Ok(out)
    }

    /// The graph in Graphviz's dot language: operations as boxes, weights left out.
    pub fn to_dot(&self) -> String {
        use fmt::Write as _;
        let mut s = String::from("digraph vit_gpu {\n  node [shape=box, fontname=\"monospace\"];\n");
        let is_weight = |v: Value| matches!(self.node(v).op, Op::Weight(_));
        for (i, node) in self.nodes.iter().enumerate() {
            let v = Value(i as u32);
            if is_weight(v) {
                continue;
            }
            let label = format!("{} {}\\n{}", node.op.name(), node.desc.shape, node.label);
            let _ = writeln!(s, "  n{i} [label=\"{}\"];", label.replace('"', "'"));
            for u in node.inputs.iter().filter(|&&u| !is_weight(u)) {
                let _ = writeln!(s, "  n{} -> n{i};", u.0);
            }
        }
        for (name, v) in &self.outputs {
            let _ = writeln!(s, "  \"{name}\" [shape=ellipse]; n{} -> \"{name}\";", v.0);
        }
        s.push_str("}\n");
        s
    }
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, node) in self.nodes.iter().enumerate() {
            write!(f, "%{i} = {}", node.op.name())?;
            for v in &node.inputs {
                write!(f, " %{}", v.0)?;
            }
            writeln!(f, "  {}  {}", node.desc, node.label)?;
        }
        for (name, v) in &self.outputs {
            writeln!(f, "{name} = %{}", v.0)?;
        }
        Ok(())
    }
}
