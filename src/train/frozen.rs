//! What stays as it is, computed once: a graph is cut where its frozen part ends, so that a classifier learns from
//! features that no step computes again.

use super::objective::{Objective, PIXELS};
use crate::error::Result;
use crate::graph::{Graph, Node, Part, Value};
use crate::ops::Op;
use crate::tensor::TensorDesc;

/// A graph in two: the frozen part, and the rest, which reads its results.
pub(super) struct Cut {
    /// Outputs: the features, by the names of the rest's inputs.
    pub(super) frozen: Graph,
    /// What is trained, with the outputs of the whole.
    pub(super) rest: Objective,
    /// Name and shape (B,…) of each feature.
    pub(super) features: Vec<(String, TensorDesc)>,
}

/// Cuts an objective of `batch` images where what depends on them alone is read by what depends on a trained
/// tensor; `None` where nothing would be saved.
pub(super) fn cut(
    objective: &Objective,
    batch: usize,
    trained: &dyn Fn(&str) -> bool,
) -> Result<Option<Cut>> {
    let graph = &objective.graph;
    let nodes = graph.nodes();
    // Whether a node depends on what is trained or on labels, and whether on pixels.
    let (mut live, mut seen) = (vec![false; nodes.len()], vec![false; nodes.len()]);
    for (i, node) in nodes.iter().enumerate() {
        let any = |of: &[bool]| node.inputs.iter().any(|v| of[v.index()]);
        let own = match &node.op {
            Op::Weight(weight) => weight.parts.iter().flat_map(Part::names).any(trained),
            Op::Input { name } => name != PIXELS,
            _ => false,
        };
        let pixels = matches!(&node.op, Op::Input { name } if name == PIXELS);
        (live[i], seen[i]) = (own || any(&live), pixels || any(&seen));
    }
    let is_feature = |v: Value| seen[v.index()] && !live[v.index()];
    let readers = nodes.iter().enumerate().filter(|(i, _)| live[*i]);
    let mut ends: Vec<Value> =
        readers.flat_map(|(_, node)| node.inputs.iter().copied()).filter(|v| is_feature(*v)).collect();
    ends.extend(graph.outputs().iter().map(|(_, v)| *v).filter(|v| is_feature(*v)));
    ends.sort_by_key(|v| v.index());
    ends.dedup();
    let whole = |v: &Value| graph.shape(*v).dims().first() == Some(&batch);
    let computed = |v: &Value| !matches!(graph.node(*v).op, Op::Input { .. });
    if ends.is_empty() || !ends.iter().all(|v| whole(v) && computed(v)) {
        return Ok(None);
    }
    let names: Vec<String> = (0..ends.len()).map(|i| format!("feature {i}")).collect();
    let mut frozen = graph.clone();
    for (name, v) in names.iter().zip(&ends) {
        frozen.output(name, *v);
    }
    let frozen = frozen.select(&names.iter().map(String::as_str).collect::<Vec<_>>())?;
    let mut rest = Graph::new();
    let mut map: Vec<Option<Value>> = vec![None; nodes.len()];
    for (i, node) in nodes.iter().enumerate() {
        let v = graph.value(i);
        let end = ends.iter().position(|end| Some(*end) == v);
        map[i] = match end {
            Some(at) => Some(rest.input(&names[at], node.desc)),
            None if seen[i] && !live[i] => None,
            None => {
                let inputs = node.inputs.iter().map(|v| map[v.index()]).collect::<Option<Vec<_>>>();
                inputs.map(|inputs| rest.insert(Node { inputs, ..node.clone() }))
            }
        };
    }
    for (name, v) in graph.outputs() {
        if let Some(v) = map[v.index()] {
            rest.output(name.clone(), v);
        }
    }
    rest.check()?;
    let features = names.into_iter().zip(ends.iter().map(|v| graph.desc(*v))).collect();
    let rest = Objective { graph: rest, constants: objective.constants.clone() };
    Ok(Some(Cut { frozen, rest, features }))
}
