//! How parameters move: the backward half, clipping and the optimizer, put behind a loss.

use super::objective::LOSS;
use super::parameters::Parameter;
use crate::error::{Error, Result};
use crate::graph::{Graph, Storage, Value, differentiate};
use crate::ops::{AdamW, Op};
use crate::tensor::TensorDesc;

/// How a step changes parameters.
pub struct Recipe<'a> {
    /// The optimizer; its decay only where [`Recipe::decays`].
    pub optimizer: AdamW,
    /// Largest norm of all gradients together; 0 for no limit.
    pub clip: f32,
    /// Whether weight decay holds for a parameter.
    pub decays: &'a dyn Fn(&Parameter) -> bool,
}

/// Learning rate and the corrections of the optimizer's means (4) f32.
pub(super) const RATES: &str = "rates";
/// Output: factor on gradients, their norm, 1 if that is finite.
pub(super) const CLIP: &str = "clip";
/// State: sums of squares of the gradients of each parameter.
const SQUARES: &str = "squares of gradients";

/// Output of a parameter's gradient.
pub(super) fn gradient_of(name: &str) -> String {
    format!("grad.{name}")
}

/// The loss and the gradients of all parameters as outputs.
///
/// # Errors
/// As [`differentiate`].
pub(super) fn gradients(graph: &Graph, parameters: &[Parameter]) -> Result<Graph> {
    let (mut g, _, gradients) = backward(graph, parameters)?;
    for (parameter, gradient) in parameters.iter().zip(gradients) {
        g.output(gradient_of(&parameter.name), gradient);
    }
    Ok(g)
}

/// A step: the loss, its gradients, and the new parameters in place of the old.
///
/// # Errors
/// As [`differentiate`].
pub(super) fn step(graph: &Graph, parameters: &[Parameter], recipe: &Recipe) -> Result<Graph> {
    let (mut g, values, gradients) = backward(graph, parameters)?;
    g.scope("clip");
    let squares = g.state(SQUARES, TensorDesc::f32([parameters.len()]), Storage::AsDeclared);
    for (i, &gradient) in gradients.iter().enumerate() {
        g.square_sum(gradient, squares, i);
    }
    let clip = g.clip_factor(squares, recipe.clip);
    g.output(CLIP, clip);
    let rates = g.input(RATES, TensorDesc::f32([4]));
    for ((parameter, value), gradient) in parameters.iter().zip(values).zip(gradients) {
        g.scope(format!("update.{}", parameter.name));
        let decay = if (recipe.decays)(parameter) { recipe.optimizer.decay } else { 0.0 };
        let [m, v] = ["mean", "square"].map(|moment| {
            let name = format!("{moment} of {}", parameter.name);
            g.state(&name, TensorDesc::f32(parameter.shape), Storage::AsDeclared)
        });
        g.adamw(AdamW { decay, ..recipe.optimizer }, [value, m, v], [gradient, clip, rates]);
    }
    g.check()?;
    Ok(g)
}

/// The graph with its backward half, the parameters, and their gradients.
fn backward(graph: &Graph, parameters: &[Parameter]) -> Result<(Graph, Vec<Value>, Vec<Value>)> {
    let mut g = graph.clone();
    let loss = g.outputs().iter().find(|(name, _)| name == LOSS).map(|(_, v)| *v);
    let loss = loss.ok_or_else(|| Error::usage("the graph has no loss", "declare it as an output"))?;
    let state = |wanted: &str| {
        let at = |op: &Op| matches!(op, Op::State { name, .. } if name == wanted);
        let found = g.nodes().iter().position(|node| at(&node.op));
        found
            .and_then(|i| g.value(i))
            .ok_or_else(|| Error::usage(format!("the loss does not read `{wanted}`"), "freeze it"))
    };
    let values = parameters.iter().map(|p| state(&p.name)).collect::<Result<Vec<_>>>()?;
    let gradients = differentiate(&mut g, loss, &values)?;
    Ok((g, values, gradients))
}
