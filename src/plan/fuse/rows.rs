//! Rows that nobody asks for are not computed: where only some tokens of a tensor are taken (a class token,
//! the last of a prompt, those behind masks), they are taken first, before every op that treats each row by
//! itself. Of a model's last layer only attention then sees all tokens. Few rows are left as they are: what
//! they cost is reading weights.

use std::collections::{BTreeMap, BTreeSet};

use crate::graph::{Graph, Node, Value};
use crate::ops::{DECODE_ROWS, Op};
use crate::tensor::TensorDesc;

/// Takes tokens first, wherever that leaves ops with fewer rows.
pub(super) fn rows_first(graph: &Graph) -> Graph {
    let takes = |node: &Node| matches!(node.op, Op::SliceTokens(_) | Op::TakeTokens(_));
    let places: Vec<usize> = (0..graph.nodes().len()).filter(|&i| takes(&graph.nodes()[i])).collect();
    // From behind, so that places before the one at hand stay where they are.
    places.into_iter().rev().fold(graph.clone(), |graph, at| moved(&graph, at).unwrap_or(graph))
}

/// Operands that have a row for each row of the result, where the op treats each by itself.
fn by_row(graph: &Graph, node: &Node) -> Option<Vec<Value>> {
    let same = |v: Value| graph.shape(v).dims().split_last().map(|(_, rows)| rows.to_vec());
    let rows = node.desc.shape.dims().split_last().map(|(_, rows)| rows.to_vec());
    let inputs: Vec<TensorDesc> = node.inputs.iter().map(|&v| graph.node(v).desc).collect();
    let carrying: Vec<Value> =
        node.op.def()?.row_operands(&inputs).into_iter().map(|i| node.inputs[i]).collect();
    (!carrying.is_empty() && carrying.iter().all(|&v| same(v) == rows)).then_some(carrying)
}

/// The graph with the taking at node `at` moved up as far as it goes; `None` if it stays.
fn moved(graph: &Graph, at: usize) -> Option<Graph> {
    let take = &graph.nodes()[at];
    let source = take.inputs[0];
    if graph.shape(source).rows() <= DECODE_ROWS {
        return None;
    }
    let mut users: BTreeMap<Value, BTreeSet<usize>> = BTreeMap::new();
    for (i, node) in graph.nodes().iter().enumerate() {
        for &v in &node.inputs {
            users.entry(v).or_default().insert(i);
        }
    }
    let asked: BTreeSet<Value> = graph.outputs().iter().map(|(_, v)| *v).collect();
    let mut inside: BTreeSet<usize> = BTreeSet::new();
    for i in (0..=source.index()).rev() {
        let value = graph.value(i)?;
        let reached = value == source || inside.iter().any(|&j| graph.nodes()[j].inputs.contains(&value));
        let alone = || users[&value].iter().all(|user| *user == at || inside.contains(user));
        if reached && !asked.contains(&value) && by_row(graph, graph.node(value)).is_some() && alone() {
            inside.insert(i);
        }
    }
    if !inside.iter().any(|&i| matches!(graph.nodes()[i].op, Op::MatMul(_))) {
        return None;
    }
    let mut out = Graph::new();
    let mut map: Vec<Option<Value>> = vec![None; graph.nodes().len()];
    let mut taken: BTreeMap<Value, Value> = BTreeMap::new();
    // What says which tokens are taken may be declared behind the ops it now comes before.
    let copy = |out: &mut Graph, map: &mut Vec<Option<Value>>, v: Value| match map[v.index()] {
        Some(done) => done,
        None => {
            let done = out.insert(graph.node(v).clone());
            map[v.index()] = Some(done);
            done
        }
    };
    for (i, node) in graph.nodes().iter().enumerate() {
        if map[i].is_some() {
            continue;
        }
        if i == at {
            map[i] = map[source.index()];
            continue;
        }
        let Some(carrying) = inside.contains(&i).then(|| by_row(graph, node)).flatten() else {
            let inputs = node.inputs.iter().map(|v| map[v.index()].expect("operands come before users"));
            map[i] = Some(out.insert(Node { inputs: inputs.collect(), ..node.clone() }));
            continue;
        };
        let mut inputs = Vec::new();
        for &v in &node.inputs {
            let whole = map[v.index()].expect("operands come before users");
            inputs.push(match (carrying.contains(&v), inside.contains(&v.index())) {
                (true, false) => *taken.entry(v).or_insert_with(|| {
                    let others = take.inputs[1..].iter().map(|&v| copy(&mut out, &mut map, v));
                    let inputs: Vec<Value> = [whole].into_iter().chain(others).collect();
                    let desc = rows_of(take, graph.shape(v).width());
                    out.insert(Node { op: take.op.clone(), inputs, desc, label: node.label.clone() })
                }),
                _ => whole,
            });
        }
        let desc = rows_of(take, node.desc.shape.width());
        map[i] = Some(out.insert(Node { inputs, desc, ..node.clone() }));
    }
    for (name, v) in graph.outputs() {
        out.output(name.clone(), map[v.index()].expect("every node was mapped"));
    }
    Some(out)
}

/// What a taking makes of rows of so many columns.
fn rows_of(take: &Node, width: usize) -> TensorDesc {
    let mut dims = take.desc.shape.dims().to_vec();
    if let Some(last) = dims.last_mut() {
        *last = width;
    }
    TensorDesc::new(take.desc.dtype, crate::tensor::Shape::new(&dims))
}
