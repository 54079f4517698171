//! Activations that are thrown away and computed again on the way back (Chen et al. 2016), a layer at a time.
//!
//! The backward half of a graph reads much of what the forward half computed, so that all of it must be kept until
//! then. Rewritten by [`recompute`], it reads copies of what lies within a layer, and these are made from what came
//! into the layer, just before the first of them is read. What one layer hands to the next is kept as before.

use std::collections::BTreeMap;

use super::{Graph, Node, Value};
use crate::error::Result;

/// Rewrites a graph that was differentiated, in which `loss` ends the forward half. Returns it with the values that
/// stand for the given ones.
///
/// # Errors
/// Shape errors kept by the graph.
pub fn recompute(graph: &Graph, loss: Value, values: &[Value]) -> Result<(Graph, Vec<Value>)> {
    graph.check()?;
    let inside = inside(graph, loss);
    let mut again = Again { graph, inside, out: Graph::new(), copies: BTreeMap::new() };
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    for (i, node) in graph.nodes().iter().enumerate() {
        let behind = i > loss.index();
        let inputs = node.inputs.iter().map(|v| match behind && v.index() <= loss.index() {
            true => again.value(*v, &map),
            false => map[v.index()],
        });
        let node = Node { inputs: inputs.collect(), ..node.clone() };
        map.push(again.out.insert(node));
    }
    for (name, v) in graph.outputs() {
        again.out.output(name.clone(), map[v.index()]);
    }
    again.out.check()?;
    Ok((again.out, values.iter().map(|v| map[v.index()]).collect()))
}

struct Again<'a> {
    graph: &'a Graph,
    /// Which values of the forward half are thrown away.
    inside: Vec<bool>,
    out: Graph,
    /// What was computed again so far.
    copies: BTreeMap<Value, Value>,
}

impl Again<'_> {
    /// A value of the forward half as the way back reads it.
    fn value(&mut self, v: Value, map: &[Value]) -> Value {
        if !self.inside[v.index()] {
            return map[v.index()];
        }
        // What it is made of comes first; a list, since a layer may be deep.
        let mut waiting = vec![v];
        while let Some(&next) = waiting.last() {
            let node = self.graph.node(next);
            let missing = |u: &&Value| self.inside[u.index()] && !self.copies.contains_key(u);
            if let Some(u) = node.inputs.iter().find(missing) {
                waiting.push(*u);
                continue;
            }
            waiting.pop();
            let inputs = node.inputs.iter().map(|u| self.copies.get(u).copied().unwrap_or(map[u.index()]));
            let label = format!("{}.again", node.label);
            let copy = Node { inputs: inputs.collect(), label, ..node.clone() };
            let copy = self.out.insert(copy);
            self.copies.insert(next, copy);
        }
        self.copies[&v]
    }
}

/// Which values lie within a layer: computed in it, and read by no other part of the forward half.
fn inside(graph: &Graph, loss: Value) -> Vec<bool> {
    let forward = &graph.nodes()[..=loss.index()];
    let mut inside: Vec<bool> =
        forward.iter().map(|node| node.op.def().is_some() && layer_of(&node.label).is_some()).collect();
    for node in forward {
        for v in &node.inputs {
            inside[v.index()] &= layer_of(&forward[v.index()].label) == layer_of(&node.label);
        }
    }
    inside
}

/// The layer that a label names: `encoder.layer.3` of `encoder.layer.3.mlp`.
pub fn layer_of(label: &str) -> Option<&str> {
    let start = label.match_indices("layer.").find(|(i, _)| *i == 0 || label.as_bytes()[i - 1] == b'.')?.0;
    let number = start + "layer.".len();
    let digits = label[number..].bytes().take_while(u8::is_ascii_digit).count();
    (digits > 0).then(|| &label[..number + digits])
}

#[cfg(test)]
mod tests {
    use super::layer_of;

    #[test]
    fn layers_of_labels() {
        assert_eq!(layer_of("layer.3.mlp"), Some("layer.3"));
        assert_eq!(layer_of("encoder.layer.12.attention"), Some("encoder.layer.12"));
        assert_eq!(layer_of("layer.3"), layer_of("layer.3.mlp"));
        assert_eq!([layer_of("embeddings"), layer_of("layer.norm"), layer_of("player.3.x")], [None; 3]);
    }
}
