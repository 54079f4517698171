//! Runs a graph on the CPU in f32 through every op's own reference: the oracle of all tests, and
//! `--device reference`. It is slow and plain on purpose.

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
            Op::Weight(weight) => weights(weight, node.desc.shape)?,
            op => {
                let operands: Vec<&HostTensor> = node
                    .inputs
                    .iter()
                    .map(|v| values[v.index()].as_ref().expect("operands are computed before their users"))
                    .collect();
                let def = op.def().expect("only inputs and weights have no definition");
                def.reference(&operands, &node.desc)
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
        values[v.index()].clone().expect("outputs count as a use, so they are kept")
    };
    Ok(graph.outputs().iter().map(output).collect())
}
