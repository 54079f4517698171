//! Runs a graph on the CPU in f32 through every op's own reference: the oracle of all tests, and
//! `--device reference`. It is slow and plain on purpose.

use std::collections::BTreeMap;

use crate::error::{Error, Result};
use crate::graph::{Graph, Weight};
use crate::ops::Op;
use crate::tensor::{HostTensor, Shape};

/// Where weights come from: a recipe and the shape it must fill, to f32 elements.
pub type LoadWeight<'a> = dyn Fn(&Weight, Shape) -> Result<HostTensor> + 'a;

/// Runs a graph as it is written (no fusion) and returns its outputs in declared order.
///
/// # Errors
/// Shape errors kept by the graph, weights that do not load, inputs that are missing or misshapen.
pub fn run(graph: &Graph, weights: &LoadWeight, inputs: &[(&str, HostTensor)]) -> Result<Vec<HostTensor>> {
    run_with_states(graph, weights, inputs, &mut States::new())
}

/// States by name, between runs.
pub type States = BTreeMap<String, HostTensor>;

/// As [`run`], for graphs with states: those that are missing are zeros, and all hold afterwards what
/// the run left in them.
///
/// # Errors
/// As [`run`]; a state of another shape than the graph says.
pub fn run_with_states(
    graph: &Graph,
    weights: &LoadWeight,
    inputs: &[(&str, HostTensor)],
    states: &mut States,
) -> Result<Vec<HostTensor>> {
    graph.check()?;
    let mut remaining = graph.uses();
    let mut values: Vec<Option<HostTensor>> = vec![None; graph.nodes().len()];
    for (i, node) in graph.nodes().iter().enumerate() {
        let result = match &node.op {
            Op::Input { name } => {
                let found = inputs.iter().find(|(n, t)| n == name && t.desc() == node.desc);
                let (_, tensor) = found.ok_or_else(|| {
                    Error::usage(
                        format!("input `{name}` is missing or not {}", node.desc),
                        "pass it under that name",
                    )
                })?;
                tensor.clone()
            }
            Op::Weight(weight) => {
                let tensor = weights(weight, node.desc.shape)?;
                weight.filled_by(node.desc.shape, &tensor)?;
                tensor
            }
            // Its contents are looked up when an operand reads it: they change along the way.
            Op::State { name, .. } => {
                let held = states.entry(name.clone()).or_insert_with(|| HostTensor::zeros(node.desc));
                if held.desc() != node.desc {
                    let what = format!("state `{name}` is {}, the graph has {}", held.desc(), node.desc);
                    return Err(Error::usage(what, "begin with fresh states"));
                }
                continue;
            }
            op => {
                let operands: Vec<&HostTensor> = node
                    .inputs
                    .iter()
                    .map(|&v| match &graph.node(v).op {
                        Op::State { name, .. } => &states[name],
                        _ => values[v.index()].as_ref().expect("operands are computed before their users"),
                    })
                    .collect();
                let def = op.def().expect("only inputs, weights and states have no definition");
                let result = def.reference(&operands, &node.desc);
                let changed = def.reference_states(&operands);
                for (operand, contents) in def.writes().into_iter().zip(changed) {
                    if let Op::State { name, .. } = &graph.node(node.inputs[operand]).op {
                        states.insert(name.clone(), contents);
                    }
                }
                result
            }
        };
        values[i] = Some(result);
        for v in &node.inputs {
            remaining[v.index()] -= 1;
            if remaining[v.index()] == 0 {
                values[v.index()] = None;
            }
        }
    }
    let output = |(_, v): &(String, crate::graph::Value)| {
        if let Op::State { name, .. } = &graph.node(*v).op {
            return states[name].clone();
        }
        values[v.index()].clone().expect("outputs count as a use, so they are kept")
    };
    Ok(graph.outputs().iter().map(output).collect())
}
