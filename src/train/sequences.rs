//! The forward pass of a token loop as training needs it: all tokens of a sequence at once, from its first
//! place on, without a cache. The graph of a prompt is that already, but for two ops that go by states.

use crate::error::{Error, Result};
use crate::graph::{Graph, Node, Value};
use crate::models::sequence::{CLASSES, TOKENS};
use crate::ops::{CachedAttention, EmbedSequence, Op, Scores};
use crate::tensor::TensorDesc;

/// Name of the input that holds the tokens that are read (B,S) u32.
pub const READ: &str = "read";

/// A prompt's graph with causal attention in place of that over a cache, and with tokens and classes as inputs:
/// `read` and `classes`.
///
/// # Errors
/// [`Error::Usage`] for sequences that split, which are not trained on.
pub fn whole(graph: &Graph) -> Result<Graph> {
    let mut g = Graph::new();
    let mut map: Vec<Value> = Vec::with_capacity(graph.nodes().len());
    let mut read: Option<Value> = None;
    for node in graph.nodes() {
        let at = |v: Value| map[v.index()];
        g.scope(node.label.clone());
        let value = match &node.op {
            Op::State { name, .. } if name == CLASSES => g.input(name, node.desc),
            // The embedding declares what is read of it.
            Op::State { name, .. } if name == TOKENS => g.insert(node.clone()),
            Op::CachedAttention(CachedAttention {
                prompt: true, packed: false, bias: false, scale, ..
            }) => {
                let qkv = [0, 1, 2].map(|i| at(node.inputs[i]));
                g.attention(qkv, Scores { causal: true, ..Scores::scaled(*scale) })
            }
            Op::EmbedSequence(op) => embed(&mut g, *op, node, &map, &mut read),
            Op::CachedAttention(_) => {
                let what = format!("{}: attention over a cache cannot be trained", node.label);
                return Err(Error::usage(what, "train on whole sequences"));
            }
            _ => {
                let inputs = node.inputs.iter().map(|&v| at(v)).collect();
                g.insert(Node { inputs, ..node.clone() })
            }
        };
        map.push(value);
    }
    for (name, v) in graph.outputs() {
        g.output(name.clone(), map[v.index()]);
    }
    let names: Vec<&str> = graph.outputs().iter().map(|(name, _)| name.as_str()).collect();
    g.select(&names)
}

/// Rows of a table by tokens that are an input, with the first rows of the positions.
fn embed(g: &mut Graph, op: EmbedSequence, node: &Node, map: &[Value], read: &mut Option<Value>) -> Value {
    let at = |i: usize| map[node.inputs[i].index()];
    let tokens = TensorDesc { shape: [op.rows, op.count].into(), ..g.desc(at(1)) };
    let ids = *read.get_or_insert_with(|| g.input(READ, tokens));
    let x = g.gather(at(0), ids); // (R,T,C)
    if !op.positions {
        return x;
    }
    let table = at(3);
    let &[places, c] = g.shape(table).dims() else { return x };
    let table = g.reshape(table, [1, places, c]);
    let rows = g.slice_tokens(table, op.first..op.first + op.count);
    let rows = g.reshape(rows, [op.count, c]);
    g.add(x, rows)
}
